"""What is trained on top of an encoder and taken off again before retrieval: a classifier, or
VICReg's projector.
"""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import BatchNorm, Dense, check_rate


class ClassificationHead(nn.Module):
    """Embedding [B, D] -> logits [B, num_classes]: (Dense, BatchNorm, ReLU, dropout) for each
    hidden width, then Dense.

    Paper: "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers & Graphics 122
    (2024) 103993, section 3: hidden=(512, 256), dropout=0.2. The released checkpoints have the
    defaults, hidden=(768,), dropout=0.25. hidden=() is a linear probe. hidden_bias: of the layers
    that BatchNorm follows; PointNeXt's head has none. Dropout draws from the "dropout" stream, in
    training alone.

    Training on a single row raises ConfigError (BatchNorm).
    """

    num_classes: int
    hidden: tuple[int, ...] = (768,)
    dropout: float = 0.25
    dtype: str = "float32"
    hidden_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B D"], train: bool = False) -> Float[Array, "B C"]:
        check_rate(self.dropout, "ClassificationHead: dropout")
        for i, width in enumerate(self.hidden):
            x = Dense(width, self.hidden_bias, self.dtype, name=f"linear{i}")(x)
            x = nn.relu(BatchNorm(not train, name=f"norm{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        # Logits are float32: their softmax is too coarse in bfloat16.
        return Dense(self.num_classes, name=f"linear{len(self.hidden)}")(x.astype("float32"))


class VicregProjector(nn.Module):
    """Embedding [B, D] -> [B, widths[-1]]: (Dense, BatchNorm, ReLU) for each width but the last,
    then Dense without bias.

    Paper: as above, three layers 1024 wide; the bias-free last layer is VICReg's own. The two views
    go through one after the other, each with the statistics of its own batch. Training on a single
    row raises ConfigError (BatchNorm).
    """

    widths: tuple[int, ...] = (1024, 1024, 1024)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B D"], train: bool = False) -> Float[Array, "B E"]:
        if not self.widths:
            raise ConfigError("VicregProjector: widths is empty; expected at least one width")
        for i, width in enumerate(self.widths[:-1]):
            x = Dense(width, dtype=self.dtype, name=f"linear{i}")(x)
            x = nn.relu(BatchNorm(not train, name=f"norm{i}")(x))
        last = len(self.widths) - 1
        return Dense(self.widths[-1], use_bias=False, name=f"linear{last}")(x.astype("float32"))
