"""Adam over a large table of which a step reads few rows, without touching the others.

A row without a gradient still moves under Adam, by what is left of its moments. k such steps in a
row have a closed form, so that they are made up for when the row is next read: with r = beta1 /
sqrt(beta2), and a(t) = learning rate sqrt(1 - beta2^t) / (1 - beta1^t), step t + j moves it by -
a(t + j) r^j first / sqrt(second), where first and second are the moments after step t; their sum is
tail(t) - r^k tail(t + k), with tail(t) = sum over j >= 1 of r^j a(t + j). Beside a gradient of its
own size, 1e-15, eps counts: it is exact in the first of the steps and about right in the others.
All else is dense Adam's arithmetic, to rounding.

A row is packed: value, first and second moment, a place where the gradients of all its readers add
up, and the number of the last step that it has seen. What is read, added to and written lies in one
line of the cache.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int

from jax3dret.models.fields.adam import Rates, moved

# Indices are computed here and lie within the table.
_SURE = "promise_in_bounds"


class Read(NamedTuple):
    """What M readers find, a column each: value and moments as before the step at hand. Readers of
    one row find the same."""

    value: Float[jax.Array, "D M"]
    first: Float[jax.Array, "D M"]
    second: Float[jax.Array, "D M"]


def tails(steps: int, learning_rate: float, betas: tuple[float, float]) -> Float[jax.Array, " T"]:
    """tail(t) for t = 0 .. steps, where steps behind the last are none."""
    t = np.arange(1, steps + 1)
    a = learning_rate * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
    ratio = betas[0] / np.sqrt(betas[1])
    out = np.zeros(steps + 1)
    for i in range(steps - 1, -1, -1):
        out[i] = ratio * (a[i] + out[i + 1])
    return jnp.asarray(out, jnp.float32)


def pack(table: Float[jax.Array, "*S N D"]) -> Float[jax.Array, "*S N W"]:
    """Rows that have seen no step."""
    *shape, width = table.shape
    return jnp.concatenate([table, jnp.zeros((*shape, 3 * width + 1), table.dtype)], -1)


def unpack(
    packed: Float[jax.Array, "*S N W"],
    step: jax.Array | int,
    rates: Rates,
    tails: Float[jax.Array, " T"] | None,
) -> Float[jax.Array, "*S N D"]:
    """The table after `step` steps."""
    width = packed.shape[-1] // 4
    value, first, second = (packed[..., i * width : (i + 1) * width] for i in range(3))
    if tails is None:
        return value
    return _caught_up(value, first, second, packed[..., -1:], step, rates, tails)[0]


def read(
    packed: Float[jax.Array, "N W"],
    rows: Int[jax.Array, " M"],
    step: jax.Array,
    rates: Rates,
    tails: Float[jax.Array, " T"] | None,
) -> Read:
    """Rows before step number `step`, counted from 0. tails: None for a lazy Adam, whose rows stand
    still while nobody reads them."""
    width = packed.shape[-1] // 4
    found = packed.at[rows].get(mode=_SURE, wrap_negative_indices=False)
    # Columns are contiguous from here on, so that arithmetic runs along the readers.
    columns = lax.optimization_barrier(found.T)
    value, first, second = (columns[i * width : (i + 1) * width] for i in range(3))
    if tails is None:
        return Read(value, first, second)
    return Read(*_caught_up(value, first, second, columns[-1:], step, rates, tails))


def write(
    packed: Float[jax.Array, "N W"],
    rows: Int[jax.Array, " M"],
    before: Read,
    gradients: Float[jax.Array, "D M"],
    step: jax.Array,
    rates: Rates,
) -> Float[jax.Array, "N W"]:
    """The table after a step whose readers have these gradients. Readers of one row write the same
    numbers, so that their order does not matter."""
    width, count = gradients.shape
    places = jnp.stack([rows, jnp.full_like(rows, 3 * width)], 1)
    scattered = lax.ScatterDimensionNumbers((1,), (0,), (0, 1))
    packed = lax.scatter_add(packed, places, gradients.T, scattered, mode=_SURE)
    gathered = lax.GatherDimensionNumbers((1,), (0,), (0, 1))
    summed = lax.gather(packed, places, gathered, (1, width), mode=_SURE)
    gradient = lax.optimization_barrier(summed.T)
    after = moved(*before, gradient, rates, step)
    seen = jnp.full((1, count), step + 1, packed.dtype)
    columns = jnp.concatenate([*after, jnp.zeros_like(gradient), seen], 0)
    new = lax.optimization_barrier(columns).T
    return packed.at[rows].set(new, mode=_SURE, wrap_negative_indices=False)


def _caught_up(
    value: jax.Array,
    first: jax.Array,
    second: jax.Array,
    seen: jax.Array,
    step: jax.Array | int,
    rates: Rates,
    tails: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Value and moments with the steps between `seen` and `step` made up for."""
    missed = jnp.asarray(step, seen.dtype) - seen
    decay = [float(np.log2(beta)) for beta in (rates.beta1, rates.beta2)]
    ratio = jnp.exp2(missed * (decay[0] - decay[1] / 2))
    way = tails[seen.astype(jnp.int32)] - ratio * tails[step]
    seen = jnp.minimum(seen.astype(jnp.int32), len(rates.root) - 1)
    value = value - way * (first / (jnp.sqrt(second) + rates.eps * rates.root[seen]))
    return value, first * jnp.exp2(missed * decay[0]), second * jnp.exp2(missed * decay[1])
