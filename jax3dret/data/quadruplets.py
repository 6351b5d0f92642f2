"""Quadruplets for learning across modalities: an anchor, the right and a wrong item of the other
side, a wrong one of its own.

"Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval" (arXiv
2604.18019), equation 14. The anchors are the records of an epoch; what joins each of them is drawn
here, class first, so that a class with many items is not the negative of nearly everything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jax3dret.core.types import DataError, Record
from jax3dret.data.rows import Rows

Draw = Callable[[int, np.random.Generator], np.ndarray]


class Side(NamedTuple):
    """The items of one modality that may be drawn. labels: int [N]. row: (item, generator) -> what
    stands for it in a batch; it draws only from the generator. name: in an error.
    """

    name: str
    labels: Sequence[int] | np.ndarray
    row: Draw


class Quadruplets:
    """Adds to record "positive" and "negative" of the other side and "other" of the anchors' own,
    with the labels of the two negatives, "negative_label" and "other_label".

    The positive is uniform over the items of the anchor's class; a negative is uniform over the
    other classes, then over the items of that class; both negatives are drawn apart and may be of
    different classes.

    Raises DataError, here, for a class of anchors without an item on the other side, and where
    there is one class.
    """

    def __init__(self, anchors: Side, others: Side, class_names: Sequence[str] = ()) -> None:
        require_both(anchors, others, class_names)
        self._anchors, self._others = anchors, others
        self._of_anchors, self._of_others = _by_class(anchors.labels), _by_class(others.labels)
        if min(len(self._of_anchors), len(self._of_others)) < 2:
            raise DataError(
                f"{anchors.name} and {others.name} of one class: a negative must be of another, so "
                "at least two are needed"
            )

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        label = int(record["label"])
        items = self._of_others[label]
        positive = int(items[rng.integers(len(items))])
        negative, negative_label = _wrong(self._of_others, label, rng)
        other, other_label = _wrong(self._of_anchors, label, rng)
        return {
            **record,
            "positive": self._others.row(positive, rng),
            "negative": self._others.row(negative, rng),
            "negative_label": np.int32(negative_label),
            "other": self._anchors.row(other, rng),
            "other_label": np.int32(other_label),
        }


def require_both(anchors: Side, others: Side, class_names: Sequence[str] = ()) -> None:
    """Raises DataError for a class of anchors without an item on the other side."""
    if lonely := sorted(
        set(np.unique(anchors.labels).tolist()) - set(np.unique(others.labels).tolist())
    ):
        names = [class_names[label] if class_names else str(label) for label in lonely]
        raise DataError(
            f"{len(lonely)} classes have {anchors.name} but no {others.name} to train with: "
            f"{', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''}; leave them out of the {anchors.name}"
        )


class LateRows:
    """Rows that are made, or opened, when the first of them is asked for: nothing is computed for a
    run that is only described.
    """

    def __init__(self, make: Callable[[], Rows]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._rows: Rows | None = None

    def __getitem__(self, index: int) -> np.ndarray:
        with self._lock:
            if self._rows is None:
                self._rows = self._make()
        return np.asarray(self._rows[index])


def _by_class(labels: Sequence[int] | np.ndarray) -> dict[int, np.ndarray]:
    labels = np.asarray(labels)
    return {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}


def _wrong(items: dict[int, np.ndarray], label: int, rng: np.random.Generator) -> tuple[int, int]:
    """An item and its label, of a class other than `label`."""
    classes = [c for c in items if c != label]
    chosen = classes[rng.integers(len(classes))]
    return int(items[chosen][rng.integers(len(items[chosen]))]), chosen
