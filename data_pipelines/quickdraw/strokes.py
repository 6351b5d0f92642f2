"""The .ndjson files of the Quick, Draw! data set: one drawing in a line, as strokes; and their
rasterisation.

    {"word": "bee", "countrycode": "US", "timestamp": ..., "recognized": true, "key_id":
     "5152802093400064", "drawing": [[[x, ...], [y, ...], [milliseconds, ...]], ...]}

Raw files have points as they were drawn, in pixels of the device, with times; simplified ones lie
in 0 to 255, resampled and thinned out (Ramer-Douglas-Peucker, epsilon 2), without times. y points
down in both.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from data_pipelines.raw_files import not_the_file
from jax3dret.core.types import DataError
from jax3dret.data.sketches import SKETCH_SIZE

FILL = (
    0.84  # of the side is the longer side of the ink, as `data.sketches.prepare_drawing` makes it
)
STROKE = (
    3.0  # pixels at SKETCH_SIZE: the width to which thin strokes of picture files are brought there
)
_SUPERSAMPLE = 4

Strokes = Sequence[Float[np.ndarray, "n 2"]]


class Line(NamedTuple):
    """One line of a file. number counts from 1. strokes: None if it cannot be used, for the reason
    in `wrong`.
    """

    number: int
    key: str
    recognized: bool
    strokes: Strokes | None
    wrong: str


def read_lines(path: pathlib.Path, word: str) -> Iterator[Line]:
    """The drawings of a file in its order, read as they are asked for.

    Raises:
        DataError: the file is something else, or holds drawings of another word.
    """
    wrong = not_the_file(path)
    if wrong:
        raise DataError(f"{path}: {wrong}; Quick, Draw! drawings as .ndjson are needed")
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                value = json.loads(text)
                key, its_word, recognized = (
                    str(value["key_id"]),
                    value["word"],
                    bool(value["recognized"]),
                )
                drawing = value["drawing"]
            except (ValueError, KeyError, TypeError) as error:
                if number == 1:
                    raise DataError(
                        f"{path}: line 1 is no drawing ({_short(error)}); Quick, Draw! drawings "
                        "with word, key_id, recognized and "
                        "drawing are needed"
                    ) from None
                yield Line(
                    number,
                    "",
                    True,
                    None,
                    f"line {number} is no drawing ({_short(error)}; cut off?)",
                )
                continue
            if its_word != word:
                raise DataError(
                    f"{path}: line {number} is a drawing of '{its_word}', the file is named for "
                    f"'{word}'"
                )
            strokes, wrong = _strokes(drawing)
            yield Line(
                number, key, recognized, strokes, wrong and f"line {number}, key_id {key}: {wrong}"
            )


def require_kind(path: pathlib.Path, kind: str) -> None:
    """DataError if the first drawing of a file shows that it is not "raw" (with times) or
    "simplified" (without).
    """
    with path.open("rb") as file:
        try:
            timed = len(json.loads(file.readline())["drawing"][0]) > 2
        except (ValueError, KeyError, TypeError, IndexError):
            return  # `read_lines` says what is wrong
    if timed != (kind == "raw"):
        raise DataError(
            f"{path}: holds {'raw' if timed else 'simplified'} drawings; {kind} ones are needed"
        )


def rasterise(
    strokes: Strokes, *, size: int = SKETCH_SIZE, width: float = STROKE
) -> UInt8[np.ndarray, "S S"]:
    """Strokes as round black lines on white, antialiased; the ink centred, its longer side 84 % of
    the square.

    strokes: points (x, y), y down, of any unit; a stroke of one point is a dot. width: of the
    lines, in pixels of the result.

    Raises:
        DataError: no points, or all in one place.
    """
    points = np.concatenate(
        [np.asarray(stroke, np.float64).reshape(-1, 2) for stroke in strokes] or [np.zeros((0, 2))]
    )
    if not len(points):
        raise DataError("no strokes; a drawing has points")
    low, high = points.min(0), points.max(0)
    extent = float((high - low).max())
    if extent == 0:
        raise DataError("all points in one place; a drawing has an extent")
    pen = width * _SUPERSAMPLE
    scale = (FILL * size * _SUPERSAMPLE - pen) / extent
    middle = (low + high) / 2
    # Pixel i covers [i, i + 1) in the result, and PIL's coordinates name pixels by their middle.
    centre = size * _SUPERSAMPLE / 2 - 0.5
    canvas = Image.new("L", (size * _SUPERSAMPLE, size * _SUPERSAMPLE), 255)
    brush = ImageDraw.Draw(canvas)
    radius = pen / 2
    for stroke in strokes:
        line = (np.asarray(stroke, np.float64).reshape(-1, 2) - middle) * scale + centre
        corners = [(x, y) for x, y in line.tolist()]
        if len(corners) > 1:
            brush.line(corners, fill=0, width=max(1, round(pen)))
        for x, y in corners:
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    return np.array(canvas.reduce(_SUPERSAMPLE))


def _strokes(drawing: object) -> tuple[Strokes | None, str]:
    """The strokes, or why there are none."""
    if not isinstance(drawing, list):
        return None, "its drawing is no list of strokes"
    strokes = []
    try:
        for stroke in drawing:
            x, y = (np.asarray(axis, np.float64) for axis in stroke[:2])
            if x.ndim != 1 or x.shape != y.shape:
                return None, f"a stroke has {x.size} x and {y.size} y; as many are needed"
            strokes.append(np.stack([x, y], 1))
    except (TypeError, ValueError):
        return None, "a stroke is no [[x, ...], [y, ...]]"
    points = np.concatenate(strokes) if strokes else np.zeros((0, 2))
    if not len(points):
        return None, "it has no points"
    if not np.isfinite(points).all() or not math.isfinite(float(np.ptp(points, 0).max())):
        return None, "it has a point that is not finite"
    if not np.ptp(points, 0).any():
        return None, "all its points are in one place"
    return strokes, ""


def _short(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0][:80]
