"""Point clouds from files: .npy, .xyz, .txt and PLY without faces; read whole, or refused with one
line that says why.
"""

from __future__ import annotations

import os
import pathlib
import re
import stat
import warnings

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import DataError
from jax3dret.geometry.mesh import MeshError

EXTENSIONS = (".npy", ".xyz", ".txt", ".ply")
_PLY_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
_PLY_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


class _Unusable(Exception):
    """The reason alone; load_points puts the path before it."""


def is_cloud(path: str | os.PathLike[str]) -> bool:
    """Whether a file is read as a point cloud: by its extension, and for a PLY by whether it
    announces faces.
    """
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if suffix != ".ply":
        return suffix in EXTENSIONS
    try:
        with path.open("rb") as file:
            header = file.read(1 << 16).partition(b"end_header")[0]
    except OSError:
        return False
    return not re.search(rb"^element\s+(face\s+0*[1-9]|tristrips)", header, re.MULTILINE)


def load_points(
    path: str | os.PathLike[str], *, max_bytes: int = 1 << 30
) -> Float[np.ndarray, "N 3"]:
    """The points of one file, float64, in the file's own order, units and axes.

    .npy: an array [N, 3 or more] of numbers. .xyz, .txt: a point a line, numbers parted by blanks
    or by commas, "#" starts a comment. In both the first three columns are x, y, z. .ply: the
    vertices, ASCII or binary. A file larger than max_bytes is refused before it is read.

    Raises: MeshError: the file cannot be read, is cut off, holds no point, or a coordinate that is
        not finite.
    """
    path = pathlib.Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _Unusable("is not a regular file; a point cloud file is needed")
        if status.st_size == 0:
            raise _Unusable("is empty (0 bytes); copy or export it again")
        if status.st_size > max_bytes:
            raise _Unusable(
                f"has {status.st_size:,} bytes, more than the limit of {max_bytes:,} (max_bytes)"
            )
        suffix = path.suffix.lower()
        if suffix not in EXTENSIONS:
            raise _Unusable(
                f"unknown point cloud format {suffix!r}; use one of {', '.join(EXTENSIONS)}"
            )
        read = {".npy": _read_npy, ".ply": _read_ply}.get(suffix, _read_text)
        points = np.ascontiguousarray(read(path), np.float64)
        broken = ~np.isfinite(points).all(1)
        if len(points) == 0:
            raise _Unusable("holds no points")
        if broken.any():
            raise _Unusable(
                f"{int(broken.sum())} of {len(points)} points are not finite (first: "
                f"{broken.argmax()})"
            )
        return points
    except _Unusable as reason:
        raise MeshError(f"{path}: {reason}") from None
    except FileNotFoundError:
        raise MeshError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise MeshError(f"{path}: permission denied; make the file readable") from None
    except DataError:
        raise
    except Exception as error:  # whatever a parser throws at a file it does not understand
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise MeshError(
            f"{path}: not a readable {path.suffix[1:].lower()} point cloud ({first})"
        ) from None


def _read_npy(path: pathlib.Path) -> np.ndarray:
    # A memory map: a wide array is not read for its first three columns, a pickle inside is never
    # run.
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] < 3:
        raise _Unusable(
            f"holds {values.dtype} of shape {values.shape}; numbers of shape (N, 3 or more) are "
            "needed"
        )
    return values[:, :3]


def _read_text(path: pathlib.Path) -> np.ndarray:
    text = path.read_text(encoding="utf-8-sig").replace(",", " ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a file without rows, which is refused below
        values = np.loadtxt(text.splitlines(), np.float64, ndmin=2)
    if not values.size:
        raise _Unusable("holds no points")
    if values.shape[1] < 3:
        raise _Unusable(f"has {values.shape[1]} numbers a line; x, y, z are needed")
    return values[:, :3]


def _read_ply(path: pathlib.Path) -> np.ndarray:
    data = path.read_bytes()
    end = re.search(rb"end_header\r?\n", data)
    if not data.startswith(b"ply") or end is None:
        raise _Unusable(
            'has no complete PLY header ("ply" to "end_header"); copy or export it again'
        )
    order, count, fields, element = "", 0, [], ""
    for line in data[: end.start()].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            order = _PLY_ORDERS.get(words[1], "")
        elif words[:1] == ["element"] and len(words) == 3:
            if not element and words[1] != "vertex":
                raise _Unusable(f"its first element is {words[1]!r}; vertices are needed")
            element, count = words[1], int(words[2]) if words[1] == "vertex" else count
        elif words[:1] == ["property"] and element == "vertex":
            if words[1] not in _PLY_TYPES:
                raise _Unusable(
                    f"vertex property {words[-1]!r} has the type {words[1]!r}, which a point "
                    "cannot have"
                )
            fields.append((words[-1], _PLY_TYPES[words[1]]))
    if not order or not {"x", "y", "z"} <= {name for name, _ in fields}:
        raise _Unusable("its header names no format that PLY has, or no vertex x, y, z")
    body = data[end.end() :]
    if order == "=":
        lines = body.decode("ascii", "replace").splitlines()[:count]
        found = len(lines)
        columns = [[name for name, _ in fields].index(axis) for axis in "xyz"]
        if found == count and count:
            return np.loadtxt(lines, np.float64, usecols=columns, ndmin=2)
    else:
        layout = np.dtype([(name, order + kind) for name, kind in fields])
        found = len(body) // layout.itemsize
        if found >= count:
            values = np.frombuffer(body, layout, count)
            return np.stack([values[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if not count:
        raise _Unusable("holds no points")
    raise _Unusable(
        f"holds {found} of the {count} points that its header announces (truncated?); copy it again"
    )
