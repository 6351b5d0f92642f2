"""A triangle mesh, and the error of a file that gives none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import DataError


class Mesh(NamedTuple):
    """Triangles: corner i of face f is vertices[faces[f, i]], counter-clockwise seen from outside.
    File units and axes.
    """

    vertices: Float[np.ndarray, "V 3"]  # float64
    faces: Int[np.ndarray, "F 3"]  # int32


class MeshError(DataError):
    """A file that gives no usable triangle mesh: "path: reason; what is expected"."""


def check_faces(faces: Int[np.ndarray, "F 3"], num_vertices: int, purpose: str) -> None:
    """Raises MeshError for a mesh without faces, or a face that names a missing vertex. purpose:
    "views" of it, say.
    """
    if not len(faces):
        raise MeshError(
            f"{purpose} of a mesh of {num_vertices} vertices and no faces: at least one face is "
            "needed"
        )
    if faces.min() < 0 or faces.max() >= num_vertices:
        stray = faces.max() if faces.min() >= 0 else faces.min()
        raise MeshError(
            f"{purpose} of a mesh whose faces name vertex {stray}: it has {num_vertices}"
        )
