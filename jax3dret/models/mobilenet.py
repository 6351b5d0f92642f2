"""MobileNetV2 with its batch normalisation folded into the convolutions: a small frozen image tower
for CPUs.

Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2, in the
layout of Keras' weights, whose convolutions of stride 2 pad below and to the right alone.
"""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.models.conv import Conv, global_average

# Of the seven stages: how much each block widens its input, how many blocks, the stride of the
# first.
STAGES = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))


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

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B D"]:
        stem, *channels, last = self.widths
        x = nn.relu6(_conv(image, stem, 3, 2, self.dtype, "stem"))
        number = 0
        for width, (expansion, blocks, stride) in zip(channels, STAGES, strict=True):
            for i in range(blocks):
                x = InvertedResidual(
                    width, expansion, stride if i == 0 else 1, self.dtype, name=f"block{number}"
                )(x)
                number += 1
        return global_average(nn.relu6(_conv(x, last, 1, 1, self.dtype, "last")))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without activation; added to the input where the shape
    stays.
    """

    features: int
    expansion: int
    stride: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        y = x
        if self.expansion != 1:
            y = nn.relu6(_conv(y, self.expansion * x.shape[-1], 1, 1, self.dtype, "expand"))
        y = nn.relu6(_conv(y, y.shape[-1], 3, self.stride, self.dtype, "depthwise", depthwise=True))
        y = _conv(y, self.features, 1, 1, self.dtype, "project")
        return x + y if y.shape == x.shape else y


def _conv(
    x: Float[Array, "B H W C"],
    features: int,
    size: int,
    stride: int,
    dtype: str,
    name: str,
    depthwise: bool = False,
) -> Float[Array, "B h w D"]:
    """A convolution with bias, padded so that the output has ceil(side / stride) rows and columns.

    For size 3 and stride 2 that is one row below for an even side, one above and one below for an
    odd one.
    """

    def sides(side: int) -> tuple[int, int]:
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        return total // 2, total - total // 2

    padding = (sides(x.shape[1]), sides(x.shape[2]))
    return Conv(features, size, stride, padding, depthwise, use_bias=True, dtype=dtype, name=name)(
        x
    )
