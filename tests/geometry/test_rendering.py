"""The software renderer against pictures whose content is known in closed form."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.geometry import zbuffer
from jax3dret.geometry.rendering import camera_axes, render_mesh, render_points


class Shape(NamedTuple):
    vertices: np.ndarray
    faces: np.ndarray


CUBE = Shape(
    np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float),
    np.array(
        [
            [0, 1, 3],
            [0, 3, 2],
            [4, 6, 7],
            [4, 7, 5],
            [0, 4, 5],
            [0, 5, 1],
            [2, 3, 7],
            [2, 7, 6],
            [0, 2, 6],
            [0, 6, 4],
            [1, 5, 7],
            [1, 7, 3],
        ]
    ),
)


def square(z: float, half: float = 1.0) -> np.ndarray:
    """Corners of a square that faces +z."""
    return np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]])


def ink(image: np.ndarray) -> np.ndarray:
    return (image < 255).any(-1)


def grid(rows: int, columns: int) -> Shape:
    """A closed-looking wavy sheet of 2 * rows * columns faces."""
    u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    vertices = np.stack([u, v, 0.1 * np.sin(9 * u) * np.cos(7 * v)], -1).reshape(-1, 3)
    first = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).reshape(-1)
    a, b, c, d = first, first + 1, first + columns + 2, first + columns + 1
    return Shape(vertices, np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]))


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (35, 25), (-120, -40), (10, 90)])
def test_camera_axes_are_a_right_handed_frame(azimuth, elevation, up):
    axes = camera_axes(azimuth, elevation, up)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)


def test_camera_stands_where_the_angles_say():
    np.testing.assert_allclose(
        camera_axes(0, 0, "z"), [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-12
    )
    np.testing.assert_allclose(camera_axes(90, 0, "z")[2], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(camera_axes(0, 90, "z")[2], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(camera_axes(0, 0, "y")[1], [0, 1, 0], atol=1e-12)


def test_reoriented_copy_gives_the_same_picture():
    bar = Shape(CUBE.vertices * [1.0, 0.4, 0.2], CUBE.faces)
    turned = Shape(
        np.stack([bar.vertices[:, 0], bar.vertices[:, 2], -bar.vertices[:, 1]], -1), bar.faces
    )
    np.testing.assert_array_equal(render_mesh(bar, up="z"), render_mesh(turned, up="y"))
    assert (render_mesh(bar, up="z") != render_mesh(turned, up="z")).any()


def test_cube_silhouette_seen_along_an_axis():
    """A square that leaves the 6 % margin free on each side."""
    size = 100
    image = render_mesh(CUBE, size=size, azimuth=0, elevation=0)
    covered = np.argwhere(ink(image))
    assert covered.min() == 6 and covered.max() == 93
    assert ink(image).sum() == 88 * 88


def test_cube_silhouette_is_the_projected_hexagon():
    """Orthographic area of a cube of side 2 from direction d: 4 (|dx| + |dy| + |dz|), scaled to the
    frame.
    """
    size, azimuth, elevation = 200, 35.0, 25.0
    axes = camera_axes(azimuth, elevation, "z")
    extent = np.ptp(CUBE.vertices @ axes[:2].T, axis=0).max()
    scale = size * 0.88 / extent
    expected = 4 * np.abs(axes[2]).sum() * scale**2
    image = render_mesh(CUBE, size=size, azimuth=azimuth, elevation=elevation)
    # Half-covered pixels of the border are counted by how dark they are against a fully covered
    # one.
    assert ink(image).sum() == pytest.approx(expected, rel=0.02)
    assert ink(image).sum() >= expected


def test_cube_shows_three_faces_and_lights_the_top_most():
    """Pixels inside each visible face have one colour; the visible areas follow |d|; the top is
    brightest.
    """
    size = 200
    axes = camera_axes(35, 25, "z")
    image = render_mesh(CUBE, size=size)
    scale = size * 0.88 / np.ptp(CUBE.vertices @ axes[:2].T, axis=0).max()
    shades = []
    for axis in range(3):
        normal = np.zeros(3)
        normal[axis] = np.sign(axes[2, axis])
        right, up = axes[:2] @ normal
        column, row = int(size / 2 + right * scale), int(size / 2 - up * scale)
        patch = image[row - 6 : row + 7, column - 6 : column + 7].reshape(-1, 3).astype(int)
        assert np.ptp(patch, axis=0).max() <= 2, "a flat face away from its edges has one shade"
        shades.append(patch.mean())
    assert shades[2] > max(shades[:2]) + 20
    assert abs(shades[0] - shades[1]) > 10, "the two side faces can be told apart"


def test_nearer_face_hides_the_farther_whatever_the_order():
    """Two parallel squares; the nearer, smaller one is tilted so that its shade differs."""
    tilt = square(1.0, 0.4) + np.array([0, 0, 1]) * square(0.0, 0.4)[:, 1:2] * 1.2
    vertices = np.concatenate([square(-1.0), tilt])
    quads = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    first = render_mesh(Shape(vertices, quads), azimuth=-90, elevation=90, size=80)
    second = render_mesh(Shape(vertices, quads[::-1]), azimuth=-90, elevation=90, size=80)
    np.testing.assert_array_equal(first, second)
    behind = vertices * [1, 1, -1]
    hidden = render_mesh(Shape(behind, quads), azimuth=-90, elevation=90, size=80)
    assert abs(int(first[40, 40, 0]) - int(first[40, 12, 0])) > 15, (
        "in front: the small square is seen"
    )
    assert hidden[40, 40, 0] == pytest.approx(int(hidden[40, 12, 0]), abs=3), (
        "behind: only the large one is"
    )


def test_interpenetrating_faces_meet_where_their_depths_cross():
    """Two squares tilted by +45 and -45 degrees about the vertical axis swap at the middle column."""
    base = square(0.0)
    left, right = base.copy(), base.copy()
    left[:, 2], right[:, 2] = base[:, 0], -base[:, 0]
    mesh = Shape(
        np.concatenate([left, right]), np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    )
    row = render_mesh(mesh, azimuth=-90, elevation=90, size=100)[50, :, 0].astype(int)
    inside = row[8:92]
    change = np.flatnonzero(np.abs(np.diff(inside)) > 10)
    assert len(change) and set(change + 8) <= {47, 48, 49, 50, 51}


def test_winding_does_not_matter():
    np.testing.assert_array_equal(
        render_mesh(CUBE), render_mesh(Shape(CUBE.vertices, CUBE.faces[:, ::-1]))
    )


def test_shared_edges_leave_no_holes():
    image = render_mesh(grid(23, 31), azimuth=-90, elevation=90, size=120)
    covered = np.argwhere(ink(image))
    (top, left), (bottom, right) = covered.min(0), covered.max(0)
    assert ink(image)[top : bottom + 1, left : right + 1].all()


def test_smooth_surface_is_smooth_and_crease_stays_sharp():
    """A 24-sided prism: its side changes shade gradually, its rim in one step."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    vertices = np.concatenate([np.c_[ring, -np.ones(24)], np.c_[ring, np.ones(24)], [[0, 0, 1]]])
    i = np.arange(24)
    j = (i + 1) % 24
    faces = np.concatenate(
        [
            np.stack([i, j, j + 24], -1),
            np.stack([i, j + 24, i + 24], -1),
            np.stack([i + 24, j + 24, 0 * i + 48], -1),
        ]
    )
    image = render_mesh(Shape(vertices, faces), size=160, elevation=20).astype(int)
    side = image[100, 30:130, 0]
    assert np.abs(np.diff(side)).max() <= 8
    column = image[20:60, 80, 0]
    assert np.abs(np.diff(column)).max() > 25


