"""An input as JSON: "module:attribute", its version and its fields, as `meta["inputs"]` and cache
keys hold it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core import config as configs
from jax3dret.core import rng
from jax3dret.core.types import ConfigError, Input

OWN = "jax3dret."


def describe(reads: Input) -> dict[str, Any]:
    """{"name": "module:attribute", "version", and every field}: equal where rows are.

    Raises ConfigError for an input that is no dataclass, or whose fields are not JSON-like.
    """
    kind = type(reads)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if not dataclasses.is_dataclass(reads):
        raise ConfigError(f"the input {name} is no dataclass; its fields say what a row depends on")
    described = {"name": name, "version": reads.version, **dataclasses.asdict(reads)}
    try:
        return json.loads(json.dumps(described, allow_nan=False))  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the input {name} has a field that is not JSON: {error}") from None


def restore(described: Mapping[str, Any], *, where: str, foreign: bool = False) -> Input:
    """The input that was described.

    where: for messages. foreign: whether code outside this package may be called.

    Raises: ConfigError: there is no such input, or another version of it, or it is code outside
        this package.
    """
    name, version = str(described.get("name", "")), described.get("version")
    check_own(name, where=where, foreign=foreign)
    kind = configs.resolve(name, where=f"{where}: input")
    fields = {key: _tuples(v) for key, v in described.items() if key not in ("name", "version")}
    configs.check_kwargs(kind, fields, where=f"{where}: input {name}")
    reads: Input = kind(**fields)
    if reads.version != version:
        raise ConfigError(
            f"{where}: made with version {version} of the input {name}, this is {reads.version}; "
            "index it again"
        )
    return reads


def check_own(name: str, *, where: str, foreign: bool = False) -> None:
    """Raises ConfigError for a name of code outside this package, unless `foreign` code is wanted."""
    if not foreign and not name.startswith(OWN):
        raise ConfigError(
            f"{where}: its model uses {name}, code outside jax3dret, which an index does not run "
            "by "
            "itself; give --weights WORKDIR, the run that it was made with"
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
