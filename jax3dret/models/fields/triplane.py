"""Triplane (EG3D, Chan et al. 2022), with the conventions of Kaolin Wisp."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError, PyTree
from jax3dret.models.fields import grid, interpolation
from jax3dret.models.fields.network import Decoder

# (column axis, row axis) of the planes fmx, fmy, fmz.
AXES = ((1, 2), (0, 2), (0, 1))


@dataclasses.dataclass(frozen=True)
class Triplane:
    """Three planes of (2^resolution + 1)^2 nodes: yz, xz and xy; the first axis of a pair runs
    along a row. Bilinear between nodes, nodes on the border of the domain, mirrored beyond it.

    levels: each with planes twice as fine as the one before. reduce: how levels are put together;
    planes: how the planes of one level are, side by side as in Wisp or their sum as in EG3D.
    Defaults: INRet's, one level of eight features, and Wisp's 33 x 33 nodes.

    Raises ConfigError for numbers that make no planes.
    """

    levels: int = 1
    resolution: int = 5
    width: int = 8
    reduce: interpolation.Reduce = "sum"
    planes: interpolation.Reduce = "concat"
    noise: float = 0.01
    decoder: Decoder = dataclasses.field(default_factory=Decoder)

    def __post_init__(self) -> None:
        interpolation.check_reduce("triplane", "reduce", self.reduce)
        interpolation.check_reduce("triplane", "planes", self.planes)
        if not (self.levels >= 1 and self.resolution >= 0 and self.resolution + self.levels <= 13):
            raise ConfigError(
                f"triplane: levels={self.levels}, resolution={self.resolution} (log2); expected at "
                "least 1 level, none finer than 12"
            )
        if self.width < 1 or self.noise < 0:
            raise ConfigError(
                f"triplane: width={self.width}, noise={self.noise}; expected at least 1 and 0"
            )

    @property
    def name(self) -> str:
        return "triplane"

    @property
    def feature_width(self) -> int:
        planes = 3 if self.planes == "concat" else 1
        return self.width * planes * (self.levels if self.reduce == "concat" else 1)

    @property
    def reads(self) -> int:
        """Rows of the table that one point reads."""
        return 12 * self.levels

    @functools.cached_property
    def sides(self) -> tuple[int, ...]:
        """Nodes along a side of each level's planes."""
        return tuple(2 ** (self.resolution + i) + 1 for i in range(self.levels))

    @functools.cached_property
    def begins(self) -> tuple[int, ...]:
        """The first row of each level in the table, and the number of all rows. A level holds its
        planes one behind the other, each row by row."""
        return tuple(itertools.accumulate((3 * n * n for n in self.sides), initial=0))

    def init(self, key: jax.Array, structure: PyTree | None = None) -> PyTree:
        """{"grid": {"table": float32[rows, width]}, "decoder": ...}: noise from the key, the
        decoder that all shapes share.
        """
        table = self.noise * jax.random.normal(key, (self.begins[-1], self.width), jnp.float32)
        return {
            "grid": {"table": table},
            "decoder": self.decoder.init("triplane", self.feature_width),
        }

    def corners(
        self, structure: PyTree | None, points: Float[jax.Array, "P 3"]
    ) -> tuple[Int[jax.Array, "P G C"], Float[jax.Array, "P G C"]]:
        """Rows of the table and their weights: 4 corners of 3 planes of each level."""
        rows, weights = [], []
        for begin, n in zip(self.begins, self.sides, strict=False):
            place = (points + 1) * ((n - 1) / 2)
            # Mirrored at both borders, as often as it takes.
            period = 2 * (n - 1)
            place = jnp.abs(jnp.mod(place + (n - 1), period) - (n - 1))
            cell = jnp.clip(jnp.floor(place), 0, n - 2)
            along = jnp.stack([1 - (place - cell), place - cell], -1)  # [P, axis, end]
            # A NaN has no cell: clipped, it stays within its own table.
            cell = jnp.clip(cell.astype(jnp.int32), 0, n - 2)
            ends = jnp.stack([cell, cell + 1], -1)
            for plane, (column, row) in enumerate(AXES):
                index = ends[:, row, :, None] * n + ends[:, column, None, :]
                rows.append(begin + plane * n * n + index.reshape(-1, 4))
                pair = along[:, row, :, None] * along[:, column, None, :]
                weights.append(pair.reshape(-1, 4))
        return jnp.stack(rows, 1), jnp.stack(weights, 1)

    def join(self, groups: Float[jax.Array, "P G D"]) -> Float[jax.Array, "P F"]:
        """The planes of a level, then the levels, each side by side or summed."""
        of_level = groups.reshape(-1, 3, self.width)
        joined = interpolation.join(of_level, self.planes)
        return interpolation.join(
            joined.reshape(len(groups), self.levels, joined.shape[-1]), self.reduce
        )

    def features(
        self, variables: PyTree, points: Float[jax.Array, "P 3"]
    ) -> Float[jax.Array, "P F"]:
        """What the planes give at points, as the decoder reads it behind the coordinates."""
        return grid.features(self, variables, points)

    def apply(self, variables: PyTree, points: Float[jax.Array, "P 3"]) -> Float[jax.Array, " P"]:
        """The field's value at points of the domain [-1, 1]^3."""
        return grid.apply(self, variables, points)
