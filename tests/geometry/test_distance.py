"""True distances and occupancies: against formulas, for meshes in every state that files have."""

from __future__ import annotations

import numpy as np
import pytest
import solids

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry import watertight
from jax3dret.geometry.distance import LINES, MeshDistance
from jax3dret.geometry.mesh import Mesh, MeshError
from jax3dret.geometry.unit_sphere import to_unit_sphere

POINTS = np.random.default_rng(0).uniform(-1, 1, (3000, 3)).astype(np.float32)
BOX = solids.box_distance(POINTS)


@pytest.mark.parametrize("sign", ["auto", "winding", "lines"])
def test_box_by_its_formula(sign):
    found = MeshDistance(solids.box(), sign)
    assert found.sdf(POINTS).dtype == found.udf(POINTS).dtype == found.occ(POINTS).dtype == "f4"
    np.testing.assert_allclose(found.sdf(POINTS), BOX, atol=1e-6)
    np.testing.assert_allclose(found.udf(POINTS), np.abs(BOX), atol=1e-6)
    np.testing.assert_array_equal(found.occ(POINTS), np.sign(BOX))
    assert found.rule == {"auto": "closed", "winding": "closed", "lines": "lines"}[sign]
    for function, values in found.all(POINTS).items():
        np.testing.assert_array_equal(values, found.values(POINTS, function))


def test_ball_and_ring_by_their_formulas():
    ball = MeshDistance(solids.ball(rings=48))
    # Chords cut the ball by 0.4 % of its radius; its poles are faces without an area.
    np.testing.assert_allclose(ball.sdf(POINTS), np.linalg.norm(POINTS, axis=1) - 0.8, atol=5e-3)
    assert ball.rule == "closed" and ball.flat == 96 and "96 triangles" in ball.describe()
    ring = MeshDistance(solids.ring(48))
    np.testing.assert_allclose(ring.sdf(POINTS), solids.ring_distance(POINTS), atol=6e-3)
    hole = np.zeros((1, 3), np.float32)
    assert ring.occ(hole) == 1 and ring.sdf(hole) > 0.34


def test_13_lines_close_over_the_hole_of_a_cup_that_the_winding_number_leaves_open():
    assert len(np.unique(np.abs(LINES), axis=0)) == 7 and len(LINES) == 13
    assert not (LINES[:, None] == -LINES[None]).all(-1).any()
    # Of two flat plates, one above the other, no line along x says that what is between is inside.
    plate, up = solids.box([0.5, 0.5, 0.1]), np.array([0, 0, 0.5])
    plates = solids.together(
        Mesh(plate.vertices - up, plate.faces), Mesh(plate.vertices + up, plate.faces)
    )
    middle = np.array([[0.0, 0, 0], [0, 0, 0.5]], np.float32)
    np.testing.assert_array_equal(MeshDistance(plates, "lines").occ(middle), [1, -1])


def test_normals_that_point_inwards_or_anywhere_give_the_same_values():
    for mesh, rule in (
        (solids.inverted(solids.box()), "closed"),
        (_every_third_turned(solids.box()), "oriented"),
        (solids.together(solids.box(), solids.inverted(solids.box())), "oriented"),
    ):
        found = MeshDistance(mesh)
        np.testing.assert_allclose(found.sdf(POINTS), BOX, atol=1e-6)
        assert found.rule == rule and found.hidden == 0


def test_open_box_is_closed_over():
    box = solids.box()
    left = Mesh(box.vertices, box.faces[1:])  # half of one side is missing
    found = MeshDistance(left)
    assert found.rule == "winding" and found.separating > 0.9
    within = np.abs(POINTS).max(1) < 0.25
    np.testing.assert_array_equal(found.occ(POINTS[within]), -1)
    np.testing.assert_array_equal(found.occ(POINTS[BOX > 0.2]), 1)
    # Far from the hole the distance is the box's.
    far = POINTS[:, 0] > 0.1
    np.testing.assert_allclose(found.udf(POINTS[far]), np.abs(BOX[far]), atol=1e-6)


