"""The optimizer against torch and plain formulas; rules, freezing, and the shape of the state."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jax3dret.core import schedules, sharding
from jax3dret.core.optim import Optimizer, describe, make_optimizer, scale_by_adam
from jax3dret.core.types import ConfigError, TrainState

STEPS = 12


def tree(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {
        "encoder": {"dense": {"kernel": (4, 3), "bias": (3,)}, "norm": {"scale": (3,)}},
        "head": {"kernel": (3, 2)},
    }
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s), jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def gradients(step):
    # Sizes from 1e-3 to 10, so that eps, clipping and the second moment matter.
    return jax.tree.map(lambda g: g * 10.0 ** (step % 5 - 3), tree(100 + step))


def run(optimizer: Optimizer, steps=STEPS, params=None):
    params = tree() if params is None else params
    state = optimizer.tx.init(params)
    update = jax.jit(optimizer.tx.update)
    for step in range(steps):
        updates, state = update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def run_torch(torch, make, steps=STEPS, after=None, clip=None):
    """`make(leaves)` -> (optimizer, scheduler or None); `after` gives the steps after which the
    scheduler steps.
    """
    leaves = [torch.nn.Parameter(torch.tensor(np.asarray(p))) for p in jax.tree.leaves(tree())]
    optimizer, scheduler = make(leaves)
    for step in range(steps):
        for leaf, gradient in zip(leaves, jax.tree.leaves(gradients(step)), strict=True):
            leaf.grad = torch.tensor(np.asarray(gradient))
        if clip:
            torch.nn.utils.clip_grad_norm_(leaves, clip)
        optimizer.step()
        if scheduler is not None and after(step):
            scheduler.step()
    return [leaf.detach().numpy() for leaf in leaves]


def make(params=None, **kwargs):
    kwargs = {"steps": STEPS, "steps_per_epoch": 1, "schedule": "constant", "lr": 0.01} | kwargs
    return make_optimizer(tree() if params is None else params, **kwargs)


def assert_same(params, expected, atol=1e-6):
    for ours, theirs in zip(jax.tree.leaves(params), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_against_torch(name, clip):
    torch = pytest.importorskip("torch")
    makers = {
        "adamw": lambda p: torch.optim.AdamW(
            p, lr=0.01, weight_decay=0.3, betas=(0.8, 0.99), eps=1e-4
        ),
        "adam": lambda p: torch.optim.Adam(
            p, lr=0.01, weight_decay=0.3, betas=(0.8, 0.99), eps=1e-4
        ),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.3, momentum=0.9),
    }
    expected = run_torch(torch, lambda p: (makers[name](p), None), clip=clip)
    ours, _ = run(make(name=name, weight_decay=0.3, b1=0.8, b2=0.99, eps=1e-4, grad_clip_norm=clip))
    # torch divides by norm + 1e-6 when clipping.
    assert_same(ours, expected, atol=5e-6 if clip else 1e-6)


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "pct_start"), [(12, 1, 0.3), (3, 4, 0.67), (4, 3, 0.0)]
)
def test_beta1_cycle_against_torch_one_cycle(epochs, per_epoch, pct_start):
    torch = pytest.importorskip("torch")

    def both(leaves):
        optimizer = torch.optim.AdamW(leaves, lr=1.0, weight_decay=0.1)
        args = {"epochs": epochs, "steps_per_epoch": 1, "pct_start": pct_start}
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, **args)

    last = epochs * per_epoch - 1
    expected = run_torch(
        torch, both, after=lambda step: step % per_epoch == per_epoch - 1 and step < last
    )
    settings = {"lr": 0.05, "weight_decay": 0.1, "steps_per_epoch": per_epoch}
    schedule = {"name": "jax3dret.core.schedules:one_cycle", "pct_start": pct_start}
    ours, _ = run(make(**settings, schedule=schedule, beta1_cycle=True))
    assert_same(ours, expected, atol=2e-6)
    fixed, _ = run(make(**settings, schedule=schedule, b1=0.9))
    assert (
        max(
            float(jnp.abs(a - b).max())
            for a, b in zip(jax.tree.leaves(fixed), jax.tree.leaves(ours), strict=True)
        )
        > 1e-4
    )


def test_bias_correction_uses_the_current_beta1():
    """m_t / (1 - beta1(t)^t): neither the product of the betas so far nor the first beta."""
    betas = np.array([0.95, 0.85, 0.9])
    transformation = scale_by_adam(lambda step: jnp.asarray(betas, jnp.float32)[step], 0.999, 1e-8)
    state = transformation.init({"w": jnp.zeros(())})
    m = v = 0.0
    for t, (beta, g) in enumerate(zip(betas, (0.3, -2.0, 0.7), strict=True), start=1):
        m, v = beta * m + (1 - beta) * g, 0.999 * v + 0.001 * g * g
        direction, state = transformation.update({"w": jnp.float32(g)}, state)
        expected = m / (1 - beta**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(direction["w"], expected, rtol=3e-6)


def test_first_step_of_adam_has_the_size_of_the_rate():
    """g / |g| = 1 in float32 to 1e-6, where 1 - 0.999f would be off by 6e-6; and b1 = b2 = 0 works."""
    for b1, b2 in ((0.9, 0.999), (0.0, 0.0)):
        transformation = scale_by_adam(b1, b2, 0.0)
        direction, _ = transformation.update(
            {"w": jnp.float32(0.37)}, transformation.init({"w": jnp.zeros(())})
        )
        np.testing.assert_allclose(direction["w"], 1.0, rtol=1e-6)


def test_decoupled_decay_is_multiplied_by_the_rate_and_spares_what_a_rule_spares():
    rules = (
        (".*bias|.*scale", {"decay": False}),
        ("head/.*", {"lr": 10.0, "decay": 0.5}),
        (".*", {}),
    )
    optimizer = make(lr=0.01, weight_decay=0.1, rules=rules)
    params = tree()
    updates, _ = optimizer.tx.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.tx.init(params), params
    )
    expected = {
        "encoder/dense/kernel": 0.001,
        "encoder/dense/bias": 0,
        "encoder/norm/scale": 0,
        "head/kernel": 0.005,
    }
    for path, update in jax.tree_util.tree_flatten_with_path(updates)[0]:
        name = sharding.path_name(path)
        parameter = params
        for part in name.split("/"):
            parameter = parameter[part]
        np.testing.assert_allclose(update, -expected[name] * parameter, rtol=1e-6)
    everything = make(lr=0.01, weight_decay=0.1)
    updates, _ = everything.tx.update(
        jax.tree.map(jnp.zeros_like, params), everything.tx.init(params), params
    )
    np.testing.assert_allclose(
        updates["encoder"]["norm"]["scale"], -0.001 * params["encoder"]["norm"]["scale"], rtol=1e-6
    )


def test_lr_factor_scales_the_update():
    plain, _ = make().tx.update(gradients(0), make().tx.init(tree()), tree())
    scaled_tx = make(rules=(("head/kernel", {"lr": 0.1}), (".*", {}))).tx
    scaled, _ = scaled_tx.update(gradients(0), scaled_tx.init(tree()), tree())
    np.testing.assert_allclose(scaled["head"]["kernel"], 0.1 * plain["head"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(
        scaled["encoder"]["dense"]["kernel"], plain["encoder"]["dense"]["kernel"]
    )


def test_frozen_parameters_have_no_slots_and_do_not_move():
    optimizer = make(
        rules=(("encoder/.*", {"freeze": True}), (".*", {})), weight_decay=0.1, grad_clip_norm=1.0
    )
    params, state = run(optimizer)
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], tree()["encoder"])
    assert not np.array_equal(params["head"]["kernel"], tree()["head"]["kernel"])
    assert sorted(leaf.shape for leaf in jax.tree.leaves(state)) == [(), (), (3, 2), (3, 2)]
    # The gradients of frozen parameters, NaN or large, do not count in the clipping norm.
    huge = gradients(0)
    huge["encoder"] = jax.tree.map(lambda g: g * jnp.nan, huge["encoder"])
    state = optimizer.tx.init(tree())
    a, _ = optimizer.tx.update(gradients(0), state, tree())
    b, _ = optimizer.tx.update(huge, state, tree())
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_bounds_stop_an_update_and_not_the_way_back():
    """A value at its bound stays there while it is pushed out, and leaves at once when it is pushed
    back in.
    """
    params = {"log_scale": jnp.float32(4.5), "w": jnp.float32(4.5)}
    tx = make_optimizer(
        params,
        steps=8,
        steps_per_epoch=8,
        name="sgd",
        momentum=0.0,
        lr=1.0,
        schedule="constant",
        rules=(("log_scale", {"bounds": (0.0, 4.6)}), (".*", {})),
    ).tx
    state, seen = tx.init(params), []
    for gradient in (-1.0, -1.0, 0.25, 9.0):
        updates, state = tx.update(
            jax.tree.map(lambda _, g=gradient: jnp.float32(g), params), state, params
        )
        params = optax.apply_updates(params, updates)
        seen.append(float(params["log_scale"]))
    np.testing.assert_allclose(seen, [4.6, 4.6, 4.35, 0.0], atol=1e-6)
    np.testing.assert_allclose(params["w"], 4.5 + 2 - 0.25 - 9)
    with pytest.raises(ConfigError, match="lowest and the highest"):
        describe(params, ((".*", {"bounds": (1.0, 1.0)}),))


def test_everything_frozen():
    optimizer = make(rules=((".*", {"freeze": True}),), grad_clip_norm=1.0, weight_decay=0.1)
    params, _ = run(optimizer, steps=2)
    jax.tree.map(np.testing.assert_array_equal, params, tree())


def test_abstract_parameters_and_a_model():
    model = nn.Sequential([nn.Dense(4), nn.LayerNorm(), nn.Dense(2)])
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 3)))["params"])
    optimizer = make(params=abstract, rules=(("layers_0/.*", {"freeze": True}), (".*", {})))
    params = model.init(jax.random.key(0), jnp.zeros((1, 3)))["params"]
    state = jax.eval_shape(optimizer.tx.init, abstract)
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.tx.init(params))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_slots_are_found_by_optax_and_by_the_shardings(name):
    params = tree()
    optimizer = make(
        name=name, rules=(("encoder/norm/.*", {"freeze": True}), (".*", {})), grad_clip_norm=1.0
    )
    state = optimizer.tx.init(params)
    ones = optax.tree_map_params(optimizer.tx, jnp.ones_like, state)
    slots = {"adamw": 2, "sgd": 1}[name]
    assert sum(float(leaf.sum()) for leaf in jax.tree.leaves(ones)) == slots * (4 * 3 + 3 + 3 * 2)

    train_state = TrainState(step=jnp.int32(0), params=params, model_state={}, opt_state=state)
    mesh = sharding.make_mesh()
    placed = sharding.state_shardings(train_state, ((".*kernel", (None, "fsdp")),), mesh)
    split = [s for s in jax.tree.leaves(placed.opt_state) if s.spec == PartitionSpec(None, "fsdp")]
    assert len(split) == slots * 2


def test_learning_rate_is_the_one_that_is_applied():
    params = {"w": jnp.zeros(())}
    optimizer = make_optimizer(
        params,
        steps=STEPS,
        steps_per_epoch=3,
        name="sgd",
        momentum=0.0,
        lr=0.5,
        weight_decay=0.0,
        schedule={"name": "warmup_cosine", "warmup_fraction": 0.25},
    )
    state = optimizer.tx.init(params)
    for step in range(STEPS):
        updates, state = optimizer.tx.update({"w": jnp.float32(1.0)}, state, params)
        np.testing.assert_allclose(-updates["w"], optimizer.learning_rate(step), rtol=1e-6)
    np.testing.assert_allclose(optimizer.learning_rate(np.arange(3)), 0.5 * np.arange(3) / 3)


def test_schedules_are_handed_steps_and_epochs():
    assert make(schedule="one_cycle", steps=10, steps_per_epoch=4, lr=1.0).learning_rate(
        11
    ) == pytest.approx(4e-6)
    by_hundred = {"name": "one_cycle", "steps_per_epoch": 5, "pct_start": 0.5}
    reference = schedules.one_cycle(0.01, 4, 5, 0.5)
    assert make(schedule=by_hundred, steps=20, steps_per_epoch=7).learning_rate(12) == reference(12)
    assert make(schedule=lambda step: 0.125).learning_rate(3) == 0.125
    for name in ("constant", "cosine", "warmup_cosine", "one_cycle"):
        assert np.isfinite(make(schedule=name, steps=0).learning_rate(0))


def test_one_cycle_over_one_epoch_warns(caplog):
    with caplog.at_level("WARNING", "jax3dret"):
        make(schedule="one_cycle", steps=3, steps_per_epoch=3)
    assert "single epoch" in caplog.text


def test_describe():
    rules = (
        ("head/.*", {"lr": 10, "decay": False}),
        ("encoder/norm/scale", {"freeze": True}),
        (".*", {"decay": 0.5}),
    )
    rows = describe(jax.eval_shape(tree), rules)
    assert [tuple(row) for row in rows] == [
        ("encoder/dense/bias", (3,), 1.0, 0.5, False, None),
        ("encoder/dense/kernel", (4, 3), 1.0, 0.5, False, None),
        ("encoder/norm/scale", (3,), 0.0, 0.0, True, None),
        ("head/kernel", (3, 2), 10.0, 0.0, False, None),
    ]
    # First match wins; a last catch-all without settings may be idle.
    assert (
        describe(tree(), (("head/.*", {"lr": 2.0}), ("encoder/.*", {}), (".*", {})))[-1].lr == 2.0
    )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("head/.*", {}),), "no rule matches the parameter 'encoder/dense/bias'"),
        ((), "no rule matches"),
        (
            (("head/kernal", {}), (".*", {})),
            "'head/kernal' matches no parameter.*did you mean 'head/kernel'",
        ),
        ((("kernel", {}), (".*", {})), "'kernel' matches no parameter .the whole path must match."),
        (((".*", {}), ("head/.*", {"freeze": True})), "'head/.*' has no effect"),
        (((".*", {"weight_decay": 0.0}),), "sets 'weight_decay'.*lr, decay, freeze or bounds"),
        (((".*", {"decai": 0.0}),), "did you mean 'decay'"),
        (((".*", {"lr": -1.0}),), "lr=-1.0"),
        (((".*", {"lr": True}),), "lr=True"),
        (((".*", {"freeze": 1}),), "freeze=1; give true or false"),
        (((".*", {"freeze": True, "lr": 0.1}),), "drop it"),
        ((("(", {}),), "not a regular expression"),
    ],
)
def test_rules_that_cannot_be_meant(rules, message):
    with pytest.raises(ConfigError, match=message):
        make(rules=rules)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adamww"}, "did you mean 'adamw'"),
        ({"lr": float("nan")}, "optim.lr is nan"),
        ({"b1": 1.0}, "optim.b1 is 1.0"),
        ({"grad_clip_norm": -1.0}, "grad_clip_norm is -1.0"),
        ({"beta1_cycle": True}, "beta1_cycle goes with"),
        ({"beta1_cycle": True, "schedule": "one_cycle", "name": "sgd"}, "beta1_cycle goes with"),
        ({"schedule": "warmup_cosin"}, "did you mean 'warmup_cosine'"),
        ({"schedule": {"name": "cosine", "warm": 1}}, "takes no 'warm'"),
        ({"schedule": {"warmup_fraction": 1}}, "has no name"),
        ({"schedule": {"name": "cosine", "peak": 1.0}}, "the peak is optim.lr"),
        ({"schedule": "jax3dret.core.schedules:cosin"}, "did you mean 'cosine'"),
        ({"schedule": "one_cycle", "steps_per_epoch": 0}, "steps_per_epoch is 0"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(ConfigError, match=message):
        make(**settings)
