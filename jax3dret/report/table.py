"""The report of a table of runs: one HTML page for people, one JSON file for programs, from
table.json and the runs' folders.

As self-contained and repeatable as the report of a run (`report.page`), whose style it shares.
Every row links to the report of its run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from jax3dret.core import files
from jax3dret.core.logging import read_metrics
from jax3dret.core.types import DataError
from jax3dret.report import metric_text
from jax3dret.report.charts import Series, escape, line_chart, short
from jax3dret.report.run_files import read_config, strict
from jax3dret.report.sections import definitions, duration, plain, section

FILE = "table.json"
_PUBLISHED = "published"  # the status of a row that nothing is run for
_COLUMNS = 4  # metrics in the first table; the last table has all
# How queries and gallery are compared: of the whole table where its rows agree, else of each row.
_COMPARED = ("distance", "self_match", "ties", "search")
_WORDS = {"tree_ah": "approximate, by a tree of ScaNN (tree_ah)"}
_STYLE = """
.state { white-space: nowrap; font-size: .85rem; } .state.done { color: var(--good); } .state.failed { color: var(--bad); }
.state.open { color: var(--muted); }
sup { color: var(--accent); font-size: .72rem; margin-left: 2px; }
td a, th a { color: var(--accent); } ol.notes { margin: 10px 0; padding-left: 1.4em; color: var(--muted); font-size: .92rem; }
.sd { color: var(--muted); font-size: .82rem; }
.why code { margin: 0; overflow-wrap: anywhere; }
tr.idle th, tr.idle td { color: var(--muted); }
tbody th { min-width: 13.5rem; } tbody th code { display: block; margin: 0; }
"""


def write_report(workdir: pathlib.Path) -> pathlib.Path:
    """Writes report/index.html and report/metrics.json of a table's workdir, and returns the path
    of the page.

    Raises:
        ConfigError: an earlier version wrote it.
        DataError: the workdir holds no table.json, or it cannot be read.
    """
    workdir = pathlib.Path(workdir)
    read_config(workdir)
    try:
        table = json.loads((workdir / FILE).read_text(encoding="utf-8"))
        rows = table["rows"]
    except FileNotFoundError:
        raise DataError(f"{workdir}: holds no {FILE}; give the --workdir of a table") from None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{workdir / FILE}: not a table ({error})") from error
    curves = {row["name"]: _events(workdir, row) for row in rows}
    numbers = json.dumps(metrics_json(table), indent=2, ensure_ascii=False, allow_nan=False)
    folder = workdir / "report"
    files.write_text(folder / "metrics.json", numbers + "\n", errors="replace")
    files.write_text(folder / "index.html", page(table, curves), errors="replace")
    return folder / "index.html"


def metrics_json(table: Mapping[str, Any]) -> dict[str, Any]:
    """report/metrics.json: as a run's, where a metric is called "ROW/METRIC" and is the mean over
    the seeds.
    """
    rows = table["rows"]
    return strict(
        {
            "system": table.get("system"),
            "config": table.get("config"),
            "dataset": table.get("data") or {},
            "encoder": {},
            # Where the rows differ, each row's own says how.
            "protocol": {k: _of_all(rows, k) for k in _COMPARED},
            "metrics": {
                f"{row['name']}/{k}": v["mean"] for row in rows for k, v in row["metrics"].items()
            },
            "published": {k: v for row in rows for k, v in row["published"].items()},
            "index": {},
            "timing": {"train_s": _total(row["protocol"].get("train_s") for row in rows)},
            "run": _run(table),
            "rows": rows,
        }
    )


def _of_all(rows: Sequence[Mapping[str, Any]], key: str) -> Any:
    """What the protocols of all rows say; None where they differ, or where there is none."""
    said = [row["protocol"].get(key) for row in rows if row["protocol"]]
    return said[0] if said and all(value == said[0] for value in said) else None


def _run(table: Mapping[str, Any]) -> dict[str, Any]:
    """As the `run` of a report of one run: the table's own command, the last day, every device and
    version.
    """
    runs = [run.get("run") or {} for row in table["rows"] for run in row["runs"]]

    def every(key: str) -> str:
        return ", ".join(dict.fromkeys(str(run[key]) for run in runs if run.get(key)))

    return {
        "command": table.get("command"),
        "seed": table.get("seeds"),
        "date": max((run["date"] for run in runs if run.get("date")), default=None),
        "device": every("device"),
        "version": every("version"),
    }


def page(table: Mapping[str, Any], curves: Mapping[str, Mapping[str, Series]]) -> str:
    """The whole page as text. curves: row -> metric -> its values over steps, where a row was
    evaluated as it trained.
    """
    package = importlib.resources.files("jax3dret.report")
    style = (package / "report.css").read_text(encoding="utf-8") + _STYLE
    script = (package / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    parts = [
        ("results", "Results", _results(table)),
        ("curves", "Curves", _curves(curves, _about(table))),
        ("open", "Not run", _open(table)),
        ("protocol", "Protocol", _protocol(table)),
        ("metrics", "All metrics", _all_metrics(table)),
    ]
    parts = [part for part in parts if part[2]]
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name, _ in parts)
    body = "".join(section(anchor, name, text) for anchor, name, text in parts)
    title = escape(table.get("title") or table.get("config"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title} · jax3dret report</title><style>{style}</style></head>\n"
        f'<body><div class="page">{_header(table)}<nav '
        f'aria-label="Sections">{links}</nav><main>{body}</main>'
        "<footer>Written by jax3dret from the files beside this "
        f"report.</footer></div>\n<script>{script}</script></body></html>\n"
    )


def _header(table: Mapping[str, Any]) -> str:
    rows, data = table["rows"], table.get("data") or {}
    done = sum(row["status"] == "done" for row in rows)
    run = sum(row["status"] != _PUBLISHED for row in rows)
    facts = [
        f"data <b>{escape(data.get('name'))}</b>",
        f"<b>{done}</b> of <b>{run}</b> rows done",
    ]
    seeds = table.get("seeds") or []
    facts.append(f"seed{'s' * (len(seeds) > 1)} <b>{escape(plain(seeds))}</b>")
    timed = [*rows, *table.get("stages", ())]
    seconds = _total(run.get("seconds") for row in timed for run in row["runs"])
    facts += [f"<b>{duration(seconds)}</b> in all"] if seconds else []
    line = " <span aria-hidden='true'>·</span> ".join(facts)
    head = f'<p class="overline">jax3dret · {escape(table.get("config"))}</p><h1>{escape(table.get("title") or "Table")}</h1>'
    return f'<header>{head}<p class="about">{line}</p></header>'


def _results(table: Mapping[str, Any]) -> str:
    """Measured, published, difference: a line a row, with footnotes."""
    rows, about = table["rows"], _about(table)
    keys, compared = leading_metrics(rows), compared_metric(rows)
    notes: list[str] = []
    lines = []
    left_out = [row for row in rows if row["status"] == "left out" and not row["published"]]
    for row in rows:
        if row in left_out:
            continue
        marks = []
        for note in row["notes"]:
            notes += [note] if note not in notes else []
            marks.append(f"<sup>{notes.index(note) + 1}</sup>")
        # The last note says what differs; its number stands beside the published one too.
        warning = f" ⚠{marks[-1]}" if row.get("differs") and marks else ""
        cells = [f'<th scope="row">{_link(row)}{"".join(marks)}</th>']
        cells += [_value(row, key, bar=True) for key in keys[:1]]
        if compared:
            paper = next((v[compared] for v in row["published"].values() if compared in v), None)
            difference = row["difference"].get(compared)
            cells.append(_number("–" if paper is None else f"{100 * paper:.1f}{warning}"))
            cells.append(_number("–" if difference is None else f"{100 * difference:+.1f}"))
        cells += [_value(row, key) for key in keys[1:]]
        cells += [_number(duration(_seconds(row)) if _seconds(row) else "–"), _state(row)]
        idle = "" if row["metrics"] else ' class="idle"'
        lines.append(f"<tr{idle}>{''.join(cells)}</tr>")
    names = [metric_text.title(key, about) for key in keys]
    names[1:1] = ["published", "difference"] if compared else []
    names.append("time")
    head = '<th scope="col">Row</th>' + "".join(
        f'<th scope="col" class="num">{escape(n)}</th>' for n in names
    )
    body = _table(head + '<th scope="col">Status</th>', lines)
    said = [*table.get("notes", ())]
    said.append("Values are per cent." + _spread(table))
    if left_out:
        said.append(
            f"{len(left_out)} further rows were left out; they stand below, with the commands that "
            "run them."
        )
    if compared:
        said.append(
            "Published numbers were measured by the paper’s authors on the paper’s data and "
            "weights; a difference is measured "
            "less published, in points."
        )
    body += "".join(f'<p class="note">{escape(s)}</p>' for s in said) + _stages(table)
    return body + (
        f'<ol class="notes">{"".join(f"<li>{escape(n)}</li>" for n in notes)}</ol>' if notes else ""
    )


def _stages(table: Mapping[str, Any]) -> str:
    """Links to the runs that rows start from."""
    links = [_link(stage) for stage in table.get("stages", ())]
    return f'<p class="note">Runs that rows start from: {", ".join(links)}.</p>' if links else ""


def _spread(table: Mapping[str, Any]) -> str:
    seeds = table.get("seeds") or []
    if len(seeds) > 1:
        return f" Of {len(seeds)} seeds: mean ± standard deviation."
    several = any(len(row["protocol"].get("evaluation_seeds") or ()) > 1 for row in table["rows"])
    return " ± is the standard deviation over evaluations of one training." if several else ""


def _curves(curves: Mapping[str, Mapping[str, Series]], about: metric_text.About) -> str:
    """One chart a metric, a line a row."""
    keys = metric_text.ordered(
        dict.fromkeys(k for metrics in curves.values() for k in metrics), about
    )
    panels = []
    for key in keys[:4]:
        series = [
            metrics[key]._replace(name=row) for row, metrics in curves.items() if key in metrics
        ]
        panels.append(line_chart(metric_text.title(key, about), series, percent=True))
    return f'<div class="panels">{"".join(panels)}</div>' if panels else ""


def _open(table: Mapping[str, Any]) -> str:
    """Rows without a number: why, and the command that runs each alone."""
    lines = []
    for row in table["rows"]:
        if row["status"] in ("done", _PUBLISHED):
            continue
        command = f"<code>{escape(row['command'])}</code>" if row["command"] else "–"
        css = "" if ":" in row["status"] else "state"
        lines.append(
            f'<tr><th scope="row">{escape(row["name"])}</th><td '
            f'class="{css}">{escape(row["status"])}</td>'
            f'<td class="why">{command}</td></tr>'
        )
    if not lines:
        return ""
    lead = (
        '<p class="lead">The table’s own command runs what is missing, and with '
        "--config.rows=REGEX what was left out "
        "(--config.rows=. for all). Each row is also a run of its own, which the table then "
        "collects.</p>"
    )
    head = '<th scope="col">Row</th><th scope="col">Status</th><th scope="col">Command</th>'
    return lead + _table(head, lines)


def _protocol(table: Mapping[str, Any]) -> str:
    """What all rows share, then what each row does."""
    done = [row for row in table["rows"] if row["protocol"]]
    if not done:
        return ""
    facts = [row["protocol"] for row in done]
    shared = [
        (key.replace("_", " "), _said(facts[0], key))
        for key in (*_COMPARED, "points")
        if _of_all(done, key) is not None
    ]
    apart = [k for k in _COMPARED if _of_all(done, k) is None and any(f.get(k) for f in facts)]
    data = facts[0]["data"]
    if all(f["data"] == data for f in facts):
        shared += [("data", f"{plain(data['name'])} {plain(data['version'])}")]
        shared += [(key, plain(data[key])) for key in ("splits", "items")]
    one_size = all(f["points"] == facts[0]["points"] for f in facts)
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        **{key.replace("_", " "): functools.partial(_said, key=key) for key in apart},
        "weights": lambda f: plain(f["weights"]),
        "steps": lambda f: plain(f["steps"]),
        "batch": lambda f: "–" if f["batch"] is None else plain(f["batch"]),
        "learning rate": lambda f: "–" if f["learning_rate"] is None else short(f["learning_rate"]),
        "schedule": lambda f: "–" if f["schedule"] is None else _schedule(f["schedule"]),
        **({} if one_size else {"points": lambda f: plain(f["points"])}),
        **(
            {"pictures": lambda f: plain(f.get("pictures") or "–")}
            if any(f.get("pictures") for f in facts)
            else {}
        ),
        "parameters": lambda f: plain(f["parameters"]),
        "seeds": lambda f: plain(f["seeds"]),
        "evaluation seeds": lambda f: plain(f.get("evaluation_seeds") or f["seeds"]),
        "training": lambda f: duration(f["train_s"]) if f["steps"] else "–",
    }
    words = ("weights", "schedule", "pictures", *(key.replace("_", " ") for key in apart))
    lines = [
        f'<tr><th scope="row">{_link(row)}<code>{escape(row["protocol"]["config"])}</code></th>'
        + "".join(
            f"<td>{escape(show(row['protocol']))}</td>"
            if name in words
            else _number(escape(show(row["protocol"])))
            for name, show in columns.items()
        )
        + "</tr>"
        for row in done
    ]
    head = '<th scope="col">Row</th>' + "".join(
        f'<th scope="col"{"" if name in words else " class=num"}>{name}</th>' for name in columns
    )
    return definitions(shared) + _table(head, lines)


def _said(protocol: Mapping[str, Any], key: str) -> str:
    value = protocol.get(key)
    return _WORDS.get(str(value), plain(value))


def _all_metrics(table: Mapping[str, Any]) -> str:
    """Every number of every row: measured, or of a row that the paper alone has."""
    rows, about = [_with_published(row) for row in table["rows"]], _about(table)
    rows = [row for row in rows if row["metrics"]]
    if not rows:
        return ""
    keys = metric_text.ordered(dict.fromkeys(k for row in rows for k in row["metrics"]), about)
    head = '<th scope="col">Metric</th>' + "".join(
        f'<th scope="col" class="num">{escape(row["name"])}</th>' for row in rows
    )
    lines = [
        f'<tr><th scope="row">{escape(metric_text.title(key, about))}'
        f"<code>{escape(key)}</code></th>" + "".join(_value(row, key) for row in rows) + "</tr>"
        for key in keys
    ]
    return _table(head, lines)


def _with_published(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row that nothing is run for has the published numbers in place of measured ones."""
    if row["status"] != _PUBLISHED:
        return row
    numbers = {key: value for each in row["published"].values() for key, value in each.items()}
    return {**row, "metrics": {k: {"mean": v, "sd": None} for k, v in numbers.items()}}


