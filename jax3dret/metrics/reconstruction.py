"""How well a field holds the shape that it was fitted to: the Chamfer distance of surfaces and the
overlap of volumes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.distance import MeshDistance
from jax3dret.geometry.field_values import FieldCallable, field_values
from jax3dret.geometry.isosurface import surface_points
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.sampling import sample_surface
from jax3dret.geometry.seen_points import seen_points
from jax3dret.metrics.metric import Metric

# As many points of either surface, and of the domain, as INRet and NGLOD take.
COUNT = 1 << 17
CHAMFER = Metric(
    "chamfer",
    "Chamfer distance",
    "mean distance from a point of the field's surface to the mesh's nearest point and from the "
    "mesh's to the field's, summed; the shape fills the unit sphere",
)
GIOU = Metric(
    "giou",
    "gIoU",
    "volume inside both the field and the mesh over the volume inside either, by points uniform in "
    "the domain",
)
METRICS = (CHAMFER, GIOU)


def chamfer_distance(
    a: Float[np.ndarray, "N 3"], b: Float[np.ndarray, "M 3"], *, squared: bool = False
) -> float:
    """The mean distance of a point of one cloud to the nearest of the other, in both directions,
    summed (`ops.chamfer` in float64, by a tree); with `squared` of the squares.

    Raises DataError: a cloud without points, of another shape, or with a coordinate that is not
    finite.
    """
    a, b = _cloud(a, "first"), _cloud(b, "second")
    there, back = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    if squared:
        there, back = there**2, back**2
    return float(there.mean() + back.mean())


def volumetric_iou(inside_a: Bool[np.ndarray, " N"], inside_b: Bool[np.ndarray, " N"]) -> float:
    """Points inside both of two shapes over the points inside either, 0 to 1: the "gIoU" of INRet
    (section 9.1) and NGLOD, which is this ratio of volumes, and not the generalized one of boxes.
    It is nan where no point is inside either.

    Raises DataError: shapes that differ.
    """
    inside_a, inside_b = np.asarray(inside_a, bool), np.asarray(inside_b, bool)
    if inside_a.shape != inside_b.shape:
        raise DataError(
            f"IoU of {inside_a.shape} and {inside_b.shape} points: the shapes must be equal"
        )
    either = int((inside_a | inside_b).sum())
    return int((inside_a & inside_b).sum()) / either if either else float("nan")


def reconstruction(
    field: FieldCallable,
    function: Literal["sdf", "udf", "occ"],
    mesh: Mesh | MeshDistance,
    count: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """{"chamfer", "giou"} of a field against its mesh in the unit sphere (INRet, section 9.1).

    Chamfer: `count` points of the field by `surface_points`, and as many of the mesh where rays
    from places anywhere in any direction meet it, which is how the field's are found; for an
    occupancy both are uniform by area. The mesh is `MeshDistance.boundary` for a function with a
    sign. gIoU: `count` points uniform in [-1, 1]^3, inside where the value is below 0; nan for an
    unsigned distance.

    Raises:
        DataError: as `surface_points`; no point is inside either shape.
        ConfigError: no such function, or a count below 1.
    """
    if count < 1:
        raise ConfigError(f"a reconstruction at {count} points: at least 1")
    true = mesh if isinstance(mesh, MeshDistance) else MeshDistance(mesh)
    found = surface_points(field, function, count, rng)
    shape = true.mesh if function == "udf" else true.boundary
    if function == "occ":
        expected = sample_surface(shape, count, rng)[0]
    else:
        expected = seen_points(shape, count, rng)
    result = {CHAMFER.key: chamfer_distance(found, expected), GIOU.key: float("nan")}
    if function != "udf":
        points = rng.uniform(-1.0, 1.0, (count, 3)).astype(np.float32)
        inside = field_values(field, points) < 0
        result[GIOU.key] = volumetric_iou(inside, true.occ(points) < 0)
        if np.isnan(result[GIOU.key]):
            raise DataError(f"of {count} points none is inside the field or the mesh")
    return result


def _cloud(points: np.ndarray, which: str) -> Float[np.ndarray, "N 3"]:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise DataError(
            f"Chamfer distance: the {which} cloud has shape {points.shape}; expected (N, 3), N at "
            "least 1"
        )
    broken = int((~np.isfinite(points)).any(1).sum())
    if broken:
        raise DataError(
            f"Chamfer distance: {broken} of {len(points)} points of the {which} cloud are not "
            "finite"
        )
    return points
