"""The nearest candidate by Chamfer distance: few points first, against all at once."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.ops.chamfer import chamfer as chamfer_of_points
from jax3dret.tasks.inret.clouds import Cloud, Clouds, chamfer, distances_within
from jax3dret.tasks.inret.hierarchical import Hierarchy, exhaustive, hierarchical


def spheres(radii):
    """Row i is a sphere of radius i; every cloud of it has points of its own."""
    asked = []

    def sample(row, points):
        asked.append((row, points))
        x = np.random.default_rng([row, points]).normal(size=(points, 3))
        return (radii[row] * x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    return Clouds(sample), asked


RADII = np.array([0.5, 0.52, 0.9, 0.51, 0.6, 0.495])


def test_the_nearest_and_what_is_compared_again():
    clouds, asked = spheres(RADII)
    candidates = np.arange(1, 6)
    found = hierarchical(0, candidates, clouds, Hierarchy(32, 2048, 1.15))
    fine = [row for row, points in asked if points == 2048]
    naive = exhaustive(0, candidates, clouds, 2048)
    assert found.found == naive.found == 5  # 0.005 away; 0.01 and 0.02 are near, 0.4 is not
    assert naive.kept == 5 and 1 <= found.kept < 5
    assert len(fine) == found.kept + 1  # those kept, and the query; none twice
    assert len(asked) == len(set(asked)) == 6 + 6
    assert hierarchical(0, candidates, clouds, Hierarchy(32, 64, 1e6)).kept == 5
    assert min(found.coarse_s, found.fine_s, naive.fine_s) > 0 and naive.coarse_s == 0
    # What was kept from an earlier query counts as if it were sampled anew.
    sampling = sum(clouds.seconds(row, 2048) for row in range(6))
    assert exhaustive(0, candidates, clouds, 2048).fine_s >= sampling


def test_without_candidates_and_equally_near():
    clouds, _ = spheres(RADII)
    nobody = np.zeros(0, int)
    assert hierarchical(0, nobody, clouds, Hierarchy()).found == -1
    assert exhaustive(0, nobody, clouds, 8).found == -1
    same = Clouds(lambda row, points: np.full((points, 3), float(row == 9), np.float32))
    # The least coarse distance is 0: what equals it is kept, and the first of them found.
    found = hierarchical(0, np.array([9, 3, 4]), same, Hierarchy(2, 4))
    assert found.found == 3 and found.kept == 2
    with pytest.raises(ConfigError, match="coarse=9, fine=8"):
        Hierarchy(9, 8)


def test_distances_are_those_of_the_library():
    clouds, _ = spheres(RADII)
    labels = np.array([0, 1, 0, 1, 0, 2])
    found = distances_within(labels, clouds, 40)
    expected = np.array(
        [
            [chamfer_of_points(clouds.of(i, 40).points, clouds.of(j, 40).points) for j in range(6)]
            for i in range(6)
        ]
    )
    same = labels[:, None] == labels[None]
    np.testing.assert_allclose(found[same], expected[same], atol=1e-6)
    assert np.isnan(found[~same]).all() and found[5, 5] == 0
    assert isinstance(clouds.of(0, 8), Cloud) and chamfer(clouds.of(0, 8), clouds.of(0, 8)) == 0
