"""Finds the ink of a drawing on its paper, and brings its strokes to a size.

    find_ink       grey pixels -> how much ink each pixel of the drawing's box holds
    fit_strokes    the same at another size, no stroke narrower than given

The paper's tone may change slowly over the picture, as on a photographed sheet: it is a quadratic
function of the place, fitted to the medians of blocks without those that ink covers. Strokes may be
darker or lighter than the paper. All work is linear in the pixels and holds some five bytes for
each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy import ndimage

from jax3dret.core.types import DataError

_BLOCKS = 32  # along a side, for the paper's tone
_SAMPLES = 8  # of a block, along a side
# Tukey's limits, in grey levels, of the successive fits of the paper's tone: what is farther off is
# not paper.
_LIMITS = (90.0, 60.0, 40.0, 30.0, 20.0, 20.0)
# Levels from the paper that are not ink: 5 standard deviations of the paper's noise, within these.
_QUIET, _LOUD = 12.0, 50.0
_MIN_CONTRAST = 16  # levels beyond that: what has less is paper or JPEG noise
_MIN_INK = 0.04  # inked pixels for each pixel of the longer side: less is a speck
_CELLS = 64  # along the longer side; ink in cells that touch belongs together
_DUST = 0.005  # of all ink: a group of few cells with less of it is not part of the drawing
_FEW = 4
_EDGE = 0.02  # of a side: a mark inside such a strip that touches the edge is the scanner's
_STRIP = 512  # rows at a time


class Paper(NamedTuple):
    """Its tone at (column, row), both from -1 to 1: coefficients of 1, x, y, x x, x y, y y. noise:
    standard deviation, levels.
    """

    tone: Float[np.ndarray, " 6"]
    noise: float


def find_ink(grey: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "h w"]:
    """The ink, 0 to 255, in the smallest box around the drawing; 255 is the strokes' own tone.

    Single specks, and marks along an edge of the picture, are taken away first. A drawing that has
    only a few pixels of ink has none.

    Raises:
        DataError: not uint8[H, W], one colour, or nothing stands apart from the paper.
    """
    grey = np.asarray(grey)
    if grey.dtype != np.uint8 or grey.ndim != 2 or not grey.size:
        raise DataError(
            f"a drawing of type {grey.dtype} and shape {grey.shape}; expected uint8[H, W]"
        )
    if grey.min() == grey.max():
        raise DataError(
            f"all of the drawing's {grey.shape[1]} x {grey.shape[0]} pixels have one colour"
        )
    distance, noise = _from_paper(grey)
    ink = _levels(distance, noise)
    marked = ink > 90
    kept = _without_dust(marked)
    if np.count_nonzero(kept) < _MIN_INK * max(grey.shape):
        raise DataError(
            f"{np.count_nonzero(kept)} pixels of {grey.shape[1]} x {grey.shape[0]} stand apart "
            "from the paper: no drawing"
        )
    box = _box(kept)
    # Specks go from the picture too, not only from the box; the soft edges of what is kept stay.
    dust = marked[box] & ~kept[box]
    if dust.any():
        ink = np.where(ndimage.maximum_filter(dust.view(np.uint8), 3) > 0, np.uint8(0), ink[box])
        return np.ascontiguousarray(ink)
    return np.ascontiguousarray(ink[box])


def fit_strokes(
    ink: UInt8[np.ndarray, "h w"], longer: int, stroke: float
) -> UInt8[np.ndarray, "a b"]:
    """The ink with a longer side of `longer` pixels, resampled by area; strokes on average narrower
    than `stroke` are made that wide.

    A one-pixel line of a large scan would be lost in an average: there, the darkest pixel of a
    block stands for it.
    """
    scale = longer / max(ink.shape)
    if scale < 1 and stroke_width(ink) * scale < stroke:
        factor = int(1 / scale / 2)
        if factor > 1:
            ink = _block_maximum(ink, factor)
            scale = longer / max(ink.shape)
        ink = _thickened(ink, stroke / scale)
    height, width = (max(1, round(extent * longer / max(ink.shape))) for extent in ink.shape)
    kind = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    fitted = np.asarray(Image.fromarray(ink).resize((width, height), kind))
    return _thickened(fitted, stroke) if scale >= 1 else fitted


def stroke_width(ink: UInt8[np.ndarray, "h w"]) -> float:
    """The mean width of the strokes in pixels: their area by their length, the length as Cauchy and
    Crofton have it, pi/4 of the number of times that rows and columns enter ink. Right for strokes
    of all directions, 27 % too large for level and upright ones.
    """
    marked = np.pad(ink > 127, 1)
    entries = sum(
        np.count_nonzero(after & ~before)
        for after, before in ((marked[:, 1:], marked[:, :-1]), (marked[1:], marked[:-1]))
    )
    area = np.sum(ink, dtype=np.int64) / 255
    return float(area / (np.pi / 4 * max(entries, 1)))


# ------------------------------------------------------------------------------------------------------------------ paper


def _from_paper(grey: UInt8[np.ndarray, "H W"]) -> tuple[UInt8[np.ndarray, "H W"], float]:
    """How far each pixel lies from the paper's tone, on the side where the strokes lie; and the
    paper's noise.
    """
    paper = _paper(grey)
    limit = int(_threshold(paper.noise))
    levels = np.arange(-255, 256)
    strength = np.maximum(np.abs(levels) - limit, 0)
    if np.abs(paper.tone[1:]).sum() < 1:  # the same everywhere: a table does it
        tone = int(np.clip(np.rint(paper.tone[0]), 0, 255))
        counts = np.asarray(Image.fromarray(grey).histogram(), np.int64)
        mass = counts * strength[255 + np.arange(256) - tone]
        dark = mass[:tone].sum() >= mass[tone:].sum()
        side = np.clip((tone - np.arange(256)) * (1 if dark else -1), 0, 255).astype(np.uint8)
        return side[grey], paper.noise
    offset = np.empty(grey.shape, np.int16)
    counts = np.zeros(511, np.int64)
    y, x = (_place(np.arange(extent), extent) for extent in grey.shape)
    for first in range(0, len(grey), _STRIP):
        rows = np.s_[first : first + _STRIP]
        sheet = np.rint(_tone(paper.tone, y[rows], x)).clip(0, 255).astype(np.int16)
        offset[rows] = grey[rows] - sheet
        counts += np.bincount(offset[rows].ravel() + 255, minlength=511)
    mass = counts * strength
    if mass[:255].sum() >= mass[255:].sum():
        np.negative(offset, out=offset)
    return offset.clip(0, 255).astype(np.uint8), paper.noise


def _threshold(noise: float) -> float:
    return min(max(_QUIET, 5 * noise), _LOUD)


def _paper(grey: UInt8[np.ndarray, "H W"]) -> Paper:
    """The tone of the paper and its noise, from samples spread over the picture."""
    rows, columns = (_grid(extent) for extent in grey.shape)
    samples = grey[rows.ravel()[:, None], columns.ravel()]
    blocks = samples.reshape(len(rows), rows.shape[1], len(columns), columns.shape[1])
    medians = np.median(blocks, axis=(1, 3)).ravel()
    y, x = (
        _place(part.mean(1), extent)
        for part, extent in ((rows, grey.shape[0]), (columns, grey.shape[1]))
    )
    terms = _terms(np.tile(x, len(y)), np.repeat(y, len(x)))
    # A scale for the fit: six unknowns need more than six blocks that are paper.
    unknowns = 6 if len(medians) >= 64 else 1
    tone = np.zeros(6)
    tone[0] = _start(samples)
    for limit in _LIMITS:
        away = (medians - terms @ tone) / limit
        weight = np.square(np.maximum(1 - away * away, 0))
        if np.count_nonzero(weight) < 4 * unknowns:
            break
        root = np.sqrt(weight)[:, None]
        tone[:unknowns] = np.linalg.lstsq(
            terms[:, :unknowns] * root, medians * root[:, 0], rcond=None
        )[0]
    at_rows, at_columns = (
        _place(part.ravel(), extent)
        for part, extent in ((rows, grey.shape[0]), (columns, grey.shape[1]))
    )
    away = np.abs(samples - _tone(tone, at_rows, at_columns))
    near = away[away < 40]
    # The median of what is near: strokes and shading are far fewer.
    return Paper(tone, 1.4826 * float(np.median(near)) if near.size else 0.0)


def _start(samples: UInt8[np.ndarray, "h w"]) -> float:
    """The paper's tone by and large: the median of the picture's rim, or of the whole where that
    disagrees and is nearly all.
    """
    edge = max(1, round(0.02 * min(samples.shape)))
    rim = np.ones(samples.shape, bool)
    rim[edge:-edge, edge:-edge] = False
    whole, around = float(np.median(samples)), float(np.median(samples[rim]))
    # A scanner's black border, or a shape cut out tightly.
    return whole if (np.abs(samples - whole) < 40).mean() > 0.85 else around


def _grid(extent: int) -> Int[np.ndarray, "blocks samples"]:
    """Indices of samples, block by block; each at most once where there are enough."""
    blocks = min(_BLOCKS, extent)
    edges = np.linspace(0, extent, blocks + 1)
    samples = min(_SAMPLES, max(1, extent // blocks))
    inside = (np.arange(samples) + 0.5) / samples
    return (edges[:-1, None] + inside * (extent / blocks)).astype(np.int64).clip(0, extent - 1)


def _place(index: np.ndarray, extent: int) -> Float[np.ndarray, " n"]:
    return (2 * index + 1) / extent - 1.0


def _terms(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 6"]:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)


def _tone(
    tone: Float[np.ndarray, " 6"], y: Float[np.ndarray, " h"], x: Float[np.ndarray, " w"]
) -> Float[np.ndarray, "h w"]:
    """The paper's tone on a grid, float32."""
    part, down, across = (
        tone.astype(np.float32),
        y.astype(np.float32)[:, None],
        x.astype(np.float32),
    )
    straight = (part[0] + part[2] * down + part[5] * down * down) + (
        part[1] * across + part[3] * across * across
    )
    return straight + (part[4] * down) * across


