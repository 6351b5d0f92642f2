"""The rows of a table of experiments: what each runs, what it needs, and what of that is not at
hand.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax3dret import run as runs_of
from jax3dret.core import checkpoint
from jax3dret.core import config as configs
from jax3dret.core.files import read_json_object
from jax3dret.core.types import ConfigError, DataError, Run, nearest
from jax3dret.data.source import find_prepared
from jax3dret.experiments import every_row
from jax3dret.experiments.every_row import Applied, Setting, key_and_value


def need(
    name: str,
    key: str,
    what: str,
    how: str = "import it with `jax3dret weights import FILE --out DIR`",
    *,
    is_folder: bool = True,
    is_weights: bool = True,
    optional: bool = False,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """Something that the user has to bring, as config.needs.NAME.

    key: where a row's own config takes it. what, how: for the message. is_folder: a workdir or
    imported weights, or with is_weights=False any folder; else a file. optional: a row runs without
    it too, otherwise. settings: "KEY=VALUE", what the row's config takes beside.
    """
    return {
        "name": name,
        "key": key,
        "what": what,
        "how": how,
        "is_folder": is_folder,
        "is_weights": is_weights,
        "optional": optional,
        "settings": tuple(settings),
    }


def stage(
    name: str,
    config: str,
    *,
    settings: Sequence[str] = (),
    needs: Sequence[Mapping[str, Any]] = (),
    starts_from: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A run that rows start from, by checkpoint.init_from; several may start from one.

    name: of its folder. config: "FILE.py:VARIANT" in the folder of the table's own config; empty
    where there is none. settings: "KEY=VALUE", as on the command line. needs: see `need`.
    starts_from: a stage before it.
    """
    return {
        "name": name,
        "config": config,
        "settings": tuple(settings),
        "needs": tuple(dict(n) for n in needs),
        "starts_from": dict(starts_from or {}),
    }


def row(
    name: str,
    config: str,
    *,
    settings: Sequence[str] = (),
    needs: Sequence[Mapping[str, Any]] = (),
    starts_from: Mapping[str, Any] | None = None,
    note: str = "",
    extra: bool = False,
) -> dict[str, Any]:
    """A row as `config.table` holds it: the fields of `stage`, which is what its run is.

    name: shown too. note: a footnote. extra: run only where `config.rows` asks for it.
    """
    own = stage(name, config, settings=settings, needs=needs, starts_from=starts_from)
    return {**own, "note": note, "extra": extra}


