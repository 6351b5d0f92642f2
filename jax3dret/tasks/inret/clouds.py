"""Clouds of points on the surfaces of a list of fields, and how far two of them are apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from jax3dret.ops.chamfer import chamfer as chamfer_of_points


class Cloud(NamedTuple):
    """points: float32[N, 3]. tree: over them."""

    points: np.ndarray
    tree: cKDTree


class Clouds:
    """Clouds by row and number of points, sampled when they are first asked for, and kept.

    sample: (row, points) -> float32[points, 3], the same for the same arguments. What it raises,
    say for a field without a surface, is raised when that cloud is asked for.
    """

    def __init__(self, sample: Callable[[int, int], np.ndarray]) -> None:
        self._sample = sample
        self._kept: dict[tuple[int, int], tuple[Cloud, float]] = {}

    def of(self, row: int, points: int) -> Cloud:
        """The cloud of a row with so many points."""
        key = (row, points)
        if key not in self._kept:
            began = time.perf_counter()
            found = np.asarray(self._sample(row, points))
            cloud = Cloud(found, cKDTree(found))
            self._kept[key] = cloud, time.perf_counter() - began
        return self._kept[key][0]

    def seconds(self, row: int, points: int) -> float:
        """What sampling that cloud took, when it was."""
        self.of(row, points)
        return self._kept[row, points][1]

    def forget(self, points: int) -> None:
        """Drops the clouds of so many points."""
        self._kept = {key: kept for key, kept in self._kept.items() if key[1] != points}


def chamfer(a: Cloud, b: Cloud) -> float:
    """The mean distance to the nearest point of the other cloud, both ways, summed (`ops.chamfer`).

    By the trees on a CPU, by all pairs on an accelerator; the two agree but for rounding.
    """
    if jax.default_backend() != "cpu":
        return float(chamfer_of_points(a.points, b.points))
    there, back = a.tree.query(b.points)[0], b.tree.query(a.points)[0]
    return float(there.mean() + back.mean())


def distances_within(
    labels: Int[np.ndarray, " N"], clouds: Clouds, points: int
) -> Float[np.ndarray, "N N"]:
    """Chamfer distances of all pairs of rows of one class; NaN between classes, 0 to itself.

    Class by class, so that no more clouds than those of one are in memory.
    """
    found = np.full((len(labels), len(labels)), np.nan)
    np.fill_diagonal(found, 0.0)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        for i, first in enumerate(rows):
            for second in rows[i + 1 :]:
                apart = chamfer(clouds.of(int(first), points), clouds.of(int(second), points))
                found[first, second] = found[second, first] = apart
        clouds.forget(points)
    return found
