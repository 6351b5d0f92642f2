"""Sections of the report about single classes and items: per-class scores, confusions, the
embedding map, examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from jax3dret.report import metric_text
from jax3dret.report.charts import class_color, class_shape, escape, heat_table, scatter
from jax3dret.report.embedding_map import embedding_map
from jax3dret.report.run_files import Evaluation, RunFiles, thumbnail
from jax3dret.report.sections import missing, section

_WORST, _MAX_COLUMNS = 8, 14
_MAX_EXAMPLES, _MAX_RESULTS = 8, 10


def per_class(evaluation: Evaluation) -> str:
    """One row a class, the hardest first; sortable."""
    rows = [r for r in evaluation.result.get("per_class") or [] if isinstance(r, Mapping)]
    if not rows:
        return section(
            "classes",
            "Classes",
            missing("There are no class labels, so nothing can be said class by class."),
        )
    rows.sort(
        key=lambda r: (
            _number(r.get("nn_acc"), 2.0),
            -_number(r.get("items"), 0.0),
            str(r.get("class")),
        )
    )
    about = metric_text.read_about(evaluation.result.get("about_classes"))
    scores = metric_text.ordered(
        dict.fromkeys(k for r in rows for k in r if k not in ("class", "items")), about
    )
    head = "".join(
        '<th scope="col" class="num" aria-sort="none" '
        f'title="{escape(metric_text.meaning(k, about))}">'
        f"{escape(metric_text.title(k, about))}</th>"
        for k in scores
    )
    lines = []
    for row in rows:
        cells = []
        for key in scores:
            value = _number(row.get(key), math.nan)
            if math.isfinite(value):
                style = f"--share:{100 * min(max(value, 0), 1):.1f}%"
                cells.append(
                    f'<td class="num bar" data-v="{value:.6f}" style="{style}">{100 * value:.1f} '
                    "%</td>"
                )
            else:
                cells.append(
                    '<td class="num" data-v="-1" title="no item of this class allows a '
                    'value">undefined</td>'
                )
        items = _number(row.get("items"), 0)
        lines.append(
            f'<tr><th scope="row">{escape(row.get("class", ""))}</th>'
            f'<td class="num" data-v="{items:g}">{items:,.0f}</td>{"".join(cells)}</tr>'
        )
    table = (
        '<div class="scroll tall" tabindex="0"><table class="sortable"><thead>'
        '<tr><th scope="col" aria-sort="none">Class</th>'
        f'<th scope="col" class="num" aria-sort="none">Queries</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    lead = (
        "Hardest classes first."
        if len(rows) > 1
        else "There is one class: every neighbour has it, so its scores say little."
    )
    return section("classes", "Classes", table, lead)


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else otherwise


def confusions(evaluation: Evaluation) -> str:
    """Which classes are taken for which: a sentence each for the commonest, a table of the worst
    classes.
    """
    table = evaluation.result.get("confusion") or {}
    names = [str(n) for n in table.get("classes") or []]
    counts = np.asarray(table.get("counts") or [], np.int64)
    if not names or counts.shape != (len(names), len(names)):
        return section("confusions", "Confusions", missing("No confusion counts were recorded."))
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        text = "Every query’s nearest neighbour has the right class: there is no confusion to show."
        return section("confusions", "Confusions", f'<p class="note">{text}</p>')
    totals = counts.sum(1)
    flat = np.argsort(-wrong, axis=None, kind="stable")[:5]
    sentences = []
    for true, taken in zip(*np.unravel_index(flat, wrong.shape), strict=True):
        if wrong[true, taken]:
            share = 100 * wrong[true, taken] / totals[true]
            sentences.append(
                f"<li><b>{escape(names[true])}</b> is taken for <b>{escape(names[taken])}</b> in "
                f"{wrong[true, taken]} of {totals[true]} queries ({share:.0f} %)</li>"
            )
    rows = [int(i) for i in np.argsort(-wrong.sum(1), kind="stable")[:_WORST] if wrong[i].any()]
    columns = _confused_with(wrong, rows)
    shown, headings = counts[np.ix_(rows, columns)], [names[i] for i in columns]
    if len(columns) < len(names):
        rest = totals[rows] - shown.sum(1)
        shown, headings = np.concatenate([shown, rest[:, None]], 1), [*headings, "all others"]
    heat = heat_table([names[i] for i in rows], headings, shown, totals[rows])
    body = f'<ul>{"".join(sentences)}</ul><div class="scroll" tabindex="0">{heat}</div>'
    return section(
        "confusions",
        "Confusions",
        body,
        "The class of the nearest neighbour against the true class, for the classes with most "
        "errors.",
    )


def _confused_with(wrong: Int[np.ndarray, "C C"], rows: list[int]) -> list[int]:
    """The rows themselves, then the classes that they are most often taken for."""
    taken = wrong[rows].sum(0)
    others = [int(i) for i in np.argsort(-taken, kind="stable") if taken[i] and int(i) not in rows]
    return [*rows, *others[: max(_MAX_COLUMNS - len(rows), 0)]]


def embeddings(run: RunFiles) -> str:
    """The query embeddings in the plane, coloured by class."""
    evaluation = run.leading
    values, labels, names = evaluation.embeddings, evaluation.labels, evaluation.class_names
    if values is None or not len(values):
        return section(
            "map",
            "Embedding map",
            missing("No query embeddings were kept, so there is no map to draw."),
        )
    if not np.isfinite(values).all(1).any():
        return section(
            "map", "Embedding map", missing("No embedding is finite: the encoder has diverged.")
        )
    cosine = (evaluation.result.get("protocol") or {}).get("distance") == "cosine"
    layout = embedding_map(values, unit_length=cosine)
    kinds = None if labels is None else labels[layout.rows]
    ids = _query_ids(run, len(values), labels)
    titles = []
    for row in layout.rows:
        label = names[labels[row]] if labels is not None and labels[row] >= 0 else "unlabelled"
        titles.append(f"{ids[row]} ({label})" if ids else f"query {row}: {label}")
    count = (
        f"{len(layout.rows):,} of {len(values):,} queries"
        if len(layout.rows) < len(values)
        else f"{len(values):,} queries"
    )
    how = (
        "t-SNE: near points are near in the embedding; distances between far groups and sizes of "
        "groups mean nothing."
        if layout.method == "t-SNE"
        else "Principal components: the plane in which the embeddings vary most."
    )
    lead = f"{count}. {how} The first two principal components hold {100 * layout.explained:.0f} % of the variance."
    body = ""
    if layout.explained == 0.0 and len(layout.rows) > 1:
        body += missing("All embeddings are equal: the encoder has collapsed to one point.")
    if layout.not_finite:
        body += missing(
            f"Embeddings that are not finite, left out of the map: {layout.not_finite}."
        )
    if labels is None:
        body += missing("The queries have no labels, so the points are not coloured.")
    picture = scatter(layout.points, kinds, names, titles, f"{layout.method} map of {count}")
    body += (
        f'<div class="mapbox">{picture}{legend(kinds, names) if kinds is not None else ""}</div>'
    )
    return section("map", "Embedding map", body, escape(lead))


def legend(kinds: Int[np.ndarray, " M"], names: Sequence[str]) -> str:
    """The classes on a map, each a button that picks it out."""
    entries = []
    for kind in np.unique(kinds).tolist():
        shape, fill, name = ("circle", "", "unlabelled")
        if kind >= 0:
            shape, fill, name = class_shape(kind), f' fill="{class_color(kind)}"', names[kind]
        mark = f'<svg viewBox="-5 -5 10 10" aria-hidden="true"><use href="#m-{shape}"{fill}/></svg>'
        entries.append(f'<button type="button" data-c="{kind}">{mark}{escape(name)}</button>')
    return (
        f'<div class="legend" role="group" aria-label="Classes on the map">{"".join(entries)}</div>'
    )


def _query_ids(run: RunFiles, num: int, labels: Int[np.ndarray, " Q"] | None) -> list[str] | None:
    """Ids of the queries, where the copied manifest still lists those of a split with exactly these
    labels.
    """
    for info in (run.manifest.get("splits") or {}).values():
        ids = info.get("ids") if isinstance(info, Mapping) else None
        if (
            ids
            and len(ids) == num
            and labels is not None
            and list(info.get("labels") or []) == labels.tolist()
        ):
            return [str(i) for i in ids]
    return None


def examples(evaluation: Evaluation) -> str:
    """Queries with what they found: first the wrong ones, then the right ones."""
    found = [
        e
        for e in evaluation.result.get("examples") or []
        if isinstance(e, Mapping) and isinstance(e.get("query"), Mapping)
    ]
    if not found:
        return section("examples", "Examples", missing("No example query was kept."))
    wrong = [e for e in found if e.get("correct") is False]
    right = [e for e in found if e.get("correct") is True]
    unjudged = [e for e in found if not isinstance(e.get("correct"), bool)]
    groups = (
        (wrong, "Wrong at rank one", "The nearest neighbour has another class."),
        (right, "Right at rank one", "The nearest neighbour has the query’s class."),
        (
            unjudged,
            "Nearest neighbours",
            "Without labels there is no right or wrong; the results are shown as ranked.",
        ),
    )
    body = ""
    for group, title, text in groups:
        if group:
            cards = "".join(_example(evaluation, e) for e in group[:_MAX_EXAMPLES])
            body += f'<h3>{title}</h3><p class="lead">{text}</p><div class="examples">{cards}</div>'
    if not wrong and right:
        body = '<p class="note">None of the kept examples is wrong at rank one.</p>' + body
    lead = "From left to right by rank. Green frame and ✓: the query’s class. Red dashed frame and ✗: another class."
    return section("examples", "Examples", body, lead)


def _example(evaluation: Evaluation, example: Mapping[str, Any]) -> str:
    query = example["query"]
    label = _label(evaluation, query.get("label"))
    results = []
    for result in [r for r in example.get("results") or [] if isinstance(r, Mapping)][
        :_MAX_RESULTS
    ]:
        other = _label(evaluation, result.get("label"))
        same = None if label is None or other is None else query.get("label") == result.get("label")
        kind, mark = {True: ("good", "✓"), False: ("bad", "✗"), None: ("", "")}[same]
        score = _number(result.get("score"), math.nan)
        caption = f"{score:.3f}" if math.isfinite(score) else "no score"
        note = (
            f"rank {result.get('rank')}: {result.get('id')}, {other or 'no label'}, score {caption}"
        )
        results.append(
            f'<li class="item {kind}" title="{escape(note)}">{_picture(evaluation, result, note)}'
            f'<span class="mark" aria-hidden="true">{mark}</span>'
            f'<span class="label">{escape(other or result.get("id"))}</span>'
            f'<span class="score">{escape(caption)}</span></li>'
        )
    note = f"query {query.get('id')}, {label or 'no label'}"
    stem = str(query.get("id", "")).rsplit("/", 1)[-1]
    tail = "".join(results) or '<li class="missing">no result</li>'
    return (
        '<article class="example"><div class="item query" '
        f'title="{escape(note)}">{_picture(evaluation, query, note)}'
        f'<span class="label">{escape(label or query.get("id"))}</span><span '
        f'class="score">{escape(stem)}</span></div>'
        '<ol class="strip" tabindex="0" aria-label="Results for '
        f'{escape(query.get("id", ""))}">{tail}</ol></article>'
    )


def _label(evaluation: Evaluation, label: object) -> str | None:
    """A class name from a class number or a name; None for an unlabelled item."""
    if isinstance(label, bool) or label is None or label == "":
        return None
    if isinstance(label, int):
        names = evaluation.class_names
        return names[label] if 0 <= label < len(names) else None
    return str(label)


def _picture(evaluation: Evaluation, item: Mapping[str, Any], alt: str) -> str:
    source = thumbnail(evaluation, item.get("thumbnail"))
    if source is None:
        return '<span class="nopicture">no picture</span>'
    return f'<img src="{source}" alt="{escape(alt)}" width="160" height="160" loading="lazy" decoding="async">'
