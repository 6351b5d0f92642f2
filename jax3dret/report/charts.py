"""Charts of the report as inline SVG and HTML: lines, a labelled scatter, histograms, a heat table.

Text in, markup out: nothing is read, every name is escaped, colours come from the page's style
sheet so that light and dark mode need no second picture. Numbers are written with fixed precision,
so equal data give equal bytes.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

MAX_VERTICES = 240  # of one line; longer logs are averaged in buckets
_SHAPES = ("circle", "square", "triangle", "diamond")
# Hues far apart for neighbouring class numbers; lightness alternates for readers who see hue
# poorly.
_HUES = (245, 55, 150, 20, 300, 105, 195, 340, 275, 80)


class Series(NamedTuple):
    """One line: values y at steps x. Values that are not finite leave a gap."""

    name: str
    x: Float[np.ndarray, " T"]
    y: Float[np.ndarray, " T"]


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def class_color(index: int) -> str:
    """A colour per class number as #rrggbb, readable on white and on near-black; repeats after ten."""
    lightness = 0.62 if index % 2 == 0 else 0.70
    hue = math.radians(_HUES[index % len(_HUES)])
    a, b = 0.135 * math.cos(hue), 0.135 * math.sin(hue)
    # OKLab to linear sRGB (Ottosson 2020).
    long, medium, brief = (
        (lightness + p * a + q * b) ** 3
        for p, q in (
            (0.3963377774, 0.2158037573),
            (-0.1055613458, -0.0638541728),
            (-0.0894841775, -1.2914855480),
        )
    )
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * brief,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * brief,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * brief,
    )
    encoded = (
        12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055
        for c in (min(max(v, 0.0), 1.0) for v in linear)
    )
    return "#" + "".join(f"{round(255 * c):02x}" for c in encoded)


