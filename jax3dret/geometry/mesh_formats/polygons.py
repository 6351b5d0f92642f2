"""Polygons split into triangles: each keeps its orientation and its corners, none is added.

Where the triangles that fan out from the first corner are the polygon (whatever is convex, or seen
whole from that corner), they are taken; that is checked, not assumed. For a polygon of few corners
the other corners are tried too: one corner turned in sees all of most. The rest are cut by ear
clipping, by Manifold's triangulator: it gives n - 2 triangles for n corners also where corners
repeat, lie on one line, or where a slit leads to a hole.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from jax3dret.geometry.mesh_formats.unusable import Unusable

# A triangle that is turned over counts from this share of its polygon's area on; below it, it is
# the rounding of coordinates along a straight edge.
_TURNED = 1e-9
_SMALL = 8  # corners up to which fans of the other corners are tried, for all polygons at once


def triangulate(
    vertices: Float[np.ndarray, "V 3"], corners: Int[np.ndarray, "C"], sizes: Int[np.ndarray, "P"]
) -> Int[np.ndarray, "F 3"]:
    """The triangles of polygons, in the polygons' order: max(n - 2, 0) for one of n corners.

    A polygon that is not plane is cut as its projection along its Newell normal is (Sutherland,
    Sproull and Schumacker 1974). One that crosses itself, or has no area, encloses nothing that
    could be agreed on: its corners are joined by n - 2 triangles whose signed area is its own, and
    they may overlap. Polygons of one and two corners are points and edges, and give no triangle.

    Args:
        vertices: float64, any unit and frame.
        corners: the vertices of all polygons, one polygon after the other, counted from 0.
        sizes: how many corners each polygon has; their sum is C.

    Returns:
        int64 vertices of each triangle.

    Raises:
        Unusable: a corner that is no vertex, or a polygon that cannot be cut.
    """
    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        stray = int(corners.min() if corners.min() < 0 else corners.max())
        raise Unusable(
            f"a face refers to vertex {stray}, but there are {len(vertices)} vertices (counted "
            "from 0); export it again"
        )
    if (sizes == 3).all():
        return corners.reshape(-1, 3).astype(np.int64, copy=False)
    begins = np.cumsum(sizes) - sizes
    counts = np.maximum(sizes - 2, 0)
    places = np.cumsum(counts) - counts
    faces = np.empty((int(counts.sum()), 3), np.int64)
    for size in np.unique(sizes[sizes > 2]).tolist():
        chosen = np.flatnonzero(sizes == size)
        polygons = corners[begins[chosen, None] + np.arange(size)]
        triangles = _same_size(vertices, polygons)
        faces[places[chosen, None] + np.arange(size - 2)] = polygons[
            np.arange(len(polygons))[:, None, None], triangles
        ]
    return faces


def _same_size(vertices: np.ndarray, polygons: np.ndarray) -> np.ndarray:
    """Corners of the triangles of polygons int64[P, n], counted within each: int64[P, n - 2, 3]."""
    num, size = polygons.shape
    first = np.arange(1, size - 1)
    fan = np.stack([np.zeros_like(first), first, first + 1], axis=1)
    triangles = np.broadcast_to(fan, (num, size - 2, 3)).copy()
    if size == 3:
        return triangles
    with np.errstate(all="ignore"):  # corners may be too large or no numbers: refused by others
        points = vertices[polygons]
        points = points - points[:, :1]
        extent = np.abs(points).max(axis=(1, 2))
        points /= np.where(extent > 0, extent, 1.0)[:, None, None]
        doubled = np.cross(points[:, 1:-1], points[:, 2:])  # of the fan, corner 0 being the origin
        normal = doubled.sum(axis=1)
        length = np.linalg.norm(normal, axis=1)
        has_plane = length > 1e-12  # else no area; NaN is none either
        unit = normal / np.where(has_plane, length, 1.0)[:, None]
        wrong = has_plane & ~_is_whole(points, doubled, unit, length)
        for shift in range(1, size if size <= _SMALL else 1):
            if not wrong.any():
                break
            turned = np.roll(points[wrong], -shift, axis=1)
            turned -= turned[:, :1].copy()
            doubled = np.cross(turned[:, 1:-1], turned[:, 2:])
            chosen = np.flatnonzero(wrong)[_is_whole(turned, doubled, unit[wrong], length[wrong])]
            triangles[chosen] = (fan + shift) % size
            wrong[chosen] = False
    if size == 4:  # a quad that no corner sees whole crosses itself, however it is cut
        return triangles
    for index in np.flatnonzero(wrong).tolist():
        triangles[index] = _cut(points[index], unit[index], polygons[index])
    return triangles


def _is_whole(
    points: np.ndarray, doubled: np.ndarray, unit: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """Whether the fan of corner 0 covers each polygon once: no triangle is turned over, and seen
    from the corner the others go less than once around it.
    """
    heights = np.einsum("pnk,pk->pn", doubled, unit)
    upright = (heights >= -_TURNED * length[:, None]).all(axis=1)
    if points.shape[1] == 4:  # two triangles cannot go once around
        return upright
    along = np.einsum("pnk,pnk->pn", points[:, 1:-1], points[:, 2:])
    swept = np.arctan2(np.maximum(heights, 0.0), along).sum(axis=1)
    return upright & (swept < 2 * np.pi - 1e-6)


def _cut(points: np.ndarray, unit: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Ear clipping of one polygon float64[n, 3] in the plane of its normal: int64[n - 2, 3]."""
    import manifold3d  # only polygons that are not convex pay for it

    axis = np.eye(3)[np.abs(unit).argmin()]
    across = np.cross(unit, axis)
    across /= np.linalg.norm(across)
    plane = points @ np.stack([across, np.cross(unit, across)], axis=1)
    triangles = np.asarray(manifold3d.triangulate([plane]), np.int64).reshape(-1, 3)
    a, b, c = (plane[triangles[:, i]] for i in range(3))
    own = _signed_area(a, b, c).sum()
    whole = _signed_area(plane[:1], plane[1:-1], plane[2:]).sum()
    if len(triangles) != len(polygon) - 2 or not abs(own - whole) <= 1e-6 * abs(whole) + 1e-12:
        raise Unusable(
            f"its polygon of {len(polygon)} corners from vertex {int(polygon[0])} on (counted from "
            "0) cannot be cut into triangles; triangulate the mesh before export"
        )
    return triangles


def _signed_area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    u, v = b - a, c - a
    return 0.5 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
