"""The soft renderer of meshes: its gradient against finite differences, its pictures against a
literal z-buffer.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from ops import soft_pictures
from ops.soft_pictures import SIZE, compiled

from jax3dret.geometry import cameras
from jax3dret.ops import soft_meshes

# A tetrahedron, and a plate that cuts through it.
VERTICES = np.array(
    [
        [0.7, -0.3, 0.1],
        [-0.5, 0.6, 0.2],
        [-0.4, -0.6, 0.5],
        [0.1, 0.2, -0.7],
        [0.6, 0.5, 0.3],
        [-0.7, 0.1, 0.4],
        [0.2, -0.7, -0.5],
    ]
)
LIGHT = np.array([[0.3, 0.9, -0.2], [0.5, 1.0, -0.7]])
PAINT, PAPER = (0.8, 0.6, 0.4), (0.0, 0.0, 1.0)
FACES = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0], [4, 5, 6], [0, 0, 0]])


def meshes_picture(azimuth, elevation, mesh):
    settings = {"size": SIZE, "faces_per_pixel": 3, "color": PAINT, "background": PAPER}
    return soft_meshes.render_meshes(
        *mesh, azimuth, elevation, light=jnp.asarray(LIGHT), **settings
    )


# The second item is the mirrored one, without its plate.
MESH = (
    np.stack([VERTICES, VERTICES * [1, -1, 1]]),
    np.stack([FACES, FACES]),
    np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool),
)


@pytest.fixture(scope="module", autouse=True)
def rows_in_blocks():
    """Meshes are drawn seven rows at a time, and the last block of 32 is cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soft_meshes, "_PIECE", 7 * SIZE * 2 * len(FACES))
        yield


def test_the_gradient_of_the_angles_is_that_of_finite_differences():
    soft_pictures.check_the_gradient_is_that_of_finite_differences(meshes_picture, MESH)


def test_the_gradient_leads_back_to_the_view_of_a_picture():
    soft_pictures.check_the_gradient_leads_back(meshes_picture, MESH)


def literal_owners(view, vertices, faces):
    """The face over each pixel's centre that is nearest, -1 for none: a z-buffer, one face after
    the other.
    """
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
    # The second item: a tetrahedron. (A tip too thin to hold a pixel's centre is missed by a
    # z-buffer, not by soft edges.)
    angles = np.array([[[0.0, 0.0], [20.0, 160.0]], [[0.0, 0.0], [30.0, -40.0]]])
    pictures = compiled(meshes_picture)(angles, MESH)[1][1]
    vertices, faces, light = MESH[0][1], FACES[:4], LIGHT[1] / np.linalg.norm(LIGHT[1])
    views = cameras.Cameras("test", 2.2 * cameras.directions(*angles[:, 1]), 60.0)
    for index in range(2):
        view = cameras.camera(views, index)
        owner = literal_owners(view, vertices, faces)
        # Where the pixels around show the same face, nothing is soft; of the paper, two around:
        # corners are thin.
        inner = np.ones_like(owner, bool)
        for dr, dc in np.ndindex(5, 5):
            far = max(abs(dr - 2), abs(dc - 2)) == 2
            inner &= (np.roll(owner, (dr - 2, dc - 2), (0, 1)) == owner) | (
                (owner >= 0) if far else False
            )
        assert inner[owner >= 0].sum() > 25
        toward = np.array([view.axes[2][0], view.axes[2][2], -view.axes[2][1]])  # back to y up
        for face in set(owner[inner].ravel()):
            there = pictures[index][inner & (owner == face)]
            expected = np.array(PAPER)
            if face >= 0:
                a, b, c = vertices[faces[face]]
                normal = np.cross(b - a, c - a)
                normal /= np.linalg.norm(normal) * np.sign(
                    normal @ (2.2 * toward - (a + b + c) / 3)
                )
                facing = normal @ light
                mirrored = (2 * facing * normal - light) @ toward
                expected = (0.5 + 0.3 * max(facing, 0)) * np.array(PAINT)
                expected = expected + (0.2 * max(mirrored, 0) ** 64 if facing > 0 else 0)
            np.testing.assert_allclose(
                there, np.broadcast_to(expected, there.shape), atol=2e-3, err_msg=str(face)
            )


def test_nothing_to_see_is_paper_and_moves_nothing():
    level = np.zeros((2, 2, 2))
    # No face left by the mask; faces without area, seen from the side, reaching behind the camera.
    vertices = np.array(
        [
            [0.3, 0, 0],
            [0.3, 0.2, 0],
            [4, 0, 0],
            [0.3, 0.4, 0],
            [0.1, 0, 0],
            [0.1, 0, 0.2],
            [0, 0, 0],
        ]
    )
    faces = np.array([[0, 0, 0], [0, 1, 3], [0, 1, 2], [0, 4, 4], [0, 1, 2], [6, 0, 4]])
    mesh = (np.stack([vertices] * 2), np.stack([faces] * 2), np.array([[False] * 6, [True] * 6]))
    _, image, slope = compiled(meshes_picture)(level, mesh)
    np.testing.assert_array_equal(image, np.broadcast_to(PAPER, image.shape))
    np.testing.assert_array_equal(slope, 0.0)


def test_what_is_not_finite_marks_its_own_pictures_alone():
    vertices = MESH[0].copy()
    vertices[0, 3, 1] = np.nan
    soft_pictures.check_what_is_not_finite_marks_its_own_pictures_alone(
        meshes_picture, MESH, (vertices, *MESH[1:])
    )
