"""Lines of meshes: the visible edges of a cube, the outline of a ball, folds where there are any,
nothing that is hidden.
"""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from jax3dret.core.types import DataError
from jax3dret.geometry.bounding import bounding_sphere
from jax3dret.geometry.cameras import MARGIN, Camera, Cameras, camera, directions, project
from jax3dret.geometry.line_drawing import Line, line_drawing
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.smooth_surface import smooth_surface

SIZE = 448


def looking(
    azimuth: float, elevation: float, *, distance: float = 4.0, flat: bool = False
) -> Camera:
    at = distance * directions(np.array([float(azimuth)]), np.array([float(elevation)]))
    return camera(Cameras("test", at, 0.0, 2 * MARGIN) if flat else Cameras("test", at), 0)


def mesh_of(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.array(shape.vertices, np.float64), np.array(shape.faces, np.int32))


def box(low=(-1, -1, -1), high=(1, 1, 1)) -> Mesh:
    return mesh_of(trimesh.creation.box(bounds=[low, high]))


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    faces = [m.faces + start for m, start in zip(meshes, starts, strict=False)]
    return Mesh(
        np.concatenate([m.vertices for m in meshes]), np.concatenate(faces).astype(np.int32)
    )


def sampled(ends: np.ndarray, eye: Camera) -> np.ndarray:
    """Places of the picture along edges [E, 2, 3] of a normalised object."""
    share = np.linspace(0, 1, 200)[:, None, None]
    places = ends[:, 0] * (1 - share) + ends[:, 1] * share
    return project(eye, places.reshape(-1, 3), SIZE)[:, :2]


def away(places: np.ndarray, lines: list[Line]) -> np.ndarray:
    """How far each place lies from the nearest sample of the lines."""
    return cKDTree(np.concatenate([line.points for line in lines])).query(places)[0]


def kinds(lines: list[Line]) -> set[str]:
    return {line.kind for line in lines}


@pytest.mark.parametrize("renderer", ["embree", "zbuffer"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_cube_shows_its_nine_visible_edges_and_no_other(renderer, flat):
    eye = looking(35, 25, flat=flat)
    lines = line_drawing(box(), eye, renderer=renderer)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T / np.sqrt(3)
    edges = np.array(
        [
            (a, b)
            for i, a in enumerate(signs)
            for b in signs[:i]
            if np.isclose(abs(a - b).sum(), 2 / np.sqrt(3))
        ]
    )
    assert len(edges) == 12
    hidden = (
        (edges == np.array([-1, -1, -1]) / np.sqrt(3)).all(2).any(1)
    )  # the corner that is farthest from the viewer
    assert hidden.sum() == 3
    assert kinds(lines) == {"crease"}
    drawn = np.concatenate([line.points for line in lines])
    seen = sampled(edges[~hidden], eye)
    assert away(seen, lines).max() < 3.0  # samples lie two pixels apart
    assert cKDTree(seen).query(drawn)[0].max() < 1.0
    # Hidden edges cross visible ones in the picture, and lie on none.
    assert (away(sampled(edges[hidden], eye), lines) < 4.0).mean() < 0.2
    # Corners end a stroke: nine edges, nine strokes; in perspective one corner is so blunt that its
    # two edges are drawn as one.
    assert len(lines) == (9 if flat else 8)


def test_a_ball_is_one_circle_of_the_right_radius():
    eye = looking(20, 10)
    ball = mesh_of(
        trimesh.creation.icosphere(subdivisions=4, radius=7.0).apply_translation([100, 5, -3])
    )
    lines = line_drawing(ball, eye)
    assert len(lines) == 1 and lines[0].kind == "contour"
    points = lines[0].points
    assert np.hypot(*(points[0] - points[-1])) < 3.0
    radius = np.hypot(*(points - SIZE / 2).T)
    # The tangent cone from distance d has half angle asin(1 / d); a circle through the equator
    # would be 3 % smaller.
    wanted = SIZE / (2 * eye.half) / np.sqrt(4.0**2 - 1)
    assert np.abs(radius / wanted - 1).max() < 0.01
    angle = np.sort(np.arctan2(*(points - SIZE / 2).T))
    assert np.diff(angle).max() < 0.05


def test_hidden_lines_are_removed():
    eye = looking(0, 0)
    scene = joined(box((0.5, -1, -1), (0.7, 1, 1)), box((-1, -0.4, -0.4), (-0.5, 0.3, 0.2)))
    lines = line_drawing(scene, eye)
    front = line_drawing(scene._replace(faces=scene.faces[:12]), eye)

    def inner(some):
        return [p for line in some for p in line.points if np.abs(p - SIZE / 2).max() < 70]

    assert not inner(front) and not inner(lines)
    # From the other side the small box is seen whole, and the plate behind it only around it.
    assert len(inner(line_drawing(scene, looking(180, 0)))) > 60


def test_an_occluded_edge_ends_where_the_occluder_begins():
    # A long bar behind a block: its upper edges show on both sides of the block.
    eye = looking(0, 0, flat=True)
    scene = joined(box((0.4, -0.3, -0.5), (0.8, 0.3, 0.5)), box((-0.1, -1, -0.1), (0.1, 1, 0.1)))
    lines = line_drawing(scene, eye)
    radius = smallest_radius(scene)
    upper = (SIZE / 2) * (1 - 0.1 / (radius * MARGIN))
    across = (
        np.concatenate([p.points for p in lines if np.abs(p.points[:, 1] - upper).max() < 1.5])[
            :, 0
        ]
        - SIZE / 2
    )
    edge = 0.3 / (radius * MARGIN) * SIZE / 2
    assert np.abs(across).min() == pytest.approx(edge, abs=3.5)
    assert across.min() < 0 < across.max()


def smallest_radius(mesh: Mesh) -> float:
    return bounding_sphere(mesh.vertices)[1]


def test_an_open_sheet_shows_its_boundary_and_not_its_diagonal():
    sheet = Mesh(
        np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1.0]]),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
    )
    for azimuth in (10, 190):  # either side
        lines = line_drawing(sheet, looking(azimuth, 5))
        assert kinds(lines) == {"boundary"} and len(lines) == 4
        assert away(np.array([[SIZE / 2, SIZE / 2]]), lines)[0] > 80


