"""Neighbours within a radius."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jax3dret.core.types import ConfigError
from jax3dret.ops.knn import check_pair, nearest_by_sorting
from jax3dret.ops.neighbour_bits import first_members, within


@functools.partial(jax.jit, static_argnames=("radius", "k"))
def ball_query(
    centers: Float[Array, "B M 3"], points: Float[Array, "B N 3"], radius: float, k: int
) -> Int32[Array, "B M k"]:
    """The first k points, in ascending index order, whose squared distance to the centre is at most
    radius^2.

    A ball with fewer than k points is filled up with the first of them, as PointNet++ does it. An
    empty ball gives k times the nearest point (the published code returns the index N there, which
    is outside of the cloud). Squared distances are -2ab + |a|^2 + |b|^2 in float32, whatever the
    type of the inputs (see `knn` for what that means). A point with NaN is in no ball; a centre
    with NaN has an empty ball, filled with index 0. Indices carry no gradient.

    Raises ConfigError if k < 1, if the radius is not positive, or if the shapes are not [B, M, 3]
    and [B, N, 3].
    """
    check_pair("ball_query", centers, points)
    if k < 1 or not radius > 0:
        raise ConfigError(f"ball_query: k={k}, radius={radius}; expected k >= 1 and a radius > 0")
    centers = lax.stop_gradient(centers).astype(jnp.float32)
    points = lax.stop_gradient(points).astype(jnp.float32)
    members, total = first_members(within(centers, points, jnp.float32(radius**2)), k)
    first = lax.cond(
        jnp.all(total > 0),
        lambda: members[..., :1],
        lambda: jnp.where(
            total[..., None] > 0, members[..., :1], nearest_by_sorting(centers, points, 1)
        ),
    )
    return jnp.where(jnp.arange(k)[None, None] < total[..., None], members, first)
