"""MobileNetV2 with its batch normalisation folded into the convolutions: a small frozen image tower
for CPUs; and its block, which EfficientNet-Lite shares.

Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2, in the
layout of Keras' weights, whose convolutions of stride 2 pad below and to the right alone.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.models.conv import Conv, global_average, same_padding
from jax3dret.models.layers import BatchNorm

# Of the seven stages: how much each block widens its input, how many blocks, the stride of the
# first.
STAGES = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))


class Norm(NamedTuple):
    """The fields of a BatchNorm that differ between networks."""

    eps: float
    momentum: float


class MobileNetV2(nn.Module):
    """Images in [-1, 1], [B, H, W, 3] -> features float32 [B, widths[-1]], the mean of the last
    feature map.

    widths: channels of the first layer, the seven stages, the last layer. H and W: 224 in training;
    any size works.
    dtype: precision of the convolutions ("float32" or "bfloat16").
    """

    widths: tuple[int, ...] = (32, 16, 24, 32, 64, 96, 160, 320, 1280)
    dtype: str = "float32"

    @property
    def embedding_dim(self) -> int:
        """Width of the features."""
        return self.widths[-1]

    @property
    def normalisation(self) -> str:
        """How pictures are prepared for it, as configs name it."""
        return "mobilenet"

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B D"]:
        stem, *channels, last = self.widths
        x = nn.relu6(filtered(image, stem, 3, 2, self.dtype, "stem"))
        number = 0
        for width, (expansion, blocks, stride) in zip(channels, STAGES, strict=True):
            for i in range(blocks):
                x = InvertedResidual(
                    width, expansion, stride if i == 0 else 1, self.dtype, name=f"block{number}"
                )(x)
                number += 1
        return global_average(nn.relu6(filtered(x, last, 1, 1, self.dtype, "last")))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without activation; added to the input where the shape
    stays.

    size: of the filters. norm: as `filtered` takes it.
    """

    features: int
    expansion: int
    stride: int
    dtype: str = "float32"
    size: int = 3
    norm: Norm | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B h w D"]:
        layer = functools.partial(filtered, dtype=self.dtype, norm=self.norm, train=train)
        y = x
        if self.expansion != 1:
            y = nn.relu6(layer(y, self.expansion * x.shape[-1], 1, 1, name="expand"))
        wide = y.shape[-1]
        y = nn.relu6(layer(y, wide, self.size, self.stride, name="depthwise", depthwise=True))
        y = layer(y, self.features, 1, 1, name="project")
        return x + y if self.stride == 1 and x.shape[-1] == self.features else y


def filtered(
    x: Float[Array, "B H W C"],
    features: int,
    size: int,
    stride: int,
    dtype: str,
    name: str,
    depthwise: bool = False,
    norm: Norm | None = None,
    train: bool = False,
) -> Float[Array, "B h w D"]:
    """A convolution of the calling module with `same_padding`: with a bias, or with `norm` followed
    by a BatchNorm that is called as it is, with "_norm" behind.
    """
    padding = same_padding(x.shape[1], x.shape[2], size, stride)
    y = Conv(features, size, stride, padding, depthwise, norm is None, dtype, name=name)(x)
    if norm is None:
        return y
    return BatchNorm(not train, norm.momentum, norm.eps, name=f"{name}_norm")(y)
