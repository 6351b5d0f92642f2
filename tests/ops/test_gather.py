"""Rows by index, their gradient, and what happens outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.ops.gather import gather


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 5), (3, 0)])
def test_equals_fancy_indexing(shape):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 7, 2)).astype(np.float32)
    indices = rng.integers(0, 7, size=shape)
    expected = np.stack([values[b][indices[b]] for b in range(3)])
    got = jax.jit(gather)(jnp.asarray(values), jnp.asarray(indices))
    assert got.shape == (*shape, 2)
    np.testing.assert_array_equal(got, expected)


def test_gradient_adds_up_over_repeats():
    indices = jnp.asarray([[0, 0, 2]])
    gradient = jax.grad(lambda v: gather(v, indices).sum())(jnp.ones((1, 3, 2)))
    np.testing.assert_array_equal(gradient[0], [[2, 2], [0, 0], [1, 1]])


def test_vmap_and_outside():
    values = jnp.arange(24.0).reshape(2, 2, 3, 2)
    indices = jnp.asarray([[[0, 5], [-1, 1]], [[2, 2], [0, 0]]])
    got = jax.vmap(gather)(values, indices)
    np.testing.assert_array_equal(
        got[0], [values[0, 0][jnp.array([0, 2])], values[0, 1][jnp.array([0, 1])]]
    )


def test_errors_name_the_shapes(unchecked):
    with pytest.raises(ConfigError, match=r"\(2, 3, 1\).*\(3, 4\)"):
        gather(jnp.zeros((2, 3, 1)), jnp.zeros((3, 4), int))
