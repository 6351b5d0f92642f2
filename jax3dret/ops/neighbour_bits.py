"""Which points lie within a distance of each query, as bits, and the first of them in index order.

A mask of M x N truth values is 32 times smaller as words of 32 bits. It is made in one fused pass
that never writes the distances to memory, and the first k members are read off it with population
counts: no sort over the N points.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32, UInt32

BITS = 32
# Every index below is clamped by hand, so a gather need not check them again.
IN_BOUNDS = "promise_in_bounds"


def square_distance(queries: tuple[Array, ...], points: tuple[Array, ...]) -> Array:
    """-2ab + |a|^2 + |b|^2 of coordinates that broadcast against each other: the form that the
    published code uses.

    It cancels: its error is about 1e-7 times the largest squared norm, and a distance of 0 may come
    out slightly negative.
    """
    (ax, ay, az), (bx, by, bz) = queries, points
    product = ax * bx + ay * by + az * bz
    return -2.0 * product + (ax * ax + ay * ay + az * az) + (bx * bx + by * by + bz * bz)


def as_rows(
    points: Float[Array, "B N 3"], rows: int, *, strided: bool
) -> tuple[Array, Array, Array]:
    """x, y and z as [B, 1, rows, N/rows], padded with NaN, which is near to nothing.

    Column w holds the points w*rows, w*rows+1, ... or, strided, w, w+W, w+2W, ... with W columns.
    """
    batch, count, _ = points.shape
    padded = jnp.pad(points, ((0, 0), (0, -count % rows), (0, 0)), constant_values=jnp.nan)
    table = (
        padded.reshape(batch, rows, -1, 3)
        if strided
        else padded.reshape(batch, -1, rows, 3).swapaxes(1, 2)
    )
    return table[:, None, ..., 0], table[:, None, ..., 1], table[:, None, ..., 2]


def as_columns(queries: Float[Array, "B M 3"]) -> tuple[Array, Array, Array]:
    """x, y and z as [B, M, 1, 1], to broadcast against `as_rows`."""
    return queries[:, :, None, None, 0], queries[:, :, None, None, 1], queries[:, :, None, None, 2]


def within(
    queries: Float[Array, "B M 3"],
    points: Float[Array, "B N 3"],
    square_radius: Float[Array, ""] | Float[Array, "B M"],
) -> UInt32[Array, "B M W"]:
    """Bit n % 32 of word n // 32 says whether the squared distance to point n is at most the
    square_radius (inclusive).

    square_radius is one number or one for each query. A point or a query with NaN is within no
    distance. float32 inputs.
    """
    limit = jnp.asarray(square_radius, jnp.float32)
    limit = limit[..., None, None] if limit.ndim else limit
    inside = square_distance(as_columns(queries), as_rows(points, BITS, strided=False)) <= limit
    bit = (jnp.uint32(1) << jnp.arange(BITS, dtype=jnp.uint32))[:, None]
    return jnp.sum(jnp.where(inside, bit, 0), axis=2, dtype=jnp.uint32)


def first_members(
    words: UInt32[Array, "B M W"], k: int
) -> tuple[Int32[Array, "B M k"], Int32[Array, "B M"]]:
    """Positions of the first k set bits in ascending order, and how many are set in all.

    Positions from the total on mean nothing.
    """
    width = words.shape[-1]
    ends = jnp.cumsum(lax.population_count(words).astype(jnp.int32), axis=-1)
    total = ends[..., -1]
    slot = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), (*words.shape[:-1], k))
    # Binary search for the word that holds the slot-th set bit: the number of words that end at or
    # before it.
    word = jnp.zeros_like(slot)
    step = 1 << (width.bit_length() - 1)
    while step:
        end = jnp.take_along_axis(
            ends, jnp.minimum(word + step, width) - 1, axis=-1, mode=IN_BOUNDS
        )
        word = jnp.where((word + step <= width) & (end <= slot), word + step, word)
        step //= 2
    word = jnp.minimum(word, width - 1)
    bits = jnp.take_along_axis(words, word, axis=-1, mode=IN_BOUNDS)
    last = jnp.take_along_axis(ends, word, axis=-1, mode=IN_BOUNDS)
    rank = slot - (last - lax.population_count(bits).astype(jnp.int32))
    # Binary search inside the word: skip its lower half if fewer set bits than the rank lie there.
    place = jnp.zeros_like(slot)
    for half in (16, 8, 4, 2, 1):
        lower = (bits >> place.astype(jnp.uint32)) & jnp.uint32((1 << half) - 1)
        count = lax.population_count(lower).astype(jnp.int32)
        skip = rank >= count
        rank = jnp.where(skip, rank - count, rank)
        place = jnp.where(skip, place + half, place)
    return word * BITS + place, total
