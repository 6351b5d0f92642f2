"""The soft renderer: its gradient against finite differences, its pictures against a literal z-buffer and the cameras' frame."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.geometry import cameras
from jax3dret.ops import soft_render
from jax3dret.ops.soft_render import render_meshes, render_points

SIZE = 32
AZIMUTH = np.array([[20.0, -75.0], [130.0, 250.0]], np.float32)
ELEVATION = np.array([[30.0, -10.0], [-55.0, 70.0]], np.float32)
# A tetrahedron, and a plate that cuts through it.
VERTICES = np.array(
    [[0.7, -0.3, 0.1], [-0.5, 0.6, 0.2], [-0.4, -0.6, 0.5], [0.1, 0.2, -0.7], [0.6, 0.5, 0.3], [-0.7, 0.1, 0.4], [0.2, -0.7, -0.5]]
)  # fmt: skip
LIGHT = np.array([[0.3, 0.9, -0.2], [0.5, 1.0, -0.7]])
PAINT, PAPER = (0.8, 0.6, 0.4), (0.0, 0.0, 1.0)
FACES = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0], [4, 5, 6], [0, 0, 0]])


@functools.cache
def cloud():
    points = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    return 0.8 * points / np.abs(points).max()


def clouds_picture(azimuth, elevation, points):
    return render_points(points, azimuth, elevation, 1.1, size=SIZE, radius=0.2, slices=4, colors=jnp.abs(points))


def grey_picture(azimuth, elevation, points):
    return render_points(points, azimuth, elevation, 2.5, size=SIZE, radius=0.2, projection="perspective")


def meshes_picture(azimuth, elevation, mesh):
    settings = {"size": SIZE, "faces_per_pixel": 3, "color": PAINT, "background": PAPER}
    return render_meshes(*mesh, azimuth, elevation, light=jnp.asarray(LIGHT), **settings)


# The second item is the mirrored one, without its plate.
MESH = (
    np.stack([VERTICES, VERTICES * [1, -1, 1]]),
    np.stack([FACES, FACES]),
    np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool),
)
SHAPES = {clouds_picture: cloud(), grey_picture: cloud(), meshes_picture: MESH}


@pytest.fixture(scope="module", autouse=True)
def rows_in_blocks():
    """Meshes are drawn seven rows at a time, and the last block of 32 is cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soft_render, "_PIECE", 7 * SIZE * 2 * len(FACES))
        yield


@functools.cache
def compiled(picture):
    """(angles [2, B, V], shape, target, weights) -> value, picture and slope of a loss, in float64: compiled once."""

    def loss(angles, shape, target, weights):
        image = picture(*angles, shape)
        return jnp.sum(weights * (image - target) ** 2), image

    # Little optimization: what takes time is to compile.
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=options)

    def call(angles, shape=SHAPES[picture], target=0.5, weights=1.0):
        with jax.enable_x64(True):
            full = [np.broadcast_to(np.asarray(x, np.float64), (2, 2, SIZE, SIZE, 3)) for x in (target, weights)]
            wide = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x, shape)
            (value, image), slope = run(np.asarray(angles, np.float64), wide, *full)
            return float(value), np.asarray(image), np.asarray(slope)

    return call


