"""The classification head and the projector: order of layers, sizes, dropout, original names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.heads import ClassificationHead, VicregProjector
from jax3dret.weights import heads

RNG = np.random.default_rng(0)


def normalised(x, state_dict, name, train):
    mean, var = (
        (x.mean(0), x.var(0))
        if train
        else (state_dict[f"{name}.running_mean"], state_dict[f"{name}.running_var"])
    )
    return (x - mean) / np.sqrt(var + 1e-5) * state_dict[f"{name}.weight"] + state_dict[
        f"{name}.bias"
    ]


def random_state(linear, norm, widths, last_bias=True):
    state = {}
    count = len(widths) - 1
    for i in range(count):
        state[f"{linear(i)}.weight"] = RNG.normal(size=(widths[i + 1], widths[i])) / np.sqrt(
            widths[i]
        )
        if last_bias or i < count - 1:
            state[f"{linear(i)}.bias"] = RNG.normal(size=widths[i + 1])
        if i < count - 1:
            for key in ("weight", "bias", "running_mean"):
                state[f"{norm(i)}.{key}"] = RNG.normal(size=widths[i + 1])
            state[f"{norm(i)}.running_var"] = RNG.uniform(0.5, 2, size=widths[i + 1])
            state[f"{norm(i)}.num_batches_tracked"] = np.array(3)
    return {key: np.asarray(value, np.float32) for key, value in state.items()}


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
@pytest.mark.parametrize("train", [False, True])
def test_head_is_linear_norm_relu(hidden, train):
    state = random_state("linear{}".format, "norm{}".format, (6, *hidden, 3))
    prefixed = {f"head.{key}": value for key, value in state.items()}
    assert heads.architecture(prefixed, "head.") == {"hidden": hidden, "num_classes": 3}
    variables = heads.from_torch(prefixed, "head.")
    x = RNG.normal(size=(8, 6)).astype(np.float32)
    head = ClassificationHead(3, hidden, dropout=0.0)

    @jax.jit
    def apply(variables, x):
        return head.apply(variables, x, train=train, mutable=["batch_stats"])[0]

    got = apply(variables, x)
    for i in range(len(hidden)):
        x = np.maximum(
            normalised(
                x @ state[f"linear{i}.weight"].T + state[f"linear{i}.bias"],
                state,
                f"norm{i}",
                train,
            ),
            0,
        )
    last = f"linear{len(hidden)}"
    np.testing.assert_allclose(
        got, x @ state[f"{last}.weight"].T + state[f"{last}.bias"], atol=1e-4
    )
    back = heads.to_torch(variables, "head.")
    assert set(back) == {key for key in prefixed if not key.endswith("num_batches_tracked")}
    for key, value in back.items():
        np.testing.assert_array_equal(value, prefixed[key])
    fresh = jax.eval_shape(head.init, jax.random.key(0), x=jnp.zeros((2, 6)))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)


def test_released_and_paper_sizes():
    def count(head):
        params = jax.eval_shape(head.init, jax.random.key(0), jnp.zeros((2, 768)))["params"]
        return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params))

    assert count(ClassificationHead(40)) == 768 * 768 + 3 * 768 + 768 * 40 + 40
    assert (
        count(ClassificationHead(40, (512, 256), 0.2))
        == 769 * 512 + 2 * 512 + 513 * 256 + 2 * 256 + 257 * 40
    )
    assert count(ClassificationHead(40, ())) == 769 * 40
    assert count(VicregProjector()) == 769 * 1024 + 2 * 1024 + 1025 * 1024 + 2 * 1024 + 1024 * 1024


def test_dropout_acts_in_training_alone_and_follows_its_key():
    head = ClassificationHead(3, (400,), 0.25)
    x = jnp.asarray(RNG.normal(size=(16, 6)), jnp.float32)
    variables = jax.jit(head.init)(jax.random.key(0), x)

    @jax.jit
    def train(key):
        rngs = {"dropout": jax.random.key(key)}
        return head.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    np.testing.assert_array_equal(train(1), train(1))
    assert not np.array_equal(train(1), train(2))
    evaluate = jax.jit(head.apply)
    np.testing.assert_array_equal(evaluate(variables, x), evaluate(variables, x))


@pytest.mark.parametrize("train", [False, True])
def test_projector_ends_in_a_layer_without_bias(train):
    widths = (6, 5, 7, 4)
    state = random_state(lambda i: 3 * i, lambda i: 3 * i + 1, widths, last_bias=False)
    assert {key.split(".")[0] for key in state} == {"0", "1", "3", "4", "6"}
    variables = heads.projector_from_torch(state)
    x = RNG.normal(size=(9, 6)).astype(np.float32)

    @jax.jit
    def apply(variables, x):
        projector = VicregProjector(widths[1:])
        return projector.apply(variables, x, train=train, mutable=["batch_stats"])[0]

    got = apply(variables, x)
    for i in (0, 3):
        x = np.maximum(
            normalised(x @ state[f"{i}.weight"].T + state[f"{i}.bias"], state, f"{i + 1}", train), 0
        )
    np.testing.assert_allclose(got, x @ state["6.weight"].T, atol=1e-4)
    for key, value in heads.projector_to_torch(variables).items():
        np.testing.assert_array_equal(value, state[key])


def test_two_views_update_the_statistics_twice():
    model = VicregProjector((4, 3))
    views = [jnp.asarray(RNG.normal(size=(8, 5)), jnp.float32) for _ in range(2)]
    variables = jax.jit(model.init)(jax.random.key(0), views[0])
    state = {"batch_stats": variables["batch_stats"]}
    expected = np.ones(4)

    @jax.jit
    def updated(variables, view):
        return model.apply(variables, view, train=True, mutable=["batch_stats"])[1]

    for view in views:
        state = updated({**variables, **state}, view)
        z = np.asarray(view) @ np.asarray(variables["params"]["linear0"]["kernel"])
        expected = 0.9 * expected + 0.1 * z.var(0, ddof=1)
    np.testing.assert_allclose(state["batch_stats"]["norm0"]["var"], expected, rtol=1e-5)


def test_bfloat16_gives_float32_logits():
    head = ClassificationHead(3, (8,), dtype="bfloat16")
    variables = jax.jit(head.init)(jax.random.key(0), jnp.ones((2, 6)))
    logits = jax.eval_shape(head.apply, variables, jnp.ones((2, 6)))
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_errors():
    head = ClassificationHead(3, (4,))
    variables = jax.jit(head.init)(jax.random.key(0), jnp.ones((2, 6)))
    with pytest.raises(ConfigError, match="single row"):
        head.apply(
            variables,
            jnp.ones((1, 6)),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
    assert jax.eval_shape(head.apply, variables, jnp.ones((1, 6))).shape == (1, 3)
    with pytest.raises(ConfigError, match=r"dropout is 1\.0"):
        jax.eval_shape(
            ClassificationHead(3, (4,), dropout=1.0).init, jax.random.key(0), jnp.ones((2, 6))
        )
    with pytest.raises(ConfigError, match="widths"):
        jax.eval_shape(VicregProjector(()).init, jax.random.key(0), jnp.ones((2, 6)))
    with pytest.raises(DataError, match=r"head\.linear"):
        heads.from_torch({"other.weight": np.zeros((2, 2))}, "head.")
    state = random_state("linear{}".format, "norm{}".format, (6, 4, 3))
    with pytest.raises(DataError, match=r"norm0\.running_var is missing.*extra has no place"):
        heads.from_torch(
            {**{k: v for k, v in state.items() if k != "norm0.running_var"}, "extra": np.zeros(1)}
        )
