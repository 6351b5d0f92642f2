"""What an encoder reads of one INR: arrays whose names say its architecture and function.

    "<architecture>_<function>/rows"      float32 [R, H], see `rows`
    "<architecture>_<function>/lattice"   [X, Y, Z, F], of an INR with a grid, or
    "<architecture>_<function>/planes"    [G, R, R, D], of a triplane, which its lattice is made of

A kind of INR is "<architecture>_<function>", as the records of a data set of INRs name it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.field_encoders import lattice, rows
from jax3dret.models.fields.field import FUNCTIONS, Architecture, Field, Function
from jax3dret.models.fields.triplane import Triplane

PRECISIONS = ("float16", "float32")


def kind_of(architecture: str, function: str) -> str:
    """ "hashgrid", "sdf" -> "hashgrid_sdf"."""
    return f"{architecture}_{function}"


def split_kind(kind: str) -> tuple[str, Function]:
    """ "hashgrid_sdf" -> "hashgrid", "sdf". Raises ConfigError for what is no kind."""
    architecture, _, function = kind.rpartition("_")
    for known in FUNCTIONS:
        if architecture and function == known:
            return architecture, known
    raise ConfigError(
        f"'{kind}' is no kind of INR; give ARCHITECTURE_FUNCTION, such as hashgrid_sdf, the "
        f"function one of {', '.join(FUNCTIONS)}"
    )


def kinds_in(names: Iterable[str]) -> list[str]:
    """The kinds of INR that arrays of these names belong to, in their order."""
    found = dict.fromkeys(name.partition("/")[0] for name in names if name.endswith("/rows"))
    return list(found)


@dataclasses.dataclass(frozen=True)
class InrRow:
    """How the row of an INR is made.

    resolution: of the lattice, points an axis. precision: of the features on it; float16, which
    keeps three digits, is half as much to read.

    Raises ConfigError for a resolution or a precision that is none.
    """

    resolution: int = 64
    precision: str = "float16"

    def __post_init__(self) -> None:
        lattice.check_resolution(self.resolution)
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"features of a lattice in '{self.precision}'; expected {' or '.join(PRECISIONS)}"
            )

    def __call__(self, field: Field) -> dict[str, np.ndarray]:
        """The arrays of a field, by name.

        Raises: DataError: its numbers are not finite, or too large for the precision. ConfigError:
            a network that gives no rows.
        """
        architecture, variables = field.architecture, field.variables
        kind = kind_of(architecture.name, field.function)
        made = {
            f"{kind}/rows": rows.weight_rows(architecture, _on_host(variables["decoder"]["layers"]))
        }
        if isinstance(architecture, Triplane):
            planes = lattice.sample_planes(architecture, variables, self.resolution)
            made[f"{kind}/planes"] = planes.astype(self.precision)
        elif architecture.feature_width:
            # What overflows, or is no number, is refused below.
            with np.errstate(over="ignore", invalid="ignore"):
                values = lattice.sample(architecture, variables, self.resolution)
                made[f"{kind}/lattice"] = values.astype(self.precision)
        for name, array in made.items():
            if not np.isfinite(array).all():
                raise DataError(
                    f"{field.about.get('source', 'an INR')}: {name} holds numbers that are not "
                    f"finite in {array.dtype}; the fit may have diverged"
                )
        return made

    def shapes(self, architecture: Architecture, function: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and type of those arrays, of every INR of an architecture."""
        kind = kind_of(architecture.name, function)
        layers = _decoder_shapes(architecture)
        example = [{k: np.zeros(v.shape, np.float32) for k, v in each.items()} for each in layers]
        shape = rows.weight_rows(architecture, example).shape
        found = {f"{kind}/rows": jax.ShapeDtypeStruct(shape, np.float32)}
        side = (self.resolution,) * 3
        if isinstance(architecture, Triplane):
            shape = (3 * architecture.levels, *side[:2], architecture.width)
            found[f"{kind}/planes"] = jax.ShapeDtypeStruct(shape, np.dtype(self.precision))
        elif architecture.feature_width:
            shape = (*side, architecture.feature_width)
            found[f"{kind}/lattice"] = jax.ShapeDtypeStruct(shape, np.dtype(self.precision))
        return found


def _decoder_shapes(architecture: Architecture) -> list[dict[str, Any]]:
    """Of the layers of an architecture's network, which no structure changes."""
    decoder = getattr(architecture, "decoder", None)
    if decoder is None:
        made = jax.eval_shape(lambda key: architecture.init(key), jax.random.key(0))["decoder"]
    else:
        made = jax.eval_shape(lambda: decoder.init(architecture.name, architecture.feature_width))
    layers: list[dict[str, Any]] = made["layers"]
    return layers


def _on_host(layers: Any) -> Any:
    return jax.tree.map(np.asarray, layers)
