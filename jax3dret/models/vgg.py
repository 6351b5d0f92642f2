"""VGG-16 as torchvision defines it: the map of its last convolution, for pooled image descriptors,
and its classifier.

Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
configuration D.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.models.conv import Conv, max_pool
from jax3dret.models.layers import Dense

POOLED = 7


class Vgg(nn.Module):
    """Normalised images [B, H, W, 3] -> the last feature map [B, H / 16, W / 16, C], or logits [B,
    num_classes].

    stages: (width, convolutions) of each stage; between two stages, and before the classifier, a
    maximum pool halves the map. num_classes 0: the map after the ReLU of the last convolution,
    before the last pool (stride 16, the map that MAC and R-MAC descriptors pool; 14 x 14 x 512 for
    224 pixels; a side that 16 does not divide is rounded down). More: a classifier with two layers
    of `hidden` units, dropout 0.5 between them, on the map pooled to 7 x 7; H and W are then at
    least 32.
    dtype: precision of the convolutions ("float32" or "bfloat16").

    Random stream: "dropout" in training with a classifier.
    """

    stages: tuple[tuple[int, int], ...] = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    hidden: int = 4096
    num_classes: int = 0
    dtype: str = "float32"

    @property
    def embedding_dim(self) -> int:
        """Channels of the last feature map."""
        return self.stages[-1][0]

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> Float[Array, "B *shape"]:
        x = image
        for stage, (width, count) in enumerate(self.stages, start=1):
            if stage > 1:
                x = max_pool(x, 2, stride=2)
            for i in range(1, count + 1):
                conv = Conv(
                    width, 3, padding=1, use_bias=True, dtype=self.dtype, name=f"conv{stage}_{i}"
                )
                x = nn.relu(conv(x))
        if not self.num_classes:
            return x.astype(jnp.float32)
        self.sow("intermediates", "map", x)
        x = adaptive_average(max_pool(x, 2, stride=2), POOLED)
        # The published classifier reads the map channel by channel.
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        for name in ("fc1", "fc2"):
            x = nn.relu(Dense(self.hidden, dtype=self.dtype, name=name)(x))
            x = nn.Dropout(0.5, deterministic=not train)(x)
        return Dense(self.num_classes, dtype=self.dtype, name="fc3")(x).astype(jnp.float32)


def adaptive_average(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B size size C"]:
    """Mean over size x size windows that cover the map: window i of n rows is [floor(i n / size),
    ceil((i + 1) n / size)).

    The windows overlap where `size` does not divide the side; a map smaller than `size` is
    repeated.
    """
    rows, columns = (jnp.asarray(_windows(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("sh,tw,bhwc->bstc", rows, columns, x)


def _windows(n: int, size: int) -> np.ndarray:
    """float64[size, n]: row i averages the window i."""
    weights = np.zeros((size, n))
    for i in range(size):
        start, stop = i * n // size, -(-(i + 1) * n // size)
        weights[i, start:stop] = 1 / (stop - start)
    return weights
