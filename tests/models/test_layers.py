"""Layers follow PyTorch's conventions, checked against their formulas in float64."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import Attention, BatchNorm, Block, Dense, DropPath, LayerNorm, Mlp


def test_dense_value_and_initial_range():
    layer = Dense(2000)
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 16)))
    for value in variables["params"].values():
        assert value.dtype == jnp.float32
        assert (
            0.24 < np.abs(value).max() <= 0.25
        )  # 1 / sqrt(16), not sqrt(6 / 16) and not sqrt(1 / 2000)
        np.testing.assert_allclose(value.std(), 0.25 / np.sqrt(3), rtol=0.05)
    x = np.random.default_rng(1).normal(size=(3, 5, 16)).astype(np.float32)
    expected = (
        np.einsum("abi,io->abo", x, variables["params"]["kernel"])
        + variables["params"]["bias"][None, None]
    )
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, rtol=1e-5, atol=1e-5)


def test_dense_bfloat16_keeps_float32_parameters():
    layer = Dense(4, dtype="bfloat16")
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((2, 3)))
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert jax.eval_shape(layer.apply, variables, jnp.ones((2, 3))).dtype == jnp.bfloat16


def normalised(layer):
    return jax.jit(lambda variables, x: layer.apply(variables, x, mutable=["batch_stats"]))


def test_batch_norm_training():
    x = np.random.default_rng(0).normal(3, 2, (2, 3, 4)).astype(np.float32)
    layer = BatchNorm(use_running_average=False)
    params = {"scale": jnp.arange(1.0, 5), "bias": jnp.arange(4.0)}
    stats = {"mean": jnp.full(4, 0.5), "var": jnp.full(4, 2.0)}
    variables = {"params": params, "batch_stats": stats}
    y, state = normalised(layer)(variables, x)
    flat = x.reshape(6, 4).astype(np.float64)
    mean, biased, unbiased = flat.mean(0), flat.var(0), flat.var(0, ddof=1)
    expected = (flat - mean) / np.sqrt(biased + 1e-5) * np.arange(1, 5) + np.arange(4)
    np.testing.assert_allclose(y.reshape(6, 4), expected, rtol=1e-4, atol=1e-4)
    # Momentum is the weight of the NEW value, and the running variance is the unbiased one.
    np.testing.assert_allclose(state["batch_stats"]["mean"], 0.9 * 0.5 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["var"], 0.9 * 2 + 0.1 * unbiased, rtol=1e-5)


def test_batch_norm_evaluation_uses_the_running_statistics():
    layer = BatchNorm(use_running_average=True)
    variables = {
        "params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)},
        "batch_stats": {"mean": jnp.ones(2), "var": jnp.full(2, 4.0)},
    }
    np.testing.assert_allclose(
        layer.apply(variables, jnp.full((1, 2), 3.0)), 2 / np.sqrt(4 + 1e-5), rtol=1e-6
    )


def test_batch_norm_far_from_zero():
    x = 1000 + np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    layer, given = BatchNorm(use_running_average=False), jnp.asarray(x)
    variables = jax.jit(layer.init)(jax.random.key(0), given)
    _, state = normalised(layer)(variables, given)
    unbiased = x.astype(np.float64).var(0, ddof=1)
    np.testing.assert_allclose(state["batch_stats"]["var"], 0.9 + 0.1 * unbiased, rtol=1e-4)


def test_batch_norm_refuses_a_single_row():
    layer = BatchNorm(use_running_average=False)
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 2)))
    np.testing.assert_array_equal(variables["batch_stats"]["var"], [1, 1])
    with pytest.raises(ConfigError, match="single row"):
        layer.apply(variables, jnp.zeros((1, 2)), mutable=["batch_stats"])


def test_layer_norm():
    x = 100 + np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    layer = LayerNorm()
    given, wide = jnp.asarray(x), x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    run = jax.jit(lambda x: layer.apply(layer.init(jax.random.key(0), x), x))
    np.testing.assert_allclose(run(given), expected, atol=1e-4)


def test_drop_path_is_per_sample_and_rescaled():
    x = jnp.ones((400, 3, 2))
    rngs = {"drop_path": jax.random.key(0)}
    np.testing.assert_array_equal(DropPath(0.25).apply({}, x, False, rngs=rngs), x)
    drop = jax.jit(lambda x: DropPath(0.25).apply({}, x, True, rngs=rngs))
    y = np.asarray(drop(x))
    assert (y == y[:, :1, :1]).all()
    np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
    np.testing.assert_allclose(y.mean(), 1, atol=0.1)


def test_block_is_pre_norm():
    block = Block(num_heads=2)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    variables = drawn.arrays(jax.eval_shape(lambda: block.init(jax.random.key(1), x, False)))
    assert "bias" not in variables["params"]["attn"]["qkv"]
    assert variables["params"]["mlp"]["fc1"]["kernel"].shape == (8, 32)
    silent = jax.tree.map(np.zeros_like, variables)
    np.testing.assert_array_equal(jax.jit(block.apply, static_argnums=2)(silent, x, False), x)


def test_block_of_a_hidden_width_that_is_no_multiple():
    # 64 / 24 is not exact, the product with 24 is not to fall below 64.
    block = Block(num_heads=2, mlp_ratio=64 / 24)
    params = jax.eval_shape(
        lambda x: block.init(jax.random.key(0), x, False), jnp.zeros((1, 3, 24))
    )["params"]
    assert params["mlp"]["fc1"]["kernel"].shape == (24, 64)


def test_attention_refuses_a_width_that_heads_do_not_divide():
    with pytest.raises(ConfigError, match="num_heads 3"):
        jax.eval_shape(Attention(3).init, jax.random.key(0), jnp.zeros((1, 2, 8)))


def test_mlp_refuses_an_unknown_activation():
    with pytest.raises(ConfigError, match="'swish'; expected one of gelu, quick_gelu"):
        jax.eval_shape(Mlp(4, activation="swish").init, jax.random.key(0), jnp.zeros((1, 2)))
