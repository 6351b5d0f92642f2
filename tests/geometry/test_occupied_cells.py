"""Cells that a mesh touches, against distances and samples."""

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.occupied_cells import sampled, touched

LEVEL = 4
RNG = np.random.default_rng(0)
# Large, thin and degenerate triangles: a line and a point among them.
CORNERS = np.concatenate(
    [
        RNG.uniform(-0.9, 0.9, (6, 3, 3)),
        [[[0.3, 0.3, 0.3]] * 3],
        [[[-0.8] * 3, [0.7] * 3, [0.1] * 3]],
    ]
)
MESH = Mesh(CORNERS.reshape(-1, 3), np.arange(3 * len(CORNERS)).reshape(-1, 3).astype(np.int32))


def keys(cells):
    return {tuple(cell) for cell in cells.tolist()}


def near(points, reach):
    """Cells within reach of one of the points, in units of a side."""
    place = (points + 1) * 2 ** (LEVEL - 1)
    ends = np.floor(np.stack([place - reach, place, place + reach])).astype(int)
    found = set()
    for which in np.ndindex(3, 3, 3):
        cells = np.stack([ends[which[axis], :, axis] for axis in range(3)], -1)
        found |= keys(np.unique(cells, axis=0))
    return found


def test_no_cell_is_missed_and_none_is_too_many():
    """Points laid on each triangle, none of it farther than 0.14 sides from one of them."""
    n = 90
    i, j = np.triu_indices(n + 1)
    weights = np.stack([i, j - i, n - j], -1) / n
    points = (weights @ CORNERS).reshape(-1, 3)
    for dilation in (0.0, 0.5):
        exact = keys(touched(MESH, LEVEL, dilation))
        assert near(points, dilation) <= exact, "a cell with a point of the surface is missing"
        assert exact <= near(points, dilation + 0.14), "a cell too far away"


def test_the_sampler_finds_most_of_them():
    found = keys(sampled(MESH, LEVEL, np.random.default_rng(1), 20_000))
    exact = keys(touched(MESH, LEVEL))
    assert found <= exact and len(found) > 0.4 * len(exact)
    np.testing.assert_array_equal(touched(MESH, LEVEL), sorted(exact))


def test_a_box_wall_is_two_cells_thick_where_it_lies_on_a_border():
    wall = Mesh(
        np.array([[0.0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]]),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
    )
    cells = touched(wall, 3)
    assert len(cells) == 2 * 64 and set(cells[:, 0]) == {3, 4}


def test_bad_meshes():
    with pytest.raises(DataError, match="no faces"):
        touched(Mesh(np.zeros((3, 3)), np.zeros((0, 3), np.int32)), LEVEL)
    broken = CORNERS.reshape(-1, 3).copy()
    broken[4, 1] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        touched(Mesh(broken, MESH.faces), LEVEL)
    assert not len(touched(Mesh(CORNERS.reshape(-1, 3) + 9, MESH.faces), LEVEL))