def test_a_coarse_cylinder_is_two_circles_and_two_sides():
    cylinder = mesh_of(trimesh.creation.cylinder(0.5, 2.0, sections=16))
    lines = line_drawing(cylinder, looking(8, 25))
    contours = [line for line in lines if line.kind == "contour"]
    assert kinds(lines) == {"contour", "crease"} and len(contours) == 2
    for line in contours:
        assert np.ptp(line.points[:, 1]) > 150 and np.ptp(line.points[:, 0]) < 15  # upright
    assert (
        sum(np.hypot(*np.diff(line.points, axis=0).T).sum() for line in lines) < 1400
    )  # 16 sides would double it


def wavy(phase: float = 0.0) -> Mesh:
    """z = 0.05 cos(6 x + phase) over the square from -1 to 1."""
    x, y = np.meshgrid(np.linspace(-1, 1, 121), np.linspace(-1, 1, 9), indexing="ij")
    vertices = np.stack([x, y, 0.05 * np.cos(6 * x + phase)], 2).reshape(-1, 3)
    i, j = (part.ravel() for part in np.meshgrid(np.arange(120), np.arange(8), indexing="ij"))
    a = 9 * i + j
    return Mesh(
        vertices,
        np.concatenate([np.stack([a, a + 9, a + 10], 1), np.stack([a, a + 10, a + 1], 1)]).astype(
            np.int32
        ),
    )


def test_suggestive_contours_lie_on_the_far_side_of_ridges():
    # Seen along x from above the slopes: no outline. The radial curvature is that along x, zero
    # where the cosine is; it grows towards the viewer at +x on the side of each ridge that looks
    # away.
    eye = looking(0, 30, flat=True)
    lines = line_drawing(wavy(), eye)
    assert kinds(lines) == {"boundary", "suggestive"}
    found = sorted(float(line.points[:, 1].mean()) for line in lines if line.kind == "suggestive")
    x = (-np.pi / 2 + 2 * np.pi * np.arange(-1, 2)) / 6
    x = x[np.abs(x) < 0.95]
    centre, radius = bounding_sphere(wavy().vertices)
    wanted = sorted(project(eye, (np.stack([x, 0 * x, 0 * x], 1) - centre) / radius, SIZE)[:, 1])
    np.testing.assert_allclose(found, wanted, atol=1.5)
    other = [
        line
        for line in line_drawing(wavy(), looking(180, 30, flat=True))
        if line.kind == "suggestive"
    ]
    assert sorted(float(line.points[:, 1].mean()) for line in other) == pytest.approx(
        wanted, abs=3
    )  # the other flanks, mirrored
    assert "suggestive" not in kinds(line_drawing(wavy(), eye, suggestive=False))
    # Turned faces: the back of the sheet.
    turned = wavy()._replace(faces=wavy().faces[:, ::-1])
    assert "suggestive" not in kinds(line_drawing(turned, eye))


def test_a_torus_has_suggestive_contours_where_balls_have_none():
    eye = looking(0, 50)
    torus = mesh_of(trimesh.creation.torus(1.0, 0.45, major_sections=64, minor_sections=32))
    assert "suggestive" in kinds(line_drawing(torus, eye))
    for convex in (
        trimesh.creation.icosphere(4),
        trimesh.creation.icosphere(4).apply_scale([1, 0.4, 2]),
        trimesh.creation.cylinder(0.5, 2),
    ):
        assert "suggestive" not in kinds(line_drawing(mesh_of(convex), eye))


