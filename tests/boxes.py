"""A box of 2 x 1 x 3 for tests of files: area 22, volume 6 where its faces turn outwards, and no
axis like another.
"""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from jax3dret.geometry.mesh import Mesh, MeshError
from jax3dret.geometry.meshes import load_mesh

VERTICES = np.array([[x, y, z] for x in (0, 2) for y in (0, 1) for z in (0, 3)], float)
QUADS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)
FACES = QUADS[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
# An L of area 5 in the plane y = 0.25 x + 1, its inner corner third: a fan of any corner but two
# covers more.
ELL = np.array([[3, 0], [3, 1], [1, 1], [1, 3], [0, 3], [0, 0]], float)


def load(folder: pathlib.Path, name: str, content: str | bytes) -> Mesh:
    """The mesh of a file with that content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_mesh(path)


def refusal(folder: pathlib.Path, name: str, content: str | bytes) -> str:
    """The reason against a file with that content: one line, the path before it."""
    with pytest.raises(MeshError) as caught:
        load(folder, name, content)
    said = str(caught.value)
    assert said.startswith(f"{folder / name}: ") and "\n" not in said and said.isprintable()
    return said.removeprefix(f"{folder / name}: ")


def area(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def volume(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def assert_box(mesh: Mesh, what: str = "", faces: int = 12) -> None:
    """The box itself: as many faces, its area, its place and the way its faces turn."""
    assert len(mesh.faces) == faces, what
    assert area(mesh) == pytest.approx(22, rel=1e-6), what
    assert volume(mesh) == pytest.approx(6, rel=1e-6), what
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)
    assert corners.min(0).tolist() == [0, 0, 0] and corners.max(0).tolist() == [2, 1, 3], what
