"""Camera sets against the formulas of their papers, and the projection against points whose place
is known.
"""

from __future__ import annotations

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry import cameras as sets
from jax3dret.geometry.cameras import Camera, Cameras, camera, project, rays

HALF = np.deg2rad(sets.FOV / 2)


def angles(cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    x, y, z = cameras.positions.T
    return np.round(np.degrees(np.arctan2(y, x)), 6) % 360, np.degrees(
        np.arcsin(z / np.linalg.norm(cameras.positions, axis=1))
    )


def test_ring_walks_counter_clockwise_from_x():
    azimuth, elevation = angles(sets.ring())
    np.testing.assert_allclose(azimuth, np.arange(12) * 30, atol=1e-6)
    np.testing.assert_allclose(elevation, 30)
    # The unit sphere's silhouette, seen under asin(1 / distance), fills 1 / 1.05 of the half
    # angle's sine.
    distance = np.linalg.norm(sets.ring().positions, axis=1)
    np.testing.assert_allclose(1 / distance, np.sin(HALF) / 1.05)
    np.testing.assert_allclose(distance, 2.53, atol=0.01)


@pytest.mark.parametrize("num", [1, 3, 6])
def test_fewer_views_are_every_nth_of_the_ring(num):
    np.testing.assert_allclose(
        sets.ring(num).positions, sets.ring(12).positions[:: 12 // num], atol=1e-12
    )


def test_viewgcn_vertices():
    ring = sets.viewgcn_vertices(12)
    assert ring.dtype == np.float32 and ring.shape == (12, 3)
    np.testing.assert_allclose(
        np.degrees(np.arctan2(ring[:, 1], ring[:, 0])) % 360, (-30 * np.arange(12)) % 360, atol=1e-4
    )
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), np.sqrt(4 / 3), rtol=1e-6)
    phi = (1 + 5**0.5) / 2
    solid = sets.viewgcn_vertices(20)
    expected = [
        [1, 1, 1],
        [1, 1, -1],
        [1, -1, 1],
        [1, -1, -1],
        [-1, 1, 1],
        [-1, 1, -1],
        [-1, -1, 1],
        [-1, -1, -1],
    ]
    expected += [[0, 1 / phi, phi], [0, 1 / phi, -phi], [0, -1 / phi, phi], [0, -1 / phi, -phi]]
    expected += [[phi, 0, 1 / phi], [phi, 0, -1 / phi], [-phi, 0, 1 / phi], [-phi, 0, -1 / phi]]
    expected += [[1 / phi, phi, 0], [-1 / phi, phi, 0], [1 / phi, -phi, 0], [-1 / phi, -phi, 0]]
    np.testing.assert_allclose(solid, expected, rtol=1e-6)
    distance = np.sort(np.linalg.norm(solid[:, None] - solid[None], axis=-1), axis=1)
    np.testing.assert_allclose(
        distance[:, 1:4], 2 / phi, rtol=1e-5
    )  # three neighbours, no ties with the fourth
    assert (distance[:, 4] > 2 / phi + 0.1).all()


@pytest.mark.parametrize("num", [12, 20])
def test_viewgcn_cameras_stand_over_their_vertices(num):
    vertices, cameras = sets.viewgcn_vertices(num), sets.viewgcn(num)
    cosine = (vertices * cameras.positions).sum(1) / np.linalg.norm(vertices, axis=1)
    np.testing.assert_allclose(cosine, 1.05 / np.sin(HALF), rtol=1e-6)


def mvtn_positions(azimuth, elevation):
    """The published frame: y up, azimuth 0 on +z, growing towards +x; turned z up afterwards."""
    az, el = np.deg2rad(azimuth), np.deg2rad(elevation)
    y_up = 2.2 * np.stack([np.cos(el) * np.sin(az), np.sin(el), np.cos(el) * np.cos(az)], 1)
    return sets.z_up(y_up, "y")


def test_mvtn_sets():
    azimuth, elevation = sets.spherical_angles(12)
    np.testing.assert_allclose(elevation, [-60] * 3 + [0] * 6 + [60] * 3, atol=1e-9)
    np.testing.assert_allclose(azimuth, [0, 120, 240, 0, 60, 120, 180, 240, 300, 0, 120, 240])
    np.testing.assert_allclose(
        sets.spherical(12).positions, mvtn_positions(azimuth, elevation), atol=1e-9
    )
    azimuth, elevation = sets.circular_angles(4)
    np.testing.assert_allclose(azimuth, np.linspace(-180, 180, 5)[:-1] - 90)
    np.testing.assert_allclose(
        sets.circular(4).positions, mvtn_positions(azimuth, elevation), atol=1e-9
    )
    assert sets.circular(4).fov == 60 and len(sets.spherical(20).positions) == 20


