"""Choices among the views of a shape that rounding does not make: near cameras, far cameras, the
most telling view.

Cameras stand in regular arrangements and shapes are symmetric, so that many candidates are equal in
truth and differ in their last bits alone, which change with the machine, the number of devices and
the size of the batch. Here what differs by less than rounding could is equal, and of equal ones the
lowest index is chosen.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32, Key

from jax3dret.core.types import ConfigError

# Of the largest camera's distance from the origin; a mean of positions is off by a few 1e-7 of it.
SAME_DISTANCE = 2e-6
# Of the largest score, as a difference of two log-odds.
SAME_SCORE = 4e-6
# Of a share near 1, whose difference from 1 has lost its digits.
SAME_SHARE = 1e-7


def nearest_views(vertices: Float[Array, "B V 3"], k: int) -> Int32[Array, "B V k"]:
    """Indices of the k cameras nearest to each camera: itself first, then by distance, of equally
    far ones the lower index.

    Equal is what differs by less than 2e-6 of the largest camera's distance from the origin. Where
    k cuts such a tie (2, 4 or 6 on a ring, 2 or 3 on a dodecahedron) the graph is not symmetric. A
    camera with NaN is nobody's neighbour but its own, unless too few others exist.

    Raises ConfigError if k is not in 1..V.
    """
    count = vertices.shape[1]
    if not 1 <= k <= count:
        raise ConfigError(f"nearest_views: k={k} of {count} views; expected 1 to {count}")
    distance, same = _distances(vertices)
    itself = jnp.eye(count, dtype=bool)[None]
    # Below every distance: two cameras at one place must not push each other out of their own
    # neighbourhoods.
    distance = jnp.where(itself, -jnp.inf, distance)
    # How many are truly nearer, so that all of a tie have one place; it is whole, and top_k takes
    # the lower index first.
    nearer = distance[..., None, :] < distance[..., :, None] - same[..., None]
    return lax.top_k(-nearer.sum(-1, dtype=jnp.int32), k)[1].astype(jnp.int32)


def sample_cameras(
    positions: Float[Array, "B V 3"], count: int, key: Key[Array, ""] | None = None
) -> Int32[Array, "B count"]:
    """`count` cameras far from each other, each the farthest from all before it, of equally far
    ones the lower index.

    The first is drawn with the key, and is view 0 without one. Equal is what differs by less than
    2e-6 of the largest camera's distance from the origin. Once every camera is taken the lowest
    index repeats; one with NaN is never taken, except as the first.

    Raises ConfigError if count is not in 1..V.
    """
    batch, views, _ = positions.shape
    if not 1 <= count <= views:
        raise ConfigError(f"sample_cameras: {count} of {views} views; expected 1 to {views}")
    distance, same = _distances(positions)
    first = jnp.zeros((batch,), jnp.int32)
    if key is not None:
        first = jax.random.randint(key, (batch,), 0, views, dtype=jnp.int32)
    seen = jnp.isfinite(positions).all(-1)
    chosen = [first]
    remaining = jnp.where(seen, jnp.inf, -1.0)
    for _ in range(count - 1):
        row = jnp.take_along_axis(distance, chosen[-1][:, None, None], axis=1)[:, 0]
        remaining = jnp.minimum(remaining, row)
        chosen.append(first_largest(remaining, same[:, 0]))
    return jnp.stack(chosen, axis=1)


def most_telling(scores: Float[Array, "B S k C"], axis: int) -> Int32[Array, "B S"]:
    """Of each k candidates the one whose best class has the largest share, of equal ones the first.

    axis: of the softmax that makes scores to shares: -1, the classes, or 1, the sampled views.
    Equal are shares p whose difference is below p (1 - p) 4e-6 max(1, largest score) + 1e-7, which
    is what rounding of the scores makes of them.
    """
    share = jax.nn.softmax(scores, axis=axis).max(-1)
    largest = share.max(-1, keepdims=True)
    size = jnp.maximum(1.0, jnp.abs(scores).max((-2, -1)))[..., None]
    return first_largest(share, SAME_SCORE * size * largest * (1 - largest) + SAME_SHARE)


def first_largest(
    values: Float[Array, "*lead V"], same: Float[Array, "*lead 1"]
) -> Int32[Array, "*lead"]:
    """The lowest index of the last axis whose value is the largest or within `same` of it. NaN is
    the largest.
    """
    largest = values.max(-1, keepdims=True)
    return jnp.argmax((values >= largest - same) | jnp.isnan(values), axis=-1).astype(jnp.int32)


def _distances(
    positions: Float[Array, "B V 3"],
) -> tuple[Float[Array, "B V V"], Float[Array, "B 1 1"]]:
    """Between each two cameras, infinite where one is not finite; and what difference of two of
    them is none.
    """
    fixed = lax.stop_gradient(positions.astype(jnp.float32))
    square = jnp.sum(jnp.square(fixed[:, :, None] - fixed[:, None]), axis=-1)
    distance = jnp.where(jnp.isfinite(square), jnp.sqrt(square), jnp.inf)
    radius = jnp.sqrt(jnp.sum(jnp.square(fixed), axis=-1))
    radius = jnp.where(jnp.isfinite(radius), radius, 0.0).max(-1)
    return distance, SAME_DISTANCE * radius[:, None, None]
