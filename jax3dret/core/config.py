"""Configs: a Python file with variants, typed defaults, overrides from the command line, and errors
that name the right key.

A config file defines `VARIANTS` (names, the first is the default) and `get_config(variant) ->
ConfigDict`. It starts from the typed defaults of its task (`TASK_MODULE.defaults()`, which extends
`spine()` below), so a key is known or it is an error.

A section with a `name` of the form "module:attribute" is a component: its other keys are keyword
arguments of that attribute, and are checked against its signature. That is how a model, a loss or
an augmentation of one's own is plugged in. Another name on the command line starts the section
anew: the keys that the file gave were those of the other component.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from jax3dret.core import config_file
from jax3dret.core.components import (
    check_call,
    check_kwargs,
    parameters,
    resolve,
    resolve_module,
)
from jax3dret.core.types import ConfigError, UnknownKey, nearest, nearest_path

# Keys that say where a run happens or what it prints, not what it computes: they may differ when a
# workdir is resumed. A task's module adds its own as PLACE_KEYS, beside its defaults().
PLACE_KEYS = (
    *("data.data_dir", "data.manual_dir", "data.num_threads", "mesh.", "checkpoint.", "log."),
    *("eval.every", "eval.batch_size", "published", "data.published"),
)

# Keys of the evaluation alone: a workdir may be evaluated again with others, without training.
EVALUATION_KEYS = ("eval.seeds", "evals.")

# Tables of components that a config or a command may add to, as in
# --config.evals.NAME.name=module:attribute.
OPEN = ("evals",)

# The least value of numbers that count or divide.
LEAST = {
    "seed": 0,
    "train.steps": -1,
    "train.batch_size": 1,
    "train.epochs": 0,
    "train.accumulate": 1,
    "checkpoint.every": 1,
    "checkpoint.keep": 1,
    "log.every": 1,
    "eval.every": 0,
    "data.num_threads": 0,
}


def spine() -> ml_collections.ConfigDict:
    """Typed defaults of everything that the training loop itself reads."""
    return ml_collections.ConfigDict(
        {
            "task": "",  # module with make(config, open_source) -> Recipe
            "seed": 0,
            "data": {
                "name": "",  # prepared data set: "builder" or "builder/config"
                "manual_dir": "",  # raw files, for builders that need them
                "data_dir": "",  # prepared data; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets
                "num_threads": 2,
                "published": {},  # what `published` was measured on, see report.published
            },
            "train": {
                "split": "train",
                "batch_size": 64,
                "epochs": 0.0,  # passes over the data; ignored where steps is given
                "steps": -1,  # optimizer updates; 0 leaves the initial weights as they are
                # Micro-batches per update; refused for a task whose loss couples the batch.
                "accumulate": 1,
            },
            "optim": {
                "name": "adamw",
                "lr": 3e-4,
                "weight_decay": 1e-4,
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "momentum": 0.9,
                "grad_clip_norm": 0.0,  # 0: no clipping
                "schedule": {"name": "jax3dret.core.schedules:warmup_cosine"},
                "beta1_cycle": False,
                "rules": (
                    (".*", {}),
                ),  # (regex over the parameter path, {"lr", "decay", "freeze"}), first match wins
            },
            "mesh": {"data": -1, "fsdp": 1},  # -1: all remaining devices
            "sharding": (),  # (regex over the parameter path, axis names), first match wins
            "checkpoint": {
                "every": 500,
                "keep": 2,
                "resume": "",  # another run's workdir: state, step and data position are taken over
                "init_from": "",  # another run's workdir: parameters only
                "rename": (),  # (regex, replacement) over the parameter paths of init_from
                # Regexes of parameters that init_from may leave at their initial values.
                "fresh": (),
            },
            "eval": {
                "every": 0,  # steps between evaluations while training; 0: only at the end
                # An evaluation for each: how points are drawn. Metrics are the means, with the
                # spread beside them. Empty: one, with the seed of the run.
                "seeds": (),
            },
            "distance": "cosine",  # that embeddings are compared by, or "euclidean"
            # Evaluators by name: config.evals.NAME = {"name": "module:attribute", ...}. The first
            # gives the run's metrics. They stand in the order in which they are added; a whole
            # table that is assigned at once is sorted.
            "evals": ml_collections.ConfigDict(sort_keys=False),
            "log": {"every": 50, "tensorboard": True},
            "published": {},  # row name -> {metric: value}, shown beside the measured ones
        }
    )


class Config(Mapping[str, Any]):
    """A frozen config that remembers which keys were read, so that a key nothing reads can be
    reported.
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "", read: set[str] | None = None):
        self._values = dict(values)
        self._prefix = prefix
        self._read: set[str] = set() if read is None else read

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise ConfigError(
                f"config has no key '{self._prefix}{key}'{nearest(key, self._values)}"
            )
        value = self._values[key]
        if isinstance(value, Mapping):
            return Config(value, f"{self._prefix}{key}.", self._read)
        self._read.add(self._prefix + key)
        return value

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return self[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values; counts as having read them all."""
        self._read.update(self._prefix + key for key, _ in flatten(self._values))
        return _plain(self._values)

    def kwargs(self) -> dict[str, Any]:
        """The keys of a component other than its name."""
        return {key: value for key, value in self.to_dict().items() if key != "name"}

    def build(self, **extra: Any) -> Any:
        """Calls the component that this section names with its keys and `extra`.

        Raises ConfigError for a key that it does not take, and for one that it needs.
        """
        target = resolve(self["name"], where=f"config.{self._prefix}name")
        kwargs = self.kwargs()
        check_call(target, kwargs, where=f"config.{self._prefix[:-1]}", extra=extra)
        return target(**{**kwargs, **extra})

    def with_values(self, changes: Mapping[str, Any]) -> Config:
        """A config with other values under these dotted keys, all of them known; what is read of
        either counts for both.
        """
        values = _plain(self._values)
        for key, value in changes.items():
            *parents, leaf = key.split(".")
            section = values
            for part in parents:
                section = section[part]
            if leaf not in section:
                raise ConfigError(
                    f"config has no key '{self._prefix}{key}'{nearest(leaf, section)}"
                )
            section[leaf] = _plain(value)
        return Config(values, self._prefix, self._read)

    def read_keys(self) -> frozenset[str]:
        return frozenset(self._read)


def load(spec: str, overrides: Sequence[tuple[str, str]] = ()) -> tuple[Config, str]:
    """Resolves "path/to/config.py[:variant]" and overrides into a frozen config.

    Returns the config and its full name "file_stem:variant".

    Raises:
        UnknownKey: no such key.
        ConfigError: no such file or variant, or a value of the wrong type.
    """
    path, _, variant = spec.partition(":")
    given, variant = config_file.run(pathlib.Path(path), variant)
    values = _plain(given.to_dict())
    known = resolve(f"{values['task']}:defaults", where=f"{path}: config.task")().to_dict()
    for key, _ in flatten(values):
        _check_known(key, values, known, origin=path)
    # A component's name comes before its keys, in whatever order they were typed.
    for key, text in sorted(overrides, key=lambda given: not given[0].endswith(".name")):
        _apply_override(values, known, key, text)
    check_least(values, LEAST)
    # A wrong name is told as such, and not as another config than that of the workdir.
    for key, value in flatten(values):
        if key.endswith(".name") and isinstance(value, str) and ":" in value:
            resolve(value, where=f"config.{key}")
    return Config(values), f"{pathlib.Path(path).stem}:{variant}"


def unused_overrides(config: Config, overrides: Sequence[tuple[str, str]]) -> list[str]:
    """Keys given on the command line that nothing has read."""
    read = config.read_keys()
    return [
        key for key, _ in overrides if not any(r == key or r.startswith(key + ".") for r in read)
    ]


def check_least(values: Mapping[str, Any], least: Mapping[str, float]) -> None:
    """Raises ConfigError where the number under a dotted key is below what `least` says."""
    for key, lowest in least.items():
        number: Any = values
        for part in key.split("."):
            number = number[part]
        if not lowest <= number < math.inf:
            raise ConfigError(f"config.{key} is {number}; give {lowest} or more")


def check_seeds(seeds: Any, *, where: str) -> tuple[int, ...]:
    """The seeds. Raises ConfigError for what are no distinct whole numbers from 0 on."""
    whole = isinstance(seeds, tuple | list)
    whole = whole and all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds)
    if not whole or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where} is {seeds}; give distinct whole numbers, such as (0,1,2)")
    return tuple(seeds)


def check_rules(rules: Any, *, where: str) -> None:
    """Raises ConfigError where `rules` is not a sequence of pairs (regular expression, setting)."""
    for rule in rules:
        if not (isinstance(rule, tuple | list) and len(rule) == 2 and isinstance(rule[0], str)):
            raise ConfigError(
                f"{where}: {rule!r} is not a pair of a regular expression and what it sets"
            )
        try:
            re.compile(rule[0])
        except re.error as error:
            raise ConfigError(
                f"{where}: '{rule[0]}' is not a regular expression: {error}"
            ) from error


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted leaf keys and their values, in order."""
    out: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out += flatten(value, f"{prefix}{key}.")
        else:
            out.append((prefix + key, value))
    return out


def dump(config: Config) -> str:
    """The resolved config as JSON, as config.json holds it; counts as having read nothing."""
    return json.dumps(_plain(config._values), indent=2, sort_keys=True) + "\n"


def differences(ours: Config, theirs: Mapping[str, Any], *, evaluation: bool = False) -> list[str]:
    """What makes two resolved configs different trainings, as "key: theirs there, ours here" lines.

    evaluation: also what makes them different evaluations.
    """
    task = resolve_module(ours["task"], where="config.task")
    places = (*PLACE_KEYS, *getattr(task, "PLACE_KEYS", ()))
    places += () if evaluation else EVALUATION_KEYS
    mine = dict(flatten(json.loads(dump(ours))))
    other = dict(flatten(theirs))
    return [
        f"{key}: {json.dumps(other.get(key))} there, {json.dumps(mine.get(key))} here"
        for key in sorted(mine.keys() | other.keys())
        if mine.get(key) != other.get(key) and not (key.startswith(places) or is_recomputing(key))
    ]


def is_recomputing(key: str) -> bool:
    """Whether a key says if a network keeps its activations or computes them again, which changes
    memory and time and not what comes out.
    """
    return key.rpartition(".")[2] == "remat"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping | ml_collections.ConfigDict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return value


def _component_above(values: Mapping[str, Any], key: str) -> str | None:
    """Dotted key of the innermost section above `key` that names a component."""
    parts = key.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        section: Any = values
        for part in parts[:depth]:
            section = section.get(part, {}) if isinstance(section, Mapping) else {}
        if isinstance(section, Mapping) and ":" in str(section.get("name", "")):
            return ".".join(parts[:depth])
    return None


def _check_known(
    key: str, values: Mapping[str, Any], known: Mapping[str, Any], *, origin: str
) -> Any:
    """Returns an example value of a known key (None if it has no default); raises ConfigError for
    an unknown one.
    """
    parent, leaf = values, key
    component = _component_above(values, key)
    if component is not None:
        for part in component.split("."):
            parent = parent[part]
        argument = key[len(component) + 1 :]
        if argument == "name":
            return ""
        target = resolve(str(parent["name"]), where=f"config.{component}.name")
        first, *inner = argument.split(".")
        check_kwargs(target, {first: None}, where=f"{origin}: config.{component}")
        default = parameters(target)[first].default
        value = parent.get(first, None if default is inspect.Parameter.empty else default)
        for part in inner:
            if not isinstance(value, Mapping) or part not in value:
                raise UnknownKey(
                    f"{origin}: unknown config key '{leaf}'; '{component}.{first}' holds no "
                    f"'{part}'"
                )
            value = value[part]
        return value
    section: Any = known
    parts = key.split(".")
    if parts[0] in OPEN and parts[2:] == ["name"]:
        return ""
    for depth, part in enumerate(parts):
        if isinstance(section, Mapping) and not section and depth:
            return None  # an open table, such as `published`
        if not isinstance(section, Mapping) or part not in section:
            everything = [name for name, _ in flatten(known)] + [
                name for name, _ in flatten(values) if name != key
            ]
            if parts[0] in OPEN and depth == 1 and not nearest(part, section):
                raise UnknownKey(
                    f"{origin}: config.{parts[0]} has no '{part}'; name one first, with "
                    f"config.{parts[0]}.{part}.name=module:attribute"
                )
            raise UnknownKey(
                f"{origin}: unknown config key '{leaf}'{nearest_path(leaf, everything)}"
            )
        section = section[part]
    return section


def _apply_override(values: dict[str, Any], known: Mapping[str, Any], key: str, text: str) -> None:
    example = _check_known(key, values, known, origin="command line")
    if isinstance(example, Mapping):
        raise ConfigError(
            f"--config.{key} is a section, not a value; it holds: {', '.join(example)}"
        )
    section = values
    *parents, leaf = key.split(".")
    for part in parents:
        section = section.setdefault(part, {})
    if leaf == "name" and ":" in str(section.get("name", "")) and section["name"] != text:
        section.clear()
    section[leaf] = parse_value(text, example, key)


def parse_value(text: str, example: Any, key: str) -> Any:
    """Reads `text` as a value of the type of `example` (any Python literal where there is no
    example).
    """
    if isinstance(example, str):
        return text
    if isinstance(example, bool):
        if text.lower() in ("true", "1", "yes"):
            return True
        if text.lower() in ("false", "0", "no"):
            return False
        raise ConfigError(f"--config.{key}={text}: give true or false")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if example is None:
            return text
        raise ConfigError(
            f"--config.{key}={text}: not of type {type(example).__name__}, such as {example!r}"
        ) from None
    if isinstance(example, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(example, tuple | list) and isinstance(value, tuple | list):
        return _plain(value)
    if example is not None and (type(value) is not type(example)):
        raise ConfigError(
            f"--config.{key}={text}: not of type {type(example).__name__}, such as {example!r}"
        )
    return value
