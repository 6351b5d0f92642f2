"""Triangle meshes from files: read, checked whole, or refused with one line that names the file and
the reason.

A parser that accepts half a file is worse than none: a truncated STL, a point cloud in a PLY and an
empty OBJ all parse without complaint and give a mesh with no or too few faces. So what the format
announces (counts, lengths, closing words) is compared with what is there before the mesh is used.
Nothing is repaired: no vertex is dropped, no face is turned.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pathlib
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import DataError

EXTENSIONS = (".off", ".obj", ".stl", ".ply", ".glb", ".gltf", ".3mf")
# Summed face area, with the mesh scaled to a largest coordinate of one, below which there is no
# surface to sample.
_MIN_AREA = 1e-14


class Mesh(NamedTuple):
    """Triangles: corner i of face f is vertices[faces[f, i]], counter-clockwise seen from outside.
    File units and axes.
    """

    vertices: Float[np.ndarray, "V 3"]  # float64
    faces: Int[np.ndarray, "F 3"]  # int32


class MeshError(DataError):
    """A file that gives no usable triangle mesh: "path: reason; what is expected"."""


class _Unusable(Exception):
    """The reason alone; load_mesh puts the path before it."""


def load_mesh(path: str | os.PathLike[str], *, max_bytes: int = 1 << 30) -> Mesh:
    """The triangles of one mesh file (off, obj, stl, ply, glb, gltf, 3mf), in the file's own units
    and axes.

    Polygons are split into triangle fans, scenes are merged with their transforms applied, the
    repeated corners of an STL become shared vertices, materials are ignored. A file larger than
    max_bytes is refused before it is read.

    Raises: MeshError: the file cannot be read, is cut off, has no faces, has a vertex that is not
        finite, a face that refers to a vertex that does not exist, or no surface area.
    """
    path = pathlib.Path(path)
    try:
        data = _read(path, max_bytes)
        with _quiet():
            mesh = _parse(path, data, max_bytes)
        return _checked(mesh)
    except _Unusable as reason:
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


def normalize_points(
    points: Float[np.ndarray, "N 3"],
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " 3"], float]:
    """Points moved to their mean and divided by the largest distance from it, so that they fill the
    unit ball.

    Returns (float32 points, float64 centroid, scale): points = centroid + scale * result. Computed
    in float64. This is the `centroid` normalisation of the published code of ULIP-2 fine-tuning for
    geometric object retrieval (Computers & Graphics 122 (2024) 103993).

    Raises:
        DataError: no points, a coordinate that is not finite, or all points in one place.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise DataError(f"points have shape {points.shape}; at least one row of x, y, z is needed")
    if not np.isfinite(points).all():
        raise DataError(
            f"{int((~np.isfinite(points)).any(1).sum())} of {len(points)} points are not finite"
        )
    centroid = points.mean(0)
    centred = points - centroid
    largest = np.abs(
        centred
    ).max()  # dividing by it first keeps the squares inside the range of float64
    if not largest > 1e-12 * np.abs(points).max():
        raise DataError(f"all {len(points)} points lie in one place, so the cloud has no size")
    scale = float(largest * np.sqrt(((centred / largest) ** 2).sum(1)).max())
    return (centred / scale).astype(np.float32), centroid, scale


def _read(path: pathlib.Path, max_bytes: int) -> bytes:
    if path.suffix.lower() not in EXTENSIONS:
        raise _Unusable(
            f"unknown mesh format {path.suffix or '(no extension)'!r}; use one of "
            f"{', '.join(EXTENSIONS)}"
        )
    try:
        status = path.stat()
    except FileNotFoundError:
        raise _Unusable("no such file; check the path") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise _Unusable(f"is {kind}; a mesh file is needed")
    if status.st_size == 0:
        raise _Unusable("is empty (0 bytes); copy or export it again")
    if status.st_size > max_bytes:
        raise _Unusable(
            f"has {status.st_size:,} bytes, more than the limit of {max_bytes:,} (max_bytes); "
            "simplify the mesh or raise the limit"
        )
    data = path.read_bytes()
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", data[:200], re.IGNORECASE):
        raise _Unusable(
            "is an HTML page, not a mesh (a failed download?); download the file itself"
        )
    return data


