"""A mesh brought into the unit sphere, the frame of every field."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jax3dret.geometry.mesh import Mesh, MeshError, check_faces


class UnitMesh(NamedTuple):
    """mesh: in the unit sphere. A vertex x of the source lies at (x - centre) / scale in it."""

    mesh: Mesh
    centre: Float[np.ndarray, " 3"]
    scale: float


def to_unit_sphere(mesh: Mesh) -> UnitMesh:
    """The mesh with the centre of its bounding box at the origin, and its farthest vertex on the
    unit sphere: the domain [-1, 1]^3 of a field holds it (INRet's source, Kaolin Wisp, calls it
    'sphere').

    Only vertices that a face uses count, and only these are kept. float64 throughout, so that a far
    origin costs no precision.

    Raises MeshError: no faces, a face that names a missing vertex, a vertex that is not finite, or
    all vertices in one place.
    """
    vertices = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
    faces = np.asarray(mesh.faces, np.int32).reshape(-1, 3)
    check_faces(faces, len(vertices), "a field")
    used, number = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], number.reshape(-1, 3).astype(np.int32)
    broken = int((~np.isfinite(vertices)).any(1).sum())
    if broken:
        raise MeshError(f"a field of a mesh: {broken} of {len(vertices)} vertices are not finite")
    low, high = vertices.min(0), vertices.max(0)
    extent = float((high - low).max())  # dividing by it first keeps squares inside float64
    if not extent > 1e-12 * np.abs(vertices).max():
        raise MeshError(
            f"a field of a mesh whose {len(vertices)} vertices lie in one place: it has no size"
        )
    centre = low + (high - low) / 2
    local = (vertices - centre) / extent
    reach = float(np.sqrt((local * local).sum(1)).max())
    return UnitMesh(Mesh(local / reach, faces), centre, extent * reach)
