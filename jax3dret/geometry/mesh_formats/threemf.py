"""3D Manufacturing Format: a zip archive of XML parts."""

from __future__ import annotations

import io
import pathlib
import zipfile

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import with_trimesh
from jax3dret.geometry.mesh_formats.unusable import Unusable


def parse(path: pathlib.Path, data: bytes, max_bytes: int) -> Mesh:
    """The triangles of what the build section names, transforms applied.

    Raises:
        Unusable: not a whole archive, or it unpacks to more than max_bytes.
    """
    _check_3mf(data, max_bytes)
    return with_trimesh.parse(path, data, ".3mf")


def _check_3mf(data: bytes, max_bytes: int) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise Unusable(
            "is not a complete 3MF (zip) archive (truncated?); copy or export it again"
        ) from None
    if unpacked > max_bytes:
        raise Unusable(
            f"unpacks to {unpacked:,} bytes, more than the limit of {max_bytes:,} (max_bytes)"
        )
