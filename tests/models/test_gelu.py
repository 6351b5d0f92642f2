"""The exact GELU: not its tanh approximation, not the sigmoid one."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.models.gelu import gelu

POINTS = np.concatenate([np.linspace(-6, 6, 101), [0.0, 1e-8, -30.0, 30.0]]).astype(np.float32)


def test_value():
    exact = [x * 0.5 * math.erfc(-x / math.sqrt(2)) for x in POINTS.astype(np.float64)]
    np.testing.assert_allclose(gelu(POINTS), exact, rtol=1e-5, atol=2e-6)
    assert np.abs(jax.nn.gelu(POINTS, approximate=True) - np.array(exact)).max() > 1e-4
    assert np.abs(POINTS * jax.nn.sigmoid(1.702 * POINTS) - np.array(exact)).max() > 1e-3


def test_gradient():
    found = jax.vmap(jax.grad(gelu))(POINTS)
    expected = jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=False)))(POINTS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_extremes():
    slope = jax.grad(gelu)
    assert float(gelu(jnp.float32(1e30))) == np.float32(1e30) and float(gelu(jnp.float32(-1e30))) == 0
    assert float(slope(jnp.float32(1e30))) == 1 and float(slope(jnp.float32(-1e30))) == 0
    assert np.isnan(gelu(jnp.float32(jnp.nan))) and np.isnan(slope(jnp.float32(jnp.nan)))


def test_bfloat16():
    assert gelu(jnp.ones(3, "bfloat16")).dtype == jnp.bfloat16
