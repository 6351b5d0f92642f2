"""Pictures of meshes whose gradient reaches the camera angles, in pure JAX.

A face fades out over `softness` pixels outside of its edges (inside it is opaque, so there are no
seams), and of the nearest few faces the nearer covers the farther by a sigmoid of their distance.
Light is hard: the Phong model on the blended normal. Cameras and frames: `soft_render`. Beside the
loop over the views, another over rows of pixels bounds the memory.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.ops.gather import gather
from jax3dret.ops.soft_render import (
    WHITE,
    Projected,
    between,
    camera_axes,
    check_views,
    each_view,
    mark_not_finite,
    project,
)

# The Phong model of the published renderer: what is lit from behind, what the light adds, and its
# reflection.
AMBIENT, DIFFUSE, SPECULAR, SHININESS = 0.5, 0.3, 0.2, 64
_FLAT = 1e-4  # twice the area, in pixels, of a face that is seen from the side
_PIECE = 1 << 23  # pairs of pixel and face looked at together, over the whole batch


def render_meshes(
    vertices: Float[Array, "B P 3"],
    faces: Int[Array, "B F 3"],
    face_mask: Bool[Array, "B F"],
    azimuth: Float[Array, "B V"],
    elevation: Float[Array, "B V"],
    distance: Float[Array, "B V"] | float = 2.2,
    *,
    size: int,
    light: Float[Array, "B 3"] | None = None,
    color: tuple[float, float, float] = WHITE,
    background: tuple[float, float, float] = WHITE,
    projection: str = "perspective",
    fov: float = 60.0,
    softness: float = 1.0,
    depth_softness: float = 0.01,
    faces_per_pixel: int = 5,
    normals: str = "face",
    up: str = "y",
) -> Float[Array, "B V S S 3"]:
    """Pictures of meshes, in [0, 1], lit by the Phong model; faces are two-sided, because found
    meshes are not wound alike.

    First, without gradient, the nearest faces over each pixel are looked up among all; then those
    alone are drawn, with it.

    Args: faces: three indices into an item's own vertices; what `face_mask` marks False is not
        drawn, nor is a face that has no area in the picture or reaches behind the camera. light:
        direction towards the light in the object's frame, of any length but 0; None: it stands at
        the camera. faces_per_pixel: so many nearest faces are drawn, and the nearest of those that
        cover the pixel's centre. softness: pixels over which a face fades out beyond its edge.
        depth_softness: distance along the viewing axis at which the nearer face hides 73 % of the
        farther. normals: "face", flat; "vertex", interpolated between the area-weighted normals of
        the vertices, which asks for faces that are wound alike (published). projection, fov: see
        `project`. up: the axis that is up in the vertices' frame.

    Raises:
        ConfigError: shapes that do not fit together, or a setting out of range.
    """
    distance = check_views(vertices, azimuth, elevation, distance, size)
    batch, count = face_mask.shape
    if faces.shape != (batch, count, 3) or batch != vertices.shape[0]:
        raise ConfigError(
            f"render_meshes: vertices {vertices.shape}, faces {faces.shape}, face_mask "
            f"{face_mask.shape}; "
            "expected [B, P, 3], [B, F, 3] and [B, F]"
        )
    if normals not in ("face", "vertex"):
        raise ConfigError(f"render_meshes: normals='{normals}'; expected 'face' or 'vertex'")
    if not (softness > 0 and depth_softness > 0 and faces_per_pixel > 0):
        raise ConfigError(
            "render_meshes: softness, depth_softness and faces_per_pixel are numbers above 0"
        )
    corners = gather(vertices, faces)  # [B, F, 3, 3]
    area = jnp.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    longest = jnp.sum(jnp.square(corners - jnp.roll(corners, 1, 2)), -1).max(-1)
    solid = face_mask & (
        jnp.sum(jnp.square(area), -1) > 1e-12 * jnp.square(longest)
    )  # a sliver has no direction
    if normals == "vertex":
        shared = jnp.where(face_mask[..., None], area, 0.0)
        total = jax.vmap(lambda f, a: jnp.zeros(vertices.shape[1:]).at[f].add(a[:, None]))(
            faces, shared
        )
        of_corner = gather(_unit(total), faces)
    else:
        of_corner = jnp.broadcast_to(_unit(area)[:, :, None], corners.shape)
    rows = max(1, min(size, _PIECE // max(batch * count * size, 1)))
    blocks = -(-size // rows)
    paint = jnp.asarray(color, jnp.float32)
    paper = jnp.asarray(background, jnp.float32)[None, None, None]
    draw = functools.partial(
        _draw_rows,
        nearest=min(faces_per_pixel, count),
        softness=softness,
        depth_softness=depth_softness,
    )

    def one_view(
        corners: Array, of_corner: Array, mask: Array, axes: Array, distance: Array
    ) -> Array:
        flat = corners.reshape(batch, 3 * count, 3)
        seen = project(flat, axes, distance, size=size, projection=projection, fov=fov)
        seen = Projected(*(value.reshape(batch, count, 3) for value in seen))
        toward = axes[:, None, 2]
        viewer = (
            toward * distance[:, None, None] - corners.mean(2)
            if projection == "perspective"
            else toward
        )
        facing = jnp.where(jnp.sum(of_corner.mean(2) * viewer, -1) < 0, -1.0, 1.0)[..., None, None]
        usable = mask & seen.front.all(-1)

        def block(first: Array) -> tuple[Array, Array]:
            return draw(seen, of_corner * facing, usable, first, rows, size)

        # A block's first row; the last block may reach below the picture, and is cut.
        alpha, normal = lax.map(jax.checkpoint(block), jnp.arange(blocks) * rows)
        alpha = alpha.swapaxes(0, 1).reshape(batch, blocks * rows, size)[:, :size]
        normal = normal.swapaxes(0, 1).reshape(batch, blocks * rows, size, 3)[:, :size]
        shine = _phong(normal, toward if light is None else _unit(light)[:, None], toward, paint)
        return paper + alpha[..., None] * (shine - paper)

    # A masked face may hold anything.
    corners = jnp.where(face_mask[..., None, None], corners, 0.0)
    of_corner = jnp.where(face_mask[..., None, None], of_corner, 0.0)
    axes = camera_axes(azimuth, elevation, up)
    images = each_view(one_view, axes, distance, corners, of_corner, solid)
    return mark_not_finite(
        images, jnp.isfinite(corners).all((1, 2, 3)), azimuth, elevation, distance
    )


def _draw_rows(
    seen: Projected,
    normals: Float[Array, "B F 3 3"],
    usable: Bool[Array, "B F"],
    first: Int[Array, ""],
    rows: int,
    size: int,
    *,
    nearest: int,
    softness: float,
    depth_softness: float,
) -> tuple[Float[Array, "B R S"], Float[Array, "B R S 3"]]:
    """Coverage in [0, 1] and mean unit normal of `rows` rows of pixels from `first` on."""
    batch = usable.shape[0]
    row, column = jnp.meshgrid(
        first + jnp.arange(rows) + 0.5, jnp.arange(size) + 0.5, indexing="ij"
    )
    column, row = column.reshape(1, -1, 1), row.reshape(1, -1, 1)
    shape = jnp.stack([seen.column, seen.row, seen.near, seen.inverse])  # [4, B, F, 3 corners]
    # Computed once and one number after the other in memory, not anew and strided for every pair of
    # pixel and face.
    fixed = lax.optimization_barrier(lax.stop_gradient(shape).transpose(0, 3, 1, 2))
    cover, near, _ = _over(fixed[:, :, :, None], column, row, softness)
    # The nearest faces, and the nearest that hides all behind it: near an outline, fading faces may
    # be the nearer ones.
    fading = jnp.where((cover > 0) & usable[:, None], near, -jnp.inf)
    hiding = jnp.where(cover < 1, -jnp.inf, fading)
    found = lax.top_k(fading, nearest)[1]
    wall = jnp.argmax(hiding, -1)[..., None]
    exists = jnp.take_along_axis(fading, found, -1) > -jnp.inf
    apart = (jnp.take_along_axis(hiding, wall, -1) > -jnp.inf) & ~(exists & (found == wall)).any(
        -1, keepdims=True
    )
    found, exists = jnp.concatenate([found, wall], -1), jnp.concatenate([exists, apart], -1)

    taken = gather(shape.transpose(1, 2, 0, 3).reshape(batch, -1, 12), found).reshape(
        *found.shape, 4, 3
    )
    taken = taken.transpose(3, 4, 0, 1, 2)
    cover, near, share = _over(taken, column, row, softness)  # [B, pixels, K], share: [..., 3]
    cover = jnp.where(exists, cover, 0.0)
    visible, alpha, order = cover, cover[..., 0], jnp.arange(nearest + 1)[None, None]
    for other in range(nearest + 1):
        alpha = jnp.where(cover[..., other] > alpha, cover[..., other], alpha)
        ahead = jax.nn.sigmoid((near[..., other, None] - near) / depth_softness)
        visible = visible * jnp.where(order == other, 1.0, 1.0 - cover[..., other, None] * ahead)
    of_corner = gather(normals.reshape(batch, -1, 9), found).reshape(*found.shape, 3, 3)
    at = jnp.sum(share[..., None] * of_corner, -2)
    mixed = _unit(jnp.sum(visible[..., None] * at, -2))
    return alpha.reshape(batch, rows, size), mixed.reshape(batch, rows, size, 3)


def _over(
    corners: Float[Array, "4 3 ..."],
    column: Float[Array, "..."],
    row: Float[Array, "..."],
    softness: float,
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "... 3"]]:
    """Of faces over pixel centres: coverage, place along the axis to the viewer, and the shares of
    the three corners.

    corners: column, row, near and inverse of each corner, see `Projected`. Coverage is 1 inside and
    falls to 0 at `softness` pixels from the face (smoothstep of the distance). Beyond the edges,
    place and shares are those of the nearest corners: clipped and scaled to sum 1.
    """
    x, y = (
        [value[k] - at for k in range(3)] for value, at in ((corners[0], column), (corners[1], row))
    )
    edges = [(i, (i + 1) % 3) for i in range(3)]
    # Twice the signed areas of the three triangles between the pixel and an edge; edge i is
    # opposite corner i - 1.
    parts = [x[a] * y[b] - x[b] * y[a] for a, b in edges]
    # From differences: the sum of the parts of a face without area is not 0 once it is rounded.
    sides = [(corners[0][b] - corners[0][a], corners[1][b] - corners[1][a]) for a, b in edges]
    whole = sides[0][0] * sides[1][1] - sides[1][0] * sides[0][1]
    flat = jnp.abs(whole) < _FLAT
    turn = jnp.where(whole < 0, -1.0, 1.0)
    inside = (parts[0] * turn >= 0) & (parts[1] * turn >= 0) & (parts[2] * turn >= 0)
    square = jnp.full(parts[0].shape, jnp.inf)
    for (a, _), (dx, dy) in zip(edges, sides, strict=True):
        length = dx * dx + dy * dy
        at = between(-(x[a] * dx + y[a] * dy) * (1.0 / jnp.where(length > 0, length, 1.0)), 1)
        found = (x[a] + at * dx) ** 2 + (y[a] + at * dy) ** 2
        square = jnp.where(found < square, found, square)
    # 1e-12: the square root has a gradient at 0 too.
    left = jax.nn.relu(1.0 - jnp.sqrt(square + 1e-12) / softness)
    cover = jnp.where(flat, 0.0, jnp.where(inside, 1.0, left * left * (3.0 - 2.0 * left)))
    scale = 1.0 / jnp.where(flat, 1.0, whole)
    share = [between(parts[(k + 1) % 3] * scale, 1) * corners[3][k] for k in range(3)]
    total = jnp.where(flat, 1.0, share[0] + share[1] + share[2])
    ordered = jnp.stack(share, -1) / total[..., None]
    near = sum(share[k] * corners[2][k] for k in range(3)) / total
    return cover, near, ordered


def _phong(
    normal: Float[Array, "B R S 3"],
    light: Float[Array, "B 1 3"],
    toward: Float[Array, "B 1 3"],
    color: Float[Array, " 3"],
) -> Float[Array, "B R S 3"]:
    light, toward, color = light[:, None], toward[:, None], color[None, None, None]
    facing = jnp.sum(normal * light, -1, keepdims=True)
    mirrored = jnp.sum((2 * facing * normal - light) * toward, -1, keepdims=True)
    shine = jnp.where(facing > 0, jax.nn.relu(mirrored), 0.0) ** SHININESS
    return (AMBIENT + DIFFUSE * jax.nn.relu(facing)) * color + SPECULAR * shine


def _unit(vectors: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
    """Length 1; 0 stays 0, with the gradient 0."""
    square = jnp.sum(vectors * vectors, -1, keepdims=True)
    return vectors * jnp.where(
        square > 1e-24, lax.rsqrt(jnp.where(square > 1e-24, square, 1.0)), 0.0
    )
