"""What a field of unknown make is asked, to fit another to it: no mesh, only its values.

INRet, section 7.3, Eq. 7: the source is an oracle. Two fifths of the points lie anywhere in the
domain, three fifths around places where the source is nearly 0, found by looking once at the
centres of 64^3 cells. The paper leaves open how points near the surface are found.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.core import rng
from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.field_values import FieldCallable, field_values
from jax3dret.models.fields.field import FUNCTIONS, Function

# Of a distance, in halves of a cell. Of a sphere and a box turned in space, next to the cells of the
# mesh, at most one in fifty is then lacking and one in twenty-five too many.
_PART = 1.5
_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])


def as_function(
    source: FieldCallable, source_function: Function, function: Function
) -> FieldCallable:
    """The source as another implicit function, where its own tells it: a signed distance gives the
    distance, |s|, and the occupancy, its sign (INRet, Eqs. 8 and 9); 0 counts as outside.

    Raises ConfigError for a function that the source's does not tell, or one that there is not.
    """
    for name in (source_function, function):
        if name not in FUNCTIONS:
            raise ConfigError(f"function '{name}': it is one of {', '.join(FUNCTIONS)}")
    if function == source_function:
        return source
    if source_function != "sdf":
        raise ConfigError(
            f"a field of the function {source_function} does not tell {function}; only sdf tells "
            f"the others, so give --function {source_function}"
        )
    if function == "udf":
        return lambda points: np.abs(source(points))
    return lambda points: np.where(np.asarray(source(points)) < 0, -1.0, 1.0)


class DistillationSamples:
    """`count` points of an epoch and the source's values there.

    source: from float32[P, 3] in [-1, 1]^3 to float32[P]; function: what its values are. share:
    of the points that lie anywhere; the others lie around the surface, moved by a normal of
    standard deviation sigma from the centre of one of the `scan`^3 cells that it may cross, each
    drawn alike. Points that leave the domain are moved to its border.

    Raises: ConfigError: settings out of range. DataError: values of another shape or not finite, or
        a source that is nowhere near 0.

    near: int[C, 3], the cells of the scan that the surface may cross. content: a hash of the values
    at the centres of all.
    """

    def __init__(
        self,
        source: FieldCallable,
        function: Function,
        *,
        count: int = 500_000,
        share: float = 0.4,
        sigma: float = 0.015,
        scan: int = 64,
        seed: int = 0,
    ):
        if not (0 <= share <= 1 and 0 <= sigma < np.inf and count >= 1 and 2 <= scan <= 512):
            raise ConfigError(
                f"distillation: count={count}, share={share}, sigma={sigma}, scan={scan}; expected "
                "at least 1, a share, at least 0, and 2 to 512"
            )
        self.source, self.function, self.count = source, function, count
        self.sigma, self.scan, self.seed = sigma, scan, seed
        self._anywhere = round(share * count)
        self.near = self._scanned()

    def draw(self, epoch: int) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " N"]]:
        """Points and values of one epoch, float32: those anywhere first. The same for the same seed
        and epoch.
        """
        generator = rng.host_generator(self.seed, "distillation points", epoch)
        anywhere = generator.uniform(-1.0, 1.0, (self._anywhere, 3))
        around = self.near[generator.integers(len(self.near), size=self.count - self._anywhere)]
        around = (around + 0.5) * (2 / self.scan) - 1
        around = around + self.sigma * generator.standard_normal(around.shape)
        points = np.clip(np.concatenate([anywhere, around]), -1, 1).astype(np.float32)
        return points, field_values(self.source, points)

    def cells(self, level: int) -> Int[np.ndarray, "C 3"]:
        """Cells of side 2 / 2^level that the surface comes as near to as half a cell along each
        axis: what an octree is made of, as `geometry.occupied_cells.touched` finds them of a mesh.

        Cells of the scan are joined or divided, with those around them, until they are so large.
        """
        size, cells = self.scan, self.near
        if size & (size - 1):
            raise ConfigError(f"distillation: scan={size}; for an octree it must be a power of two")
        if size >= 2**level:
            cells = _with_neighbours(cells // (size // 2**level), 2**level)
            return cells[self._crossed(cells, 2**level)]
        cells = _with_neighbours(cells, size)
        while size < 2**level:
            size *= 2
            cells = (2 * cells[:, None] + (_SIGNS[None] + 1) // 2).reshape(-1, 3)
            cells = cells[self._crossed(cells, size)]
        return cells

    def _scanned(self) -> Int[np.ndarray, "C 3"]:
        """The cells of the scan that the surface may cross."""
        size = self.scan
        axis = np.arange(size)
        cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        values = field_values(self.source, self._centres(cells, size))
        self.content = hashlib.sha256(values.tobytes()).hexdigest()
        near = self._changes_sign(values.reshape(size, size, size)).reshape(-1)
        if self.function != "occ":
            # Half a cell's diagonal, or twice that of a fit whose distance stays a little off.
            for reach in (1, 2):
                close = near | (np.abs(values) <= reach * np.sqrt(3) / size)
                if close.any():
                    near = close
                    break
        if not near.any():
            raise DataError(
                f"the field has no surface in [-1, 1]^3: as {self.function} its values go from "
                f"{values.min():g} to {values.max():g} there"
            )
        return cells[near]

    @staticmethod
    def _changes_sign(values: Float[np.ndarray, "S S S"]) -> Bool[np.ndarray, "S S S"]:
        """Cells with one beside them of another sign."""
        inside = values < 0
        found = np.zeros_like(inside)
        for axis in range(3):
            change = np.diff(inside, axis=axis)
            low, high = [slice(None)] * 3, [slice(None)] * 3
            low[axis], high[axis] = slice(0, -1), slice(1, None)
            found[tuple(low)] |= change
            found[tuple(high)] |= change
        return found

    def _crossed(self, cells: Int[np.ndarray, "C 3"], size: int) -> Bool[np.ndarray, " C"]:
        """Of cells of side 2 / size, those that the surface comes as near to as half a cell: it
        meets the cube twice as large around the same centre.
        """
        centres = self._centres(cells, size)
        values = field_values(self.source, centres)
        # The ball within the cube; an occupancy has no distances.
        crossed = (np.abs(values) <= 2 / size) & (self.function != "occ")
        if self.function != "udf":
            for sign in _SIGNS:  # the corners of the cube
                corners = np.clip(centres + sign * (2 / size), -1, 1).astype(np.float32)
                crossed |= (field_values(self.source, corners) < 0) != (values < 0)
            return crossed
        # A distance without a sign says how far the surface is, not where: it is asked again at the
        # middles of the cube's eight parts, with balls about as large as the parts.
        left = np.flatnonzero(~crossed & (np.abs(values) <= 2 * np.sqrt(3) / size))
        for sign in _SIGNS:
            parts = np.clip(centres[left] + sign / size, -1, 1).astype(np.float32)
            crossed[left] |= np.abs(field_values(self.source, parts)) <= _PART / size
        return crossed

    @staticmethod
    def _centres(cells: Int[np.ndarray, "C 3"], size: int) -> Float[np.ndarray, "C 3"]:
        return ((cells + 0.5) * (2 / size) - 1).astype(np.float32)


def _with_neighbours(cells: Int[np.ndarray, "C 3"], size: int) -> Int[np.ndarray, "N 3"]:
    """Cells of size^3 and those around them, each once."""
    around = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
    cells = np.unique((cells[:, None] + around[None]).reshape(-1, 3), axis=0)
    return cells[((cells >= 0) & (cells < size)).all(1)]
