"""Two modalities, such as sketches against shapes: the retrieval evaluator with the measures of the
SHREC tracks.

    config.evals.retrieval = {"name": "jax3dret.evaluators.shrec:make", "rank_lists": False}

Files beside those of `evaluators.retrieval`, below the folder that the evaluator is given:
`gallery_embeddings.npy` (float32[G, D]), `gallery_labels.npy` (int32[G]), `view_scores.npy`
(float32[G, V], where the model tells how much it makes of each view) and, on request,
`rank_lists/`. result.json has more entries too: "queries" (the data set they come from),
"precision_recall", "distances" (histograms within and between classes) and "views".
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jax3dret.core.types import EmbedFn, EvaluationData, Evaluator, OpenSource
from jax3dret.evaluators import histograms, rank, retrieval, views, write
from jax3dret.evaluators import rank_lists as exchange
from jax3dret.evaluators.embed import Pair, embed_sides
from jax3dret.evaluators.sides import Sides, open_sides
from jax3dret.metrics import ranking, shrec
from jax3dret.metrics.retrieval import mean_over_queries

_BYTES = 1 << 27


def make(
    data: EvaluationData,
    open_source: OpenSource,
    *,
    distance: ranking.Distance = "cosine",
    gallery_split: str = "",
    query_split: str = "",
    gallery: str = "shape",
    query: str = "sketch",
    neighbours: int = 100,
    ties: shrec.Ties = "index",
    index: Mapping[str, Any] = retrieval.INDEX,
    show_views: bool = False,
    rank_lists: bool = False,
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> the measures of `metrics.shrec` and the metrics of
    `evaluators.retrieval`.

    gallery, query: modalities; of an empty split the task chooses. No id of one side is compared
    with an id of the other: no gallery item is left out of a list.
    ties: of every metric but map_pessimistic. index, neighbours: of the lists behind the usual
    metrics (see `rank.Search`); those of `metrics.shrec` rank the whole gallery, exactly.
    show_views: the report shows the views that the model has scored: the array "views" of the
    task's data of that name.
    rank_lists: write the ranked lists of all queries too, in the SHREC format. That is a line for
    each pair.

    Raises ConfigError for a bad choice, here; when it runs, DataError for embeddings or data that
    cannot be used.
    """
    ranking.check_choice("ties", ties, shrec.TIES)
    sides = open_sides(
        data, open_source, gallery=(gallery, gallery_split), queries=(query, query_split)
    )
    search = rank.Search(distance, neighbours, ties, "include", index)
    search.check(len(sides.gallery.source))
    pictures = views.open_pictures(data, open_source, gallery_split) if show_views else None

    def evaluate(embed_fn: EmbedFn, folder: Any) -> Mapping[str, float]:
        writing = folder is not None and jax.process_index() == 0
        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            pair = embed_sides(
                embed_fn, sides, pathlib.Path(scratch), outputs=("view_scores",), show=writing
            )
            base = retrieval.measure(pair, sides, search)
            ours = measure(pair, sides, search) if sides.labelled else Measured({}, {}, {})
            about = [m for m in shrec.METRICS if m.key in ours.metrics] + base.about
            both = base._replace(metrics={**ours.metrics, **base.metrics}, about=about)
            seen = pair.gallery.outputs.get("view_scores")
            found = None if seen is None else views.preferences(sides.gallery, seen, pictures)
            if writing:
                where = pathlib.Path(folder)
                result = retrieval.result_of(where, both, pair, sides, search)
                result["protocol"] |= {"self_match": "disjoint", **ours.protocol}
                result |= _queries(sides) | ours.result
                if found is not None:
                    result["views"] = views.describe(found, sides.gallery)
                    views.write(where, found)
                _write(where, pair, sides, search.distance if rank_lists else None)
                write.write_result(where, result)
        return both.metrics

    return evaluate


class Measured(NamedTuple):
    """metrics: by name, in the order of `shrec.METRICS`; protocol, result: entries of
    result.json."""

    metrics: dict[str, float]
    protocol: dict[str, Any]
    result: dict[str, Any]


