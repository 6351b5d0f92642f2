"""The recipe of a run from its config alone: without its data, and without the files that its weights began with."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError, PyTree, Recipe

# Keys that name places on the machine of the run; where its parameters are at hand, none of them is needed.
_PLACES = re.compile(r"data\.(data_dir|manual_dir)|checkpoint\.(init_from|resume)|(\w+_)?weights")


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without names of places on the machine that it ran on."""
    return _emptied(config, "")


def rebuild(
    config: Mapping[str, Any], described: Mapping[str, Any], folder: pathlib.Path
) -> tuple[Recipe, dict[str, PyTree]]:
    """The recipe that a config describes, and its {"params", "model_state"} as shapes.

    described: name, version, class_names, up_axis and split sizes of the training data. folder: for errors.

    Raises:
        ConfigError: this version does not build the model, or a package it needs is missing.
    """
    task: Any = configs.resolve_module(config["task"], where=f"{folder}/config.json: task")
    # A run of an earlier version lacks the keys that were added since.
    full = configs.Config(_over(task.defaults().to_dict(), config))
    try:
        recipe: Recipe = task.make(
            full, lambda split, name=None: _Described(described, split, name)
        )
    except ConfigError as error:
        raise ConfigError(f"{folder}: this version does not build its model: {error}") from None
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in recipe.example.items()
    }
    params, model_state = jax.eval_shape(recipe.task.init, jax.random.key(0), batch)
    return recipe, {"params": params, "model_state": model_state}


class _Described:
    """What a recipe may ask of its data before it runs: everything but the records.

    Of several data sets of a run only the first is described; the others have its classes.
    """

    def __init__(self, described: Mapping[str, Any], split: str, name: str | None):
        self.manifest, self.split, self.name = described, split, name or described["name"]
        self.version, self.class_names = (
            described.get("version", ""),
            tuple(described["class_names"]),
        )
        parts = described.get("splits", {})
        asked = set(re.findall(r"\w+", split)) & parts.keys() or parts.keys()
        self._items = max(1, sum(parts[name]["items"] for name in asked))
        self.ids: tuple[str, ...] = ()
        self.labels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self._items


def _emptied(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out[key] = _emptied(value, f"{prefix}{key}.")
        else:
            out[key] = "" if isinstance(value, str) and _PLACES.fullmatch(prefix + key) else value
    return out


def _over(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, and of `defaults` the keys that it lacks; a component keeps its own keys alone."""
    out = dict(defaults)
    for key, value in values.items():
        both = (
            isinstance(value, Mapping)
            and isinstance(out.get(key), Mapping)
            and ":" not in str(value.get("name"))
        )
        out[key] = _over(out[key], value) if both else value
    return out
