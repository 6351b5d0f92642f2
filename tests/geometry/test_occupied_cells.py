"""Cells that a mesh touches, against every cell asked on its own."""

from __future__ import annotations

import igl
import numpy as np
import pytest
from models.fields.meshes_of import box

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.occupied_cells import touched


def all_cells(level: int) -> np.ndarray:
    return np.array(list(np.ndindex(*(2**level,) * 3)))


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_a_tilted_triangle(margin):
    """A cell is touched where the nearest point of the triangle, in the largest of the three
    distances along the axes, is no farther than its half side and the margin.
    """
    rng = np.random.default_rng(0)
    level, side = 4, 2 / 16
    triangle = rng.uniform(-0.9, 0.9, (3, 3))
    found = {
        tuple(c) for c in touched(Mesh(triangle, np.array([[0, 1, 2]], np.int32)), level, margin)
    }
    # Points of the triangle, dense: each marks the cells it touches.
    shares = rng.dirichlet((1, 1, 1), 200_000)
    points = np.concatenate([shares @ triangle, triangle])
    low = np.floor((points + 1) / side - margin).astype(int)
    high = np.floor((points + 1) / side + margin).astype(int)
    sure = {
        (x, y, z)
        for i in range(0, len(points), 40)
        for x in {low[i, 0], high[i, 0]}
        for y in {low[i, 1], high[i, 1]}
        for z in {low[i, 2], high[i, 2]}
    }
    assert sure <= found
    # And no cell is farther from the triangle than the corner of its widened box.
    centres = (2 * np.array(sorted(found)) + 1) * side / 2 - 1
    square, _, _ = igl.point_mesh_squared_distance(
        centres, triangle, np.array([[0, 1, 2]], np.int64)
    )
    assert len(found) < 0.3 * 16**3
    limit = (0.5 + margin) * side
    assert (np.sqrt(square) <= np.sqrt(3) * limit + 1e-9).all()


def test_a_box_touches_a_shell():
    mesh = box(1, 1, 1)
    mesh = Mesh(mesh.vertices - 0.5, mesh.faces)  # from -0.5 to 0.5, on cells' borders
    found = touched(mesh, 4)
    cells = all_cells(4)
    # Half a cell about the six faces: two cells of 12 an axis thick, edges and corners with them.
    outer = ((cells >= 3) & (cells <= 12)).all(1)
    inner = ((cells >= 5) & (cells <= 10)).all(1)
    np.testing.assert_array_equal(found, cells[outer & ~inner])


def test_small_flat_and_absent_meshes():
    speck = Mesh(np.array([[0.01, 0.01, 0.01]] * 3), np.array([[0, 1, 2]], np.int32))
    np.testing.assert_array_equal(touched(speck, 3, 0.0), [[4, 4, 4]])
    assert len(touched(speck, 3)) == 8  # half a cell to either side
    np.testing.assert_array_equal(touched(speck, 0), [[0, 0, 0]])
    with pytest.raises(DataError, match="no part of the mesh"):
        touched(Mesh(speck.vertices + 9, speck.faces), 3)
    with pytest.raises(ConfigError, match="level 11"):
        touched(speck, 11)
