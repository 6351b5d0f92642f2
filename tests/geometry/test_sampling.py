"""Surface sampling: uniform by area, on the surface, repeatable, and firm about meshes without a
surface.
"""

from __future__ import annotations

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.sampling import sample_surface

BOX_FACES = np.array(
    [
        [0, 3, 1],
        [0, 2, 3],
        [4, 5, 7],
        [4, 7, 6],  # z = 0, z = 1
        [0, 1, 5],
        [0, 5, 4],
        [2, 7, 3],
        [2, 6, 7],  # y = 0, y = 1
        [0, 4, 6],
        [0, 6, 2],
        [1, 3, 7],
        [1, 7, 5],  # x = 0, x = 1
    ],
    dtype=np.int32,
)


def box(size=(1.0, 1.0, 1.0)) -> Mesh:
    corners = np.array(
        [[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], dtype=np.float64
    )
    return Mesh(corners * np.asarray(size), BOX_FACES)


def test_points_lie_on_their_face_and_normals_point_out():
    size = np.array([1.0, 2.0, 5.0])
    points, normals = sample_surface(box(size), 4000, np.random.default_rng(0))
    assert points.dtype == normals.dtype == np.float64
    assert points.shape == normals.shape == (4000, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-12)
    axis = np.abs(normals).argmax(axis=1)
    rows = np.arange(len(points))
    expected = np.where(normals[rows, axis] > 0, size[axis], 0.0)
    np.testing.assert_allclose(points[rows, axis], expected, atol=1e-12)
    assert (points >= -1e-12).all() and (points <= size + 1e-12).all()


def test_each_side_receives_points_by_its_area_not_by_its_face_count():
    size = np.array([1.0, 2.0, 5.0])
    num = 40_000
    _, normals = sample_surface(box(size), num, np.random.default_rng(1))
    areas = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    share = np.bincount(np.abs(normals).argmax(axis=1), minlength=3) / num
    # Four standard errors of a binomial share; equal shares (1/3 each) or squared areas lie far
    # outside.
    np.testing.assert_allclose(share, areas / areas.sum(), atol=4 * np.sqrt(0.25 / num))


def test_subdividing_a_face_does_not_attract_points():
    # A unit square: left half one pair of triangles, right half twenty thin pairs.
    xs = np.concatenate([[0.0], np.linspace(0.5, 1.0, 21)])
    vertices = np.array([[x, y, 0.0] for x in xs for y in (0.0, 1.0)])
    faces = np.array(
        [
            f
            for i in range(len(xs) - 1)
            for f in ((2 * i, 2 * i + 2, 2 * i + 1), (2 * i + 1, 2 * i + 2, 2 * i + 3))
        ]
    )
    points, normals = sample_surface(
        Mesh(vertices, faces.astype(np.int32)), 20_000, np.random.default_rng(2)
    )
    assert abs((points[:, 0] < 0.5).mean() - 0.5) < 0.015
    np.testing.assert_allclose(normals, np.tile([0.0, 0.0, 1.0], (len(normals), 1)), atol=1e-12)


def test_uniform_inside_one_triangle():
    triangle = Mesh(
        np.array([[0.0, 0, 0], [3, 0, 0], [0, 3, 0]]), np.array([[0, 1, 2]], dtype=np.int32)
    )
    points, _ = sample_surface(triangle, 30_000, np.random.default_rng(3))
    # The centroid and the second moment of a uniform triangle; barycentric weights normalised to
    # sum 1, or the missing square root of the usual mapping, keep neither.
    np.testing.assert_allclose(points.mean(axis=0), [1.0, 1.0, 0.0], atol=0.02)
    np.testing.assert_allclose((points[:, 0] ** 2).mean(), 1.5, atol=0.04)
    assert (points[:, :2] >= 0).all() and (points[:, :2].sum(axis=1) <= 3 + 1e-12).all()


def test_same_generator_state_same_points():
    first = sample_surface(box(), 100, np.random.default_rng(7))
    again = sample_surface(box(), 100, np.random.default_rng(7))
    other = sample_surface(box(), 100, np.random.default_rng(8))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_faces_without_area_are_never_chosen():
    # The flat faces come first, between and last, so that an off-by-one at either end of the
    # cumulative sum would show.
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [6, 6, 6], [7, 7, 7]])
    faces = np.array([[3, 4, 5], [0, 1, 2], [3, 3, 4], [0, 1, 2], [5, 5, 5]], dtype=np.int32)
    points, normals = sample_surface(Mesh(vertices, faces), 5000, np.random.default_rng(4))
    assert np.isfinite(normals).all()
    assert points.max() <= 1.0 and (points[:, 2] == 0.0).all()


@pytest.mark.parametrize("unit", [1e-170, 1e170])
def test_area_does_not_vanish_or_overflow_in_an_extreme_unit(unit):
    points, normals = sample_surface(box((unit, unit, unit)), 200, np.random.default_rng(5))
    assert np.isfinite(points).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-9)


def test_meshes_without_a_surface_are_refused():
    rng = np.random.default_rng(0)
    line = np.array([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]])
    with pytest.raises(DataError, match="total area of the mesh's 1 faces is 0"):
        sample_surface(Mesh(line, np.array([[0, 1, 2]], dtype=np.int32)), 10, rng)
    with pytest.raises(DataError, match="total area of the mesh's 1 faces is 0"):
        sample_surface(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]], dtype=np.int32)), 10, rng)
    with pytest.raises(DataError, match="no faces"):
        sample_surface(Mesh(line, np.zeros((0, 3), dtype=np.int32)), 10, rng)
    with pytest.raises(DataError, match="NaN or infinite"):
        sample_surface(
            Mesh(np.where(line == 2, np.nan, line), np.array([[0, 1, 2]], dtype=np.int32)), 10, rng
        )


def test_zero_points():
    points, normals = sample_surface(box(), 0, np.random.default_rng(0))
    assert points.shape == normals.shape == (0, 3)
