"""Every retrieval metric of one set of queries against one index, with the conventions spelled out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.core.types import DataError
from jax3dret.index.index import Index
from jax3dret.metrics import classification, ranking, retrieval

# A full ranking of more pairs than this takes minutes; beyond it average precision stops at the n nearest.
FULL_RANKING_PAIRS = 500_000_000
CUTS = (1, 5, 10)
_BYTES = 1 << 27


class Neighbours(NamedTuple):
    """rows: gallery rows, nearest first, the query itself left out. squared: their squared distances, float64.
    own: each query's own gallery row, -1 for none. cut: whether the end of the list cuts a run of equal distances.
    ms: search time for one query."""

    rows: Int[np.ndarray, "Q K"]
    squared: Float[np.ndarray, "Q K"]
    own: Int[np.ndarray, " Q"]
    cut: Bool[np.ndarray, " Q"]
    ms: float

    def scores(self, distance: str) -> Float[np.ndarray, "Q K"]:
        """Cosine similarity, or minus the Euclidean distance, as `Index.search` gives them."""
        return 1 - self.squared / 2 if distance == "cosine" else -np.sqrt(self.squared)


def nearest(
    index: Index,
    queries: Float[np.ndarray, "Q D"],
    query_ids: Sequence[str],
    n: int,
    *,
    self_match: str = "exclude",
) -> Neighbours:
    """The n nearest gallery items of each query, or as many as there are.

    self_match: "exclude" leaves out the gallery item with the query's own id, "include" keeps it.
    """
    ranking.check_choice("self_match", self_match, ("exclude", "include"))
    own = np.full(len(queries), -1, np.int64)
    if self_match == "exclude":
        own = ranking.self_rows(query_ids, index.ids)
    some = bool((own >= 0).any())
    n = min(n, len(index) - some)
    if n < 1:
        raise DataError("the gallery holds one item, the query itself: nothing to retrieve")
    more = min(n + 1 + some, len(index))
    index.search_squared(queries[:1], more)  # compiles and warms up
    start = time.perf_counter()
    rows, squared = index.search_squared(queries, more)
    ms = 1e3 * (time.perf_counter() - start) / max(len(queries), 1)
    if some:
        rows, squared = ranking.drop_self(rows, squared, own)
    cut = squared[:, n - 1] == squared[:, n] if rows.shape[1] > n else np.zeros(len(rows), bool)
    return Neighbours(rows[:, :n], squared[:, :n], own, cut, ms)


class Scores(NamedTuple):
    """metrics: by name. average_precision: of each query, NaN where undefined. predicted: class of the nearest neighbour.
    notes: what the protocol must say about these numbers."""

    metrics: dict[str, float]
    average_precision: Float[np.ndarray, " Q"]
    predicted: Int[np.ndarray, " Q"]
    notes: dict[str, Any]


def score(
    index: Index,
    queries: Float[np.ndarray, "Q D"],
    query_labels: Int[np.ndarray, " Q"],
    gallery_labels: Int[np.ndarray, " G"],
    found: Neighbours,
    *,
    n: int = 100,
    ties: ranking.Ties = "index",
    full_ranking_pairs: int = FULL_RANKING_PAIRS,
) -> Scores:
    """nn_acc, nn_f1, ndcg_n, ndcg_n_published_code, map (or map_n), recall_k, hit_rate_k (k = 1, 5, 10), precision_10.

    n is cut to the length of the lists in `found`, and the names say the n that was used.

    A query whose class is not in the gallery counts as wrong in nn_acc, nn_f1, hit_rate and precision; it has no ndcg, map or
    recall and is left out of their means. If that is every query, those metrics are absent. ties: for all but map, which is
    pessimistic, and nn_f1, which takes the first of the list.
    """
    query_labels, gallery_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    length = found.rows.shape[1]
    n = min(n, length)
    cuts = [k for k in CUTS if k <= length]
    total = ranking.count_relevant(query_labels, gallery_labels, found.own)
    predicted = gallery_labels[found.rows[:, 0]]
    full = len(queries) * len(index) <= full_ranking_pairs
    classes = 1 + int(max(query_labels.max(), gallery_labels.max()))

    relevant = ranking.relevance(found.rows, query_labels, gallery_labels)
    values = _by_query(relevant, found.squared, total, n, cuts, ties)
    if ties != "index" or not full:
        # A tie policy must see the whole of a run of equal distances: those queries are ranked against the whole gallery.
        cut = np.flatnonzero(found.cut)
        lists = ranking.rank(
            queries[cut],
            index.vectors,
            distance=index.distance,
            self_rows=found.own[cut],
            max_bytes=_BYTES,
        )
        for start, rows, distances in lists:
            part = cut[start : start + len(rows)]
            whole = ranking.relevance(rows, query_labels[part], gallery_labels)
            for name, value in _by_query(whole, distances, total[part], n, cuts, ties).items():
                values[name][part] = value
    ap = values.pop("ap")
    if full:
        ap = retrieval.full_average_precision(
            queries,
            query_labels,
            index.vectors,
            gallery_labels,
            distance=index.distance,
            self_rows=found.own,
        )
    values["map" if full else f"map_{n}"] = ap
    metrics = {
        "nn_acc": retrieval.mean_over_queries(values.pop("nn_acc")),
        "nn_f1": classification.macro_f1(query_labels, predicted),
    }
    metrics |= {
        name: retrieval.mean_over_queries(value)
        for name, value in values.items()
        if not np.isnan(value).all()
    }
    metrics[f"ndcg_{n}_published_code"] = retrieval.mean_over_queries(
        retrieval.ndcg_published_code(relevant, classes, n=n)
    )
    notes = {
        "map": "whole gallery, over the number of relevant items, pessimistic ties"
        if full
        else f"cut at {n}, over min({n}, relevant items), pessimistic ties",
        "queries_without_relevant_items": int((total == 0).sum()),
        "queries_with_a_tied_nearest_neighbour": int(
            (found.squared[:, 0] == found.squared[:, 1]).sum()
        )
        if length > 1
        else 0,
    }
    return Scores(metrics, ap, predicted, notes)


def _by_query(
    relevant: Bool[np.ndarray, "Q K"],
    distances: Float[np.ndarray, "Q K"],
    total: Int[np.ndarray, " Q"],
    n: int,
    cuts: list[int],
    ties: ranking.Ties,
) -> dict[str, Float[np.ndarray, " Q"]]:
    """The metrics of each query that a ranked list of at least n and max(cuts) entries can give; "ap" is AP@n."""
    how: dict[str, Any] = {"scores": distances, "ties": ties}
    worst = ranking.resolve_ties(relevant, distances, "pessimistic")[:, :n]
    return {
        "nn_acc": retrieval.nn_accuracy(relevant, **how),
        f"ndcg_{n}": retrieval.ndcg(relevant, total, n=n, **how),
        "ap": retrieval.average_precision(worst, total, denominator="min_k"),
        **{f"recall_{k}": retrieval.recall_at_k(relevant, total, k, **how) for k in cuts},
        **{f"hit_rate_{k}": retrieval.hit_rate_at_k(relevant, k, **how) for k in cuts},
        **{f"precision_{k}": retrieval.precision_at_k(relevant, k, **how) for k in cuts if k == 10},
    }
