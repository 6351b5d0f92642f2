"""Convolution and maximum pooling of feature maps [B, H, W, C] with every padding written out.

"SAME" is avoided: with stride 2 XLA and PyTorch place it differently, and features shift by a
pixel.

XLA for the CPU runs depthwise convolutions some twenty times slower than their arithmetic takes,
and the backward pass of a maximum pool some ten times. There both are written as one elementwise
expression over the shifted maps of a window.
"""

from __future__ import annotations

from functools import reduce

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

# Rows above and below, columns left and right.
Padding = tuple[tuple[int, int], tuple[int, int]]


class Conv(nn.Module):
    """Convolution [B, H, W, in] -> [B, H', W', features], kernel [size, size, in, features].

    padding: zeros on each side, one number for all sides or ((above, below), (left, right)).
    depthwise: each channel has its own filter, kernel [size, size, 1, in]; features must be the
    number of channels. Starts from N(0, 2 / (size² features)), as torchvision's networks do, and
    from bias 0.
    """

    features: int
    size: int
    stride: int = 1
    padding: int | Padding = 0
    depthwise: bool = False
    use_bias: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        channels = x.shape[-1]
        if self.depthwise and channels != self.features:
            raise ValueError(f"depthwise convolution of {channels} channels into {self.features}")
        shape = (self.size, self.size, 1 if self.depthwise else channels, self.features)
        kernel = self.param(
            "kernel", nn.initializers.variance_scaling(2.0, "fan_out", "normal"), shape
        )

        def native(x, kernel):
            return lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.stride, self.stride),
                padding=_sides(self.padding),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=channels if self.depthwise else 1,
            )

        def shifted(x, kernel):
            maps = _shifted(x, self.size, self.stride, _sides(self.padding), 0)
            return sum(
                part * weight[None, None, None]
                for part, weight in zip(maps, kernel.reshape(-1, channels), strict=True)
            )

        operands = x.astype(self.dtype), kernel.astype(self.dtype)
        y = (
            lax.platform_dependent(*operands, cpu=shifted, default=native)
            if self.depthwise
            else native(*operands)
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
            y = y + bias[None, None, None]
        return y


def max_pool(
    x: Float[Array, "B H W C"], size: int, stride: int, padding: int | Padding = 0
) -> Float[Array, "B h w C"]:
    """Maximum over windows of `size` pixels; padding counts as -inf, that is, it is never the
    maximum.
    """

    def shifted(x):
        return reduce(jnp.maximum, _shifted(x, size, stride, _sides(padding), -jnp.inf))

    def native(x):
        return nn.max_pool(x, (size, size), (stride, stride), _sides(padding))

    return lax.platform_dependent(x, cpu=shifted, default=native)


def global_average(x: Float[Array, "B H W C"]) -> Float[Array, "B C"]:
    """Mean over the pixels, in float32."""
    return x.astype(jnp.float32).mean((1, 2))


def _shifted(
    x: Float[Array, "B H W C"], size: int, stride: int, padding: Padding, fill: float
) -> list[Float[Array, "B h w C"]]:
    """For each place of a window, row by row, the map of the pixels that stand there in the
    windows.
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    rows, columns = ((side - size) // stride * stride + 1 for side in x.shape[1:3])
    return [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(size)
        for j in range(size)
    ]


def same_padding(rows: int, columns: int, size: int, stride: int) -> Padding:
    """TensorFlow's "SAME": the output has ceil(side / stride) rows and columns, and an odd zero
    goes below and to the right. For size 3 and stride 2 that is one row below for an even side, one
    above and one below for an odd one.
    """

    def sides(side: int) -> tuple[int, int]:
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        return total // 2, total - total // 2

    return sides(rows), sides(columns)


def _sides(padding: int | Padding) -> Padding:
    return ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
