"""The cells of a lattice over [-1, 1]^3 that a surface passes through or near."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.core.types import DataError
from jax3dret.geometry.mesh import Mesh, check_faces
from jax3dret.geometry.sampling import sample_surface

# Pairs of a triangle and a cell that are looked at together: some 150 MB of float64.
PAIRS = 1 << 18
OCTANTS = np.stack([np.arange(8) >> 2 & 1, np.arange(8) >> 1 & 1, np.arange(8) & 1], -1)


def touched(mesh: Mesh, level: int, dilation: float = 0.5) -> Int[np.ndarray, "C 3"]:
    """The cells of side 2 / 2^level within which, widened by `dilation` of a side to every side, a
    triangle of the mesh has a point: by x, then y, then z.

    A triangle and a box are apart if one of 13 axes parts them (Akenine-Moeller 2001). Cells are
    halved level by level, so that a large triangle costs what its area does. A triangle without
    area counts as the line or point that it is; what lies outside the domain touches nothing.

    Raises DataError for a mesh without faces or with a corner that is not finite.
    """
    check_faces(mesh.faces, len(mesh.vertices), "occupied cells")
    corners = np.asarray(mesh.vertices, np.float64)[mesh.faces]
    if not np.isfinite(corners).all():
        raise DataError("occupied cells: the mesh has a face with a NaN or infinite corner")
    # In units of finest cells, from the corner of the domain.
    corners = (corners + 1) * 2 ** (level - 1)
    found = [np.zeros(0, np.int64)]
    whole = np.zeros((len(corners), 3), np.int64)
    stack = [
        (0, np.arange(len(corners))[begin : begin + PAIRS], whole[begin : begin + PAIRS])
        for begin in range(0, len(corners), PAIRS)
    ]
    while stack:
        depth, triangles, cells = stack.pop()
        side = 2 ** (level - depth)
        near = _overlap(corners[triangles] - (cells[:, None] + 0.5) * side, side / 2 + dilation)
        triangles, cells = triangles[near], cells[near]
        if depth == level:
            found.append(
                np.unique((cells[:, 0] << 2 * level) + (cells[:, 1] << level) + cells[:, 2])
            )
            continue
        cells = (2 * cells[:, None] + OCTANTS).reshape(-1, 3)
        triangles = np.repeat(triangles, 8)
        for begin in range(0, len(cells), PAIRS):
            part = slice(begin, begin + PAIRS)
            stack.append((depth + 1, triangles[part], cells[part]))
    keys = np.unique(np.concatenate(found))
    mask = 2**level - 1
    return np.stack([keys >> 2 * level, keys >> level & mask, keys & mask], -1)


def sampled(
    mesh: Mesh, level: int, generator: np.random.Generator, count: int = 2_000_000
) -> Int[np.ndarray, "C 3"]:
    """The cells of side 2 / 2^level that hold one of `count` points drawn from the surface, or its
    copy moved by up to half a side along each axis (Kaolin Wisp): by x, then y, then z.

    Points beyond the domain count for its outermost cells. Raises DataError as `sample_surface`.
    """
    points, _ = sample_surface(mesh, count, generator)
    moved = points + generator.uniform(-1, 1, points.shape) / 2 ** (level + 1)
    both = np.concatenate([points, moved])
    cells = np.clip(np.floor((both + 1) * 2 ** (level - 1)), 0, 2**level - 1).astype(np.int64)
    return np.unique(cells, axis=0)


def _overlap(corners: Float[np.ndarray, "P 3 3"], half: float) -> Bool[np.ndarray, " P"]:
    """Whether triangles and the box of half a side `half` around the origin have a point in
    common."""
    near = (corners.min(1) <= half).all(1) & (corners.max(1) >= -half).all(1)
    index = np.flatnonzero(near)
    corners = corners[index]
    edges = np.roll(corners, -1, 1) - corners
    normal = np.cross(edges[:, 0], edges[:, 1])
    reach = half * np.abs(normal).sum(1)
    apart = np.abs(np.einsum("pi,pi->p", normal, corners[:, 0])) > reach
    for edge in edges.swapaxes(0, 1):
        for axis in range(3):
            one, other = (axis + 1) % 3, (axis + 2) % 3
            # The product of the edge and a unit vector, along which all three corners are seen.
            along = (
                corners[:, :, one] * edge[:, None, other]
                - corners[:, :, other] * edge[:, None, one]
            )
            reach = half * (np.abs(edge[:, one]) + np.abs(edge[:, other]))
            apart |= (along.min(1) > reach) | (along.max(1) < -reach)
    near[index[apart]] = False
    return near
