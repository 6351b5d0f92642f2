"""What the soft renderers of points and of meshes share: the cameras, the loop over the views, and
what is refused.

Conventions are those of `geometry.cameras`: azimuth and elevation in degrees, the camera looks at
the origin, and with y up the object is first turned (x, y, z) -> (x, -z, y). The picture's upper
edge is towards the up axis, also where an elevation beyond 90 degrees takes the camera over the
pole. Objects are expected to fill the unit sphere about the origin.

Pictures are soft, so that a small turn changes them smoothly and their gradient reaches the camera
angles: `soft_points` and `soft_meshes` say what is soft in theirs. Memory is bounded by a loop over
the views; the backward pass recomputes each. The batch is never cut, so a sharded batch stays
sharded. A shape with a value that is not finite gets pictures of NaN; what lies behind the camera
is not drawn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jax3dret.core.types import ConfigError

WHITE = (1.0, 1.0, 1.0)
_NEAR = 0.01  # of a perspective camera


class Projected(NamedTuple):
    """column, row: in pixels, pixel centres at halves. near: place along the axis to the viewer, 0
    at the origin's depth.
    inverse: 1 / depth for perspective, 1 for parallel projection. front: False behind the camera.
    """

    column: Float[Array, "B N"]
    row: Float[Array, "B N"]
    near: Float[Array, "B N"]
    inverse: Float[Array, "B N"]
    front: Bool[Array, "B N"]


def camera_axes(
    azimuth: Float[Array, "*lead"], elevation: Float[Array, "*lead"], up: str = "y"
) -> Float[Array, "*lead 3 3"]:
    """Rows: the camera's right, up and towards-viewer directions in the object's frame; angles in
    degrees.

    Over the pole (cosine of the elevation below 0) right and up change sign, as a camera that looks
    at the origin with its upper edge towards the up axis does; the direction towards the viewer is
    smooth everywhere.

    Raises ConfigError if `up` is not "y" or "z".
    """
    if up not in ("y", "z"):
        raise ConfigError(f"soft_render: up='{up}'; expected 'y' or 'z'")
    az, el = jnp.deg2rad(azimuth), jnp.deg2rad(elevation)
    upright = jnp.where(jnp.cos(el) < 0, -1.0, 1.0)
    zero = jnp.zeros_like(az)
    right = jnp.stack([-jnp.sin(az), jnp.cos(az), zero], -1) * upright[..., None]
    toward = jnp.stack([jnp.cos(el) * jnp.cos(az), jnp.cos(el) * jnp.sin(az), jnp.sin(el)], -1)
    above = (
        jnp.stack([-jnp.sin(el) * jnp.cos(az), -jnp.sin(el) * jnp.sin(az), jnp.cos(el)], -1)
        * upright[..., None]
    )
    axes = jnp.stack([right, above, toward], -2)
    # A direction (a, b, c) of the turned object was (a, c, -b).
    return axes if up == "z" else jnp.stack([axes[..., 0], axes[..., 2], -axes[..., 1]], -1)


def project(
    points: Float[Array, "B N 3"],
    axes: Float[Array, "B 3 3"],
    distance: Float[Array, " B"],
    *,
    size: int,
    projection: str,
    fov: float,
) -> Projected:
    """Points as one camera of each item sees them in a square picture of `size` pixels.

    projection: "perspective", `fov` degrees across the frame, or "parallel": the frame is 2
        `distance` wide, so that a distance of 1 holds the unit sphere (the published code scales
        the cloud by 1 / distance). A parallel camera has no behind.
    """
    # Written out: a matrix product may be rounded to bfloat16 or TF32 by default.
    x, y, near = (jnp.sum(points * axes[:, None, k], -1) for k in range(3))
    away = distance[:, None]
    if projection == "parallel":
        scale, inverse, front = size / (2 * away), jnp.ones_like(near), jnp.ones(near.shape, bool)
    elif projection == "perspective":
        front = away - near > _NEAR
        inverse = 1.0 / jnp.where(front, away - near, 1.0)
        scale = size / (2 * jnp.tan(jnp.deg2rad(fov) / 2)) * inverse
    else:
        raise ConfigError(
            f"soft_render: projection='{projection}'; expected 'perspective' or 'parallel'"
        )
    return Projected(size / 2 + x * scale, size / 2 - y * scale, near, inverse, front)


def each_view(
    one_view: Callable[..., Array],
    axes: Float[Array, "B V 3 3"],
    distance: Float[Array, "B V"],
    *arrays: Array | None,
) -> Float[Array, "B V ..."]:
    """[B, V, ...] of `one_view(*arrays, axes, distance)`, view after view; a view's inner values
    are not kept.
    """
    body = jax.checkpoint(lambda camera: one_view(*arrays, *camera))
    return lax.map(body, (axes.swapaxes(0, 1), distance.swapaxes(0, 1))).swapaxes(0, 1)


def between(x: Float[Array, "..."], high: float) -> Float[Array, "..."]:
    """x kept in 0..high.

    Not jnp.clip, and in neither renderer max or min over an axis: their gradient asks which operand
    equals the result, and in a backward pass that computes both anew, but rounds them differently,
    none may.
    """
    return lax.clamp(jnp.zeros((), x.dtype), x, jnp.asarray(high, x.dtype))


def mark_not_finite(
    images: Float[Array, "B V S S 3"], good: Bool[Array, " B"], *views: Float[Array, "B V"]
) -> Float[Array, "B V S S 3"]:
    """The pictures, NaN where the shape (`good` is False) or a value of the view is not finite."""
    seen = good[:, None] & functools.reduce(jnp.logical_and, (jnp.isfinite(view) for view in views))
    return jnp.where(seen[..., None, None, None], images, jnp.nan)


def check_views(
    shape: Array, azimuth: Array, elevation: Array, distance: Array | float, size: int
) -> Float[Array, "B V"]:
    """The distance of every view. Raises ConfigError if the shapes do not fit together."""
    angles = azimuth.shape
    if shape.ndim != 3 or shape.shape[-1] != 3 or len(angles) != 2 or angles[0] != shape.shape[0]:
        raise ConfigError(
            f"soft_render: shapes {shape.shape}, azimuth {angles}; expected [B, N, 3] and [B, V]"
        )
    if elevation.shape != angles or jnp.shape(distance) not in ((), angles):
        raise ConfigError(
            f"soft_render: azimuth {angles}, elevation {elevation.shape}, distance "
            f"{jnp.shape(distance)}; "
            "expected [B, V] each, or one distance"
        )
    if size < 1:
        raise ConfigError(f"soft_render: size={size}; expected 1 or more pixels")
    return jnp.broadcast_to(jnp.asarray(distance, azimuth.dtype), angles)
