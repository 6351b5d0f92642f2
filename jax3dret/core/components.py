"""What a config names: "module:attribute", and whether the keys beside the name are what it takes
and needs.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pathlib
import pkgutil
import traceback
from collections.abc import Callable, Collection, Mapping
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
        if name.strip("."):
            raise ConfigError(_unloadable(name, error, where)) from error
        raise ConfigError(f"{where}: '{name}' is not a module name") from error
    except Exception as error:
        raise ConfigError(_unloadable(name, error, where)) from error


def _unloadable(name: str, error: Exception, where: str) -> str:
    """One line for a module whose own code fails, with the place of it."""
    frames = traceback.extract_tb(error.__traceback__)
    file, line = frames[-1].filename, frames[-1].lineno
    if isinstance(error, SyntaxError):
        file, line = error.filename or file, error.lineno
    said = " ".join(str(error.args[0] if error.args else "").split())
    return f"{where}: '{name}' cannot be imported: {type(error).__name__}: {said} ({file}, line {line})"


def _modules(name: str) -> list[str]:
    """The modules of the package that a name begins with; where there is no such package, those of
    this one, and every package and module that can be found. None is imported."""
    package = name.partition(".")[0]
    others: list[str] = []
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        spec = None
    if spec is None:
        package = __name__.partition(".")[0]
        spec = importlib.util.find_spec(package)
        wanted, *tail = name.partition(".")
        installed = [module.name for module in pkgutil.iter_modules()]
        near = difflib.get_close_matches(wanted, installed, n=3, cutoff=0.75)
        others = ["".join((other, *tail)) for other in near]
    found = others
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
    found = getattr(module, attribute)
    if not callable(found):
        raise ConfigError(
            f"{where}: '{name}' is a {type(found).__name__}; give a function or a class"
        )
    return found  # type: ignore[no-any-return]


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


def check_call(
    target: Callable[..., Any],
    kwargs: Mapping[str, Any],
    *,
    where: str,
    positional: int = 0,
    extra: Collection[str] = (),
) -> None:
    """Whether `target` can be called with `kwargs` after so many arguments by position.

    extra: what the caller adds to `kwargs`, which no key of the config can leave out.

    Raises:
        UnknownKey: it does not take one of `kwargs`.
        ConfigError: it does not take one of `extra`, or needs what it is not given.
    """
    check_kwargs(target, {k: v for k, v in kwargs.items() if k not in extra}, where=where)
    known, label = parameters(target), getattr(target, "__name__", str(target))
    for key in extra:
        if key not in known:
            raise ConfigError(
                f"{where}: {label} takes no '{key}', which it is given; it takes: "
                f"{', '.join(known)}"
            )
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        name
        for name, p in list(known.items())[positional:]
        if p.default is p.empty and p.kind not in variadic and name not in {*kwargs, *extra}
    ]
    if missing:
        needed = ", ".join(f"'{name}'" for name in missing)
        raise ConfigError(
            f"{where}: {label} needs {needed}; give "
            f"{' and '.join(f'{where}.{name}' for name in missing)}"
        )


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a component takes by keyword, in order."""
    hidden = {"self", "parent"}  # Linen modules are dataclasses with a `parent` that no user sets
    try:
        found = inspect.signature(target).parameters
    except (TypeError, ValueError) as error:  # what is compiled may not say
        raise ConfigError(f"{target!r} does not say what it takes; give another") from error
    return {k: p for k, p in found.items() if k not in hidden}