def test_inrets_ring_in_its_own_frame():
    cameras = sets.inret()
    # y up: (3 cos a, 0.65, 3 sin a), a = 0, 30, ...; turned z up as an object with y up is.
    a = np.deg2rad(30.0 * np.arange(12))
    expected = np.stack([3 * np.cos(a), np.full(12, 0.65), 3 * np.sin(a)], 1)
    np.testing.assert_allclose(cameras.positions, sets.z_up(expected, "y"), atol=1e-9)
    # The order is that of View-GCN's graph, and the unit sphere is in the frame.
    around = sets.viewgcn_vertices(12)[:, :2]
    np.testing.assert_allclose(cameras.positions[:, :2] / 3, around, atol=1e-6)
    distance = np.linalg.norm(cameras.positions[0])
    assert np.sin(np.deg2rad(cameras.fov) / 2) * distance == pytest.approx(1.05)


def test_objaverse_stands_at_polar_angle_60():
    cameras = sets.objaverse()
    np.testing.assert_allclose(angles(cameras)[0], [0, 90, 180, 270], atol=1e-6)
    np.testing.assert_allclose(cameras.positions[:, 2], 1.5 * np.cos(np.deg2rad(60)))
    assert cameras.fit == "box" and np.tan(HALF) == pytest.approx(16 / 35)


@pytest.mark.parametrize(
    "name",
    [
        "ring12",
        "ring3@45",
        "dodecahedron20",
        "viewgcn12",
        "viewgcn20",
        "inret12",
        "circular12",
        "spherical12",
        "objaverse4",
        "ring6-parallel",
    ],
)
def test_names_stand_for_sets(name):
    assert sets.by_name(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ring",
        "rings12",
        "ring0",
        "dodecahedron12",
        "viewgcn7",
        "spherical12@3",
        "ring12@95",
        "spherical23",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match=r"."):
        sets.by_name(name)


def test_axes_are_right_handed_and_upright():
    for cameras in (sets.ring(), sets.dodecahedron(), sets.spherical()):
        for i in range(len(cameras.positions)):
            eye = camera(cameras, i)
            np.testing.assert_allclose(eye.axes @ eye.axes.T, np.eye(3), atol=1e-12)
            assert (
                np.linalg.det(eye.axes) == pytest.approx(1)
                and eye.axes[1, 2] > 0
                and abs(eye.axes[0, 2]) < 1e-12
            )
    # From the front (+x), +y is to the right.
    np.testing.assert_allclose(
        camera(sets.ring(1, 0), 0).axes, [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-12
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_straight_down_and_up_is_the_limit_of_azimuth_0(sign):
    above = camera(sets.ring(1, 90.0 * sign), 0)
    nearly = camera(sets.ring(1, 89.9999 * sign), 0)
    np.testing.assert_allclose(above.axes, nearly.axes, atol=1e-5)


def test_a_camera_needs_a_place():
    for place in ([0, 0, 0], [np.nan, 0, 0]):
        with pytest.raises(DataError, match="camera 0 of 'own'"):
            camera(Cameras("own", np.array([place], float)), 0)


@pytest.mark.parametrize(
    "cameras", [sets.ring(), sets.parallel(sets.ring())], ids=["perspective", "parallel"]
)
def test_rays_and_projection_are_inverse(cameras: Cameras):
    eye = camera(cameras, 5)
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 3))
    column, row, depth = project(eye, points, 100).T
    origins, towards = rays(eye, column, row, 100)
    np.testing.assert_allclose(origins + depth[:, None] * towards, points, atol=1e-12)
    np.testing.assert_allclose(
        project(eye, np.zeros((1, 3)), 100), [[50, 50, np.linalg.norm(eye.position)]]
    )
    higher = project(eye, np.array([[0, 0, 0.1]]), 100)[0]
    assert higher[1] < 50 and higher[0] == pytest.approx(50)  # rows run down


def test_parallel_frame_holds_the_unit_sphere():
    eye: Camera = camera(sets.parallel(sets.ring()), 0)
    _, row, _ = project(eye, eye.axes[1:2], 100)[0]
    assert row == pytest.approx(50 - 50 / 1.05)


def test_turning_y_up_keeps_handedness():
    turned = sets.z_up(np.eye(3), "y")
    np.testing.assert_allclose(turned, [[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert np.linalg.det(turned) == pytest.approx(1)
    with pytest.raises(ConfigError, match="up axis 'x'"):
        sets.z_up(np.eye(3), "x")
