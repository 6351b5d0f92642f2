"""Retrieval metrics from ranked lists: nearest neighbour, precision, recall, NDCG, average
precision.

Every function takes `relevant`, bool[Q, K] (see `ranking.relevance`): for each query, whether each
of its K nearest gallery items has its class. It gives one float64 per query, NaN where the value is
undefined because the gallery holds nothing relevant; `mean_over_queries` then says what becomes of
those. `num_relevant` int[Q] counts the relevant items of the whole gallery, which a list of K
neighbours cannot show.

Conventions and their defaults:
  ties          "index" (the list as ranked) | "pessimistic" | "optimistic" | "average"; see `ranking.resolve_ties`
  empty         "skip" | "zero" | "error": queries with nothing relevant in the gallery
  denominator   average precision: "relevant" (R) | "min_k" (min(K, R)) | "retrieved" (relevant items in the list)
                recall: "relevant" (R) | "min_k" (min(k, R))
  ideal         NDCG: "relevant" (min(n, R) hits) | "n" (n hits) | "retrieved" (the hits in the list, moved to its head)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln

from jax3dret.core.types import ConfigError, DataError
from jax3dret.metrics import ranking
from jax3dret.metrics.metric import Metric
from jax3dret.metrics.ranking import Distance, Ties, check_choice, resolve_ties, tie_groups

Empty = Literal["skip", "zero", "error"]


def mean_over_queries(
    values: Float[np.ndarray, " Q"],
    *,
    empty: Empty = "skip",
    num_relevant: Int[np.ndarray, " Q"] | None = None,
) -> float:
    """Mean of a per-query metric.

    Empty queries are those whose value is NaN and, where `num_relevant` is given, those with none;
    they are left out ("skip"), count as 0 ("zero") or raise DataError ("error"). Raises DataError
    when there is nothing to average.
    """
    check_choice("empty", empty, ("skip", "zero", "error"))
    values = np.asarray(values, np.float64)
    lone = (
        np.isnan(values)
        if num_relevant is None
        else np.isnan(values) | (np.asarray(num_relevant) == 0)
    )
    if empty == "error" and lone.any():
        raise DataError(
            f"query {int(lone.argmax())} has no relevant gallery item ({int(lone.sum())} such "
            "queries); "
            "empty='skip' or 'zero' accepts them"
        )
    if empty == "skip":
        values, lone = values[~lone], lone[~lone]
    if not len(values):
        raise DataError("no query has a relevant gallery item: the metric is undefined")
    return float(np.where(lone, 0.0, values).mean())


def _cut(relevant: np.ndarray, k: int, name: str) -> None:
    if k < 1:
        raise ConfigError(f"{name}: k={k}; it must be at least 1")
    if relevant.shape[1] < k:
        raise ConfigError(
            f"{name}: lists of {relevant.shape[1]} neighbours cannot give a value at {k}; search "
            "for more"
        )


def _undefined(values: np.ndarray, num_relevant: np.ndarray) -> Float[np.ndarray, " Q"]:
    return np.where(np.asarray(num_relevant) > 0, values, np.nan)


NN_ACC = Metric(
    "nn_acc", "Nearest-neighbour accuracy", "queries whose nearest neighbour has their class"
)


def nn_accuracy(
    relevant: Bool[np.ndarray, "Q K"],
    *,
    scores: Float[np.ndarray, "Q K"] | None = None,
    ties: Ties = "index",
) -> Float[np.ndarray, " Q"]:
    """1 where the nearest neighbour has the query's class. A query with nothing relevant is wrong,
    not undefined.
    """
    _cut(relevant, 1, "nn_accuracy")
    return resolve_ties(relevant, scores, ties)[:, 0]


PRECISION = Metric("precision_{k}", "Precision@{k}", "relevant items among the first {k}, over {k}")


def precision_at_k(
    relevant: Bool[np.ndarray, "Q K"],
    k: int,
    *,
    scores: Float[np.ndarray, "Q K"] | None = None,
    ties: Ties = "index",
) -> Float[np.ndarray, " Q"]:
    """Relevant items among the k nearest, over k."""
    _cut(relevant, k, "precision_at_k")
    return resolve_ties(relevant, scores, ties)[:, :k].sum(axis=1) / k


RECALL = Metric("recall_{k}", "Recall@{k}", "share of all relevant items among the first {k}")


def recall_at_k(
    relevant: Bool[np.ndarray, "Q K"],
    num_relevant: Int[np.ndarray, " Q"],
    k: int,
    *,
    denominator: Literal["relevant", "min_k"] = "relevant",
    scores: Float[np.ndarray, "Q K"] | None = None,
    ties: Ties = "index",
) -> Float[np.ndarray, " Q"]:
    """Fraction of all relevant items that is among the k nearest. Not to be mixed up with
    `hit_rate_at_k`.
    """
    check_choice("denominator", denominator, ("relevant", "min_k"))
    _cut(relevant, k, "recall_at_k")
    found = resolve_ties(relevant, scores, ties)[:, :k].sum(axis=1)
    total = np.minimum(num_relevant, k) if denominator == "min_k" else np.asarray(num_relevant)
    return _undefined(found / np.maximum(total, 1), num_relevant)


HIT_RATE = Metric(
    "hit_rate_{k}", "Hit rate@{k}", "queries with a relevant item among the first {k}"
)


def hit_rate_at_k(
    relevant: Bool[np.ndarray, "Q K"],
    k: int,
    *,
    scores: Float[np.ndarray, "Q K"] | None = None,
    ties: Ties = "index",
) -> Float[np.ndarray, " Q"]:
    """1 where at least one of the k nearest is relevant; many papers call this recall@k, or mAP@k.

    Under ties="average": the probability of that when equal scores are put in random order.
    """
    _cut(relevant, k, "hit_rate_at_k")
    if ties != "average":
        return resolve_ties(relevant, scores, ties)[:, :k].max(axis=1)
    resolve_ties(relevant, scores, ties)  # checks the scores
    group = tie_groups(np.asarray(scores, np.float64))
    last = group[:, k - 1 : k]
    sure = (relevant & (group < last)).any(axis=1)
    size, hits = (group == last).sum(axis=1), (relevant & (group == last)).sum(axis=1)
    drawn = k - (group < last).sum(axis=1)
    # Hypergeometric: none of `drawn` items out of `size` is one of `hits`.
    possible = size - hits >= drawn
    rest = np.where(possible, size - hits - drawn, 0)
    log_none = (
        gammaln(size - hits + 1) - gammaln(rest + 1) - gammaln(size + 1) + gammaln(size - drawn + 1)
    )
    return np.where(sure, 1.0, 1.0 - np.where(possible, np.exp(log_none), 0.0))


NDCG = Metric(
    "ndcg_{n}",
    "NDCG@{n}",
    "gain 1 for the query's class, discount 1/log2(rank + 1), over that of the best list, whose "
    "first min({n}, relevant items) are relevant",
)


def ndcg(
    relevant: Bool[np.ndarray, "Q K"],
    num_relevant: Int[np.ndarray, " Q"],
    *,
    n: int = 100,
    ideal: Literal["relevant", "n", "retrieved"] = "relevant",
    scores: Float[np.ndarray, "Q K"] | None = None,
    ties: Ties = "index",
) -> Float[np.ndarray, " Q"]:
    """NDCG@n: sum over ranks r = 1..n of gain_r / log2(r + 1), gain 1 for the query's class, over
    the best possible sum.

    ULIP-2 PointBERT fine-tuning for geometric object retrieval, Computers & Graphics 122 (2024)
    103993, evaluation section. The paper leaves the best possible sum open: "relevant" takes the
    best list this gallery allows.
    """
    check_choice("ideal", ideal, ("relevant", "n", "retrieved"))
    _cut(relevant, n, "ndcg")
    discount = 1.0 / np.log2(np.arange(2, n + 2))
    best = np.concatenate([[0.0], np.cumsum(discount)])
    gains = resolve_ties(relevant, scores, ties)[:, :n]
    if ideal == "n":
        hits = np.full(len(gains), n)
    elif ideal == "relevant":
        hits = np.minimum(num_relevant, n)
    else:
        if ties == "average":
            raise ConfigError(
                "ideal='retrieved' has no mean over tie orders; use another ideal or tie policy"
            )
        hits = gains.sum(axis=1).astype(int)
    gained = gains @ discount
    return _undefined(
        np.divide(gained, best[hits], out=np.zeros(len(gains)), where=best[hits] > 0), num_relevant
    )


NDCG_PUBLISHED_CODE = Metric(
    "ndcg_{n}_published_code",
    "NDCG@{n}, published code",
    "p + (1 - p) c(C), p = precision at {n}: no rank discount; not comparable with NDCG",
)


def ndcg_published_code(
    relevant: Bool[np.ndarray, "Q K"], num_classes: int, *, n: int = 100
) -> Float[np.ndarray, " Q"]:
    """What the published code prints as NDCG@n: p + (1 - p) c(C); for comparison with its tables
    only.

    That code scores each of the n retrieved items as a ranking over the C classes (C = largest
    label + 1) by a one-hot prediction, and averages. The right class scores 1, a wrong one ties
    with the C - 1 others and scores c(C) = mean over r = 2..C of 1 / log2(r + 1); p is precision@n.
    The order of the list plays no part, and a gallery with nothing relevant still scores c(C),
    about 0.2 to 0.35. Needs n gallery items.
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes={num_classes}: it is the largest label + 1")
    if relevant.shape[1] < n:
        raise ConfigError(
            f"ndcg_published_code: {relevant.shape[1]} neighbours; it needs {n}, so at least {n} "
            "gallery items"
        )
    wrong = float(np.mean(1.0 / np.log2(np.arange(3, num_classes + 2)))) if num_classes > 1 else 0.0
    p = precision_at_k(relevant, n)
    return p + (1.0 - p) * wrong