def published_row(name: str, published: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """A row of numbers that others have published, such as those of a compared method: nothing is
    run for it.

    published: as a run's config.published.
    """
    numbers = {key: dict(values) for key, values in published.items()}
    return {"name": name, "note": "", "extra": False, "published": numbers}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    stages: the names of the runs before its own; chosen: whether this command runs it. published:
    the numbers of a row that nothing is run for.
    """

    name: str
    stages: tuple[str, ...] = ()
    note: str = ""
    extra: bool = False
    chosen: bool = True
    published: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TableRun:
    """A run of the table with one seed: a command, and a process, of its own.

    name: a row's, or that of a stage. starts_from: the name of a stage. config: as the run's folder
    has it; None where `problem` says why it cannot run. given: what the user brought for it, by
    key. every: of config.every_row.
    """

    name: str
    seed: int
    folder: pathlib.Path
    spec: str
    overrides: tuple[tuple[str, str], ...]
    starts_from: str = ""
    config: configs.Config | None = None
    given: tuple[tuple[str, str], ...] = ()
    every: Applied = dataclasses.field(default_factory=Applied)
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


def slug(name: str) -> str:
    """The name of a run as a folder."""
    return re.sub(r"[^a-z0-9+]+", "_", name.lower()).replace("+", "p").strip("_")


def read_rows(config: configs.Config) -> list[Row]:
    """The rows in order, those chosen marked: all but the extra ones, or what the regular
    expression config.rows finds.

    Raises ConfigError for an expression that is none or finds nothing.
    """
    rows = [
        Row(r["name"], chosen=False, published=r["published"])
        if "published" in r
        else Row(r["name"], tuple(s["name"] for s in _chain(r)[:-1]), r["note"], r["extra"])
        for r in config.table
    ]
    pattern, runs = config.rows, [r for r in rows if not r.published]
    try:
        chosen = {r.name for r in runs if (re.search(pattern, r.name) if pattern else not r.extra)}
    except re.error as error:
        raise ConfigError(f"--config.rows={pattern}: not a regular expression: {error}") from error
    if not chosen:
        raise ConfigError(
            f"--config.rows={pattern}: finds none of the rows: {', '.join(r.name for r in runs)}"
        )
    return [dataclasses.replace(r, chosen=r.name in chosen) for r in rows]


def read_seeds(config: configs.Config) -> tuple[int, ...]:
    """Raises ConfigError for what are no distinct whole numbers from 0 on."""
    seeds = configs.check_seeds(config.seeds, where="config.seeds")
    if not seeds:
        raise ConfigError("config.seeds is (); give distinct whole numbers, such as (0,1,2)")
    return seeds


def plan_runs(
    config: configs.Config, folder: pathlib.Path, configs_at: pathlib.Path
) -> list[TableRun]:
    """Every run of every row, the stages of a row before it and each of them once, with the problem
    of each that lacks something other than the data.

    Raises ConfigError for settings that no row's config takes, what is brought for no row, two runs
    of one name, and names that give one folder or none.
    """
    entries: dict[str, Mapping[str, Any]] = {}
    for r in config.table:
        for entry in _chain(r) if "published" not in r else ():
            if entries.setdefault(entry["name"], entry) != entry:
                raise ConfigError(f"config.table: two runs are called '{entry['name']}'")
    _check_folders(entries)
    given = _given(config, list(entries.values()))
    every = every_row.read(config.every_row)
    by_seed = [
        _with_seed(config, every, list(entries.values()), given, seed, folder, configs_at)
        for seed in read_seeds(config)
    ]
    every_row.check(every, [(run.name, run.every) for run in by_seed[0] if run.config is not None])
    return [run for of_one_entry in zip(*by_seed, strict=True) for run in of_one_entry]


def _check_folders(names: Iterable[str]) -> None:
    """Raises ConfigError where two runs would lie in one folder, or one in that of all."""
    seen: dict[str, str] = {}
    for name in names:
        folder = slug(name)
        if not folder:
            raise ConfigError(
                f"config.table: '{name}' gives no folder name; use a letter a-z or a digit in it"
            )
        if folder in seen:
            raise ConfigError(
                f"config.table: '{seen[folder]}' and '{name}' would both lie in rows/{folder}; "
                "give "
                "one another name"
            )
        seen[folder] = name


def manifest_of(config: configs.Config) -> Mapping[str, Any]:
    """The manifest of the prepared data set of a config; empty where it is not prepared."""
    folder = find_prepared(config.data.name, config.data.data_dir or None)
    return read_json(folder / "manifest.json") if folder is not None else {}


def other_classes(run: TableRun, manifest: Mapping[str, Any]) -> str:
    """What is wrong where the prepared data has another number of classes than the row wants."""
    if run.config is None or not manifest or "num_classes" not in run.config.data:
        return ""
    wanted, found = int(run.config.data.num_classes), len(manifest.get("class_names") or ())
    if wanted in (0, found):
        return ""
    name = run.config.data.name
    return (
        f"data: what is prepared as {name} has {found} classes, this row's data set {wanted}; give "
        "another --config.data.data_dir"
    )


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object; empty where the file is not there or holds none."""
    try:
        return read_json_object(path)
    except DataError:
        return {}


def _chain(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The runs of a row, or of a stage: those that it starts from, the first first, and its own."""
    own = {k: v for k, v in entry.items() if k not in ("note", "extra")}
    return [*(_chain(entry["starts_from"]) if entry["starts_from"] else ()), own]


def _given(config: configs.Config, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the user brought, by the name of the need; empty where nothing."""
    names = dict.fromkeys(n["name"] for entry in entries for n in entry["needs"])
    brought = config.needs.to_dict()
    for name in brought:
        if name not in names:
            known = f"there are: {', '.join(names)}" if names else "they need nothing"
            raise ConfigError(
                f"config.needs.{name}: no row needs it{nearest(name, names)}; {known}"
            )
    return {name: str(brought.get(name, "")) for name in names}


def _with_seed(
    config: configs.Config,
    every: Sequence[Setting],
    entries: Sequence[Mapping[str, Any]],
    given: Mapping[str, str],
    seed: int,
    folder: pathlib.Path,
    configs_at: pathlib.Path,
) -> list[TableRun]:
    """The runs of one seed: loaded, joined by where they start, and as their folders will have
    them.
    """
    places = [
        f"data.{key}={config.data[key]}" for key in ("data_dir", "manual_dir") if config.data[key]
    ]
    found: dict[str, TableRun] = {}
    loaded: list[Run] = []
    for entry in entries:
        name, before = entry["name"], entry["starts_from"].get("name", "")
        problems = [_lacking(n, given[n["name"]]) for n in entry["needs"]]
        brought = [n for n in entry["needs"] if given[n["name"]]]
        settings = [("seed", str(seed))]
        for n in brought:  # a component's name comes before its keys
            settings += [*map(key_and_value, n["settings"]), (n["key"], given[n["name"]])]
        settings += map(key_and_value, (*entry["settings"], *places))
        spec = str(configs_at / entry["config"]) if entry["config"] else ""
        resolved, applied = _load(spec, settings) if spec else None, Applied()
        if resolved is not None:
            applied = every_row.apply(every, name, spec, settings)
            settings += [(s.key, s.value) for s in applied.taken]
            resolved = _load(spec, settings)
        if before:
            settings.append(("checkpoint.init_from", str(found[before].folder)))
            if found[before].problem:
                problems.append(f"{before}, from which it starts ({found[before].problem})")
        if resolved is None or (before and found[before].config is None):
            resolved = None
            problems.insert(0, f"{spec or name}: no variant for this data set")
        else:
            loaded.append(Run(name, resolved, before))
        found[name] = TableRun(
            name=name,
            seed=seed,
            folder=folder / (slug(name) if seed == 0 else f"{slug(name)}-seed{seed}"),
            spec=spec,
            overrides=tuple(settings),
            starts_from=before,
            config=resolved,
            given=tuple((n["key"], given[n["name"]]) for n in brought),
            every=applied,
            problem="; ".join(dict.fromkeys(p for p in problems if p)),
        )
    placed = runs_of.place(loaded, {name: run.folder for name, run in found.items()})
    for folder, name, whole in placed:
        # What trains in stages leaves the config of its last stage in its folder.
        config = runs_of.stages(whole, folder)[-1].config
        found[name] = dataclasses.replace(found[name], config=config)
    return list(found.values())


def _lacking(need: Mapping[str, Any], given: str) -> str:
    if need["optional"] and not given:
        return ""
    wanted = "DIR" if need["is_folder"] else "FILE"
    said = f"{need['name']}: {need['what']} ({need['how']}): --config.needs.{need['name']}={wanted}"
    path = pathlib.Path(given)
    if need["is_folder"]:
        found = (path / checkpoint.FOLDER if need["is_weights"] else path).is_dir()
    else:
        found = path.is_file()
    if given and found:
        return ""
    return f"{said}; not found in {given}" if given else said


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
