"""The encoder of one kind of INR: its network and, where it has one, its grid."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.field_encoders.grid_encoder import GridEncoder, Planes
from jax3dret.models.field_encoders.mlp_encoder import MlpEncoder


class InrEncoder(nn.Module):
    """Rows of weights [B, R, H] and features on a lattice [B, X, Y, Z, C], or the planes that it is
    made of -> [B, D]: `MlpEncoder` of the rows and `GridEncoder` of the lattice, side by side in
    this order.

    INRet, section 4.1: both 512 wide for an INR with a grid; a network alone has no grid part
    (grid_out=0) and inr2vec's own widths. The order of the two is a choice.

    planes: what the grid's part reads, as `GridEncoder` has it.
    mlp_out=0 leaves the network out, grid_out=0 the grid; one of them must be there.
    """

    mlp_hidden: tuple[int, ...] = (256, 256, 512, 512)
    mlp_out: int = 512
    final_linear: bool = True
    grid_out: int = 512
    grid_layers: int = 5
    groups: int = 8
    planes: Planes = ""
    dtype: str = "float32"

    @property
    def embedding_dim(self) -> int:
        """D."""
        mlp = self.mlp_out if self.final_linear or not self.mlp_out else self.mlp_hidden[-1]
        return mlp + self.grid_out

    @nn.compact
    def __call__(
        self,
        rows: Float[Array, "B R H"],
        lattice: Float[Array, "B X Y Z C"] | None = None,
        train: bool = False,
    ) -> Float[Array, "B D"]:
        """lattice: None where grid_out is 0. Raises ConfigError where one is needed and missing."""
        parts = []
        if self.mlp_out:
            mlp = MlpEncoder(
                self.mlp_hidden, self.mlp_out, self.final_linear, self.dtype, name="mlp"
            )
            parts.append(mlp(rows.astype(jnp.float32), train))
        if self.grid_out:
            if lattice is None:
                raise ConfigError(
                    "InrEncoder: this kind of INR has no grid; set its encoder's grid_out to 0"
                )
            grid = GridEncoder(
                self.grid_out,
                self.grid_layers,
                self.groups,
                self.planes,
                self.dtype,
                name="grid",
            )
            parts.append(grid(lattice.astype(jnp.float32), train))
        if not parts:
            raise ConfigError("InrEncoder: mlp_out and grid_out are 0; one of them must be more")
        return jnp.concatenate(parts, -1)