def _parse(path: pathlib.Path, data: bytes, max_bytes: int) -> Mesh:
    """Completeness checks that the format allows, then the parser."""
    suffix = path.suffix.lower()
    if suffix == ".off":
        return _parse_off(data)
    announced = {
        ".obj": _check_obj,
        ".stl": _check_stl,
        ".ply": _check_ply,
        ".glb": _check_glb,
        ".gltf": _check_gltf,
    }
    expected = (0, 0)
    if suffix == ".3mf":
        _check_3mf(data, max_bytes)
    else:
        expected = announced[suffix](data)
    mesh = _trimesh(path, data, suffix)
    if len(mesh.vertices) < expected[0] or (len(mesh.faces) and len(mesh.faces) < expected[1]):
        raise _Unusable(
            f"holds {len(mesh.vertices)} vertices and {len(mesh.faces)} faces but its header "
            "announces "
            f"{expected[0]} and {expected[1]} (truncated?); copy or export it again"
        )
    return _shared_vertices(mesh) if suffix == ".stl" else mesh


def _trimesh(path: pathlib.Path, data: bytes, suffix: str) -> Mesh:
    import trimesh  # 0.6 s to import: only those who read files pay for it

    # process=False: the default drops non-finite vertices and merges others without saying so.
    options: dict[str, Any] = {"process": False}
    if suffix in (".obj", ".glb", ".gltf"):
        options["skip_materials"] = True
    if suffix == ".obj":
        options.update(split_object=False, group_material=False, maintain_order=True)
    resolver = trimesh.resolvers.FilePathResolver(str(path.absolute()))
    try:
        scene = trimesh.load_scene(
            io.BytesIO(data), file_type=suffix[1:], resolver=resolver, **options
        )
        points = sum(
            len(g.vertices) for g in scene.geometry.values() if isinstance(g, trimesh.PointCloud)
        )
        merged = scene.to_mesh()
    except IndexError as error:
        raise _Unusable(
            f"a face refers to a vertex that does not exist ({error}); export it again"
        ) from None
    vertices, faces = np.asarray(merged.vertices, np.float64), np.asarray(merged.faces, np.int64)
    if len(faces) == 0 and points:
        raise _Unusable(
            f"has {points} vertices but no faces (a point cloud?); a triangle mesh is needed"
        )
    return Mesh(vertices.reshape(-1, 3), faces.reshape(-1, 3))


