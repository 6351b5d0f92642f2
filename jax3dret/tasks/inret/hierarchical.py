"""The nearest shape of a class by Chamfer distance: all candidates at once, or few points first.

INRet, section 11.3. Comparing clouds of 4096 points with every shape of a class is exact enough and
slow. Clouds of 128 points tell who may be nearest: what lies within three times the least of these
distances is compared again with all points.
"""

from __future__ import annotations

import dataclasses
import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.tasks.inret.clouds import Clouds, chamfer


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """coarse, fine: points of the clouds of both stages. bound: of the least coarse distance, what
    is still compared again.
    """

    coarse: int = 128
    fine: int = 4096
    bound: float = 3.0

    def __post_init__(self) -> None:
        if not (1 <= self.coarse <= self.fine and self.bound >= 1):
            raise ConfigError(
                f"hierarchical sampling: coarse={self.coarse}, fine={self.fine}, bound="
                f"{self.bound}; expected 1 <= coarse <= fine and a bound of at least 1"
            )


class Searched(NamedTuple):
    """What one query found. found: a row, -1 without candidates. kept: how many candidates were
    compared with all points. coarse_s, fine_s: seconds of both stages, sampling included, as if
    nothing had been sampled before."""

    found: int
    kept: int
    coarse_s: float
    fine_s: float


def hierarchical(
    query: int, candidates: Int[np.ndarray, " C"], clouds: Clouds, hierarchy: Hierarchy
) -> Searched:
    """The candidate nearest to the query, few points first. Of equally near ones the first.

    query, candidates: rows of `clouds`; the query is none of them.
    """
    if not len(candidates):
        return Searched(-1, 0, 0.0, 0.0)
    coarse, coarse_s = _distances(query, candidates, clouds, hierarchy.coarse)
    kept = candidates[coarse <= hierarchy.bound * coarse.min()]
    fine, fine_s = _distances(query, kept, clouds, hierarchy.fine)
    return Searched(int(kept[np.argmin(fine)]), len(kept), coarse_s, fine_s)


def exhaustive(
    query: int, candidates: Int[np.ndarray, " C"], clouds: Clouds, points: int
) -> Searched:
    """The same with all points for every candidate: the naive search."""
    if not len(candidates):
        return Searched(-1, 0, 0.0, 0.0)
    distances, seconds = _distances(query, candidates, clouds, points)
    return Searched(int(candidates[np.argmin(distances)]), len(candidates), 0.0, seconds)


def _distances(
    query: int, candidates: Int[np.ndarray, " C"], clouds: Clouds, points: int
) -> tuple[Float[np.ndarray, " C"], float]:
    """Distances, and the seconds of sampling and comparing."""
    own, seconds = clouds.of(query, points), clouds.seconds(query, points)
    found = np.empty(len(candidates))
    for i, row in enumerate(candidates):
        cloud = clouds.of(int(row), points)
        began = time.perf_counter()
        found[i] = chamfer(own, cloud)
        seconds += time.perf_counter() - began + clouds.seconds(int(row), points)
    return found, seconds