def test_a_part_within_another_is_solid_and_an_inverted_one_a_cavity():
    inner = solids.box(solids.HALF / 2)
    solid = MeshDistance(solids.together(solids.box(), inner))
    assert solid.rule == "closed" and solid.hidden == 12
    assert "12 triangles within the solid" in solid.describe()
    np.testing.assert_allclose(solid.sdf(POINTS), BOX, atol=1e-6)
    within = np.minimum(np.abs(BOX), np.abs(solids.box_distance(POINTS, solids.HALF / 2)))
    np.testing.assert_allclose(solid.udf(POINTS), within, atol=1e-6)
    hollow = MeshDistance(solids.together(solids.box(), solids.inverted(inner)))
    shell = np.maximum(BOX, -solids.box_distance(POINTS, solids.HALF / 2))
    np.testing.assert_allclose(np.abs(hollow.sdf(POINTS)), within, atol=1e-6)
    np.testing.assert_array_equal(hollow.occ(POINTS), np.sign(shell))


@pytest.mark.parametrize("sign", ["winding", "lines"])
def test_a_sheet_has_distances_but_no_sign(sign):
    sheet = MeshDistance(solids.sheet(), sign)
    inside = np.abs(POINTS[:, :2]).max(1) < 0.7
    np.testing.assert_allclose(
        sheet.udf(POINTS[inside]), np.abs(POINTS[inside, 2] - 0.1), atol=1e-6
    )
    for function in ("sdf", "occ"):
        with pytest.raises(DataError, match=r"encloses no volume .*'udf', works") as caught:
            sheet.values(POINTS, function)
        assert "\n" not in str(caught.value)
    doubled = solids.together(solids.sheet(), solids.inverted(solids.sheet()))
    with pytest.raises(DataError, match="encloses no volume"):
        _ = MeshDistance(doubled, sign).rule


@pytest.mark.skipif(not watertight.available(), reason="point-cloud-utils is not installed")
def test_watertight_remesh(monkeypatch):
    monkeypatch.setattr(watertight, "RESOLUTION", 500)
    box = _every_third_turned(solids.box())
    found = MeshDistance(box, "watertight")
    assert found.rule == "watertight" and found.separating > 0.3
    values = found.all(POINTS)
    np.testing.assert_allclose(values["udf"], np.abs(BOX), atol=1e-6)
    np.testing.assert_allclose(np.abs(values["sdf"]), np.abs(BOX), atol=1e-6)
    # The remesh stands off by the width of its leaves, here 0.05, and the inside does not.
    far = np.abs(BOX) > 0.02
    np.testing.assert_array_equal(values["occ"][far], np.sign(BOX)[far])
    np.testing.assert_array_equal(np.sign(values["sdf"]), values["occ"])
    # Through a hole what is outside reaches in, and walls are all that is left.
    with pytest.raises(DataError, match="encloses no volume"):
        _ = MeshDistance(Mesh(box.vertices, box.faces[1:]), "watertight").rule


