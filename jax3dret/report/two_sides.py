"""Sections of the report about queries and gallery of two modalities: ranking, one map of both, the
views that a model prefers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.report.charts import Series, escape, histogram, line_chart, scatter, short
from jax3dret.report.embedding_map import MAX_POINTS, embedding_map
from jax3dret.report.results import legend
from jax3dret.report.run_files import Evaluation, thumbnail
from jax3dret.report.sections import missing, section

_MARKED = 3  # views of a shape that are marked as the preferred ones
_GALLERY_SHARE = 0.4  # of the points of the map, where there are more than it takes


def ranking(evaluation: Evaluation) -> str:
    """Precision over recall, and the distances within and between classes; empty where neither was
    recorded.
    """
    curve, distances = (evaluation.result.get(key) for key in ("precision_recall", "distances"))
    if not isinstance(curve, Mapping) and not isinstance(distances, Mapping):
        return ""
    panels, words = "", []
    if isinstance(curve, Mapping):
        recall, precision = _numbers(curve.get("recall")), _numbers(curve.get("precision"))
        some = np.isfinite(precision) if len(recall) == len(precision) else np.zeros(0, bool)
        if some.any():
            line = Series("precision", recall[some], precision[some])
            panels += line_chart("Precision over recall", [line], percent=True, share="recall")
            words.append("Precision is interpolated at 20 recalls, as the SHREC code does.")
        else:
            panels += missing(
                "No query has two relevant items: there is no precision-recall curve."
            )
    if isinstance(distances, Mapping):
        cosine = (evaluation.result.get("protocol") or {}).get("distance") == "cosine"
        panels += _distances(distances, "1 - cosine" if cosine else "Euclidean")
        if isinstance(overlap := distances.get("overlap"), int | float):
            words.append(
                f"Mean distance within a class {_plain(distances, 'within')}, between classes "
                f"{_plain(distances, 'between')}; the two "
                f"histograms share {100 * overlap:.0f} % of their area."
            )
    lead = escape(" ".join(words))
    return section(
        "ranking", "Precision, recall and distances", f'<div class="panels">{panels}</div>', lead
    )


def _distances(distances: Mapping[str, Any], unit: str) -> str:
    edges, *sides = (_numbers(distances.get(key)) for key in ("edges", "within", "between"))
    if (
        len(edges) < 2
        or any(len(side) != len(edges) - 1 for side in sides)
        or not np.isfinite(edges).all()
    ):
        return missing("The histograms of the distances are damaged.")
    names = ("query and item of one class", "of two classes")
    return histogram(
        f"Distances ({unit}), shares of the pairs",
        edges,
        list(zip(names, np.nan_to_num(np.stack(sides)), strict=True)),
    )


def _plain(distances: Mapping[str, Any], key: str) -> str:
    value = (distances.get("mean") or {}).get(key)
    return short(value) if isinstance(value, int | float) else "unknown"


def _numbers(values: object) -> Float[np.ndarray, " N"]:
    """A list of numbers and nulls as an array with NaN; empty where it is no such list."""
    if not isinstance(values, list) or not all(
        v is None or isinstance(v, int | float) for v in values
    ):
        return np.zeros(0)
    return np.array([math.nan if v is None else float(v) for v in values])


def both_modalities(evaluation: Evaluation) -> str:
    """Queries and gallery in one plane, coloured by class: queries as crosses, the gallery as solid
    marks.
    """
    queries, gallery = evaluation.embeddings, evaluation.gallery_embeddings
    if queries is None or gallery is None or not len(queries) or not len(gallery):
        return section(
            "map",
            "Embedding map",
            missing("The embeddings of one side were not kept: there is no map."),
        )
    chosen = _spread(len(queries), len(gallery))
    values = np.concatenate(
        [side[rows] for side, rows in zip((queries, gallery), chosen, strict=True)]
    )
    crosses = np.repeat([True, False], [len(rows) for rows in chosen])
    if not np.isfinite(values).all(1).any():
        return section(
            "map", "Embedding map", missing("No embedding is finite: the encoder has diverged.")
        )
    cosine = (evaluation.result.get("protocol") or {}).get("distance") == "cosine"
    layout = embedding_map(values, unit_length=cosine)
    labels = _labels(evaluation, chosen)
    kinds = None if labels is None else labels[layout.rows]
    numbers, crosses = np.concatenate(chosen)[layout.rows], crosses[layout.rows]
    names = evaluation.class_names
    count = _count(crosses, len(queries), len(gallery))
    how = (
        "t-SNE of both together: near points are near in the embedding; distances between far "
        "groups mean nothing."
        if layout.method == "t-SNE"
        else "Principal components of both together: the plane in which the embeddings vary most."
    )
    lead = (
        f"{count}. {how} Where crosses and solid marks of a class lie apart, the two modalities "
        "are not aligned. The first two "
        f"principal components hold {100 * layout.explained:.0f} % of the variance."
    )
    body = ""
    if layout.explained == 0.0 and len(layout.rows) > 1:
        body += missing("All embeddings are equal: the encoders have collapsed to one point.")
    if layout.not_finite:
        body += missing(
            f"Embeddings that are not finite, left out of the map: {layout.not_finite}."
        )
    if labels is None:
        body += missing("There are no labels, so the points are not coloured.")
    titles = [
        f"{'query' if cross else 'gallery item'} {number}: "
        + (names[kinds[i]] if kinds is not None and kinds[i] >= 0 else "unlabelled")
        for i, (number, cross) in enumerate(zip(numbers.tolist(), crosses.tolist(), strict=True))
    ]
    picture = scatter(
        layout.points, kinds, names, titles, f"{layout.method} map of {count}", crosses=crosses
    )
    keys = "".join(
        '<span><svg class="sign" viewBox="-5 -5 10 10" aria-hidden="true"><use '
        f'href="#m-{mark}"/></svg>{name}</span>'
        for mark, name in (("cross", "queries (sketches)"), ("circle", "gallery (shapes)"))
    )
    body += f'<p class="keys">{keys}</p><div class="mapbox">{picture}{"" if kinds is None else legend(kinds, names)}</div>'
    return section("map", "Embedding map", body, escape(lead))


def _spread(queries: int, gallery: int) -> tuple[Int[np.ndarray, " A"], Int[np.ndarray, " B"]]:
    """Evenly spread rows of both sides, as many as the map takes: a small gallery whole."""
    shown = min(gallery, max(int(_GALLERY_SHARE * MAX_POINTS), MAX_POINTS - queries))
    sides = ((queries, min(queries, MAX_POINTS - shown)), (gallery, shown))
    first, second = (np.linspace(0, num - 1, kept).round().astype(np.int64) for num, kept in sides)
    return first, second


def _labels(evaluation: Evaluation, chosen: Sequence[np.ndarray]) -> Int[np.ndarray, " M"] | None:
    sides = (evaluation.labels, evaluation.gallery_labels)
    if sides[0] is None or sides[1] is None:
        return None
    return np.concatenate([sides[0][chosen[0]], sides[1][chosen[1]]])


def _count(crosses: Bool[np.ndarray, " M"], queries: int, gallery: int) -> str:
    shown = (int(crosses.sum()), int((~crosses).sum()))
    first, second = (
        f"{some:,} of {num:,}" if some < num else f"{num:,}"
        for some, num in zip(shown, (queries, gallery), strict=True)
    )
    return f"{first} queries and {second} gallery items"


def views(evaluation: Evaluation) -> str:
    """How much the model makes of each view: over the gallery, and for some shapes; empty where it
    does not tell.
    """
    told = evaluation.result.get("views")
    if not isinstance(told, Mapping):
        return ""
    mean, best = _numbers(told.get("mean_score")), _numbers(told.get("best_view_share"))
    if len(mean) < 1 or len(mean) != len(best) or not np.isfinite([mean, best]).all():
        return section("views", "Views", missing("The scores of the views are damaged."))
    shapes = [s for s in told.get("shapes") or [] if isinstance(s, Mapping)]
    if not best.any():
        text = "The model makes as much of every view as of any other: it has no selector, or one that is blind."
        return section("views", "Views", missing(text))
    body = "<h3>Over the gallery</h3>" + _strip(
        best, [None] * len(best), "shapes that prefer view", percent=True
    )
    for shape in shapes:
        scores = _numbers(shape.get("scores"))
        if len(scores) != len(mean) or not np.isfinite(scores).all():
            continue
        names = shape.get("thumbnails")
        if not isinstance(names, list) or len(names) != len(scores):
            names = [None] * len(scores)
        pictures = [thumbnail(evaluation, name) for name in names]
        title = (
            f"{shape.get('id')}, {shape['label']}" if shape.get("label") else str(shape.get("id"))
        )
        body += f"<h4>{escape(title)}</h4>" + _strip(scores, pictures, f"{title}, view")
    lead = (
        "What the first selector of the graph makes of each view, in the order of the cameras. "
        "Below, the share of shapes whose highest "
        f"score a view has; then the scores of some shapes, the best {_MARKED} numbered."
    )
    return section("views", "Views", body, lead)


def _strip(
    values: Float[np.ndarray, " V"],
    pictures: Sequence[str | None],
    what: str,
    *,
    percent: bool = False,
) -> str:
    """One column for each view: its picture where there is one, a bar, the value; the greatest ones
    numbered.
    """
    order = np.argsort(-values, kind="stable")
    rank = {int(view): place for place, view in enumerate(order[:_MARKED], 1) if values[view] > 0}
    high = max(float(values.max()), 1e-12)
    items = []
    for view, (value, picture) in enumerate(zip(values.tolist(), pictures, strict=True)):
        text = f"{100 * value:.0f} %" if percent else f"{value:.3f}"
        note = f"{what} {view + 1}: {text}"
        image = (
            f'<img src="{picture}" alt="{escape(note)}" width="96" height="96" loading="lazy">'
            if picture
            else ""
        )
        mark = (
            f'<span class="mark" aria-hidden="true">{rank[view]}</span>'
            if view in rank and picture
            else ""
        )
        items.append(
            f'<li class="view{" top" if view in rank else ""}" title="{escape(note)}">{image}{mark}'
            f'<div class="column" style="--share:{100 * max(value, 0.0) / high:.1f}%"><i></i></div>'
            f'<span class="score">{text}</span><span class="number">{view + 1}</span></li>'
        )
    return f'<ol class="views" tabindex="0">{"".join(items)}</ol>'
