"""The surface that a mesh stands for: where it is sharp, and its normals and curvature where it is
smooth.

A triangle mesh of a machine part is smooth along a fillet and sharp along an edge, and says
neither. Here an edge is sharp if its faces turn by more than an angle; corners of faces that meet
across smooth edges share a point with one normal, corners on the two sides of a sharp edge are
different points in the same place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jax3dret.geometry.mesh import Mesh, MeshError, check_faces

# Of the size: corners nearer to each other are one, and a face that is lower than ten times that
# has no normal of its own.
_GRID = 1e-6
_SLIVER = 2e-5


class SmoothSurface(NamedTuple):
    """Points p with unit normals, faces over them; sharp edges over places (points in the same
    place have the same number).

    curvature: the second fundamental form at each point as a symmetric matrix that maps the normal
    to 0: for a tangent vector w, w . (curvature w) is how fast the normal turns towards w along w;
    on a sphere of radius r, seen from outside, |w|^2 / r.
    sharp_faces: the faces of each sharp edge; a boundary has -1 as its second.
    """

    points: Float[np.ndarray, "P 3"]
    normals: Float[np.ndarray, "P 3"]
    curvature: Float[np.ndarray, "P 3 3"]
    faces: Int[np.ndarray, "F 3"]
    face_normals: Float[np.ndarray, "F 3"]
    places: Float[np.ndarray, "V 3"]
    sharp: Int[np.ndarray, "E 2"]
    sharp_faces: Int[np.ndarray, "E 2"]
    closed: bool


def smooth_surface(mesh: Mesh, *, crease: float = 50.0) -> SmoothSurface:
    """Finds the sharp edges (boundaries, edges of more than two faces, and those where faces turn
    by more than `crease` degrees) and estimates normals and curvature between them.

    Normals are means of the faces' by area, which keeps the planes of machined parts plane.
    Curvature: per face by least squares from the normals at its corners, per point the mean by area
    (Rusinkiewicz, "Estimating curvatures and their derivatives on triangle meshes", 3DPVT 2004).

    Raises: MeshError: no faces, a face that names a missing vertex, a vertex that is not finite, or
        no area.
    """
    places, faces = _welded(mesh)
    face_normals, area = _face_normals(places, faces)
    edges, sides, single, oriented = _edges(faces)
    turn = np.einsum("ei,ei->e", face_normals[sides[:, 0]], face_normals[sides[:, 1]]) * np.where(
        oriented, 1, -1
    )
    sharp = single | (turn < np.cos(np.deg2rad(crease)))
    smooth = ~sharp & oriented
    point = _points(faces, edges[smooth], sides[smooth])
    count = int(point.max()) + 1
    points = np.empty((count, 3))
    points[point] = places[faces]
    normals = _unit(_sums(point, np.repeat(face_normals * area[:, None], 3, 0), count))
    curvature = _curvature(points, normals, point, area, count)
    listed = np.where(single[:, None] & (np.arange(2) == 1), -1, sides)
    return SmoothSurface(
        points,
        normals,
        curvature,
        point,
        face_normals,
        places,
        edges[sharp],
        listed[sharp],
        closed=bool(not single.any() and oriented.all()),
    )


def _welded(mesh: Mesh) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Corners in one place made one; faces that keep three corners."""
    vertices = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
    faces = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    check_faces(faces, len(vertices), "lines")
    used, faces = np.unique(faces, return_inverse=True)
    vertices = vertices[used]
    broken = int((~np.isfinite(vertices)).any(1).sum())
    if broken:
        raise MeshError(f"lines of a mesh: {broken} of {len(vertices)} vertices are not finite")
    low = vertices.min(0)
    size = float((vertices.max(0) - low).max())
    if not size > 1e-12 * np.abs(vertices).max():
        raise MeshError(
            f"lines of a mesh whose {len(vertices)} vertices lie in one place: it has no size"
        )
    cell = np.rint((vertices - low) / (size * _GRID)).astype(np.int64)
    key = (cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2]
    _, first, same = np.unique(key, return_index=True, return_inverse=True)
    faces = same[faces].reshape(-1, 3)
    whole = (
        (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    )
    return vertices[first], faces[whole]


def _face_normals(
    places: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "F 3"], Float[np.ndarray, " F"]]:
    """Normals and areas; a sliver has the normal of the face beyond its longest edge, and no area."""
    corners = places[faces]
    sides = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]  # opposite to corner 0, 1, 2
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.sqrt((crossed * crossed).sum(1))
    size = float(np.ptp(places, axis=0).max()) if len(places) else 0.0
    if not double.sum() > 1e-12 * size * size:
        raise MeshError(f"lines of a mesh whose {len(faces)} faces have no area")
    length = np.sqrt((sides * sides).sum(2))
    longest = length.argmax(1)
    sliver = double < _SLIVER * size * length.max(1)
    own = _unit(crossed)
    if not sliver.any():
        return own, double / 2
    normals = own.copy()
    beyond = _across(faces, np.flatnonzero(sliver), longest[sliver])
    for _ in range(4):  # slivers lie beside slivers
        normals[sliver] = np.where((beyond >= 0)[:, None], normals[beyond], own[sliver])
    return normals, np.where(sliver, 0.0, double / 2)


