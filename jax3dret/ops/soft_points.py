"""Pictures of point clouds whose gradient reaches the camera angles, in pure JAX.

Each point is a smooth disc; depth falls into overlapping slices, which are laid over each other
front to back, so within a slice points mix whatever their order. Cameras and frames: `soft_render`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.ops.soft_render import (
    WHITE,
    between,
    camera_axes,
    check_views,
    each_view,
    mark_not_finite,
    project,
)


def render_points(
    points: Float[Array, "B N 3"],
    azimuth: Float[Array, "B V"],
    elevation: Float[Array, "B V"],
    distance: Float[Array, "B V"] | float = 1.0,
    *,
    size: int,
    radius: float,
    colors: Float[Array, "B N 3"] | None = None,
    background: tuple[float, float, float] = WHITE,
    projection: str = "parallel",
    fov: float = 60.0,
    slices: int = 8,
    density: float = 4.0,
    up: str = "y",
) -> Float[Array, "B V S S 3"]:
    """Pictures of point clouds, in [0, 1]: a smooth disc per point, nearer ones over farther ones.

    A disc is the product of (1 - u²)² in column and row, u in units of its radius. A picture is
    then a few matrix products, and its cost grows with N S², its memory with N S. The discs of a
    slice of depth add up to an optical density, light that passes a slice is exp(-density), and a
    point between the middles of two slices belongs to both in proportion.

    Args: radius: of a disc, 1 being half the frame. colors: in [0, 1]; None: grey by depth, from
        0.1 at the front of the unit sphere to 0.8 at its back. slices: of the depth of the unit
        sphere; what lies beyond is in the outermost. density: of a disc's middle; the light that
        passes it is exp(-density). projection, fov: see `project`. up: the axis that is up in the
        points' frame.

    Raises: ConfigError: shapes that do not fit together, a disc narrower than a pixel, fewer than 2
        slices.
    """
    distance = check_views(points, azimuth, elevation, distance, size)
    if colors is not None and colors.shape != points.shape:
        raise ConfigError(
            f"render_points: colors {colors.shape} of points {points.shape}; one colour each is "
            "needed"
        )
    if radius * size < 1:  # half a pixel: a disc that small reaches no pixel's centre for certain
        raise ConfigError(
            f"render_points: radius={radius} at size {size}; expected {1 / size:.4f} or more"
        )
    if slices < 2:
        raise ConfigError(f"render_points: slices={slices}; expected 2 or more")
    centres = (jnp.arange(size, dtype=jnp.float32) + 0.5)[None, None]
    # Of the slices, front to back.
    middles, order = jnp.linspace(1.0, -1.0, slices), jnp.arange(slices)[None, None]
    behind = jnp.asarray(background, jnp.float32)
    batch, count = points.shape[:2]

    def one_view(points: Array, colors: Array | None, axes: Array, distance: Array) -> Array:
        seen = project(points, axes, distance, size=size, projection=projection, fov=fov)
        pixels = radius * size / 2
        across = _disc((centres - seen.column[..., None]) / pixels)
        down = _disc((centres - seen.row[..., None]) / pixels) * seen.front[..., None]
        place = between((1.0 - seen.near) * (slices - 1) / 2, slices - 1)
        share = jax.nn.relu(1.0 - jnp.abs(place[..., None] - order))  # [B, N, slices]
        if colors is not None:
            share = jnp.concatenate([share, *(share * colors[..., c, None] for c in range(3))], -1)
        channels = share.shape[-1]
        rows = (share[..., None] * down[:, :, None]).reshape(batch, count, channels * size)
        layers = jnp.einsum("bnr,bnj->brj", rows, across, precision=lax.Precision.HIGHEST)
        layers = layers.reshape(batch, channels, size, size)
        optical = density * layers[:, :slices]
        passed = jnp.exp(-jnp.cumsum(optical, axis=1))
        before = jnp.concatenate([jnp.ones_like(passed[:, :1]), passed[:, :-1]], axis=1)
        visible = before - passed  # of each slice
        if colors is None:
            # One grey for a slice; a point between two slices is a mixture of both, with more of
            # the front one's.
            picture = jnp.einsum("blij,l->bij", visible, 0.45 - 0.35 * middles)[..., None]
        else:
            mixed = layers[:, slices:].reshape(batch, 3, slices, size, size)
            amount = layers[:, :slices]
            # The rim of a disc is thin beyond measure; dividing by less than this would overflow in
            # the gradient.
            mean = mixed / jnp.where(amount > 1e-12, amount, 1.0)[:, None]
            picture = jnp.einsum("blij,bclij->bijc", visible, mean)
        paper = jnp.broadcast_to(behind, (batch, size, size, 3))
        return picture + passed[:, -1, :, :, None] * paper

    images = each_view(one_view, camera_axes(azimuth, elevation, up), distance, points, colors)
    return mark_not_finite(images, jnp.isfinite(points).all((1, 2)), azimuth, elevation, distance)


def _disc(u: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.square(jax.nn.relu(1.0 - u * u))
