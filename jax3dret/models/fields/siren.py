"""SIREN: a field that is a plain network with sines (Sitzmann et al. 2020), as inr2vec has it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jax3dret.core.types import ConfigError, PyTree
from jax3dret.models.fields import network
from jax3dret.models.fields.network import MOST_DEPTH, MOST_HIDDEN


@dataclasses.dataclass(frozen=True)
class Siren:
    """3 -> `depth` layers of `hidden` -> 1, sin(omega z) behind each hidden layer, the first too;
    the output is linear. Defaults: inr2vec's, which INRet's MLP-only INR keeps.

    Raises ConfigError for numbers that make no network.
    """

    hidden: int = 512
    depth: int = 4
    omega: float = 30.0

    def __post_init__(self) -> None:
        sizes = 1 <= self.hidden <= MOST_HIDDEN and 1 <= self.depth <= MOST_DEPTH
        if not sizes or not self.omega > 0:
            raise ConfigError(
                f"siren: hidden={self.hidden}, depth={self.depth}, omega={self.omega}; expected 1 "
                f"to {MOST_HIDDEN}, 1 to {MOST_DEPTH} and more than 0"
            )

    @property
    def name(self) -> str:
        return "siren"

    @property
    def feature_width(self) -> int:
        return 0

    def init(self, key: jax.Array, structure: PyTree | None = None) -> PyTree:
        """{"decoder": {"layers": [...]}}, the same for every key: weights of the first layer
        U(-1/3, 1/3), of all others U(-b, b) with b = sqrt(6 / in) / omega, biases torch's
        U(-1/sqrt(in), 1/sqrt(in)).
        """
        widths = (3, *(self.hidden,) * self.depth, 1)
        inner = (6 / self.hidden) ** 0.5 / self.omega
        return {"decoder": network.draw("siren", widths, (1 / 3, *(inner,) * self.depth))}

    def apply(
        self,
        variables: PyTree,
        points: Float[jax.Array, "P 3"],
        precision: jax.lax.PrecisionLike = "highest",
    ) -> Float[jax.Array, " P"]:
        """The field's value at points of the domain [-1, 1]^3."""
        *hidden, last = variables["decoder"]["layers"]
        x = points
        for layer in hidden:
            x = jnp.sin(self.omega * network.linear(layer, x, precision))
        return network.linear(last, x, precision)[:, 0]

    def features(
        self, variables: PyTree, points: Float[jax.Array, "P 3"]
    ) -> Float[jax.Array, "P F"]:
        """No grid: float32[P, 0]."""
        return jnp.zeros((len(points), 0), jnp.float32)
