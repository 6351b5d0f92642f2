"""What an index, or an import of weights, may name. It may be anybody's: what its config names is
imported and called, with arguments that stand beside the name.

Networks and losses of this package are taken, told by where they are defined and what they are;
neither does anything but compute. Schedules, augmentations, captions, evaluators and prototypes
belong to a training: they are left out before a model is built, and so are neither imported nor
called. Every other name is refused.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.inputs import describe

_TASK = re.compile(r"jax3dret\.tasks(\.[a-z][a-z0-9_]*)+")
_COMPONENT = re.compile(r"jax3dret\.([a-z0-9_.]+):[A-Za-z][A-Za-z0-9_]*")
# Packages and modules whose components a training alone reads.
_TRAINING = ("core.schedules", "data", "evaluators", "tasks")


def check_task(name: object, *, where: str) -> None:
    """Raises ConfigError for what cannot be a task of this package; nothing is imported."""
    describe.check_own(str(name), where=where)
    if not _TASK.fullmatch(str(name)):
        raise ConfigError(f"{where}: task names {name}, which is no task of jax3dret")


def without_training(
    config: Mapping[str, Any], defaults: Mapping[str, Any], *, where: str
) -> dict[str, Any]:
    """The config without the components of a training, once all of it is checked.

    defaults: of its task: what names a network or a loss there names one in the config too.

    Raises: ConfigError: a name that is neither.
    """
    return _checked(config, defaults, where, "")


def _checked(
    values: Mapping[str, Any], defaults: Mapping[str, Any], where: str, prefix: str
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(value, Mapping):
            out[key] = value
            continue
        beside = defaults.get(key)
        beside = beside if isinstance(beside, Mapping) else {}
        name = value.get("name", "")
        if not isinstance(name, str):
            raise ConfigError(f"{where}: config.{prefix}{key}.name is {name!r}; it is a text")
        is_component = ":" in name
        if is_component and not _is_computed(name, beside, where, f"config.{prefix}{key}.name"):
            continue
        out[key] = _checked(value, beside, where, f"{prefix}{key}.")
    return out


def _is_computed(name: str, beside: Mapping[str, Any], where: str, key: str) -> bool:
    """Whether a name is of a network or a loss, and not of what a training alone reads."""
    describe.check_own(name, where=where)
    found = _COMPONENT.fullmatch(name)
    module = found[1] if found else ""
    layer = module.partition(".")[0]
    if layer in _RIGHT:
        target = configs.resolve(name, where=f"{where}: {key}")
        if _RIGHT[layer](target) and target.__module__.startswith(f"jax3dret.{layer}."):
            return True
    elif any(module == each or module.startswith(f"{each}.") for each in _TRAINING):
        wanted = str(beside.get("name", "")).removeprefix("jax3dret.").partition(".")[0]
        if wanted not in _RIGHT:
            return False
    raise ConfigError(
        f"{where}: {key} is {name}, which is no network and no loss of jax3dret; nothing of it was "
        "called"
    )


def _is_network(target: Any) -> bool:
    """A Linen module, or a function that says that it returns one."""
    if inspect.isfunction(target):
        target = typing.get_type_hints(target).get("return")
    return isinstance(target, type) and issubclass(target, nn.Module)


_RIGHT: dict[str, Callable[[Any], bool]] = {"models": _is_network, "losses": inspect.isfunction}
