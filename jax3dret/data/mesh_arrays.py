"""Meshes as arrays of one shape: simplified to a number of faces, then padded, so that they can be
batched.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError, DataError, Record

_FINEST = 256  # cells along the longest side of the first grid tried


def cluster_vertices(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], cells: int
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
    """The vertices of each cell of a cubic grid, `cells` along the longest side, merged to their
    mean.

    Faces that lose a corner, and all but the first of faces with the same three corners, vanish; so
    do vertices without a face.
    """
    low, high = vertices.min(0), vertices.max(0)
    cell = max(float((high - low).max()), 1e-12) / cells
    grid = np.minimum((vertices - low) / cell, cells - 1).astype(np.int64)
    _, merged = np.unique(
        (grid[:, 0] * cells + grid[:, 1]) * cells + grid[:, 2], return_inverse=True
    )
    merged = merged.reshape(-1)
    count = np.bincount(merged)
    means = np.stack([np.bincount(merged, vertices[:, k]) / count for k in range(3)], 1)
    return _compact(means, merged[faces])


@dataclasses.dataclass(frozen=True)
class FixedMesh:
    """record["vertices"], record["faces"] -> float32[3 num_faces, 3], int32[num_faces, 3] and
    "face_mask" bool[num_faces].

    A mesh of more faces is simplified on the finest grid, of up to 256 cells along its longest
    side, that leaves few enough.
    """

    num_faces: int = 512

    def __post_init__(self) -> None:
        if self.num_faces < 64:
            raise ConfigError(f"FixedMesh: num_faces={self.num_faces}; expected 64 or more")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        del rng
        name = f"record {record['id']}" if "id" in record else "record"
        if "vertices" not in record or "faces" not in record:
            raise DataError(
                f"{name} has no mesh, only {', '.join(sorted(record))}; render its points instead"
            )
        vertices, faces = (
            np.asarray(record["vertices"], np.float64),
            np.asarray(record["faces"], np.int64),
        )
        if not len(faces) or not np.isfinite(vertices).all():
            raise DataError(
                f"{name}: {len(faces)} faces over {len(vertices)} vertices; faces and finite "
                "vertices needed"
            )
        vertices, faces = _compact(vertices, faces)
        if len(faces) > self.num_faces:
            vertices, faces = self._simplify(vertices, faces)
        if not len(faces):
            raise DataError(f"{name}: no face has three corners, at least once it is simplified")
        fixed = np.zeros((3 * self.num_faces, 3), np.float32)
        fixed[: len(vertices)] = vertices
        corners = np.zeros((self.num_faces, 3), np.int32)
        corners[: len(faces)] = faces
        return {
            **record,
            "vertices": fixed,
            "faces": corners,
            "face_mask": np.arange(self.num_faces) < len(faces),
        }

    def _simplify(
        self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
    ) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
        """Bisection over the grids; a grid of 2 cells has at most 8 vertices, so 56 faces, and
        always fits.
        """
        fits, low, high = cluster_vertices(vertices, faces, 2), 2, _FINEST + 1
        while high - low > 1:
            middle = (low + high) // 2
            found = cluster_vertices(vertices, faces, middle)
            if len(found[1]) <= self.num_faces:
                fits, low = found, middle
            else:
                high = middle
        return fits


def _compact(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
    """Without faces that name a vertex twice, without repeated faces, without vertices that no face
    names.
    """
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(np.sort(faces, 1), axis=0, return_index=True)
    used, renamed = np.unique(faces[np.sort(first)], return_inverse=True)
    return vertices[used], renamed.reshape(-1, 3)
