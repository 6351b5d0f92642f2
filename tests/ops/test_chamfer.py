"""The Chamfer distance against a literal float64 one, with its gradient."""

import jax
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.ops.chamfer import chamfer

RNG = np.random.default_rng(0)
# More rows than a block and more columns than a strip, neither a multiple.
A = RNG.normal(size=(300, 3)).astype(np.float32)
B = (RNG.normal(size=(140, 3)) + 0.3).astype(np.float32)


def literal(a, b, squared=False):
    apart = np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=-1)
    power = 2 if squared else 1
    return (apart.min(1) ** power).mean() + (apart.min(0) ** power).mean()


def test_unequal_sizes_both_directions_summed():
    # Unlike each other: one direction, the mean of both, their maximum, squares.
    assert float(chamfer(A, B)) == pytest.approx(literal(A, B), rel=1e-6)
    assert float(chamfer(A, B, squared=True)) == pytest.approx(literal(A, B, True), rel=1e-6)


def test_far_from_the_origin_small_distances_keep_their_digits():
    shifted = np.resize(B, A.shape) + np.float32(1000)
    moved = B + np.float32(1000) + np.float32(2.0**-10)
    assert float(chamfer(shifted, moved)) == pytest.approx(2 * np.sqrt(3) * 2**-10, rel=1e-5)


def test_gradient_is_the_direction_of_the_nearest_and_finite_at_no_distance():
    step = 1e-4
    both = jax.jit(jax.value_and_grad(chamfer))
    gradient = np.asarray(both(A, B)[1])
    for row in (0, 7):
        for axis in range(3):
            ends = [A.astype(np.float64), A.astype(np.float64)]
            ends[0][row, axis] -= step
            ends[1][row, axis] += step
            slope = (literal(ends[1], B) - literal(ends[0], B)) / (2 * step)
            assert gradient[row, axis] == pytest.approx(slope, abs=1e-5)
    value, gradient = both(np.resize(B, A.shape), B)
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, 0)


def test_nan_is_not_hidden_and_empty_clouds_are_refused(unchecked):
    for which in (0, 1):
        clouds = [A.copy(), B.copy()]
        clouds[which][5, 1] = np.nan
        assert np.isnan(chamfer(*clouds))
    for wrong in (np.zeros((0, 3), np.float32), np.zeros((4, 2), np.float32)):
        with pytest.raises(ConfigError, match=r"expected \[N, 3\] and \[M, 3\], none empty"):
            chamfer(wrong, B)
