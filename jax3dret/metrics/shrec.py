"""The measures of the SHREC tracks on sketch-based retrieval, and the variants of them that papers
print by the same names.

A query is a sketch, C gallery items of G have its class, h(k) of them stand among the k nearest, at
ranks r_1 < ... < r_C. The query is no item of the gallery, so nothing is left out of its list and
the tiers are C and 2C long.

    name       value                                                    range of a perfect list
    NN         1 where r_1 = 1                                          1
    FT         h(C) / C, recall of the first tier                       1
    ST         h(2C) / C, recall of the second tier                     1
    ST_prec    h(2C) / 2C, precision of the second tier: ST / 2         1/2
    E32        2 P R / (P + R) at 32, P = h(32) / 32, R = h(32) / C     2 C / (32 + C)
    E32_comp   1 - E32
    F2C        2 P R / (P + R) at 2C                                    2/3
    E          1 - F2C, less is better                                  1/3
    nDCG       (g_1 + sum over i >= 2 of g_i / log2 i) over the same sum for the best list; over the whole list
    nDCG_C     the same over the first C alone
    MRR        1 / r_1
    mAP        mean over n of n / r_n, the average precision

NN, FT, ST, E32, nDCG and mAP are those of the evaluation code of SHREC'13 and SHREC'14, which calls
E32 "E" and nDCG "DCG"; it knows no MRR. The tables of "Multi-View Hierarchical Graph Neural Network
for Sketch-Based 3D Shape Retrieval" (arXiv 2604.18019) mix the other names in under ST, E and nDCG.

`relevant` is bool[Q, G]: the whole gallery in ranked order, see `ranking.rank` and
`ranking.relevance`. Where 2C or 32 exceeds the gallery, the cut k is G, and precision is over those
G. A query with nothing relevant (C = 0) has NN = MRR = 0, and NaN elsewhere.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.core.types import ConfigError, DataError
from jax3dret.metrics.metric import Metric
from jax3dret.metrics.ranking import check_choice, resolve_ties

# An average over all orders of tied items is no list, and precision at a recall point needs one.
Ties = Literal["index", "pessimistic", "optimistic"]
TIES = ("index", "pessimistic", "optimistic")
CUT = 32
RECALL_POINTS = 20
# First those that every paper defines alike. C: items of the query's class; h(k): those among the k
# nearest.
METRICS = (
    Metric("NN", "Nearest neighbour", "queries whose nearest item is of their class"),
    Metric(
        "FT",
        "First tier",
        "h(C) / C, a recall; the query is no item of the gallery, so the tier is C long, not C - 1",
    ),
    Metric("mAP", "Mean average precision", "precision at each relevant item, whole list"),
    Metric("MRR", "Mean reciprocal rank", "1 / rank of the first relevant item"),
    Metric("ST", "Second tier", "h(2C) / C, a recall, as the SHREC code has it"),
    Metric("ST_prec", "Second tier, precision", "h(2C) / 2C, at most one half"),
    Metric(
        "E32",
        "E at 32, SHREC code",
        "F-measure of precision and recall at 32, 2 h(32) / (32 + C); more is better",
    ),
    Metric("E32_comp", "1 - E at 32", "less is better"),
    Metric("F2C", "F at 2 C", "F-measure of precision and recall at 2C, 2 h(2C) / 3C"),
    Metric("E", "E, 1 - F at 2 C", "less is better"),
    Metric(
        "nDCG",
        "nDCG, SHREC code",
        "discounts 1, 1, 1/log2 3, 1/log2 4, ... over the whole list, over the same sum of the "
        "best list",
    ),
    Metric("nDCG_C", "nDCG at C", "the same over the first C items alone"),
)
NAMES = tuple(metric.key for metric in METRICS)


def scores(
    relevant: Bool[np.ndarray, "Q G"],
    *,
    distances: Float[np.ndarray, "Q G"] | None = None,
    ties: Ties = "index",
) -> dict[str, Float[np.ndarray, " Q"]]:
    """Every measure of `NAMES` for each query, float64; `mean_over_queries` of metrics.retrieval
    then averages.

    ties: "index" takes the list as ranked; "pessimistic" and "optimistic" put the irrelevant or the
    relevant of equal `distances` first.

    Raises ConfigError for another tie policy or missing distances, DataError for a shape that is no
    list of lists.
    """
    gains = _gains(relevant, distances, ties)
    num, total = gains.shape[1], gains.sum(axis=1).astype(np.int64)
    hits = np.cumsum(gains, axis=1)
    place = np.arange(1, num + 1)
    some = total > 0
    first = np.where(some, gains.argmax(axis=1) + 1, 1)
    second = np.minimum(2 * total, num)
    cut = np.full(len(gains), min(CUT, num))
    at_second, at_cut = _at(hits, second), _at(hits, cut)
    discount = _discount(num)
    best = np.concatenate([[0.0], np.cumsum(discount)])[total]
    values = {
        "FT": _over(_at(hits, total), total),
        "ST": _over(at_second, total),
        "ST_prec": _over(at_second, second),
        # With P = h / k and R = h / C the harmonic mean is 2 h / (k + C), and 0 where h is.
        "E32": _over(2 * at_cut, np.where(some, cut + total, 0)),
        "F2C": _over(2 * at_second, second + total),
        "nDCG": _over(gains @ discount, best),
        "nDCG_C": _over((gains * (place <= total[:, None])) @ discount, best),
        "mAP": average_precision(relevant, distances=distances, ties=ties),
    }
    values |= {"E32_comp": 1 - values["E32"], "E": 1 - values["F2C"]}
    values |= {"NN": gains[:, 0].copy(), "MRR": np.where(some, 1 / first, 0.0)}
    return {name: values[name] for name in NAMES}


def average_precision(
    relevant: Bool[np.ndarray, "Q G"],
    *,
    largest: int | None = None,
    distances: Float[np.ndarray, "Q G"] | None = None,
    ties: Ties = "index",
) -> Float[np.ndarray, " Q"]:
    """Mean over the C relevant items of n / r_n, whole list; NaN where C = 0.

    largest: the SHREC'13 script averages a row that is padded with zeros to the C of the query with
    most; give that C for what it prints, which is AP C / largest.

    Raises ConfigError where a query has more relevant items than `largest`.
    """
    gains = _gains(relevant, distances, ties)
    total = gains.sum(axis=1)
    if largest is not None and total.max(initial=0) > largest:
        raise ConfigError(f"largest={largest}: a query has {int(total.max())} relevant items")
    summed = (np.cumsum(gains, axis=1) / np.arange(1, gains.shape[1] + 1) * gains).sum(axis=1)
    return np.where(
        total > 0, _over(summed, total if largest is None else np.full(len(gains), largest)), np.nan
    )


def precision_at_recall(
    relevant: Bool[np.ndarray, "Q G"],
    *,
    distances: Float[np.ndarray, "Q G"] | None = None,
    ties: Ties = "index",
) -> Float[np.ndarray, "Q 20"]:
    """Precision at the recalls 1/20, 2/20, ..., 1, as the SHREC code interpolates it.

    At recall j/20 the rank C j/20 among the relevant items lies between two of them, whose
    precisions n / r_n are weighted linearly. NaN where the query has fewer than 2 relevant items or
    fewer than 20/j: there would be nothing to interpolate between.
    """
    gains = _gains(relevant, distances, ties)
    total = gains.sum(axis=1).astype(np.int64)
    # Precision at the n-th relevant item, n = 1..C, at the head of each row.
    order = np.argsort(-gains, axis=1, kind="stable")[:, : max(int(total.max(initial=0)), 1)]
    precision = np.arange(1, order.shape[1] + 1) / (order + 1.0)
    points = np.arange(1, RECALL_POINTS + 1)
    # In whole numbers: 0.15 * 20 is 3.0000000000000004 or 3, and the weight of the next item must
    # not depend on that.
    whole, rest = np.divmod(total[:, None] * points, RECALL_POINTS)
    last = np.maximum(total[:, None], 1)
    low, high = np.clip(whole, 1, last) - 1, np.clip(whole + 1, 1, last) - 1
    weight = rest / RECALL_POINTS
    values = (
        np.take_along_axis(precision, low, 1) * (1 - weight)
        + np.take_along_axis(precision, high, 1) * weight
    )
    valid = (total[:, None] >= 2) & (total[:, None] * points >= RECALL_POINTS)
    return np.where(valid, values, np.nan)


def precision_recall_curve(
    precisions: Float[np.ndarray, "Q 20"],
) -> tuple[Float[np.ndarray, " 20"], Float[np.ndarray, " 20"], Int[np.ndarray, " 20"]]:
    """(recall, precision, queries): the mean of `precision_at_recall` over the queries that have a
    value there, NaN where none has.

    The SHREC code prints the mean of these 20 precisions as its quick mAP.
    """
    precisions = np.asarray(precisions, np.float64)
    queries = np.isfinite(precisions).sum(axis=0)
    mean = np.divide(
        np.nansum(precisions, axis=0),
        queries,
        out=np.full(RECALL_POINTS, np.nan),
        where=queries > 0,
    )
    return np.arange(1, RECALL_POINTS + 1) / RECALL_POINTS, mean, queries


def _gains(
    relevant: np.ndarray, distances: np.ndarray | None, ties: str
) -> Float[np.ndarray, "Q G"]:
    check_choice("ties", ties, TIES)
    relevant = np.asarray(relevant)
    if relevant.ndim != 2 or relevant.shape[1] < 1:
        raise DataError(
            f"relevance has shape {relevant.shape}; it must be [queries, the whole gallery in "
            "ranked order]"
        )
    return resolve_ties(relevant, distances, ties)  # type: ignore[arg-type]  # one of its choices


def _at(hits: Float[np.ndarray, "Q G"], k: Int[np.ndarray, " Q"]) -> Float[np.ndarray, " Q"]:
    """h(k) of each query; 0 at k = 0."""
    return np.where(
        k > 0, np.take_along_axis(hits, np.maximum(k - 1, 0)[:, None], axis=1)[:, 0], 0.0
    )


def _over(value: np.ndarray, by: np.ndarray) -> Float[np.ndarray, " Q"]:
    return np.divide(value, by, out=np.full(len(value), np.nan), where=np.asarray(by) > 0)


def _discount(num: int) -> Float[np.ndarray, " G"]:
    """1, 1, 1 / log2 3, 1 / log2 4, ...: the first two ranks count alike."""
    return np.concatenate([[1.0], 1 / np.log2(np.arange(2, num + 1))])
