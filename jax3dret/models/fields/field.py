"""A field in memory: the implicit neural representation (INR) of one shape, and what an
architecture gives.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jax3dret.core.types import PyTree

# What a field says of a point: the signed distance (negative inside), the distance, or the
# occupancy (-1 inside, +1 outside), of a shape in the unit sphere of the domain [-1, 1]^3.
Function = Literal["sdf", "udf", "occ"]
FUNCTIONS: tuple[Function, ...] = ("sdf", "udf", "occ")


@runtime_checkable
class Architecture(Protocol):
    """How an INR is computed from its variables: a frozen dataclass whose fields, with its name,
    say all that the shapes and the meaning of the variables depend on.

    Variables are a tree {"grid": ..., "decoder": ..., "structure": ...}: trained features (absent
    in a plain network), the trained network, and integers that are not trained (absent unless the
    features lie at chosen places).
    """

    @property
    def name(self) -> str:
        """ "siren", "hashgrid", "triplane" or "octree"."""

    @property
    def feature_width(self) -> int:
        """F, the numbers that the grid gives at a point; 0 without a grid."""

    def init(self, key: jax.Array, structure: PyTree | None = None) -> PyTree:
        """Variables before the first step, float32.

        The network is the same for every key, as a constant seed of the architecture draws it, so
        that the weights of different shapes correspond (INRet, section 3); the grid is drawn from
        the key. structure: for an architecture that has one.
        """

    def apply(self, variables: PyTree, points: Float[jax.Array, "P 3"]) -> Float[jax.Array, " P"]:
        """The field's value at points of the domain [-1, 1]^3."""

    def features(
        self, variables: PyTree, points: Float[jax.Array, "P 3"]
    ) -> Float[jax.Array, "P F"]:
        """What the grid gives at points, as the network reads it behind the coordinates."""


@dataclasses.dataclass(frozen=True)
class Field:
    """The INR of one shape.

    function: what its values are. variables: NumPy arrays, as the architecture has them. centre,
    scale: a point x of the source file, turned so that y is up, lies at (x - centre) / scale in the
    field's domain. about: JSON-like provenance: "source" (name), "source_sha256", "up_axis" (of the
    source), "preset", "steps", "seed", "loss" and whatever else the fit knows.
    """

    architecture: Architecture
    function: Function
    variables: PyTree
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " P"]:
        """Values at points of the domain, float32; compiled once for fields of one architecture
        and size and each number of points.
        """
        return np.asarray(
            _apply(self.architecture, self.variables, jnp.asarray(points)), np.float32
        )


@functools.partial(jax.jit, static_argnums=0)
def _apply(
    architecture: Architecture, variables: PyTree, points: Float[jax.Array, "P 3"]
) -> Float[jax.Array, " P"]:
    return architecture.apply(variables, points)