def test_slivers_and_seams_draw_nothing():
    # A square of two halves whose seam is split at slightly different places, as Boolean operations
    # leave it: with a sliver between.
    places = np.array(
        [[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1], [1e-9, 0, -3e-6], [0, -1, 0], [0, 1, 0.0]]
    )
    faces = np.array([[0, 1, 4], [0, 4, 5], [1, 6, 4], [5, 4, 6], [5, 6, 3], [6, 2, 3]], np.int32)
    solid = trimesh.Trimesh(places, faces, process=False)
    lines = line_drawing(mesh_of(solid), looking(0, 0))
    inner = [p for line in lines for p in line.points if np.abs(p - SIZE / 2).max() < 80]
    assert not inner
    # Faces that share no vertices (as STL has them) are joined by place.
    cube = box()
    loose = Mesh(cube.vertices[cube.faces.ravel()], np.arange(36, dtype=np.int32).reshape(-1, 3))
    whole, apart = line_drawing(cube, looking(35, 25)), line_drawing(loose, looking(35, 25))
    assert len(whole) == len(apart) == 8 and kinds(apart) == {"crease"}


def test_the_up_axis_turns_the_mesh():
    tall = box((-0.2, -0.2, -1), (0.2, 0.2, 1))
    lying = tall._replace(vertices=tall.vertices[:, [0, 2, 1]] * [1, 1, -1])
    for line, other in zip(
        line_drawing(tall, looking(20, 20)),
        line_drawing(lying, looking(20, 20), up_axis="y"),
        strict=True,
    ):
        np.testing.assert_allclose(line.points, other.points, atol=1e-6)


def test_lines_repeat():
    mesh = mesh_of(trimesh.creation.torus(1.0, 0.45))
    first, second = (line_drawing(mesh, looking(30, 30)) for _ in range(2))
    assert [line.kind for line in first] == [line.kind for line in second]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.points, b.points)


@pytest.mark.parametrize(
    ("vertices", "faces", "reason"),
    [
        (np.zeros((3, 3)), np.zeros((0, 3), np.int32), "no faces"),
        (np.zeros((0, 3)), np.zeros((0, 3), np.int32), "no faces"),
        (
            np.array([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]]),
            np.array([[0, 1, 2]]),
            "1 of 3 vertices are not finite",
        ),
        (np.eye(3), np.array([[0, 1, 3]]), "name vertex 3"),
        (np.eye(3), np.array([[0, 1, -1]]), "name vertex -1"),
        (np.ones((3, 3)), np.array([[0, 1, 2]]), "in one place"),
        (np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0.0]]), np.array([[0, 1, 2]]), "no area"),
        (np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0.0]]), np.array([[0, 1, 1]]), "no area"),
    ],
)
def test_degenerate_meshes_are_refused(vertices, faces, reason):
    with pytest.raises(DataError, match=reason):
        line_drawing(Mesh(vertices, faces), looking(0, 0))


def test_vertices_that_no_face_uses_do_not_matter():
    cube = box()
    stray = cube._replace(vertices=np.concatenate([cube.vertices, [[np.nan, 0, 0], [50, 0, 0]]]))
    assert len(line_drawing(stray, looking(35, 25))) == 8


# -------------------------------------------------------------------------------------------------------------- curvature


def test_curvature_of_a_ball_and_of_a_cylinder():
    ball = smooth_surface(mesh_of(trimesh.creation.icosphere(subdivisions=3, radius=2.0)))
    assert ball.closed and not len(ball.sharp)
    np.testing.assert_allclose(ball.normals, ball.points / 2.0, atol=0.02)
    tangent = np.eye(3) - ball.normals[:, :, None] * ball.normals[:, None]
    np.testing.assert_allclose(
        ball.curvature, tangent / 2.0, atol=0.04
    )  # outwards; a hollow would be negative
    pipe = smooth_surface(mesh_of(trimesh.creation.cylinder(0.5, 2.0, sections=64)))
    side = np.abs(pipe.normals[:, 2]) < 0.5
    assert side.sum() == 128 and (~side).sum() == 2 * 65 and len(pipe.sharp) == 128
    around = np.cross([0, 0, 1], pipe.normals[side])
    np.testing.assert_allclose(
        np.einsum("pi,pij,pj->p", around, pipe.curvature[side], around), 2.0, rtol=0.02
    )
    np.testing.assert_allclose(pipe.curvature[side][:, 2, 2], 0.0, atol=1e-3)
    np.testing.assert_allclose(pipe.curvature[~side], 0.0, atol=1e-9)
    np.testing.assert_allclose(np.abs(pipe.normals[~side][:, 2]), 1.0)


def test_sharp_edges():
    wedge = Mesh(
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0.9]]), np.array([[0, 1, 2], [1, 0, 3]])
    )  # turned by 42 degrees
    for crease, count in ((35.0, 5), (50.0, 4)):
        surface = smooth_surface(wedge, crease=crease)
        assert len(surface.sharp) == count and not surface.closed
        assert len(surface.points) == (6 if count == 5 else 4)
    three = Mesh(
        np.concatenate([wedge.vertices, [[0, 0, 1]]]), np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]])
    )
    assert (smooth_surface(three, crease=170.0).sharp_faces[:, 1] < 0).all()
