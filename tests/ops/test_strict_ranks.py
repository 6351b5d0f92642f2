"""Arrays of different rank are refused while the tests of this folder run."""

import jax.numpy as jnp
import pytest


def test_arrays_of_different_rank_are_not_broadcast():
    with pytest.raises(ValueError, match="could not be broadcast"):
        jnp.zeros(3) + jnp.zeros((2, 3))
    assert (jnp.zeros((1, 3)) + jnp.zeros((2, 3))).shape == (2, 3)