class _Collected(NamedTuple):
    """What one pass over the exact ranking of the whole gallery tells of each query, and the
    distances of all pairs."""

    by_query: dict[str, Float[np.ndarray, " Q"]]
    precisions: Float[np.ndarray, "Q 20"]
    distances: histograms.Histograms


def measure(pair: Pair, sides: Sides, search: rank.Search) -> Measured:
    """The measures of `metrics.shrec`, the precision-recall curve and the distances within and
    between classes."""
    asked, there = np.asarray(sides.queries.source.labels), np.asarray(sides.gallery.source.labels)
    total = ranking.count_relevant(asked, there)
    seen = _collect(pair, asked, there, search)
    metrics = {
        name: mean_over_queries(value)
        for name, value in seen.by_query.items()
        if not np.isnan(value).all()
    }
    result = {
        "precision_recall": _curve(seen, total),
        "distances": seen.distances.describe(),
    }
    protocol = {
        "mean": "over queries",
        "queries_with_nothing_relevant": "wrong in nn_acc, nn_f1, hit_rate, precision, NN (0) and "
        "MRR (0); left out of the others",
        "classes": _classes(asked, there),
    }
    num = len(there)
    if short := int(((2 * total > num) | ((num < shrec.CUT) & (total > 0))).sum()):
        protocol["tiers_longer_than_the_gallery"] = (
            f"{short} queries ask for more than the {num} items: k = {num} for them, precision is "
            "over those"
        )
    return Measured(metrics, protocol, result)


def _collect(pair: Pair, asked: np.ndarray, there: np.ndarray, search: rank.Search) -> _Collected:
    queries, gallery = pair.queries.vectors, pair.gallery.vectors
    ties: Any = search.ties  # one of shrec.TIES, as `make` has checked
    values: dict[str, list[np.ndarray]] = {name: [] for name in shrec.NAMES}
    precisions = []
    distances = histograms.Histograms(histograms.farthest(queries, gallery, search.distance))
    lists = ranking.rank(queries, gallery, distance=search.distance, max_bytes=_BYTES)
    for first, rows, away in lists:
        relevant = ranking.relevance(rows, asked[first : first + len(rows)], there)
        for name, value in shrec.scores(relevant, distances=away, ties=ties).items():
            values[name].append(value)
        precisions.append(shrec.precision_at_recall(relevant, distances=away, ties=ties))
        distances.add(away, relevant)
    by_query = {name: np.concatenate(parts) for name, parts in values.items()}
    return _Collected(by_query, np.concatenate(precisions), distances)


def _curve(seen: _Collected, total: np.ndarray) -> dict[str, Any]:
    recall, precision, counted = shrec.precision_recall_curve(seen.precisions)
    return {
        "recall": recall.tolist(),
        "precision": [float(v) if np.isfinite(v) else None for v in precision],
        "queries": counted.tolist(),
        # Averages over rows that are padded with zeros to the largest C, see
        # `shrec.average_precision`.
        "map_of_2013_script": _mean(seen.by_query["mAP"] * total / max(int(total.max()), 1)),
        "map_of_2013_quick_script": _mean(precision),
    }


def _classes(query_labels: np.ndarray, gallery_labels: np.ndarray) -> str:
    asked, there = set(query_labels.tolist()), set(gallery_labels.tolist())
    return (
        f"{len(asked & there)} with queries and gallery items, "
        f"{len(asked - there)} with queries alone, {len(there - asked)} with gallery items alone"
    )


def _queries(sides: Sides) -> dict[str, Any]:
    source = sides.queries.source
    return {"queries": {"name": source.name, "version": source.version}}


def _write(
    folder: pathlib.Path, pair: Pair, sides: Sides, distance: ranking.Distance | None
) -> None:
    """The gallery's side, and the rank lists by a distance where one is given."""
    gallery, queries = sides.gallery.source, sides.queries.source
    np.save(folder / "gallery_embeddings.npy", pair.gallery.vectors)
    np.save(folder / "gallery_labels.npy", np.asarray(gallery.labels, np.int32))
    if distance is not None:
        ranked = ranking.rank(
            pair.queries.vectors, pair.gallery.vectors, distance=distance, max_bytes=_BYTES
        )
        exchange.write(folder / "rank_lists", queries.ids, gallery.ids, ranked)


def _mean(values: np.ndarray) -> float | None:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else None
