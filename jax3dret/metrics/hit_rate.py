"""What INRet and inr2vec measure retrieval by: whether something of the query's class is among the
k nearest, and precision, recall and F1 at k as the ShapeNet challenge has them.

The papers call the first "mAP@k"; it is no average precision. The query's own shape is left out by
its id, not by its place in the list, as inr2vec's code does: where embeddings repeat, that drops
another item.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.core.types import ConfigError, DataError
from jax3dret.metrics import ranking, retrieval
from jax3dret.metrics.metric import Metric
from jax3dret.metrics.ranking import Distance, Ties

CUTS = (1, 5, 10)
HIT_RATE = Metric(
    "hit_rate_{k}",
    "Hit rate@{k}",
    'queries with a shape of their class among the first {k}; "mAP@{k}" of the papers',
)
PRECISION = retrieval.PRECISION
RECALL = Metric(
    "recall_{k}",
    "Recall@{k}",
    "relevant items among the first {k}, over all relevant ones or {k}, whichever is less",
)
F1 = Metric(
    "f1_{k}", "F1@{k}", "2 P R / (P + R) of precision and recall at {k}, of each query on its own"
)


class Sides(NamedTuple):
    """Queries and gallery: class numbers and the ids of their shapes."""

    query_labels: Int[np.ndarray, " Q"]
    query_ids: Sequence[str]
    gallery_labels: Int[np.ndarray, " G"]
    gallery_ids: Sequence[str]


def by_query(
    queries: Float[np.ndarray, "Q D"],
    gallery: Float[np.ndarray, "G D"],
    sides: Sides,
    *,
    same_shape: bool = False,
    cuts: Sequence[int] = CUTS,
    distance: Distance = "cosine",
    ties: Ties = "pessimistic",
) -> dict[Metric, Float[np.ndarray, " Q"]]:
    """Hit rate at every cut, then precision, recall and F1 at the last: of each query, float64.

    The whole gallery is ranked, so that equal distances are seen whole. A cut beyond the gallery is
    left out. A query whose class has nothing else in the gallery has 0 in all of them.

    same_shape: keep the gallery item with the query's own id. ties: by default what is wrong comes
    first, so that an encoder that maps everything to one point scores nothing.

    Raises: DataError: embeddings that are not finite, labels or ids of another number, a gallery
        that holds the query alone. ConfigError: a cut below 1.
    """
    for name, vectors, labels, ids in (
        ("queries", queries, sides.query_labels, sides.query_ids),
        ("gallery", gallery, sides.gallery_labels, sides.gallery_ids),
    ):
        if not len(vectors) == len(labels) == len(ids):
            raise DataError(
                f"{name}: {len(vectors)} embeddings, {len(labels)} labels, {len(ids)} ids; they "
                "must be of the same items"
            )
    if min(cuts) < 1:
        raise ConfigError(f"cuts={tuple(cuts)}; a list has at least one entry")
    own = None if same_shape else ranking.self_rows(sides.query_ids, sides.gallery_ids)
    length = len(gallery) - bool(own is not None and (own >= 0).any())
    if length < 1:
        raise DataError("the gallery holds one item, the query itself: nothing to retrieve")
    total = ranking.count_relevant(sides.query_labels, sides.gallery_labels, own)
    kept = [k for k in cuts if k <= length]
    last = max(kept, default=1)
    found: dict[Metric, list[np.ndarray]] = {HIT_RATE.at(k=k): [] for k in kept}
    found |= {metric.at(k=last): [] for metric in (PRECISION, RECALL, F1)}
    chunks = ranking.rank(queries, gallery, distance=distance, self_rows=own)
    for start, rows, distances in chunks:
        part = slice(start, start + len(rows))
        relevant = ranking.relevance(rows, sides.query_labels[part], sides.gallery_labels)
        of_chunk = _scores(relevant, total[part], kept, last, distances, ties)
        for metric, values in of_chunk.items():
            found[metric].append(values)
    return {metric: np.concatenate(parts) for metric, parts in found.items()}


def _scores(
    relevant: Bool[np.ndarray, "Q K"],
    total: Int[np.ndarray, " Q"],
    cuts: Sequence[int],
    last: int,
    distances: Float[np.ndarray, "Q K"],
    ties: Ties,
) -> dict[Metric, Float[np.ndarray, " Q"]]:
    scores = {
        HIT_RATE.at(k=k): retrieval.hit_rate_at_k(relevant, k, scores=distances, ties=ties)
        for k in cuts
    }
    precision = retrieval.precision_at_k(relevant, last, scores=distances, ties=ties)
    recall = retrieval.recall_at_k(
        relevant, total, last, denominator="min_k", scores=distances, ties=ties
    )
    recall = np.nan_to_num(recall)  # nothing relevant: 0
    return scores | {
        PRECISION.at(k=last): precision,
        RECALL.at(k=last): recall,
        F1.at(k=last): f1(precision, recall),
    }


def f1(
    precision: Float[np.ndarray, " Q"], recall: Float[np.ndarray, " Q"]
) -> Float[np.ndarray, " Q"]:
    """2 P R / (P + R) of each query, 0 where both are 0. Its mean is not that of the means."""
    both = precision + recall
    return np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
