"""Ordinary meshes, as trimesh writes and reads them: the same triangles, in the same order."""

import numpy as np
import pytest

from jax3dret.geometry.meshes import load_mesh

trimesh = pytest.importorskip("trimesh")


def meshes():
    rng = np.random.default_rng(11)
    ball = trimesh.creation.icosphere(subdivisions=2)
    yield ball.vertices * rng.uniform(0.5, 2, (len(ball.vertices), 1)), ball.faces
    points = rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-3, 4, (50, 3))
    yield points, np.array([rng.choice(50, 3, replace=False) for _ in range(200)])
    yield rng.integers(-9, 9, (30, 3)).astype(float), np.arange(30).reshape(-1, 3)


def written(vertices, faces):
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    for name, options in {
        "a.off": {"file_type": "off"},
        "digits.off": {"file_type": "off", "digits": 4},
        "a.obj": {"file_type": "obj", "digits": 12},
        "normals.obj": {"file_type": "obj", "include_normals": True},
        "binary.stl": {"file_type": "stl"},
        "text.stl": {"file_type": "stl_ascii"},
        "binary.ply": {"file_type": "ply"},
        "normals.ply": {"file_type": "ply", "vertex_normal": True},
        "text.ply": {"file_type": "ply", "encoding": "ascii"},
    }.items():
        content = mesh.export(**options)
        yield name, content.encode() if isinstance(content, str) else content
    mesh.visual.vertex_colors = np.arange(4 * len(vertices)).reshape(-1, 4) % 256
    for name in ("colours.obj", "colours.ply", "colours.off"):
        content = mesh.export(file_type=name[-3:])
        yield name, content.encode() if isinstance(content, str) else content


@pytest.mark.parametrize("which", range(3))
def test_the_same_triangles(tmp_path, which):
    vertices, faces = list(meshes())[which]
    for name, content in written(vertices, faces):
        (tmp_path / name).write_bytes(content)
        theirs = trimesh.load_mesh(tmp_path / name, process=False, maintain_order=True)
        ours = load_mesh(tmp_path / name)
        assert len(ours.faces) == len(faces), name
        # trimesh rounds the text of a PLY to the float32 that its header names; the digits count.
        rounded = 1e-7 if name == "text.ply" else 1e-15
        np.testing.assert_allclose(
            ours.vertices[ours.faces],
            theirs.vertices[theirs.faces],
            rtol=rounded,
            atol=1e-9 if name == "text.ply" else 0,
            err_msg=name,
        )
        digits = 1e-4 if "digits" in name else 1e-6
        scale = np.abs(vertices).max()
        np.testing.assert_allclose(
            ours.vertices[ours.faces], vertices[faces], atol=digits * scale, err_msg=name
        )