def _checked(mesh: Mesh) -> Mesh:
    vertices, faces = mesh
    if len(faces) == 0:
        cloud = (
            f"has {len(vertices)} vertices but no faces (a point cloud?)"
            if len(vertices)
            else "has no faces"
        )
        raise _Unusable(f"{cloud}; a triangle mesh is needed")
    broken = ~np.isfinite(vertices).all(1)
    if broken.any():
        raise _Unusable(
            f"{int(broken.sum())} of {len(vertices)} vertices are not finite (first: vertex "
            f"{int(broken.argmax())}); "
            "every coordinate must be a number"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        worst = int(faces.min()) if faces.min() < 0 else int(faces.max())
        raise _Unusable(
            f"a face refers to vertex {worst}, but there are {len(vertices)} vertices; export it "
            "again"
        )
    extent = np.abs(vertices - vertices[faces[0, 0]]).max() if len(vertices) else 0.0
    if not np.isfinite(extent):
        raise _Unusable("coordinates are too large for float64; scale the mesh down")
    area = 0.0
    if extent > 0:
        corners = ((vertices - vertices[faces[0, 0]]) / extent)[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = 0.5 * float(np.linalg.norm(normals, axis=1).sum())
    if not area > _MIN_AREA:
        raise _Unusable(f"all {len(faces)} faces have zero area; a mesh with a surface is needed")
    return Mesh(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int32))


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


def _parse_off(data: bytes) -> Mesh:
    """OFF, COFF, NOFF ...: one vertex or one face a line; counts may be glued to the magic word
    ("OFF3 1 0").
    """
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    lines = [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]
    magic = re.match(r"(?:ST)?C?N?OFF(?![A-Za-z])", lines[0]) if lines else None
    if magic is None:
        raise _Unusable('does not begin with "OFF"; export it again as ASCII OFF')
    rest = lines[0][magic.end() :].strip()
    if rest.upper().startswith("BINARY"):
        raise _Unusable("is binary OFF; export it as ASCII OFF")
    lines = [rest, *lines[1:]] if rest else lines[1:]
    try:
        num_vertices, num_faces = (int(word) for word in lines[0].split()[:2])
    except (IndexError, ValueError):
        raise _Unusable('has no "vertices faces edges" counts after OFF; export it again') from None
    if num_vertices < 0 or num_faces < 0:
        raise _Unusable(
            f"announces {num_vertices} vertices and {num_faces} faces; counts cannot be negative"
        )
    rows = lines[1 : 1 + num_vertices + num_faces]
    if len(rows) < num_vertices + num_faces:
        raise _Unusable(
            f"announces {num_vertices} vertices and {num_faces} faces but holds {len(rows)} of "
            "their "
            f"{num_vertices + num_faces} lines (truncated?); copy or export it again"
        )
    try:
        vertices = np.array([row.split()[:3] for row in rows[:num_vertices]], np.float64).reshape(
            -1, 3
        )
    except ValueError:
        raise _Unusable("has a vertex line that is not three numbers; export it again") from None
    words = [row.split() for row in rows[num_vertices:]]
    try:
        sizes = [int(word[0]) for word in words]
        polygons = [word[1 : size + 1] for word, size in zip(words, sizes, strict=True)]
        if any(
            size < 1 or len(polygon) < size for size, polygon in zip(sizes, polygons, strict=True)
        ):
            raise ValueError
        if all(size == 3 for size in sizes):
            faces = np.array(polygons, np.int64).reshape(-1, 3)
        else:  # polygons of one or two corners are points and lines: no surface
            fans = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
            faces = np.array(fans, np.int64).reshape(-1, 3)
    except ValueError:
        raise _Unusable(
            "has a face line without its vertex numbers (truncated?); copy or export it again"
        ) from None
    return Mesh(vertices, faces)


def _check_obj(data: bytes) -> tuple[int, int]:
    """OBJ announces nothing; a file cut inside a line shows in its last line, one without faces in
    the count.
    """
    if b"\0" in data[:4096]:
        raise _Unusable("is binary, not Wavefront OBJ text; export it again")
    last = data.rstrip().rpartition(b"\n")[2].split()
    if last and last[0] in (b"v", b"f") and len(last) < 4:
        raise _Unusable("ends in the middle of a line (truncated?); copy or export it again")
    return 0, 0


def _check_stl(data: bytes) -> tuple[int, int]:
    if len(data) >= 84:
        (count,) = struct.unpack_from("<I", data, 80)
        if len(data) >= 84 + 50 * count and (count or not data.lstrip().startswith(b"solid")):
            return 0, count
    text = data.lstrip()
    if text[:5].lower() == b"solid" and b"facet" in text[:2048]:
        if b"endsolid" not in text[-1024:].lower():
            raise _Unusable('does not end with "endsolid" (truncated?); copy or export it again')
        return 0, text.lower().count(b"endfacet")
    if len(data) < 84:
        raise _Unusable(
            f"has {len(data)} bytes, fewer than the header of an STL file; copy or export it again"
        )
    raise _Unusable(
        f"holds {(len(data) - 84) // 50} of the {count} triangles that its header announces "
        "(truncated?); "
        "copy or export it again"
    )


def _check_ply(data: bytes) -> tuple[int, int]:
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise _Unusable(
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
        raise _Unusable(f"has {vertices} vertices but no faces{strips}; a triangle mesh is needed")
    return vertices, faces


def _check_glb(data: bytes) -> tuple[int, int]:
    if len(data) < 20 or data[:4] != b"glTF":
        raise _Unusable('does not begin with "glTF"; copy or export it again')
    (announced,) = struct.unpack_from("<I", data, 8)
    if len(data) < announced:
        raise _Unusable(
            f"has {len(data):,} of {announced:,} bytes (truncated?); copy or export it again"
        )
    (length,) = struct.unpack_from("<I", data, 12)
    return _check_gltf(data[20 : 20 + length])


def _check_gltf(text: bytes) -> tuple[int, int]:
    try:
        document = json.loads(text)
    except ValueError:
        raise _Unusable("its JSON is broken (truncated?); copy or export it again") from None
    packed = {"KHR_draco_mesh_compression", "EXT_meshopt_compression"}.intersection(
        document.get("extensionsRequired", []) if isinstance(document, dict) else []
    )
    if packed:
        raise _Unusable(
            f"is compressed with {', '.join(sorted(packed))}; export it without mesh compression"
        )
    return 0, 0


def _check_3mf(data: bytes, max_bytes: int) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise _Unusable(
            "is not a complete 3MF (zip) archive (truncated?); copy or export it again"
        ) from None
    if unpacked > max_bytes:
        raise _Unusable(
            f"unpacks to {unpacked:,} bytes, more than the limit of {max_bytes:,} (max_bytes)"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The parser's own log lines and warnings stay inside: the one line of MeshError is what a user
    reads.
    """
    logger = logging.getLogger("trimesh")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
