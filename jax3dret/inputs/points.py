"""Points of a shape: what a point encoder reads of a mesh or a point cloud."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jax3dret.core.types import DataError, Loaded, Record, Row, Transform
from jax3dret.data.points import Keep, Subsample, UpAxis
from jax3dret.geometry.normalize import normalize_points
from jax3dret.geometry.sampling import sample_surface
from jax3dret.inputs.batching import stack

# Points drawn on the surface before the subsampling; as many as prepared data sets of meshes hold.
SURFACE_POINTS = 16_000


@dataclasses.dataclass(frozen=True)
class Points:
    """ "points" float32[num_points, 3]: centroid at the origin, farthest point at distance 1
    (before the subsampling), y up.

    A mesh is sampled on its surface, a point cloud is taken as it is.
    """

    num_points: int
    accepts: ClassVar[tuple[str, ...]] = ("mesh", "cloud")
    version: ClassVar[int] = 2  # 2: drawn from one stream for every object

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Raises DataError for points that cannot be normalised, such as all in one place."""
        points = loaded.value
        if loaded.kind == "mesh":
            points, _ = sample_surface(points, max(SURFACE_POINTS, self.num_points), rng)
        try:
            record: Record = {"points": normalize_points(points)[0]}
        except DataError as error:
            raise DataError(f"{loaded.name}: {error}") from None
        for transform in self._oriented(loaded.up_axis):
            record = transform(record, rng)
        return {"points": np.ascontiguousarray(record["points"], np.float32)}

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        return stack(rows)

    def transforms(self, up_axis: str) -> tuple[Transform, ...]:
        """A record of prepared data, whose points are normalised already, to its row and label, as
        an evaluation reads it.
        """
        return (*self._oriented(up_axis), Keep(("points", "label")))

    def _oriented(self, up_axis: str) -> tuple[Transform, ...]:
        return (UpAxis(up_axis), Subsample(self.num_points))