def test_vertices_repeated_per_face_shade_like_shared_ones():
    mesh = grid(12, 12)
    soup = Shape(
        mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3)
    )
    np.testing.assert_allclose(render_mesh(mesh).astype(int), render_mesh(soup).astype(int), atol=1)


def test_degenerate_faces_draw_nothing():
    spoiled = Shape(
        np.concatenate([CUBE.vertices, [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]]),
        np.concatenate([CUBE.faces, [[0, 0, 0], [0, 1, 1], [8, 9, 8]]]),
    )
    np.testing.assert_array_equal(render_mesh(spoiled), render_mesh(CUBE))
    collinear = Shape(np.array([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]), np.array([[0, 1, 2]]))
    assert not ink(render_mesh(collinear, size=32)).any()
    point = Shape(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    assert not ink(render_mesh(point, size=32)).any()


def test_unused_far_vertex_does_not_shrink_the_picture():
    stray = Shape(np.concatenate([CUBE.vertices, [[1e3, 1e3, 1e3]]]), CUBE.faces)
    np.testing.assert_allclose(
        render_mesh(stray).astype(int), render_mesh(CUBE).astype(int), atol=2
    )


def test_scale_and_place_do_not_matter():
    moved = Shape(CUBE.vertices * 4096.0 + [8192.0, -4096.0, 2048.0], CUBE.faces)
    np.testing.assert_allclose(
        render_mesh(moved).astype(int), render_mesh(CUBE).astype(int), atol=1
    )


def test_portions_do_not_change_the_picture(monkeypatch):
    whole = render_mesh(grid(20, 20))
    monkeypatch.setattr(zbuffer, "_PORTION", 500)
    np.testing.assert_array_equal(render_mesh(grid(20, 20)), whole)


def test_same_bytes_every_time():
    points = np.random.default_rng(0).normal(size=(500, 3))
    assert render_mesh(CUBE).tobytes() == render_mesh(CUBE).tobytes()
    assert render_points(points).tobytes() == render_points(points).tobytes()


@pytest.mark.parametrize(
    ("mesh", "reason"),
    [
        (Shape(np.zeros((0, 3)), np.zeros((0, 3), int)), "at least one face"),
        (Shape(CUBE.vertices, np.zeros((0, 3), int)), "at least one face"),
        (Shape(CUBE.vertices, np.array([[0, 1, 8]])), "vertex 8"),
        (Shape(CUBE.vertices, np.array([[0, 1, -1]])), "vertex -1"),
        (Shape(np.full((3, 3), np.nan), np.array([[0, 1, 2]])), "not finite"),
    ],
)
def test_unusable_mesh_is_refused_in_one_line(mesh, reason):
    with pytest.raises(DataError, match=reason) as error:
        render_mesh(mesh)
    assert "\n" not in str(error.value)


def test_single_point_is_a_disc_in_the_middle():
    image = render_points(np.array([[3.0, 4.0, 5.0]]), size=100)
    rows, columns = np.nonzero(ink(image))
    assert rows.mean() == pytest.approx(49.5, abs=0.6) and columns.mean() == pytest.approx(
        49.5, abs=0.6
    )
    assert ink(image).sum() == pytest.approx(np.pi * (0.03 * 100) ** 2, rel=0.4)


def test_nearer_point_hides_the_farther_whatever_the_order():
    """Seen from above: a high point over a low one; the height ramp ends yellow, starts blue."""
    frame = [[-1, -1, 0.5], [1, 1, 0.5]]
    for order in ([0, 1, 2, 3], [1, 0, 2, 3]):
        points = np.array([[0, 0, 0.0], [0, 0, 1.0], *frame])[order]
        red, _, blue = render_points(points, azimuth=-90, elevation=90, size=60)[30, 30].astype(int)
        assert red > blue + 40


def test_points_with_normals_are_lit_by_them():
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.uniform(-1, 1, (4000, 2)), np.zeros((4000, 1))], 1)
    flat = render_points(points, np.tile([0.0, 0.0, 1.0], (4000, 1)), azimuth=-90, elevation=90)
    lit = np.tile([-0.6, 0.64, 0.48], (4000, 1))
    toward_light = render_points(points, lit, azimuth=-90, elevation=90)
    away = render_points(points, -lit * [1, 1, -1], azimuth=-90, elevation=90)
    assert toward_light.mean() > flat.mean() > away.mean()
    np.testing.assert_array_equal(
        toward_light, render_points(points, -lit, azimuth=-90, elevation=90)
    )


def test_points_stay_inside_the_frame():
    image = render_points(np.random.default_rng(2).uniform(-1, 1, (3000, 3)), size=64)
    assert not ink(image)[0].any() and not ink(image)[:, 0].any() and image.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("points", "normals", "reason"),
    [
        (np.zeros((0, 3)), None, "shape"),
        (np.zeros((5, 2)), None, "shape"),
        (np.array([[0, 0, np.inf]]), None, "not finite"),
        (np.zeros((5, 3)), np.zeros((4, 3)), "normals"),
    ],
)
def test_unusable_points_are_refused(unchecked, points, normals, reason):
    with pytest.raises(DataError, match=reason):
        render_points(points, normals)


def test_other_up_axis_and_size_are_refused(unchecked):
    with pytest.raises(DataError, match="up"):
        render_mesh(CUBE, up="x")
    with pytest.raises(DataError, match="size"):
        render_mesh(CUBE, size=0)


def test_cost_stays_near_linear_in_the_faces():
    """A loose ceiling (the measured times are a third of it on an idle core), to catch a quadratic
    step.
    """
    mesh = grid(223, 224)
    start = time.perf_counter()
    render_mesh(mesh)
    assert time.perf_counter() - start < 5.0
