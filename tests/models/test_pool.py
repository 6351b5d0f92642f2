"""The maximum of a group; its gradient goes to the first of equal members."""

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.models.pool import max_pool


def test_without_ties_as_max():
    x = jax.random.normal(jax.random.key(0), (5, 7, 3))
    grad = jax.random.normal(jax.random.key(1), (5, 3))
    value, pull = jax.vjp(max_pool, x)
    expected, expected_pull = jax.vjp(lambda x: x.max(1), x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(pull(grad)[0], expected_pull(grad)[0])


def test_ties_give_the_whole_gradient_once_to_the_first():
    x = jnp.array([1.0, 4.0, 4.0, 4.0])[None, :, None]
    np.testing.assert_array_equal(
        jax.grad(lambda x: 3 * max_pool(x).sum())(x)[0, :, 0], [0, 3, 0, 0]
    )


def test_nan_is_not_hidden():
    x = jnp.array([1.0, jnp.nan, 2.0])[None, :, None]
    assert np.isnan(max_pool(x)).all()
    assert np.isnan(jax.grad(lambda x: (max_pool(x) ** 2).sum())(x)).any()


def test_minus_infinity():
    np.testing.assert_array_equal(max_pool(jnp.full((1, 3, 1), -jnp.inf)), [[-jnp.inf]])
