"""What the runs of a table left, as the table: means over seeds, published numbers, protocol,
status.
"""

from __future__ import annotations

import json
import math
import pathlib
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from jax3dret.core import checkpoint, files
from jax3dret.core import config as configs
from jax3dret.core.config_version import require_current
from jax3dret.core.types import ConfigError
from jax3dret.experiments import every_row
from jax3dret.experiments.rows import Row, TableRun, read_json
from jax3dret.report.published import Comparison, compare
from jax3dret.report.table import compared_metric, leading_metrics

FILE = "table.json"
DONE = "done"
PUBLISHED = "published"  # of a row that nothing is run for
# Characters of a status; the list of what is missing was logged, and the page has it.
_STATUS = 60
_OF_A_ROW = ("protocol", "about", "evaluator", "spread")


def result(run: TableRun, seconds: float | None) -> dict[str, Any]:
    """What a run left in its folder: {"seed", "workdir", "status", "seconds", "metrics",
    "protocol", "system", "run"}.

    status: "done", or "missing: ..." with what is lacking. A folder of another config, or of a run
    that is not finished, has no metrics. seconds: of the process, all of its starts together.
    """
    status, report, summary = _state(run)
    found: dict[str, Any] = {
        "seed": run.seed,
        "workdir": run.folder.name,
        "status": status,
        "seconds": seconds,
    }
    if status == DONE and run.config is not None:
        metrics = dict(report.get("metrics") or {})
        for name, further in (report.get("evaluators") or {}).items():
            metrics |= {f"{name}/{k}": v for k, v in further.items()}
        found["metrics"] = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        found["about"] = report.get("about") or {}
        found["evaluator"] = next(iter(summary.get("evaluators") or ()), "retrieval")
        found["protocol"] = _protocol(run, report, summary)
        found["spread"] = report.get("spread") or {}
        found["system"] = report.get("system")
        found["run"] = report.get("run") or {}
    return found


def row_result(
    row: Row,
    runs: Sequence[TableRun],
    results: Sequence[dict[str, Any]],
    stages: Sequence[TableRun],
    changed: Sequence[str],
) -> dict[str, Any]:
    """One line of the table from its runs, one for each seed, and the stages of the first of them.

    changed: settings from config.every_row that may change its results, "KEY=VALUE"; no published
    number stands beside such a row.
    """
    done = [r for r in results if r["status"] == DONE]
    metrics = _over_seeds([r["metrics"] for r in done])
    if len(done) == 1:  # what its evaluations differ by, where it has several
        for key, spread in done[0]["spread"].items():
            metrics[key] = {**metrics[key], "sd": spread}
    config = runs[0].config
    notes = [row.note] if row.note else []
    notes += every_row.notes(runs[0].every)
    compared = _compared(runs[0], changed)
    if compared.left_out:
        notes.append(f"The paper's number is left out: {compared.left_out}.")
    if compared.differs:
        notes.append(
            "The paper's number is of other data or another protocol: "
            f"{'; '.join(compared.differs)}."
        )
    return {
        "name": row.name,
        "status": _status(row, results),
        "metrics": metrics,
        "about": done[0]["about"] if done else {},
        "evaluator": done[0]["evaluator"] if done else "",
        "published": compared.rows,
        "difference": _difference(metrics, compared.rows),
        "differs": compared.differs,
        "protocol": {**done[0]["protocol"], "seeds": [r["seed"] for r in done]} if done else {},
        "notes": notes,
        "chosen": row.chosen,
        "command": " && ".join(r.command() for r in (*stages, runs[0]))
        if config is not None
        else "",
        "stages": list(row.stages),
        "runs": [{k: v for k, v in r.items() if k not in _OF_A_ROW} for r in results],
    }


def published_result(row: Row) -> dict[str, Any]:
    """One line of the table that has published numbers alone."""
    return {
        "name": row.name,
        "status": PUBLISHED,
        "metrics": {},
        "about": {},
        "evaluator": "",
        "published": dict(row.published),
        "difference": {},
        "differs": [],
        "protocol": {},
        "notes": [],
        "chosen": False,
        "command": "",
        "stages": [],
        "runs": [],
    }


