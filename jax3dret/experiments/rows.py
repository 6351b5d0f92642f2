"""The rows of a table of experiments: what each runs, what it needs, and what of that is not at hand."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax3dret.core import checkpoint
from jax3dret.core import config as configs
from jax3dret.core.files import read_json_object
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.source import find_prepared


class Need(NamedTuple):
    """Something that the user has to bring. key: where a row's own config takes it. settings: what it takes beside."""

    key: str
    what: str
    how: str
    is_folder: bool
    settings: tuple[str, ...] = ()


_IMPORT = "import it with `jax3dret weights import FILE --out DIR`"
NEEDS = {
    "weights": Need("checkpoint.init_from", "ULIP-2's PointBERT", _IMPORT, True),
    "slip": Need("towers.weights", "SLIP's image and text towers", _IMPORT, True),
    "cnn_weights": Need("cnn_weights", "a ResNet-18 with ImageNet weights", _IMPORT, True),
    "merges": Need(
        "towers.merges",
        "CLIP's file of merges",
        "bpe_simple_vocab_16e6.txt.gz of the CLIP project",
        False,
    ),
    "captions": Need(
        "captions.path",
        "captions of the data set's views, a JSON Lines file",
        "see jax3dret.data.captions:from_jsonl",
        False,
        ("captions.name=jax3dret.data.captions:from_jsonl",),
    ),
}


