"""Wavefront OBJ."""

from __future__ import annotations

import pathlib

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import with_trimesh
from jax3dret.geometry.mesh_formats.unusable import Unusable


def parse(path: pathlib.Path, data: bytes) -> Mesh:
    """The polygons of the file as triangles.

    Raises:
        Unusable: not OBJ, or cut off.
    """
    _check_obj(data)
    return with_trimesh.parse(path, data, ".obj")


def _check_obj(data: bytes) -> None:
    """OBJ announces nothing; a file cut inside a line shows in its last line, one without faces in
    the count.
    """
    if b"\0" in data[:4096]:
        raise Unusable("is binary, not Wavefront OBJ text; export it again")
    last = data.rstrip().rpartition(b"\n")[2].split()
    if last and last[0] in (b"v", b"f") and len(last) < 4:
        raise Unusable("ends in the middle of a line (truncated?); copy or export it again")
