"""Points moved and scaled into the unit ball."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import DataError


def normalize_points(
    points: Float[np.ndarray, "N 3"],
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " 3"], float]:
    """Points moved to their mean and divided by the largest distance from it, so that they fill the
    unit ball.

    Returns (float32 points, float64 centroid, scale): points = centroid + scale * result. Computed
    in float64. This is the `centroid` normalisation of the published code of ULIP-2 fine-tuning for
    geometric object retrieval (Computers & Graphics 122 (2024) 103993).

    Raises:
        DataError: no points, a coordinate that is not finite, or all points in one place.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise DataError(f"points have shape {points.shape}; at least one row of x, y, z is needed")
    if not np.isfinite(points).all():
        raise DataError(
            f"{int((~np.isfinite(points)).any(1).sum())} of {len(points)} points are not finite"
        )
    centroid = points.mean(0)
    centred = points - centroid
    largest = np.abs(
        centred
    ).max()  # dividing by it first keeps the squares inside the range of float64
    if not largest > 1e-12 * np.abs(points).max():
        raise DataError(f"all {len(points)} points lie in one place, so the cloud has no size")
    scale = float(largest * np.sqrt(((centred / largest) ** 2).sum(1)).max())
    return (centred / scale).astype(np.float32), centroid, scale
