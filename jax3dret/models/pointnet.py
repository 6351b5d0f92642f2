"""PointNet: a network for every point alone, and the maximum over the points; two small PointNets
straighten its input.

Qi, Su, Mo, Guibas, "PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation",
CVPR 2017, as the published code of MVTN (Hamdi, Giancola, Ghanem, ICCV 2021) has it: the network
that tells MVTN what shape it is about to look at.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import BatchNorm, Dense, check_rate
from jax3dret.models.pool import max_pool


class PointNetOutput(NamedTuple):
    """logits: [B, C]. feature: the maximum over the points, [B, widths[-1]]."""

    logits: Float[Array, "B C"]
    feature: Float[Array, "B D"]


class TransformNet(nn.Module):
    """Points [B, N, k] -> a matrix for each cloud [B, k, k]: identity plus what a small PointNet
    answers.

    The layer before the maximum has neither BatchNorm nor ReLU (published code).
    """

    widths: tuple[int, ...] = (64, 128, 1024)
    fc: tuple[int, ...] = (512, 256)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B N k"], train: bool) -> Float[Array, "B k k"]:
        k = x.shape[-1]
        for i, width in enumerate(self.widths):
            x = Dense(width, dtype=self.dtype, name=f"conv{i}")(x)
            if i < len(self.widths) - 1:
                x = nn.relu(BatchNorm(not train, name=f"norm{i}")(x))
        x = max_pool(x)
        for i, width in enumerate(self.fc):
            x = nn.relu(
                BatchNorm(not train, name=f"fc_norm{i}")(
                    Dense(width, dtype=self.dtype, name=f"fc{i}")(x)
                )
            )
        x = Dense(k * k, name=f"fc{len(self.fc)}")(x.astype("float32"))
        return x.reshape(-1, k, k) + jnp.eye(k)[None]


class PointNet(nn.Module):
    """Clouds [B, N, 3] -> logits [B, num_classes] and the global feature [B, widths[-1]].

    widths: of the network of a point; the second matrix multiplies the features after the first
        layer. fc: hidden layers of the classifier, each with BatchNorm, ReLU and dropout.
    align: the two matrices; without them the network is the plain one.
    published_logits: the published code puts BatchNorm, ReLU and dropout behind the last layer too,
        so that its logits are at least 0. Off, logits are logits.
    dropout: of the classifier; draws from the "dropout" stream in training. dtype: precision of the
    matrix products.

    A cloud with a value that is not finite gets NaN. Raises ConfigError if the points are not [B,
    N, 3], a list of widths is empty, or in training the batch is a single cloud (BatchNorm).
    """

    num_classes: int = 40
    widths: tuple[int, ...] = (64, 128, 1024)
    fc: tuple[int, ...] = (512, 256)
    align: bool = True
    published_logits: bool = False
    dropout: float = 0.5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, points: Float[Array, "B N 3"], train: bool = False) -> PointNetOutput:
        check_rate(self.dropout, "PointNet: dropout")
        if points.ndim != 3 or points.shape[-1] != 3 or not points.shape[1]:
            raise ConfigError(
                f"PointNet: points of shape {points.shape}; expected [B, N, 3] with N of 1 or more"
            )
        if not self.widths or self.num_classes < 1:
            raise ConfigError(
                f"PointNet: widths={self.widths}, num_classes={self.num_classes}; one or more of "
                "each"
            )
        finite = jnp.isfinite(points).all((1, 2))
        # Zeros for clouds that are marked below: a NaN would reach the other clouds through
        # BatchNorm.
        x = jnp.where(finite[:, None, None], points.astype(jnp.float32), 0.0)
        if self.align:
            x = self._straighten(x, train, "input_transform")
        for i, width in enumerate(self.widths):
            x = Dense(width, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(BatchNorm(not train, name=f"norm{i}")(x))
            if i == 0 and self.align:
                x = self._straighten(x, train, "feature_transform")
        feature = max_pool(x)
        x = feature
        for i, width in enumerate(self.fc):
            x = Dense(width, dtype=self.dtype, name=f"fc{i}")(x)
            x = nn.relu(BatchNorm(not train, name=f"fc_norm{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        last = len(self.fc)
        logits = Dense(self.num_classes, name=f"fc{last}")(x.astype("float32"))
        if self.published_logits:
            logits = nn.relu(BatchNorm(not train, name=f"fc_norm{last}")(logits))
            logits = nn.Dropout(self.dropout, deterministic=not train)(logits)
        mark = jnp.where(finite, 0.0, jnp.nan)[:, None]
        return PointNetOutput(logits + mark, feature.astype(jnp.float32) + mark)

    def _straighten(
        self, x: Float[Array, "B N k"], train: bool, name: str
    ) -> Float[Array, "B N k"]:
        """Every point (a column vector) multiplied by its cloud's matrix."""
        matrix = TransformNet(self.widths, self.fc, self.dtype, name=name)(x, train)
        return jnp.einsum("bij,bnj->bni", matrix.astype(x.dtype), x)