def text(table: Mapping[str, Any]) -> str:
    """The table for a terminal: shares in per cent, +- the standard deviation where there are
    several seeds.
    """
    rows = table["rows"]
    keys, compared = leading_metrics(rows), compared_metric(rows)
    lines = [["row", *keys, *(["paper", "diff"] if compared else []), "status"]]
    for r in rows:
        cells = [r["name"], *(_share(r["metrics"].get(k)) for k in keys)]
        if compared:
            paper = next((v[compared] for v in r["published"].values() if compared in v), None)
            difference = r["difference"].get(compared)
            mark = "*" if r["differs"] else ""
            cells += ["-" if paper is None else f"{100 * paper:.1f}{mark}"]
            cells += ["-" if difference is None else f"{100 * difference:+.1f}"]
        lines.append([*cells, textwrap.shorten(r["status"], _STATUS, placeholder=" ...")])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
    table_lines = [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(line[1:-1], widths[1:], strict=True)),
                line[-1],
            ]
        )
        for line in lines
    ]
    notes = [table["title"], *table["notes"]]
    searches = dict.fromkeys(r["protocol"].get("search") for r in rows if r["protocol"])
    if named := [str(kind) for kind in searches if kind]:
        notes.append(f"search: {', '.join(named)}")
    if compared:
        notes.append(f"paper: {compared} as published; diff: measured less published, in points")
        for differs in dict.fromkeys("; ".join(r["differs"]) for r in rows if r["differs"]):
            names = [r["name"] for r in rows if "; ".join(r["differs"]) == differs]
            notes.append(f"* {', '.join(names)}: the published number is not of this: {differs}")
    if any(r["status"] == "left out" for r in rows):
        notes.append(
            "left out: --config.rows=REGEX runs such rows too, --config.rows=. all of them"
        )
    return "\n".join([notes[0], "", *table_lines, "", *notes[1:]]).rstrip()


def write(folder: pathlib.Path, table: Mapping[str, Any]) -> None:
    """Writes table.json."""
    files.write_json(folder / FILE, table, indent=2, allow_nan=False)


def in_the_way(run: TableRun) -> str:
    """What a run's folder holds that keeps it from being run there, and what to do; empty where
    nothing does.

    A folder in which nothing was computed yet, or that only has to be evaluated again, is none.
    """
    theirs = read_json(run.folder / "config.json")
    log = run.folder / "metrics.jsonl"
    computed = saved_step(run.folder) is not None or (log.is_file() and log.stat().st_size > 0)
    if run.config is None or not theirs or not computed:
        return ""
    try:
        require_current(theirs, run.folder)
        changed = [*configs.differences(run.config, theirs), *_other_start(run, theirs)]
    except ConfigError:
        changed = ["an earlier version wrote it"]
    if not changed:
        return ""
    return (
        f"{run.folder} holds a run of another config: {changed[0]}; remove that folder to run the "
        "row anew"
    )


def _other_start(run: TableRun, theirs: Mapping[str, Any]) -> list[str]:
    """As `configs.differences`, of where a run begins, which may change while it is resumed."""
    init_from = (theirs.get("checkpoint") or {}).get("init_from", "")
    if run.config is None or _same_start(run, init_from):
        return []
    ours = run.config.checkpoint.init_from
    return [f"checkpoint.init_from: '{init_from}' there, '{ours}' here"]


def _state(run: TableRun) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(status, report/metrics.json, summary.json) of a run's folder."""
    nothing: dict[str, Any] = {}
    theirs = read_json(run.folder / "config.json")
    if run.config is None or run.problem or not theirs:
        return f"missing: {run.problem or 'not run yet'}", nothing, nothing
    changed = configs.differences(run.config, theirs, evaluation=True)
    changed += _other_start(run, theirs)
    if changed:
        return (
            f"missing: {run.folder} holds a run of another config: {changed[0]}",
            nothing,
            nothing,
        )
    report, summary = (
        read_json(run.folder / "report" / "metrics.json"),
        read_json(run.folder / "summary.json"),
    )
    at = saved_step(run.folder)
    if not report or not summary:
        return (
            f"missing: not finished, {f'saved at step {at}' if at is not None else 'nothing saved'}",
            nothing,
            nothing,
        )
    if summary.get("steps", 0) < summary.get("planned_steps", 0):
        return f"missing: not finished, saved at step {at}", nothing, nothing
    return DONE, report, summary


