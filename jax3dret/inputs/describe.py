"""An input as JSON: "module:attribute", its version and its fields, as `meta["inputs"]` and cache
keys hold it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core import config as configs
from jax3dret.core import rng
from jax3dret.core.types import KINDS, ConfigError, Input, nearest

OWN = "jax3dret."
_INPUT = re.compile(r"jax3dret\.inputs\.[a-z][a-z0-9_]*:[A-Z][A-Za-z0-9]*")
# By the type of a field, those that JSON gives for it.
_PLAIN: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    str: (str,),
    bool: (bool,),
}


def describe(reads: Input) -> dict[str, Any]:
    """{"name": "module:attribute", "version", and every field}: equal where rows are.

    Raises ConfigError for an input that is no dataclass, whose fields are not JSON-like, or that
    accepts what is no kind of object.
    """
    kind = type(reads)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if not dataclasses.is_dataclass(reads):
        raise ConfigError(f"the input {name} is no dataclass; its fields say what a row depends on")
    accepts = tuple(reads.accepts)
    unknown = next((kind for kind in accepts if kind not in KINDS), None)
    if unknown is not None or not accepts:
        said = f"'{unknown}'{nearest(str(unknown), KINDS)}" if accepts else "nothing"
        raise ConfigError(f"the input {name} accepts {said}; give some of {', '.join(KINDS)}")
    described = {"name": name, "version": reads.version, **dataclasses.asdict(reads)}
    try:
        return json.loads(json.dumps(described, allow_nan=False))  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the input {name} has a field that is not JSON: {error}") from None


def restore(described: Mapping[str, Any], *, where: str, foreign: bool = False) -> Input:
    """The input that was described.

    where: for messages. foreign: whether code outside this package may be called; without, it is
    an input of `jax3dret.inputs` or nothing is called.

    Raises: ConfigError: there is no such input, or another version of it, or it is code outside
        this package, or a field is missing or of another type.
    """
    name = described.get("name") if isinstance(described, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: an input without a name")
    check_own(name, where=where, foreign=foreign)
    if not foreign and not _INPUT.fullmatch(name):
        raise ConfigError(f"{where}: {name} is no input of jax3dret; nothing of it was called")
    kind = configs.resolve(name, where=f"{where}: input")
    if not foreign and not _is_input(kind):
        raise ConfigError(f"{where}: {name} is no input of jax3dret; nothing of it was called")
    fields = {key: _tuples(v) for key, v in described.items() if key not in ("name", "version")}
    configs.check_kwargs(kind, fields, where=f"{where}: input {name}")
    _check_fields(kind, fields, f"{where}: input {name}")
    reads: Input = kind(**fields)
    if reads.version != described.get("version"):
        raise ConfigError(
            f"{where}: made with version {described.get('version')} of the input {name}, this is "
            f"{reads.version}"
        )
    return reads


def _is_input(kind: Any) -> bool:
    """Whether a name of `jax3dret.inputs` is that of an input defined there."""
    ours = getattr(kind, "__module__", "").startswith(f"{OWN}inputs.")
    methods = ("accepts", "version", "row", "batch")
    is_dataclass = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return ours and is_dataclass and all(hasattr(kind, name) for name in methods)


def _check_fields(kind: Any, fields: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError for a field that is missing, of another type, or too small a number."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        required = field.default is field.default_factory is dataclasses.MISSING
        if field.name not in fields and required:
            raise ConfigError(f"{where}: lacks '{field.name}'")
        wanted = _PLAIN.get(hints.get(field.name))
        value = fields.get(field.name)
        if field.name in fields and wanted is not None and type(value) not in wanted:
            raise ConfigError(
                f"{where}: '{field.name}' is {value!r}, not of type {wanted[0].__name__}"
            )
        # The whole numbers of this package's inputs are sizes and counts.
        if kind.__module__.startswith(OWN) and type(value) is int and value < 1:
            raise ConfigError(f"{where}: '{field.name}' is {value}; it is at least 1")


def check_own(name: str, *, where: str, foreign: bool = False) -> None:
    """Raises ConfigError for a name of code outside this package, unless `foreign` code is wanted."""
    if not foreign and not name.startswith(OWN):
        raise ConfigError(
            f"{where}: its model uses {name}, code outside jax3dret, which an index does not run "
            "by itself; give --weights WORKDIR, the run that it was made with"
        )


def identity(reads: Input) -> str:
    """A hash of `describe`; with an item's digest it is the key of a row."""
    text = json.dumps(describe(reads), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def constant_stream(reads: Input) -> np.random.Generator:
    """The generator that `row` gets: the same for every object, so that equal objects give equal
    rows whatever file they lie in.
    """
    kind = type(reads)
    return rng.host_generator(0, f"{kind.__module__}:{kind.__qualname__}", reads.version)


def _tuples(value: Any) -> Any:
    """JSON has no tuples, and a frozen dataclass no lists."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value
