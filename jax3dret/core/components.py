"""What a config names: "module:attribute", and whether it takes the keys beside the name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from jax3dret.core.types import ConfigError, UnknownKey, nearest


def resolve_module(name: str, *, where: str) -> Any:
    """Imports a module by name; a missing one is a ConfigError that says where the name stood."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not name.startswith(error.name):
            raise ConfigError(
                f"{where}: '{name}' needs the package '{error.name}', which is not installed"
            ) from error
        raise ConfigError(
            f"{where}: there is no module '{name}'{nearest(name, _modules(name))}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{where}: '{name}' is not a module name") from error


def _modules(name: str) -> list[str]:
    """The modules of the package that a name begins with, or of this one where there is no such
    package; none is imported."""
    package = name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        spec = None
    if spec is None:
        package = __name__.partition(".")[0]
        spec = importlib.util.find_spec(package)
    found = []
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        root = pathlib.Path(folder)
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found.append(".".join((package, *(p for p in parts if p != "__init__"))))
    return found


def resolve(name: str, *, where: str = "config") -> Callable[..., Any]:
    """Imports "module:attribute"."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(f"{where}: '{name}' is not of the form 'module:attribute'")
    module = resolve_module(module_name, where=where)
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise ConfigError(
            f"{where}: {module_name} has no '{attribute}'{nearest(attribute, public)}"
        )
    return getattr(module, attribute)


def check_kwargs(target: Callable[..., Any], kwargs: Mapping[str, Any], *, where: str) -> None:
    """Raises UnknownKey, a ConfigError, where `target` does not take a key of `kwargs`."""
    known = parameters(target)
    for key in kwargs:
        if key not in known:
            label = getattr(target, "__name__", str(target))
            raise UnknownKey(
                f"{where}: {label} takes no '{key}'{nearest(key, known)}; "
                f"it takes: {', '.join(known)}"
            )


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a component takes by keyword, in order."""
    hidden = {"self", "parent"}  # Linen modules are dataclasses with a `parent` that no user sets
    return {k: p for k, p in inspect.signature(target).parameters.items() if k not in hidden}