def row(
    name: str,
    config: str,
    *,
    settings: Sequence[str] = (),
    needs: Sequence[str] = (),
    after: str = "",
    note: str = "",
    stage: bool = False,
    extra: bool = False,
) -> dict[str, Any]:
    """A row as `config.table` holds it.

    name: shown, and the name of its folder. config: "FILE.py:VARIANT" in the folder of the table's own config; empty where
    there is none. settings: "KEY=VALUE", as on the command line. needs: keys of `NEEDS`. after: the row that it starts
    from, by checkpoint.init_from. note: a footnote. stage: run for another row's sake, so no published number belongs to
    it. extra: run only where `config.rows` asks for it.
    """
    return {
        "name": name,
        "config": config,
        "settings": tuple(settings),
        "needs": tuple(needs),
        "after": after,
        "note": note,
        "stage": stage,
        "extra": extra,
    }


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; the fields of `row`, and whether this command runs it."""

    name: str
    config: str
    settings: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    after: str = ""
    note: str = ""
    stage: bool = False
    extra: bool = False
    chosen: bool = True

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return re.sub(r"[^a-z0-9+]+", "_", self.name.lower()).replace("+", "p").strip("_")


@dataclasses.dataclass(frozen=True)
class Run:
    """A row with one seed: an ordinary run. config: resolved; None where `problem` says why it cannot run."""

    row: Row
    seed: int
    folder: pathlib.Path
    spec: str
    overrides: tuple[tuple[str, str], ...]
    config: configs.Config | None = None
    problem: str = ""

    def arguments(self, mode: str) -> list[str]:
        """The flags of `python -m jax3dret.main`."""
        flags = [f"--config={self.spec}", f"--workdir={self.folder}"]
        flags += [f"--mode={mode}"] if mode != "train_and_eval" else []
        return flags + [f"--config.{key}={value}" for key, value in self.overrides]

    def command(self) -> str:
        """As a person would type it."""
        return shlex.join(["python", "-m", "jax3dret.main", *self.arguments("train_and_eval")])

    def child(self, mode: str) -> list[str]:
        return [sys.executable, "-m", "jax3dret.main", *self.arguments(mode)]


def read_rows(config: configs.Config) -> list[Row]:
    """The rows in order, those chosen marked: all but the extra ones, or what the regular expression config.rows finds, with
    the rows that these start from.

    Raises ConfigError for an expression that is none or finds nothing.
    """
    rows = [Row(**entry) for entry in config.table]
    pattern = config.rows
    try:
        chosen = {r.name for r in rows if (re.search(pattern, r.name) if pattern else not r.extra)}
    except re.error as error:
        raise ConfigError(f"--config.rows={pattern}: not a regular expression: {error}") from error
    if not chosen:
        raise ConfigError(
            f"--config.rows={pattern}: finds none of the rows: {', '.join(r.name for r in rows)}"
        )
    for r in reversed(rows):  # a row stands below the one that it starts from
        if r.name in chosen and r.after:
            chosen.add(r.after)
    return [dataclasses.replace(r, chosen=r.name in chosen) for r in rows]


def read_seeds(config: configs.Config) -> tuple[int, ...]:
    """Raises ConfigError for what are no distinct whole numbers from 0 on."""
    seeds = config.seeds
    good = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not good or len(set(seeds)) < len(seeds):
        raise ConfigError(f"config.seeds is {seeds}; give distinct whole numbers, such as (0,1,2)")
    return tuple(seeds)


def plan_runs(
    config: configs.Config, rows: Sequence[Row], folder: pathlib.Path, configs_at: pathlib.Path
) -> list[Run]:
    """Every run of every row, rows in order, with the problem of each that lacks something other than the data.

    Raises ConfigError for settings that a row's config does not take.
    """
    given = {name: config[name] for name in NEEDS}
    every = (
        *config.every_row,
        *((f"data.data_dir={config.data.data_dir}",) if config.data.data_dir else ()),
    )
    runs: dict[tuple[str, int], Run] = {}
    for r in rows:
        for seed in read_seeds(config):
            at = folder / (r.slug if seed == 0 else f"{r.slug}-seed{seed}")
            problems = [p for p in (_lacking(name, given[name]) for name in r.needs) if p]
            settings: list[tuple[str, str]] = []
            for name in r.needs:
                if given[name]:  # a component's name comes before its keys
                    settings += [*map(_split, NEEDS[name].settings), (NEEDS[name].key, given[name])]
            if r.after:
                before = runs[r.after, seed]
                settings.append(("checkpoint.init_from", str(before.folder)))
                problems += (
                    [f"{r.after}, from which it starts ({before.problem})"]
                    if before.problem
                    else []
                )
            settings = [("seed", str(seed)), *settings, *map(_split, (*r.settings, *every))]
            spec = str(configs_at / r.config) if r.config else ""
            resolved = _load(spec, settings) if r.config else None
            problem = (
                f"{spec or r.name}: no variant for this data set"
                if resolved is None
                else "; ".join(problems)
            )
            runs[r.name, seed] = Run(r, seed, at, spec, tuple(settings), resolved, problem)
    return list(runs.values())


def manifest_of(config: configs.Config) -> Mapping[str, Any]:
    """The manifest of the prepared data set of a config; empty where it is not prepared."""
    folder = find_prepared(config.data.name, config.data.data_dir or None)
    return read_json(folder / "manifest.json") if folder is not None else {}


def other_classes(run: Run, manifest: Mapping[str, Any]) -> str:
    """What is wrong where the prepared data has another number of classes than the row is made for."""
    if run.config is None or not manifest:
        return ""
    wanted, found = int(run.config.data.num_classes), len(manifest.get("class_names") or ())
    if wanted in (0, found):
        return ""
    name = run.config.data.name
    return f"data: what is prepared as {name} has {found} classes, this row's data set {wanted}; give another --config.data.data_dir"


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object; empty where the file is not there or holds none."""
    try:
        return read_json_object(path)
    except DataError:
        return {}


def _lacking(name: str, given: str) -> str:
    need = NEEDS[name]
    wanted = (
        f"{name}: {need.what} ({need.how}): --config.{name}={'DIR' if need.is_folder else 'FILE'}"
    )
    path = pathlib.Path(given)
    found = (path / checkpoint.FOLDER).is_dir() if need.is_folder else path.is_file()
    if given and found:
        return ""
    return f"{wanted}; not found in {given}" if given else wanted


def _load(spec: str, settings: Sequence[tuple[str, str]]) -> configs.Config | None:
    """The resolved config of a row; None where there is no such file or variant."""
    try:
        return configs.load(spec, settings)[0]
    except ConfigError as error:
        if f"--config={spec.rpartition(':')[0]}: no such file" in str(
            error
        ) or " has no variant '" in str(error):
            return None
        raise


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"config.every_row: '{text}' is not of the form KEY=VALUE")
    return key, value
