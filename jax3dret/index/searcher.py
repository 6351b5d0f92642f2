"""Which stored vectors are nearest to a query: a backend proposes, float64 decides.

For the comparison vectors are taken to float64, scaled to unit length under "cosine", and shifted
by the gallery mean, which changes no distance and keeps the digits of embeddings that differ
little. A backend proposes candidates in float32; their distances are then computed again in float64
from the stored vectors. So distances do not depend on the backend, and equal vectors have equal
ones.

Order: ascending distance; equal distances by ascending row. With "brute_force" scoring the result
is exact: a query for which float32 rounding, or a tie that the list cuts, could have hidden a
nearer item is compared with every vector in float64. "tree_ah" is approximate; its recall is
measured at every build.

A row of zeros has no direction, so under "cosine" no backend sees it: it stands behind all others,
at the squared distance `ranking.WITHOUT_DIRECTION`. To a query of zeros every row is as far.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from jax3dret.index import backends
from jax3dret.metrics import ranking

Distance = Literal["cosine", "euclidean"]
Scoring = Literal["auto", "brute_force", "tree_ah"]

TREE_FROM = 20_000  # items from which "auto" scoring prefers a tree, where ScaNN is there
BLOCK = 8192
_PAIR_BYTES = 1 << 22  # small enough for a cache: re-scoring is bound by memory
_SAMPLE = 128  # queries of a recall measurement
# Bound of the float32 error of a squared distance, relative to the square of the lengths that went
# into it.
_ROUNDING = 4e-6
# Beyond this many gallery radii from the gallery, float32 keeps too few digits of a query's
# distances.
_FAR = 1e3


class Searcher:
    """Finite float32 vectors [N, D] and the backend that searches them.

    scoring: "auto", for serving, takes a tree from `TREE_FROM` items on; too few items for a tree
    are searched one by one. target_recall: a tree searches as many leaves as recall@10 of this
    takes on a sample. tree, recall: what an earlier build made and measured.
    """

    def __init__(
        self,
        vectors: Float32[np.ndarray, "N D"],
        *,
        distance: Distance,
        kind: Literal["scann", "exact"],
        scoring: Scoring,
        target_recall: float,
        tree: backends.ScannTree | None = None,
        recall: float | None = None,
    ) -> None:
        self._vectors, self._distance, self._target_recall = vectors, distance, target_recall
        lost = ranking.without_direction(vectors, distance)
        self._lost = np.flatnonzero(lost)
        # The rows that the backend holds; None where it holds all.
        self._compared = np.flatnonzero(~lost) if len(self._lost) else None
        self._num = len(vectors) - len(self._lost)
        self._prepare()
        start = time.perf_counter()
        self.backend: Any = tree if tree is not None else self._make_backend(kind, scoring)
        self.recall: float = recall if recall is not None else self._measure()
        self.build_s = time.perf_counter() - start

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def without_direction(self) -> int:
        """How many rows no query can be near to."""
        return len(self._lost)

    @property
    def tree(self) -> backends.ScannTree | None:
        """The tree, if this is one."""
        return self.backend if isinstance(self.backend, backends.ScannTree) else None

    def nearest(
        self, queries: Float32[np.ndarray, "Q D"], k: int
    ) -> tuple[Int64[np.ndarray, "Q k"], Float64[np.ndarray, "Q k"]]:
        """The k nearest rows of each query, and the squared Euclidean distances (between unit
        vectors under "cosine").

        queries: finite; 1 <= k <= N.
        """
        asked = np.flatnonzero(~ranking.without_direction(queries, self._distance))
        near = min(k, self._num)
        if len(asked) == len(queries) and near == k:
            return self._nearest(queries, k)
        rows = np.tile(np.arange(k), (len(queries), 1))
        d2 = np.full(rows.shape, ranking.WITHOUT_DIRECTION)
        rows[asked, near:] = self._lost[: k - near]
        if len(asked) and near:
            rows[asked, :near], d2[asked, :near] = self._nearest(queries[asked], near)
        return rows, d2

    def _nearest(
        self, queries: Float32[np.ndarray, "Q D"], k: int
    ) -> tuple[Int64[np.ndarray, "Q k"], Float64[np.ndarray, "Q k"]]:
        """`nearest` of queries with a direction, among the rows that have one."""
        width = self._vectors.shape[1]
        rows, d2 = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
        # A brute-force list is a little longer than asked, so that rounding at its end can be told
        # from its head.
        exact = self.tree is None
        wide = min(self._num, k + max(8, k // 8)) if exact else k
        step = max(1, _PAIR_BYTES // (wide * width * 8))
        doubtful: list[int] = []
        for start in range(0, len(queries), BLOCK):
            points = self._comparable(queries[start : start + BLOCK])
            shifted = (points - self._center) / self._radius
            length = np.sqrt(np.einsum("qd,qd->q", shifted, shifted))
            far = length > _FAR
            found = self.backend.candidates(
                np.where(far[:, None], 0.0, shifted).astype(np.float32), wide
            )
            if self._compared is not None:
                found = np.where(found < 0, -1, self._compared[found])
            for i in range(0, len(points), step):
                part = slice(i, min(i + step, len(points)))
                near, near_d2 = self._rescore(points[part], found[part])
                place = slice(start + i, start + part.stop)
                rows[place], d2[place] = near[:, :k], near_d2[:, :k]
                doubt = far[part] | (near[:, k - 1] < 0)
                if exact and wide < self._num:
                    # An item that is truly nearer than the k-th lies within |q| + d_k of the mean,
                    # which bounds its error.
                    last, kth = (
                        near_d2[:, -1] / self._radius**2,
                        near_d2[:, k - 1] / self._radius**2,
                    )
                    doubt |= last - kth <= _ROUNDING * (2 * length[part] + np.sqrt(kth)) ** 2
                doubtful.extend(start + i + np.flatnonzero(doubt))
        if doubtful:
            distinct, back = np.unique(queries[doubtful], axis=0, return_inverse=True)
            answers = [self._scan(point, k) for point in self._comparable(distinct)]
            for query, which in zip(doubtful, back.reshape(-1), strict=True):
                rows[query], d2[query] = answers[which]
        return rows, d2

    def _comparable(
        self, vectors: np.ndarray, inverse: np.ndarray | None = None
    ) -> Float64[np.ndarray, "N D"]:
        """Float64 copy; of unit length under cosine."""
        values = np.array(vectors, np.float64)
        if self._distance == "cosine":
            values *= (_inverse_norms(values) if inverse is None else inverse)[:, None]
        return values

    def _gather(self, rows: np.ndarray | slice) -> Float64[np.ndarray, "N D"]:
        return self._comparable(
            self._vectors[rows], None if self._inverse is None else self._inverse[rows]
        )

    def _rescore(self, points: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Candidates [q, K] in final order with their float64 d^2; a missing one (-1) is last, at
        infinity.
        """
        flat = self._gather(np.maximum(found, 0).reshape(-1)).reshape(*found.shape, -1)
        flat -= points[:, None, :]
        pairs = flat.reshape(-1, flat.shape[-1])
        d2 = np.einsum("nd,nd->n", pairs, pairs).reshape(found.shape)
        d2[found < 0] = np.inf
        order = np.lexsort((found, d2), axis=1)
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(d2, order, axis=1)

    def _scan(self, point: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The exact answer for one query: every stored vector, in float64."""
        d2 = np.empty(len(self))
        for i in range(0, len(self), BLOCK):
            block = self._gather(slice(i, i + BLOCK))
            block -= point
            d2[i : i + BLOCK] = np.einsum("nd,nd->n", block, block)
        d2[self._lost] = ranking.WITHOUT_DIRECTION
        rows = np.argsort(d2, kind="stable")[:k]
        return rows, d2[rows]

    # Building

    def _prepare(self) -> None:
        """Inverse norms, the mean and the radius of the vectors as they are compared."""
        self._inverse = None
        if self._distance == "cosine":
            every = range(0, len(self), BLOCK)
            self._inverse = np.concatenate(
                [
                    _inverse_norms(np.asarray(self._vectors[i : i + BLOCK], np.float64))
                    for i in every
                ]
            )
        blocks = self._blocks()
        zero = np.zeros(self._vectors.shape[1])
        self._center = sum((self._gather(b).sum(axis=0) for b in blocks), zero) / max(self._num, 1)
        radius = max(
            (float(np.abs(self._gather(b) - self._center).max()) for b in blocks), default=0
        )
        self._radius = radius * self._vectors.shape[1] ** 0.5 if radius > 0 else 1.0

    def _blocks(self) -> list[Any]:
        """The rows that the backend holds, some at a time."""
        parts = [slice(i, min(i + BLOCK, self._num)) for i in range(0, self._num, BLOCK)]
        return parts if self._compared is None else [self._compared[part] for part in parts]

    def _make_backend(self, kind: str, scoring: Scoring) -> Any:
        if not self._num:
            return None
        shifted = np.empty((self._num, self._vectors.shape[1]), np.float32)
        for number, rows in enumerate(self._blocks()):
            place = slice(number * BLOCK, (number + 1) * BLOCK)
            shifted[place] = (self._gather(rows) - self._center) / self._radius
        if kind == "exact":
            return backends.Exact(shifted)
        large = self._num >= (TREE_FROM if scoring == "auto" else backends.MIN_TREE_ITEMS)
        if scoring == "brute_force" or not large:
            return backends.ScannBrute(shifted)
        return backends.ScannTree.build(shifted)

    def _measure(self) -> float:
        """recall@10; for a tree, first raises the leaves searched until the target is met."""
        if not self._num:
            return 1.0
        if self.tree is not None:
            rows = self._spread(_SAMPLE)
            truth = self._kth_distances(rows)
            leaves = max(1, self.tree.leaves // 64)
            while True:
                self.tree.leaves_searched = min(leaves, self.tree.leaves)
                if (
                    leaves >= self.tree.leaves
                    or self._recall_at(rows, truth) >= self._target_recall
                ):
                    break
                leaves = max(leaves + 1, int(leaves * 1.5))
        # Half a stride on, so that a tree is not judged by the queries that chose its settings.
        rows = self._spread(2 * _SAMPLE, slice(1, None, 2))
        return self._recall_at(rows, self._kth_distances(rows))

    def _spread(self, num: int, taken: slice = slice(None)) -> np.ndarray:
        """Some of `num` rows that the backend holds, evenly spread, each once."""
        places = np.unique(np.linspace(0, self._num - 1, num).astype(int)[taken])
        return places if self._compared is None else self._compared[places]

    def _kth_distances(self, rows: np.ndarray) -> Float64[np.ndarray, " Q"]:
        """d^2 of the tenth neighbour (or the last, in a small index) of stored vectors, each
        without itself.
        """
        k = min(10, self._num - 1)
        if k < 1:
            return np.zeros(len(rows))
        kth = []
        pieces = ranking.squared_distances(
            self._vectors[rows],
            self._vectors,
            distance=self._distance,
            self_rows=rows,
            max_bytes=1 << 29,
        )
        for _, d2, tolerance in pieces:
            # The margin covers the rounding of vectors that differ little from one another.
            kth.append(np.partition(d2, k - 1, axis=1)[:, k - 1] * (1 + 1e-6) + tolerance)
        return np.concatenate(kth)

    def _recall_at(self, rows: np.ndarray, kth: np.ndarray) -> float:
        k = min(10, self._num - 1)
        if k < 1:
            return 1.0
        found, d2 = self.nearest(np.asarray(self._vectors[rows]), k + 1)
        _, d2 = ranking.drop_self(found, d2, rows)
        return float((d2 <= kth[:, None]).mean())


def _inverse_norms(values: Float64[np.ndarray, "N D"]) -> Float64[np.ndarray, " N"]:
    """Zero for a row of zeros."""
    squares = np.einsum("nd,nd->n", values, values)
    return np.divide(1.0, np.sqrt(squares), out=np.zeros(len(values)), where=squares > 0)
