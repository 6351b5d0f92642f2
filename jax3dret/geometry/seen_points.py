"""Points of a mesh where rays from anywhere meet it: how the points of a traced field lie on its
surface.
"""

from __future__ import annotations

import igl
import numpy as np
from jaxtyping import Float

from jax3dret.core.types import DataError
from jax3dret.geometry.mesh import Mesh, check_faces

_RAYS = 1 << 16
_ROUNDS = 1000


def seen_points(mesh: Mesh, count: int, rng: np.random.Generator) -> Float[np.ndarray, "N 3"]:
    """Exactly `count` points, float32: the first meetings of rays that start uniformly in
    [-1, 1]^3, in uniform directions, with a mesh in the unit sphere.

    This is what tracing a field gives in the limit (`geometry.isosurface.surface_points`), so that
    two clouds differ by their shapes alone: what is hidden in a shape is seen from within its parts
    only, and what stands free more often than what lies in a hollow.

    Raises:
        MeshError: no faces, or a face that names a missing vertex.
        DataError: a thousand rounds of 65,536 rays do not find so many.
    """
    vertices = np.ascontiguousarray(mesh.vertices, np.float64)
    faces = np.ascontiguousarray(mesh.faces, np.int64)
    check_faces(faces, len(vertices), "points seen")
    tree = igl.AABB()
    tree.init(vertices, faces)
    found, have = [np.empty((0, 3))], 0
    for _ in range(_ROUNDS):
        if have >= count:
            return np.concatenate(found)[:count].astype(np.float32)
        origins = rng.uniform(-1.0, 1.0, (_RAYS, 3))
        towards = rng.standard_normal((_RAYS, 3))
        face, along, _ = tree.intersect_ray_first(vertices, faces, origins, towards)
        hit = face >= 0
        found.append((origins + along[:, None] * towards)[hit])
        have += len(found[-1])
    raise DataError(
        f"{have} of {_ROUNDS * _RAYS} rays meet the mesh, for {count} points: it is too thin to be "
        "seen"
    )
