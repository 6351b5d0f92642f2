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

SIZE = 20
AZIMUTH = np.array([[20.0, -75.0], [130.0, 250.0]], np.float32)
ELEVATION = np.array([[30.0, -10.0], [-55.0, 70.0]], np.float32)
# A tetrahedron, and a plate that cuts through it.
VERTICES = np.array(
    [[0.7, -0.3, 0.1], [-0.5, 0.6, 0.2], [-0.4, -0.6, 0.5], [0.1, 0.2, -0.7], [0.6, 0.5, 0.3], [-0.7, 0.1, 0.4], [0.2, -0.7, -0.5]]
)  # fmt: skip
FACES = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0], [4, 5, 6], [0, 0, 0]])


@functools.cache
def cloud():
    points = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    return 0.8 * points / np.abs(points).max()


def points_picture(azimuth, elevation, points=None, **settings):
    points = cloud() if points is None else points
    return render_points(jnp.asarray(points), azimuth, elevation, 1.1, size=SIZE, radius=0.2, slices=4, **settings)


def meshes_picture(azimuth, elevation, **settings):
    vertices = np.stack([VERTICES, VERTICES * [1, -1, 1]])
    faces = np.stack([FACES, FACES])
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
    return render_meshes(jnp.asarray(vertices), jnp.asarray(faces), jnp.asarray(mask), azimuth, elevation, size=SIZE, **settings)  # fmt: skip


def colored(azimuth, elevation):
    return points_picture(azimuth, elevation, colors=jnp.abs(jnp.asarray(cloud())))


def lit(azimuth, elevation):
    return meshes_picture(azimuth, elevation, light=jnp.array([[1.0, 2.0, 0.5], [0.0, 0.0, 1.0]]), depth_softness=0.05)


@pytest.mark.parametrize("picture", [points_picture, colored, meshes_picture, lit])
def test_the_gradient_of_the_angles_is_that_of_finite_differences(picture):
    with jax.enable_x64(True):
        weights = np.random.default_rng(1).normal(size=(2, 2, SIZE, SIZE, 3))
        angles = np.stack([AZIMUTH, ELEVATION]).astype(np.float64)

        @jax.jit
        def loss(angles):
            return jnp.sum(picture(*angles) * weights)

        found = np.asarray(jax.jit(jax.grad(loss))(angles))
        step = 1e-6
        for index in np.ndindex(angles.shape):
            moved = [angles.copy(), angles.copy()]
            moved[0][index] += step
            moved[1][index] -= step
            expected = (float(loss(moved[0])) - float(loss(moved[1]))) / (2 * step)
            assert abs(expected) > 1e-3
            np.testing.assert_allclose(found[index], expected, rtol=1e-5, atol=1e-6, err_msg=str(index))


def test_the_gradient_leads_back_to_the_view_of_a_picture():
    # Not only the slope at a point: from 8 degrees away on either side it points home, for azimuth and for elevation.
    goal = (jnp.full((2, 2), 40.0), jnp.full((2, 2), 25.0))
    for picture in (points_picture, meshes_picture):
        target = picture(*goal)
        off = jnp.array([[8.0, -8.0], [8.0, -8.0]])
        slope = jax.jit(jax.grad(lambda angles, p=picture, t=target: jnp.sum((p(*angles) - t) ** 2), argnums=0))
        azimuth = slope((goal[0] + off, goal[1]))[0]
        elevation = slope((goal[0], goal[1] + off))[1]
        np.testing.assert_array_equal(np.sign(azimuth), np.sign(off))
        np.testing.assert_array_equal(np.sign(elevation), np.sign(off))


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("projection", ["parallel", "perspective"])
def test_a_point_lies_where_the_cameras_see_it(up, projection):
    # Six colours on six axes of unequal length: mirrored, turned or swapped angles put one elsewhere.
    places = np.diag([0.9, 0.7, 0.5]).astype(np.float32)
    places = np.concatenate([places, -0.8 * places])
    angles = [(0, 0), (90, 0), (35, 25), (200, -60), (-40, 120), (75, 250)]
    azimuth, elevation = (np.array([row], np.float32) for row in zip(*angles, strict=True))
    distance = 1.0 if projection == "parallel" else 2.5
    size = 64
    for index in range(len(places)):
        picture = render_points(
            jnp.asarray(places[None, index : index + 1]), azimuth, elevation, distance,
            size=size, radius=0.1, projection=projection, fov=50.0, up=up, density=1.0,
        )  # fmt: skip
        dark = 1.0 - np.asarray(picture)[0, ..., 0]
        ticks = np.arange(size) + 0.5
        column = (dark * ticks).sum((1, 2)) / dark.sum((1, 2))
        row = (dark * ticks[:, None]).sum((1, 2)) / dark.sum((1, 2))
        positions = distance * cameras.directions(azimuth[0], elevation[0])
        views = cameras.Cameras(
            "test", positions, 50.0 if projection == "perspective" else 0.0, 2.0 if projection == "parallel" else 0.0
        )
        turned = cameras.z_up(places[index : index + 1].astype(np.float64), up)
        for view in range(len(angles)):
            expected = cameras.project(cameras.camera(views, view), turned, size)[0]
            # The middle of mass of a disc on a grid, to a fraction of a pixel.
            np.testing.assert_allclose([column[view], row[view]], expected[:2], atol=0.15, err_msg=str(angles[view]))


