"""Pictures of a field from a set of cameras, as `geometry.views` takes them of a mesh."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.cameras import Camera, Cameras, camera, rays, z_up
from jax3dret.geometry.field_values import FieldCallable
from jax3dret.geometry.isosurface import Function, check_function, field_mesh
from jax3dret.geometry.marching import RESOLUTION
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.tracing import SIGNED, UNSIGNED, normals_at, trace
from jax3dret.geometry.views import (
    BACKGROUNDS,
    Views,
    check_settings,
    edge_pixels,
    empty_views,
    greys,
    render_views,
    toward_viewer,
)

# A normal of an unsigned distance is taken this far before the surface: on it the distance falls on
# one side as it grows on the other.
_BEFORE = 5e-3


def render(
    field: FieldCallable,
    function: Function,
    cameras: Cameras,
    *,
    size: int = 224,
    up_axis: str = "z",
    background: str = "white",
    supersample: int = 2,
    what: Collection[str] = ("shaded",),
    by: Literal["auto", "tracing", "marching"] = "auto",
    resolution: int = RESOLUTION,
) -> Views:
    """Pictures of a field's surface from every camera of a set, shaded as those of meshes (INRet,
    section 4.4).

    The domain's unit sphere takes the place of the object's bounding sphere; for a set that wants a
    box, the domain's cube that of its bounding box. So shapes of one size in the domain have one
    size in the pictures, whatever their function.

    up_axis: the field's own. by: "tracing" follows a ray through each pixel, "marching" renders the
    mesh of `isosurface.field_mesh`, of `resolution`, which asks the field less often from a few
    views of 224 pixels on; "auto" traces distances, and takes the mesh of an occupancy. The other
    arguments as in `views.render_views`.

    Raises:
        DataError: no ray meets a surface from any camera, or there is none for a mesh; values of
            another shape or not finite; a camera within the unit sphere.
        ConfigError: a setting that does not exist; tracing of an occupancy; "face" of what was
            traced.
    """
    check_function(function)
    wanted = check_settings(size, background, supersample, what)
    if by not in ("auto", "tracing", "marching"):
        raise ConfigError(f"pictures of a field by '{by}': it is 'auto', 'tracing' or 'marching'")
    if by == "tracing" and function == "occ":
        raise ConfigError("an occupancy says no distance that a ray could go; take by='marching'")
    scale = 0.5 if cameras.fit == "box" else 1.0  # from the domain to the cameras' frame
    if by == "marching" or function == "occ":
        vertices, faces = field_mesh(field, function, resolution)
        return render_views(
            Mesh(vertices * scale, faces),
            cameras,
            size=size,
            up_axis=up_axis,
            background=background,
            supersample=supersample,
            what=what,
            fitted=True,
        )
    if "face" in wanted:
        raise ConfigError("a traced field has no faces; take by='marching' for pictures of 'face'")
    views = empty_views(wanted, len(cameras.positions), size)
    seen = False
    for i in range(len(cameras.positions)):
        eye = camera(cameras, i)
        if not np.linalg.norm(eye.position) > scale:
            raise DataError(f"camera {i} of '{cameras.name}' stands within the field; move it away")
        seen |= _draw(views, i, field, function, eye, scale, up_axis, background, supersample)
    if not seen:
        raise DataError(
            f"the field has no surface: no ray from {len(cameras.positions)} cameras meets one"
        )
    return views


def _draw(
    views: Views,
    index: int,
    field: FieldCallable,
    function: Function,
    eye: Camera,
    scale: float,
    up_axis: str,
    background: str,
    supersample: int,
) -> bool:
    """Fills in the pictures of one camera; whether anything is seen in them."""
    size = next(len(v[index]) for v in views if v is not None)

    def look(column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _look(field, function, eye, scale, up_axis, column, row, size)

    row, column = (np.arange(size * size) // size, np.arange(size * size) % size)
    hit, depth, normals = look(column + 0.5, row + 0.5)
    facing = toward_viewer(normals, eye)

    def shade(hit: np.ndarray, facing: np.ndarray) -> np.ndarray:
        grey = greys(np.abs(facing), BACKGROUNDS[background])
        return np.where(hit, grey[:-1], grey[-1])

    square = (size, size)
    if views.shaded is not None:
        image = shade(hit, facing)
        edges = edge_pixels(image.reshape(square))
        if supersample == 2 and len(edges):
            quarters = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
            fine_hit, _, fine_normals = look(
                (edges[:, None] % size + quarters[:, 0]).reshape(-1),
                (edges[:, None] // size + quarters[:, 1]).reshape(-1),
            )
            fine = shade(fine_hit, toward_viewer(fine_normals, eye)).reshape(-1, 4)
            image[edges] = (image[edges] + fine.sum(1)) / np.float32(5)
        views.shaded[index] = np.rint(image * 255).reshape(square)
    if views.depth is not None:
        views.depth[index] = depth.reshape(square)
    if views.normals is not None:
        turned = normals * np.where(facing < 0, -1.0, 1.0)[:, None]
        views.normals[index] = turned.reshape(*square, 3)
    if views.mask is not None:
        views.mask[index] = hit.reshape(square)
    return bool(hit.any())


def _look(
    field: FieldCallable,
    function: Function,
    eye: Camera,
    scale: float,
    up_axis: str,
    column: Float[np.ndarray, " P"],
    row: Float[np.ndarray, " P"],
    size: int,
) -> tuple[Bool[np.ndarray, " P"], Float[np.ndarray, " P"], Float[np.ndarray, "P 3"]]:
    """Whether rays through places of the picture meet the surface, their depth there (inf), and its
    normal (0), in the cameras' frame."""
    starts, towards = rays(eye, column, row, size)
    origins = _from_z_up(starts, up_axis) / scale
    directions = _from_z_up(towards, up_axis)
    length = np.sqrt((directions * directions).sum(1, keepdims=True))
    traced = trace(field, origins, directions, UNSIGNED if function == "udf" else SIGNED)
    hit = traced.hit
    depth = np.full(len(hit), np.inf)
    normals = np.zeros((len(hit), 3))
    # A direction reaches one unit of depth.
    along = ((traced.points - origins) * directions).sum(1) / length[:, 0] ** 2
    depth[hit] = along[hit] * scale
    at = traced.points[hit]
    if function == "udf":
        at = at - _BEFORE * (directions / length)[hit]
    normals[hit] = z_up(normals_at(field, at), up_axis)
    return hit, depth, normals


def _from_z_up(vectors: Float[np.ndarray, "P 3"], up_axis: str) -> Float[np.ndarray, "P 3"]:
    """The way back from `cameras.z_up`."""
    if up_axis == "y":
        return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], 1)
    return z_up(np.asarray(vectors), up_axis)
