"""Retrieval of the very same object from another modality: where its counterpart stands in the
ranked list.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import DataError
from jax3dret.metrics.metric import Metric
from jax3dret.metrics.ranking import Distance, check_choice, check_vectors, squared_distances

Ties = Literal["pessimistic", "optimistic", "average"]
CUTS = (1, 5, 10)


def counterpart_ranks(
    queries: Float[np.ndarray, "N D"],
    gallery: Float[np.ndarray, "N D"],
    *,
    distance: Distance = "cosine",
    ties: Ties = "pessimistic",
) -> Float[np.ndarray, " N"]:
    """Rank (1 is best) of gallery row i among all gallery rows, as query i sees them; float64.

    ties: where other rows are as near as the counterpart, "pessimistic" ranks it behind them,
    "optimistic" before them, "average" in their middle. Objects with one caption in common tie, so
    this is not a matter of rounding alone.

    Raises DataError for shapes that differ, NaN or infinity.
    """
    check_choice("ties", ties, ("pessimistic", "optimistic", "average"))
    check_vectors(queries, "queries")
    check_vectors(gallery, "gallery")
    if queries.shape != gallery.shape:
        raise DataError(
            f"queries {queries.shape}, gallery {gallery.shape}: row i of one must be the "
            "counterpart of row i"
        )
    ranks = np.empty(len(queries))
    for first, squared, tolerance in squared_distances(queries, gallery, distance=distance):
        own = np.diagonal(squared, first)[: len(squared), None]
        nearer = (squared < own - tolerance).sum(1)
        equal = (np.abs(squared - own) <= tolerance).sum(1) - 1
        share = {"pessimistic": 1.0, "optimistic": 0.0, "average": 0.5}[ties]
        ranks[first : first + len(squared)] = 1 + nearer + share * equal
    return ranks


OWN_RECALL = Metric(
    "recall_{k}", "Recall@{k}", "queries that find their own object among the first {k}"
)
MEDIAN_RANK = Metric("median_rank", "Median rank", "of a query's own object; 1 is best")
MEAN_RECIPROCAL_RANK = Metric(
    "mean_reciprocal_rank", "Mean reciprocal rank", "1 over the rank of a query's own object"
)
METRICS = (*(OWN_RECALL.at(k=k) for k in CUTS), MEDIAN_RANK, MEAN_RECIPROCAL_RANK)


def rank_metrics(ranks: Float[np.ndarray, " N"]) -> dict[str, float]:
    """By name: "recall_k", share of queries whose counterpart is among the k nearest;
    "median_rank"; "mean_reciprocal_rank".

    Raises DataError if there are no ranks.
    """
    if not len(ranks):
        raise DataError("no ranks: there are no queries")
    metrics = {f"recall_{k}": float(np.mean(ranks <= k)) for k in CUTS}
    return {
        **metrics,
        "median_rank": float(np.median(ranks)),
        "mean_reciprocal_rank": float(np.mean(1 / ranks)),
    }
