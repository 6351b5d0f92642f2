"""The smallest sphere around a set of points."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import DataError

_STEPS = 100


def bounding_sphere(points: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, " 3"], float]:
    """Centre (float64[3]) and radius of the smallest sphere that holds all points, to rounding.
    Deterministic.

    A sphere is determined by at most four points on it. Starting from any, the point farthest
    outside joins them, and the smallest sphere of these at most five tells which stay (a dual
    simplex method, Gaertner 1999, "Fast and Robust Smallest Enclosing Balls"): each step enlarges
    the sphere, and some ten of them, linear in N, reach the end.

    Raises:
        DataError: no points, or a coordinate that is not finite.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    if not len(points) or not np.isfinite(points).all():
        raise DataError(
            f"bounding sphere of {len(points)} points: at least one is needed, and finite "
            "coordinates"
        )
    low, high = points.min(0), points.max(0)
    middle, extent = low + (high - low) / 2, float((high - low).max())
    if extent == 0.0:
        return points[0].copy(), 0.0
    local = (
        points - middle
    ) / extent  # far from the origin of the file the differences would drown in rounding
    support = local[[int(_squared(local).argmax())]]
    centre, squared = support[0], 0.0
    for _ in range(_STEPS):
        distance = _squared(local - centre)
        farthest = int(distance.argmax())
        if distance[farthest] <= squared * (1 + 1e-12):
            break
        support, centre, larger = _smallest(np.concatenate([local[[farthest]], support]))
        if larger <= squared:  # rounding: no progress is left
            break
        squared = larger
    radius = float(np.sqrt(_squared(local - centre).max()))
    return middle + extent * centre, extent * radius


def _smallest(
    points: Float[np.ndarray, "K 3"],
) -> tuple[Float[np.ndarray, "S 3"], Float[np.ndarray, " 3"], float]:
    """Of at most five points, those on their smallest sphere, its centre and squared radius. The
    first is known to be on it.
    """
    best: tuple[float, tuple[int, ...], np.ndarray] | None = None
    for others in range(min(len(points), 4)):
        for chosen in itertools.combinations(range(1, len(points)), others):
            on = points[[0, *chosen]]
            edges = on[1:] - on[0]
            centre = on[0].copy()
            if others:
                gram = 2 * edges @ edges.T
                centre += np.linalg.lstsq(gram, _squared(edges), rcond=1e-12)[0] @ edges
            squared = float(_squared(on - centre).max())
            holds = _squared(points - centre).max() <= squared * (1 + 1e-10) + 1e-30
            if holds and (best is None or squared < best[0]):
                best = squared, (0, *chosen), centre
    if (
        best is None
    ):  # five points so nearly alike that rounding rejects each sphere: the two farthest apart do
        apart = int(_squared(points - points[0]).argmax())
        centre = (points[0] + points[apart]) / 2
        return points[[0, apart]], centre, float(_squared(points - centre).max())
    return points[list(best[1])], best[2], best[0]


def _squared(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    return vectors[:, 0] ** 2 + vectors[:, 1] ** 2 + vectors[:, 2] ** 2
