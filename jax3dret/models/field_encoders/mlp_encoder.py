"""inr2vec's encoder: the weights of an INR's network, row by row, to one vector."""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.models.layers import BatchNorm, Dense


class MlpEncoder(nn.Module):
    """Rows of weights [B, R, H] -> [B, out]: (Dense, BatchNorm, ReLU) for each hidden width, Dense,
    then the maximum over the rows.

    "Deep Learning on Implicit Neural Representations of Shapes", ICLR 2023 (inr2vec), section 3.1,
    and its published code; defaults are those for a SIREN of width 512. Its INRs of a grid have
    (256, 256, 512, 512) and 512 in INRet, section 4.1. The statistics are those of batch and rows
    together.

    final_linear: the last Dense, which the code has and the papers do not speak of. Without it the
    last hidden width is the embedding's. Training on a single row raises ConfigError (BatchNorm).
    """

    hidden: tuple[int, ...] = (512, 512, 1024, 1024)
    out: int = 1024
    final_linear: bool = True
    dtype: str = "float32"

    @property
    def embedding_dim(self) -> int:
        """Width of what is returned."""
        return self.out if self.final_linear else self.hidden[-1]

    @nn.compact
    def __call__(self, x: Float[Array, "B R H"], train: bool = False) -> Float[Array, "B D"]:
        for i, width in enumerate(self.hidden):
            x = Dense(width, dtype=self.dtype, name=f"linear{i}")(x)
            x = nn.relu(BatchNorm(not train, name=f"norm{i}")(x))
        if self.final_linear:
            x = Dense(self.out, dtype=self.dtype, name="final")(x)
        return x.max(axis=1).astype("float32")
