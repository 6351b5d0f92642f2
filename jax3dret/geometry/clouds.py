"""Point clouds from files: .npy, .xyz, .txt and PLY without faces; read whole, or refused with one
line that says why.
"""

from __future__ import annotations

import os
import pathlib
import stat

import numpy as np
from jaxtyping import Float

from jax3dret.core.files import pointer
from jax3dret.geometry import cloud_text
from jax3dret.geometry.mesh import MeshError
from jax3dret.geometry.mesh_formats import ply
from jax3dret.geometry.mesh_formats.text import is_web_page
from jax3dret.geometry.mesh_formats.unusable import Unusable

EXTENSIONS = (".npy", ".xyz", ".txt", ".ply")
_FEW = 32  # numbers that one point may have: coordinates, normal, colour, labels


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
            head = file.read(1 << 16)
    except OSError:
        return False
    return not ply.has_faces(head)


def load_points(
    path: str | os.PathLike[str], *, max_bytes: int = 1 << 30
) -> Float[np.ndarray, "N 3"]:
    """The points of one file, float64, in the file's own order, units and axes.

    .npy: an array [N, 3 or more] of numbers, x, y, z first. .xyz, .txt: a point a line, numbers
    parted by blanks, commas or semicolons; before them comments, a line of names or a title, and a
    count, which is checked (`cloud_text`). .ply: the vertices, ASCII or binary. Further numbers of
    a point are passed over. A file larger than max_bytes is refused before it is read.

    Raises: MeshError: the file cannot be read, is cut off, holds no point, points in its columns
        instead of its rows, or a coordinate that is not finite.
    """
    path = pathlib.Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("is not a regular file; a point cloud file is needed")
        if status.st_size == 0:
            raise Unusable("is empty (0 bytes); copy or export it again")
        if status.st_size > max_bytes:
            raise Unusable(
                f"has {status.st_size:,} bytes, more than the limit of {max_bytes:,} (max_bytes)"
            )
        suffix = path.suffix.lower()
        if suffix not in EXTENSIONS:
            raise Unusable(
                f"unknown point cloud format {suffix!r}; use one of {', '.join(EXTENSIONS)}"
            )
        with path.open("rb") as file:
            head = file.read(256)
        pointed = pointer(head)
        if pointed is not None:
            raise Unusable(f"is {pointed[0]}; {pointed[1]}")
        if is_web_page(head):
            raise Unusable(
                "is an HTML page, not a point cloud (a failed download?); download the file itself"
            )
        if suffix == ".npy":
            found = _of_array(path)
        else:
            found = (ply.points if suffix == ".ply" else cloud_text.parse)(path.read_bytes())
        points = np.ascontiguousarray(found, np.float64)
        broken = ~np.isfinite(points).all(1)
        if len(points) == 0:
            raise Unusable("holds no points")
        if broken.any():
            raise Unusable(
                f"{int(broken.sum())} of {len(points)} points are not finite (first: "
                f"{broken.argmax()})"
            )
        return points
    except Unusable as reason:
        raise MeshError(f"{path}: {reason}") from None
    except FileNotFoundError:
        raise MeshError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise MeshError(f"{path}: permission denied; make the file readable") from None
    except OSError as error:
        raise MeshError(f"{path}: cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise MeshError(f"{path}: does not fit into memory; save fewer points") from None
    except Exception as error:  # whatever a reader does not foresee
        raise MeshError(
            f"{path}: not a readable {path.suffix[1:].lower()} point cloud "
            f"({type(error).__name__}); export it again"
        ) from None


def _of_array(path: pathlib.Path) -> np.ndarray:
    values = _array(path)
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] < 3:
        raise Unusable(
            f"holds {values.dtype} of shape {values.shape}; numbers of shape (N, 3 or more) are "
            "needed"
        )
    rows, columns = values.shape
    if columns > rows and (rows == 3 or columns > _FEW):
        raise Unusable(
            f"holds an array of shape {values.shape}: its points are columns; a row a point is "
            f"needed, so transpose it (array.T) to shape {values.shape[::-1]}"
        )
    return values[:, :3]


def _array(path: pathlib.Path) -> np.ndarray:
    """A memory map: a wide array is not read for its first three columns, a pickle inside is never
    run.
    """
    header = np.lib.format
    with path.open("rb") as file:
        try:
            version = header.read_magic(file)
            read = {(1, 0): header.read_array_header_1_0, (2, 0): header.read_array_header_2_0}
            shape, _, kind = read.get(version, header.read_array_header_2_0)(file)
            begin = file.tell()
        except Exception:  # whatever a broken header makes of its parser
            raise Unusable(
                "has no whole header of a NumPy array (truncated, or another kind of file?); save "
                "it again with numpy.save"
            ) from None
    if min(shape, default=0) < 0:
        raise Unusable(f"holds an array of shape {shape}; save it again with numpy.save")
    if kind.hasobject:
        raise Unusable(
            "holds Python objects, which are never loaded; save the numbers as a plain array"
        )
    size = begin + kind.itemsize * int(np.prod(shape, dtype=object))
    if path.stat().st_size < size:
        raise Unusable(
            f"has {path.stat().st_size:,} of {size:,} bytes (truncated?); copy or save it again"
        )
    if 0 in shape:
        raise Unusable(f"holds no points: its array has the shape {shape}")
    return np.load(path, mmap_mode="r", allow_pickle=False)
