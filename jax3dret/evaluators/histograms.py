"""The distances of all pairs of queries and gallery items, within a class and between classes, as
two histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jax3dret.metrics.ranking import WITHOUT_DIRECTION, Distance, without_direction

_FINE, _BARS = 400, 40
_SIDES = ("within", "between")


class Histograms:
    """Counts pairs some lists at a time. farthest: no distance is greater."""

    def __init__(self, farthest: float) -> None:
        self._edges = np.linspace(0.0, farthest, _FINE + 1)
        self._counts = np.zeros((2, _FINE), np.int64)
        self._sums = np.zeros(2)

    def add(self, distances: Float[np.ndarray, "q G"], relevant: Bool[np.ndarray, "q G"]) -> None:
        """Counts the pairs of some queries; relevant: those of one class."""
        place = np.minimum(np.searchsorted(self._edges, distances, side="right") - 1, _FINE - 1)
        for side, kept in enumerate((relevant, ~relevant)):
            self._counts[side] += np.bincount(place[kept], minlength=_FINE)
        self._sums += [distances[relevant].sum(), distances[~relevant].sum()]

    def describe(self) -> dict[str, Any]:
        """Over the range where there is anything, in at most _BARS bars: edges, shares of the
        pairs, means, overlap."""
        within, between = self._counts
        used = np.flatnonzero(within + between)
        first, last = int(used[0]), int(used[-1]) + 1
        each = -(-(last - first) // _BARS)
        starts = np.arange(first, last, each)
        counts = [np.add.reduceat(side[:last], starts) for side in (within, between)]
        pairs = [int(side.sum()) for side in (within, between)]
        shares = [count / max(num, 1) for count, num in zip(counts, pairs, strict=True)]
        return {
            "edges": self._edges[np.append(starts, last)].tolist(),
            "within": shares[0].tolist(),
            "between": shares[1].tolist(),
            "pairs": dict(zip(_SIDES, pairs, strict=True)),
            "mean": {
                name: float(total / num) if num else None
                for name, total, num in zip(_SIDES, self._sums, pairs, strict=True)
            },
            "overlap": float(np.minimum(*shares).sum()) if all(pairs) else None,
        }


def farthest(queries: np.ndarray, gallery: np.ndarray, distance: Distance) -> float:
    """A bound of all distances: 2 for 1 - cosine (3 where a row of zeros is among them), the sum of
    the largest norms for the Euclidean one."""
    if distance == "cosine":
        lost = any(without_direction(side, distance).any() for side in (queries, gallery))
        return WITHOUT_DIRECTION / 2 if lost else 2.0
    norms = [
        float(np.linalg.norm(np.asarray(side, np.float64), axis=1).max())
        for side in (queries, gallery)
    ]
    return max(sum(norms), 1e-12)
