"""Small meshes, and fits of them that take no time."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np
from models.fields.fields_of import small

from jax3dret.geometry.mesh import Mesh
from jax3dret.models.fields.field import Function
from jax3dret.models.fields.fit import FitSpec
from jax3dret.models.fields.fit_meshes import Job

_FACES = "013 032 467 475 045 051 237 276 026 064 157 173"  # of a box whose corners count in binary
FACES = np.array([[int(c) for c in face] for face in _FACES.split()], np.int32)


def box(*sides: float) -> Mesh:
    """A closed box with one corner at the origin, faces outwards."""
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    return Mesh(corners * np.array(sides), FACES)


def sheet() -> Mesh:
    """A square that bounds no volume."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32))


def write_off(path: pathlib.Path, mesh: Mesh) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [" ".join(map(str, row)) for row in mesh.vertices.tolist()]
    rows += ["3 " + " ".join(map(str, row)) for row in mesh.faces.tolist()]
    head = f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0\n"
    path.write_text(head + "\n".join(rows) + "\n")
    return path


def quick(name: str = "triplane", function: Function = "sdf", **spec: Any) -> Job:
    """A few steps of a small architecture."""
    given = {"steps": 6, "learning_rate": 1e-3, "batch": 16, "pool": 60, "chunk": 4, **spec}
    return Job(small(name), function, FitSpec(**given), "quick")
