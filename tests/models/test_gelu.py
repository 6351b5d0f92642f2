"""The exact GELU: not its tanh approximation, not the sigmoid one."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.models.gelu import gelu, quick_gelu

POINTS = np.concatenate([np.linspace(-6, 6, 101), [0.0, 1e-8, -30.0, 30.0]]).astype(np.float32)


def test_value():
    exact = [x * 0.5 * math.erfc(-x / math.sqrt(2)) for x in POINTS.astype(np.float64)]
    np.testing.assert_allclose(gelu(jnp.asarray(POINTS)), exact, rtol=1e-5, atol=2e-6)
    assert np.abs(jax.nn.gelu(POINTS, approximate=True) - np.array(exact)).max() > 1e-4
    assert np.abs(POINTS * jax.nn.sigmoid(1.702 * POINTS) - np.array(exact)).max() > 1e-3


def test_gradient():
    found = jax.vmap(jax.grad(gelu))(POINTS)
    expected = jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=False)))(POINTS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_extremes():
    slope = jax.grad(gelu)
    assert (
        float(gelu(jnp.float32(1e30))) == np.float32(1e30) and float(gelu(jnp.float32(-1e30))) == 0
    )
    assert float(slope(jnp.float32(1e30))) == 1 and float(slope(jnp.float32(-1e30))) == 0
    assert np.isnan(gelu(jnp.float32(jnp.nan))) and np.isnan(slope(jnp.float32(jnp.nan)))


def test_bfloat16():
    assert gelu(jnp.ones(3, "bfloat16")).dtype == jnp.bfloat16


def test_quick_gelu():
    x = jnp.array([-100.0, -2.0, 0.0, 0.5, 3.0, 100.0])
    expected = np.float64(x) / (1 + np.exp(-1.702 * np.float64(x)))
    np.testing.assert_allclose(quick_gelu(x), expected, rtol=1e-6, atol=1e-30)
    assert 0.01 < np.abs(quick_gelu(x) - gelu(x)).max() < 0.03
    assert np.isfinite(jax.vmap(jax.grad(quick_gelu))(x)).all()
    assert quick_gelu(x.astype("bfloat16")).dtype == jnp.bfloat16
