"""What the three grid architectures share: a table of features, a decoder behind it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax
from jaxtyping import Float, Int

from jax3dret.core.types import PyTree
from jax3dret.models.fields import interpolation
from jax3dret.models.fields.network import Decoder


@runtime_checkable
class Grid(Protocol):
    """An architecture whose features are weighted rows of one table, variables["grid"]["table"]."""

    @property
    def decoder(self) -> Decoder: ...

    @property
    def width(self) -> int:
        """D, of a row of the table."""

    @property
    def reads(self) -> int:
        """G C, rows of the table that one point reads."""

    def corners(
        self, structure: PyTree | None, points: Float[jax.Array, "P 3"]
    ) -> tuple[Int[jax.Array, "P G C"], Float[jax.Array, "P G C"]]:
        """Rows of the table that a point reads and their weights: C corners of G groups."""

    def join(self, groups: Float[jax.Array, "P G D"]) -> Float[jax.Array, "P F"]:
        """The features of the groups, as the decoder reads them."""


def groups(
    grid: Grid, variables: PyTree, points: Float[jax.Array, "P 3"]
) -> Float[jax.Array, "P G D"]:
    """Features of each level (and plane) on its own."""
    rows, weights = grid.corners(variables.get("structure"), points)
    return interpolation.gather(variables["grid"]["table"], rows, weights)


def features(
    grid: Grid, variables: PyTree, points: Float[jax.Array, "P 3"]
) -> Float[jax.Array, "P F"]:
    """What the grid gives at points."""
    return grid.join(groups(grid, variables, points))


def apply(grid: Grid, variables: PyTree, points: Float[jax.Array, "P 3"]) -> Float[jax.Array, " P"]:
    """The field's value at points."""
    return grid.decoder.apply(variables["decoder"], points, features(grid, variables, points))