def _about(table: Mapping[str, Any]) -> metric_text.About:
    """What the metrics of any row are."""
    return _about_rows(table["rows"])


def _about_rows(rows: Sequence[Mapping[str, Any]]) -> metric_text.About:
    entries = (metric_text.read_about(row.get("about")) for row in rows)
    return {key: entry for about in entries for key, entry in about.items()}


def compared_metric(rows: Sequence[Mapping[str, Any]]) -> str:
    """The metric that stands beside the paper's: the first of the first published numbers; empty
    where there are none.
    """
    return next((key for row in rows for v in row["published"].values() for key in v), "")


def leading_metrics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that a table of several rows leads with, of those that its rows have: the
    compared one, then as papers do.

    How well the index does is not one of the rows' results.
    """
    have = dict.fromkeys(k for row in rows for k in row["metrics"])
    keys = metric_text.ordered(have, _about_rows(rows))
    keys = [key for key in keys if "/" not in key and key != "index_recall_at_10"]
    first = compared_metric(rows)
    return [*([first] if first else []), *(key for key in keys if key != first)][:_COLUMNS]


def _value(row: Mapping[str, Any], key: str, *, bar: bool = False) -> str:
    value = row["metrics"].get(key)
    if value is None:
        return _number("–")
    mean, spread = value["mean"], value["sd"]
    is_share = 0 <= mean <= 1
    text = f"{100 * mean:.1f}" if is_share else short(mean)
    if spread is not None:
        text += f' <span class="sd">± {100 * spread if is_share else spread:.1f}</span>'
    if bar and is_share:
        return (
            f'<td class="num bar" style="--share:{100 * mean:.1f}%" data-v="{mean:.6f}">{text}</td>'
        )
    return _number(text)


def _link(row: Mapping[str, Any]) -> str:
    """The row's name, linked to the report of its first finished run, and links to those of further
    seeds.
    """
    name = escape(row["name"])
    done = [run for run in row["runs"] if run["status"] == "done"]
    if not done:
        return name
    links = [
        f'<a href="../rows/{escape(quote(run["workdir"]))}/report/index.html">' for run in done
    ]
    more = "".join(
        f" · {link}seed {run['seed']}</a>" for link, run in zip(links[1:], done[1:], strict=True)
    )
    return f"{links[0]}{name}</a>{more}"


def _state(row: Mapping[str, Any]) -> str:
    kind = row["status"].partition(":")[0]
    css = kind if kind in ("done", "failed") else "open"
    link = kind if kind in ("done", _PUBLISHED) else f'<a href="#open">{escape(kind)}</a>'
    return f'<td class="state {css}">{link}</td>'


def _schedule(schedule: Mapping[str, Any]) -> str:
    settings = plain({k: v for k, v in schedule.items() if k != "name"})
    return str(schedule["name"]).replace("_", " ") + (
        f" ({settings.replace('_', ' ')})" if settings else ""
    )


def _seconds(row: Mapping[str, Any]) -> float | None:
    return _total(run.get("seconds") for run in row["runs"])


def _total(values: Any) -> float | None:
    known = [v for v in values if isinstance(v, int | float)]
    return round(sum(known), 1) if known else None


def _number(text: str) -> str:
    return f'<td class="num">{text}</td>'


def _table(head: str, lines: Sequence[str]) -> str:
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _events(workdir: pathlib.Path, row: Mapping[str, Any]) -> dict[str, Series]:
    """The run's metrics over steps of a row's first finished run; empty where it was evaluated but
    once."""
    run = next((run for run in row["runs"] if run["status"] == "done"), None)
    path = workdir / "rows" / (run["workdir"] if run else "") / "metrics.jsonl"
    if run is None or not path.is_file():
        return {}
    events = {
        e["step"]: e for e in read_metrics(path) if e["split"] == row.get("evaluator", "retrieval")
    }
    steps = sorted(events)
    if len(steps) < 2:
        return {}
    keys = [
        k for k in events[steps[-1]] if k not in ("step", "split", "time", "index_recall_at_10")
    ]
    return {
        k: Series(
            k, np.array(steps, float), np.array([float(events[s].get(k, np.nan)) for s in steps])
        )
        for k in keys
    }
