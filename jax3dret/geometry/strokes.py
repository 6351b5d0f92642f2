"""Lines as a hand draws them: not quite where they should be, some left out, some twice, ends that
miss.

People simplify, misjudge proportions and draw each line as one slow movement (Cole et al. 2008;
Eitz, Hays and Alexa, "How do humans sketch objects?", SIGGRAPH 2012). So errors are smooth along a
stroke, of a few wavelengths, never white; and proportions are off for the whole drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from jax3dret.core.types import DataError
from jax3dret.geometry.line_drawing import Line

_FILL = 0.84  # of the picture's side is the drawing's longer side
_FINE = 2  # drawn at this many times the size
_IMPORTANCE = {"boundary": 0, "contour": 0, "crease": 1, "suggestive": 2}


class Hand(NamedTuple):
    """How somebody draws. Lengths are shares of the drawing's longer side, angles degrees."""

    turn: float = 0.0
    stretch: float = 0.0  # logarithm of width by height
    shear: float = 0.0
    keystone: tuple[float, float] = (
        0.0,
        0.0,
    )  # how much the far side of the drawing shrinks, by x and by y
    wobble: float = 0.0  # standard deviation of the smooth error along a stroke
    wavelength: float = 0.4  # its longest wave
    misplaced: float = 0.0  # standard deviation of a whole stroke's place
    tilt: float = 0.0  # and of its direction, degrees
    overshoot: float = 0.0  # standard deviation of what an end is too long or too short
    least: float = 0.0  # strokes shorter than that are details
    skip: float = 0.0  # share of details left out
    forget: float = (
        0.0  # share of other strokes left out, of those shorter than a quarter of the drawing
    )
    merge: float = 0.0  # lines that are nearer to each other nearly all along are one
    gaps: float = 0.0  # gaps for each drawing's length of stroke
    again: float = 0.0  # share of strokes drawn twice
    width: float = 0.008  # of a line


def random_hand(rng: np.random.Generator) -> Hand:
    """One of many hands: careful or careless, with a thin or a thick pen."""
    care = rng.uniform(0.4, 1.6)
    return Hand(
        turn=float(np.clip(rng.normal(0, 4), -10, 10)),
        stretch=rng.uniform(-0.15, 0.15),
        shear=rng.uniform(-0.08, 0.08),
        keystone=(rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12)),
        wobble=0.005 * care,
        wavelength=rng.uniform(0.25, 0.6),
        misplaced=0.006 * care,
        tilt=1.2 * care,
        overshoot=0.010 * care,
        least=rng.uniform(0.03, 0.09),
        skip=rng.uniform(0.6, 1.0),
        forget=rng.uniform(0.0, 0.12),
        merge=0.016,
        gaps=rng.uniform(0.0, 0.25),
        again=rng.uniform(0.0, 0.1),
        width=rng.uniform(0.006, 0.014),
    )


def draw_by_hand(
    lines: Sequence[Line], rng: np.random.Generator, *, size: int = 448, hand: Hand | None = None
) -> UInt8[np.ndarray, "S S"]:
    """A picture of the lines, black on white, antialiased, in the middle of a square. The same
    generator state, the same picture.

    hand: None draws one from rng (`random_hand`). Hand() draws the lines as they are.

    Raises:
        DataError: there are no lines, or they have no extent.
    """
    hand = random_hand(rng) if hand is None else hand
    strokes = [np.asarray(line.points, np.float64) for line in sorted(lines, key=_order)]
    strokes = [stroke for stroke in strokes if len(stroke) > 1]
    if not strokes:
        raise DataError(
            "a drawing of no lines: the object shows none from here, or all are shorter than what "
            "is drawn"
        )
    strokes = _misjudged(_framed(strokes), hand)
    kept = _chosen(_framed(strokes), hand, rng)
    drawn = [part for stroke in kept for part in _performed(stroke, hand, rng)]
    return _inked(_framed(drawn or kept), rng, size, hand)


def _order(line: Line) -> tuple[int, float]:
    return _IMPORTANCE[line.kind], -_length(np.asarray(line.points))


def _framed(strokes: list[Float[np.ndarray, "_ 2"]]) -> list[Float[np.ndarray, "_ 2"]]:
    """With the middle of their box at the origin, its longer side 1."""
    every = np.concatenate(strokes)
    low, high = every.min(0), every.max(0)
    extent = float((high - low).max())
    if not extent > 0:
        raise DataError(
            "a drawing of lines without extent; at least two different places are needed"
        )
    return [(stroke - (low + high) / 2) / extent for stroke in strokes]


def _misjudged(
    strokes: list[Float[np.ndarray, "_ 2"]], hand: Hand
) -> list[Float[np.ndarray, "_ 2"]]:
    """The proportions of the whole."""
    cosine, sine = np.cos(np.deg2rad(hand.turn)), np.sin(np.deg2rad(hand.turn))
    wider = np.exp(hand.stretch / 2)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.array(
        [[wider, hand.shear], [0.0, 1 / wider]]
    )
    far = np.array([hand.keystone])
    return [_mapped(stroke, matrix) / (1 + _mapped(stroke, far)) for stroke in strokes]


