"""Category-Chamfer as an evaluation: of the query's class, is the nearest shape found?

    config.evals.category_chamfer = {"name": "jax3dret.tasks.inret.category_chamfer:make",
                                     "kind": "hashgrid_sdf"}

INRet, section 11. Two searches are scored: the nearest embedding of all other shapes, and
hierarchical sampling, which asks a classifier of frozen embeddings (`embedding_classifier`, trained
on those of the training split) for the query's class and compares clouds within it
(`hierarchical`). What is right is told by clouds of more points.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError, EmbedFn, EvaluationData, Evaluator, OpenSource
from jax3dret.evaluators import write
from jax3dret.evaluators.embed import embed_side
from jax3dret.evaluators.fields import open_kind
from jax3dret.evaluators.sides import Sides
from jax3dret.metrics import ranking
from jax3dret.metrics.category_chamfer import (
    CATEGORY,
    CATEGORY_CHAMFER,
    category_chamfer_hits,
    category_hits,
)
from jax3dret.metrics.metric import Metric
from jax3dret.tasks.inret.clouds import Clouds, distances_within
from jax3dret.tasks.inret.conversion import Fields, cloud_of
from jax3dret.tasks.inret.embedding_classifier import ClassifierSpec, train_classifier
from jax3dret.tasks.inret.hierarchical import Hierarchy, Searched, exhaustive, hierarchical

HIERARCHICAL = CATEGORY_CHAMFER._replace(
    key="hierarchical",
    title="Category-Chamfer accuracy, hierarchical sampling",
    meaning=f"{CATEGORY_CHAMFER.meaning}; first result of hierarchical sampling",
)
CLASSIFIED = Metric("classified", "Classified", "queries whose class the classifier names")
KEPT = Metric(
    "kept", "Compared again", "share of the candidates that hierarchical sampling compares twice"
)
SECONDS = tuple(
    Metric(key, title, f"{meaning}; mean over the queries, sampling included")
    for key, title, meaning in (
        ("classify_s", "Seconds of classification", "naming the class of one embedding"),
        ("coarse_s", "Seconds, few points", "comparing all candidates by few points"),
        ("fine_s", "Seconds, all points", "comparing those kept by all points"),
        ("hierarchical_s", "Seconds, hierarchical", "the three stages"),
        ("naive_s", "Seconds, naive", "comparing all candidates by all points"),
    )
)


class Found(NamedTuple):
    """What both searches found for every query: rows, -1 for none. numbers: the metrics that are
    means over queries already."""

    nearest: Int[np.ndarray, " Q"]
    hierarchical: Int[np.ndarray, " Q"]
    classes: Int[np.ndarray, " Q"]
    numbers: Mapping[str, float]


def make(
    data: EvaluationData,
    open_source: OpenSource,
    *,
    distance: ranking.Distance = "cosine",
    kind: str = "hashgrid_sdf",
    split: str = "test",
    train_split: str = "train",
    modality: str = "inr",
    coarse: int = 128,
    fine: int = 4096,
    bound: float = 3.0,
    truth: int = 131_072,
    classifier: Mapping[str, Any] | None = None,
    naive_queries: int = 8,
    seed: int = 0,
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> accuracies of `metrics.category_chamfer`, and
    seconds of each stage.

    kind: of INRs, queries and gallery; every item of the split is a query against all others.
    coarse, fine, bound: of hierarchical sampling. truth: points of the clouds that say what is
    right. classifier: changes to `ClassifierSpec`. naive_queries: so many are also compared with
    all candidates by all points, for the time; 0: none. seed: of points and classifier.

    Raises ConfigError for a bad choice, here; when it runs, DataError for embeddings that cannot be
    used, or an INR without a surface.
    """
    hierarchy, spec = Hierarchy(coarse, fine, bound), _spec(classifier or {})
    if truth < fine or naive_queries < 0:
        raise ConfigError(
            f"category_chamfer: truth={truth}, naive_queries={naive_queries}; expected at least "
            f"fine={fine}, and 0 or more"
        )
    tested = open_kind(data, open_source, kind, split, modality)
    trained = open_kind(data, open_source, kind, train_split, modality)

    def evaluate(embed_fn: EmbedFn, folder: Any) -> Mapping[str, float]:
        writing = folder is not None and jax.process_index() == 0
        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            test, train = (
                np.array(embed_side(embed_fn, side, pathlib.Path(scratch) / name, show=writing)[0])
                for side, name in ((tested, "test.npy"), (trained, "train.npy"))
            )
        labels = np.asarray(tested.source.labels)
        fields = Fields(tested.source, kind)
        clouds = Clouds(lambda row, points: cloud_of(fields, row, points, seed))
        logits = train_classifier(
            train,
            np.asarray(trained.source.labels),
            len(trained.source.class_names),
            spec=spec,
            seed=seed,
        )
        found = search(test, labels, logits, clouds, hierarchy, distance, naive_queries)
        true = distances_within(labels, clouds, truth)
        metrics = score(found, true, labels)
        if writing:
            _write(pathlib.Path(folder), metrics, Sides(tested, tested), hierarchy, truth, kind)
        return metrics

    return evaluate


