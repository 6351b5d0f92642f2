"""A table of experiments as one command: every row an ordinary run, collected beside the published
numbers.

`config.table` lists the rows (`experiments.rows.row`), of any system; rows may start from one run.
Each is run as `python -m jax3dret.main` runs it, in WORKDIR/rows/ROW[-seedN]/ with a report of its
own, and in a process of its own, so that memory comes back and a run that crashes is one failed
row. What is missing is found out before anything is trained. Then WORKDIR has

    table.json              the rows: metrics over seeds, published numbers, protocol, status
    report/index.html       the same for people, report/metrics.json in the form of every report
    rows/, logs/            the runs, and what each process said

    rows.py       rows, and what they lack
    every_row.py  settings that the command gives to rows
    children.py   one process after the other
    results.py    from their folders to the table
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import ml_collections

from jax3dret import run as runs_of
from jax3dret.core import config as configs
from jax3dret.core import files, lock, processes
from jax3dret.core.command import Command
from jax3dret.core.types import ConfigError
from jax3dret.experiments import every_row, results
from jax3dret.experiments import rows as rows_of
from jax3dret.experiments.children import Children
from jax3dret.experiments.rows import Row, TableRun
from jax3dret.report import table as report

log = logging.getLogger("jax3dret")


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: the spine's, of which a table reads the data section, and a table's own."""
    config = configs.spine()
    config.task = "jax3dret.experiments.tables"
    config.title = ""
    config.notes = ()  # sentences under the table
    config.table = ()  # the rows, see experiments.rows:row
    config.rows = ""  # regular expression over row names; empty: all but the extra ones
    # Each row is a run for each seed: initial weights, order, augmentation and, unless its own
    # config has eval.seeds, evaluation sampling.
    config.seeds = (0,)
    config.collect = False  # only what is finished: no run is started
    # "KEY=VALUE" for every row, and (REGEX, "KEY=VALUE") for those whose names it finds. No
    # published number stands beside rows whose results these may change.
    config.every_row = ()
    config.needs = {}  # what the user brings, by the names that the rows' needs have
    return config


