"""The sliced group encoder against the network written down layer by layer and differentiated
automatically.
"""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import nn

from jax3dret.models import group_encoder
from jax3dret.models.group_encoder import GroupEncoder

WIDTHS, FEATURES = (6, 8, 10), 5


def literal(variables, groups, train):
    """Tokens and the moments (mean, biased variance) that both BatchNorms saw."""
    params, stats, seen = variables["params"], variables["batch_stats"], []

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    def norm(name, x):
        mean, var = (
            (x.mean((0, 1, 2)), x.var((0, 1, 2)))
            if train
            else (stats[name]["mean"], stats[name]["var"])
        )
        seen.append((mean, var))
        return (x - mean) / jnp.sqrt(var + 1e-5) * params[name]["scale"] + params[name]["bias"]

    x = dense("conv2", nn.relu(norm("norm1", dense("conv1", groups))))
    whole = jnp.broadcast_to(x.max(2, keepdims=True), x.shape)
    x = nn.relu(norm("norm2", dense("conv3", jnp.concatenate([whole, x], -1))))
    return dense("conv4", x).max(2), seen


@pytest.fixture(params=[1, 3], ids=lambda slices: f"slices{slices}")
def setting(request, monkeypatch):
    groups = np.random.default_rng(0).normal(scale=0.3, size=(2, 6, 4, 3)).astype(np.float32)
    groups = jnp.asarray(groups)
    monkeypatch.setattr(group_encoder, "SLICE_POINTS", groups.size // 3 // request.param)
    encoder = GroupEncoder(FEATURES, WIDTHS)
    variables = drawn.arrays(jax.eval_shape(lambda: encoder.init(jax.random.key(1), groups, False)))
    assert len(group_encoder._slice(groups)) == request.param
    return encoder, variables, groups


def test_evaluation(setting):
    encoder, variables, groups = setting
    np.testing.assert_allclose(
        jax.jit(encoder.apply, static_argnums=2)(variables, groups, False),
        jax.jit(lambda groups: literal(variables, groups, False)[0])(groups),
        rtol=1e-5,
        atol=1e-5,
    )


def test_training(setting):
    encoder, variables, groups = setting
    weight = np.random.default_rng(3).normal(size=(2, 6, FEATURES)).astype(np.float32)

    def ours(params, groups):
        tokens, state = encoder.apply(
            {**variables, "params": params}, groups, True, mutable=["batch_stats"]
        )
        return (tokens * weight).sum(), (tokens, state["batch_stats"])

    def theirs(params, groups):
        tokens, seen = literal({**variables, "params": params}, groups, True)
        return (tokens * weight).sum(), (tokens, seen)

    grads, (tokens, state) = jax.jit(jax.grad(ours, (0, 1), has_aux=True))(
        variables["params"], groups
    )
    expected, (expected_tokens, seen) = jax.jit(jax.grad(theirs, (0, 1), has_aux=True))(
        variables["params"], groups
    )
    np.testing.assert_allclose(tokens, expected_tokens, rtol=1e-4, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), grads, expected
    )
    rows = groups.size // 3
    for name, (mean, var) in zip(("norm1", "norm2"), seen, strict=True):
        before = variables["batch_stats"][name]
        np.testing.assert_allclose(
            state[name]["mean"], 0.9 * before["mean"] + 0.1 * mean, rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(
            state[name]["var"],
            0.9 * before["var"] + 0.1 * var * rows / (rows - 1),
            rtol=1e-4,
            atol=1e-6,
        )


def test_all_points_equal(setting):
    encoder, variables, groups = setting
    still = jnp.zeros_like(groups)

    def loss(params):
        tokens, _ = encoder.apply(
            {**variables, "params": params}, still, True, mutable=["batch_stats"]
        )
        return jnp.square(tokens).sum(), tokens

    grads, tokens = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert np.isfinite(tokens).all() and all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_nan_reaches_the_token(setting):
    encoder, variables, groups = setting
    broken = np.array(groups)
    broken[0, 2, 1, 0] = np.nan
    tokens = jax.jit(encoder.apply, static_argnums=2)(variables, broken, False)
    assert np.isnan(tokens[0, 2]).all() and np.isfinite(tokens[1]).all()
