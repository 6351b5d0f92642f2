"""Exact nearest neighbours between two point sets."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jax3dret.core.types import ConfigError
from jax3dret.ops.gather import gather
from jax3dret.ops.neighbour_bits import as_columns, as_rows, first_members, square_distance, within

# Largest block size of the bound below; clouds with fewer than 4 * 4 * k points are sorted
# directly.
ROWS = 64
# Queries whose distances to all points are held in memory at once when they are sorted directly.
QUERIES_AT_ONCE = 64


@functools.partial(jax.jit, static_argnames="k")
def knn(
    queries: Float[Array, "B M 3"], points: Float[Array, "B N 3"], k: int
) -> tuple[Int32[Array, "B M k"], Float[Array, "B M k"]]:
    """The k points nearest to each query, nearest first, and their squared distances.

    Neighbours are chosen by -2ab + |a|^2 + |b|^2 in float32, whatever the type of the inputs, and
    of equally near points the lower index comes first; a query that is one of the points finds
    itself. That form is exact to about 1e-7 of the largest squared norm: it suits clouds of unit
    size about the origin. The distances returned are computed anew from differences of coordinates,
    so they are not negative, but neighbours that are equally near within that error may be out of
    order. They are differentiable in both inputs; the indices are not.

    A point with NaN or an infinite coordinate is infinitely far: it comes last, and only if fewer
    than k others exist. A query with NaN gets the indices 0..k-1 and infinite distances.

    Raises ConfigError if k is not in 1..N or the shapes are not [B, M, 3] and [B, N, 3].
    """
    check_pair("knn", queries, points)
    count = points.shape[1]
    if not 1 <= k <= count:
        raise ConfigError(
            f"knn: k={k} neighbours among points of shape {points.shape}; expected 1 to {count}"
        )
    queries, points = queries.astype(jnp.float32), points.astype(jnp.float32)
    index = _nearest(lax.stop_gradient(queries), lax.stop_gradient(points), k)
    offset = gather(points, index) - queries[:, :, None, :]
    finite = jnp.isfinite(offset).all(axis=-1)
    # The offset is replaced before it is squared: the gradient of an unused branch must not be NaN
    # either.
    square = jnp.sum(jnp.square(jnp.where(finite[..., None], offset, 0.0)), axis=-1)
    return index, jnp.where(finite, square, jnp.inf)


def check_pair(name: str, queries: Array, points: Array) -> None:
    """Raise ConfigError unless the shapes are [B, M, 3] and [B, N, 3]."""
    shapes = (queries.shape, points.shape)
    if (
        any(len(shape) != 3 or shape[-1] != 3 for shape in shapes)
        or queries.shape[0] != points.shape[0]
    ):
        raise ConfigError(
            f"{name}: shapes {shapes[0]} and {shapes[1]}; expected [B, M, 3] and [B, N, 3]"
        )


def _nearest(
    queries: Float[Array, "B M 3"], points: Float[Array, "B N 3"], k: int
) -> Int32[Array, "B M k"]:
    """Indices of the k nearest points.

    A full top-k over N is slow on a CPU, so the candidates are narrowed down first. Take the
    minimum of each block of
    points: k blocks have a minimum no larger than the k-th smallest one, hence that value bounds
    the k-th distance from above. In a shuffled cloud hardly more than k points lie within it; they
    are listed in index order and sorted. If any query is left with more candidates than there is
    room for, everything is sorted directly.
    """
    count = points.shape[1]
    rows = ROWS
    while count < 4 * rows * k and rows > 2:
        rows //= 2
    if rows <= 2:
        return nearest_by_sorting(queries, points, k)
    room = max(2 * k, k + 16)
    bound = _bound(_block_minima(queries, points, rows), k)
    candidates, total = first_members(within(queries, points, bound), room)

    def narrowed() -> Array:
        square = _squares(queries, gather(points, jnp.minimum(candidates, count - 1)))
        square = jnp.where(jnp.arange(room)[None, None] < total[..., None], square, jnp.inf)
        return jnp.take_along_axis(
            candidates, lax.top_k(-square, k)[1], axis=-1, mode="promise_in_bounds"
        )

    fits = jnp.all((total >= k) & (total <= room))
    return lax.cond(fits, narrowed, lambda: nearest_by_sorting(queries, points, k))


def _block_minima(
    queries: Float[Array, "B M 3"], points: Float[Array, "B N 3"], rows: int
) -> Float[Array, "B M W"]:
    """Smallest squared distance of each query to each of the W blocks of `rows` points; +inf where
    all are NaN.

    The blocks are strided: neighbours in space are often neighbours in memory, and should not share
    a block. The minimum is a chain of selects, which runs vectorised on a CPU (a reduction of
    floats does not).
    """
    query = tuple(column[..., 0] for column in as_columns(queries))
    table = as_rows(points, rows, strided=True)
    least = jnp.asarray(jnp.inf, jnp.float32)
    for row in range(rows):
        square = square_distance(query, tuple(axis[:, :, row] for axis in table))
        least = jnp.where(square < least, square, least)
    return least


def _bound(minima: Float[Array, "B M W"], k: int) -> Float[Array, "B M"]:
    """A value just above the k-th smallest of W minima, by bisection over the bits of a float (16
    steps: within 0.4%).
    """
    bits = lax.bitcast_convert_type(jnp.maximum(minima, 0.0), jnp.int32)
    low = jnp.full(minima.shape[:-1], -1, jnp.int32)
    high = jnp.full(minima.shape[:-1], jnp.inf, jnp.float32).view(jnp.int32)

    def halve(_: Int32[Array, ""], ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) // 2
        enough = jnp.sum((bits <= middle[..., None]).astype(jnp.int32), axis=-1) >= k
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    return lax.bitcast_convert_type(lax.fori_loop(0, 16, halve, (low, high))[1], jnp.float32)


def nearest_by_sorting(
    queries: Float[Array, "B M 3"], points: Float[Array, "B N 3"], k: int
) -> Int32[Array, "B M k"]:
    """Indices of the k nearest points by a top-k over all of them, some queries at a time."""

    def part(queries: Float[Array, "m B 3"]) -> Int32[Array, "m B k"]:
        square = _squares(queries, points[None])
        return lax.top_k(-jnp.where(jnp.isnan(square), jnp.inf, square), k)[1]

    return lax.map(
        lambda q: part(q[None])[0], queries.swapaxes(0, 1), batch_size=QUERIES_AT_ONCE
    ).swapaxes(0, 1)


def _squares(
    queries: Float[Array, "A B 3"], points: Float[Array, "#A B K 3"]
) -> Float[Array, "A B K"]:
    """Squared distances of each query to points of its own."""
    q = tuple(queries[..., None, axis] for axis in range(3))
    p = tuple(points[..., axis] for axis in range(3))
    return square_distance(q, p)
