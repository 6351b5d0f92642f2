"""Queries with their results as small pictures, for the report: some that went right, some that
went wrong.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int

from jax3dret.core.types import Source
from jax3dret.data.sketches import decode
from jax3dret.evaluators.field_pictures import field_picture, holds_fields
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.rendering import render_mesh, render_points

SIZE = 160


def picture(record: Mapping[str, Any], up: Literal["y", "z"]) -> np.ndarray | None:
    """The record's mesh, else its point cloud, else its drawing, else its image, uint8[SIZE,
    SIZE, 3]; None where it has none of them. up: of its data set."""
    if len(record.get("faces", ())):
        mesh = Mesh(
            np.asarray(record["vertices"], np.float64), np.asarray(record["faces"], np.int32)
        )
        return render_mesh(mesh, size=SIZE, up=up)
    if len(record.get("points", ())):
        return render_points(record["points"], record.get("normals"), size=SIZE, up=up)
    if "png" in record:
        return np.asarray(
            PIL.Image.fromarray(decode(record["png"]))
            .resize((SIZE, SIZE), PIL.Image.Resampling.BOX)
            .convert("RGB")
        )
    if "image" in record:
        image = PIL.Image.fromarray(np.asarray(record["image"]).squeeze()).convert("RGB")
        canvas = PIL.Image.new("RGB", (SIZE, SIZE), "white")
        image.thumbnail((SIZE, SIZE))
        canvas.paste(image, ((SIZE - image.width) // 2, (SIZE - image.height) // 2))
        return np.asarray(canvas)
    return None


def choose(
    correct: Bool[np.ndarray, " Q"] | None, labels: Int[np.ndarray, " Q"], each: int = 10
) -> list[int]:
    """Up to `each` correct and `each` wrong queries, spread over the classes; 2 `each` spread
    evenly without labels.
    """
    order = np.argsort(labels, kind="stable")
    groups = [order] if correct is None else [order[correct[order]], order[~correct[order]]]
    wanted = 2 * each if correct is None else each
    chosen = [
        group[np.unique(np.linspace(0, len(group) - 1, min(wanted, len(group))).astype(int))]
        for group in groups
    ]
    return [int(row) for group in chosen for row in group]


class Lists(NamedTuple):
    """Ranked lists as pictures need them: queries, gallery, gallery rows nearest first and their
    scores.

    correct: whether each query's first result has its class; None without labels.
    """

    queries: Source
    gallery: Source
    rows: Int[np.ndarray, "Q K"]
    scores: Float[np.ndarray, "Q K"]
    correct: Bool[np.ndarray, " Q"] | None


def write(
    folder: pathlib.Path, chosen: Sequence[int], lists: Lists, *, top: int = 8
) -> list[dict[str, Any]]:
    """Renders the chosen queries and their `top` results into `folder` (emptied first), each item
    once.

    Gives the list "examples" of result.json: {"query": {"id", "label", "thumbnail"}, "correct",
    "results": [{"rank", "score", "id", "label", "thumbnail"}]}; label and correct are None without
    labels, thumbnail where an item cannot be shown.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    drawn: dict[str, str | None] = {}

    def entry(source: Source, row: int, prefix: str) -> dict[str, Any]:
        name = f"{prefix}_{row:06d}.png"
        if name not in drawn:
            image = (
                field_picture(source, row, SIZE)
                if holds_fields(source)
                else picture(source[row], source.manifest.get("up_axis", "z"))
            )
            if image is not None:
                PIL.Image.fromarray(image).save(folder / name)
            drawn[name] = None if image is None else name
        label = None if lists.correct is None else source.class_names[int(source.labels[row])]
        return {"id": source.ids[row], "label": label, "thumbnail": drawn[name]}

    def results(query: int) -> list[dict[str, Any]]:
        ranked = zip(lists.rows[query, :top], lists.scores[query, :top], strict=True)
        return [
            {"rank": rank, "score": float(score), **entry(lists.gallery, int(row), "gallery")}
            for rank, (row, score) in enumerate(ranked, start=1)
        ]

    prefix = "gallery" if lists.queries is lists.gallery else "query"
    return [
        {
            "query": entry(lists.queries, query, prefix),
            "correct": None if lists.correct is None else bool(lists.correct[query]),
            "results": results(query),
        }
        for query in chosen
    ]