def _chosen(
    strokes: list[Float[np.ndarray, "_ 2"]], hand: Hand, rng: np.random.Generator
) -> list[Float[np.ndarray, "_ 2"]]:
    """Without details that are left out, and without lines that run beside one that is drawn. The
    first stays.
    """
    cells = int(1 / hand.merge) if hand.merge else 1
    taken = np.zeros((cells + 2, cells + 2), bool)
    around = np.arange(-1, 2)
    kept = []
    for number, stroke in enumerate(strokes):
        length = _length(stroke)
        share = hand.skip if length < hand.least else hand.forget if length < 0.25 else 0.0
        if rng.random() < share and number:
            continue
        if hand.merge:
            column, row = np.floor((stroke + 0.5) * cells).astype(np.int64).clip(0, cells - 1).T + 1
            if number and taken[row, column].mean() > 0.8:
                continue
            taken[row[:, None, None] + around[:, None], column[:, None, None] + around] = True
        kept.append(stroke)
    return kept


def _performed(
    stroke: Float[np.ndarray, "n 2"], hand: Hand, rng: np.random.Generator
) -> list[Float[np.ndarray, "_ 2"]]:
    """One stroke as it comes out: its parts between gaps, perhaps a second time."""
    parts = []
    for _ in range(1 + int(rng.random() < hand.again)):
        parts += _interrupted(_wobbled(stroke, hand, rng), hand, rng)
    return parts


def _wobbled(
    stroke: Float[np.ndarray, "n 2"], hand: Hand, rng: np.random.Generator
) -> Float[np.ndarray, "n 2"]:
    steps = np.hypot(*np.diff(stroke, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    length = float(along[-1])
    miss = rng.normal(0, hand.overshoot, 2).clip(-0.25 * length, 0.25 * length)
    ends = _prolonged(stroke, along, miss)
    # A few waves of falling height, each coordinate its own, so that strokes bend but do not
    # shiver.
    waves = np.arange(1, 4)
    height = rng.normal(0, 1, (3, 2)) / waves[:, None] ** 2
    phase = rng.uniform(0, 2 * np.pi, (3, 2))
    angle = 2 * np.pi * along[:, None, None] * waves[:, None] / hand.wavelength + phase
    bend = hand.wobble * (height * np.sin(angle)).sum(1)
    place, tilt = rng.normal(0, hand.misplaced, 2), np.deg2rad(rng.normal(0, hand.tilt))
    # A long stroke turned as much as a short one would miss what it meets.
    tilt *= min(1.0, 0.2 / max(length, 1e-9))
    middle = ends.mean(0)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    return _mapped(ends - middle, turn) + middle + bend + place


def _prolonged(
    stroke: Float[np.ndarray, "n 2"], along: Float[np.ndarray, " n"], miss: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "n 2"]:
    """Made longer or shorter at its two ends, in the directions that it has there; as many places
    as before.
    """
    wanted = np.linspace(-miss[0], along[-1] + miss[1], len(stroke))
    inside = np.stack([np.interp(wanted, along, stroke[:, i]) for i in range(2)], 1)
    back = min(len(stroke) - 1, 3)
    for beyond, end, inner in ((-wanted, 0, back), (wanted - along[-1], -1, -1 - back)):
        direction = stroke[end] - stroke[inner]
        direction /= max(float(np.hypot(*direction)), 1e-12)
        inside += np.maximum(beyond, 0)[:, None] * direction
    return inside


def _interrupted(
    stroke: Float[np.ndarray, "n 2"], hand: Hand, rng: np.random.Generator
) -> list[Float[np.ndarray, "_ 2"]]:
    number = int(rng.poisson(hand.gaps * _length(stroke)))
    keep = np.ones(len(stroke), bool)
    for _ in range(number):
        middle, half = (
            rng.uniform(0.1, 0.9) * len(stroke),
            rng.uniform(0.01, 0.03) / 2 * len(stroke),
        )
        half /= max(_length(stroke), 1e-9)
        keep[int(middle - half) : int(middle + half) + 1] = False
    change = np.flatnonzero(
        np.diff(np.concatenate([[False], keep, [False]]).astype(np.int8))
    ).reshape(-1, 2)
    return [stroke[a:b] for a, b in change if b - a > 1]


def _inked(
    strokes: list[Float[np.ndarray, "_ 2"]], rng: np.random.Generator, size: int, hand: Hand
) -> UInt8[np.ndarray, "S S"]:
    image = Image.new("L", (_FINE * size, _FINE * size), 255)
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        width = max(1, round(hand.width * _FILL * _FINE * size * rng.uniform(0.85, 1.15)))
        places = (stroke * _FILL + 0.5) * (_FINE * size)
        draw.line([tuple(place) for place in places.tolist()], fill=0, width=width)
        if width > 2:
            for x, y in places[[0, -1]].tolist():  # round ends
                draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=0)
    return np.array(image.reduce(_FINE))


def _mapped(
    points: Float[np.ndarray, "n 2"], matrix: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, "n k"]:
    """points @ matrix.T as sums written out: a matrix product may round differently from process to
    process.
    """
    return points[:, :1] * matrix[:, 0] + points[:, 1:] * matrix[:, 1]


def _length(points: Float[np.ndarray, "n 2"]) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())