def literal_depths(view, size):
    """The face over each pixel's centre that is nearest, -1 for none: a z-buffer, one face after the other."""
    seen = cameras.project(view, cameras.z_up(VERTICES, "y"), size)
    buffer, owner = np.full((size, size), np.inf), np.full((size, size), -1)
    row, column = np.mgrid[:size, :size] + 0.5
    for index, face in enumerate(FACES):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = seen[face]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        b = ((column - ax) * (cy - ay) - (row - ay) * (cx - ax)) / area
        c = ((bx - ax) * (row - ay) - (by - ay) * (column - ax)) / area
        depth = 1 / ((1 - b - c) / az + b / bz + c / cz)
        hit = (b >= 0) & (c >= 0) & (b + c <= 1) & (depth < buffer)
        buffer[hit], owner[hit] = depth[hit], index
    return owner


def test_away_from_edges_a_mesh_looks_as_with_a_z_buffer():
    size, light = 48, np.array([0.3, 0.9, -0.2])
    angles = [(20.0, 30.0), (160.0, -40.0)]
    azimuth, elevation = (jnp.array([row]) for row in zip(*angles, strict=True))
    pictures = np.asarray(
        render_meshes(
            jnp.asarray(VERTICES, jnp.float32)[None], jnp.asarray(FACES)[None], jnp.ones((1, len(FACES)), bool),
            azimuth, elevation, 2.2, size=size, light=jnp.asarray(light, jnp.float32)[None], color=(0.8, 0.6, 0.4),
            background=(0.0, 0.0, 1.0), depth_softness=1e-3,
        )
    )[0]  # fmt: skip
    views = cameras.Cameras("test", 2.2 * cameras.directions(*np.array(angles).T), 60.0)
    for index in range(2):
        view = cameras.camera(views, index)
        owner = literal_depths(view, size)
        assert {0, 1, 2, 3, 4} & set(owner.ravel()) and (owner == -1).any()
        # Where the two pixels around show the same face, nothing is soft.
        inner = np.ones_like(owner, bool)
        for dr, dc in np.ndindex(5, 5):
            inner &= np.roll(owner, (dr - 2, dc - 2), (0, 1)) == owner
        assert inner[owner >= 0].sum() > 100
        toward = np.array([view.axes[2][0], view.axes[2][2], -view.axes[2][1]])  # back to y up
        for face in set(owner[inner].ravel()):
            there = pictures[index][inner & (owner == face)]
            if face < 0:
                np.testing.assert_allclose(there, np.broadcast_to([0, 0, 1], there.shape), atol=1e-6)
                continue
            a, b, c = VERTICES[FACES[face]]
            normal = np.cross(b - a, c - a)
            normal /= np.linalg.norm(normal) * np.sign(normal @ (2.2 * toward - (a + b + c) / 3))
            unit = light / np.linalg.norm(light)
            facing = normal @ unit
            mirrored = (2 * facing * normal - unit) @ toward
            expected = (0.5 + 0.3 * max(facing, 0)) * np.array([0.8, 0.6, 0.4])
            expected = expected + (0.2 * max(mirrored, 0) ** 64 if facing > 0 else 0)
            np.testing.assert_allclose(there, np.broadcast_to(expected, there.shape), atol=2e-3, err_msg=f"{face}")