def class_shape(index: int) -> str:
    """The marker of a class: changes when the colours start again."""
    return _SHAPES[index // len(_HUES) % len(_SHAPES)]


def markers() -> str:
    """The marker shapes, once per page, for `<use>`: one for each ten classes, and a cross for what
    is drawn by hand.
    """
    return (
        '<svg class="defs" aria-hidden="true" width="0" height="0"><defs>'
        '<circle id="m-circle" r="3.4"/><rect id="m-square" x="-3" y="-3" width="6" height="6"/>'
        '<path id="m-triangle" d="M0-3.9 3.6 2.6H-3.6Z"/>'
        '<path id="m-diamond" d="M0-4.2 4.2 0 0 4.2-4.2 0Z"/>'
        '<path id="m-cross" d="M-3.7-2.3-2.3-3.7 0-1.4 2.3-3.7 3.7-2.3 1.4 0 3.7 2.3 2.3 3.7 0 '
        '1.4-2.3 3.7-3.7 2.3-1.4 0Z"/>'
        "</defs></svg>"
    )


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers inside [low, high], about `count` of them: steps of 1, 2, 2.5 or 5 times a
    power of ten.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [0.0 if i == 0 else i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number as a person writes it on an axis."""
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    if size >= 1e6 or (0 < size < 1e-3):
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if size >= 1e4:
        return f"{value / 1e3:.4g}k"
    return f"{value:.4g}"


def thin(series: Series) -> tuple[Series, Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """A line of at most MAX_VERTICES bucket means, and the least and greatest value of each bucket."""
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    if len(x) <= MAX_VERTICES:
        return Series(series.name, x, y), y, y
    buckets = np.array_split(np.arange(len(x)), MAX_VERTICES)

    def over(reduce: Callable[[np.ndarray], float], values: np.ndarray) -> np.ndarray:
        kept = (values[b][np.isfinite(values[b])] for b in buckets)
        return np.array([reduce(k) if len(k) else np.nan for k in kept])

    return Series(series.name, over(np.mean, x), over(np.mean, y)), over(np.min, y), over(np.max, y)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    percent: bool = False,
    share: str = "",
    width: int = 360,
    height: int = 208,
) -> str:
    """Lines over training steps, with a legend when there are several; with `share`, over a share
    of that name, both axes 0 to 1.

    The y axis is logarithmic when all values are positive and span more than two decades. A single
    value is drawn as a point. Where nothing is finite a sentence stands instead of the chart.
    """
    thinned = [thin(s) for s in series]
    finite = [np.isfinite(s.y) & np.isfinite(s.x) for s, _, _ in thinned]
    if not any(f.any() for f in finite):
        return _figure(title, '<p class="missing">No finite value was logged.</p>')
    xs = np.concatenate([np.asarray(s.x, np.float64)[np.isfinite(s.y)] for s in series])
    lows = np.concatenate([low[f] for (_, low, _), f in zip(thinned, finite, strict=True)])
    highs = np.concatenate([high[f] for (_, _, high), f in zip(thinned, finite, strict=True)])
    log = bool(lows.min() > 0 and highs.max() / lows.min() > 100) and not percent
    scale = (lambda v: math.log10(v)) if log else (lambda v: v)
    y0, y1 = scale(float(lows.min())), scale(float(highs.max()))
    pad = 0.06 * (y1 - y0) if y1 > y0 else max(abs(y0) * 0.1, 1e-9)
    y0, y1 = y0 - pad, y1 + pad
    if percent:
        y0, y1 = max(y0, 0.0), min(y1, 1.0) if highs.max() <= 1 else y1
    x0, x1 = float(xs.min()), float(xs.max())
    if x1 <= x0:
        x0, x1 = x0 - 1, x1 + 1
    if share:
        x0, x1, y0, y1 = 0.0, 1.0, 0.0, 1.0
    left, right, top, bottom = 46, 10, 8, 26
    x_text = (lambda v: f"{100 * v:.4g} %") if share else short
    x_name = share or "step"

    def px(x: float) -> float:
        return left + (x - x0) / (x1 - x0) * (width - left - right)

    def py(y: float) -> float:
        return height - bottom - (scale(y) - y0) / (y1 - y0) * (height - top - bottom)

    parts = []
    at = [10.0**t for t in ticks(y0, y1, 3)] if log else ticks(y0, y1)
    for tick in at:
        label = f"{100 * tick:.4g} %" if percent else short(tick)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(tick):.1f}" '
            f'y2="{py(tick):.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{py(tick) + 3.5:.1f}" '
            f'text-anchor="end">{label}</text>'
        )
    for tick in ticks(x0, x1):
        parts.append(
            f'<text class="tick" x="{px(tick):.1f}" y="{height - 9}" '
            f'text-anchor="middle">{x_text(tick)}</text>'
        )
    readout = []
    for index, ((line, low, high), ok) in enumerate(zip(thinned, finite, strict=True)):
        runs = [
            r
            for r in np.split(np.arange(len(ok)), np.flatnonzero(np.diff(ok.astype(int))) + 1)
            if ok[r[0]]
        ]
        for run in runs:
            if (high[run] > low[run]).any():
                edge = [(px(line.x[i]), py(high[i])) for i in run] + [
                    (px(line.x[i]), py(low[i])) for i in run[::-1]
                ]
                parts.append(f'<polygon class="band s{index % 6}" points="{_points(edge)}"/>')
            if len(run) > 1:
                where = _points([(px(line.x[i]), py(line.y[i])) for i in run])
                parts.append(f'<polyline class="line s{index % 6}" points="{where}"/>')
        if ok.sum() <= 24:
            for i in np.flatnonzero(ok):
                value = f"{100 * line.y[i]:.2f} %" if percent else short(line.y[i])
                parts.append(
                    f'<circle class="dot s{index % 6}" cx="{px(line.x[i]):.1f}" '
                    f'cy="{py(line.y[i]):.1f}" r="2.6">'
                    f"<title>{escape(line.name)}, {escape(x_name)} {x_text(line.x[i])}: "
                    f"{value}</title></circle>"
                )
        readout.append(
            {
                "name": line.name,
                "x": [x_text(v) if share else round(float(v), 1) for v in line.x[ok]],
                "y": [f"{100 * v:.2f} %" if percent else short(v) for v in line.y[ok]],
                "at": [
                    [round(px(line.x[i]), 1), round(py(line.y[i]), 1)] for i in np.flatnonzero(ok)
                ],
            }
        )
    dropped = sum(int((~np.isfinite(np.asarray(s.y, np.float64))).sum()) for s in series)
    last = ", ".join(f"{s['name']} ends at {s['y'][-1]}" for s in readout if s["y"])
    label = escape(f"{title} over {share or 'training steps'}; {last}")
    body = (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        f'data-x="{escape(x_name)}" data-lines="{escape(json.dumps(readout))}">'
        f'{"".join(parts)}<g class="cursor"></g></svg>'
    )
    if len(series) > 1:
        keys = "".join(
            f'<span><i class="key s{i % 6}"></i>{escape(s.name)}</span>'
            for i, s in enumerate(series)
        )
        body += f'<p class="keys">{keys}</p>'
    if dropped:
        body += f'<p class="missing">{dropped} logged value{"s" * (dropped > 1)} not finite, shown as gaps.</p>'
    return _figure(title + (" (log scale)" if log else ""), body)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _figure(title: str, body: str) -> str:
    return f'<figure class="panel"><figcaption>{escape(title)}</figcaption>{body}</figure>'


def scatter(
    points: Float[np.ndarray, "N 2"],
    labels: Int[np.ndarray, " N"] | None,
    names: Sequence[str],
    titles: Sequence[str],
    description: str,
    *,
    crosses: Bool[np.ndarray, " N"] | None = None,
    width: int = 720,
    height: int = 540,
) -> str:
    """Points by class colour and marker, a tooltip on each, class names written over their points
    where they fit.

    crosses: which points are marked by a cross instead, in their class's colour.
    """
    low, high = points.min(0), points.max(0)
    pad = 26
    span = np.maximum(high - low, 1e-12)
    # One scale for both axes: distances on a map must not depend on the direction.
    scale = min((width - 2 * pad) / span[0], (height - 2 * pad) / span[1])
    if (high - low).max() <= 0:
        scale = 0.0
    at = (points - (low + high) / 2) * scale * [1, -1] + [width / 2, height / 2]
    marks = []
    for i, (x, y) in enumerate(at):
        kind = -1 if labels is None else int(labels[i])
        shape = "circle" if kind < 0 else class_shape(kind)
        if crosses is not None and crosses[i]:
            shape = "cross"
        color = "" if kind < 0 else f' fill="{class_color(kind)}"'
        marks.append(
            f'<use href="#m-{shape}" x="{x:.1f}" y="{y:.1f}" data-c="{kind}"{color}>'
            f"<title>{escape(titles[i])}</title></use>"
        )
    written = _place_names(at, labels, names, width, height) if labels is not None else ""
    return (
        f'<svg class="chart map" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(description)}">'
        f'<g class="marks">{"".join(marks)}</g><g class="names">{written}</g></svg>'
    )


def _place_names(
    at: Float[np.ndarray, "N 2"],
    labels: Int[np.ndarray, " N"],
    names: Sequence[str],
    width: int,
    height: int,
) -> str:
    """Class names beside the median of their points, the largest classes first, none over another."""
    taken: list[tuple[float, float, float]] = []
    written = []
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    for kind in np.argsort(-counts, kind="stable"):
        if not counts[kind]:
            continue
        own = at[labels == kind]
        half = 3.6 * len(names[kind]) + 4
        # The core of a class: a few strays must not pull its name away.
        away = np.linalg.norm(own - np.median(own, axis=0), axis=1)
        core = own[away <= np.quantile(away, 0.6)]
        x = min(max(float(np.median(core[:, 0])), half), width - half)
        # Above the points if there is room, else below them.
        for y in (core[:, 1].min() - 13, core[:, 1].max() + 13):
            if 10 < y < height - 10 and not any(
                abs(x - u) < half + h and abs(y - v) < 16 for u, v, h in taken
            ):
                taken.append((x, y, half))
                written.append(
                    f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" data-c="{kind}">'
                    f"{escape(names[kind])}</text>"
                )
                break
    return "".join(written)


def histogram(
    title: str,
    edges: Float[np.ndarray, " E"],
    series: Sequence[tuple[str, Float[np.ndarray, " N"]]],
    *,
    width: int = 360,
    height: int = 208,
) -> str:
    """Shares by bin as steps over the same axis, the areas see-through, each outlined in a style of
    its own. edges: of the N bins, so that E = N + 1."""
    left, right, top, bottom = 46, 10, 8, 26
    high = max(float(np.max(values)) for _, values in series)
    x0, x1 = float(edges[0]), float(edges[-1])
    if not high > 0 or not x1 > x0:
        return _figure(title, '<p class="missing">There is no pair to count.</p>')

    def px(x: float) -> float:
        return left + (x - x0) / (x1 - x0) * (width - left - right)

    def py(y: float) -> float:
        return height - bottom - y / (1.06 * high) * (height - top - bottom)

    parts = []
    for tick in ticks(0.0, 1.06 * high, 3):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(tick):.1f}" '
            f'y2="{py(tick):.1f}"/>'
        )
        label = f"{100 * tick:.4g} %"
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{py(tick) + 3.5:.1f}" '
            f'text-anchor="end">{label}</text>'
        )
    for tick in ticks(x0, x1):
        parts.append(
            f'<text class="tick" x="{px(tick):.1f}" y="{height - 9}" '
            f'text-anchor="middle">{short(tick)}</text>'
        )
    for index, (_, values) in enumerate(series):
        corners = [(px(x0), py(0.0))]
        for value, low, up in zip(values, edges[:-1], edges[1:], strict=True):
            corners += [(px(float(low)), py(float(value))), (px(float(up)), py(float(value)))]
        corners.append((px(x1), py(0.0)))
        parts.append(f'<polygon class="band s{index}" points="{_points(corners)}"/>')
        parts.append(f'<polyline class="line s{index} d{index}" points="{_points(corners)}"/>')
    label = escape(f"{title}: {', '.join(name for name, _ in series)}")
    keys = "".join(
        f'<span><svg class="stroke" viewBox="0 0 22 6" aria-hidden="true"><path class="line s{i} '
        f'd{i}" d="M0 3H22"/></svg>'
        f"{escape(name)}</span>"
        for i, (name, _) in enumerate(series)
    )
    return _figure(
        title,
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
        f'<p class="keys">{keys}</p>',
    )


def heat_table(
    rows: Sequence[str],
    columns: Sequence[str],
    counts: Int[np.ndarray, "R C"],
    totals: Int[np.ndarray, " R"],
) -> str:
    """Counts as a table, each cell tinted by its share of the row's total; equal row and column:
    the right class.
    """
    head = "".join(f'<th scope="col"><span>{escape(c)}</span></th>' for c in columns)
    lines = []
    for row, name in enumerate(rows):
        cells = []
        for column, other in enumerate(columns):
            count = int(counts[row, column])
            share = 100 * count / max(int(totals[row]), 1)
            kind = "hit" if name == other else "miss"
            text = str(count) if count else "·"
            title = escape(f"{name} taken for {other}: {count}")
            cells.append(
                f'<td class="{kind}" style="--share:{share:.0f}%" title="{title}">{text}</td>'
            )
        lines.append(
            f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}<td '
            f'class="total">{int(totals[row])}</td></tr>'
        )
    return (
        '<table class="heat"><thead><tr><th scope="col" class="corner">queries of class ↓ taken '
        "for →</th>"
        f"{head}<th "
        f'scope="col"><span>queries</span></th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )
