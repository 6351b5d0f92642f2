"""Rendered views of a shape: what a view network reads of a mesh or a point cloud."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from jax3dret.core.types import DataError, Loaded, Row
from jax3dret.geometry import cameras
from jax3dret.geometry import views as rendering
from jax3dret.geometry.normalize import normalize_points
from jax3dret.inputs.batching import stack


@dataclasses.dataclass(frozen=True)
class Views:
    """ "views" uint8[V, size, size, 3]: grey pictures from the cameras of a set, by the settings of
    `data.views.build_views`.

    A point cloud is drawn as discs, as `build_views` draws records without a mesh. z is up.
    """

    cameras: str
    size: int
    accepts: ClassVar[tuple[str, ...]] = ("mesh", "cloud")
    version: ClassVar[int] = rendering.VERSION
    # What a user should know where files of a kind are read.
    remarks: ClassVar[Mapping[str, str]] = {
        "cloud": "point clouds are shown to the model as discs; meshes show more"
    }

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Nothing is drawn from `rng`. Raises DataError for a shape that cannot be rendered."""
        placed = cameras.by_name(self.cameras)
        try:
            if loaded.kind == "cloud":
                points = normalize_points(loaded.value)[0]
                rendered = rendering.render_point_views(
                    points, placed, size=self.size, up_axis=loaded.up_axis
                )
            else:
                rendered = rendering.render_views(
                    loaded.value, placed, size=self.size, up_axis=loaded.up_axis
                )
        except DataError as error:
            raise DataError(f"{loaded.name}: {error}") from None
        assert rendered.shaded is not None
        return {"views": rendered.shaded}

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Grey repeated over the channels, as `data.views.ViewStore` has it."""
        return {"views": np.repeat(stack(rows)["views"][..., None], 3, axis=-1)}
