"""From embeddings or labels to ranked relevance: exact distances in bounded memory, self matches,
tie policies.

Axis letters: Q queries, G gallery items, D embedding width, K length of a ranked list. A ranked
list holds gallery rows, nearest first; row -1 fills a list that has run out of gallery items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.core.types import ConfigError, DataError

Distance = Literal["cosine", "euclidean"]
Ties = Literal["index", "pessimistic", "optimistic", "average"]

# Squared distance of a pair of which one vector has no direction, under "cosine": the cosine of
# such a pair counts as -2, its distance as 3, so it stands behind every other and no metric is NaN.
WITHOUT_DIRECTION = 6.0
# Rounding of a float64 squared distance, relative to the squared norms that went into it.
_ROUNDING = 1e-13
_BLOCK = 8192


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ConfigError when a named convention is not one of its choices."""
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: choose one of {', '.join(choices)}")


def check_vectors(vectors: Float[np.ndarray, "N D"], name: str) -> None:
    """Raises DataError unless `vectors` is [N, D] with N, D > 0 and every number finite; names the
    first bad row.
    """
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise DataError(
            f"{name}: shape {vectors.shape}; embeddings must be [items, width] with at least one "
            "item"
        )
    if not np.issubdtype(vectors.dtype, np.floating):
        raise DataError(f"{name}: dtype {vectors.dtype}; embeddings must be floating point")
    for start in range(0, len(vectors), _BLOCK):
        bad = ~np.isfinite(vectors[start : start + _BLOCK]).all(axis=1)
        if bad.any():
            raise DataError(f"{name}: row {start + int(bad.argmax())} holds NaN or infinity")


def without_direction(
    vectors: Float[np.ndarray, "N D"], distance: Distance
) -> Bool[np.ndarray, " N"]:
    """True for the rows that `distance` cannot compare: rows of zeros under "cosine", none under
    "euclidean".
    """
    if distance == "euclidean":
        return np.zeros(len(vectors), bool)
    blocks = range(0, len(vectors), _BLOCK)
    return np.concatenate(
        [np.zeros(0, bool), *(~vectors[i : i + _BLOCK].any(axis=1) for i in blocks)]
    )


def _float64(vectors: np.ndarray, distance: str) -> Float[np.ndarray, "N D"]:
    """Float64 copy; rows of unit length for the cosine distance, where a row of zeros stays one."""
    values = np.asarray(vectors, np.float64)
    if distance == "euclidean":
        return values
    # Divide by the largest entry first, so that squaring neither overflows nor underflows.
    largest = np.abs(values).max(axis=1, keepdims=True)
    values = values / np.where(largest > 0, largest, 1.0)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norms > 0, norms, 1.0)


def self_rows(query_ids: Sequence[str], gallery_ids: Sequence[str]) -> Int[np.ndarray, " Q"]:
    """The gallery row with the same id as each query, -1 where there is none."""
    place = {name: row for row, name in enumerate(gallery_ids)}
    if len(place) != len(gallery_ids):
        raise DataError(
            f"{len(gallery_ids) - len(place)} gallery ids occur more than once; ids must be unique"
        )
    return np.array([place.get(name, -1) for name in query_ids], np.int64)


