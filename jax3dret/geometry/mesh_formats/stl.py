"""STL, ASCII and binary."""

from __future__ import annotations

import pathlib
import struct

import numpy as np

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import with_trimesh
from jax3dret.geometry.mesh_formats.unusable import Unusable


def parse(path: pathlib.Path, data: bytes) -> Mesh:
    """The triangles of the file; corners with equal coordinates are one vertex.

    Raises:
        Unusable: not STL, or cut off.
    """
    announced = _check_stl(data)
    mesh = with_trimesh.parse(path, data, ".stl")
    with_trimesh.check_counts(mesh, *announced)
    return _shared_vertices(mesh)


def _check_stl(data: bytes) -> tuple[int, int]:
    if len(data) >= 84:
        (count,) = struct.unpack_from("<I", data, 80)
        if len(data) >= 84 + 50 * count and (count or not data.lstrip().startswith(b"solid")):
            return 0, count
    text = data.lstrip()
    if text[:5].lower() == b"solid" and b"facet" in text[:2048]:
        if b"endsolid" not in text[-1024:].lower():
            raise Unusable('does not end with "endsolid" (truncated?); copy or export it again')
        return 0, text.lower().count(b"endfacet")
    if len(data) < 84:
        raise Unusable(
            f"has {len(data)} bytes, fewer than the header of an STL file; copy or export it again"
        )
    raise Unusable(
        f"holds {(len(data) - 84) // 50} of the {count} triangles that its header announces "
        "(truncated?); "
        "copy or export it again"
    )


def _shared_vertices(mesh: Mesh) -> Mesh:
    """STL writes each corner of each triangle; corners with equal coordinates become one vertex, in
    file order.
    """
    if len(mesh.vertices) == 0:
        return mesh
    _, first, inverse = np.unique(mesh.vertices, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Mesh(mesh.vertices[first[order]], rank[inverse.reshape(-1)][mesh.faces])