@pytest.mark.parametrize("picture", SHAPES)
def test_the_gradient_of_the_angles_is_that_of_finite_differences(picture):
    run, step = compiled(picture), 1e-6
    weights = np.random.default_rng(1).normal(size=(2, 2, SIZE, SIZE, 3))
    angles = np.stack([AZIMUTH, ELEVATION]).astype(np.float64)
    found = run(angles, weights=weights)[2]
    for index in np.ndindex(angles.shape):
        moved = [angles.copy(), angles.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        high, low = (run(m, weights=weights)[0] for m in moved)
        assert abs(high - low) / (2 * step) > 1e-4
        np.testing.assert_allclose(found[index], (high - low) / (2 * step), rtol=1e-5, atol=1e-7, err_msg=str(index))


@pytest.mark.parametrize("picture", SHAPES)
def test_the_gradient_leads_back_to_the_view_of_a_picture(picture):
    # Not only the slope at a point: from 5 degrees away on either side it points home, for azimuth and for elevation.
    run = compiled(picture)
    goal = np.full((2, 2, 2), 40.0)
    target = run(goal)[1]
    off = np.array([[5.0, -5.0], [5.0, -5.0]])
    for angle in (0, 1):
        start = goal.copy()
        start[angle] += off
        slope = run(start, target=target)[2][angle]
        np.testing.assert_array_equal(np.sign(slope), np.sign(off), err_msg=("azimuth", "elevation")[angle])


@pytest.mark.parametrize(("up", "projection"), [("y", "perspective"), ("z", "parallel")])
def test_a_point_lies_where_the_cameras_see_it(up, projection):
    # Six places on six axes at unequal distances: mirrored, turned or swapped angles put one elsewhere.
    places = np.diag([0.9, 0.7, 0.5]).astype(np.float32)
    places = np.concatenate([places, -0.8 * places])
    angles = [(0, 0), (90, 0), (35, 25), (200, -60), (-40, 120), (75, 250)]
    azimuth, elevation = (np.array(row, np.float32) for row in zip(*angles, strict=True))
    parallel, size = projection == "parallel", 64
    distance = 1.0 if parallel else 2.5
    draw = jax.jit(
        lambda p, a, e: render_points(
            p, a, e, distance, size=size, radius=0.1, projection=projection, fov=50.0, up=up, density=1.0
        )
    )
    every = (np.broadcast_to(row, (6, 6)) for row in (azimuth, elevation))
    dark = 1.0 - np.asarray(draw(places[:, None], *every))[..., 0]
    ticks = np.arange(size) + 0.5
    column = (dark * ticks).sum((2, 3)) / dark.sum((2, 3))
    row = (dark * ticks[:, None]).sum((2, 3)) / dark.sum((2, 3))
    positions = distance * cameras.directions(azimuth, elevation)
    views = cameras.Cameras("test", positions, *((0.0, 2.0) if parallel else (50.0, 0.0)))
    for view in range(len(angles)):
        expected = cameras.project(cameras.camera(views, view), cameras.z_up(places.astype(np.float64), up), size)
        # The middle of mass of a disc on a grid, to a fraction of a pixel.
        np.testing.assert_allclose(np.stack([column, row], -1)[:, view], expected[:, :2], atol=0.15)


def literal_owners(view, vertices, faces):
    """The face over each pixel's centre that is nearest, -1 for none: a z-buffer, one face after the other."""
    seen = cameras.project(view, cameras.z_up(vertices, "y"), SIZE)
    buffer, owner = np.full((SIZE, SIZE), np.inf), np.full((SIZE, SIZE), -1)
    row, column = np.mgrid[:SIZE, :SIZE] + 0.5
    for index, face in enumerate(faces):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = seen[face]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        b = ((column - ax) * (cy - ay) - (row - ay) * (cx - ax)) / area
        c = ((bx - ax) * (row - ay) - (by - ay) * (column - ax)) / area
        depth = 1 / ((1 - b - c) / az + b / bz + c / cz)
        hit = (b >= 0) & (c >= 0) & (b + c <= 1) & (depth < buffer)
        buffer[hit], owner[hit] = depth[hit], index
    return owner


def test_away_from_edges_a_mesh_looks_as_with_a_z_buffer():
    # The second item: a tetrahedron. (A tip too thin to hold a pixel's centre is missed by a z-buffer, not by soft edges.)
    angles = np.array([[[0.0, 0.0], [20.0, 160.0]], [[0.0, 0.0], [30.0, -40.0]]])
    pictures = compiled(meshes_picture)(angles)[1][1]
    vertices, faces, light = MESH[0][1], FACES[:4], LIGHT[1] / np.linalg.norm(LIGHT[1])
    views = cameras.Cameras("test", 2.2 * cameras.directions(*angles[:, 1]), 60.0)
    for index in range(2):
        view = cameras.camera(views, index)
        owner = literal_owners(view, vertices, faces)
        # Where the pixels around show the same face, nothing is soft; of the paper, two around: corners are thin.
        inner = np.ones_like(owner, bool)
        for dr, dc in np.ndindex(5, 5):
            far = max(abs(dr - 2), abs(dc - 2)) == 2
            inner &= (np.roll(owner, (dr - 2, dc - 2), (0, 1)) == owner) | ((owner >= 0) if far else False)
        assert inner[owner >= 0].sum() > 25
        toward = np.array([view.axes[2][0], view.axes[2][2], -view.axes[2][1]])  # back to y up
        for face in set(owner[inner].ravel()):
            there = pictures[index][inner & (owner == face)]
            expected = np.array(PAPER)
            if face >= 0:
                a, b, c = vertices[faces[face]]
                normal = np.cross(b - a, c - a)
                normal /= np.linalg.norm(normal) * np.sign(normal @ (2.2 * toward - (a + b + c) / 3))
                facing = normal @ light
                mirrored = (2 * facing * normal - light) @ toward
                expected = (0.5 + 0.3 * max(facing, 0)) * np.array(PAINT)
                expected = expected + (0.2 * max(mirrored, 0) ** 64 if facing > 0 else 0)
            np.testing.assert_allclose(there, np.broadcast_to(expected, there.shape), atol=2e-3, err_msg=str(face))


def test_the_nearer_point_covers_the_farther():
    points = jnp.array([[[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]])
    red, green = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    settings = {"size": 9, "radius": 0.5, "density": 20.0}
    views = (jnp.array([[0.0, 180.0]]), jnp.zeros((1, 2)))
    colors = jnp.array([[red, green]])
    pictures, grey = jax.jit(
        lambda p: (render_points(p, *views, colors=colors, **settings), render_points(p, *views, **settings))
    )(points)
    np.testing.assert_allclose(pictures[0, :, 4, 4], [red, green], atol=1e-4)
    np.testing.assert_allclose(grey[0, :, 4, 4], 0.1, atol=1e-4)


def test_nothing_to_see_is_paper_and_moves_nothing():
    level = np.zeros((2, 2, 2))
    # Behind a camera that looks at the origin from 2.5, and at its very place.
    clouds = np.zeros((2, 40, 3))
    clouds[:, :, 0] = [[5.0], [2.5]]
    _, image, slope = compiled(grey_picture)(level, clouds)
    np.testing.assert_array_equal(image, 1.0)
    np.testing.assert_array_equal(slope, 0.0)
    # No face left by the mask; faces without area, seen from the side, reaching behind the camera.
    vertices = np.array([[0.3, 0, 0], [0.3, 0.2, 0], [4, 0, 0], [0.3, 0.4, 0], [0.1, 0, 0], [0.1, 0, 0.2], [0, 0, 0]])
    faces = np.array([[0, 0, 0], [0, 1, 3], [0, 1, 2], [0, 4, 4], [0, 1, 2], [6, 0, 4]])
    mesh = (np.stack([vertices] * 2), np.stack([faces] * 2), np.array([[False] * 6, [True] * 6]))
    _, image, slope = compiled(meshes_picture)(level, mesh)
    np.testing.assert_array_equal(image, np.broadcast_to(PAPER, image.shape))
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("picture", SHAPES)
def test_what_is_not_finite_marks_its_own_pictures_alone(picture):
    run = compiled(picture)
    angles = np.stack([AZIMUTH, ELEVATION])
    clean, broken = run(angles)[1], jax.tree.map(np.copy, SHAPES[picture])
    (broken if picture is not meshes_picture else broken[0])[0, 3, 1] = np.nan
    found = run(angles, broken)[1]
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], clean[1])
    angles[0, 1, 0] = np.inf
    found = run(angles)[1]
    assert np.isnan(found[1, 0]).all() and np.isfinite(found[1, 1]).all() and np.isfinite(found[0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.01}, "radius=0.01 at size 32: 0.0312 or more"),
        ({"slices": 1}, "slices=1"),
        ({"projection": "fisheye"}, "projection='fisheye'"),
        ({"up": "x"}, "up='x'"),
        ({"colors": jnp.zeros((2, 3, 3))}, r"colors \(2, 3, 3\)"),
        ({"elevation": jnp.zeros((2, 3))}, r"elevation \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    settings = {"elevation": jnp.zeros((2, 2)), "size": SIZE, "radius": 0.2} | change
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda: render_points(jnp.zeros((2, 5, 3)), jnp.zeros((2, 2)), **settings))
