"""The Chamfer distance of two point clouds of any sizes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jax3dret.core.types import ConfigError

# Rows of one cloud and columns of the other whose distances are in memory at once.
_ROWS = 256
_COLUMNS = 128


@functools.partial(jax.jit, static_argnames="squared")
def chamfer(
    a: Float[Array, "N 3"], b: Float[Array, "M 3"], *, squared: bool = False
) -> Float[Array, ""]:
    """The mean distance of a point of one cloud to the nearest of the other, in both directions,
    summed: float32, in the unit of the points, or of its square with `squared`.

    Distances are taken from differences of coordinates in float32, so equal points are 0 apart. The
    distance matrix is never whole in memory. Differentiable in both; where a distance is 0, its
    gradient is 0. NaN in a cloud makes the result NaN.

    Raises ConfigError: shapes that are not [N, 3] and [M, 3] with N and M at least 1.
    """
    for cloud in (a, b):
        if cloud.ndim != 2 or cloud.shape[1] != 3 or not cloud.shape[0]:
            raise ConfigError(
                f"chamfer: shapes {a.shape} and {b.shape}; expected [N, 3] and [M, 3], none empty"
            )
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return _mean_nearest(a, b, squared) + _mean_nearest(b, a, squared)


def _mean_nearest(
    a: Float[Array, "N 3"], b: Float[Array, "M 3"], squared: bool
) -> Float[Array, ""]:
    index = _nearest(lax.stop_gradient(a), lax.stop_gradient(b))
    square = jnp.sum(jnp.square(a - b[index]), axis=-1)
    if squared:
        return jnp.mean(square)
    # The square root is kept from 0, where its derivative is infinite, before it is taken.
    apart = square != 0
    return jnp.mean(jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0))


def _nearest(a: Float[Array, "N 3"], b: Float[Array, "M 3"]) -> Int32[Array, " N"]:
    """For each row of a, the row of b nearest to it.

    Columns of b are passed in strips, one lane each: a running minimum per lane is a chain of
    selects, which runs vectorised on a CPU (a minimum over an axis does not); the lanes are
    compared at the end.
    """
    strips = -(-b.shape[0] // _COLUMNS)
    padded = jnp.full((strips * _COLUMNS, 3), jnp.inf, b.dtype).at[: b.shape[0]].set(b)
    columns = padded.reshape(strips, _COLUMNS, 3).transpose(0, 2, 1)

    def rows(block: Float[Array, "R 3"]) -> Int32[Array, " R"]:
        def strip(
            best: tuple[Array, Array], at: tuple[Array, Array]
        ) -> tuple[tuple[Array, Array], None]:
            least, where = best
            number, column = at
            square = sum(jnp.square(block[:, i, None] - column[i][None, :]) for i in range(3))
            nearer = square < least
            return (jnp.where(nearer, square, least), jnp.where(nearer, number, where)), None

        start = (
            jnp.full((block.shape[0], _COLUMNS), jnp.inf, jnp.float32),
            jnp.zeros((block.shape[0], _COLUMNS), jnp.int32),
        )
        (least, where), _ = lax.scan(strip, start, (jnp.arange(strips, dtype=jnp.int32), columns))
        lane = jnp.argmin(least, axis=1).astype(jnp.int32)
        return jnp.take_along_axis(where, lane[:, None], axis=1)[:, 0] * _COLUMNS + lane

    blocks = -(-a.shape[0] // _ROWS)
    filled = jnp.zeros((blocks * _ROWS, 3), a.dtype).at[: a.shape[0]].set(a)
    found = lax.map(rows, filled.reshape(blocks, _ROWS, 3)).reshape(-1)[: a.shape[0]]
    return jnp.minimum(found, b.shape[0] - 1)  # a row with NaN finds the padding
