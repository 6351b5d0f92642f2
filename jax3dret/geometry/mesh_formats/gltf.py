"""glTF 2.0: .gltf with its buffers, and .glb."""

from __future__ import annotations

import json
import pathlib
import struct

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import with_trimesh
from jax3dret.geometry.mesh_formats.unusable import Unusable


def parse(path: pathlib.Path, data: bytes) -> Mesh:
    """The triangles of the default scene, transforms applied.

    Raises:
        Unusable: not glTF, cut off, or it needs an extension that is not read.
    """
    suffix = path.suffix.lower()
    if suffix == ".glb":
        _check_glb(data)
    else:
        _check_gltf(data)
    return with_trimesh.parse(path, data, suffix)


def _check_glb(data: bytes) -> None:
    if len(data) < 20 or data[:4] != b"glTF":
        raise Unusable('does not begin with "glTF"; copy or export it again')
    (announced,) = struct.unpack_from("<I", data, 8)
    if len(data) < announced:
        raise Unusable(
            f"has {len(data):,} of {announced:,} bytes (truncated?); copy or export it again"
        )
    (length,) = struct.unpack_from("<I", data, 12)
    _check_gltf(data[20 : 20 + length])


def _check_gltf(text: bytes) -> None:
    try:
        document = json.loads(text)
    except ValueError:
        raise Unusable("its JSON is broken (truncated?); copy or export it again") from None
    packed = {"KHR_draco_mesh_compression", "EXT_meshopt_compression"}.intersection(
        document.get("extensionsRequired", []) if isinstance(document, dict) else []
    )
    if packed:
        raise Unusable(
            f"is compressed with {', '.join(sorted(packed))}; export it without mesh compression"
        )
