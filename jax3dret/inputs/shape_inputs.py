"""What an encoder reads of the file of a shape, a mesh or a point cloud: points, or pictures from all sides.

Both are made by the steps of an evaluation, so that a file gives what a record of the same shape gives. `search.prepare` runs them
over many files; an axis that is up in the file ("y" or "z") is an argument everywhere.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from jax3dret.core.types import DataError, Record
from jax3dret.data.points import Subsample, UpAxis
from jax3dret.geometry import cameras, clouds, meshes
from jax3dret.geometry import views as rendering
from jax3dret.geometry.sampling import sample_surface

# Counts up whenever `Points` gives other points, so that no index mixes two ways. Of pictures, `rendering.VERSION` does.
POINTS_VERSION = 1
# Points drawn on the surface before the subsampling; as many as prepared data sets of meshes hold.
SURFACE_POINTS = 16_000
# Pictures that a view network reads at a time.
_PICTURES = 48


@dataclasses.dataclass(frozen=True)
class Points:
    """Files to points float32 [num_points, 3]: centroid at the origin, farthest point at distance 1 (before the subsampling), y up.

    A mesh is sampled on its surface, a point cloud is taken as it is.
    """

    num_points: int
    name: ClassVar[str] = "points"
    batch_size: ClassVar[int] = 16

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_points, 3)

    @property
    def dtype(self) -> Any:
        return np.float32

    def identity(self) -> list[Any]:
        """JSON-like: all that the points of a file depend on."""
        return [POINTS_VERSION, self.num_points]

    def __call__(
        self, path: str | os.PathLike[str], up_axis: str, rng: np.random.Generator
    ) -> Float[np.ndarray, "num_points 3"]:
        """Raises DataError: the file cannot be used: one line, path first."""
        if clouds.is_cloud(path):
            points = clouds.load_points(path)
        else:
            points, _ = sample_surface(
                meshes.load_mesh(path), max(SURFACE_POINTS, self.num_points), rng
            )
        record: Record = {"points": _normalised(path, points)}
        for transform in (UpAxis(up_axis), Subsample(self.num_points)):
            record = transform(record, rng)
        return np.ascontiguousarray(record["points"], np.float32)

    def batch(self, rows: jax.Array) -> dict[str, jax.Array]:
        """Rows as a task takes them."""
        return {"points": rows}


@dataclasses.dataclass(frozen=True)
class Views:
    """Files to grey pictures uint8 [V, size, size] from the cameras of a set, by the settings of `data.views.build_views`.

    A point cloud is drawn as discs, as `build_views` draws records without a mesh.
    """

    cameras: str
    size: int
    name: ClassVar[str] = "views"

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(cameras.by_name(self.cameras).positions), self.size, self.size)

    @property
    def dtype(self) -> Any:
        return np.uint8

    @property
    def batch_size(self) -> int:
        return max(1, min(16, _PICTURES // self.shape[0]))

    def identity(self) -> list[Any]:
        """JSON-like: all that the pictures of a file depend on, but for the renderer, which changes single pixels."""
        placed = cameras.by_name(self.cameras)
        positions = np.asarray(placed.positions).round(12).tolist()
        return [rendering.VERSION, {**placed._asdict(), "positions": positions}, self.size]

    def __call__(
        self, path: str | os.PathLike[str], up_axis: str, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "V size size"]:
        """Nothing is drawn from `rng`. Raises DataError: the file cannot be used: one line, path first."""
        settings: dict[str, Any] = {"size": self.size, "up_axis": up_axis}
        if clouds.is_cloud(path):
            points = _normalised(path, clouds.load_points(path))
            draw = lambda placed: rendering.render_point_views(points, placed, **settings)  # noqa: E731
        else:
            mesh = meshes.load_mesh(path)
            draw = lambda placed: rendering.render_views(mesh, placed, **settings)  # noqa: E731
        try:
            shaded = draw(cameras.by_name(self.cameras)).shaded
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        assert shaded is not None
        return shaded

    def batch(self, rows: jax.Array) -> dict[str, jax.Array]:
        """Rows as a task takes them: grey repeated over the channels, as `data.views.ViewStore` has it."""
        return {"views": jnp.repeat(rows[..., None], 3, axis=-1)}


def _normalised(path: str | os.PathLike[str], points: np.ndarray) -> Float[np.ndarray, "N 3"]:
    try:
        return meshes.normalize_points(points)[0]
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
