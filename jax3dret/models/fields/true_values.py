"""The true values that a shape's INRs are fitted to: points of each epoch, and what the mesh says
there.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from jaxtyping import Float

from jax3dret.core import rng
from jax3dret.core.types import DataError
from jax3dret.geometry.distance import MeshDistance, Sign
from jax3dret.geometry.field_samples import FieldSamples
from jax3dret.geometry.mesh import Mesh
from jax3dret.models.fields.field import Function


class TrueValues:
    """Points and values of one mesh, the same for every function, architecture and run.

    mesh: in the unit sphere. seed: of all points; a point depends on the seed, the mesh, the epoch
    and the number of points of an epoch, and on nothing beside the mesh. keep: bytes of values that
    are kept for other functions.
    """

    def __init__(self, mesh: Mesh, seed: int, *, sign: Sign = "auto", keep: int = 0) -> None:
        self._mesh, self._seed, self._sign, self._keep = mesh, seed, sign, keep
        self._kept: dict[tuple[int, int, str], np.ndarray] = {}
        self._bytes = 0

    @functools.cached_property
    def content(self) -> str:
        """SHA-256 of the mesh: equal for equal shapes, whatever file they come from."""
        digest = hashlib.sha256(np.ascontiguousarray(self._mesh.vertices, "<f8").tobytes())
        digest.update(np.ascontiguousarray(self._mesh.faces, "<i4").tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def distance(self) -> MeshDistance:
        """What gives the values. Raises MeshError for a mesh without a surface."""
        return MeshDistance(self._mesh, self._sign)

    def refused(self, function: Function) -> str:
        """Why the shape has no such function; empty where it has."""
        try:
            _ = self.distance if function == "udf" else self.distance.rule
        except DataError as error:
            return str(error)
        return ""

    def points(self, count: int, epoch: int) -> Float[np.ndarray, "N 3"]:
        """Of an epoch: a fifth anywhere in the domain, two fifths near the surface, two on it."""
        draws = rng.host_generator(self._seed, "fields/points", int(self.content[:16], 16), epoch)
        return FieldSamples(self._mesh, count).draw(draws)

    def values(self, function: Function, count: int, epoch: int) -> Float[np.ndarray, " N"]:
        """At the points of an epoch. Raises DataError for a function that the shape has not."""
        if function == "udf":
            at_hand = (count, epoch, "sdf") in self._kept
            if at_hand and self._is_one_surface:
                return np.abs(self._kept[count, epoch, "sdf"])
            return self._of("udf", count, epoch)
        signed = self._of("sdf", count, epoch)
        if function == "sdf":
            return signed
        return np.where(np.signbit(signed), -1, 1).astype(np.float32)  # -0 is inside

    @functools.cached_property
    def _is_one_surface(self) -> bool:
        """Whether signed distances are to the same triangles, to the last bit, as distances."""
        boundary, mesh = self.distance.boundary, self.distance.mesh
        return np.array_equal(boundary.faces, mesh.faces) and np.array_equal(
            boundary.vertices, mesh.vertices
        )

    def _of(self, which: str, count: int, epoch: int) -> np.ndarray:
        found = self._kept.get((count, epoch, which))
        if found is None:
            points = self.points(count, epoch)
            found = self.distance.sdf(points) if which == "sdf" else self.distance.udf(points)
            if self._bytes + found.nbytes <= self._keep:
                self._kept[count, epoch, which] = found
                self._bytes += found.nbytes
        return found
