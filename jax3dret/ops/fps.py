"""Farthest-point sampling: a subset of a cloud that covers it evenly."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jax3dret.core.types import ConfigError

# Squared radius around the origin inside which the CUDA kernel of pointnet2_ops never picks a
# point.
NEAR_ORIGIN = 1e-3
# Distances start here, so clouds must be smaller than 1e5 across for the first picks to be the
# farthest ones.
FAR = 1e10
# Width of the blocks of the two-level argmax.
BLOCK = 128
# Points that are sampled together on a CPU: their coordinates and distances stay in the core's own
# cache.
CHUNK_POINTS = 16384


@functools.partial(jax.jit, static_argnames=("num", "start"))
def farthest_point_sample(
    points: Float[Array, "B N 3"],
    num: int,
    *,
    start: Literal["zero", "random", "pointnet2_ops"] = "zero",
    key: Array | None = None,
) -> Int32[Array, "B num"]:
    """Indices of `num` points, each the one farthest from all those picked before it.

    Distances are squared Euclidean in float32 and start at 1e10; of equally far points the lowest
    index wins. Once every remaining distance is zero (fewer than `num` different points), the
    lowest index that may be picked repeats. A point with a coordinate that is NaN or infinite (or
    whose squared norm overflows) is never picked, except as the start, and moves no distance; if no
    point is left to pick, index 0 repeats. Indices carry no gradient.

    start: the first point of each cloud: "zero" takes index 0; "random" draws it uniformly with
        `key`, one draw per cloud; "pointnet2_ops" takes index 0 and follows the CUDA kernel of that
        name, with which the ULIP-2 weights were made: points with |p|^2 <= 1e-3 are never picked
        after the first, and if all points are that near, index 0 repeats.

    Raises ConfigError if num is not in 1..N, if the shape is not [B, N, 3], or if start="random"
    comes without a key.
    """
    if points.ndim != 3 or points.shape[-1] != 3:
        raise ConfigError(
            f"farthest_point_sample: points have shape {points.shape}; expected [B, N, 3]"
        )
    batch, count, _ = points.shape
    if not 1 <= num <= count:
        raise ConfigError(
            f"farthest_point_sample: num={num} points of a cloud of shape {points.shape}; expected "
            f"1 to {count}"
        )
    if start == "random":
        if key is None:
            raise ConfigError("farthest_point_sample: start='random' needs a key")
        first = jax.random.randint(key, (batch,), 0, count, dtype=jnp.int32)
    elif start in ("zero", "pointnet2_ops"):
        first = jnp.zeros((batch,), jnp.int32)
    else:
        raise ConfigError(
            f"farthest_point_sample: start={start!r}; expected 'zero', 'random' or 'pointnet2_ops'"
        )

    xyz = lax.stop_gradient(points).astype(jnp.float32)
    norm = jnp.sum(xyz * xyz, axis=-1)
    allowed = jnp.isfinite(norm)
    if start == "pointnet2_ops":
        allowed &= norm > NEAR_ORIGIN
    pad = -count % BLOCK
    # Forbidden points and padding hold -1: no squared distance is below that, and none of them is
    # ever farthest.
    distance = jnp.pad(
        jnp.where(allowed, FAR, -1.0).astype(jnp.float32), ((0, 0), (0, pad)), constant_values=-1.0
    )
    xyz = jnp.pad(xyz.transpose(2, 0, 1), ((0, 0), (0, 0), (0, pad)))

    sample = functools.partial(_sample, num=num)
    chunk = _chunk(batch, count + pad)
    if chunk == batch:
        return sample(xyz, distance, first)

    def in_chunks(xyz: Array, distance: Array, first: Array) -> Array:
        parts = (
            xyz.reshape(3, batch // chunk, chunk, -1).swapaxes(0, 1),
            distance.reshape(batch // chunk, chunk, -1),
            first.reshape(batch // chunk, chunk),
        )
        return lax.map(lambda part: sample(*part), parts).reshape(batch, num)

    return lax.platform_dependent(xyz, distance, first, cpu=in_chunks, default=sample)


def _chunk(batch: int, count: int) -> int:
    """Clouds to sample together on a CPU: the largest divisor of the batch whose points fit
    CHUNK_POINTS, at least one.
    """
    limit = max(1, CHUNK_POINTS // count)
    return (
        max(size for size in range(1, batch + 1) if batch % size == 0 and size <= limit)
        if batch
        else 0
    )


def _sample(
    xyz: Float[Array, "3 B N"],
    distance: Float[Array, "B N"],
    first: Int32[Array, " B"],
    *,
    num: int,
) -> Int32[Array, "B num"]:
    """The picks, given the initial distances; N is a multiple of BLOCK."""
    x, y, z = xyz

    def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        nearest, index = state
        square = jnp.zeros_like(nearest)
        for axis in (x, y, z):
            offset = axis - jnp.take_along_axis(axis, index[:, None], axis=1)
            square = square + offset * offset
        # A comparison with NaN is false, so a NaN point leaves the distances as they are.
        nearest = jnp.where(square < nearest, square, nearest)
        return (nearest, _argmax(nearest)), index

    _, picks = lax.scan(step, (distance, first), None, length=num)
    return picks.T


def _argmax(distance: Float[Array, "B N"]) -> Int32[Array, " B"]:
    """First index of the largest value; values are >= 0 or exactly -1.

    The order of such floats is the order of their bits as integers, and a maximum of integers is
    vectorised where one of floats (which must mind NaN) is not. The maximum of each block is found
    first, then the place inside the best block.
    """
    blocks = lax.bitcast_convert_type(distance, jnp.int32).reshape(distance.shape[0], -1, BLOCK)
    best = jnp.argmax(jnp.max(blocks, axis=-1), axis=-1)
    inside = jnp.argmax(jnp.take_along_axis(blocks, best[:, None, None], axis=1)[:, 0], axis=-1)
    return (best * BLOCK + inside).astype(jnp.int32)