# -------------------------------------------------------------------------------------------------------------------- ink


def _levels(distance: UInt8[np.ndarray, "H W"], noise: float) -> UInt8[np.ndarray, "H W"]:
    """The distance from the paper as ink: 0 up to the noise, 255 from the strokes' own tone on."""
    low = int(np.ceil(_threshold(noise)))
    counts = np.asarray(Image.fromarray(distance).histogram(), np.int64)
    counts[: low + 1] = 0
    total = int(counts.sum())
    # Thin antialiased strokes reach their tone in a part of their pixels.
    full = int(np.searchsorted(np.cumsum(counts), 0.8 * total)) if total else 0
    if full < low + _MIN_CONTRAST:
        raise DataError("nothing stands apart from the paper: no drawing")
    # The noise is cut off, not subtracted, so that soft edges keep their share.
    table = np.clip(np.arange(256) * (255 / full), 0, 255)
    table[: low + 1] = 0
    return np.rint(table).astype(np.uint8)[distance]


def _without_dust(marked: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The marked pixels without those of specks and of marks along the edges."""
    cell = -(-max(marked.shape) // _CELLS)
    starts = [np.arange(0, extent, cell) for extent in marked.shape]
    # Few at a time: the sums are of 64 bits.
    counts = np.stack([np.count_nonzero(marked[top : top + cell], axis=0) for top in starts[0]])
    counts = np.add.reduceat(counts, starts[1], axis=1)
    groups, number = ndimage.label(counts > 0, np.ones((3, 3), int))
    mass = np.bincount(groups.ravel(), counts.ravel(), number + 1)
    size = np.bincount(groups.ravel(), minlength=number + 1)
    dust = (mass < _DUST * mass.sum()) & (size <= _FEW)
    dust |= _on_edge(groups, number, marked, cell)
    if dust[1:].all() or not dust[1:].any():
        return marked
    bad = dust[groups]
    bad[groups == 0] = False
    kept = marked.copy()
    for row, column in zip(*np.nonzero(bad), strict=True):
        kept[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = False
    return kept


def _on_edge(
    groups: Int[np.ndarray, "h w"], number: int, marked: Bool[np.ndarray, "H W"], cell: int
) -> Bool[np.ndarray, " groups"]:
    """Which groups of cells hold nothing but a mark in the outermost strip of one side of the
    picture, along its very edge.
    """
    found = np.zeros(number + 1, bool)
    for index, place in enumerate(ndimage.find_objects(groups), start=1):
        rows, columns = place
        window = marked[
            rows.start * cell : rows.stop * cell, columns.start * cell : columns.stop * cell
        ]
        own = np.repeat(np.repeat(groups[place] == index, cell, 0), cell, 1)[
            : window.shape[0], : window.shape[1]
        ]
        window = window & own
        for axis, first in ((0, rows.start * cell), (1, columns.start * cell)):
            along = np.flatnonzero(window.any(1 - axis)) + first
            extent = marked.shape[axis]
            strip = max(1, round(_EDGE * extent))
            for outermost, inside in (
                (0, along[-1] < strip),
                (extent - 1, along[0] >= extent - strip),
            ):
                if inside and outermost in (along[0], along[-1]):
                    touching = window.take(outermost - first, axis)
                    found[index] |= touching.sum() > 0.8 * window.any(axis).sum()
    return found


def _box(kept: Bool[np.ndarray, "H W"]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    return np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# ---------------------------------------------------------------------------------------------------------------- strokes


def _block_maximum(ink: UInt8[np.ndarray, "h w"], factor: int) -> UInt8[np.ndarray, "a b"]:
    height, width = (-(-extent // factor) * factor for extent in ink.shape)
    ink = np.pad(ink, ((0, height - ink.shape[0]), (0, width - ink.shape[1])))
    rows = ink[::factor].copy()
    for i in range(1, factor):
        np.maximum(rows, ink[i::factor], out=rows)
    blocks = rows[:, ::factor].copy()
    for i in range(1, factor):
        np.maximum(blocks, rows[:, i::factor], out=blocks)
    return blocks


def _thickened(ink: UInt8[np.ndarray, "h w"], width: float) -> UInt8[np.ndarray, "a b"]:
    """Strokes of at least `width` pixels on average, to the pixel: grown by crosses and squares in
    turn, an octagon. So is the box.
    """
    times = max(0, round((width - stroke_width(ink)) / 2))
    ink = np.pad(ink, times)
    for turn in range(times):
        out = ink.copy()
        np.maximum(out[1:], ink[:-1], out=out[1:])
        np.maximum(out[:-1], ink[1:], out=out[:-1])
        across = out.copy() if turn % 2 else ink  # odd turns grow into the corners too
        np.maximum(out[:, 1:], across[:, :-1], out=out[:, 1:])
        np.maximum(out[:, :-1], across[:, 1:], out=out[:, :-1])
        ink = out
    return ink
