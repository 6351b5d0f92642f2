"""How much a model makes of each view of a shape: over a gallery, and for some shapes of it with
their pictures."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Float

from jax3dret.core.types import ConfigError, DataError, EvaluationData, OpenSource
from jax3dret.data.rows import open_rows
from jax3dret.evaluators import examples
from jax3dret.evaluators.sides import Side, open_side

_SIZE = 96
_SHOWN_SHAPES = 6


class Preferences(NamedTuple):
    """scores: of each view of each shape. shown: rows of the shapes that are shown one by one.
    pictures: where their views come from, if they are to be shown."""

    scores: Float[np.ndarray, "G V"]
    shown: list[int]
    pictures: Side | None


def open_pictures(data: EvaluationData, open_source: OpenSource, split: str) -> Side:
    """The task's data of "views": records with an array of that name.

    Raises ConfigError where there is none.
    """
    side = open_side(data, open_source, "views", split)
    if "views" not in dict(side.spec.arrays):
        raise ConfigError("show_views: the task's data of 'views' has no array of that name")
    return side


def preferences(gallery: Side, scores: np.ndarray, pictures: Side | None) -> Preferences:
    """scores: what the model gave for the gallery. Raises DataError where they are not [shapes,
    views]."""
    if scores.ndim != 2:
        raise DataError(f"view_scores have shape {scores.shape}; they must be [shapes, views]")
    shown = examples.choose(None, np.asarray(gallery.source.labels), each=_SHOWN_SHAPES // 2)
    return Preferences(scores, shown, pictures)


def describe(found: Preferences, gallery: Side) -> dict[str, Any]:
    """The entry "views" of result.json."""
    scores, source = found.scores, gallery.source
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
                "id": source.ids[row],
                "label": source.class_names[int(source.labels[row])] if gallery.labelled else None,
                "scores": [float(v) for v in scores[row]],
                "thumbnails": None
                if found.pictures is None
                else [_name(row, view) for view in range(num)],
            }
            for row in found.shown
        ],
    }


def write(folder: pathlib.Path, found: Preferences) -> None:
    """Writes `view_scores.npy` (float32[G, V]) and, where there are pictures, those of the shown
    shapes into `thumbnails/`.

    Raises DataError for a store of other shapes or views.
    """
    np.save(folder / "view_scores.npy", found.scores)
    if found.pictures is None:
        return
    made = dict(found.pictures.spec.arrays)["views"]
    path = made(found.pictures.source) if callable(made) else made
    store = open_rows(path)
    if len(store) != len(found.scores):
        raise DataError(
            f"{path}: views of {len(store)} shapes; the gallery has {len(found.scores)}"
        )
    for row in found.shown:
        pictures = np.asarray(store[row])
        if len(pictures) != found.scores.shape[1]:
            raise DataError(
                f"{path}: {len(pictures)} views of a shape; the model scores "
                f"{found.scores.shape[1]}"
            )
        for view, pixels in enumerate(pictures):
            image = PIL.Image.fromarray(pixels).convert("L")
            image.thumbnail((_SIZE, _SIZE), PIL.Image.Resampling.BOX)
            image.save(folder / "thumbnails" / _name(row, view))


def _name(row: int, view: int) -> str:
    return f"view_{row:06d}_{view:02d}.png"
