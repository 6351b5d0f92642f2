"""Polygons as triangles: n - 2 of them on its corners, its own area and orientation."""

import sys
import warnings

import numpy as np
import pytest
from boxes import ELL, area, volume

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats.polygons import triangulate
from jax3dret.geometry.mesh_formats.unusable import Unusable


def cut(points, order=None):
    """The triangles of one polygon: their summed area, and the sum of their normals' halves."""
    points = np.asarray(points, float)
    order = np.arange(len(points)) if order is None else np.asarray(order)
    faces = triangulate(points, order, np.array([len(order)]))
    assert len(faces) == len(order) - 2 and set(faces.reshape(-1)) <= set(order.tolist())
    a, b, c = (points[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a) / 2
    return np.linalg.norm(normals, axis=1).sum(), normals.sum(0), faces


def newell(points):
    """The vector of a polygon's area, by the sum over its edges."""
    return sum(np.cross(p, q) for p, q in zip(points, np.roll(points, -1, 0), strict=True)) / 2


def in_space(plane):
    """Points of a plane turned and moved, all coordinates different."""
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    flat = np.concatenate([plane, np.zeros((len(plane), 1))], axis=1)
    return flat @ turn * 7.5 + [100.0, -20.0, 3.0]


STAR = np.array(
    [
        [np.cos(t), np.sin(t)] * np.array(r)
        for t, r in zip(np.arange(10) * np.pi / 5, [2, 0.5] * 5, strict=True)
    ]
)
SIMPLE = {
    "triangle": [[0, 0], [4, 0], [0, 2]],
    "square": [[0, 0], [1, 0], [1, 1], [0, 1]],
    "dart": [[0, 0], [2, 1], [0, 2], [1, 1]],
    "L": ELL,
    "star": STAR,
    "comb": [[0, 0], [7, 0], [7, 5], [6, 5], [6, 1], [5, 1], [5, 5], [4, 5], [4, 1], [0, 1]],
    "corners on a line": [
        [0, 0],
        [1, 0],
        [2, 0],
        [3, 0],
        [3, 1],
        [2, 0.2],
        [1, 1],
        [0, 1],
        [0, 0.5],
    ],
    "repeated corners": [[0, 0], [1, 0], [1, 0], [1, 1], [1, 1], [0.5, 0.2], [0, 1]],
    "slit to a hole": [
        [0, 0],
        [4, 0],
        [4, 4],
        [0, 4],
        [0, 0],
        [1, 1],
        [1, 3],
        [3, 3],
        [3, 1],
        [1, 1],
    ],
    "spike": [[0, 0], [2, 0], [2, 1], [1, 1], [1, 5], [1, 1], [0, 1]],
    "a thousand corners": [
        [r * np.cos(t), r * np.sin(t)]
        for t, r in zip(np.arange(1000) * 2 * np.pi / 1000, [1, 1.3] * 500, strict=True)
    ],
}


@pytest.mark.parametrize("name", SIMPLE)
def test_area_and_orientation_are_the_polygons_own(name):
    plane = np.array(SIMPLE[name], float)
    expected = abs(newell(np.c_[plane, np.zeros(len(plane))])[2]) * 7.5**2
    points = in_space(plane)
    starts = range(len(points)) if len(points) < 20 else (0, 1, 500)
    for start in starts:
        for order in (
            np.roll(np.arange(len(points)), start),
            np.roll(np.arange(len(points)), start)[::-1],
        ):
            total, vector, _ = cut(points, order)
            assert total == pytest.approx(expected, rel=1e-9), (name, start)
            np.testing.assert_allclose(
                vector, newell(points[order] - points[0]), rtol=1e-9, atol=1e-9
            )


def test_a_fan_of_a_concave_polygon_covers_more():
    points = in_space(ELL)
    fan = np.array([[0, i, i + 1] for i in range(1, 5)])
    assert area(Mesh(points, fan)) == pytest.approx(
        9 * 7.5**2
    )  # what a fan of corner 0 gives for 5
    assert cut(points)[0] == pytest.approx(5 * 7.5**2)


def test_convex_polygons_are_fans_of_their_first_corner():
    circle = np.array([[np.cos(t), np.sin(t)] for t in np.arange(7) * 2 * np.pi / 7])
    assert cut(in_space(circle))[2].tolist() == [[0, i, i + 1] for i in range(1, 6)]
    bent = np.array(
        [[0, 0, 0], [1, 0, 0.2], [1, 1, 0], [0, 1, 0.2]]
    )  # a saddle, as quads often are
    assert cut(bent)[2].tolist() == [[0, 1, 2], [0, 2, 3]]


def test_ear_clipping_is_left_for_the_few(monkeypatch):
    """One corner turned in, as most concave polygons have, is no matter for the triangulator."""
    monkeypatch.setitem(sys.modules, "manifold3d", None)
    for name in ("L", "dart", "square"):
        for shift in range(len(SIMPLE[name])):
            points = in_space(np.roll(np.array(SIMPLE[name], float), shift, axis=0))
            assert cut(points)[0] == pytest.approx(np.linalg.norm(newell(points - points[0])))
    assert cut(in_space(np.array(CROSSING["uneven bow tie"], float)))[2].tolist() == [
        [0, 1, 2],
        [0, 2, 3],
    ]
    with pytest.raises(ImportError):
        cut(in_space(STAR))


def test_many_polygons_keep_their_order():
    points = np.concatenate([in_space(ELL), in_space(np.array(SIMPLE["dart"], float))])
    polygons = [
        [6, 7, 8, 9],
        [0, 1],
        [0, 1, 2, 3, 4, 5],
        [2],
        [9, 6, 7, 8],
        [0, 1, 4],
        [7, 8, 9, 6],
    ]
    sizes = np.array([len(p) for p in polygons])
    faces = triangulate(points, np.concatenate(polygons), sizes)
    assert len(faces) == 2 + 4 + 2 + 1 + 2
    parts = np.split(faces, np.cumsum(np.maximum(sizes - 2, 0))[:-1])
    for polygon, part in zip(polygons, parts, strict=True):
        assert set(part.reshape(-1)) <= set(polygon)
        if len(polygon) > 2:
            expected = np.linalg.norm(newell(points[polygon]))
            assert area(Mesh(points, part)) == pytest.approx(expected, rel=1e-9)
    assert triangulate(points, np.zeros(0, int), np.zeros(0, int)).shape == (0, 3)


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e12, 1e200])
def test_any_unit(scale):
    faces = triangulate(in_space(ELL) * scale, np.arange(6), np.array([6]))
    assert faces.tolist() == cut(in_space(ELL))[2].tolist()