MAP_PESSIMISTIC_AT = Metric(
    "map_pessimistic_{n}",
    "mAP@{n}, pessimistic ties",
    "precision at each relevant item of the first {n}, over min({n}, relevant items); of equal "
    "distances, wrong items come first",
)


def average_precision(
    relevant: Bool[np.ndarray, "Q K"] | Float[np.ndarray, "Q K"],
    num_relevant: Int[np.ndarray, " Q"],
    *,
    denominator: Literal["relevant", "min_k", "retrieved"] = "relevant",
    scores: Float[np.ndarray, "Q K"] | None = None,
    ties: Ties = "index",
) -> Float[np.ndarray, " Q"]:
    """AP: precision at the rank of each relevant item, summed over the list and divided by the
    denominator.

    relevant: truth values, or the gains that `resolve_ties` makes of them. K = the whole gallery
    gives AP itself, a shorter list AP@K. No interpolation. Under ties="average" this is the
    expectation over all orders of the tied items (McSherry and Najork, ECIR 2008).
    """
    check_choice("denominator", denominator, ("relevant", "min_k", "retrieved"))
    _cut(relevant, 1, "average_precision")
    gains = resolve_ties(relevant, scores, ties)
    place = np.arange(1, gains.shape[1] + 1)
    if ties == "average":
        group = tie_groups(np.asarray(scores, np.float64))
        start = np.concatenate(
            [np.ones((len(group), 1), bool), group[:, 1:] != group[:, :-1]], axis=1
        )
        before = np.maximum.accumulate(np.where(start, place - 1, 0), axis=1)
        size = np.zeros(group.shape)
        np.add.at(size, (np.arange(len(group))[:, None], group), 1.0)
        size = np.take_along_axis(size, group, axis=1)
        found = np.concatenate(
            [np.zeros((len(group), 1)), np.cumsum(np.asarray(relevant, float), axis=1)], axis=1
        )
        hits_before = np.take_along_axis(found, before, axis=1)
        others = (place - before - 1) * (gains * size - 1) / np.maximum(size - 1, 1)
        precision = (hits_before + others + 1) / place
    else:
        precision = np.cumsum(gains, axis=1) / place
    total = (precision * gains).sum(axis=1)
    if denominator == "relevant":
        over = np.asarray(num_relevant)
    elif denominator == "min_k":
        over = np.minimum(num_relevant, gains.shape[1])
    else:
        over = np.asarray(relevant).sum(axis=1)
    return _undefined(total / np.maximum(over, 1), num_relevant)


