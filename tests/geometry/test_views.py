"""The view renderer against scenes whose pictures are known in closed form, and its two halves
against each other.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry import cameras as sets
from jax3dret.geometry import raycast, views
from jax3dret.geometry.cameras import Cameras, camera, project
from jax3dret.geometry.mesh import Mesh, MeshError
from jax3dret.geometry.views import WHAT, Views, montage, render_point_views, render_views

needs_embree = pytest.mark.skipif(not raycast.available(), reason="embreex is not installed")
RENDERERS = [pytest.param("embree", marks=needs_embree), "zbuffer"]
SQUARE = Mesh(
    np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], float),
    np.array([[0, 1, 2], [0, 2, 3]], np.int32),
)
CUBE_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
# Faces 0, 1: -x; 2, 3: +x; 4, 5: -y; 6, 7: +y; 8, 9: -z; 10, 11: +z.
CUBE_FACES = [
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
]
CUBE = Mesh(CUBE_CORNERS, np.array([*CUBE_FACES, [1, 5, 7], [1, 7, 3]], np.int32))


def front(elevation: float = 0.0) -> Cameras:
    return sets.ring(1, elevation)


def sphere(rows: int = 40, columns: int = 80, bumps: float = 0.0) -> Mesh:
    """A closed surface round the origin: a unit sphere, or with bumps on it."""
    v, u = np.meshgrid(
        np.linspace(0, np.pi, rows + 1), np.arange(columns) * 2 * np.pi / columns, indexing="ij"
    )
    radius = 1 + bumps * np.sin(5 * u) * np.sin(4 * v)
    points = radius[..., None] * np.stack(
        [np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1
    )
    i, j = (axis.reshape(-1) for axis in np.indices((rows, columns)))
    k = (j + 1) % columns
    a, b, c, d = i * columns + j, i * columns + k, (i + 1) * columns + k, (i + 1) * columns + j
    return Mesh(
        points.reshape(-1, 3),
        np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)]).astype(np.int32),
    )


def soup(faces: int, seed: int = 0) -> Mesh:
    """Triangles anywhere, through each other."""
    rng = np.random.default_rng(seed)
    corners = rng.normal(size=(faces, 1, 3)) + 0.4 * rng.normal(size=(faces, 3, 3))
    return Mesh(corners.reshape(-1, 3), np.arange(3 * faces, dtype=np.int32).reshape(-1, 3))


def joined(*meshes: Mesh) -> Mesh:
    start = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + first for mesh, first in zip(meshes, start, strict=False)]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces).astype(np.int32)
    )


def centre_of(mask: np.ndarray) -> tuple[float, float]:
    row, column = np.nonzero(mask)
    return float(row.mean()), float(column.mean())


@pytest.mark.parametrize("renderer", RENDERERS)
def test_depth_and_normals_of_a_sphere(renderer):
    got = render_views(sphere(160, 320), front(20), size=64, renderer=renderer, what=WHAT)
    eye = camera(front(20), 0)
    row, column = np.indices((64, 64)).reshape(2, -1) + 0.5
    _, towards = sets.rays(eye, column, row, 64)
    # |position + t direction| = 1, the nearer root; the direction has one unit of depth.
    a, b, c = (towards**2).sum(1), towards @ eye.position, eye.position @ eye.position - 1
    root = (b * b - a * c).reshape(64, 64)
    inside = root > 0.02
    np.testing.assert_array_equal(got.mask[0][np.abs(root) > 0.02], inside[np.abs(root) > 0.02])
    depth = ((-b.reshape(64, 64) - np.sqrt(np.maximum(root, 0))) / a.reshape(64, 64))[inside]
    np.testing.assert_allclose(got.depth[0][inside], depth, atol=3e-3)
    points = eye.position + depth[:, None] * towards[inside.reshape(-1)]
    assert (np.einsum("pd,pd->p", got.normals[0][inside], points) > 0.998).all()
    assert np.isinf(got.depth[0][~got.mask[0]]).all() and (got.normals[0][~got.mask[0]] == 0).all()
    # 1 / 1.05 of the frame, by the choice of the distance.
    width = got.mask[0].any(0).sum()
    assert width == pytest.approx(
        64 * np.tan(np.arcsin(np.sin(np.deg2rad(sets.FOV / 2)) / 1.05)) / (16 / 35), abs=1
    )


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize(
    "cameras", [front(), sets.parallel(front())], ids=["perspective", "parallel"]
)
def test_a_tilted_plane_is_exact(renderer, cameras):
    """A square turned 30 degrees about y: its depths are a plane, its grey the cosine."""
    turn = np.deg2rad(30)
    rotate = np.array(
        [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    )
    tilted = SQUARE._replace(vertices=SQUARE.vertices @ rotate.T * 3 + 7)
    got = render_views(tilted, cameras, size=48, renderer=renderer, what=WHAT)
    seen = got.mask[0]
    normal = rotate @ [1, 0, 0]
    np.testing.assert_allclose(
        got.normals[0][seen], np.broadcast_to(normal, (seen.sum(), 3)), atol=1e-6
    )
    row, column = np.nonzero(seen)
    origins, towards = sets.rays(camera(cameras, 0), column + 0.5, row + 0.5, 48)
    np.testing.assert_allclose(
        got.depth[0][seen], -(origins @ normal) / (towards @ normal), rtol=1e-5
    )
    inner = got.shaded[0][seen & (np.abs(got.shaded[0].astype(int) - 178) < 60)]
    assert (inner == round(255 * 0.7 * (0.3 + np.cos(turn)))).mean() > 0.8
    # The upper edge (z = 1) was turned towards the camera.
    rows = np.flatnonzero(seen.any(1))
    assert got.depth[0][rows[0]].min() < got.depth[0][rows[-1]].min()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_cube_from_each_side_shows_that_side(renderer):
    got = render_views(CUBE, sets.ring(4, 0), size=40, renderer=renderer, what=WHAT)
    for view, pair in enumerate(
        [(2, 3), (6, 7), (0, 1), (4, 5)]
    ):  # +x, +y, -x, -y: counter-clockwise
        assert set(np.unique(got.face[view])) == {-1, *pair}
        row, column = np.nonzero(got.mask[view])
        assert (
            row.min() == 39 - row.max() and column.min() == 39 - column.max() == row.min()
        )  # centred, square
        np.testing.assert_allclose(
            got.depth[view][got.mask[view]],
            np.linalg.norm(sets.ring(1).positions) - 3**-0.5,
            rtol=1e-6,
        )
        assert (
            got.shaded[view][row.min() + 1 : row.max(), row.min() + 1 : row.max()]
            == round(255 * 0.91)
        ).all()
    top = render_views(CUBE, front(90), size=40, renderer=renderer, what=("face",))
    assert set(np.unique(top.face)) == {-1, 10, 11}


@pytest.mark.parametrize("renderer", RENDERERS)
def test_pictures_are_neither_mirrored_nor_upside_down_nor_transposed(renderer):
    """Small balls where the axes end, in a frame of tiny ones that fixes the bounding sphere."""
    small = sphere(6, 8)

    def ball(x, y, z):
        return Mesh(small.vertices * 0.05 + [x, y, z], small.faces)

    marks = {"x": (0.9, 0, 0), "y": (0, 0.9, 0), "z": (0, 0, 0.9)}
    frame = [ball(*-np.array(place)) for place in marks.values()]
    scene = joined(*(ball(*place) for place in marks.values()), *frame)
    per = len(small.faces)
    got = render_views(scene, sets.ring(4, 10), size=96, renderer=renderer, what=("face",)).face
    # Where +x, +y, +z are seen from +x, +y, -x, -y: row above the middle, column left or right of
    # it.
    for view, (x, y) in enumerate(
        [("near", "right"), ("left", "near"), ("far", "left"), ("right", "far")]
    ):
        place = {
            name: centre_of(got[view] // per == i)
            for i, name in enumerate(marks)
            if (got[view] // per == i).any()
        }
        assert place["z"][0] < 25 and abs(place["z"][1] - 47.5) < 3
        for name, side in (("x", x), ("y", y)):
            if side in ("left", "right"):
                assert abs(place[name][0] - 47.5) < 5 and (place[name][1] < 25) == (side == "left")
            else:  # seen from 10 degrees above, what is near is a little below the middle
                assert abs(place[name][1] - 47.5) < 3 and (place[name][0] > 47.5) == (
                    side == "near"
                )
    turned = Mesh(scene.vertices[:, [0, 2, 1]] * [1, 1, -1], scene.faces)  # z up -> y up
    again = render_views(
        turned, sets.ring(4, 10), size=96, renderer=renderer, what=("face",), up_axis="y"
    ).face
    assert (again == got).mean() > 0.999


@needs_embree
@pytest.mark.parametrize("mesh", [sphere(40, 60, 0.1), soup(300)], ids=["bumps", "soup"])
@pytest.mark.parametrize(
    "cameras",
    [sets.viewgcn(12), sets.parallel(sets.ring(3)), sets.objaverse(2)],
    ids=lambda c: c.name,
)
def test_both_renderers_see_the_same(mesh, cameras):
    cameras = cameras._replace(positions=cameras.positions[:3])
    rays_see, buffer_sees = (
        render_views(mesh, cameras, size=112, renderer=name, what=WHAT, background="black")
        for name in ("embree", "zbuffer")
    )
    same = rays_see.face == buffer_sees.face
    assert same.mean() > 0.999
    both = same & rays_see.mask
    assert both.mean() > 0.1
    np.testing.assert_allclose(rays_see.depth[both], buffer_sees.depth[both], atol=1e-4)
    np.testing.assert_array_equal(rays_see.normals[both], buffer_sees.normals[both])
    difference = np.abs(rays_see.shaded.astype(int) - buffer_sees.shaded)
    assert (difference > 2).mean() < 2e-3 and (rays_see.mask == buffer_sees.mask).mean() > 0.9995


@pytest.mark.parametrize("renderer", RENDERERS)
def test_supersampling_is_the_mean_of_five_places_on_edges_only(renderer):
    plain, smooth = (
        render_views(SQUARE, front(25), size=32, renderer=renderer, supersample=n, what=WHAT)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(plain.face, smooth.face)
    # The square's outline in the picture, and with it the coverage of every pixel.
    scene = SQUARE.vertices / np.sqrt(2)
    at = project(camera(front(25), 0), scene, 32)[:, :2]

    def covered(column, row):
        sides = [(at[(i + 1) % 4] - at[i], at[i]) for i in range(4)]
        turns = [d[0] * (row - p[1]) - d[1] * (column - p[0]) for d, p in sides]
        return np.all(np.array(turns) < 0, 0) | np.all(np.array(turns) > 0, 0)

    row, column = np.indices((32, 32)) + 0.5
    centre = covered(column, row)
    np.testing.assert_array_equal(plain.mask[0], centre)
    quarters = [covered(column + dx, row + dy) for dx in (-0.25, 0.25) for dy in (-0.25, 0.25)]
    share = (centre + np.sum(quarters, 0)) / 5
    # Only pixels beside one that differs are refined.
    differs = np.zeros((32, 32), bool)
    for axis in (0, 1):
        step = np.diff(centre.astype(int), axis=axis) != 0
        pad = [(0, 0), (0, 0)]
        for pad[axis] in ((0, 1), (1, 0)):
            differs |= np.pad(step, pad)
    share = np.where(differs, share, centre)
    grey = 0.7 * (0.3 + np.cos(np.deg2rad(25)))
    np.testing.assert_allclose(smooth.shaded[0], 255 * (1 - share + share * grey), atol=0.6)
    assert len(np.unique(smooth.shaded)) > 3 and set(np.unique(plain.shaded)) == {
        round(255 * grey),
        255,
    }


@pytest.mark.parametrize("renderer", RENDERERS)
def test_what_must_not_matter(renderer):
    def draw(mesh: Mesh) -> Views:
        return render_views(mesh, sets.ring(3), size=56, renderer=renderer, what=("shaded", "mask"))

    mesh = sphere(12, 16, 0.2)
    reference = draw(mesh)
    assert reference.mask.mean() > 0.2

    def same(other: Mesh, share: float = 1.0) -> None:
        got = draw(other)
        assert (got.mask == reference.mask).mean() >= share
        assert (np.abs(got.shaded.astype(int) - reference.shaded) <= 1).mean() >= share

    same(Mesh(mesh.vertices * 2.0**20, mesh.faces))
    same(
        Mesh(mesh.vertices + 1e6, mesh.faces), 0.995
    )  # rounding of the coordinates themselves: 1e-10
    same(Mesh(mesh.vertices, mesh.faces[:, [0, 2, 1]]))  # winding
    same(
        Mesh(
            mesh.vertices,
            np.concatenate([mesh.faces, mesh.faces[:, [1, 2, 0]], mesh.faces[::3, [2, 1, 0]]]),
        )
    )  # repeated
    flat = np.array([[0, 0, 5], [3, 3, 3], [7, 8, 7]], np.int32)
    same(Mesh(mesh.vertices, np.concatenate([flat, mesh.faces])))  # faces without area
    same(
        Mesh(np.concatenate([mesh.vertices, [[1e3, 0, 0]]]), mesh.faces)
    )  # a vertex that no face uses


@pytest.mark.parametrize("renderer", RENDERERS)
def test_one_triangle_and_its_edge(renderer):
    triangle = Mesh(
        np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1]], float), np.array([[0, 1, 2]], np.int32)
    )
    got = render_views(
        triangle, sets.ring(4, 0), size=32, renderer=renderer, what=("face", "shaded")
    )
    assert (got.face[0] == 0).sum() == pytest.approx((got.face[2] == 0).sum(), abs=16) and (
        got.face[0] == 0
    ).sum() > 100
    assert (got.face[1] == 0).mean() < 0.05 and np.isfinite(got.shaded).all()  # edge-on
    low = np.nonzero(got.face[0] == 0)
    assert (
        low[0].max() > 24 and low[1][low[0] > 22].min() < 8
    )  # the right angle is below, on the left


@pytest.mark.parametrize(
    ("mesh", "reason"),
    [
        (Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32)), "no faces"),
        (Mesh(CUBE.vertices, np.zeros((0, 3), np.int32)), "8 vertices and no faces"),
        (Mesh(CUBE.vertices, np.array([[0, 1, 8]], np.int32)), "name vertex 8"),
        (Mesh(CUBE.vertices, np.array([[0, 1, -1]], np.int32)), "name vertex -1"),
        (
            Mesh(np.where(np.arange(8)[:, None] == 3, np.nan, CUBE.vertices), CUBE.faces),
            "1 of 8 vertices are not finite",
        ),
        (Mesh(np.ones((3, 3)), np.array([[0, 1, 2]], np.int32)), "no size"),
    ],
)
def test_unusable_meshes(mesh, reason):
    with pytest.raises(MeshError, match=reason):
        render_views(mesh, front(), size=16)


def test_settings_that_do_not_exist(unchecked):
    for wrong, reason in (
        ({"size": 4}, "size=4"),
        ({"background": "blue"}, "'white' or 'black'"),
        ({"supersample": 3}, "1 or 2"),
        ({"renderer": "gl"}, "'auto', 'embree' or 'zbuffer'"),
        ({"what": ("colour",)}, "views of colour"),
        ({"what": ()}, "views of nothing"),
        ({"up_axis": "x"}, "up axis 'x'"),
    ):
        with pytest.raises(ConfigError, match=reason):
            render_views(CUBE, front(), **{"size": 16, **wrong})
    with pytest.raises(DataError, match="camera 0 of 'near' stands inside"):
        render_views(CUBE, Cameras("near", np.array([[0.5, 0, 0]])), size=16)


def test_without_embreex_the_zbuffer_is_taken(monkeypatch):
    monkeypatch.setattr(raycast, "available", lambda: False)
    assert views.choose_renderer() == "zbuffer"
    with pytest.raises(ConfigError, match="pip install embreex"):
        views.choose_renderer("embree")


def digest() -> str:
    """Of pictures of a mesh with many ties."""
    mesh = sphere(30, 40, 0.1)
    ties = Mesh(
        mesh.vertices, np.concatenate([mesh.faces, mesh.faces[::3, [2, 1, 0]], mesh.faces[::7]])
    )
    got = render_views(ties, sets.ring(3), size=64, what=WHAT)
    return hashlib.sha256(b"".join(part.tobytes() for part in got)).hexdigest()


def _send(pipe) -> None:
    pipe.send(digest())


def test_every_process_gives_the_same_bytes():
    here = digest()
    assert digest() == here
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_send, args=(send,))
    child.start()
    assert receive.poll(60) and receive.recv() == here
    child.join(10)
    # A process that starts from nothing.
    code = f"import runpy; print(runpy.run_path({__file__!r})['digest']())"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == here


# Points.

# So near that a part of the object lies outside the frame.
NEAR = Cameras("near", 1.3 * front(30).positions / np.linalg.norm(front(30).positions))


def splat_reference(points, eye, radius, size):
    """The nearest point whose disc, round the pixel it falls into, covers each pixel; one pixel and
    one point at a time.
    """
    face, depth = np.full((size, size), -1), np.full((size, size), np.inf)
    for i, (column, row, far) in enumerate(project(eye, points, size)):
        reach = np.floor(4 * radius * size / (2 * eye.half * (far if eye.fov else 1))) / 4
        for r in range(size):
            for c in range(size):
                if (c - np.floor(column)) ** 2 + (
                    r - np.floor(row)
                ) ** 2 <= reach**2 and far < depth[r, c]:
                    face[r, c], depth[r, c] = i, far
    return face


@pytest.mark.parametrize(
    "cameras",
    [front(30), sets.parallel(front(30)), NEAR],
    ids=["perspective", "parallel", "cropped"],
)
def test_discs_against_a_loop(cameras):
    points = np.random.default_rng(1).normal(size=(40, 3))
    points = (points - sets_centre(points)[0]) / sets_centre(points)[1]
    got = render_point_views(
        points, cameras, size=24, radius=0.12, what=("face", "depth", "mask"), supersample=1
    )
    np.testing.assert_array_equal(
        got.face[0], splat_reference(points, camera(cameras, 0), 0.12, 24)
    )
    seen = got.face[0] >= 0
    depth = project(camera(cameras, 0), points, 24)[:, 2]
    np.testing.assert_allclose(got.depth[0][seen], depth[got.face[0][seen]], rtol=1e-5)
    np.testing.assert_array_equal(got.mask[0], seen)


def sets_centre(points):
    from jax3dret.geometry.bounding import bounding_sphere

    return bounding_sphere(points)


def test_points_look_like_the_surface_they_lie_on():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(8000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    signs = rng.choice([-1.0, 1.0], (8000, 1))  # either side
    cloud = render_point_views(
        normals * [1, 2, 0.5], front(30), normals=normals * signs, size=64, what=("shaded", "mask")
    )
    surface = sphere(60, 90)
    flat = Mesh(surface.vertices * [1, 2, 0.5], surface.faces)
    shape = render_views(flat, front(30), size=64, what=("mask",))
    assert (cloud.mask == shape.mask).mean() > 0.97
    assert cloud.shaded[0][cloud.mask[0]].std() > 15
    # Without normals: the nearer, the lighter; +x is nearest.
    plain = render_point_views(normals, front(0), size=64, what=("shaded",)).shaded[0]
    assert (
        plain[32, 32] == pytest.approx(255 * 0.91, abs=3)
        and plain[32, 8] < plain[32, 20] < plain[32, 32]
    )


def test_points_keep_left_and_right():
    points = np.array([[0, 0.9, 0], [0, -0.9, 0], [0, 0, 0.9], [0, 0, -0.9]], float)
    face = render_point_views(
        points, front(0), size=33, radius=0.05, what=("face",), supersample=1
    ).face[0]
    right, left, top, bottom = (centre_of(face == i) for i in range(4))
    assert right[1] > 28 and left[1] < 4 and top[0] < 4 and bottom[0] > 28


@pytest.mark.parametrize(
    ("points", "more", "reason"),
    [
        (np.zeros((0, 3)), {}, "with N at least 1"),
        (np.zeros((4, 2)), {}, "shape"),
        (np.array([[0, 0, np.inf]]), {}, "not all finite"),
        (np.ones((5, 3)), {}, "no size"),
        (np.eye(3), {"normals": np.ones((2, 3))}, "shapes must be equal"),
        (np.eye(3), {"what": ("normals",)}, "have none"),
    ],
)
def test_unusable_points(unchecked, points, more, reason):
    with pytest.raises(DataError, match=reason):
        render_point_views(points, front(), size=16, **more)


def test_montage_has_a_row_for_each_object():
    images = np.arange(2 * 3).reshape(2, 3, 1, 1).repeat(4, 2).repeat(4, 3).astype(np.uint8)
    sheet = montage(images, gap=1)
    assert sheet.shape == (9, 14) and sheet[0, 13] == 2 and sheet[8, 0] == 3 and sheet[4, 0] == 128
