"""Which face is nearest behind each pixel, in NumPy alone: the renderer for where embree is not
installed.

Scan conversion with a z-buffer whose 64-bit entries hold the depth and, below it, the face: one
maximum per pixel keeps the nearest face, and of equally near ones (to 30 bits of the depth range)
the one with the lowest index.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, Int

from jax3dret.geometry.cameras import Camera, Hits, project, rays

_PORTION = 4_000_000  # pixels listed at a time
_LAST = (1 << 31) - 1


class ZScene:
    """A mesh made ready for the z-buffer: vertices [V, 3], faces [F, 3]. Faces without area, or
    seen edge-on, draw nothing.
    """

    def __init__(self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]):
        self._vertices, self._faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)

    def centres(self, camera: Camera, size: int, *, depth: bool) -> Hits:
        """Face and depth behind the centre of every pixel; without `depth` that part is left empty."""
        face = self._nearest(camera, size)
        if not depth:
            return Hits(face.reshape(size, size).astype(np.int32), np.empty((0, 0), np.float32))
        far = np.full(size * size, np.inf, np.float32)
        pixels = np.flatnonzero(face >= 0)
        far[pixels] = self._depth(camera, size, pixels, face[pixels])
        return Hits(face.reshape(size, size).astype(np.int32), far.reshape(size, size))

    def quarters(
        self, camera: Camera, size: int, pixels: Int[np.ndarray, " P"]
    ) -> Int[np.ndarray, "P 4"]:
        """The faces behind the centres of the four quarters of some pixels, given as row * size +
        column; -1 for none.
        """
        row, column = np.divmod(pixels, size)
        fine = self._nearest(camera, 2 * size).reshape(2 * size, 2 * size)
        return np.stack(
            [fine[2 * row + i, 2 * column + j] for i in (0, 1) for j in (0, 1)], 1
        ).astype(np.int32)

    def _nearest(self, camera: Camera, size: int) -> Int[np.ndarray, " P"]:
        screen = project(camera, self._vertices, size)
        # A face is flat on the screen in 1 / depth, not in depth.
        screen[:, 2] = 1 / screen[:, 2] if camera.fov else -screen[:, 2]
        return rasterize(screen[self._faces], size)

    def _depth(
        self, camera: Camera, size: int, pixels: Int[np.ndarray, " P"], face: Int[np.ndarray, " P"]
    ) -> Float[np.ndarray, " P"]:
        """Where the ray of each pixel meets the plane of its face, kept inside the face's own range
        of depths.
        """
        corners = self._vertices[self._faces[face]]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        row, column = np.divmod(pixels, size)
        origins, towards = rays(camera, column + 0.5, row + 0.5, size)
        along = np.einsum("pd,pd->p", normal, towards)
        above = np.einsum("pd,pd->p", normal, corners[:, 0] - origins)
        depth = above / np.where(along == 0, np.inf, along)
        ends = project(camera, corners.reshape(-1, 3), size)[:, 2].reshape(-1, 3)
        return np.clip(depth, ends.min(1), ends.max(1))


def rasterize(corners: Float[np.ndarray, "F 3 3"], side: int) -> Int[np.ndarray, " P"]:
    """For each pixel of the picture the index of the nearest face over its centre (-1: none).

    Faces are taken in portions of a bounded number of pixels, so that memory does not grow with the
    faces' overlap.
    """
    extent = (
        np.clip(corners[..., :2], 0, side).max(1) - np.clip(corners[..., :2], 0, side).min(1) + 1
    )
    portion = (np.cumsum(extent[:, 0] * extent[:, 1]) // _PORTION).astype(np.int64)
    cuts = [0, *(np.flatnonzero(np.diff(portion)) + 1), len(corners)]
    buffer = np.full(side * side, -1, np.int64)
    low, high = float(corners[..., 2].min()), float(corners[..., 2].max())
    for first, last in itertools.pairwise(cuts):
        pixel, depth, face = _covered(corners[first:last], side)
        draw(buffer, pixel, depth, first + face, low, high)
    return owners_in(buffer)


def _covered(
    corners: Float[np.ndarray, "F 3 3"], side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (pixel, depth, face) such that the face lies over the pixel's centre.

    A face is cut into the rows whose centre line it meets, a row into the pixels between the face's
    two edges: exactly the covered pixels are listed, whatever the shape of the face.
    """
    eps = 1e-7  # pixels; closes the seam between two faces that share an edge
    x, y = corners[..., 0], corners[..., 1]
    top = np.ceil(y.min(1) - 0.5 - eps).astype(np.int64).clip(0)
    bottom = np.floor(y.max(1) - 0.5 + eps).astype(np.int64).clip(max=side - 1)
    row, face = _ranges(top, np.maximum(bottom - top + 1, 0))
    center = row + 0.5
    left, right = np.full(len(row), np.inf), np.full(len(row), -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        for a, b in ((0, 1), (1, 2), (2, 0)):
            dy = y[:, b] - y[:, a]
            slope = (x[:, b] - x[:, a]) / dy
            at = x[face, a] + (center - y[face, a]) * slope[face]
            low, high = np.minimum(y[:, a], y[:, b])[face], np.maximum(y[:, a], y[:, b])[face]
            crossed = (np.abs(dy) > eps)[face] & (center >= low - eps) & (center <= high + eps)
            np.minimum(left, at, out=left, where=crossed)
            np.maximum(right, at, out=right, where=crossed)
    # Depth is a plane over the picture; a face seen exactly from the side has none and draws
    # nothing.
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = cross(u, v)
    drawn = (left <= right) & (np.abs(area) > 1e-12)[face]
    area = np.where(np.abs(area) > 1e-12, area, 1.0)
    row, face, left, right = row[drawn], face[drawn], left[drawn], right[drawn]
    start = np.ceil(left - 0.5 - eps).astype(np.int64).clip(0)
    stop = np.floor(right - 0.5 + eps).astype(np.int64).clip(max=side - 1)
    column, span = _ranges(start, np.maximum(stop - start + 1, 0))
    by_column = ((u[:, 2] * v[:, 1] - u[:, 1] * v[:, 2]) / area)[face]
    by_row = ((u[:, 0] * v[:, 2] - u[:, 2] * v[:, 0]) / area)[face]
    at_span = (
        corners[face, 0, 2] + (0.5 - x[face, 0]) * by_column + (row + 0.5 - y[face, 0]) * by_row
    )
    owner = face[span]
    # A sliver's plane can shoot far beyond its corners by rounding.
    depth = np.clip(
        at_span[span] + column * by_column[span],
        corners[..., 2].min(1)[owner],
        corners[..., 2].max(1)[owner],
    )
    return row[span] * side + column, depth, owner


def draw(
    buffer: Int[np.ndarray, " P"],
    pixel: Int[np.ndarray, " S"],
    depth: Float[np.ndarray, " S"],
    owner: Int[np.ndarray, " S"],
    low: float,
    high: float,
) -> None:
    """z-buffer: keep per pixel the sample nearest to the viewer, of equal ones (to 30 bits) the
    lowest owner.
    """
    step = ((depth - low) * ((1 << 30) / max(high - low, 1e-12))).astype(np.int64)
    np.maximum.at(buffer, pixel, (step << 32) | (_LAST - owner))


def owners_in(buffer: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
    return np.where(buffer >= 0, _LAST - (buffer & 0xFFFFFFFF), -1)


def cross(a: Float[np.ndarray, "P _"], b: Float[np.ndarray, "P _"]) -> Float[np.ndarray, " P"]:
    """Twice the signed area between two directions on the screen; a depth beside x and y is left
    out.
    """
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _ranges(
    starts: Int[np.ndarray, " R"], counts: Int[np.ndarray, " R"]
) -> tuple[np.ndarray, np.ndarray]:
    """The integers starts[i] ... starts[i] + counts[i] - 1 one after the other, and the i of each."""
    owner = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return np.arange(len(owner)) - np.repeat(first - starts, counts), owner
