"""Whether a config that a run left behind, its config.json, is one of this version."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError

# Code of other packages comes and goes without this one's doing.
_OURS = "jax3dret."


def require_current(values: Mapping[str, Any], where: object) -> None:
    """Refuses what an earlier version wrote.

    values: a resolved config as JSON. where: the folder that it was found in, for the error.

    Raises:
        ConfigError: it is no config, it names code of this package that is gone, or its task has
            other keys by now.
    """
    task = values.get("task")
    if not isinstance(task, str) or not task:
        raise ConfigError(f"{where}/config.json: not the config of a run; give another workdir")
    reason = next(_reasons(values, task), "")
    if reason:
        raise ConfigError(
            f"{where} was written by an earlier version: {reason}; run it again in another workdir"
        )


def _reasons(values: Mapping[str, Any], task: str) -> Iterator[str]:
    named = [("task", task)]
    named += [
        (key, value.partition(":")[0])
        for key, value in configs.flatten(values)
        if key.rpartition(".")[2] == "name" and isinstance(value, str) and ":" in value
    ]
    for key, module in named:
        if module.startswith(_OURS) and not _is_there(module):
            yield f"config.{key} names {module}, which is gone"
    if not task.startswith(_OURS):
        return
    defaults = getattr(importlib.import_module(task), "defaults", None)
    if defaults is None:
        yield f"config.task names {task}, which is no task"
        return
    ours = defaults().to_dict()
    for key in sorted(ours.keys() ^ values.keys()):
        yield f"config.{key} is {'not there' if key in ours else 'no key any more'}"


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return error.name is None or not module.startswith(error.name)
    return True
