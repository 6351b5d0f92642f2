"""Features of a grid at points: weighted corners, then levels or planes put together."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError, nearest

Reduce = Literal["concat", "sum"]
# Corner j of a cell: x slowest, z fastest.
CORNERS = np.stack([np.arange(8) >> 2 & 1, np.arange(8) >> 1 & 1, np.arange(8) & 1], -1)


def check_reduce(architecture: str, key: str, value: str) -> None:
    """Raises ConfigError for what is not a Reduce."""
    if value not in get_args(Reduce):
        raise ConfigError(
            f"{architecture}: {key}='{value}'{nearest(value, get_args(Reduce))}; expected one of "
            f"{', '.join(get_args(Reduce))}"
        )


def trilinear(fraction: Float[jax.Array, "P 3"]) -> Float[jax.Array, "P 8"]:
    """Weights of the corners of a cell, in the order of CORNERS, at a place within it."""
    along = jnp.stack([1 - fraction, fraction], -1)  # [P, axis, end]
    x, y, z = (along[:, axis] for axis in range(3))
    pairs = (x[:, :, None] * y[:, None, :]).reshape(-1, 4)
    return (pairs[:, :, None] * z[:, None, :]).reshape(-1, 8)


def gather(
    table: Float[jax.Array, "N D"],
    rows: Int[jax.Array, "P G C"],
    weights: Float[jax.Array, "P G C"],
) -> Float[jax.Array, "P G D"]:
    """The weighted sums of C rows of the table, for each of G levels or planes."""
    return blend(table[rows], weights)


def blend(
    corners: Float[jax.Array, "P G C D"], weights: Float[jax.Array, "P G C"]
) -> Float[jax.Array, "P G D"]:
    """The weighted sums over the corners C."""
    return jnp.sum(corners * weights[..., None], axis=2)


def join(levels: Float[jax.Array, "P G D"], reduce: Reduce) -> Float[jax.Array, "P F"]:
    """All levels beside each other, the first one first, or their sum."""
    return levels.sum(1) if reduce == "sum" else levels.reshape(len(levels), -1)
