"""Classification metrics for the 1-nearest-neighbour classifier: confusion, macro F1, the table by
class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import DataError
from jax3dret.metrics.metric import Metric
from jax3dret.metrics.ranking import check_choice


def confusion(
    truth: Int[np.ndarray, " Q"], predicted: Int[np.ndarray, " Q"], num_classes: int
) -> Int[np.ndarray, "C C"]:
    """Counts: row = true class, column = predicted class. Raises DataError for a label outside [0,
    num_classes).
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise DataError(
            f"truth {truth.shape} and prediction {predicted.shape} must be two lists of one length"
        )
    for name, labels in (("truth", truth), ("prediction", predicted)):
        if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
            raise DataError(
                f"{name}: labels {labels.min()}..{labels.max()} do not fit {num_classes} classes"
            )
    flat = np.bincount(truth.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def f1_by_class(
    counts: Int[np.ndarray, "C C"], *, undefined: float = 0.0
) -> Float[np.ndarray, " C"]:
    """F1 of each class, 2 TP / (2 TP + FP + FN); `undefined` for a class in neither truth nor
    prediction.
    """
    hits = np.diag(counts).astype(np.float64)
    over = counts.sum(axis=0) + counts.sum(axis=1)
    return np.divide(2 * hits, over, out=np.full(len(hits), float(undefined)), where=over > 0)


NN_F1 = Metric(
    "nn_f1",
    "Macro F1",
    "F1 of the 1-NN classifier, mean over the classes in truth or prediction; undefined = 0",
)


def macro_f1(
    truth: Int[np.ndarray, " Q"],
    predicted: Int[np.ndarray, " Q"],
    *,
    classes: Literal["union", "truth"] = "union",
) -> float:
    """Unweighted mean of the F1 of the classes that occur in truth or prediction ("union"), or in
    truth alone.

    A class that is predicted but never true, or true but never predicted, has F1 = 0. "union" is
    what scikit-learn's f1_score(average="macro") does, and with it the published code of the
    geometric retrieval paper.
    """
    check_choice("classes", classes, ("union", "truth"))
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if not len(truth):
        raise DataError("macro_f1: no query")
    names, flat = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    counts = confusion(flat[: len(truth)], flat[len(truth) :], len(names))
    present = counts.sum(axis=1) > 0 if classes == "truth" else np.ones(len(names), bool)
    return float(f1_by_class(counts)[present].mean())


# The columns of `per_class_table`.
BY_CLASS = (
    Metric("nn_acc", "NN accuracy", "queries of the class whose nearest neighbour has it"),
    Metric("f1", "F1", "F1 of the class, by the class of the nearest neighbour"),
    Metric("ap", "AP", "average precision, mean over the queries of the class"),
)


def per_class_table(
    truth: Int[np.ndarray, " Q"],
    predicted: Int[np.ndarray, " Q"],
    class_names: Sequence[str],
    *,
    average_precision: Float[np.ndarray, " Q"] | None = None,
) -> list[dict[str, Any]]:
    """One row for each class: {"class", "items", "nn_acc", "f1", "ap"}; None where a value is
    undefined.

    items: queries of the class. nn_acc: fraction of them predicted right. ap: mean of
    `average_precision` over those with a defined value.
    """
    counts = confusion(truth, predicted, len(class_names))
    f1 = f1_by_class(counts, undefined=np.nan)
    truth = np.asarray(truth)
    table = []
    for c, name in enumerate(class_names):
        items = int(counts[c].sum())
        ap = np.array([]) if average_precision is None else average_precision[truth == c]
        ap = ap[~np.isnan(ap)]
        table.append(
            {
                "class": str(name),
                "items": items,
                "nn_acc": float(counts[c, c] / items) if items else None,
                "f1": None if np.isnan(f1[c]) else float(f1[c]),
                "ap": float(ap.mean()) if len(ap) else None,
            }
        )
    return table