def _same_start(run: TableRun, init_from: str) -> bool:
    """Whether a run began with the weights that it would begin with now; a whole table may have
    been moved.
    """
    ours = run.config.checkpoint.init_from if run.config is not None else ""
    if not ours or not init_from:
        return bool(ours == init_from)
    here, there = pathlib.Path(ours).resolve(), pathlib.Path(init_from).resolve()
    # The first of two stages of one process lies in the run's own folder.
    moves = bool(run.starts_from) or here.parent == run.folder.resolve()
    return here == there or (moves and here.name == there.name)


def saved_step(folder: pathlib.Path) -> int | None:
    """The last step that a run saved; None if it saved nothing."""
    return max(
        (int(p.name) for p in (folder / checkpoint.FOLDER).glob("*") if p.name.isdigit()),
        default=None,
    )


def _status(row: Row, results: Sequence[Mapping[str, Any]]) -> str:
    """Of a row: done if all its seeds are, else the first that failed, else the first that is
    missing.
    """
    others = [r for r in results if r["status"] != DONE]
    if not others:
        return DONE
    first = next((r for r in others if r["status"].startswith("failed")), others[0])
    kind, _, why = first["status"].partition(": ")
    if not row.chosen and kind == "missing" and why == "not run yet":
        return "left out"
    seeds = f"seed {first['seed']}: " if len(results) > 1 else ""
    return f"{kind}: {seeds}{why}"


def _over_seeds(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """metric -> {"mean", "sd" (of a sample; None for one seed), "values"}, of the metrics that all
    seeds have. A run of several evaluations counts by its means.
    """
    if not metrics:
        return {}
    shared = [k for k in metrics[0] if all(math.isfinite(m.get(k, math.nan)) for m in metrics)]
    values = {k: [float(m[k]) for m in metrics] for k in shared}
    return {
        k: {
            "mean": statistics.fmean(v),
            "sd": statistics.stdev(v) if len(v) > 1 else None,
            "values": v,
        }
        for k, v in values.items()
    }


def _compared(run: TableRun, changed: Sequence[str]) -> Comparison:
    """The paper's numbers that may stand beside what a run has measured, or will measure."""
    if run.config is None:
        return Comparison({}, [])
    published = run.config.published.to_dict()
    if published and changed:
        why = f"config.every_row changes the settings ({', '.join(changed)})"
        return Comparison({}, [], why)
    return compare(
        published,
        config=json.loads(configs.dump(run.config)),
        manifest=read_json(run.folder / "manifest.json"),
        result=read_json(run.folder / "report" / "metrics.json"),
    )


def _difference(
    metrics: Mapping[str, Any], published: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Measured less published, of the first published row that has the metric."""
    paper: dict[str, float] = {}
    for numbers in published.values():
        paper = {**numbers, **paper}
    return {k: metrics[k]["mean"] - v for k, v in paper.items() if k in metrics}


def _protocol(
    run: TableRun, report: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """What a reader must know to compare a row: data, distance, network, weights, training."""
    assert run.config is not None
    config = run.config
    encoder, stated = report.get("encoder") or {}, report.get("protocol") or {}
    dataset, settings = report.get("dataset") or {}, config.optim.to_dict()
    schedule = {k: v for k, v in settings["schedule"].items() if k != "name"}
    steps = summary.get("steps")
    # Where the parameters begin is told by the run itself.
    others = [f"{key} {value}" for key, value in run.given if key != "checkpoint.init_from"]
    return {
        "config": summary.get("config"),
        "distance": stated.get("distance"),
        "self_match": stated.get("self_match"),
        "ties": stated.get("ties"),
        "search": stated.get("search"),
        "evaluation_seeds": stated.get("evaluation_seeds"),
        "pictures": stated.get("pictures"),
        "data": {k: dataset.get(k) for k in ("name", "version", "splits", "items")},
        "points": encoder.get("num_points"),
        "parameters": encoder.get("parameters"),
        "weights": "; ".join([str(encoder.get("weights")), *others]),
        "steps": steps,
        "batch": config.train.batch_size if steps else None,
        "learning_rate": settings["lr"] if steps else None,
        "schedule": {"name": settings["schedule"]["name"].partition(":")[2], **schedule}
        if steps
        else None,
        "train_s": (report.get("timing") or {}).get("train_s"),
    }


def _share(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    spread = "" if value["sd"] is None else f" +- {100 * value['sd']:.1f}"
    return f"{100 * value['mean']:.1f}{spread}"
