"""Sections of the report about the run: results at a glance, protocol, costs, configuration, data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jax3dret.report import metric_text
from jax3dret.report.charts import escape, short
from jax3dret.report.published import Comparison
from jax3dret.report.run_files import Evaluation, RunFiles, protocol_of

_TILES = 4
_MAX_SKIPPED = 500
_PROTOCOL = {
    "distance": {
        "cosine": "Items are compared by the cosine of the angle between their embeddings.",
        "euclidean": "Items are compared by the Euclidean distance of their embeddings, which are "
        "not normalised.",
    },
    "self_match": {
        "excluded": "A query never finds itself: its own entry in the gallery is left out.",
        "excluded by id": "A query never finds itself: a gallery item with its id is left out.",
        "included": "A query that is also in the gallery may find itself.",
        "none": "Queries and gallery share no item, so no query can find itself.",
        "disjoint": "Queries and gallery share no item, so no query can find itself.",
    },
    "ties": {
        "index": "Equal distances keep the order of the gallery.",
        "lowest gallery row first": "Equal distances keep the order of the gallery.",
        "pessimistic": "Of equal distances, wrong items are ranked first.",
        "optimistic": "Of equal distances, right items are ranked first.",
        "average": "Metrics are averaged over all orders of equal distances.",
    },
    "queries_against": {
        "all other items": "Every item is a query against all others.",
        "the gallery split": "Queries are searched in the gallery only, not among each other.",
    },
    "search": {
        "exact": "The search is exact.",
        "tree_ah": "The search is approximate, by a tree of ScaNN (tree_ah) that was asked for; "
        "how "
        "close it comes stands under “Time and index”.",
    },
}
_SETTINGS = {"n": "length of the ranked lists"}


def section(anchor: str, title: str, body: str, lead: str = "") -> str:
    lead = f'<p class="lead">{lead}</p>' if lead else ""
    head = f'<h2 id="{anchor}-h">{escape(title)}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-h">{head}{lead}{body}</section>'


def missing(sentence: str) -> str:
    return f'<p class="missing">{escape(sentence)}</p>'


def definitions(pairs: Iterable[tuple[str, object]]) -> str:
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs)
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def plain(value: object) -> str:
    """A JSON value on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value)
    if isinstance(value, float):
        return short(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    return "not given" if value is None or value == "" else str(value)


def duration(seconds: object) -> str:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return "not recorded"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def header(run: RunFiles) -> str:
    summary, result = run.summary, run.leading.result
    dataset = result.get("dataset") or {}
    facts = [f"system <b>{escape(summary['system'])}</b>"] if summary.get("system") else []
    if dataset.get("name"):
        version = f" {dataset['version']}" if dataset.get("version") else ""
        asked = (result.get("queries") or {}).get("name")
        against = f"<b>{escape(asked)}</b> against " if asked and asked != dataset["name"] else ""
        facts.append(f"data {against}<b>{escape(dataset['name'])}{escape(version)}</b>")
    steps = summary.get("steps")
    if isinstance(steps, int):
        trained = (
            f"<b>{steps:,}</b> training steps"
            if steps
            else "<b>not trained</b>: random or imported weights"
        )
        facts.append(
            trained
            + (
                f" in <b>{duration(summary['train_s'])}</b>"
                if steps and summary.get("train_s")
                else ""
            )
        )
    parameters = (summary.get("meta") or {}).get("parameters")
    if isinstance(parameters, int):
        facts.append(f"encoder of <b>{_count(parameters)}</b> parameters")
    if prototypes := prototypes_of(run):
        facts.append(f"prototypes <b>{escape(prototypes)}</b>")
    title = summary.get("config") or run.workdir.resolve().name
    line = " <span aria-hidden='true'>·</span> ".join(facts)
    head = f'<p class="overline">jax3dret · retrieval report</p><h1>{escape(title)}</h1>'
    return f'<header>{head}<p class="about">{line}</p></header>'


def prototypes_of(run: RunFiles) -> str:
    """What stood for the classes in training, by name; empty where nothing did."""
    given = (run.summary.get("meta") or {}).get("prototypes") or ""
    name = given.get("name") or "" if isinstance(given, Mapping) else given
    return str(name).rsplit(":", 1)[-1].replace("_", " ")


def _count(value: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def results(run: RunFiles) -> str:
    """Headline metrics as tiles, each with its spread over several evaluations and beside the
    paper's number, and the whole table below.
    """
    metrics = run.leading.result.get("metrics") or {}
    compared, about = run.published, run.leading.about
    published = compared.rows
    body = ""
    if not set(metrics) - {"index_recall_at_10"}:
        body = missing(
            "No retrieval metric was computed: scores need class labels on queries and gallery."
        )
    shown = [k for k in metric_text.ordered(metrics, about) if isinstance(metrics[k], int | float)]
    if undefined := [metric_text.title(k, about) for k in metrics if metrics[k] is None]:
        body += missing(f"Undefined, for want of a finite value: {', '.join(undefined)}.")
    spread = run.leading.result.get("spread") or {}
    tiles = "".join(
        _tile(key, metrics[key], spread.get(key), compared, about) for key in shown[:_TILES]
    )
    body += f'<div class="tiles">{tiles}</div>' if tiles else ""
    if compared.differs:
        items = "".join(f"<li>{escape(each)}</li>" for each in compared.differs)
        body += (
            '<div class="missing"><p>The published numbers are of other data or another protocol '
            f"than this run’s:</p><ul>{items}</ul></div>"
        )
    if compared.left_out:
        body += missing(f"The published numbers are left out: {compared.left_out}.")
    elif published:
        body += (
            '<p class="note">Published numbers were measured by their authors, on the paper’s data '
            "and weights. They "
            "stand here for orientation; they are a like-for-like comparison only where data, "
            "weights and protocol are "
            "the same.</p>"
        )
        if note := (run.summary.get("meta") or {}).get("published_note"):
            body += f'<p class="note">{escape(note)}</p>'
    else:
        body += (
            '<p class="note">No published number exists for this data set and configuration.</p>'
        )
    listed = list(dict.fromkeys([*shown, *(k for row in published.values() for k in row)]))
    if listed and (published or len(shown) > _TILES):
        mark = " ⚠" if compared.differs else ""
        columns = {f"{name}{mark}": row for name, row in published.items()}
        body += _metric_table(listed, {"this run": metrics, **columns}, about)
    for other in run.evaluations[1:]:
        further = other.result.get("metrics") or {}
        values = definitions(
            (metric_text.title(k, other.about), metric_text.value(further[k]))
            for k in metric_text.ordered(further, other.about)
        )
        body += f"<h3>Evaluation “{escape(other.name)}”</h3>{values}"
    return section("results", "Results", body)


def _tile(
    key: str,
    value: float,
    spread: float | None,
    compared: Comparison,
    about: metric_text.About,
) -> str:
    warning = ""
    if compared.differs:
        said = escape("; ".join(compared.differs))
        warning = f' <strong title="{said}">⚠ not like for like</strong>'
    papers = "".join(
        f'<p class="paper"><b>{escape(metric_text.value(row[key]))}</b> {escape(name)}{warning}</p>'
        for name, row in compared.rows.items()
        if row.get(key) is not None
    )
    undefined = (
        '<p class="missing">No query allows a value.</p>' if not math.isfinite(value) else ""
    )
    some = f' <span class="sd">± {metric_text.value(spread)}</span>' if spread is not None else ""
    return (
        f'<div class="tile"><p class="name">{escape(metric_text.title(key, about))}</p>'
        f'<p class="value">{escape(metric_text.value(value))}{some}</p>'
        f'<p class="meaning">{escape(metric_text.meaning(key, about))}</p>{undefined}{papers}</div>'
    )


def _metric_table(
    keys: Sequence[str], columns: Mapping[str, Mapping[str, Any]], about: metric_text.About
) -> str:
    """A line a metric, a column a row of numbers."""
    head = "".join(f'<th scope="col" class="num">{escape(name)}</th>' for name in columns)
    lines = "".join(
        f'<tr><th scope="row">{escape(metric_text.title(key, about))} '
        f"<code>{escape(key)}</code></th>"
        + "".join(
            f'<td class="num">{escape(metric_text.value(row[key]) if key in row else "–")}</td>'
            for row in columns.values()
        )
        + "</tr>"
        for key in keys
    )
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Metric</th>'
        f"{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def protocol(run: RunFiles) -> str:
    """How the numbers came about, in sentences; what has no sentence is listed with its value."""
    body = _protocol_of(run, run.leading)
    if prototypes := prototypes_of(run):
        body = f"<p>Training drew both modalities towards prototypes of the classes: <b>{escape(prototypes)}</b>.</p>{body}"
    notes = run.summary.get("protocol_notes") or []
    if notes:
        body += "<h3>Notes</h3><ul>" + "".join(f"<li>{escape(n)}</li>" for n in notes) + "</ul>"
    for other in run.evaluations[1:]:
        body += f"<details><summary>Evaluation “{escape(other.name)}”</summary>{_protocol_of(run, other)}</details>"
    return section(
        "protocol", "Protocol", body, "What was compared with what, and how the scores are defined."
    )


def _protocol_of(run: RunFiles, evaluation: Evaluation) -> str:
    result = evaluation.result
    settings = protocol_of(run, evaluation)
    sentences = []
    dataset = result.get("dataset") or {}
    splits, items = dataset.get("splits"), dataset.get("items")
    if isinstance(splits, Mapping) and {"query", "gallery"} <= set(splits):
        sizes = items if isinstance(items, Mapping) else {}
        asked = (result.get("queries") or {}).get("name")
        several = asked and asked != dataset.get("name")
        of = {"query": f" of {asked}", "gallery": f" of {dataset.get('name')}"} if several else {}
        query, gallery = (
            f"{plain(splits[k])}{of.get(k, '')}{f' ({plain(sizes[k])} items)' if sizes.get(k) else ''}"
            for k in ("query", "gallery")
        )
        sentences.append(
            f"Queries: split {query}. Each is searched among the gallery: split {gallery}."
        )
    elif splits:
        sentences.append(f"Splits: {plain(splits)}{f' ({plain(items)} items)' if items else ''}.")
    for key, wording in _PROTOCOL.items():
        sentence = wording.get(str(settings.get(key)))
        if sentence:
            sentences.append(sentence)
            del settings[key]
    words = "".join(f"<li>{escape(s)}</li>" for s in sentences)
    if not sentences and not settings:
        return missing("The evaluation did not record its protocol.")
    body = (f"<ul>{words}</ul>" if words else "") + definitions(
        (_SETTINGS.get(k) or k.replace("_", " "), plain(v)) for k, v in settings.items()
    )
    meanings = [
        (f"{metric_text.title(key, evaluation.about)} ({key})", text)
        for key in evaluation.about
        if (text := metric_text.meaning(key, evaluation.about))
    ]
    return body + (f"<h4>What each metric is</h4>{definitions(meanings)}" if meanings else "")


def costs(run: RunFiles) -> str:
    """Training time and throughput, embedding and search speed, and what the index is."""
    timing = run.leading.result.get("timing") or {}
    index = run.leading.result.get("index") or {}
    rates = [
        v for e in run.events if e["split"] == "train" for k, v in e.items() if k == "items_per_s"
    ]
    finite = [v for v in rates if isinstance(v, int | float) and math.isfinite(v)]
    facts: list[tuple[str, object]] = [("Training", duration(run.summary.get("train_s")))]
    if finite:
        facts.append(("Training throughput", f"{short(float(np.median(finite)))} items/s (median)"))
    if isinstance(timing.get("embed_items_per_s"), int | float):
        facts.append(("Embedding", f"{short(timing['embed_items_per_s'])} items/s"))
    if isinstance(timing.get("search_ms_per_query"), int | float):
        facts.append(("Search", f"{short(timing['search_ms_per_query'])} ms per query"))
    facts += [
        (k.replace("_", " "), plain(v))
        for k, v in timing.items()
        if k not in ("embed_items_per_s", "search_ms_per_query")
    ]
    body = definitions(facts)
    if index:
        kind = {"exact": "exact search", "scann": "ScaNN"}.get(
            str(index.get("kind")), plain(index.get("kind"))
        )
        scoring = {
            "brute_force": "every item compared",
            "tree_ah": "tree partitions with quantised scores",
        }
        recall = index.get("recall_at_10")
        pairs = [
            ("Index", kind),
            ("Scoring", scoring.get(str(index.get("scoring")), plain(index.get("scoring")))),
            ("Items", plain(index.get("items"))),
        ]
        if isinstance(recall, int | float):
            pairs.append(
                (
                    "Recall@10 of the index",
                    f"{metric_text.value(float(recall))} of the true ten nearest are returned",
                )
            )
        known = ("kind", "scoring", "items", "recall_at_10")
        body += definitions(
            [*pairs, *((k.replace("_", " "), plain(v)) for k, v in index.items() if k not in known)]
        )
    else:
        body += missing("The evaluation recorded no index.")
    return section("costs", "Time and index", body)


def provenance(run: RunFiles) -> str:
    """Encoder, resolved config, versions and the data manifest."""
    meta = run.summary.get("meta") or {}
    blocks = []
    encoder = definitions(
        (k.replace("_", " "), plain(v)) for k, v in meta.items() if not isinstance(v, Mapping)
    )
    nested = "".join(
        f"<h4>{escape(k)}</h4>{definitions((n, plain(v)) for n, v in values.items())}"
        for k, values in meta.items()
        if isinstance(values, Mapping)
    )
    blocks.append(
        "<h3>Encoder</h3>"
        + (encoder + nested or missing("summary.json holds no description of the encoder."))
    )
    blocks.append("<h3>Data</h3>" + _manifest(run.manifest))
    versions = definitions((k, plain(v)) for k, v in run.versions.items())
    blocks.append("<h3>Versions</h3>" + (versions or missing("versions.json is missing.")))
    if run.config:
        text = json.dumps(run.config, indent=2, ensure_ascii=False)
        blocks.append(
            "<details><summary>Resolved configuration</summary><pre "
            f"tabindex='0'>{escape(text)}</pre></details>"
        )
    else:
        blocks.append(missing("config.json is missing."))
    return section(
        "provenance", "Provenance", "".join(blocks), "Everything needed to run this again."
    )


def _manifest(manifest: Mapping[str, Any]) -> str:
    if not manifest:
        return missing(
            "manifest.json is missing: how the data set was made is not recorded in this folder."
        )
    source = manifest.get("source")
    pairs: list[tuple[str, object]] = [
        (k.replace("_", " "), plain(manifest[k]))
        for k in ("name", "version", "up_axis")
        if manifest.get(k)
    ]
    pairs += (
        [(f"source: {k}", plain(v)) for k, v in source.items()]
        if isinstance(source, Mapping)
        else []
    )
    for split, info in (manifest.get("splits") or {}).items():
        pairs.append(
            (
                f"split {split}",
                f"{plain(info.get('items'))} items" if isinstance(info, Mapping) else plain(info),
            )
        )
    if manifest.get("class_names"):
        pairs.append(("classes", len(manifest["class_names"])))
    skipped = manifest.get("skipped") or []
    body = definitions(pairs)
    if not skipped:
        return body + '<p class="note">No file was skipped.</p>'
    rows = "".join(
        f"<tr><td>{escape(s.get('file', ''))}</td><td>{escape(s.get('reason', ''))}</td></tr>"
        if isinstance(s, Mapping)
        else f"<tr><td>{escape(s)}</td><td></td></tr>"
        for s in skipped[:_MAX_SKIPPED]
    )
    more = (
        f'<p class="note">and {len(skipped) - _MAX_SKIPPED:,} more, in the data set’s manifest.</p>'
        if len(skipped) > _MAX_SKIPPED
        else ""
    )
    return body + (
        f"<details{' open' if len(skipped) <= 5 else ''}>"
        f"<summary>{len(skipped):,} file{'s' * (len(skipped) > 1)} skipped</summary>"
        '<div class="scroll tall" tabindex="0">'
        f'<table><thead><tr><th scope="col">File</th><th scope="col">Reason</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{more}</details>"
    )
