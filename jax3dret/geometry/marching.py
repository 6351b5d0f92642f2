"""The surface of a field as a mesh: marching cubes over a lattice."""

from __future__ import annotations

import numpy as np
from skimage import measure

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.field_values import FieldCallable, field_values
from jax3dret.geometry.mesh import Mesh

RESOLUTION = 128


def marching_cubes(
    field: FieldCallable, resolution: int = RESOLUTION, *, level: float = 0.0
) -> Mesh:
    """The surface where a field crosses `level`, smaller values being inside; in the domain
    [-1, 1]^3, closed, its faces counter-clockwise from outside.

    The lattice has `resolution` places an axis, from -1 to 1. Beyond its border everything is
    outside, so that a shape which reaches the border is closed there (as Occupancy Networks do,
    Mescheder et al. 2019); the mesh may stand out of the domain by a cell.

    Raises:
        ConfigError: a resolution below 2.
        DataError: the field is all inside or all outside; values of another shape or not finite.
    """
    values, step = lattice_values(field, resolution), 2 / (resolution - 1)
    inside = values < level
    if not inside.any() or inside.all():
        raise DataError(
            f"the field has no surface at {level:g}: on {resolution}^3 places it is between "
            f"{values.min():g} and {values.max():g}"
        )
    # As far above the level as the field is far from it anywhere: a padded crossing lies beyond the
    # border, and not on it.
    beyond = level + max(float(np.abs(values - level).max()), 1e-6)
    padded = np.pad(values, 1, constant_values=beyond)
    vertices, faces, _, _ = measure.marching_cubes(padded, level, gradient_direction="descent")
    return Mesh((vertices.astype(np.float64) - 1) * step - 1, np.ascontiguousarray(faces, np.int32))


def lattice_values(field: FieldCallable, resolution: int) -> np.ndarray:
    """The field on a lattice, float32[R, R, R], [i, j, k] at (-1 + 2 i / (R - 1), ...); a layer of
    it is made at a time."""
    if resolution < 2:
        raise ConfigError(f"a lattice of {resolution} places an axis; at least 2")
    axis = np.linspace(-1.0, 1.0, resolution, dtype=np.float32)
    layer = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    values = np.empty((resolution, resolution * resolution), np.float32)
    # Small layers are put together, so that the field is asked for blocks of some size.
    together = max(1, (1 << 16) // len(layer))
    for begin in range(0, resolution, together):
        x = axis[begin : begin + together]
        points = np.concatenate(
            [np.repeat(x, len(layer))[:, None], np.tile(layer, (len(x), 1))], axis=1
        )
        values[begin : begin + len(x)] = field_values(field, points).reshape(len(x), -1)
    return values.reshape(resolution, resolution, resolution)