def squared_distances(
    queries: Float[np.ndarray, "Q D"],
    gallery: Float[np.ndarray, "G D"],
    *,
    distance: Distance = "cosine",
    self_rows: Int[np.ndarray, " Q"] | None = None,
    max_bytes: int = 1 << 28,
) -> Iterator[tuple[int, Float[np.ndarray, "q G"], float]]:
    """Squared Euclidean distances to the whole gallery, some queries at a time, in float64.

    For "cosine" the vectors are first scaled to unit length, so that d^2 = 2 (1 - cosine). The
    gallery mean is subtracted from both sides: distances do not change, and embeddings that differ
    little from a common vector keep their digits. Where one of the two is a row of zeros, d^2 is
    `WITHOUT_DIRECTION`.

    Yields (first query, d^2 [q, G], tolerance below which two of these d^2 are equal but for
    rounding). The entry of a query's own gallery row (`self_rows`, -1 for none) is infinite.
    Working memory stays near `max_bytes` beyond the inputs, which may be memory maps. Raises
    DataError (shapes, NaN, infinity), ConfigError.
    """
    check_choice("distance", distance, ("cosine", "euclidean"))
    check_vectors(gallery, "gallery")
    if len(queries) == 0:
        return
    check_vectors(queries, "queries")
    if queries.shape[1] != gallery.shape[1]:
        raise DataError(
            f"queries have width {queries.shape[1]}, the gallery has {gallery.shape[1]}; both must "
            "be equal"
        )
    num, width = gallery.shape
    blocks = [slice(i, min(i + _BLOCK, num)) for i in range(0, num, _BLOCK)]
    lost = without_direction(gallery, distance), without_direction(queries, distance)
    center = sum(_float64(gallery[b], distance).sum(axis=0) for b in blocks)
    center /= max(num - int(lost[0].sum()), 1)
    # Kept whole where it fits a quarter of the budget; otherwise converted block by block for every
    # group of queries.
    whole = num * width * 8 * 4 <= max_bytes
    kept = (
        np.concatenate([_float64(gallery[b], distance) - center for b in blocks]) if whole else None
    )
    step = int(np.clip(max_bytes // (num * 8 * 4), 1, 4096))
    for start in range(0, len(queries), step):
        q = _float64(queries[start : start + step], distance) - center
        q_norm = np.einsum("qd,qd->q", q, q)
        out = np.empty((len(q), num))
        largest = 0.0
        for b in blocks:
            g = kept[b] if kept is not None else _float64(gallery[b], distance) - center
            g_norm = np.einsum("gd,gd->g", g, g)
            largest = max(largest, float(g_norm.max()))
            out[:, b] = q @ g.T
            out[:, b] *= -2.0
            out[:, b] += q_norm[:, None]
            out[:, b] += g_norm
        np.maximum(out, 0.0, out=out)
        out[:, lost[0]] = out[lost[1][start : start + step]] = WITHOUT_DIRECTION
        tolerance = _ROUNDING * (float(q_norm.max()) + largest)
        if self_rows is not None:
            own = self_rows[start : start + step]
            has = np.flatnonzero(own >= 0)
            out[has, own[has]] = np.inf
        yield start, out, tolerance


def rank(
    queries: Float[np.ndarray, "Q D"],
    gallery: Float[np.ndarray, "G D"],
    *,
    k: int | None = None,
    distance: Distance = "cosine",
    self_rows: Int[np.ndarray, " Q"] | None = None,
    max_bytes: int = 1 << 28,
) -> Iterator[tuple[int, Int[np.ndarray, "q K"], Float[np.ndarray, "q K"]]]:
    """Exact ranking, some queries at a time: (first query, gallery rows, distances), nearest first.

    Distances are 1 - cosine, 3 for a row of zeros, or Euclidean. Distances equal but for float64
    rounding are given the same value, and such ties stand in ascending order of gallery row. `k`:
    length of the lists, None or more than G gives the whole gallery. With `self_rows` a query's own
    row comes last, as row -1 at distance infinity.
    """
    if k is not None and k < 1:
        raise ConfigError(f"k={k}: a ranked list has at least one entry")
    chunks = squared_distances(
        queries, gallery, distance=distance, self_rows=self_rows, max_bytes=max_bytes
    )
    for start, d2, tolerance in chunks:
        rows = np.argsort(d2, axis=1)
        d2 = np.take_along_axis(d2, rows, axis=1)
        gap = d2[:, 1:] - np.where(np.isfinite(d2[:, :-1]), d2[:, :-1], 0.0)
        first = np.concatenate([np.ones((len(d2), 1), bool), gap > tolerance], axis=1)
        tied = np.flatnonzero(~first.all(axis=1))
        if len(tied):
            group = np.cumsum(first[tied], axis=1)
            order = np.lexsort((rows[tied], group), axis=1)
            rows[tied] = np.take_along_axis(rows[tied], order, axis=1)
            leader = np.maximum.accumulate(np.where(first[tied], np.arange(d2.shape[1]), 0), axis=1)
            d2[tied] = np.take_along_axis(d2[tied], leader, axis=1)
        rows, d2 = rows[:, :k], d2[:, :k]
        rows[np.isinf(d2)] = -1
        yield start, rows, d2 / 2 if distance == "cosine" else np.sqrt(d2)


def drop_self(
    rows: Int[np.ndarray, "Q K"], scores: Float[np.ndarray, "Q K"], self_rows: Int[np.ndarray, " Q"]
) -> tuple[Int[np.ndarray, "Q K-1"], Float[np.ndarray, "Q K-1"]]:
    """Takes each query's own gallery row out of its list; a list without it loses its last entry
    instead.

    Search for one neighbour more than needed, then call this. `self_rows` is -1 for a query that is
    not in the gallery.
    """
    own = (rows == self_rows[:, None]) & (self_rows[:, None] >= 0)
    drop = np.where(own.any(axis=1), own.argmax(axis=1), rows.shape[1] - 1)
    keep = np.arange(rows.shape[1]) != drop[:, None]
    shape = (rows.shape[0], rows.shape[1] - 1)
    return rows[keep].reshape(shape), scores[keep].reshape(shape)


def relevance(
    rows: Int[np.ndarray, "Q K"],
    query_labels: Int[np.ndarray, " Q"],
    gallery_labels: Int[np.ndarray, " G"],
) -> Bool[np.ndarray, "Q K"]:
    """True where the neighbour has the query's label; row -1 (no neighbour) is never relevant."""
    return (np.asarray(gallery_labels)[rows] == np.asarray(query_labels)[:, None]) & (rows >= 0)


def count_relevant(
    query_labels: Int[np.ndarray, " Q"],
    gallery_labels: Int[np.ndarray, " G"],
    self_rows: Int[np.ndarray, " Q"] | None = None,
) -> Int[np.ndarray, " Q"]:
    """Gallery items with the query's label, the query itself (`self_rows` >= 0) not counted."""
    names, counts = np.unique(np.asarray(gallery_labels), return_counts=True)
    query_labels = np.asarray(query_labels)
    place = np.minimum(np.searchsorted(names, query_labels), len(names) - 1)
    found = np.where(names[place] == query_labels, counts[place], 0)
    if self_rows is None:
        return found
    own = (self_rows >= 0) & (np.asarray(gallery_labels)[self_rows] == query_labels)
    return found - own


def tie_groups(scores: Float[np.ndarray, "Q K"]) -> Int[np.ndarray, "Q K"]:
    """Number of the run of equal scores that each entry of a list belongs to, from 0."""
    if np.isnan(scores).any():
        raise DataError("scores hold NaN; every neighbour needs a score or distance")
    return np.concatenate(
        [np.zeros((len(scores), 1), int), np.cumsum(scores[:, 1:] != scores[:, :-1], axis=1)],
        axis=1,
    )


def resolve_ties(
    relevant: Bool[np.ndarray, "Q K"] | Float[np.ndarray, "Q K"],
    scores: Float[np.ndarray, "Q K"] | None,
    ties: Ties,
) -> Float[np.ndarray, "Q K"]:
    """The gain at each place of the list under a tie policy, as float64.

    "index": the list as it stands. "pessimistic" / "optimistic": within equal scores the irrelevant
    / relevant items come first. "average": the expected gain over all orders of the tied items. All
    but "index" read `scores` (or distances; only their equality counts). A tie that the end of the
    list cuts is resolved among the entries seen.
    """
    check_choice("ties", ties, ("index", "pessimistic", "optimistic", "average"))
    gains = np.array(relevant, np.float64)
    if gains.ndim != 2:
        raise DataError(
            f"relevance has shape {gains.shape}; ranked lists are [queries, neighbours]"
        )
    if ties == "index":
        return gains
    if scores is None:
        raise ConfigError(
            f"ties={ties!r} needs the scores of the ranked lists; ties='index' does not"
        )
    group = tie_groups(np.asarray(scores, np.float64))
    if ties == "average":
        flat = (group + np.arange(len(group))[:, None] * group.shape[1]).ravel()
        total = np.bincount(flat, gains.ravel(), minlength=group.size)
        size = np.bincount(flat, minlength=group.size)
        return (total / np.maximum(size, 1))[flat].reshape(gains.shape)
    tied = np.flatnonzero(group[:, -1] + 1 < group.shape[1])
    order = np.lexsort(
        (gains[tied] if ties == "pessimistic" else -gains[tied], group[tied]), axis=1
    )
    gains[tied] = np.take_along_axis(gains[tied], order, axis=1)
    return gains