def start(
    command: Command,
    *,
    prepare_data: Callable[[configs.Config], str] = runs_of.prepare_data,
    children: Callable[[], Children] = Children,
) -> int:
    """Runs the table, each of its runs a process of its own, and returns the exit code. Claims no
    device.

    prepare_data: builds the data set of a config, raising ConfigError for raw files that were not
    given.

    Raises:
        ConfigError: rows, seeds or settings are wrong, no row can be run, the workdir is another
            table's, or one of several hosts was asked.
        DataError: another command runs the table.
    """
    config, workdir = command.config, command.workdir
    if processes.several(*command.hosts):
        raise ConfigError(
            f"{command.full_name} starts its runs itself, on one host; start it as one process"
        )
    runs_of.check_workdir(workdir, config)
    other = rows_of.read_json(workdir / results.FILE).get("config", command.full_name)
    if other != command.full_name:
        raise ConfigError(
            f"{workdir} holds another table: {other} there, {command.full_name} here; give "
            "another --workdir"
        )
    configs_at = pathlib.Path(command.spec.partition(":")[0]).parent
    table = _Table(
        command,
        rows_of.read_rows(config),
        rows_of.plan_runs(config, workdir / "rows", configs_at),
    )
    for key in ("name", "data_dir", "manual_dir"):
        config.data[key]  # read, so that what a finished table no longer needs may still be given
    steps = "collect" if config.collect else command.mode
    runs_of.refuse_unused(config, command.overrides)
    # What only collects may do so beside the command that runs the rows.
    with contextlib.nullcontext() if config.collect else lock.held(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_text(workdir / "config.json", configs.dump(config))
        return _work(table, steps, prepare_data, children)


class _Table:
    """The runs, what stopped each in this command, and the files of the table."""

    def __init__(self, command: Command, rows: Sequence[Row], runs: Sequence[TableRun]) -> None:
        self.config, self.workdir, self.rows, self.runs = (
            command.config,
            command.workdir,
            rows,
            runs,
        )
        self.stopped: dict[pathlib.Path, str] = {
            run.folder: f"missing: {run.problem}" for run in runs if run.problem
        }
        self._about = {
            "config": command.full_name,
            "command": command.text(),
            "title": self.config.title,
            "notes": list(self.config.notes),
            "seeds": list(rows_of.read_seeds(self.config)),
        }
        earlier = rows_of.read_json(self.workdir / results.FILE)
        lines = [*earlier.get("rows", ()), *earlier.get("stages", ())]
        self.seconds = {
            run["workdir"]: run.get("seconds") for line in lines for run in line.get("runs", ())
        }

    def of(self, names: Iterable[str]) -> list[TableRun]:
        """The runs of these names, every seed of each."""
        wanted = set(names)
        return [run for run in self.runs if run.name in wanted]

    def chosen(self) -> list[TableRun]:
        """The rows' own runs that this command is asked for."""
        return self.of(row.name for row in self.rows if row.chosen)

    def todo(self) -> list[TableRun]:
        """Those that are not done, and of the stages before them those that are not."""
        open_runs = [run for run in self.chosen() if not self.is_done(run)]
        wanted = {
            (name, run.seed)
            for run in open_runs
            for row in self.rows
            if row.name == run.name
            for name in (*row.stages, row.name)
        }
        return [
            run for run in self.runs if (run.name, run.seed) in wanted and not self.is_done(run)
        ]

    def result(self, run: TableRun) -> dict[str, Any]:
        """What the run left; why it is not there, where this command knows."""
        found = results.result(run, self.seconds.get(run.folder.name))
        if found["status"] != results.DONE and run.folder in self.stopped:
            found["status"] = self.stopped[run.folder]
        return found

    def is_done(self, run: TableRun) -> bool:
        return bool(self.result(run)["status"] == results.DONE)

    def save(self) -> dict[str, Any]:
        """Writes table.json and the report as things stand."""
        lines = []
        for row in self.rows:
            if row.published:
                lines.append(results.published_result(row))
                continue
            runs = self.of([row.name])
            found = [self.result(run) for run in runs]
            stages = [self.of([name])[0] for name in row.stages]
            changed = every_row.changes(run.every for run in (runs[0], *stages))
            lines.append(results.row_result(row, runs, found, stages, changed))
        before = dict.fromkeys(name for row in self.rows for name in row.stages)
        done = [run for line in lines for run in line["runs"] if run.get("system")]
        data = next(
            (r["protocol"]["data"] for r in lines if r["protocol"]), {"name": self.config.data.name}
        )
        table = {
            "system": ", ".join(dict.fromkeys(str(run["system"]) for run in done)),
            **self._about,
            "data": data,
            "rows": lines,
            "stages": [
                {"name": name, "runs": [self.result(run) for run in self.of([name])]}
                for name in before
            ],
        }
        results.write(self.workdir, table)
        report.write_report(self.workdir)
        return table


def _work(
    table: _Table,
    mode: str,
    prepare_data: Callable[[configs.Config], str],
    children: Callable[[], Children],
) -> int:
    # Accelerators belong to the rows: this process must not hold their memory.
    jax.config.update("jax_platforms", "cpu")
    todo = table.todo()
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
        return runs_of.DONE if interrupted == "SIGTERM" else runs_of.FAILED
    log.info("this table is finished: %s" if finished else "report: %s", page)
    states = [row["status"] for row in shown["rows"] if row["chosen"]]
    if any(state.startswith("failed") for state in states):
        return runs_of.FAILED
    if mode != "train" and results.DONE not in states:
        first = next(state for state in states if state != results.DONE)
        if mode != "collect" and all(run.folder in table.stopped for run in table.chosen()):
            raise ConfigError(
                f"no row can be run; the first lacks: {first.removeprefix('missing: ')}"
            )
        log.error("no row is done; the first is %s", first)
        return runs_of.FAILED
    return runs_of.DONE


def _find_missing(
    table: _Table, todo: list[TableRun], prepare_data: Callable[[configs.Config], str]
) -> None:
    """Notes what keeps runs from being started, and lists it; builds the data set where it is the
    only thing to do.
    """
    waiting = [run for run in todo if run.folder not in table.stopped]
    for run in waiting:
        if reason := results.in_the_way(run):
            table.stopped[run.folder] = f"missing: {reason}"
    waiting = [run for run in waiting if run.folder not in table.stopped]
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
            names += [run.name] if run.name not in names else []
    if reasons:
        listed = [f"  {', '.join(names)}\n    lacks {why}" for why, names in reasons.items()]
        log.warning("these rows cannot be run:\n%s", "\n".join(listed))


def _run(table: _Table, todo: list[TableRun], mode: str, children: Children) -> None:
    """Starts one run after the other, until all have ended or a signal came."""
    for number, run in enumerate(todo, start=1):
        if children.signal:  # it came between two runs
            return
        before = next((b for b in table.of([run.starts_from]) if b.seed == run.seed), None)
        if before is not None and before.folder in table.stopped:
            kind, _, why = table.stopped[before.folder].partition(": ")
            table.stopped[run.folder] = f"{kind}: {before.name}, from which it starts ({why})"
            continue
        log.info("run %d of %d: %s, seed %d (%s)", number, len(todo), run.name, run.seed, run.spec)
        began = time.perf_counter()
        ended = children.run(run.child(mode), table.workdir / "logs" / f"{run.folder.name}.txt")
        known = table.seconds.get(run.folder.name) or 0.0
        table.seconds[run.folder.name] = round(known + time.perf_counter() - began, 1)
        if ended.code and not children.signal:
            table.stopped[run.folder] = f"failed: {ended.error}"
            log.error("%s, seed %d: %s", run.name, run.seed, ended.error)
        table.save()
