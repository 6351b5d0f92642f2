"""Meshes of one size: what simplification keeps, what padding adds, what is refused."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.mesh_arrays import FixedMesh, cluster_vertices


def sphere(rings=20, segments=40):
    """Vertices and faces of a globe."""
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.arange(segments) * 2 * np.pi / segments, indexing="ij"
    )
    vertices = np.stack(
        [np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], -1
    ).reshape(-1, 3)
    a = (np.arange(rings)[:, None] * segments + np.arange(segments)).ravel()
    b = (np.arange(rings)[:, None] * segments + (np.arange(segments) + 1) % segments).ravel()
    faces = np.concatenate(
        [np.stack([a, b, a + segments], 1), np.stack([b, b + segments, a + segments], 1)]
    )
    return vertices.astype(np.float32), faces.astype(np.int32)


def test_a_small_mesh_is_padded_and_otherwise_as_it_was():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9], [0, 0, 1]], np.float32)
    faces = np.array(
        [[0, 1, 2], [2, 1, 0], [0, 1, 4], [1, 1, 2]], np.int32
    )  # one again, one without area
    found = FixedMesh(64)(
        {"vertices": vertices, "faces": faces, "points": vertices}, np.random.default_rng(0)
    )
    assert found["vertices"].shape == (192, 3) and found["vertices"].dtype == np.float32
    assert found["faces"].shape == (64, 3) and found["faces"].dtype == np.int32
    np.testing.assert_array_equal(found["face_mask"], np.arange(64) < 2)
    np.testing.assert_array_equal(found["vertices"][found["faces"][:2]], vertices[faces[[0, 2]]])
    assert (found["vertices"] != 9).all() and found["points"] is vertices


def test_simplification_keeps_the_shape():
    vertices, faces = sphere()
    found = FixedMesh(512)({"vertices": vertices, "faces": faces}, np.random.default_rng(0))
    count = found["face_mask"].sum()
    assert 200 < count <= 512  # the finest grid that fits uses most of what there is
    corners = found["vertices"][found["faces"][:count]]
    assert np.abs(np.linalg.norm(corners, axis=-1) - 1).max() < 0.15
    area = (
        np.linalg.norm(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
        ).sum()
        / 2
    )
    assert abs(area / (4 * np.pi) - 1) < 0.1
    again = FixedMesh(512)({"vertices": vertices, "faces": faces}, np.random.default_rng(1))
    np.testing.assert_array_equal(found["vertices"], again["vertices"])


def test_clusters_are_means_of_their_cells():
    vertices = np.array([[0, 0, 0], [0.2, 0, 0], [1, 0, 0], [1, 1, 0.0]])
    merged, faces = cluster_vertices(vertices, np.array([[0, 2, 3], [1, 2, 3], [0, 1, 2]]), 2)
    np.testing.assert_allclose(sorted(merged.tolist()), [[0.1, 0, 0], [1, 0, 0], [1, 1, 0]])
    assert faces.shape == (1, 3)  # one twice, one collapsed


def test_what_is_no_mesh_is_refused():
    vertices, faces = sphere(3, 4)
    transform, rng = FixedMesh(64), np.random.default_rng(0)
    with pytest.raises(DataError, match="record a has no mesh, only id, points"):
        transform({"id": "a", "points": vertices}, rng)
    with pytest.raises(DataError, match="0 faces over 16 vertices"):
        transform({"vertices": vertices, "faces": faces[:0]}, rng)
    with pytest.raises(DataError, match="finite vertices"):
        transform({"vertices": vertices * np.nan, "faces": faces}, rng)
    with pytest.raises(DataError, match="no face has three corners"):
        transform({"vertices": vertices, "faces": np.zeros((3, 3), np.int32)}, rng)
    with pytest.raises(ConfigError, match="num_faces=10"):
        FixedMesh(10)
