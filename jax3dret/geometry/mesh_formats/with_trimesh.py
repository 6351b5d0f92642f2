"""Formats that trimesh parses: scenes merged with their transforms applied."""

from __future__ import annotations

import io
import pathlib
from typing import Any

import numpy as np

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats.unusable import Unusable


def parse(path: pathlib.Path, data: bytes, suffix: str) -> Mesh:
    import trimesh  # 0.6 s to import: only those who read files pay for it

    # process=False: the default drops non-finite vertices and merges others without saying so.
    options: dict[str, Any] = {"process": False}
    if suffix in (".glb", ".gltf"):
        options["skip_materials"] = True
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
        raise Unusable(
            f"a face refers to a vertex that does not exist ({error}); export it again"
        ) from None
    vertices, faces = np.asarray(merged.vertices, np.float64), np.asarray(merged.faces, np.int64)
    if len(faces) == 0 and points:
        raise Unusable(
            f"has {points} vertices but no faces (a point cloud?); a triangle mesh is needed"
        )
    return Mesh(vertices.reshape(-1, 3), faces.reshape(-1, 3))
