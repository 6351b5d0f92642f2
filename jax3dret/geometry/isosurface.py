"""From a field to what can be looked at: points on its surface, its surface as a mesh, pictures."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.field_values import FieldCallable
from jax3dret.geometry.marching import RESOLUTION, marching_cubes
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.sampling import sample_surface
from jax3dret.geometry.tracing import SIGNED, UNSIGNED, trace

Function = Literal["sdf", "udf", "occ"]
# Rays of a round, and values of the field that points may cost: so many, and so many a point.
_RAYS = 1 << 14
_ASKED = 10_000_000
_ASKED_EACH = 1_000


def surface_points(
    field: FieldCallable,
    function: Function,
    count: int,
    rng: np.random.Generator,
    *,
    resolution: int = RESOLUTION,
) -> Float[np.ndarray, "N 3"]:
    """Exactly `count` points on the surface of a field, float32, in [-1, 1]^3 (INRet, section 4.4).

    A distance is traced along rays from places anywhere in the domain in any direction, until
    enough of them have hit ("sdf": plain, "udf": damped); an occupancy is made a mesh of
    `resolution`, and points are drawn from it by area. Rays see what can be seen from somewhere,
    and more of what stands free.

    Raises:
        DataError: the field has no surface, or so little that 10 million values and 1,000 a point
            do not find it; values of another shape or not finite.
        ConfigError: no such function, or a count below 0.
    """
    check_function(function)
    if count < 0:
        raise ConfigError(f"{count} points: at least 0")
    if function == "occ":
        mesh = marching_cubes(field, resolution)
        return np.clip(sample_surface(mesh, count, rng)[0], -1, 1).astype(np.float32)
    found: list[np.ndarray] = []
    have = asked = cast = 0
    while have < count:
        # After the first round, as many rays as the share that hit lets expect to be needed.
        share = have / cast if cast else 0.25
        rays = int(min(_RAYS, max(1024, 1.1 * (count - have) / max(share, 1e-2))))
        origins = rng.uniform(-1.0, 1.0, (rays, 3))
        towards = rng.standard_normal((rays, 3))
        traced = trace(field, origins, towards, SIGNED if function == "sdf" else UNSIGNED)
        points = traced.points[traced.hit]
        found.append(points[(np.abs(points) <= 1).all(1)])
        have, asked, cast = have + len(found[-1]), asked + traced.evaluations, cast + rays
        if have < count and asked > _ASKED + _ASKED_EACH * count:
            raise DataError(
                f"the field has no surface to speak of: {have} of {cast} rays hit it, for {count} "
                f"points ({asked} values)"
            )
    return np.concatenate([np.empty((0, 3)), *found])[:count].astype(np.float32)


def field_mesh(field: FieldCallable, function: Function, resolution: int = RESOLUTION) -> Mesh:
    """The surface of a field as a mesh. An unsigned distance crosses no 0: there it is the shell a
    cell away from the surface, on both sides of it.

    Raises as `marching_cubes`.
    """
    check_function(function)
    return marching_cubes(
        field, resolution, level=2 / (resolution - 1) if function == "udf" else 0.0
    )


def check_function(function: str) -> None:
    """Raises ConfigError for what is no implicit function."""
    if function not in ("sdf", "udf", "occ"):
        raise ConfigError(f"function '{function}': it is 'sdf', 'udf' or 'occ'")