def search(
    embeddings: Float[np.ndarray, "Q D"],
    labels: Int[np.ndarray, " Q"],
    logits: Any,
    clouds: Clouds,
    hierarchy: Hierarchy,
    distance: ranking.Distance,
    naive_queries: int,
) -> Found:
    """Both searches for every embedding among the others.

    logits: of embeddings. The candidates of hierarchical sampling are the shapes of the class that
    the classifier names for the query, as the data set labels them.
    """
    rows = np.arange(len(embeddings))
    nearest = np.concatenate(
        [
            found[:, 0]
            for _, found, _ in ranking.rank(
                embeddings, embeddings, k=1, distance=distance, self_rows=rows
            )
        ]
    )
    logits(embeddings[:1])  # compiles
    began = time.perf_counter()
    for row in rows[:8]:
        logits(embeddings[row : row + 1])
    classify = (time.perf_counter() - began) / len(rows[:8])
    classes = logits(embeddings).argmax(1)
    results: list[Searched] = []
    naive: list[float] = []
    kept: list[float] = []
    for row in rows:
        candidates = rows[(labels == classes[row]) & (rows != row)]
        results.append(hierarchical(int(row), candidates, clouds, hierarchy))
        if len(candidates):
            kept.append(results[-1].kept / len(candidates))
        if len(naive) < naive_queries:
            naive.append(exhaustive(int(row), candidates, clouds, hierarchy.fine).fine_s)
    coarse_s, fine_s = (
        float(np.mean([getattr(r, k) for r in results])) for k in ("coarse_s", "fine_s")
    )
    numbers = {
        KEPT.key: float(np.mean(kept)) if kept else 0.0,
        "classify_s": classify,
        "coarse_s": coarse_s,
        "fine_s": fine_s,
        "hierarchical_s": classify + coarse_s + fine_s,
    }
    if naive:
        numbers["naive_s"] = float(np.mean(naive)) + classify
    return Found(nearest, np.array([r.found for r in results]), classes, numbers)


def score(
    found: Found, true: Float[np.ndarray, "Q Q"], labels: Int[np.ndarray, " Q"]
) -> dict[str, float]:
    """All metrics. true: Chamfer distances within each class."""
    own = np.arange(len(labels))
    return {
        CATEGORY.key: float(category_hits(found.nearest, labels, labels).mean()),
        CATEGORY_CHAMFER.key: float(
            category_chamfer_hits(found.nearest, true, labels, labels, own).mean()
        ),
        HIERARCHICAL.key: float(
            category_chamfer_hits(found.hierarchical, true, labels, labels, own).mean()
        ),
        CLASSIFIED.key: float((found.classes == labels).mean()),
        **found.numbers,
    }


def _spec(changes: Mapping[str, Any]) -> ClassifierSpec:
    known = [field.name for field in dataclasses.fields(ClassifierSpec)]
    if unknown := sorted(set(changes) - set(known)):
        raise ConfigError(
            f"category_chamfer: classifier.{unknown[0]}: there is no such setting; there are "
            f"{', '.join(known)}"
        )
    values: dict[str, Any] = {k: tuple(v) if k == "hidden" else v for k, v in changes.items()}
    return ClassifierSpec(**values)


def _write(
    folder: pathlib.Path,
    metrics: Mapping[str, float],
    sides: Sides,
    hierarchy: Hierarchy,
    truth: int,
    kind: str,
) -> None:
    meanings: Sequence[Metric] = (
        CATEGORY,
        CATEGORY_CHAMFER,
        HIERARCHICAL,
        CLASSIFIED,
        KEPT,
        *SECONDS,
    )
    said = {
        "kind": kind,
        "hierarchical_sampling": f"{hierarchy.coarse} points, then {hierarchy.fine} for what is "
        f"within {hierarchy.bound:g} times the least distance",
        "ground_truth": f"Chamfer distances of {truth} points, within the query's class",
        "self_match": "excluded",
    }
    result = write.describe(
        folder.name, sides, metrics, [m for m in meanings if m.key in metrics], said
    )
    write.write_result(folder, result)
