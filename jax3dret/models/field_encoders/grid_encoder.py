"""INRet's encoder of a grid: features on a lattice, halved by convolutions, to one vector."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import Dense, uniform_fan_in

Planes = Literal["", "concat", "sum"]


class GridEncoder(nn.Module):
    """Features on a lattice [B, X, Y, Z, C] -> [B, out]: `layers` times a convolution of 3^3 with
    stride 2 that doubles the channels, GroupNorm and ReLU; then all that is left through one Dense.

    INRet, section 4.1: five layers, 512 numbers. Kernel 3, stride 2, padding 1, bias, and groups of
    GroupNorm are choices; the paper does not say them.

    planes: what is read is no lattice but the planes [B, 3, R, R, C] that it is made of, (y, z),
    (x, z) and (x, y): "concat" for their features side by side, "sum" for their sum. The first
    convolution is then three in the plane, the same sums in a fiftieth of the work.

    Raises ConfigError for a lattice that is no cube, is not a multiple of 2^layers, or whose
    channels the groups do not divide.
    """

    out: int = 512
    layers: int = 5
    groups: int = 8
    planes: Planes = ""
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B X Y Z C"], train: bool = False) -> Float[Array, "B D"]:
        del train  # nothing here differs in training
        channels = x.shape[-1] * (3 if self.planes == "concat" else 1)
        sides = x.shape[2:4] if self.planes else x.shape[1:4]
        fits = len({*sides}) == 1 and not sides[0] % 2**self.layers
        if not fits or (self.planes and x.shape[1] != 3):
            raise ConfigError(
                f"GridEncoder: {'planes' if self.planes else 'a lattice'} of {x.shape[1:4]}; "
                f"{self.layers} layers need {'three' if self.planes else 'a cube'} whose side is a "
                f"multiple of {2**self.layers}"
            )
        for i in range(self.layers):
            channels *= 2
            planes: Planes = "" if i else self.planes
            x = HalvingConv(channels, planes, self.dtype, name=f"conv{i}")(x)
            x = nn.relu(GroupNorm(self.groups, name=f"norm{i}")(x))
        # Flattened as PyTorch does: the channel slowest, then the axes of the lattice in their
        # order.
        flat = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)
        return Dense(self.out, dtype=self.dtype, name="final")(flat).astype("float32")


class HalvingConv(nn.Module):
    """Convolution [B, X, Y, Z, in] -> [B, X/2, Y/2, Z/2, features] with kernel [3, 3, 3, in,
    features], stride 2, one zero on each side; starts as PyTorch's Conv3d.

    XLA's gradients of a convolution in space take some thirty times longer on a CPU than their
    arithmetic: there it is one matrix product over the gathered windows.
    """

    features: int
    planes: Planes = ""
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B X Y Z C"]) -> Float[Array, "B x y z D"]:
        """planes: x is what `GridEncoder` says of them, and the result that of their lattice."""
        channels = x.shape[-1] * (3 if self.planes == "concat" else 1)
        init = uniform_fan_in(27 * channels)
        kernel = self.param("kernel", init, (3, 3, 3, channels, self.features))
        bias = self.param("bias", init, (self.features,))
        operands = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.planes:
            y = _of_planes(*operands)
        else:
            y = lax.platform_dependent(*operands, cpu=_windows, default=_native)
        return y + bias.astype(self.dtype)[None, None, None, None]


class GroupNorm(nn.Module):
    """Group normalisation over space and the channels of each group, eps 1e-5, with PyTorch's
    conventions: neighbouring channels are one group. Raises ConfigError where the groups do not
    divide the channels.
    """

    groups: int
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "B X Y Z C"]) -> Float[Array, "B X Y Z C"]:
        batch, channels = len(x), x.shape[-1]
        if self.groups < 1 or channels % self.groups:
            raise ConfigError(
                f"GroupNorm: {channels} channels in {self.groups} groups; give a number of groups "
                "that divides them"
            )
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        wide = x.reshape(batch, -1, channels).astype(jnp.float32)
        # In two steps, channels first: one pass over the values, however they lie in memory.
        mean = _by_group(wide.mean(1), self.groups)
        var = _by_group(jnp.square(wide - mean[:, None]).mean(1), self.groups)
        factor = scale[None] * lax.rsqrt(var + self.eps)
        out = wide * factor[:, None] + (bias[None] - mean * factor)[:, None]
        return out.reshape(x.shape).astype(x.dtype)


def _by_group(values: Float[Array, "B C"], groups: int) -> Float[Array, "B C"]:
    """The mean over the channels of each group, at each of them."""
    means = values.reshape(len(values), groups, -1).mean(2)
    return jnp.repeat(means, values.shape[1] // groups, axis=1)


def _native(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (2, 2, 2), ((1, 1),) * 3, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def _of_planes(planes: Array, kernel: Array) -> Array:
    """The convolution of features that each vary along two axes, (y, z), (x, z) and (x, y): along
    the third all windows are alike but for the first, which meets the zeros at the border.
    """
    width, channels = planes.shape[-1], kernel.shape[3]
    total = None
    for axis in range(3):
        first = axis * width if channels > width else 0
        own = lax.slice_in_dim(kernel, first, first + width, axis=3)
        sums = own.sum(axis), lax.slice_in_dim(own, 1, 3, axis=axis).sum(axis)
        # Both at once: their output channels side by side.
        both = lax.conv_general_dilated(
            planes[:, axis],
            jnp.concatenate(sums, -1),
            (2, 2),
            ((1, 1),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        inner, border = (jnp.expand_dims(part, axis + 1) for part in jnp.split(both, 2, axis=-1))
        is_first = jnp.arange(both.shape[1]).reshape([-1 if a == axis + 1 else 1 for a in range(5)])
        part = jnp.where(is_first == 0, border, inner)
        total = part if total is None else total + part
    assert total is not None
    return total


def _windows(x: Array, kernel: Array) -> Array:
    halves = [side // 2 for side in x.shape[1:4]]
    rows = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (1, 0), (0, 0)))
    # Axis by axis, z first: what is copied twice is the smaller part.
    for axis in (3, 2, 1):
        end = 2 * halves[axis - 1] - 1
        places = [lax.slice_in_dim(rows, i, i + end, 2, axis=axis) for i in range(3)]
        rows = jnp.concatenate(places, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    return (rows @ kernel.reshape(rows.shape[1], -1)).reshape(len(x), *halves, -1)
