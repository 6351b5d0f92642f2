"""What an evaluation leaves for the report: result.json, and the arrays and pictures beside it."""

from __future__ import annotations

import logging
import math
import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jax3dret.core import files
from jax3dret.evaluators import examples, zeros
from jax3dret.evaluators.embed import Pair
from jax3dret.evaluators.rank import Ranked, Search
from jax3dret.evaluators.score import Scores
from jax3dret.evaluators.sides import Sides
from jax3dret.metrics import classification
from jax3dret.metrics.metric import Metric, about

Result = dict[str, Any]
log = logging.getLogger("jax3dret")


def describe(
    name: str,
    sides: Sides,
    metrics: Mapping[str, float],
    meanings: Iterable[Metric],
    protocol: Mapping[str, Any],
) -> Result:
    """The part of result.json that every evaluator writes: metrics and what they are, protocol,
    data set."""
    gallery, queries = sides.gallery.source, sides.queries.source
    return {
        "name": name,
        "metrics": dict(metrics),
        "about": about(meanings),
        "protocol": dict(protocol),
        "dataset": {
            "name": gallery.name,
            "version": gallery.version,
            "splits": {"gallery": gallery.split, "query": queries.split},
            "items": {"gallery": len(gallery), "query": len(queries)},
        },
    }


def protocol(ranked: Ranked, sides: Sides, search: Search, scores: Scores | None) -> dict[str, Any]:
    """The conventions behind the numbers of ranked lists, for a reader."""
    n = ranked.lists.rows.shape[1]
    said: dict[str, Any] = {
        "distance": ranked.index.distance,
        "self_match": "excluded by id" if search.self_match == "exclude" else "included",
        "ties": {"index": "lowest gallery row first"}.get(search.ties, search.ties),
        "queries_against": "all other items" if sides.same else "the gallery split",
        "search": "exact" if ranked.index.scoring == "brute_force" else ranked.index.scoring,
        "n": n,
    }
    if n < search.neighbours:
        said["n_note"] = (
            f"{search.neighbours} neighbours were asked for; the gallery has {n}, so lists and "
            f"metric names stop at {n}"
        )
    if scores is not None:
        said["queries_with_nothing_relevant"] = (
            "wrong in nn_acc, nn_f1, hit_rate, precision; left out of ndcg, map_pessimistic, recall"
        )
        said |= scores.notes
    said |= zeros.said(ranked.index.vectors, ranked.queries, ranked.index.distance)
    if not sides.labelled:
        said["labels"] = "none: the data set is not labelled, so there are no label metrics"
    return said


def ranking_result(ranked: Ranked, pair: Pair, sides: Sides, scores: Scores | None) -> Result:
    """What result.json says of ranked lists beside the numbers: index, timing, classes, per class,
    confusion."""
    names = list(sides.gallery.source.class_names)
    result: Result = {
        "index": ranked.index.report(),
        "timing": {
            "embed_items_per_s": pair.gallery.items_per_s,
            "search_ms_per_query": ranked.found.ms,
        },
        "class_names": names,
        "per_class": [],
        "confusion": None,
    }
    if scores is not None:
        labels = np.asarray(sides.queries.source.labels, np.int32)
        result["per_class"] = classification.per_class_table(
            labels, scores.predicted, names, average_precision=scores.average_precision
        )
        result["about_classes"] = about(classification.BY_CLASS)
        counts = classification.confusion(labels, scores.predicted, len(names))
        result["confusion"] = {"classes": names, "counts": counts.tolist()}
    return result


def write_lists(
    folder: pathlib.Path, ranked: Ranked, pair: Pair, sides: Sides, scores: Scores | None
) -> Result:
    """Writes `embeddings.npy` (queries, float32[Q, D]), `labels.npy` (int32[Q]) and
    `thumbnails/*.png`; what is there of an earlier evaluation is no longer complete, so its
    result.json goes first.

    Returns the entry "examples" of result.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    shutil.copyfile(pair.queries.path, folder / "embeddings.npy")
    labels = np.asarray(sides.queries.source.labels, np.int32)
    np.save(folder / "labels.npy", labels)
    correct = None if scores is None else scores.predicted == labels
    shown = examples.Lists(
        sides.queries.source,
        sides.gallery.source,
        ranked.lists.rows,
        ranked.lists.scores(ranked.index.distance),
        correct,
    )
    return {
        "examples": examples.write(folder / "thumbnails", examples.choose(correct, labels), shown)
    }


def finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """The numbers as JSON knows them: NaN and the infinities are None."""
    return {key: value if math.isfinite(value) else None for key, value in numbers.items()}


def add_returned(folder: pathlib.Path, numbers: Mapping[str, float], about: Result) -> None:
    """Puts the numbers that an evaluator returned into the result.json of its folder, which is
    made where the evaluator has left none.

    about: entries of a result.json that has none of its own. A number that is not finite stands as
    null, and the protocol says so.

    Raises DataError for a result.json that is no JSON object.
    """
    path = folder / "result.json"
    result = files.read_json_object(path) if path.is_file() else {"name": folder.name, **about}
    metrics = {**(result.get("metrics") or {}), **finite(numbers)}
    undefined = ", ".join(f"{k} ({v})" for k, v in numbers.items() if not math.isfinite(v))
    if result.get("metrics") == metrics and not undefined:
        return
    result["metrics"] = metrics
    if undefined:
        log.warning("evaluation '%s': not finite, so undefined: %s", folder.name, undefined)
        said = f"{undefined}: not finite, so undefined"
        result["protocol"] = {**(result.get("protocol") or {}), "undefined": said}
    write_result(folder, result)


def write_result(folder: pathlib.Path, result: Result) -> None:
    """Writes result.json, last of all: it says that the rest is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "result.json", result, allow_nan=False)
