"""Thumbnails of meshes and point clouds: a small software renderer in NumPy.

No GL context, no display, no randomness: the same input gives the same bytes on every machine of
one NumPy version, which lets a thumbnail stand in a test and in a report that is compared from run
to run.

The picture is orthographic, drawn at twice the wanted resolution on a z-buffer and averaged down.
Shading is deferred: the z-buffer keeps which primitive won each pixel, and light is computed once
per visible pixel: the cost follows the size of the picture and not the number of hidden faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from jax3dret.core.types import DataError
from jax3dret.geometry.zbuffer import cross, draw, owners_in, rasterize

if TYPE_CHECKING:
    from jax3dret.geometry.mesh import Mesh

STEEL = (0.64, 0.72, 0.83)
_SUPERSAMPLE = 2
_MARGIN = 0.06  # of the picture's side, left free on each edge
_CREASE_COS = np.cos(
    np.deg2rad(38.0)
)  # faces meeting at a flatter angle than this are shaded as one smooth surface
_MAX_POINTS = 1 << 17
_MAX_RING = (
    24  # neighbours per corner that enter its smooth normal; only fans around a hub have more
)
# Directions towards the lights in the camera's frame (right, up, towards the viewer), and their
# strengths.
_KEY_LIGHT = np.array([-0.60, 0.64, 0.48]) / np.linalg.norm([-0.60, 0.64, 0.48])
_FILL_LIGHT = np.array([0.70, 0.05, 0.71]) / np.linalg.norm([0.70, 0.05, 0.71])
_AMBIENT, _SKY, _KEY, _FILL, _SPECULAR = 0.40, 0.10, 0.62, 0.16, 0.08
_HAZE = 0.45  # how much of white the farthest point of a cloud takes on
# Low to high: the colours of points that carry no normals.
_HEIGHT_RAMP = np.array(
    [
        [0.20, 0.27, 0.50],
        [0.20, 0.45, 0.62],
        [0.27, 0.64, 0.62],
        [0.58, 0.78, 0.50],
        [0.93, 0.80, 0.42],
    ]
)


def camera_axes(
    azimuth: float, elevation: float, up: Literal["y", "z"]
) -> Float[np.ndarray, "3 3"]:
    """Rows: the camera's right, up and towards-viewer directions in the object's frame; angles in
    degrees.

    With z up the viewer stands at (cos el cos az, cos el sin az, sin el). With y up the object is
    first turned so that its y axis becomes z, (x, y, z) -> (x, -z, y), so that a cloud and its
    re-oriented copy give the same picture.
    """
    if up not in ("y", "z"):
        raise DataError(f"up={up!r}: the up axis of a picture is 'y' or 'z'")
    az, el = np.deg2rad(azimuth), np.deg2rad(elevation)
    right = np.array([-np.sin(az), np.cos(az), 0.0])
    toward = np.array([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)])
    axes = np.stack([right, np.cross(toward, right), toward])
    if up == "y":
        axes = axes @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return axes


def render_mesh(
    mesh: Mesh,
    *,
    size: int = 160,
    azimuth: float = 35.0,
    elevation: float = 25.0,
    up: Literal["y", "z"] = "z",
    color: Sequence[float] = STEEL,
) -> UInt8[np.ndarray, "size size 3"]:
    """A shaded picture of a mesh on white, filling the frame.

    Faces are two-sided, because the winding of found meshes is not to be relied on. Zero-area faces
    draw nothing.

    Args:
        mesh: vertices [V, 3] and faces [F, 3] (a `Mesh`, or anything with these two attributes).
        size: side of the square picture in pixels.
        azimuth, elevation: where the viewer stands, degrees; see `camera_axes`.
        up: which axis of the mesh points up.
        color: surface colour, each channel in [0, 1].

    Raises:
        DataError: no faces, a face that names a missing vertex, or a vertex that is not finite.
    """
    vertices = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
    faces = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    _check_size(size)
    if not len(faces) or not len(vertices):
        raise DataError(
            f"cannot render a mesh of {len(vertices)} vertices and {len(faces)} faces: it needs at "
            "least one face"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        stray = faces.max() if faces.min() >= 0 else faces.min()
        raise DataError(
            f"cannot render a mesh whose faces name vertex {stray}: it has {len(vertices)}"
        )
    if not np.isfinite(vertices).all():
        raise DataError("cannot render a mesh with vertices that are not finite")

    side = size * _SUPERSAMPLE
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    view = vertices @ camera_axes(azimuth, elevation, up).T
    screen = _fit(view, view[used], side)
    corners = screen[faces]  # [F, 3 corners, (column, row, depth in pixels)]
    owners = rasterize(corners, side)
    normals = _corner_normals(view, faces)

    visible = np.flatnonzero(owners >= 0)
    face = owners[visible]
    weights = _barycentric(corners[face], np.stack([visible % side, visible // side], -1) + 0.5)
    normal = np.einsum("pk,pkd->pd", weights, normals[face])
    depth = np.einsum("pk,pk->p", weights, corners[face, :, 2])
    return _compose(
        side, visible, depth, _toward_viewer(normal), np.asarray(color, np.float64)[None]
    )


def render_points(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"] | None = None,
    *,
    size: int = 160,
    azimuth: float = 35.0,
    elevation: float = 25.0,
    up: Literal["y", "z"] = "z",
    color: Sequence[float] = STEEL,
) -> UInt8[np.ndarray, "size size 3"]:
    """A picture of a point cloud on white: one disc per point, nearer ones in front.

    With `normals` the discs are lit like the surface they were sampled from, in `color`; without,
    each is a small ball coloured by its height. The radius follows the number of points, so that 1
    k and 16 k points both read as a shape; of more than 131,072 points every second, third, ... is
    drawn.

    Raises: DataError: no points, a coordinate that is not finite, or normals of another shape than
        the points.
    """
    points = np.asarray(points, np.float64)
    _check_size(size)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise DataError(
            f"cannot render points of shape {points.shape}: it must be (N, 3) with N at least 1"
        )
    if not np.isfinite(points).all():
        raise DataError("cannot render points that are not finite")
    if normals is not None and np.shape(normals) != points.shape:
        raise DataError(
            f"cannot render points {points.shape} with normals {np.shape(normals)}: the shapes "
            "must be equal"
        )

    side = size * _SUPERSAMPLE
    every = -(-len(points) // _MAX_POINTS)
    points = points[::every]
    axes = camera_axes(azimuth, elevation, up)
    view = points @ axes.T
    # At least 0.75 pixels: a disc that small still covers the centre of some pixel, so no point
    # vanishes.
    radius = max(side * float(np.clip(0.68 / np.sqrt(len(points)), 0.006, 0.03)), 0.75)
    screen = _fit(view, view, side - 2 * radius)
    screen[:, :2] += radius
    visible, point, ball = _splat(screen, radius, side)
    depth = screen[point, 2] + radius * ball[:, 2]
    if normals is None:
        base = _ramp(points[:, 1] if up == "y" else points[:, 2])[point]
        return _compose(side, visible, depth, ball, base, haze=_HAZE)
    # A little of the ball keeps single discs apart where neighbouring normals are equal.
    lit = _toward_viewer((np.asarray(normals, np.float64)[::every] @ axes.T)[point]) + 0.3 * ball
    return _compose(
        side, visible, depth, _toward_viewer(lit), np.asarray(color, np.float64)[None], haze=_HAZE
    )


def _check_size(size: int) -> None:
    if not 8 <= size <= 4096:
        raise DataError(f"size={size}: the side of a picture is 8 to 4096 pixels")


def _fit(
    view: Float[np.ndarray, "V 3"], extent_of: Float[np.ndarray, "U 3"], side: float
) -> Float[np.ndarray, "V 3"]:
    """Camera coordinates -> (column, row, depth) in pixels, the extent centred in a picture of
    `side`.
    """
    low, high = extent_of.min(0), extent_of.max(0)
    extent = float((high - low)[:2].max())
    scale = side * (1 - 2 * _MARGIN) / extent if extent > 0 else 1.0
    centered = (view - (low + high) / 2) * scale
    return np.stack([centered[:, 0] + side / 2, side / 2 - centered[:, 1], centered[:, 2]], -1)


def _splat(
    screen: Float[np.ndarray, "N 3"], radius: float, side: int
) -> tuple[Int[np.ndarray, " V"], Int[np.ndarray, " V"], Float[np.ndarray, "V 3"]]:
    """The pixels that a ball covers, the ball nearest to the viewer there, and the place on it
    (unit ball).
    """
    reach = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
    stencil = np.stack(np.meshgrid(reach, reach), -1).reshape(-1, 2)
    stencil = stencil[np.hypot(stencil[:, 0], stencil[:, 1]) <= radius + 0.71]
    base = np.floor(screen[:, :2]).astype(np.int64)
    column, row = (base[:, None, i] + stencil[None, :, i] for i in (0, 1))
    dx, dy = column + 0.5 - screen[:, None, 0], row + 0.5 - screen[:, None, 1]
    rest = radius * radius - dx * dx - dy * dy
    inside = (rest >= 0) & (column >= 0) & (row >= 0) & (column < side) & (row < side)
    depth = (screen[:, None, 2] + np.sqrt(np.maximum(rest, 0.0)))[inside]
    owner = np.broadcast_to(np.arange(len(screen))[:, None], inside.shape)[inside]
    buffer = np.full(side * side, -1, np.int64)
    draw(
        buffer,
        (row * side + column)[inside],
        depth,
        owner,
        float(screen[:, 2].min()),
        float(depth.max()),
    )
    owners = owners_in(buffer)
    visible = np.flatnonzero(owners >= 0)
    dx = visible % side + 0.5 - screen[owners[visible], 0]
    dy = screen[owners[visible], 1] - (visible // side + 0.5)
    rest = np.maximum(radius * radius - dx * dx - dy * dy, 0.0)
    return visible, owners[visible], np.stack([dx, dy, np.sqrt(rest)], -1) / radius


def _barycentric(
    corners: Float[np.ndarray, "P 3 3"], at: Float[np.ndarray, "P 2"]
) -> Float[np.ndarray, "P 3"]:
    """Weights of the three corners at each place, kept inside the face."""
    a, b, c = (corners[:, i, :2] for i in range(3))
    area = cross(b - a, c - a)
    area = np.where(np.abs(area) < 1e-12, 1.0, area)
    wb, wc = cross(at - a, c - a) / area, cross(b - a, at - a) / area
    weights = np.clip(np.stack([1 - wb - wc, wb, wc], -1), 0.0, 1.0)
    return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-12)


def _corner_normals(
    view: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "F 3 3"]:
    """Unit normal at every corner: the area-weighted mean over the faces round its vertex within
    the crease.

    Vertices at the same place count as one (many formats repeat them per face); normals of faces
    with opposite winding are compared without their sign.
    """
    p = view[faces]
    area_normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    length = np.linalg.norm(area_normal, axis=1, keepdims=True)
    unit = area_normal / np.maximum(length, 1e-300)
    place = _weld(view)[faces].reshape(-1)
    order = np.argsort(place, kind="stable")
    degree = np.bincount(place)
    start = np.cumsum(degree) - degree
    rank = np.empty(len(place), np.int64)
    rank[order] = np.arange(len(place)) - start[place[order]]
    own_face = np.repeat(np.arange(len(faces)), 3)
    total = area_normal[own_face]
    corner = np.arange(len(place))
    for shift in range(1, min(int(degree.max()), _MAX_RING + 1)):
        corner = corner[degree[place[corner]] > shift]
        at = place[corner]
        other = own_face[order[start[at] + (rank[corner] + shift) % degree[at]]]
        alike = np.einsum("nd,nd->n", unit[own_face[corner]], unit[other])
        weight = np.where(np.abs(alike) >= _CREASE_COS, np.sign(alike), 0.0)
        total[corner] += weight[:, None] * area_normal[other]
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-300)
    return total.reshape(-1, 3, 3)


def _weld(view: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, " V"]:
    """One number per distinct place, on a grid of a millionth of the extent."""
    low = view.min(0)
    cell = max(float((view.max(0) - low).max()), 1e-300) / (1 << 20)
    grid = np.rint((view - low) / cell).astype(np.int64)
    return np.unique((grid[:, 0] << 42) | (grid[:, 1] << 21) | grid[:, 2], return_inverse=True)[
        1
    ].reshape(-1)


def _toward_viewer(normals: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
    normals = normals * np.where(normals[:, 2:] < 0, -1.0, 1.0)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _ramp(height: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
    low, high = float(height.min()), float(height.max())
    at = (height - low) / (high - low) if high > low else np.full(height.shape, 0.5)
    stops = np.linspace(0, 1, len(_HEIGHT_RAMP))
    return np.stack([np.interp(at, stops, _HEIGHT_RAMP[:, i]) for i in range(3)], -1)


def _compose(
    side: int,
    visible: Int[np.ndarray, " P"],
    depth: Float[np.ndarray, " P"],
    normals: Float[np.ndarray, "P 3"],
    base: Float[np.ndarray, "#P 3"],
    haze: float = 0.0,
) -> UInt8[np.ndarray, "size size 3"]:
    """Light the visible pixels, darken hollows (surfaces) or whiten with distance (clouds), average
    down onto white.
    """
    key = np.maximum(normals @ _KEY_LIGHT, 0.0)
    fill = np.maximum(normals @ _FILL_LIGHT, 0.0)
    half = (_KEY_LIGHT + np.array([0.0, 0.0, 1.0])) / np.linalg.norm(
        _KEY_LIGHT + np.array([0.0, 0.0, 1.0])
    )
    shine = _SPECULAR * np.maximum(normals @ half, 0.0) ** 24
    light = _AMBIENT + _SKY * normals[:, 1] + _KEY * key + _FILL * fill
    if not haze:
        light *= _openness(side, visible, depth)
    lit = np.clip(base * light[:, None] + shine[:, None], 0.0, 1.0)
    if haze and len(depth):
        lit += (1.0 - lit) * (haze * (depth.max() - depth) / max(float(np.ptp(depth)), 1e-9))[
            :, None
        ]
    image = np.ones((side * side, 3))
    image[visible] = lit
    image = image.reshape(
        side // _SUPERSAMPLE, _SUPERSAMPLE, side // _SUPERSAMPLE, _SUPERSAMPLE, 3
    ).mean((1, 3))
    return np.rint(image * 255.0).astype(np.uint8)


def _openness(
    side: int, visible: Int[np.ndarray, " P"], depth: Float[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """1 on open surfaces, less where the neighbourhood stands in front: the depth buffer minus its
    own blur.
    """
    if not len(visible):
        return np.ones(0)
    plane = np.zeros(side * side)
    covered = np.zeros(side * side)
    plane[visible] = depth - depth.min()
    covered[visible] = 1.0
    radius = max(side // 40, 1)
    blurred = _box(plane.reshape(side, side), radius) / np.maximum(
        _box(covered.reshape(side, side), radius), 1e-9
    )
    behind = np.clip(blurred.reshape(-1)[visible] - plane[visible], 0.0, side * 0.06) / (
        side * 0.06
    )
    return 1.0 - 0.45 * behind


def _box(image: Float[np.ndarray, "S S"], radius: int) -> Float[np.ndarray, "S S"]:
    """Mean over a square of side 2 radius + 1; zero outside the picture."""
    for axis in (0, 1):
        padded = np.pad(image, [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)])
        total = np.cumsum(padded, axis)
        n = image.shape[axis]
        take = [slice(None)] * 2
        take[axis] = slice(2 * radius + 1, 2 * radius + 1 + n)
        drop = [slice(None)] * 2
        drop[axis] = slice(0, n)
        image = (total[tuple(take)] - total[tuple(drop)]) / (2 * radius + 1)
    return image
