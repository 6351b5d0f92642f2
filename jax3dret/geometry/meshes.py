"""Triangle meshes from files: read, checked whole, or refused with one line that names the file and
the reason.

A reader that accepts half a file is worse than none: a truncated STL, a point cloud in a PLY and an
empty OBJ all parse without complaint and give a mesh with no or too few faces. So what the format
announces (counts, lengths, closing words) is compared with what is there before the mesh is used,
and a statement, property or number that is not understood ends the reading.
Nothing is repaired: no vertex is dropped, no face is turned.
"""

from __future__ import annotations

import os
import pathlib
import stat

import numpy as np

from jax3dret.core.files import pointer
from jax3dret.geometry.mesh import Mesh, MeshError
from jax3dret.geometry.mesh_formats import gltf, obj, off, ply, stl, threemf, unread
from jax3dret.geometry.mesh_formats.text import is_web_page
from jax3dret.geometry.mesh_formats.unusable import Unusable

EXTENSIONS = (".off", ".obj", ".stl", ".ply", ".glb", ".gltf", ".3mf")
# Summed face area, with the mesh scaled to a largest coordinate of one, below which there is no
# surface to sample.
_MIN_AREA = 1e-14
_AT_ONCE = 4096  # faces


def load_mesh(path: str | os.PathLike[str], *, max_bytes: int = 1 << 30) -> Mesh:
    """The triangles of one mesh file (off, obj, stl, ply, glb, gltf, 3mf), in the file's own units
    and axes.

    Polygons are cut into triangles that are the polygon, concave ones too; scenes are merged with
    their transforms applied, the repeated corners of an STL become shared vertices, materials are
    ignored. Points, edges and curves are no surface and are passed over; what might be surface and
    is not understood is refused by its name. A file larger than max_bytes is refused before it is
    read.

    Raises: MeshError: the file cannot be read, is cut off, has no faces, has a vertex that is not
        finite, a face that refers to a vertex that does not exist, or no surface area.
    """
    return load_with_unit(path, max_bytes=max_bytes)[0]


def load_with_unit(path: str | os.PathLike[str], *, max_bytes: int = 1 << 30) -> tuple[Mesh, str]:
    """What `load_mesh` gives, and the unit of its lengths: "m" in glTF by its specification, what a
    3MF says ("mm", "um", "cm", "m", "in" or "ft"), empty in formats that have none.

    Raises as `load_mesh`.
    """
    path = pathlib.Path(path)
    try:
        data = _read(path, max_bytes)
        with np.errstate(all="ignore"):  # what is not finite is said below
            mesh, unit = _parse(path, data, max_bytes)
        return _checked(mesh), unit
    except Unusable as reason:
        raise MeshError(f"{path}: {reason}") from None
    except PermissionError:
        raise MeshError(f"{path}: permission denied; make the file readable") from None
    except OSError as error:
        raise MeshError(f"{path}: cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise MeshError(
            f"{path}: does not fit into memory; simplify the mesh or raise the memory limit"
        ) from None
    except Exception as error:  # whatever a parser throws at a file it does not understand
        first = (str(error).strip().splitlines() or [""])[0][:160]
        raise MeshError(
            f"{path}: not a readable {path.suffix[1:].lower()} file ({type(error).__name__}: "
            f"{first}); "
            "export it again or convert it to another format"
        ) from None


def _read(path: pathlib.Path, max_bytes: int) -> bytes:
    if path.suffix.lower() not in EXTENSIONS:
        if reason := unread.reason_of(path):
            raise Unusable(reason)
        raise Unusable(
            f"unknown mesh format {path.suffix or '(no extension)'!r}; use one of "
            f"{', '.join(EXTENSIONS)}"
        )
    try:
        status = path.stat()
    except FileNotFoundError:
        raise Unusable("no such file; check the path") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise Unusable(f"is {kind}; a mesh file is needed")
    if status.st_size == 0:
        raise Unusable("is empty (0 bytes); copy or export it again")
    if status.st_size > max_bytes:
        raise Unusable(
            f"has {status.st_size:,} bytes, more than the limit of {max_bytes:,} (max_bytes); "
            "simplify the mesh or raise the limit"
        )
    data = path.read_bytes()
    pointed = pointer(data[:64])
    if pointed is not None:
        raise Unusable(f"is {pointed[0]}; {pointed[1]}")
    if is_web_page(data[:256]):
        raise Unusable("is an HTML page, not a mesh (a failed download?); download the file itself")
    return data


def _parse(path: pathlib.Path, data: bytes, max_bytes: int) -> tuple[Mesh, str]:
    """The mesh as it stands in the file, and the unit that its format or the file itself says."""
    suffix = path.suffix.lower()
    if suffix == ".3mf":
        reading = threemf.read(data, max_bytes)
        return reading.mesh, reading.unit
    if suffix in (".glb", ".gltf"):
        return gltf.parse(path, data, max_bytes), "m"
    parse = {".obj": obj.parse, ".off": off.parse, ".ply": ply.parse, ".stl": stl.parse}[suffix]
    return parse(data), ""


def _checked(mesh: Mesh) -> Mesh:
    vertices, faces = mesh
    if len(faces) == 0:
        cloud = (
            f"has {len(vertices)} vertices but no faces (a point cloud?)"
            if len(vertices)
            else "has no faces"
        )
        raise Unusable(f"{cloud}; a triangle mesh is needed")
    broken = ~np.isfinite(vertices).all(1)
    if broken.any():
        raise Unusable(
            f"{int(broken.sum())} of {len(vertices)} vertices are not finite (first: vertex "
            f"{int(broken.argmax())}); "
            "every coordinate must be a number"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        worst = int(faces.min()) if faces.min() < 0 else int(faces.max())
        raise Unusable(
            f"a face refers to vertex {worst}, but there are {len(vertices)} vertices; export it "
            "again"
        )
    extent = np.abs(vertices - vertices[faces[0, 0]]).max() if len(vertices) else 0.0
    if not np.isfinite(extent):
        raise Unusable("coordinates are too large for float64; scale the mesh down")
    if not _has_area(vertices, faces, extent):
        raise Unusable(f"all {len(faces)} faces have zero area; a mesh with a surface is needed")
    return Mesh(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int32))


def _has_area(vertices: np.ndarray, faces: np.ndarray, extent: float) -> bool:
    """Whether the summed area of the faces, at an extent of one, is more than _MIN_AREA; it mostly
    is after the first few.
    """
    area = 0.0
    for begin in range(0, len(faces) if extent > 0 else 0, _AT_ONCE):
        corners = vertices[faces[begin : begin + _AT_ONCE]]
        corners = (corners - vertices[faces[0, 0]]) / extent
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area += 0.5 * float(np.linalg.norm(normals, axis=1).sum())
        if area > _MIN_AREA:
            return True
    return False
