"""Ray casting on a bounding-volume hierarchy: the embree library, through embreex. Needs neither a
display nor OpenGL.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.geometry.cameras import Camera, Hits, project, rays


def available() -> bool:
    """Whether embreex is installed."""
    return importlib.util.find_spec("embreex") is not None


class RayScene:
    """A mesh made ready for rays: vertices [V, 3] of a size near 1, faces [F, 3]. Zero-area faces
    are never hit.

    Of faces at the same depth one is hit, the same in every run. Raises ConfigError if embreex is
    not installed.
    """

    def __init__(self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]):
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise ConfigError(
                f"renderer 'embree' needs embreex ({error}): pip install embreex, or take renderer "
                "'zbuffer'"
            ) from None
        self._vertices = np.ascontiguousarray(vertices, np.float64)
        self._scene = EmbreeScene()
        TriangleMesh(
            self._scene, self._vertices.astype(np.float32), np.ascontiguousarray(faces, np.int32)
        )

    def centres(self, camera: Camera, size: int, *, depth: bool) -> Hits:
        """Face and depth behind the centre of every pixel. Without `depth` that part is left empty,
        which is a little faster.
        """
        on_screen = project(camera, self._vertices, size)[:, :2]
        # Rays beside the mesh's bounding rectangle are not cast.
        low = np.floor(on_screen.min(0)).astype(np.int64).clip(0, size)
        high = np.ceil(on_screen.max(0)).astype(np.int64).clip(0, size)
        face = np.full((size, size), -1, np.int32)
        far = np.full((size, size) if depth else (0, 0), np.inf, np.float32)
        if (high > low).all():
            window = np.s_[low[1] : high[1], low[0] : high[0]]
            column = np.arange(low[0], high[0])[None] + 0.5
            row = np.arange(low[1], high[1])[:, None] + 0.5
            origins, towards, shape = _single(*rays(camera, column, row, size))
            if depth:
                found = self._scene.run(origins, towards, output=True)
                face[window] = found["primID"].reshape(shape)
                far[window] = np.where(
                    found["primID"] < 0, np.float32(np.inf), found["tfar"]
                ).reshape(shape)
            else:
                face[window] = self._scene.run(origins, towards).reshape(shape)
        return Hits(face, far)

    def quarters(
        self, camera: Camera, size: int, pixels: Int[np.ndarray, " P"]
    ) -> Int[np.ndarray, "P 4"]:
        """The faces behind the centres of the four quarters of some pixels, given as row * size +
        column; -1 for none.
        """
        row, column = np.divmod(pixels, size)
        columns = column[:, None, None] + np.array([[0.25, 0.75]])
        rows = row[:, None, None] + np.array([[0.25], [0.75]])
        origins, towards, _ = _single(*rays(camera, columns, rows, size))
        return self._scene.run(origins, towards).reshape(-1, 4)


def _single(
    origins: np.ndarray, towards: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Rows of float32, as embree takes them, and the shape they had. What all rays share is not
    repeated in memory.
    """

    def cast(rows: np.ndarray) -> np.ndarray:
        if rows.size and not any(rows.strides[:-1]):
            return np.broadcast_to(
                rows[(0,) * (rows.ndim - 1)].astype(np.float32), (rows.size // 3, 3)
            )
        return rows.astype(np.float32).reshape(-1, 3)

    return cast(origins), cast(towards), origins.shape[:-1]
