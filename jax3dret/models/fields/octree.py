"""Sparse octree of features (NGLOD, Takikawa et al. 2021), as Kaolin Wisp and INRet use it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import ConfigError, PyTree
from jax3dret.models.fields import grid, interpolation, octree_cells
from jax3dret.models.fields.network import Decoder


@dataclasses.dataclass(frozen=True)
class Octree:
    """Features on the corners of occupied cells, on `levels` levels from `base` on; level l has
    cells of side 2 / 2^l. Trilinear within a cell; a level whose cell is not occupied gives 0.

    Defaults: INRet's features of width 8, summed over the levels 2 .. 7 that Wisp has. Its text
    reads as the levels 2 .. 5 too: levels=4.

    The structure of a shape, from `structure(cells)`, is a tree of int32 in which node 0 stands for
    an empty cell: "top", nodes of the cells of the base level (x slowest); "children", those of a
    node's eight parts; "corners", rows of the table at a node's eight corners. All are constant
    while a shape is fitted. Rows and nodes behind the last that is used are padding, so that shapes
    of different size can be stacked: `pad` and `trim`. Going down from node to node takes as long
    as a volume of nodes for each level, which is ten times as large, and less than searching sorted
    Morton keys.

    Raises ConfigError for numbers that make no tree.
    """

    base: int = 2
    levels: int = 6
    width: int = 8
    reduce: interpolation.Reduce = "sum"
    noise: float = 0.01
    decoder: Decoder = dataclasses.field(default_factory=Decoder)

    def __post_init__(self) -> None:
        interpolation.check_reduce("octree", "reduce", self.reduce)
        if not (0 <= self.base <= 5 and self.levels >= 1 and self.finest <= 9):
            raise ConfigError(
                f"octree: base={self.base}, levels={self.levels}; expected a base of 0 to 5 and no "
                "level finer than 9"
            )
        if self.width < 1 or self.noise < 0:
            raise ConfigError(
                f"octree: width={self.width}, noise={self.noise}; expected at least 1 and 0"
            )

    @property
    def name(self) -> str:
        return "octree"

    @property
    def feature_width(self) -> int:
        return self.width * (self.levels if self.reduce == "concat" else 1)

    @property
    def reads(self) -> int:
        """Rows of the table that one point reads."""
        return 8 * self.levels

    @property
    def finest(self) -> int:
        """The last level."""
        return self.base + self.levels - 1

    def structure(self, cells: Int[np.ndarray, "C 3"]) -> dict[str, np.ndarray]:
        """The tree over cells of the finest level, (x, y, z) in [0, 2^finest), in any order.

        Of a mesh: `geometry.occupied_cells.touched(mesh, architecture.finest)`. Raises DataError
        for no cell or one outside.
        """
        return octree_cells.tree(
            octree_cells.with_parents(cells, self.base, self.finest), self.base
        )

    def cells(self, structure: PyTree) -> Int[np.ndarray, "C 3"]:
        """The cells of the finest level that the structure was made of, in Morton order."""
        return octree_cells.finest_cells(structure, self.base, self.levels)

    def rows(self, structure: PyTree) -> int:
        """Rows of the table that the structure uses."""
        return int(np.max(structure["corners"])) + 1

    def init(self, key: jax.Array, structure: PyTree | None = None) -> PyTree:
        """{"grid": {"table": float32[rows, width]}, "decoder": ..., "structure": ...}: noise from
        the key, the decoder that all shapes share.

        Raises ConfigError without a structure.
        """
        if structure is None:
            raise ConfigError(
                "octree: no structure; give init what `structure(cells)` makes of a shape's cells"
            )
        rows = self.rows(structure)
        # Few sizes are compiled; what a row draws does not depend on how many are drawn.
        drawn = jax.random.normal(key, (octree_cells.capacity(rows), self.width), jnp.float32)
        return {
            "grid": {"table": self.noise * drawn[:rows]},
            "decoder": self.decoder.init("octree", self.feature_width),
            "structure": jax.tree.map(jnp.asarray, dict(structure)),
        }

    def corners(
        self, structure: PyTree | None, points: Float[jax.Array, "P 3"]
    ) -> tuple[Int[jax.Array, "P G C"], Float[jax.Array, "P G C"]]:
        """Rows of the table and their weights: 8 corners of each level, weights 0 on a level whose
        cell is empty. Points outside the domain read its border.
        """
        if structure is None:
            raise ConfigError("octree: the variables have no 'structure'")
        unit = jnp.clip((points + 1) / 2, 0.0, 1.0)
        rows, weights = [], []
        node = None
        for level in range(self.base, self.finest + 1):
            place = unit * 2**level
            cell = jnp.clip(jnp.floor(place), 0, 2**level - 1)
            weight = interpolation.trilinear(place - cell)
            # A NaN has no cell: clipped, it stays within its own tree.
            x, y, z = (jnp.clip(cell.astype(jnp.int32)[:, i], 0, 2**level - 1) for i in range(3))
            if node is None:
                node = structure["top"][(x * 2**level + y) * 2**level + z]
            else:
                node = structure["children"][node, (x & 1) << 2 | (y & 1) << 1 | (z & 1)]
            rows.append(structure["corners"][node])
            weights.append(jnp.where((node > 0)[:, None], weight, 0.0))
        return jnp.stack(rows, 1), jnp.stack(weights, 1)

    def join(self, groups: Float[jax.Array, "P G D"]) -> Float[jax.Array, "P F"]:
        """The sum of the levels, or all side by side."""
        return interpolation.join(groups, self.reduce)

    def features(
        self, variables: PyTree, points: Float[jax.Array, "P 3"]
    ) -> Float[jax.Array, "P F"]:
        """What the tree gives at points, as the decoder reads it behind the coordinates."""
        return grid.features(self, variables, points)

    def apply(self, variables: PyTree, points: Float[jax.Array, "P 3"]) -> Float[jax.Array, " P"]:
        """The field's value at points of the domain [-1, 1]^3."""
        return grid.apply(self, variables, points)

    def pad(self, variables: PyTree, rows: int, nodes: int, parents: int) -> PyTree:
        """The same field with so many rows of the table, nodes, and nodes that have children."""
        sizes = {"corners": nodes, "children": parents}
        structure = {
            key: octree_cells.padded(value, sizes.get(key, len(value)))
            for key, value in variables["structure"].items()
        }
        table = octree_cells.padded(variables["grid"]["table"], rows)
        return {**variables, "grid": {"table": table}, "structure": structure}

    def trim(self, variables: PyTree) -> PyTree:
        """The same field without padding, NumPy."""
        structure = jax.tree.map(np.asarray, variables["structure"])
        nodes = 1 + int(max(structure["top"].max(), structure["children"].max(initial=0)))
        corners = structure["corners"][:nodes]
        inner = np.flatnonzero(structure["children"].any(1))
        parents = 1 + int(inner[-1]) if len(inner) else 1
        return {
            **variables,
            "grid": {"table": np.asarray(variables["grid"]["table"])[: corners.max() + 1]},
            "structure": {
                **structure,
                "corners": corners,
                "children": structure["children"][:parents],
            },
        }
