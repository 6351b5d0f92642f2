"""The soft renderer of points: its gradient against finite differences, its pictures against the
cameras' frame.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ops import soft_pictures
from ops.soft_pictures import SIZE, compiled

from jax3dret.core.types import ConfigError
from jax3dret.geometry import cameras
from jax3dret.ops.soft_points import render_points


@functools.cache
def cloud():
    points = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    return 0.8 * points / np.abs(points).max()


def clouds_picture(azimuth, elevation, points):
    return render_points(
        points, azimuth, elevation, 1.1, size=SIZE, radius=0.2, slices=4, colors=jnp.abs(points)
    )


def grey_picture(azimuth, elevation, points):
    return render_points(
        points, azimuth, elevation, 2.5, size=SIZE, radius=0.2, projection="perspective"
    )


@pytest.mark.parametrize("picture", [clouds_picture, grey_picture])
def test_the_gradient_of_the_angles_is_that_of_finite_differences(picture):
    soft_pictures.check_the_gradient_is_that_of_finite_differences(picture, cloud())


@pytest.mark.parametrize("picture", [clouds_picture, grey_picture])
def test_the_gradient_leads_back_to_the_view_of_a_picture(picture):
    soft_pictures.check_the_gradient_leads_back(picture, cloud())


@pytest.mark.parametrize(("up", "projection"), [("y", "perspective"), ("z", "parallel")])
def test_a_point_lies_where_the_cameras_see_it(up, projection):
    # Six places on six axes at unequal distances: mirrored, turned or swapped angles put one
    # elsewhere.
    places = np.diag([0.9, 0.7, 0.5]).astype(np.float32)
    places = np.concatenate([places, -0.8 * places])
    angles = [(0, 0), (90, 0), (35, 25), (200, -60), (-40, 120), (75, 250)]
    azimuth, elevation = (np.array(row, np.float32) for row in zip(*angles, strict=True))
    parallel, size = projection == "parallel", 64
    distance = 1.0 if parallel else 2.5
    draw = jax.jit(
        lambda p, a, e: render_points(
            p,
            a,
            e,
            distance,
            size=size,
            radius=0.1,
            projection=projection,
            fov=50.0,
            up=up,
            density=1.0,
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
        expected = cameras.project(
            cameras.camera(views, view), cameras.z_up(places.astype(np.float64), up), size
        )
        # The middle of mass of a disc on a grid, to a fraction of a pixel.
        np.testing.assert_allclose(np.stack([column, row], -1)[:, view], expected[:, :2], atol=0.15)


def test_the_nearer_point_covers_the_farther():
    points = jnp.array([[[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]])
    red, green = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    settings = {"size": 9, "radius": 0.5, "density": 20.0}
    views = (jnp.array([[0.0, 180.0]]), jnp.zeros((1, 2)))
    colors = jnp.array([[red, green]])
    pictures, grey = jax.jit(
        lambda p: (
            render_points(p, *views, colors=colors, **settings),
            render_points(p, *views, **settings),
        )
    )(points)
    np.testing.assert_allclose(pictures[0, :, 4, 4], [red, green], atol=1e-4)
    np.testing.assert_allclose(grey[0, :, 4, 4], 0.1, atol=1e-4)


def test_nothing_to_see_is_white_paper_and_moves_nothing():
    level = np.zeros((2, 2, 2))
    # Behind a camera that looks at the origin from 2.5, and at its very place.
    clouds = np.zeros((2, 40, 3))
    clouds[:, :, 0] = [[5.0], [2.5]]
    _, image, slope = compiled(grey_picture)(level, clouds)
    np.testing.assert_array_equal(image, 1.0)
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("picture", [clouds_picture, grey_picture])
def test_what_is_not_finite_marks_its_own_pictures_alone(picture):
    broken = cloud().copy()
    broken[0, 3, 1] = np.nan
    soft_pictures.check_what_is_not_finite_marks_its_own_pictures_alone(picture, cloud(), broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.01}, "radius=0.01 at size 32; expected 0.0312 or more"),
        ({"slices": 1}, "slices=1"),
        ({"projection": "fisheye"}, "projection='fisheye'"),
        ({"up": "x"}, "up='x'"),
        ({"colors": jnp.zeros((2, 3, 3))}, r"colors \(2, 3, 3\)"),
        ({"elevation": jnp.zeros((2, 3))}, r"elevation \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(unchecked, change, message):
    settings = {"elevation": jnp.zeros((2, 2)), "size": SIZE, "radius": 0.2} | change
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda: render_points(jnp.zeros((2, 5, 3)), jnp.zeros((2, 2)), **settings))
