"""Writes docs/results.md from the files of docs/results/: `python docs/make_results.py`.

With --check nothing is written, and the exit code is 1 where the page is not what the files give. A
file that is malformed ends either with one line and 1. The page depends on the files alone: no
clock, no machine. What a file holds:

A run: a copy of its report/metrics.json, unchanged. Shown are the metrics that papers lead with
(all where a system has none of those), beside what its `run` block tells. In a table of runs, which
names a metric "ROW/METRIC", each row is a line. Published numbers that the file holds stand below,
with what the run's report says differs.

A bench: what `jax3dret bench NAME --json` printed, unchanged; it may have "notes" beside.

Numbers of an earlier version, which have no such file: {"remade": false, "reason": why,
"tables": [...]}. A table has

    dataset or topic    the section that it stands in; "QUERIES against GALLERY" where they differ
    title               its heading, once in a section
    columns             names, with the unit
    rows                {"name", "values"}: a value for each column, which is a number, a list of
                        numbers (one for each seed), a text, or null where there is none. A row may
                        have a "command" and a "seed" (a number, or several as a list)
    date, device        of all its numbers
    command, seed       optional: of all its rows. A row's own command is then what it adds
    notes               optional: lines of Markdown that belong to the numbers

Every number needs a command, its row's or its table's: "not kept" where nobody knows it any more.
No two rows may be alike.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

HERE = pathlib.Path(__file__).resolve().parent
PAGE, FOLDER = "results.md", "results"
COMMAND = "python docs/make_results.py"
MARK = "Measured on an earlier version; not made again."
NO_COMMAND = "not kept"
SPEED = "Speed beside other libraries"
# The metrics that a line shows, as patterns of whole keys: of sketches, else of shapes.
LEADING = (
    ("NN", "FT", "ST", "mAP"),
    ("nn_acc", "nn_f1", r"ndcg_\d+", r"map(_pessimistic)?(_\d+)?"),
)
INTRODUCTION = f"""# Results

Made by `{COMMAND}` from the files of [{FOLDER}/]({FOLDER}/): do not edit it.
What was tried and did not become the default stands in [trials.md](trials.md).

