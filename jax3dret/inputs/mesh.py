"""Points and faces of a mesh: what a network reads that draws the mesh itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jax3dret.core.types import DataError, Loaded, Record, Row, Transform
from jax3dret.data.mesh_arrays import FixedMesh
from jax3dret.data.points import Keep, Subsample, UpAxis
from jax3dret.geometry.normalize import normalize_points
from jax3dret.geometry.sampling import sample_surface
from jax3dret.inputs.batching import stack
from jax3dret.inputs.points import SURFACE_POINTS

ARRAYS = ("points", "vertices", "faces", "face_mask")


@dataclasses.dataclass(frozen=True)
class SampledMesh:
    """ "points" float32[num_points, 3] drawn on the surface, and the mesh in the same frame,
    simplified and padded.

    "vertices" float32[3 num_faces, 3], "faces" int32[num_faces, 3], "face_mask" bool[num_faces];
    centroid of the points at the origin, farthest point at distance 1 (before the subsampling), y
    up.
    """

    num_points: int
    num_faces: int
    accepts: ClassVar[tuple[str, ...]] = ("mesh",)
    version: ClassVar[int] = 1

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Raises DataError for a mesh that cannot be normalised or simplified."""
        mesh = loaded.value
        points, _ = sample_surface(mesh, max(SURFACE_POINTS, self.num_points), rng)
        try:
            points, centroid, scale = normalize_points(points)
            vertices = ((mesh.vertices - centroid) / scale).astype(np.float32)
            record: Record = {"points": points, "vertices": vertices, "faces": mesh.faces}
            for transform in self._prepared(loaded.up_axis):
                record = transform(record, rng)
        except DataError as error:
            raise DataError(f"{loaded.name}: {error}") from None
        return {name: np.asarray(record[name]) for name in ARRAYS}

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        return stack(rows)

    def transforms(self, up_axis: str) -> tuple[Transform, ...]:
        """A record of prepared data, which is normalised already, to its row and label, as an
        evaluation reads it.
        """
        return (*self._prepared(up_axis), Keep((*ARRAYS, "label")))

    def _prepared(self, up_axis: str) -> tuple[Transform, ...]:
        return (UpAxis(up_axis), Subsample(self.num_points), FixedMesh(self.num_faces))
