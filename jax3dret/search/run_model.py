"""The model of a run from its config alone: no recipe, no data, no file that its weights began
with.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError, Model
from jax3dret.search import own_names

# Keys that name places on the machine of the run; where its parameters are at hand, none of them is
# needed.
_PLACES = re.compile(
    r"data\.(data_dir|manual_dir)|checkpoint\.(init_from|resume)|(\w+_)?weights|views\.folder"
)


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without names of places on the machine that it ran on."""
    return _emptied(config, "")


def build_model(
    config: Mapping[str, Any],
    class_names: tuple[str, ...],
    folder: pathlib.Path,
    *,
    own: bool = False,
) -> Model:
    """What `model` of the config's task gives. folder: for errors. own: the config may be anybody's
    and names networks of this package, or is refused before anything that it names is called.

    Raises: ConfigError: this version does not build the model, a package it needs is missing, the
        run's task has no model, or the config names what it may not.
    """
    name = str(config.get("task", ""))
    if own:
        own_names.check_task(name, where=f"{folder}/config.json")
    try:
        task: Any = configs.resolve_module(name, where=f"{folder}/config.json: task")
    except ConfigError as error:
        if not name.startswith("jax3dret."):
            raise
        raise ConfigError(
            f"{folder}: written by another version of jax3dret, whose task '{name}' this one does "
            "not have; train or import it again"
        ) from error
    if not hasattr(task, "model"):
        raise ConfigError(
            f"{folder}: its task {name} has no model(config, class_names) that embeds"
        )
    # A run of an earlier version lacks the keys that were added since.
    defaults = task.defaults().to_dict()
    if own:
        config = own_names.without_training(config, defaults, where=f"{folder}/config.json")
    full = configs.Config(_over(defaults, config))
    try:
        model: Model = task.model(full, class_names)
    except ConfigError as error:
        raise ConfigError(f"{folder}: this version does not build its model: {error}") from None
    return model


def _emptied(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out[key] = _emptied(value, f"{prefix}{key}.")
        else:
            is_place = isinstance(value, str) and _PLACES.fullmatch(prefix + key)
            out[key] = "" if is_place else value
    return out


def _over(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, and of `defaults` the keys that it lacks; a component keeps its own keys alone."""
    out = dict(defaults)
    for key, value in values.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        if both and ":" not in str(value.get("name")):
            out[key] = _over(out[key], value)
        else:
            out[key] = value
    return out
