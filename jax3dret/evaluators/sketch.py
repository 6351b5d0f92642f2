"""Sketches against shapes: the retrieval evaluator with the measures of the SHREC tracks, and what a report on two modalities shows.

Files beside those of `evaluators.retrieval`, below the folder that the evaluator is given: `gallery_embeddings.npy` (float32[G, D]),
`gallery_labels.npy` (int32[G]), `view_scores.npy` (float32[G, V], where the model tells how much it makes of each view) and, on
request, `rank_lists/`. result.json has more entries too: "queries" (the data set they come from), "precision_recall", "distances"
(histograms within and between classes) and "views".
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Float

from jax3dret.core.types import Arrays, DataError, Evaluator, Transform
from jax3dret.data.rows import open_rows
from jax3dret.evaluators import examples, retrieval
from jax3dret.evaluators import rank_lists as exchange
from jax3dret.metrics import ranking, shrec
from jax3dret.metrics.retrieval import mean_over_queries

_BYTES = 1 << 27
_FINE, _BARS = 400, 40
_VIEW_SIZE = 96
_SHOWN_SHAPES = 6

# What each name means, for the reader of result.json. C: items of the query's class; h(k): those among the k nearest.
MEANINGS = {
    "NN": "the nearest item is of the query's class",
    "FT": "h(C) / C; the query is no item of the gallery, so the tier is C long, not C - 1",
    "ST": "h(2C) / C, a recall, as the SHREC code has it",
    "ST_prec": "h(2C) / 2C, a precision, at most one half; most of the paper's ST columns are this",
    "E32": "F-measure of precision and recall at 32, 2 h(32) / (32 + C); the SHREC code calls it E; more is better",
    "E32_comp": "1 - E32; less is better",
    "F2C": "F-measure at 2C, 2 h(2C) / 3C; more is better",
    "E": "1 - F2C; less is better; nearest to the E of the paper's main tables",
    "nDCG": "discounts 1, 1, 1/log2 3, 1/log2 4, ... over the whole list, over the same sum of the best list; DCG of the SHREC code",
    "nDCG_C": "the same over the first C items alone",
    "MRR": "mean of 1 / rank of the first relevant item",
    "mAP": "mean of the average precision over the whole list; its ties are as stated, those of map are pessimistic",
    "paper_columns": "The columns of the MV-HGNN paper are not of one kind: its ST is ST_prec in tables 1 to 6 but mostly ST in table 7; "
    "its E fits 1 - F2C in some rows, F2C in others, and neither in the rest, the main category-level results among them. NN, FT, MRR "
    "and mAP can be compared.",
}


def make(
    gallery: Any,
    queries: Any,
    *,
    gallery_transforms: tuple[Transform, ...] = (),
    gallery_arrays: Arrays = (),
    gallery_features: tuple[str, ...] = (),
    query_transforms: tuple[Transform, ...] = (),
    query_arrays: Arrays = (),
    query_features: tuple[str, ...] = (),
    gallery_key: str = "shape",
    query_key: str = "sketch",
    batch_size: int = 32,
    num_threads: int = 2,
    seed: int = 0,
    distance: Literal["cosine", "euclidean"] = "cosine",
    neighbours: int = 100,
    ties: shrec.Ties = "index",
    index: Mapping[str, Any] | None = None,
    picture: examples.Picture = examples.picture,
    views: Callable[[Any], str | os.PathLike[str]] | str | os.PathLike[str] | None = None,
    rank_lists: bool = False,
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> the metrics of `evaluators.retrieval` and those of `metrics.shrec`, over all queries.

    gallery, queries: opened records, of one list of classes; as `data.matching.matched` makes them where their own lists differ. No
    id of one is compared with an id of the other: no gallery item is left out of a list.
    gallery_transforms, query_transforms, ...: of each side, as in `DataSpec`.
    ties: of every metric but map. index, neighbours: of the lists behind the usual metrics; those of `metrics.shrec` rank the whole
    gallery, exactly.
    views: the view store of the gallery, or what makes it from the opened records, for the report: it then shows the views that the
    model has scored.
    rank_lists: write the ranked lists of all queries too, in the SHREC format. That is a line for each pair.

    Raises ConfigError for a bad choice, here, as `evaluators.retrieval.make` does; when it runs, DataError for embeddings or data
    that cannot be used.
    """
    ranking.check_choice("ties", ties, shrec.TIES)

    def add(seen: retrieval.Evaluated) -> retrieval.Addition:
        measured = _measure(seen, ties) if seen.labelled else _Measured({}, {}, {})
        about: dict[str, Any] = {"queries": {"name": queries.name, "version": queries.version}}
        scores = seen.outputs.get("view_scores")
        shown = examples.choose(None, np.asarray(gallery.labels), each=_SHOWN_SHAPES // 2)
        if scores is not None:
            if scores.ndim != 2:
                raise DataError(
                    f"view_scores have shape {scores.shape}; they must be [shapes, views]"
                )
            about["views"] = _views(
                scores, shown, gallery, seen.labelled, pictured=views is not None
            )

        def write(folder: pathlib.Path) -> None:
            np.save(folder / "gallery_embeddings.npy", seen.gallery)
            np.save(folder / "gallery_labels.npy", np.asarray(gallery.labels, np.int32))
            if scores is not None:
                np.save(folder / "view_scores.npy", scores)
                if views is not None:
                    _write_views(
                        folder / "thumbnails",
                        views(gallery) if callable(views) else views,
                        shown,
                        scores,
                    )
            if rank_lists:
                ranked = ranking.rank(
                    seen.queries, seen.gallery, distance=distance, max_bytes=_BYTES
                )
                exchange.write(folder / "rank_lists", queries.ids, gallery.ids, ranked)

        return retrieval.Addition(
            measured.metrics,
            {"self_match": "disjoint", **measured.protocol},
            {**about, **measured.result},
            write,
        )

    return retrieval.make(
        lambda split: gallery,
        gallery_split=gallery.split,
        query_split=queries.split,
        transforms=gallery_transforms,
        arrays=gallery_arrays,
        features=gallery_features,
        open_query_source=lambda split: queries,
        query_transforms=query_transforms,
        query_arrays=query_arrays,
        query_features=query_features,
        gallery_key=gallery_key,
        query_key=query_key,
        batch_size=batch_size,
        num_threads=num_threads,
        seed=seed,
        distance=distance,
        neighbours=neighbours,
        ties=ties,
        self_match="include",
        index=index,
        picture=picture,
        gallery_outputs=("view_scores",),
        add=add,
    )


class _Measured(NamedTuple):
    metrics: dict[str, float]
    protocol: dict[str, Any]
    result: dict[str, Any]


def _measure(seen: retrieval.Evaluated, ties: shrec.Ties) -> _Measured:
    """Everything that the exact ranking of the whole gallery tells, in one pass over it."""
    query_labels, gallery_labels = (
        np.asarray(seen.query_source.labels),
        np.asarray(seen.gallery_source.labels),
    )
    total = ranking.count_relevant(query_labels, gallery_labels)
    values: dict[str, list[np.ndarray]] = {name: [] for name in shrec.NAMES}
    precisions = []
    edges = np.linspace(0.0, _farthest(seen), _FINE + 1)
    within, between = np.zeros(_FINE, np.int64), np.zeros(_FINE, np.int64)
    sums = np.zeros(2)
    for first, rows, distances in ranking.rank(
        seen.queries, seen.gallery, distance=seen.distance, max_bytes=_BYTES
    ):
        relevant = ranking.relevance(rows, query_labels[first : first + len(rows)], gallery_labels)
        for name, value in shrec.scores(relevant, distances=distances, ties=ties).items():
            values[name].append(value)
        precisions.append(shrec.precision_at_recall(relevant, distances=distances, ties=ties))
        place = np.minimum(np.searchsorted(edges, distances, side="right") - 1, _FINE - 1)
        within += np.bincount(place[relevant], minlength=_FINE)
        between += np.bincount(place[~relevant], minlength=_FINE)
        sums += [distances[relevant].sum(), distances[~relevant].sum()]
    by_query = {name: np.concatenate(parts) for name, parts in values.items()}
    metrics = {
        name: mean_over_queries(value)
        for name, value in by_query.items()
        if not np.isnan(value).all()
    }
    recall, precision, counted = shrec.precision_recall_curve(np.concatenate(precisions))
    curve = {
        "recall": recall.tolist(),
        "precision": _finite(precision),
        "queries": counted.tolist(),
        # Averages over rows that are padded with zeros to the largest C, see `shrec.average_precision`.
        "map_of_2013_script": _mean(by_query["mAP"] * total / max(int(total.max()), 1)),
        "map_of_2013_quick_script": _mean(precision),
    }
    protocol = {
        **MEANINGS,
        "mean": "over queries",
        "queries_with_nothing_relevant": "wrong in nn_acc, nn_f1, hit_rate, precision, NN (0) and MRR (0); left out of the others",
        "classes": _classes(query_labels, gallery_labels),
    }
    num = len(gallery_labels)
    if short := int(((2 * total > num) | ((num < shrec.CUT) & (total > 0))).sum()):
        protocol["tiers_longer_than_the_gallery"] = (
            f"{short} queries ask for more than the {num} items: k = {num} for them, precision is over those"
        )
    histogram = _histogram(edges, within, between, sums)
    return _Measured(metrics, protocol, {"precision_recall": curve, "distances": histogram})


def _farthest(seen: retrieval.Evaluated) -> float:
    """No distance is greater: 2 for 1 - cosine, the sum of the largest norms for the Euclidean one."""
    if seen.distance == "cosine":
        return 2.0
    norms = [
        float(np.linalg.norm(np.asarray(side, np.float64), axis=1).max())
        for side in (seen.queries, seen.gallery)
    ]
    return max(sum(norms), 1e-12)


def _histogram(
    edges: np.ndarray, within: np.ndarray, between: np.ndarray, sums: Float[np.ndarray, " 2"]
) -> dict[str, Any]:
    """The two histograms over the range where there is anything, in at most _BARS bars, as shares of their pairs."""
    used = np.flatnonzero(within + between)
    first, last = int(used[0]), int(used[-1]) + 1
    each = -(-(last - first) // _BARS)
    starts = np.arange(first, last, each)
    counts = [np.add.reduceat(side[:last], starts) for side in (within, between)]
    pairs = [int(side.sum()) for side in (within, between)]
    shares = [count / max(num, 1) for count, num in zip(counts, pairs, strict=True)]
    return {
        "edges": edges[np.append(starts, last)].tolist(),
        "within": shares[0].tolist(),
        "between": shares[1].tolist(),
        "pairs": {"within": pairs[0], "between": pairs[1]},
        "mean": {
            name: float(total / num) if num else None
            for name, total, num in zip(("within", "between"), sums, pairs, strict=True)
        },
        "overlap": float(np.minimum(*shares).sum()) if all(pairs) else None,
    }


def _classes(query_labels: np.ndarray, gallery_labels: np.ndarray) -> str:
    asked, there = set(query_labels.tolist()), set(gallery_labels.tolist())
    return (
        f"{len(asked & there)} with queries and gallery items, {len(asked - there)} with queries alone, "
        f"{len(there - asked)} with gallery items alone"
    )


def _views(
    scores: Float[np.ndarray, "G V"],
    shown: list[int],
    gallery: Any,
    labelled: bool,
    *,
    pictured: bool,
) -> dict[str, Any]:
    """How much the model makes of each view, over the gallery and for some shapes of it."""
    num = scores.shape[1]
    best = scores.argmax(axis=1)
    even = np.ptp(scores, axis=1) <= 1e-6 * np.abs(scores).max(axis=1)
    return {
        "views": num,
        "mean_score": scores.mean(axis=0, dtype=np.float64).tolist(),
        "best_view_share": (np.bincount(best[~even], minlength=num) / len(scores)).tolist(),
        "without_preference": int(even.sum()),
        "shapes": [
            {
                "id": gallery.ids[row],
                "label": gallery.class_names[int(gallery.labels[row])] if labelled else None,
                "scores": [float(v) for v in scores[row]],
                "thumbnails": [_view_name(row, view) for view in range(num)] if pictured else None,
            }
            for row in shown
        ],
    }


def _view_name(row: int, view: int) -> str:
    return f"view_{row:06d}_{view:02d}.png"


def _write_views(
    folder: pathlib.Path,
    path: str | os.PathLike[str],
    shown: list[int],
    scores: Float[np.ndarray, "G V"],
) -> None:
    store = open_rows(path)
    if len(store) != len(scores):
        raise DataError(f"{path}: views of {len(store)} shapes; the gallery has {len(scores)}")
    for row in shown:
        pictures = np.asarray(store[row])
        if len(pictures) != scores.shape[1]:
            raise DataError(
                f"{path}: {len(pictures)} views of a shape; the model scores {scores.shape[1]}"
            )
        for view, pixels in enumerate(pictures):
            image = PIL.Image.fromarray(pixels).convert("L")
            image.thumbnail((_VIEW_SIZE, _VIEW_SIZE), PIL.Image.Resampling.BOX)
            image.save(folder / _view_name(row, view))


def _finite(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _mean(values: np.ndarray) -> float | None:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else None
