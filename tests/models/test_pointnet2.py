"""PointNet++: size, invariances, a literal forward pass, gradients, options, original names,
errors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.pointnet2 import PointNet2, max_over_members
from jax3dret.weights import pointnet2 as weights

SMALL = {
    "npoint": (16, 6),
    "radius": (0.5, 0.9),
    "nsample": (8, 5),
    "mlp": ((8, 9), (10, 11), (12, 13)),
    "fc": (14, 7),
    "dropout": 0.0,
    "fps_start_train": "zero",
}
MODEL = PointNet2(**SMALL)


def cloud(seed=0, batch=3, count=60):
    x = np.random.default_rng(seed).normal(size=(batch, count, 3))
    return (x / np.linalg.norm(x, axis=-1).max(-1)[:, None, None]).astype(np.float32)


@functools.cache
def variables():
    """Random weights and statistics, so that no term vanishes."""
    fresh = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((2, 60, 3)))
    rng = np.random.default_rng(1)
    values = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32) * 0.5, fresh)
    values["batch_stats"] = jax.tree.map(lambda v: np.abs(v) + 0.3, values["batch_stats"])
    return values


@functools.cache
def apply(**options):
    model = PointNet2(**{**SMALL, **options})
    return jax.jit(lambda v, p: model.apply(v, p))


def literal(state, points):
    """One cloud, evaluation, by loops over centres and members, in float64."""

    def norm(x, name):
        scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-5)
        return (x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]

    def layers(x, level, count):
        for j in range(count):
            weight = state[f"{level}.mlp_convs.{j}.weight"][:, :, 0, 0]
            x = np.maximum(
                norm(weight @ x + state[f"{level}.mlp_convs.{j}.bias"], f"{level}.mlp_bns.{j}"), 0
            )
        return x

    position = points.astype(np.float64)
    values = np.zeros((len(position), 0))
    for i in range(2):
        distance = np.full(len(position), 1e10)
        picks = [0]
        while len(picks) < SMALL["npoint"][i]:
            distance = np.minimum(distance, ((position - position[picks[-1]]) ** 2).sum(-1))
            picks.append(int(np.argmax(distance)))
        pooled = []
        for centre in position[picks]:
            near = [
                n
                for n in range(len(position))
                if ((position[n] - centre) ** 2).sum() <= SMALL["radius"][i] ** 2
            ]
            members = near[: SMALL["nsample"][i]]
            rows = [
                layers(np.concatenate([position[n] - centre, values[n]]), f"sa{i + 1}", 2)
                for n in members
            ]
            pooled.append(np.max(rows, axis=0))
        position, values = position[picks], np.array(pooled)
    x = np.max(
        [layers(np.concatenate([p, v]), "sa3", 2) for p, v in zip(position, values, strict=True)],
        axis=0,
    )
    whole = x
    for i in (1, 2):
        x = np.maximum(norm(state[f"fc{i}.weight"] @ x + state[f"fc{i}.bias"], f"bn{i}"), 0)
    return whole, x


def test_the_published_size():
    model = PointNet2()
    assert model.embedding_dim == 256
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 600, 3)))
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"])) == 1_465_408
    table = weights.entries(model.mlp, model.fc)
    assert len(table) + 11 == 77  # with the counters, as many as the published file has
    assert PointNet2(feature="global").embedding_dim == 1024


def test_equals_the_literal_forward_pass():
    points = cloud()
    state = weights.to_torch(variables())
    expected = [literal({k: v.astype(np.float64) for k, v in state.items()}, p) for p in points]
    got = apply()(variables(), points)
    assert got.shape == (3, MODEL.embedding_dim) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, [e[1] for e in expected], rtol=1e-5, atol=2e-5)
    assert np.ptp(got, axis=0).max() > 1e-2  # the clouds are told apart
    whole = apply(feature="global")(variables(), points)
    np.testing.assert_allclose(whole, [e[0] for e in expected], rtol=1e-5, atol=2e-5)


def test_a_cloud_does_not_depend_on_its_neighbours_in_evaluation():
    points = cloud()
    np.testing.assert_allclose(
        apply()(variables(), points[1:2])[0], apply()(variables(), points)[1], atol=1e-5
    )


def test_names_go_there_and_back():
    state = weights.to_torch(variables(), "module.point_encoder.")
    assert state["module.point_encoder.sa2.mlp_convs.0.weight"].shape == (10, 3 + 9, 1, 1)
    state["module.point_encoder.bn1.num_batches_tracked"] = np.array(5)
    state["module.logit_scale"] = np.array(1.0)
    assert weights.architecture(state, "module.point_encoder.") == {
        "mlp": SMALL["mlp"],
        "fc": SMALL["fc"],
    }
    back = weights.from_torch(state, "module.point_encoder.")
    jax.tree.map(np.testing.assert_array_equal, back, variables())


def test_weights_that_do_not_fit_are_refused():
    state = weights.to_torch(variables())
    with pytest.raises(DataError, match=r"fc1\.bias is missing"):
        weights.from_torch({k: v for k, v in state.items() if k != "fc1.bias"})
    with pytest.raises(DataError, match=r"sa4\.x has no place"):
        weights.from_torch({**state, "sa4.x": np.zeros(2)})
    with pytest.raises(DataError, match=r"\(8, 6, 1, 1\)"):
        weights.from_torch({**state, "sa1.mlp_convs.0.weight": np.zeros((8, 6, 1, 1))})
    with pytest.raises(DataError, match="levels"):
        weights.from_torch({"a": np.zeros(2)})


@functools.cache
def step(**options):
    """A function of points and seeds: embedding, new statistics and gradients of a training step."""
    model = PointNet2(**{**SMALL, **options})

    @jax.jit
    def run(points, seeds):
        def loss(params):
            rngs = {name: jax.random.key(seed) for name, seed in seeds.items()}
            embedding, state = model.apply(
                {**variables(), "params": params},
                points,
                train=True,
                mutable=["batch_stats"],
                rngs=rngs,
            )
            return jnp.sum(
                embedding * jnp.cos(jnp.arange(embedding.size)).reshape(embedding.shape)
            ), (embedding, state)

        grads, (embedding, state) = jax.grad(loss, has_aux=True)(variables()["params"])
        return embedding, state, grads

    return run


def test_remat_changes_nothing():
    plain, remat = (step(remat=remat)(cloud(), {}) for remat in (False, True))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max() + 1e-6)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(plain[2]["fc2"]["kernel"]))
    assert (
        np.abs(
            plain[1]["batch_stats"]["sa1"]["norm0"]["mean"]
            - variables()["batch_stats"]["sa1"]["norm0"]["mean"]
        ).max()
        > 1e-3
    )


def test_random_start_and_dropout_follow_their_streams():
    run = step(fps_start_train="random", dropout=0.4)
    seeds = [(1, 2), (1, 2), (3, 2), (1, 4)]
    first, again, other_start, other_dropout = (
        run(cloud(), {"fps": a, "dropout": b})[0] for a, b in seeds
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other_start) and not np.array_equal(first, other_dropout)


def test_bfloat16_stays_close_and_returns_float32():
    low = apply(dtype="bfloat16")(variables(), cloud())
    full = apply()(variables(), cloud())
    assert low.dtype == jnp.float32
    assert np.abs(low - full).max() < 0.05 * np.abs(full).max()


def test_a_value_that_is_not_finite_shows_in_its_own_cloud_alone():
    points = cloud()
    points[1, 5, 2] = np.nan
    got = apply()(variables(), points)
    assert jnp.isnan(got[1]).all()
    np.testing.assert_allclose(got[0], apply()(variables(), cloud())[0], atol=1e-5)


def test_coinciding_points():
    got = apply()(variables(), np.zeros((2, 60, 3), np.float32))
    assert jnp.isfinite(got).all()


def test_the_gradient_of_a_maximum_goes_to_the_first():
    x = jnp.asarray([[[1.0, 5.0], [3.0, 5.0], [3.0, 2.0]]])
    np.testing.assert_array_equal(max_over_members(x), [[3, 5]])
    gradient = jax.grad(lambda x: (max_over_members(x) * jnp.array([10.0, 20.0])).sum())(x)
    np.testing.assert_array_equal(gradient[0], [[0, 20], [10, 0], [0, 0]])
    wide = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 7, 5)))
    expected = jax.grad(lambda x: jnp.sin(x.max(2)).sum())(wide)
    np.testing.assert_allclose(
        jax.grad(lambda x: jnp.sin(max_over_members(x)).sum())(wide), expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "options, shape, words",
    [
        ({}, (2, 15, 3), "15 points"),
        ({}, (2, 60, 6), r"\(2, 60, 6\)"),
        ({}, (60, 3), r"\(60, 3\)"),
        ({"feature": "both"}, (2, 60, 3), "both"),
        ({"npoint": (16, 20)}, (2, 60, 3), "npoint"),
        ({"mlp": ((4,), (4,))}, (2, 60, 3), "three"),
        ({"fc": ()}, (2, 60, 3), "fc"),
    ],
)
def test_errors(unchecked, options, shape, words):
    with pytest.raises(ConfigError, match=words):
        jax.eval_shape(PointNet2(**{**SMALL, **options}).init, jax.random.key(0), jnp.zeros(shape))


def test_one_cloud_cannot_be_trained_on():
    # The balls of one cloud are many rows; its single global feature is one.
    with pytest.raises(ConfigError, match="single row"):
        jax.eval_shape(
            lambda p: MODEL.apply(variables(), p, train=True, mutable=["batch_stats"]),
            jnp.zeros((1, 60, 3)),
        )