def test_watertight_remesh_that_never_ends_or_is_not_there(monkeypatch):
    monkeypatch.setattr(watertight, "_CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(watertight, "SECONDS", 0.2)
    monkeypatch.setattr(watertight, "available", lambda: True)
    with pytest.raises(DataError, match=r"12 triangles did not end within 0.2 s; .*'winding'"):
        _ = MeshDistance(solids.box(), "watertight").rule
    monkeypatch.setattr(watertight, "_CHILD", "raise ValueError('odd')")
    monkeypatch.setattr(watertight, "SECONDS", 30)
    with pytest.raises(DataError, match=r"failed \(ValueError: odd\)"):
        _ = MeshDistance(solids.box(), "watertight").rule
    monkeypatch.setattr(watertight, "available", lambda: False)
    with pytest.raises(ConfigError, match=r"jax3dret\[watertight\]"):
        _ = MeshDistance(solids.box(), "watertight").rule


def test_flat_triangles_are_counted_and_left_out():
    box = solids.box()
    spike = np.array([[0.9, 0, 0], [0.9, 0, 0], [0.9, 0.5, 0]])
    mesh = Mesh(
        np.concatenate([box.vertices, spike]),
        np.concatenate([box.faces, [[8, 9, 10], [0, 0, 1], [8, 10, 8]]]).astype(np.int32),
    )
    found = MeshDistance(mesh)
    assert found.flat == 3 and len(found.mesh.faces) == 12
    np.testing.assert_allclose(found.sdf(POINTS), BOX, atol=1e-6)
    # Tiny is not flat.
    tiny = MeshDistance(Mesh(box.vertices * 1e-6, box.faces))
    assert tiny.flat == 0 and tiny.rule == "closed"


def test_corners_repeated_by_each_face_still_close_the_mesh():
    box = solids.box()
    soup = Mesh(
        box.vertices[box.faces].reshape(-1, 3), np.arange(36, dtype=np.int32).reshape(-1, 3)
    )
    assert MeshDistance(soup).rule == "closed"


def test_refusals(unchecked):
    box = solids.box()
    with pytest.raises(MeshError, match="none of its 1 triangles has an area"):
        MeshDistance(Mesh(box.vertices, np.array([[0, 0, 1]], np.int32)))
    with pytest.raises(MeshError, match="not finite"):
        MeshDistance(Mesh(np.where(box.vertices == box.vertices[0], np.nan, 1), box.faces))
    with pytest.raises(MeshError, match="no faces"):
        MeshDistance(Mesh(box.vertices, np.zeros((0, 3), np.int32)))
    with pytest.raises(ConfigError, match="sign 'odd'"):
        MeshDistance(box, "odd")
    found = MeshDistance(box)
    with pytest.raises(ConfigError, match="function 'tsdf'"):
        found.values(POINTS, "tsdf")
    with pytest.raises(DataError, match=r"shape \(2,\); expected \(P, 3\)"):
        found.sdf(np.zeros(2))
    with pytest.raises(DataError, match="1 of 2 are not finite"):
        found.udf(np.array([[0, 0, np.nan], [0, 0, 0]]))
    assert found.sdf(np.zeros((0, 3))).shape == (0,)


def test_unit_sphere():
    box = solids.box()
    far = Mesh(
        np.concatenate([7e5 + 3 * box.vertices, [[0, 0, 0]]]), box.faces
    )  # a vertex that no face uses
    mesh, centre, scale = to_unit_sphere(far)
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1)
    np.testing.assert_allclose(centre, 7e5)
    assert scale == pytest.approx(3 * np.linalg.norm(solids.HALF)) and len(mesh.vertices) == 8
    np.testing.assert_allclose(mesh.vertices * scale + centre, far.vertices[:8])
    # The centre is the box's, not the mean of the vertices.
    many = Mesh(np.concatenate([box.vertices, box.vertices[:1] * np.ones((9, 1))]), box.faces)
    np.testing.assert_allclose(to_unit_sphere(many).centre, 0, atol=1e-12)
    with pytest.raises(MeshError, match="in one place"):
        to_unit_sphere(Mesh(np.ones((3, 3)), np.array([[0, 1, 2]], np.int32)))
    with pytest.raises(MeshError, match="not finite"):
        to_unit_sphere(Mesh(np.full((3, 3), np.inf), np.array([[0, 1, 2]], np.int32)))


def _every_third(count: int) -> np.ndarray:
    return np.arange(count) % 3 == 0


def _every_third_turned(mesh: Mesh) -> Mesh:
    turn = _every_third(len(mesh.faces))[:, None]
    return Mesh(mesh.vertices, np.where(turn, mesh.faces[:, ::-1], mesh.faces))