def test_a_warped_polygon_is_cut_as_its_projection():
    points = np.c_[ELL, 0.1 * np.sin(np.arange(6))]
    _, _, faces = cut(points)
    flat = Mesh(np.c_[ELL, np.zeros(6)], faces)
    assert area(flat) == pytest.approx(5)


CROSSING = {
    "bow tie": [[0, 0], [1, 1], [1, 0], [0, 1]],
    "uneven bow tie": [[0, 0], [3, 3], [3, 0], [0, 1]],
    "pentagram": [[np.cos(t), np.sin(t)] for t in np.arange(5) * 4 * np.pi / 5],
    "one place": [[0, 0]] * 5,
    "there and back": [[0, 0], [1, 0], [2, 0], [1, 0], [0.5, 0]],
    "twice around": [[0, 0], [2, 0], [2, 2], [0, 2], [0.1, 0.1], [1, 0.2], [1, 1], [0.2, 1]],
    "a loop within": [
        [(1 + 2 * np.cos(t)) * np.cos(t), (1 + 2 * np.cos(t)) * np.sin(t)]
        for t in np.pi + np.arange(16) * np.pi / 8
    ],
}


@pytest.mark.parametrize("name", CROSSING)
def test_what_crosses_itself_keeps_its_signed_area(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = in_space(np.array(CROSSING[name], float))
        total, vector, _ = cut(points)
    np.testing.assert_allclose(vector, newell(points - points[0]), atol=1e-9)
    assert total >= np.linalg.norm(vector) - 1e-9


def test_random_polygons_of_a_grid():
    rng = np.random.default_rng(0)
    for _ in range(60):  # corners repeat, lie on edges, cross: never an exception, always n - 2
        plane = rng.integers(0, 4, (int(rng.integers(4, 12)), 2)).astype(float)
        points = in_space(plane)
        np.testing.assert_allclose(cut(points)[1], newell(points - points[0]), atol=1e-8)


def test_corners_that_are_no_numbers_or_no_vertices():
    points = np.c_[ELL, np.zeros(6)]
    points[2, 1] = np.nan
    assert len(triangulate(points, np.arange(6), np.array([6]))) == 4  # the vertex is refused later
    for stray in (6, -1):
        with pytest.raises(Unusable, match=f"refers to vertex {stray}, but there are 6"):
            triangulate(points, np.array([0, 1, stray]), np.array([3]))


def test_volume_of_a_prism():
    """Caps that are concave, sides that are quads: what encloses 5 x 2 has that volume."""
    low, high = np.c_[ELL, np.zeros(6)], np.c_[ELL, np.full(6, 2.0)]
    sides = [[i, (i + 1) % 6, (i + 1) % 6 + 6, i + 6] for i in range(6)]
    polygons = [list(range(5, -1, -1)), list(range(6, 12)), *sides]
    points = np.concatenate([low, high])
    faces = triangulate(points, np.concatenate(polygons), np.array([len(p) for p in polygons]))
    mesh = Mesh(points, faces)
    assert abs(volume(mesh)) == pytest.approx(10) and area(mesh) == pytest.approx(2 * 5 + 2 * 12)
