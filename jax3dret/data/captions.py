"""Captions of shapes: from a file, or said from the geometry alone by templates.

A caption source is a function (source, views) -> one `list[list[str]]` per record, in record order:
for every rendered view the captions of that view, or a single list that holds for the whole object.
`views` (see `data.rows.Rows`) is read only by those who look at pictures, as `data.captioning`
does.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jax3dret.core import files
from jax3dret.core.types import ConfigError, DataError, Source
from jax3dret.data.points import UpAxis
from jax3dret.data.rows import Rows

# One record: for each view, or once for the whole object, its captions.
Captions = list[list[str]]
CaptionSource = Callable[[Source, Rows | None], list[Captions]]

_NUMBERS = {
    2: "two",
    3: "three",
    4: "four",
    5: "five",
    6: "six",
    7: "seven",
    8: "eight",
    9: "nine",
    10: "ten",
}
_AXES = ("across", "upright", "front to back")


def templates(count: int = 4) -> CaptionSource:
    """`count` captions of each record from its points; they say proportions, roundness, symmetry,
    openings, never the class.
    """
    if count < 1:
        raise ConfigError(f"captions.count={count}: give 1 or more")

    def captions(source: Source, views: Rows | None) -> list[Captions]:
        del views
        turn = UpAxis(source.manifest["up_axis"])
        chosen = source.select("points")
        unused = np.random.default_rng(0)  # turning draws nothing
        return [
            [describe(turn(chosen[i], unused)["points"], count, source.ids[i])]
            for i in range(len(source))
        ]

    return captions


def from_jsonl(path: str) -> CaptionSource:
    """Captions from a file with one object a line: {"id": "chair/1", "captions": ["a chair", ...]}.

    "captions" may also be a list of lists, one list for each rendered view. Ids that the data set
    does not have are left
    alone: one file may serve several splits.

    Raises, when used, DataError for a file that is not of this form, an id given twice, and records
    without a caption.
    """

    def captions(source: Source, views: Rows | None) -> list[Captions]:
        del views
        return read_captions(pathlib.Path(path).expanduser(), source)

    return captions


def read_captions(path: pathlib.Path, source: Source) -> list[Captions]:
    """Of every record, in record order; see `from_jsonl`. Raises DataError as that does."""
    found = read_jsonl(path)
    missing = [name for name in source.ids if name not in found]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of the {len(source)} items of {source.name}, split "
            f"'{source.split}', have no caption "
            f"(first: {missing[0]}); add a line for each"
        )
    return [found[name] for name in source.ids]


def read_jsonl(path: pathlib.Path) -> dict[str, Captions]:
    """Id -> captions, of every line; see `from_jsonl`."""
    found: dict[str, Captions] = {}
    try:
        # JSON may hold other characters at which splitlines would part.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as text ({getattr(error, 'strerror', None) or error})"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, listed = entry["id"], entry["captions"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{path}, line {number}: not an object {{"id": ..., "captions": [...]}}, but '
                f"{line.strip()[:40]!r}"
            ) from error
        by_view = (
            [listed]
            if isinstance(listed, list) and all(isinstance(c, str) for c in listed)
            else listed
        )
        if not isinstance(by_view, list) or not all(
            isinstance(view, list) and view and all(isinstance(c, str) and c.strip() for c in view)
            for view in by_view
        ):
            raise DataError(
                f"{path}, line {number}: 'captions' of '{name}' must be a list of texts, or one "
                "for each view, none of them empty"
            )
        if name in found:
            raise DataError(
                f"{path}, line {number}: '{name}' has captions already; one line per id"
            )
        found[name] = by_view
    return found


def write_jsonl(path: pathlib.Path, ids: Sequence[str], captions: Sequence[Captions]) -> None:
    """The reverse of `read_jsonl`."""
    with files.writing(path) as file:
        for name, entry in zip(ids, captions, strict=True):
            line = json.dumps({"id": name, "captions": entry}, ensure_ascii=False)
            file.write(f"{line}\n".encode())


def describe(points: Float[np.ndarray, "N 3"], count: int, name: str) -> list[str]:
    """`count` sentences about a cloud whose y axis points up; which words are used depends on
    `name` alone.

    Raises DataError for fewer than 2 points or values that are not finite.
    """
    if len(points) < 2 or not np.isfinite(points).all():
        raise DataError(
            f"{name}: {len(points)} points, or values that are not finite: there is nothing to "
            "describe"
        )
    facts = measure(points)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    rng = np.random.default_rng(seed)
    return [_sentence(facts, rng) for _ in range(count)]


def measure(points: Float[np.ndarray, "N 3"]) -> dict[str, Any]:
    """What the sentences are made from.

    extents      of the box that holds all but the outermost 1 % on each side, per axis
    axis         0, 1 or 2: the axis about which the outline is roundest
    roundness    1 - spread of the outline's radius over 16 directions about that axis, relative to its mean
    hole         share of the outline's mean radius, about that axis, within which there is no point
    symmetry     1 - mean distance of the mirrored cloud (left and right exchanged) to the cloud, relative to the radius
    fill         share of the cells of a 10 x 10 x 10 grid over the box that hold points
    balance      height of the centroid within the box, 0 at the bottom, 1 at the top
    """
    sample = np.asarray(points, np.float64)[:: max(1, len(points) // 1024)]
    low, high = np.percentile(sample, (1, 99), axis=0)
    extents = np.maximum(high - low, 1e-6)
    centred = sample - (low + high) / 2
    radius = float(np.linalg.norm(centred, axis=1).max()) or 1.0
    outlines = [_outline(np.delete(centred, axis, axis=1)) for axis in range(3)]
    axis = int(np.argmax([roundness for roundness, _ in outlines]))
    mirrored = centred * np.array([-1.0, 1.0, 1.0])
    apart = np.linalg.norm(mirrored[::4, None] - centred[None], axis=-1).min(1).mean()
    cells = np.clip(((sample - low) / extents * 10).astype(int), 0, 9)
    return {
        "extents": extents,
        "axis": axis,
        "roundness": outlines[axis][0],
        "hole": outlines[axis][1],
        "symmetry": 1.0 - apart / radius,
        "fill": len(np.unique(cells @ np.array([100, 10, 1]))) / 1000,
        "balance": float(np.clip((sample[:, 1].mean() - low[1]) / extents[1], 0, 1)),
    }


def _outline(plane: Float[np.ndarray, "N 2"]) -> tuple[float, float]:
    """Roundness of a flat cloud's outline about the origin, and the empty share of its mean radius
    in the middle.
    """
    distance = np.linalg.norm(plane, axis=1)
    direction = ((np.arctan2(plane[:, 1], plane[:, 0]) + np.pi) / (2 * np.pi) * 16).astype(int) % 16
    outer = np.array([distance[direction == d].max(initial=0.0) for d in range(16)])
    mean = max(float(outer.mean()), 1e-9)
    return 1.0 - float(outer.std()) / mean, float(distance.min()) / mean


def _sentence(facts: dict[str, Any], rng: np.random.Generator) -> str:
    def one(*choices: str) -> str:
        return choices[rng.integers(len(choices))]

    details = _details(facts, one)
    picked = [details[i] for i in sorted(rng.permutation(len(details))[: rng.integers(2, 4)])]
    opening = one("a", "a 3D model of a", "a shape that is a", "a render of a")
    return f"{opening} {_proportions(facts, one)} {one('object', 'body', 'shape', 'thing')}, {', '.join(picked)}"


def _proportions(facts: dict[str, Any], one: Callable[..., str]) -> str:
    across, height, depth = facts["extents"]
    wide, narrow = max(across, depth), min(across, depth)
    if height > 1.6 * wide:
        return one("tall", "upright", "high and slim") + _times(
            height / wide, "as high as wide", one
        )
    if height < 0.35 * narrow:
        return one("flat", "thin and flat", "plate-like") + _times(
            wide / height, "as wide as high", one
        )
    if wide > 2.2 * narrow:
        return one("long", "elongated", "stretched") + _times(wide / narrow, "as long as deep", one)
    if height < 0.6 * wide:
        return one("low", "squat", "low and broad")
    return one("compact", "stocky", "evenly proportioned")


def _times(ratio: float, what: str, one: Callable[..., str]) -> str:
    number = _NUMBERS.get(round(ratio))
    return (
        f", {one('about', 'nearly', 'some')} {number} times {what},"
        if number and one("say", "omit") == "say"
        else ""
    )


def _details(facts: dict[str, Any], one: Callable[..., str]) -> list[str]:
    axis = _AXES[facts["axis"]]
    roundness, hole, fill = facts["roundness"], facts["hole"], facts["fill"]
    details = [
        one("round", "circular", "turned like on a lathe") + f" about its {axis} axis"
        if roundness > 0.93
        else one("rounded", "softly edged") + " in outline"
        if roundness > 0.85
        else one("angular", "with corners", "with an irregular outline"),
        one("symmetric", "the same on the left and on the right", "mirror-symmetric")
        if facts["symmetry"] > 0.93
        else one("not symmetric", "lopsided", "different on its two sides"),
        one("made of thin parts", "sparse like a frame", "with much empty space")
        if fill < 0.14
        else one("solid looking", "filling its box", "massive")
        if fill > 0.32
        else one("of medium bulk", "partly hollow looking"),
    ]
    if hole > 0.35:
        details.append(
            one("with a wide opening through the middle", "ring-shaped", "hollow along its axis")
        )
    elif hole > 0.12:
        details.append(one("with a hole through the middle", "pierced in the middle"))
    if facts["balance"] > 0.6:
        details.append(one("heavier at the top", "with most of its surface above the middle"))
    elif facts["balance"] < 0.4:
        details.append(one("heavier at the bottom", "with most of its surface below the middle"))
    return details