MAP_PESSIMISTIC = Metric(
    "map_pessimistic",
    "Mean average precision, pessimistic ties",
    "precision at each relevant item, mean over the relevant items of the whole gallery; of equal "
    "distances, wrong items come first",
)


def full_average_precision(
    queries: Float[np.ndarray, "Q D"],
    query_labels: Int[np.ndarray, " Q"],
    gallery: Float[np.ndarray, "G D"],
    gallery_labels: Int[np.ndarray, " G"],
    *,
    distance: Distance = "cosine",
    self_rows: Int[np.ndarray, " Q"] | None = None,
    ties: Ties = "pessimistic",
    max_bytes: int = 1 << 28,
) -> Float[np.ndarray, " Q"]:
    """AP of each query over the whole gallery, from embeddings, in memory bounded by `max_bytes`
    beyond the inputs.

    Ties are pessimistic by default: an encoder that maps everything to one point must not score 1
    because its gallery happens to be sorted by class. `self_rows` (see `ranking.self_rows`) leaves
    a query's own row out.
    """
    if len(query_labels) != len(queries) or len(gallery_labels) != len(gallery):
        raise DataError(
            f"{len(query_labels)} labels for {len(queries)} queries, {len(gallery_labels)} for "
            f"{len(gallery)} gallery items"
        )
    result = np.empty(len(queries))
    total = ranking.count_relevant(query_labels, gallery_labels, self_rows)
    chunks = ranking.rank(
        queries, gallery, distance=distance, self_rows=self_rows, max_bytes=max_bytes
    )
    for start, rows, distances in chunks:
        part = slice(start, start + len(rows))
        relevant = ranking.relevance(rows, np.asarray(query_labels)[part], gallery_labels)
        result[part] = average_precision(relevant, total[part], scores=distances, ties=ties)
    return result
