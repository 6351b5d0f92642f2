"""Every retrieval metric of one set of ranked lists, with the conventions spelled out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.evaluators.rank import CUTS, Ranked, Search
from jax3dret.metrics import classification, ranking, retrieval
from jax3dret.metrics.metric import Metric

_BYTES = 1 << 27
# Of the index against an exhaustive search, where there are no labels to score.
INDEX_RECALL = Metric(
    "index_recall_at_10",
    "Recall@10 of the index",
    "share of the exact ten nearest that the index returns",
)


class Labels(NamedTuple):
    """Class numbers of queries and gallery, of one list of classes."""

    queries: Int[np.ndarray, " Q"]
    gallery: Int[np.ndarray, " G"]


class Scores(NamedTuple):
    """metrics: by name, those that papers lead with first. about: what each of them is, in the same
    order. average_precision: of each query, NaN where undefined. predicted: class of the nearest
    neighbour. notes: what the protocol must say about these numbers."""

    metrics: dict[str, float]
    about: list[Metric]
    average_precision: Float[np.ndarray, " Q"]
    predicted: Int[np.ndarray, " Q"]
    notes: dict[str, Any]


def score(ranked: Ranked, labels: Labels, search: Search) -> Scores:
    """nn_acc, nn_f1, ndcg_n, map_pessimistic (or map_pessimistic_n where a full ranking would take
    more than search.full_ranking_pairs), recall_k, hit_rate_k (k = 1, 5, 10), precision_10,
    ndcg_n_published_code.

    n is cut to the length of the lists, and the names say the n that was used.

    A query whose class is not in the gallery counts as wrong in nn_acc, nn_f1, hit_rate and
    precision; it has no ndcg, average precision or recall and is left out of their means. If that
    is every query, those metrics are absent. search.ties: for all but average precision, which is
    pessimistic, and nn_f1, which takes the first of the list.
    """
    found, length = ranked.found, ranked.found.rows.shape[1]
    labels = Labels(np.asarray(labels.queries), np.asarray(labels.gallery))
    n = min(search.neighbours, length)
    total = ranking.count_relevant(labels.queries, labels.gallery, found.own)
    predicted = labels.gallery[found.rows[:, 0]]
    full = len(ranked.queries) * len(ranked.index) <= search.full_ranking_pairs
    classes = 1 + int(max(labels.queries.max(), labels.gallery.max()))

    relevant = ranking.relevance(found.rows, labels.queries, labels.gallery)
    values = _by_query(relevant, found.squared, total, n, search.ties)
    if search.ties != "index" or not full:
        _rank_the_tied_again(values, ranked, labels, total, n, search.ties)
    ap = values.pop(retrieval.MAP_PESSIMISTIC_AT.at(n=n))
    if full:
        ap = retrieval.full_average_precision(
            ranked.queries,
            labels.queries,
            ranked.index.vectors,
            labels.gallery,
            distance=ranked.index.distance,
            self_rows=found.own,
        )
    average = retrieval.MAP_PESSIMISTIC if full else retrieval.MAP_PESSIMISTIC_AT.at(n=n)
    published = retrieval.ndcg_published_code(relevant, classes, n=n)
    means = {
        metric: retrieval.mean_over_queries(value)
        for metric, value in {**values, average: ap}.items()
        if metric == retrieval.NN_ACC or not np.isnan(value).all()
    }
    means[classification.NN_F1] = classification.macro_f1(labels.queries, predicted)
    means[retrieval.NDCG_PUBLISHED_CODE.at(n=n)] = retrieval.mean_over_queries(published)
    leading = (retrieval.NN_ACC, classification.NN_F1, retrieval.NDCG.at(n=n), average)
    order = [m for m in leading if m in means]
    order += [m for m in means if m not in order]
    tied = found.squared[:, 0] == found.squared[:, 1] if length > 1 else np.zeros(0, bool)
    notes = {
        "queries_without_relevant_items": int((total == 0).sum()),
        "queries_with_a_tied_nearest_neighbour": int(tied.sum()),
    }
    return Scores({m.key: means[m] for m in order}, order, ap, predicted, notes)


def _by_query(
    relevant: Bool[np.ndarray, "Q K"],
    distances: Float[np.ndarray, "Q K"],
    total: Int[np.ndarray, " Q"],
    n: int,
    ties: ranking.Ties,
) -> dict[Metric, Float[np.ndarray, " Q"]]:
    """The metrics of each query that a ranked list of at least n entries can give, at the CUTS that
    it is long enough for."""
    how: dict[str, Any] = {"scores": distances, "ties": ties}
    worst = ranking.resolve_ties(relevant, distances, "pessimistic")[:, :n] > 0
    cuts = [k for k in CUTS if k <= relevant.shape[1]]
    found = {
        retrieval.NN_ACC: retrieval.nn_accuracy(relevant, **how),
        retrieval.NDCG.at(n=n): retrieval.ndcg(relevant, total, n=n, **how),
        retrieval.MAP_PESSIMISTIC_AT.at(n=n): retrieval.average_precision(
            worst, total, denominator="min_k"
        ),
    }
    for k in cuts:
        found[retrieval.RECALL.at(k=k)] = retrieval.recall_at_k(relevant, total, k, **how)
    for k in cuts:
        found[retrieval.HIT_RATE.at(k=k)] = retrieval.hit_rate_at_k(relevant, k, **how)
    if 10 in cuts:
        found[retrieval.PRECISION.at(k=10)] = retrieval.precision_at_k(relevant, 10, **how)
    return found


def _rank_the_tied_again(
    values: dict[Metric, Float[np.ndarray, " Q"]],
    ranked: Ranked,
    labels: Labels,
    total: Int[np.ndarray, " Q"],
    n: int,
    ties: ranking.Ties,
) -> None:
    """A tie policy must see the whole of a run of equal distances: queries whose list cuts one are
    ranked against the whole gallery, and their values replaced."""
    cut = np.flatnonzero(ranked.found.cut)
    lists = ranking.rank(
        ranked.queries[cut],
        ranked.index.vectors,
        distance=ranked.index.distance,
        self_rows=ranked.found.own[cut],
        max_bytes=_BYTES,
    )
    for start, rows, distances in lists:
        part = cut[start : start + len(rows)]
        whole = ranking.relevance(rows, labels.queries[part], labels.gallery)
        for metric, value in _by_query(whole, distances, total[part], n, ties).items():
            if metric in values:
                values[metric][part] = value
