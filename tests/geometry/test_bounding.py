"""Smallest spheres: known ones, and the condition that makes a sphere the smallest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from jax3dret.core.types import DataError
from jax3dret.geometry.bounding import bounding_sphere


@pytest.mark.parametrize(
    ("points", "centre", "radius"),
    [
        ([[3, 4, 5]], [3, 4, 5], 0),
        ([[3, 4, 5]] * 4, [3, 4, 5], 0),
        ([[0, 0, 0], [2, 0, 0]], [1, 0, 0], 1),
        ([[0, 0, 0], [1, 0, 0], [4, 0, 0], [3, 0, 0]], [2, 0, 0], 2),
        # An obtuse triangle: its longest side is the diameter, not its circumcircle.
        ([[0, 0, 0], [4, 0, 0], [2, 0.1, 0]], [2, 0, 0], 2),
        ([[x, y, z] for x in (0, 2) for y in (0, 2) for z in (0, 2)], [1, 1, 1], 3**0.5),
        ([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [0, 0, 0]], [0, 0, 0], 3**0.5),
    ],
)
def test_known_spheres(points, centre, radius):
    found, size = bounding_sphere(np.array(points, float))
    np.testing.assert_allclose(found, centre, atol=1e-9)
    assert size == pytest.approx(radius, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_holds_all_and_cannot_shrink(seed, offset):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(400, 3)) * rng.uniform(0.01, 1, 3)
    if seed == 5:  # all on one sphere: every subset of four is a candidate
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    centre, radius = bounding_sphere(points + offset)
    distance = np.linalg.norm(points + offset - centre, axis=1)
    assert distance.max() <= radius * (1 + 1e-9)
    # Smallest means: the centre lies in the convex hull of the points on the sphere.
    on = (points + offset - centre)[distance > radius * (1 - 1e-6)]
    _, rest = nnls(np.vstack([on.T, np.ones(len(on))]), np.array([0, 0, 0, 1.0]))
    assert rest < 1e-5


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.array([[0, 0, np.nan]])])
def test_nothing_to_hold(points):
    with pytest.raises(DataError, match="at least one is needed"):
        bounding_sphere(points)
