"""Architectures of fields by name, as a description that a file can hold, and many stacked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core.types import ConfigError, PyTree, nearest
from jax3dret.models.fields.field import Architecture
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.network import Decoder
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.octree_cells import capacity
from jax3dret.models.fields.siren import Siren
from jax3dret.models.fields.triplane import Triplane

ARCHITECTURES: dict[str, type[Siren | HashGrid | Triplane | Octree]] = {
    "siren": Siren,
    "hashgrid": HashGrid,
    "triplane": Triplane,
    "octree": Octree,
}


def by_name(name: str, **fields: Any) -> Architecture:
    """The architecture with INRet's numbers, but for the fields given; "decoder" may be a mapping.

    Raises ConfigError for an unknown name or field, naming the nearest, and for values that make
    no architecture.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"there is no field architecture '{name}'{nearest(name, ARCHITECTURES)}; there are: "
            f"{', '.join(ARCHITECTURES)}"
        )
    if isinstance(fields.get("decoder"), Mapping):
        fields["decoder"] = _built(f"{name}.decoder", Decoder, fields["decoder"])
    return _built(name, ARCHITECTURES[name], fields)


def describe(architecture: Architecture) -> dict[str, Any]:
    """Name and fields as JSON has them: what `from_description` reads."""
    fields = dataclasses.asdict(architecture)  # type: ignore[call-overload]
    if "decoder" in fields:
        fields["decoder"]["skip"] = list(fields["decoder"]["skip"])
    return {"name": architecture.name, **fields}


def from_description(description: Mapping[str, Any]) -> Architecture:
    """What `describe` was given. Raises ConfigError as `by_name`, and for a missing name."""
    if not isinstance(description, Mapping) or "name" not in description:
        raise ConfigError(f"the description of a field architecture has no 'name': {description!r}")
    fields = dict(description)
    return by_name(fields.pop("name"), **fields)


def stack(architecture: Architecture, variables: Sequence[PyTree]) -> PyTree:
    """Variables of several shapes with a new leading axis, for `jax.vmap(architecture.apply)`;
    trees of different size are padded to a common one.
    """
    if isinstance(architecture, Octree):
        sizes = [
            capacity(max(len(size(v)) for v in variables))
            for size in (
                lambda v: v["grid"]["table"],
                lambda v: v["structure"]["corners"],
                lambda v: v["structure"]["children"],
            )
        ]
        variables = [architecture.pad(v, *sizes) for v in variables]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)


def unstack(architecture: Architecture, stacked: PyTree) -> list[PyTree]:
    """What `stack` was given, as NumPy arrays without padding."""
    stacked = jax.tree.map(np.asarray, stacked)
    count = len(jax.tree.leaves(stacked)[0])
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]
    return [architecture.trim(v) for v in each] if isinstance(architecture, Octree) else each


def _built(where: str, make: type, fields: Mapping[str, Any]) -> Any:
    known = [field.name for field in dataclasses.fields(make)]
    for key, value in fields.items():
        if key not in known:
            raise ConfigError(
                f"{where} has no field '{key}'{nearest(key, known)}; it has: {', '.join(known)}"
            )
        default = next(f.default for f in dataclasses.fields(make) if f.name == key)
        number = isinstance(default, int | float) and not isinstance(default, bool)
        if number and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"{where}.{key} is {value!r}; expected a number")
        if isinstance(default, int) and number and int(value) != value:
            raise ConfigError(f"{where}.{key} is {value!r}; expected a whole number")
    # JSON has no tuples.
    return make(**{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()})
