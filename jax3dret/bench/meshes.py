"""Mesh files: reading and checking one against trimesh alone, for each format.

One bumpy sphere is written once in every format. OFF and OBJ hold 1.3 million faces, as the largest
files of the usual data sets do; the others a part of them, as the name of each case says. Both
sides read the same file, warm; trimesh as it comes checks little of it. A GLB or 3MF is a scene to
it, of which `trimesh.load_mesh` makes the one mesh that `load_mesh` gives; `trimesh.load` would
leave a GLB where it lies. Sides take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from jax3dret.bench.paired_timing import compare
from jax3dret.bench.render import bumpy_sphere
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.meshes import load_mesh

# File, and how many rows of 1,000 columns of quads its sphere has: two faces each.
FILES = {
    "off": 650,
    "obj": 650,
    "stl, ascii": 50,
    "stl, binary": 650,
    "ply, ascii": 150,
    "ply, binary": 650,
    "glb": 650,
    "3mf": 50,
}
COLUMNS = 1000
SCENES = ("glb", "3mf")


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """One entry for each format: name, ours, baseline, baseline_name, ratio = ours / baseline,
    unit.

    Times are medians of `repeats` readings after a warm-up, in seconds.
    """
    import trimesh

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in FILES.items():
            mesh = bumpy_sphere(rows, COLUMNS)
            path = pathlib.Path(folder) / f"mesh.{name.partition(',')[0]}"
            path.write_bytes(_written(mesh, name))
            theirs = trimesh.load_mesh if name in SCENES else trimesh.load
            found.append(
                compare(
                    f"{name}, {len(mesh.faces):,} faces",
                    functools.partial(load_mesh, path),
                    f"trimesh.{theirs.__name__}",
                    functools.partial(theirs, path),
                    repeats=repeats,
                )
            )
    return found


def _written(mesh: Mesh, name: str) -> bytes:
    """A mesh as a file of a format."""
    import trimesh

    if name == "off":
        return b"OFF\n%d %d 0\n" % (len(mesh.vertices), len(mesh.faces)) + _lines(
            mesh, b"", b"3 ", 0
        )
    if name == "obj":
        return _lines(mesh, b"v ", b"f ", 1)
    options: dict[str, Any] = {"file_type": name.partition(",")[0]}
    if name == "stl, ascii":
        options["file_type"] = "stl_ascii"
    if name == "ply, ascii":
        options["encoding"] = "ascii"
    content: Any = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(**options)
    return content.encode() if isinstance(content, str) else content


def _lines(mesh: Mesh, vertex: bytes, face: bytes, first: int) -> bytes:
    """A vertex or a face a line, six decimals, vertices counted from `first`."""
    row: Callable[[tuple[Any, ...]], bytes] = (vertex + b"%.6f %.6f %.6f\n").__mod__
    vertices = b"".join(map(row, map(tuple, mesh.vertices.tolist())))
    row = (face + b"%d %d %d\n").__mod__
    return vertices + b"".join(map(row, map(tuple, (mesh.faces.astype(np.int64) + first).tolist())))
