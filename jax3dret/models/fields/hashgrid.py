"""Multi-resolution hash grid (iNGP, Mueller et al. 2022), with the conventions of Kaolin Wisp."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError, PyTree
from jax3dret.models.fields import grid, interpolation
from jax3dret.models.fields.network import Decoder

# One factor an axis (iNGP, section 3).
PRIMES = np.array([1, 2654435761, 805459861], np.uint32)


@dataclasses.dataclass(frozen=True)
class HashGrid:
    """Defaults: INRet's, four levels of 16^3 to 512^3 nodes, two features each, side by side; the
    size of the table, which the paper's text has lost, is Wisp's.

    table: log2 of the most rows that a level has. A level of no more nodes than that is stored
    whole, x fastest; nodes of a larger one share rows by their hash. noise: standard deviation of
    the features at the start.

    A level of n nodes an axis is stretched by n, not n - 1: the last 1/n of the domain reads the
    last node (Wisp does so).

    Raises ConfigError for numbers that make no grid.
    """

    levels: int = 4
    min_resolution: int = 16
    max_resolution: int = 512
    table: int = 19
    width: int = 2
    reduce: interpolation.Reduce = "concat"
    noise: float = 0.01
    decoder: Decoder = dataclasses.field(default_factory=Decoder)

    def __post_init__(self) -> None:
        interpolation.check_reduce("hashgrid", "reduce", self.reduce)
        if not (2 <= self.min_resolution <= self.max_resolution and self.levels >= 1):
            raise ConfigError(
                f"hashgrid: {self.levels} levels of {self.min_resolution} to "
                f"{self.max_resolution} nodes; expected at least 1, and 2 or more nodes, ascending"
            )
        if not (1 <= self.table <= 28 and self.width >= 1 and self.noise >= 0):
            raise ConfigError(
                f"hashgrid: table={self.table}, width={self.width}, noise={self.noise}; expected 1 "
                "to 28, at least 1 and at least 0"
            )

    @property
    def name(self) -> str:
        return "hashgrid"

    @property
    def feature_width(self) -> int:
        return self.width * (self.levels if self.reduce == "concat" else 1)

    @property
    def reads(self) -> int:
        """Rows of the table that one point reads."""
        return 8 * self.levels

    @functools.cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Nodes an axis of each level: floor(min b^l), b = (max / min)^(1 / (levels - 1))."""
        growth = (self.max_resolution / self.min_resolution) ** (1 / max(self.levels - 1, 1))
        return tuple(int(self.min_resolution * growth**i + 1e-6) for i in range(self.levels))

    @functools.cached_property
    def begins(self) -> tuple[int, ...]:
        """The first row of each level in the table, and the number of all rows."""
        sizes = (min(2**self.table, n**3) for n in self.resolutions)
        return tuple(itertools.accumulate(sizes, initial=0))

    def init(self, key: jax.Array, structure: PyTree | None = None) -> PyTree:
        """{"grid": {"table": float32[rows, width]}, "decoder": ...}: noise from the key, the
        decoder that all shapes share.
        """
        table = self.noise * jax.random.normal(key, (self.begins[-1], self.width), jnp.float32)
        return {
            "grid": {"table": table},
            "decoder": self.decoder.init("hashgrid", self.feature_width),
        }

    def corners(
        self, structure: PyTree | None, points: Float[jax.Array, "P 3"]
    ) -> tuple[Int[jax.Array, "P G C"], Float[jax.Array, "P G C"]]:
        """Rows of the table and their weights: 8 corners of each level."""
        rows, weights = [], []
        for i, n in enumerate(self.resolutions):
            place = jnp.clip(n * (0.5 * points + 0.5), 0.0, n - 1 - 1e-5)
            cell = jnp.floor(place)
            weights.append(interpolation.trilinear(place - cell))
            # A NaN has no cell: clipped, it stays within its own table.
            cell = jnp.clip(cell.astype(jnp.int32), 0, n - 1)
            rows.append(self._rows(i, n, cell))
        return jnp.stack(rows, 1), jnp.stack(weights, 1)

    def _rows(self, level: int, n: int, cell: Int[jax.Array, "P 3"]) -> Int[jax.Array, "P 8"]:
        """Of the corners of a cell. Where a point sits on the last node, the corner behind it has
        the weight 0 and may be any row of the level."""
        begin, size = self.begins[level], self.begins[level + 1] - self.begins[level]
        ends = jnp.stack([cell, cell + 1], -1)  # [P, axis, end]
        if n**3 <= 2**self.table:
            x, y, z = (ends[:, axis] * n**axis for axis in range(3))
            rows = (x[:, :, None] + y[:, None, :]).reshape(-1, 4)
            rows = (rows[:, :, None] + z[:, None, :]).reshape(-1, 8)
            return begin + jnp.minimum(rows, size - 1)
        x, y, z = (ends[:, axis].astype(jnp.uint32) * PRIMES[axis] for axis in range(3))
        hashed = (x[:, :, None] ^ y[:, None, :]).reshape(-1, 4)
        hashed = (hashed[:, :, None] ^ z[:, None, :]).reshape(-1, 8)
        return begin + (hashed & np.uint32(size - 1)).astype(jnp.int32)

    def join(self, groups: Float[jax.Array, "P G D"]) -> Float[jax.Array, "P F"]:
        """The levels side by side, or their sum."""
        return interpolation.join(groups, self.reduce)

    def features(
        self, variables: PyTree, points: Float[jax.Array, "P 3"]
    ) -> Float[jax.Array, "P F"]:
        """What the grid gives at points, as the decoder reads it behind the coordinates."""
        return grid.features(self, variables, points)

    def apply(self, variables: PyTree, points: Float[jax.Array, "P 3"]) -> Float[jax.Array, " P"]:
        """The field's value at points of the domain [-1, 1]^3."""
        return grid.apply(self, variables, points)
