"""A table of experiments as one command: every row an ordinary run, collected beside the published numbers.

`config.table` lists the rows (`experiments.rows.row`). Each is run as `python -m jax3dret.main` runs it, in
WORKDIR/rows/ROW[-seedN]/ with a report of its own, and in a process of its own, so that memory comes back and a run that
crashes is one failed row. What is missing is found out before anything is trained. Then WORKDIR has

    table.json              the rows: metrics over seeds, published numbers, protocol, status
    report/index.html       the same for people, report/metrics.json in the form of every report
    rows/, logs/            the runs, and what each process said

    rows.py       rows, and what they lack
    children.py   one process after the other
    results.py    from their folders to the table
"""

from __future__ import annotations

import logging
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.experiments import results
from jax3dret.experiments import rows as rows_of
from jax3dret.experiments.children import Children
from jax3dret.experiments.rows import Row, Run

log = logging.getLogger("jax3dret")
SAVED, FAILED = 0, 1
# Share of a data set that may be lacking before a published number no longer stands beside it.
_LACKING = 0.02
# Settings that change no result.
_HARMLESS = (
    "data.num_threads=",
    "eval.every=",
    "eval.batch_size=",
    "checkpoint.every=",
    "checkpoint.keep=",
    "log.",
    "mesh.",
)


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: the spine's (a table reads its data section alone), and what makes a table."""
    config = configs.spine()
    config.task = "jax3dret.experiments.tables"
    config.system = "ulip2"
    config.title = ""
    config.notes = ()  # sentences under the table
    config.table = ()  # the rows, see experiments.rows:row
    config.rows = ""  # regular expression over row names; empty: all but the extra ones
    config.seeds = (
        0,
    )  # each row is a run for each seed: initial weights, order, augmentation and evaluation sampling
    config.collect = False  # only what is finished: no run is started
    config.every_row = ()  # "KEY=VALUE" settings for every row; no published number stands beside such rows
    for name in rows_of.NEEDS:
        config[name] = ""  # what the user brings, see experiments.rows.NEEDS
    return config


def plan(
    config: configs.Config,
    *,
    full_name: str,
    workdir: pathlib.Path,
    mode: str,
    configs_at: pathlib.Path,
    prepare_data: Callable[[configs.Config], str],
    write_report: Callable[[pathlib.Path], pathlib.Path],
    children: Callable[[], Children] = Children,
) -> Callable[[], int]:
    """Reads the whole config and returns the work, which returns the exit code.

    full_name: "file:variant". mode: of every row. configs_at: the folder in which the rows' configs lie. prepare_data: builds
    the data set of a config, raising ConfigError for raw files that were not given. write_report: writes the page of a workdir.

    Raises:
        ConfigError: rows, seeds or settings are wrong, or the workdir is another table's.
    """
    other = rows_of.read_json(workdir / results.FILE).get("config", full_name)
    if other != full_name:
        raise ConfigError(
            f"{workdir} holds another table: {other} there, {full_name} here; give another --workdir"
        )
    rows = rows_of.read_rows(config)
    table = _Table(
        config=config,
        about={
            "system": config.system,
            "config": full_name,
            "title": config.title,
            "notes": list(config.notes),
            "seeds": list(rows_of.read_seeds(config)),
        },
        workdir=workdir,
        rows=rows,
        runs=rows_of.plan_runs(config, rows, workdir / "rows", configs_at),
        write_report=write_report,
    )
    for key in ("name", "data_dir", "manual_dir"):
        config.data[key]  # read, so that what a finished table no longer needs may still be given
    steps = "collect" if config.collect else mode
    return lambda: _work(table, steps, prepare_data, children)


class _Table:
    """The runs, what stopped each in this command, and the files of the table."""

    def __init__(
        self,
        *,
        config: configs.Config,
        about: dict[str, Any],
        workdir: pathlib.Path,
        rows: list[Row],
        runs: list[Run],
        write_report: Callable[[pathlib.Path], pathlib.Path],
    ) -> None:
        self.config, self.workdir, self.rows, self.runs = config, workdir, rows, runs
        self.chosen = [run for run in runs if run.row.chosen]
        self.stopped: dict[pathlib.Path, str] = {
            run.folder: f"missing: {run.problem}" for run in runs if run.problem
        }
        self._about, self._write_report = about, write_report
        earlier = [run for row in self._earlier() for run in row.get("runs", ())]
        self.seconds = {run["workdir"]: run.get("seconds") for run in earlier}

    def _earlier(self) -> list[dict[str, Any]]:
        return rows_of.read_json(self.workdir / results.FILE).get("rows", [])

    def result(self, run: Run) -> dict[str, Any]:
        """What the run left; why it is not there, where this command knows."""
        found = results.result(run, self.seconds.get(run.folder.name))
        if found["status"] != results.DONE and run.folder in self.stopped:
            found["status"] = self.stopped[run.folder]
        return found

    def is_done(self, run: Run) -> bool:
        return bool(self.result(run)["status"] == results.DONE)

    def save(self) -> dict[str, Any]:
        """Writes table.json and the report as things stand."""
        lines = []
        for row in self.rows:
            runs = [run for run in self.runs if run.row.name == row.name]
            found = [self.result(run) for run in runs]
            manifest = rows_of.read_json(runs[0].folder / "manifest.json")
            lines.append(results.row_result(row, runs, found, self._not_comparable(manifest)))
        data = next(
            (r["protocol"]["data"] for r in lines if r["protocol"]), {"name": self.config.data.name}
        )
        table = {**self._about, "data": data, "rows": lines}
        results.write(self.workdir, table)
        self._write_report(self.workdir)
        return table

    def _not_comparable(self, manifest: Mapping[str, Any]) -> str:
        changes = [
            setting for setting in self.config.every_row if not setting.startswith(_HARMLESS)
        ]
        if changes:
            return f"config.every_row changes the settings ({', '.join(changes)})"
        source = manifest.get("source") or {}
        if source.get("complete") is not False:
            return ""
        counts = source.get("counts") or {}
        published = source.get("official_counts") or source.get("published_counts") or {}
        if counts.keys() == published.keys() and all(
            abs(counts[k] - published[k]) <= _LACKING * published[k] for k in published
        ):
            return ""
        return f"the prepared data is not the published set ({counts} instead of {published})"