Shares are fractions of 1 unless a column says otherwise. A line whose name is a link was written by
a run; the file behind it holds its other metrics, its protocol and its encoder too. Tables that say
"{MARK}" hold numbers that were taken down when they were
measured. RAW stands for the folder of the raw data, DIR for a folder of imported weights.
"""


class MalformedFile(Exception):
    """A file of docs/results/ that cannot be shown; the message is one line that names it."""


class Line(NamedTuple):
    """A run, or a row of a table of runs: what its columns show."""

    name: str
    metrics: dict[str, str]
    about: dict[str, str]
    published: list[str]
    marks: tuple[str, ...]  # what no two lines may share


class Part(NamedTuple):
    """One table of a section."""

    order: tuple[Any, ...]
    title: str
    text: str


def page(folder: pathlib.Path) -> str:
    """The page that the files of `folder` give, as Markdown.

    Raises:
        MalformedFile: there are none, or one of them cannot be shown.
    """
    runs: dict[str, list[Line]] = {}
    sections: dict[tuple[bool, str], list[Part]] = {}
    for path in sorted(folder.glob("*.json")):
        content = _read(path)
        if "remade" in content:
            for place, part in _earlier(path, content):
                sections.setdefault(place, []).append(part)
        elif "cases" in content:
            sections.setdefault((True, SPEED), []).append(_bench(path, content))
        else:
            dataset, lines = _run(path, content)
            runs.setdefault(dataset, []).extend(lines)
    for dataset, lines in runs.items():
        _no_two_alike([line.marks for line in lines], folder, f"runs on {dataset}")
        sections.setdefault((False, dataset), []).extend(_run_tables(lines))
    if not sections:
        _fail(folder, "no results in it; copy the report/metrics.json of a run there")
    text = [INTRODUCTION]
    for (_, section), parts in sorted(sections.items()):
        _no_two_alike([(part.title,) for part in parts], folder, f"tables of '{section}'")
        text += [f"## {section}\n", *(part.text for part in sorted(parts))]
    return "\n".join(text)


# Runs.


def _run(path: pathlib.Path, content: Mapping[str, Any]) -> tuple[str, list[Line]]:
    """The data set of a run, and its lines: one, or one for each row of a table of runs."""
    if "run" not in content:
        _fail(path, "no 'run' block; copy a report/metrics.json that this version wrote")
    run, dataset = _mapping(path, content, "run"), _mapping(path, content, "dataset")
    command, config = _text(path, run, "command", "run."), _text(path, content, "config")
    protocol, index, timing = (_mapping(path, content, k) for k in ("protocol", "index", "timing"))
    distance = str(protocol.get("distance", "not told"))
    about = {
        "distance": distance + ", approximate" * (index.get("scoring") == "tree_ah"),
        "trained in": "",
        "seed": _seed(path, run, "run."),
        "date": _date(path, run, "run."),
        "device": _cell(_text(path, run, "device", "run.")),
        "version": _cell(_text(path, run, "version", "run.")),
        "command": _code(_cell(command)),
    }
    if timing.get("train_s") is not None:
        about["trained in"] = f"{_number(path, timing, 'train_s', 'timing.'):,.0f} s"
    if not about["seed"]:
        _fail(path, "run.seed: missing")
    # The same run in another folder is the same run.
    same = (re.sub(r"\s+--workdir[= ]\S+", "", command), about["seed"], about["device"])
    published = _published(path, content)
    lines: list[Line] = []
    for row, metrics in _metrics(path, content).items():
        name = f"[{_cell(config)}]({FOLDER}/{path.name})" + (f", {_cell(row)}" if row else "")
        lines.append(Line(name, metrics, about, published, (config, row, *same)))
        published = []  # once, below all rows of a table
    gallery = _text(path, dataset, "name", "dataset.")
    queries = gallery
    if "queries" in dataset:
        queries = _text(path, _mapping(path, dataset, "queries"), "name", "dataset.queries.")
    return gallery if queries == gallery else f"{queries} against {gallery}", lines


def _metrics(path: pathlib.Path, content: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """{row ("" for a run by itself): {metric: what a line shows of it}}."""
    found: dict[str, dict[str, str]] = {}
    metrics = _mapping(path, content, "metrics")
    for key, value in metrics.items():
        row, _, metric = key.rpartition("/")
        if row and "rows" not in content:
            continue  # of another evaluation than the one that the run leads with
        # A report writes null where a metric is undefined.
        text = value is not None and f"{_number(path, metrics, key, 'metrics.'):.4f}"
        found.setdefault(row, {})[metric] = text or "undefined"
    if not found:
        _fail(path, "metrics: empty; a result has at least one")
    return {row: _leading(metrics) for row, metrics in found.items()}


def _leading(metrics: dict[str, str]) -> dict[str, str]:
    """Those metrics that papers lead with, in their order; all of them where there is none."""
    for patterns in LEADING:
        keys = [key for p in patterns for key in sorted(metrics) if re.fullmatch(p, key)]
        if keys:
            return {key: metrics[key] for key in keys}
    return {key: metrics[key] for key in sorted(metrics)}


def _published(path: pathlib.Path, content: Mapping[str, Any]) -> list[str]:
    lines, rows = [], _mapping(path, content, "published") if "published" in content else {}
    clauses = _list(path, content, "published_differs", "", str)
    differs = f" What differs: {'; '.join(clauses)}." if clauses else ""
    for name in sorted(rows):
        numbers = _mapping(path, rows, name, "published.")
        told = [f"{k} {_number(path, numbers, k, f'published.{name}.'):.4f}" for k in numbers]
        lines.append(f"- Published, {name}: {', '.join(told)}.{differs}")
    return lines


def _run_tables(lines: Sequence[Line]) -> Iterable[Part]:
    """A table for each set of metrics, so that no line has empty columns."""
    tables: dict[tuple[str, ...], list[Line]] = {}
    for line in sorted(lines, key=lambda line: (line.name, line.marks)):
        tables.setdefault(tuple(line.metrics), []).append(line)
    for columns, members in tables.items():
        rows = [[m.name, *m.metrics.values(), *m.about.values()] for m in members]
        text = _table(["run", *columns, *members[0].about], rows)
        notes = [note for m in members for note in m.published]
        yield Part((0, columns), f"runs by {', '.join(columns)}", text + _notes(notes))


# Speed.


def _bench(path: pathlib.Path, content: Mapping[str, Any]) -> Part:
    """A table with a line for each case of a bench."""
    run, name = _mapping(path, content, "run"), _text(path, content, "name")
    rows = []
    for number, case in enumerate(_list(path, content, "cases", "", dict)):
        where = f"cases[{number}]."
        told = [_text(path, case, key, where) for key in ("name", "unit", "baseline_name")]
        ours, baseline, ratio = (
            f"{_number(path, case, key, where):.3g}" for key in ("ours", "baseline", "ratio")
        )
        rows.append([_cell(told[0]), ours, baseline, *map(_cell, told[1:]), ratio])
    _no_two_alike([(row[0], row[4]) for row in rows], path, "cases")
    facts = f"- date: {_date(path, run, 'run.')}\n"
    facts += f"- device: {_text(path, content, 'device')}\n"
    facts += f"- version: {_text(path, run, 'version', 'run.')}\n"
    facts += f"- command: {_code(_cell(_text(path, run, 'command', 'run.')))}\n"
    table = _table(["", "ours", "baseline", "unit", "baseline is", "ratio"], rows)
    notes = _notes(_list(path, content, "notes", "", str))
    head = f"### [bench {_cell(name)}]({FOLDER}/{path.name})\n\n"
    return Part((0, (path.name,)), f"bench {name}", f"{head}{facts}\n{table}{notes}")


# Numbers of an earlier version.


def _earlier(
    path: pathlib.Path, content: Mapping[str, Any]
) -> Iterable[tuple[tuple[bool, str], Part]]:
    if content["remade"] is not False:
        _fail(path, "remade: only false may stand there; copy the metrics.json of a run instead")
    reason = _text(path, content, "reason")
    for number, table in enumerate(_list(path, content, "tables", "", dict)):
        title = _text(path, table, "title", f"tables[{number}].")
        topic = "topic" in table
        section = _text(path, table, "topic" if topic else "dataset", f"{title}: ")
        text = _earlier_table(path, table, f"{title}: ")
        head = f"### {title}\n\n**{MARK}**\n{reason}\n\n"
        yield (topic, section), Part((1, path.name, number), title, head + text)


def _earlier_table(path: pathlib.Path, table: Mapping[str, Any], where: str) -> str:
    columns, notes = (_list(path, table, key, where, str) for key in ("columns", "notes"))
    common = _text(path, table, "command", where) if "command" in table else ""
    body, marks = [], []
    for row in _list(path, table, "rows", where, dict):
        name = _text(path, row, "name", where)
        at = f"{where}{name}: "
        own = _text(path, row, "command", at) if "command" in row or not common else ""
        seed = _seed(path, row, at) or _seed(path, table, where)
        values = row.get("values")
        if not isinstance(values, list) or len(values) != len(columns):
            _fail(path, f"{at}values: give {len(columns)}, one for each column")
        shown = (_value(path, value, at) for value in values)
        body.append([_cell(name), *shown, seed, _code(_cell(own))])
        marks.append((name, own, seed))
    _no_two_alike(marks, path, f"rows of '{table['title']}'")
    head = ["", *map(_cell, columns), "seed", "added to it" if common else "command"]
    facts = f"- date: {_date(path, table, where)}\n"
    facts += f"- device: {_text(path, table, 'device', where)}\n"
    facts += f"- command: {_code(common)}\n" if common else ""
    # Seed and command have no column where it would be empty.
    kept = [i for i in range(len(head)) if i <= len(columns) or any(line[i] for line in body)]
    lines = [[line[i] for i in kept] for line in body]
    return f"{facts}\n{_table([head[i] for i in kept], lines)}" + _notes(notes)


def _value(path: pathlib.Path, value: Any, where: str) -> str:
    """A value as it is written in the file: a number, one for each seed, a text, or nothing."""
    if value is None:
        return ""
    if isinstance(value, str) and value and value.lower() not in ("nan", "inf", "-inf"):
        return _cell(value)
    if isinstance(value, list) and value and all(_is_number(v) for v in value):
        return " / ".join(f"{v:,}" for v in value)
    if not _is_number(value):
        _fail(path, f"{where}{value!r} is no value")
    return f"{value:,}"


# What both kinds share: reading.


def _fail(path: pathlib.Path, why: str) -> NoReturn:
    raise MalformedFile(f"{path.parent.name}/{path.name}: {' '.join(str(why).split())}")


def _read(path: pathlib.Path) -> dict[str, Any]:
    """The object that a file holds, its fractions as the decimals that are written there."""

    def no_number(word: str) -> NoReturn:
        _fail(path, f"{word} is no result; leave the number out")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _no_two_alike([(key,) for key, _ in pairs], path, "keys of one object")
        return dict(pairs)

    try:
        content = json.loads(
            path.read_text(encoding="utf-8"),
            parse_float=decimal.Decimal,
            parse_constant=no_number,
            object_pairs_hook=once,
        )
    except (OSError, ValueError, ArithmeticError, RecursionError) as error:
        _fail(path, f"not a JSON file ({error})")
    if not isinstance(content, dict):
        _fail(path, "not a JSON object; give a copy of a report/metrics.json")
    return content


def _text(path: pathlib.Path, holder: Mapping[str, Any], key: str, where: str = "") -> str:
    value = holder.get(key)
    if not isinstance(value, str) or not value.strip():
        _fail(path, f"{where}{key}: {'give a text' if key in holder else 'missing'}")
    return " ".join(value.split())


def _mapping(
    path: pathlib.Path, holder: Mapping[str, Any], key: str, where: str = ""
) -> dict[str, Any]:
    value = holder.get(key)
    if not isinstance(value, dict):
        _fail(path, f"{where}{key}: {'not an object' if key in holder else 'missing'}")
    return value


def _list(
    path: pathlib.Path, holder: Mapping[str, Any], key: str, where: str, kind: type
) -> list[Any]:
    """A list of texts, which may be missing, or of objects, of which there is at least one."""
    values: list[Any] = holder.get(key, [])
    good = isinstance(values, list) and all(isinstance(v, kind) and v for v in values)
    if not good or (kind is dict and not values):
        _fail(path, f"{where}{key}: give a list of {'texts' if kind is str else 'objects'}")
    return values


def _is_number(value: Any) -> bool:
    """Whether it is a number that float64 can hold."""
    number = isinstance(value, int | decimal.Decimal) and not isinstance(value, bool)
    return number and -sys.float_info.max <= value <= sys.float_info.max


def _number(path: pathlib.Path, holder: Mapping[str, Any], key: str, where: str) -> float:
    if not _is_number(holder.get(key)):
        _fail(path, f"{where}{key}: {holder.get(key)!r} is no number")
    return float(holder[key])


def _seed(path: pathlib.Path, holder: Mapping[str, Any], where: str) -> str:
    """A seed or several as text; "" for none."""
    value = holder.get("seed")
    seeds = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(s, int) and not isinstance(s, bool) for s in seeds):
        _fail(path, f"{where}seed: {value!r} is no seed; give a whole number, or a list of them")
    return ", ".join(str(s) for s in seeds)


def _date(path: pathlib.Path, holder: Mapping[str, Any], where: str) -> str:
    date = _text(path, holder, "date", where)
    try:
        datetime.date.fromisoformat(date[:10])
    except ValueError:
        _fail(path, f"{where}date: '{date}' does not begin as YYYY-MM-DD")
    return date


def _no_two_alike(marks: Sequence[tuple[str, ...]], path: pathlib.Path, what: str) -> None:
    for i, mark in enumerate(marks):
        if mark in marks[:i]:
            _fail(path, f"two {what} are alike: {', '.join(m for m in mark if m)}")


# What both kinds share: Markdown.


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text and text != NO_COMMAND else text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _notes(notes: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in ["", *notes]) if notes else ""


def main(arguments: Sequence[str] | None = None, docs: pathlib.Path = HERE) -> int:
    """Writes or checks the page of the folder `docs`; returns the exit code."""
    parser = argparse.ArgumentParser(description="docs/results.md from the files of docs/results/")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it is stale")
    check = parser.parse_args(arguments).check
    target = docs / PAGE
    try:
        text = page(docs / FOLDER)
    except MalformedFile as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not check:
        beside = target.with_name(target.name + ".partial")
        beside.write_text(text, encoding="utf-8")
        beside.replace(target)
    elif not target.is_file() or target.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"docs/{PAGE} is not what docs/{FOLDER}/ gives; run {COMMAND}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