def test_the_nearer_point_covers_the_farther():
    points = jnp.array([[[0.8, 0.0, 0.0], [-0.8, 0.0, 0.0]]])
    red, green = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    azimuth = jnp.array([[0.0, 180.0]])
    pictures = render_points(
        points, azimuth, jnp.zeros((1, 2)), size=9, radius=0.5, colors=jnp.array([[red, green]]), density=20.0
    )
    np.testing.assert_allclose(pictures[0, :, 4, 4], [red, green], atol=1e-4)
    grey = render_points(points, azimuth, jnp.zeros((1, 2)), size=9, radius=0.5, density=20.0)
    np.testing.assert_allclose(grey[0, :, 4, 4], 0.45 - 0.35 * 0.8, atol=1e-4)


def test_rows_in_blocks_give_the_same_picture(monkeypatch):
    whole = meshes_picture(AZIMUTH, ELEVATION)
    monkeypatch.setattr(soft_render, "_PIECE", 7 * SIZE * 2 * len(FACES))  # 7 rows of 20: the last block is cut
    np.testing.assert_allclose(meshes_picture(AZIMUTH, ELEVATION), whole, atol=1e-6)


def test_nothing_to_see_is_paper_and_moves_nothing():
    def behind(angles):  # the cloud stands behind a camera that looks at the origin
        points = jnp.broadcast_to(jnp.array([5.0, 0.0, 0.0]), (1, 3, 3))
        return render_points(points, *angles, 2.2, size=8, radius=0.3, projection="perspective")

    def at(angles):
        points = jnp.broadcast_to(jnp.array([2.2, 0.0, 0.0]), (1, 3, 3))
        return render_points(points, *angles, 2.2, size=8, radius=0.3, projection="perspective")

    def empty(angles):
        faces = jnp.asarray(FACES)[None]
        vertices = jnp.asarray(VERTICES, jnp.float32)[None]
        return render_meshes(vertices, faces, jnp.zeros((1, len(FACES)), bool), *angles, size=8)

    def degenerate(angles):  # faces without area, and one that reaches behind the camera
        vertices = jnp.array([[[0.3, 0.0, 0.0], [0.3, 0.2, 0.0], [4.0, 0.0, 0.0], [0.3, 0.4, 0.0]]])
        faces = jnp.array([[[0, 0, 0], [0, 1, 3], [0, 1, 2]]])
        return render_meshes(vertices, faces, jnp.ones((1, 3), bool), *angles, size=8)

    zero = (jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    for picture in (behind, at, empty, degenerate):
        image, back = jax.vjp(picture, zero)
        np.testing.assert_array_equal(image, 1.0)
        for slope in back(jnp.ones_like(image))[0]:
            np.testing.assert_array_equal(slope, 0.0)


def test_what_is_not_finite_marks_its_own_pictures_alone():
    broken = cloud().copy()
    broken[0, 3, 1] = np.nan
    picture = jax.jit(lambda a, e, p: points_picture(a, e, p))
    clean = picture(AZIMUTH, ELEVATION, cloud())
    found = picture(AZIMUTH, ELEVATION, broken)
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], clean[1])
    azimuth = AZIMUTH.copy()
    azimuth[1, 0] = np.inf
    found = picture(azimuth, ELEVATION, cloud())
    assert np.isnan(found[1, 0]).all() and np.isfinite(found[1, 1]).all() and np.isfinite(found[0]).all()
    found = meshes_picture(azimuth, ELEVATION)
    assert np.isnan(found[1, 0]).all() and np.isfinite(found[1, 1]).all() and np.isfinite(found[0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.01}, "radius=0.01 at size 20: 0.0500 or more"),
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
        render_points(jnp.zeros((2, 5, 3)), jnp.zeros((2, 2)), **settings)