def _work(
    table: _Table,
    mode: str,
    prepare_data: Callable[[configs.Config], str],
    children: Callable[[], Children],
) -> int:
    # Accelerators belong to the rows: this process must not hold their memory.
    jax.config.update("jax_platforms", "cpu")
    todo = [run for run in table.chosen if not table.is_done(run)]
    if mode == "eval":
        todo = [run for run in todo if results.saved_step(run.folder) is not None]
    finished = not todo
    if mode == "collect":
        todo = []
    _find_missing(table, todo, prepare_data)
    todo = [run for run in todo if run.folder not in table.stopped]
    interrupted = ""
    if todo:
        with children() as started:
            _run(table, todo, mode, started)
            interrupted = started.signal
    shown = table.save()
    sys.stdout.write(results.text(shown) + "\n")
    sys.stdout.flush()
    page = table.workdir / "report" / "index.html"
    if interrupted:
        log.info("%s: the runs are saved; the same command goes on from there", interrupted)
        return SAVED if interrupted == "SIGTERM" else FAILED
    log.info("this table is finished: %s" if finished else "report: %s", page)
    states = [row["status"] for row in shown["rows"] if row["chosen"]]
    if any(state.startswith("failed") for state in states):
        return FAILED
    if mode != "train" and results.DONE not in states:
        first = next(state for state in states if state != results.DONE)
        if mode != "collect" and all(run.folder in table.stopped for run in table.chosen):
            raise ConfigError(
                f"no row can be run; the first lacks: {first.removeprefix('missing: ')}"
            )
        log.error("no row is done; the first is %s", first)
        return FAILED
    return SAVED


def _find_missing(
    table: _Table, todo: list[Run], prepare_data: Callable[[configs.Config], str]
) -> None:
    """Notes what keeps runs from being started, and lists it; builds the data set where it is the only thing to do."""
    waiting = [run for run in todo if run.folder not in table.stopped]
    if waiting:
        try:
            prepare_data(table.config)
        except ConfigError as error:
            table.stopped.update({run.folder: f"missing: data: {error}" for run in waiting})
        else:
            manifest = rows_of.manifest_of(table.config)
            for run in waiting:
                wrong = rows_of.other_classes(run, manifest)
                if wrong:
                    table.stopped[run.folder] = f"missing: {wrong}"
    reasons: dict[str, list[str]] = {}
    for run in todo:
        if run.folder in table.stopped:
            names = reasons.setdefault(table.stopped[run.folder].removeprefix("missing: "), [])
            names += [run.row.name] if run.row.name not in names else []
    if reasons:
        listed = [f"  {', '.join(names)}\n    lacks {why}" for why, names in reasons.items()]
        log.warning("these rows cannot be run:\n%s", "\n".join(listed))


def _run(table: _Table, todo: list[Run], mode: str, children: Children) -> None:
    """Starts one run after the other, until all have ended or a signal came."""
    for number, run in enumerate(todo, start=1):
        if children.signal:  # it came between two runs
            return
        before = next(
            (b for b in table.runs if b.row.name == run.row.after and b.seed == run.seed), None
        )
        if before is not None and before.folder in table.stopped:
            table.stopped[run.folder] = f"missing: {before.row.name}, from which it starts, failed"
            continue
        log.info(
            "row %d of %d: %s, seed %d (%s)", number, len(todo), run.row.name, run.seed, run.spec
        )
        began = time.perf_counter()
        ended = children.run(run.child(mode), table.workdir / "logs" / f"{run.folder.name}.txt")
        known = table.seconds.get(run.folder.name) or 0.0
        table.seconds[run.folder.name] = round(known + time.perf_counter() - began, 1)
        if ended.code and not children.signal:
            table.stopped[run.folder] = f"failed: {ended.error}"
            log.error("%s, seed %d: %s", run.row.name, run.seed, ended.error)
        table.save()
