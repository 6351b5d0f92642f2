"""Running a config file: a Python file that defines `VARIANTS` and `get_config(variant)`.

`VARIANTS` holds the names of the variants, the default first; as a dict it may say beside each what
it runs. `get_config` gives a ConfigDict.

Whatever its code raises becomes one line that names the file and the place.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import pathlib
import traceback
from collections.abc import Iterator
from types import ModuleType

import ml_collections

from jax3dret.core.types import ConfigError, nearest


def run(path: pathlib.Path, variant: str = "") -> tuple[ml_collections.ConfigDict, str]:
    """What a config file gives for a variant (its first, if none is named), and that variant's
    name.

    Raises:
        ConfigError: no such file or variant, or code that fails or gives something else.
    """
    module = _load(path)
    names = tuple(module.VARIANTS)
    if not names:
        raise ConfigError(f"{path}: VARIANTS is empty; name at least one, such as 'demo'")
    variant = variant or names[0]
    if variant not in names:
        raise ConfigError(
            f"{path} has no variant '{variant}'{nearest(variant, names)}; it has: "
            f"{', '.join(names)}"
        )
    with _one_line(path):
        given = module.get_config(variant)
    if not isinstance(given, ml_collections.ConfigDict):
        raise ConfigError(
            f"{path}: get_config('{variant}') gives {type(given).__name__}; give a ConfigDict"
        )
    return given, variant


def variants(path: pathlib.Path) -> tuple[str, ...]:
    """The names of a config file's variants, the default first."""
    return tuple(_load(path).VARIANTS)


def _load(path: pathlib.Path) -> ModuleType:
    try:
        there = path.is_file()
        if there:
            path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"--config={path}: cannot be read ({reason})") from error
    if not there:
        # Their folder and suffix are equal, and would make any two alike.
        others = sorted(p.stem for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        found = difflib.get_close_matches(path.stem, others, n=1)
        hint = f"; did you mean '{path.with_name(f'{found[0]}.py')}'?" if found else ""
        raise ConfigError(f"--config={path}: no such file{hint}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--config={path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    with _one_line(path):
        spec.loader.exec_module(module)
    for name in ("VARIANTS", "get_config"):
        if not hasattr(module, name):
            raise ConfigError(
                f"{path}: a config file defines VARIANTS and get_config(variant); {name} is missing"
            )
    return module


@contextlib.contextmanager
def _one_line(path: pathlib.Path) -> Iterator[None]:
    """Turns what the code of a config file raises into one line that names the place."""
    try:
        yield
    except ConfigError:
        raise
    except SyntaxError as error:
        # Not always the config itself: it may be a module that the config imports.
        raise ConfigError(f"{error.filename or path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        here = path.absolute()
        lines = [
            f.lineno
            for f in traceback.extract_tb(error.__traceback__)
            if pathlib.Path(f.filename) == here
        ]
        said = " ".join(str(error.args[0] if error.args else "").split())
        raise ConfigError(
            f"{path}, line {lines[-1] if lines else '?'}: {type(error).__name__}: {said}"
        ) from error