def _across(
    faces: Int[np.ndarray, "F 3"], chosen: Int[np.ndarray, " S"], corner: Int[np.ndarray, " S"]
) -> Int[np.ndarray, " S"]:
    """The other face at the edge opposite to `corner` of the chosen faces, -1 if there is none."""
    keys = _keys(
        faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]
    ).ravel()  # half edge 3 f + c lies opposite to corner c
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    half = 3 * chosen + corner
    first = np.searchsorted(ordered, keys[half])
    a, b = order[first], order[np.minimum(first + 1, len(order) - 1)]
    other = np.where(a == half, b, a)
    return np.where((keys[other] == keys[half]) & (other != half), other // 3, -1)


def _keys(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.minimum(a, b) << 32) | np.maximum(a, b)


def _edges(faces: Int[np.ndarray, "F 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Edges [E, 2], their two faces [E, 2], whether there is only one, whether the faces run along
    them in opposite ways.

    An edge of more than two faces counts as one of a single face: nothing is smooth across it.
    """
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    keys = _keys(start, end)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[begins, len(ordered)])
    first, last = order[begins], order[begins + counts - 1]
    edges = np.stack([start[first], end[first]], 1)
    single = counts != 2
    return (
        edges,
        np.stack([first // 3, last // 3], 1),
        single,
        (start[first] != start[last]) | single,
    )


def _points(faces: np.ndarray, edges: np.ndarray, sides: np.ndarray) -> Int[np.ndarray, "F 3"]:
    """Numbers the corners of faces so that those which meet across the given edges share a number."""
    ends = []
    for place in edges.T:
        at = [3 * side + (faces[side] == place[:, None]).argmax(1) for side in sides.T]
        ends.append(np.stack(at))
    a, b = np.concatenate(ends, axis=1) if len(edges) else np.zeros((2, 0), np.int64)
    count = faces.size
    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), (count, count))
    return connected_components(graph, directed=False)[1].reshape(-1, 3).astype(np.int64)


def _curvature(
    points: Float[np.ndarray, "P 3"],
    normals: Float[np.ndarray, "P 3"],
    faces: Int[np.ndarray, "F 3"],
    area: Float[np.ndarray, " F"],
    count: int,
) -> Float[np.ndarray, "P 3 3"]:
    corners, turned = points[faces], normals[faces]
    sides = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]
    changes = turned[:, [2, 0, 1]] - turned[:, [1, 2, 0]]
    u = _unit(sides[:, 0])
    normal = _unit(np.cross(sides[:, 0], sides[:, 1]))
    v = np.cross(normal, u)
    x, y = np.einsum("fki,fi->fk", sides, u), np.einsum("fki,fi->fk", sides, v)
    p, q = np.einsum("fki,fi->fk", changes, u), np.einsum("fki,fi->fk", changes, v)
    # Least squares for [[a, b], [b, c]] (x, y) = (p, q) over the three sides.
    xx, xy, yy = (x * x).sum(1), (x * y).sum(1), (y * y).sum(1)
    zero = np.zeros_like(xx)
    left = np.stack([xx, xy, zero, xy, xx + yy, xy, zero, xy, yy], 1).reshape(-1, 3, 3)
    right = np.stack([(x * p).sum(1), (y * p + x * q).sum(1), (y * q).sum(1)], 1)
    usable = area > 0
    left[~usable] = np.eye(3)
    left += 1e-9 * np.trace(left, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    a, b, c = np.linalg.solve(left, right[..., None])[..., 0].T
    form = (
        a[:, None, None] * u[:, :, None] * u[:, None]
        + c[:, None, None] * v[:, :, None] * v[:, None]
    )
    form += b[:, None, None] * (u[:, :, None] * v[:, None] + v[:, :, None] * u[:, None])
    weight = np.where(usable, area, 0.0)
    total = _sums(faces, np.repeat(form.reshape(-1, 9) * weight[:, None], 3, 0), count)
    whole = np.bincount(faces.ravel(), np.repeat(weight, 3), count)
    mean = (total / np.maximum(whole, 1e-300)[:, None]).reshape(-1, 3, 3)
    tangent = np.eye(3) - normals[:, :, None] * normals[:, None]
    return tangent @ mean @ tangent


def _sums(
    index: Int[np.ndarray, "F 3"], rows: Float[np.ndarray, "R D"], count: int
) -> Float[np.ndarray, "P D"]:
    flat = index.ravel()
    return np.stack([np.bincount(flat, rows[:, i], count) for i in range(rows.shape[1])], 1)


def _unit(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    length = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
