"""PLY with faces, ASCII and binary."""

from __future__ import annotations

import pathlib
import re

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import with_trimesh
from jax3dret.geometry.mesh_formats.unusable import Unusable


def parse(path: pathlib.Path, data: bytes) -> Mesh:
    """The polygons of the file as triangles.

    Raises:
        Unusable: not PLY, cut off, or without faces.
    """
    announced = _check_ply(data)
    mesh = with_trimesh.parse(path, data, ".ply")
    with_trimesh.check_counts(mesh, *announced)
    return mesh


def _check_ply(data: bytes) -> tuple[int, int]:
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise Unusable(
            'has no complete PLY header ("ply" to "end_header"); copy or export it again'
        )
    counts = {
        name.decode(): int(n) for name, n in re.findall(rb"element\s+(\w+)\s+(\d+)", data[:end])
    }
    vertices, faces = counts.get("vertex", 0), counts.get("face", 0)
    if faces == 0:
        strips = (
            " (triangle strips are not supported)" if "tristrips" in counts else " (a point cloud?)"
        )
        raise Unusable(f"has {vertices} vertices but no faces{strips}; a triangle mesh is needed")
    return vertices, faces
