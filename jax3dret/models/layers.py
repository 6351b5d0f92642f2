"""The layers every network here shares: the conventions of PyTorch, because published weights were
made under them.

Dense starts from U(-1/sqrt(fan_in), 1/sqrt(fan_in)); BatchNorm normalises with the biased variance
of the batch and keeps a running mean of the unbiased one; LayerNorm has eps 1e-5; GELU is the exact
one, not its tanh approximation.

Parameters are always float32. `dtype` ("float32" or "bfloat16") is the precision of the matrix
products and of what flows between layers; statistics of the normalisations are float32 in either
case.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Key

from jax3dret.core.types import ConfigError
from jax3dret.models.attention import self_attention
from jax3dret.models.gelu import gelu, quick_gelu

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"gelu": gelu, "quick_gelu": quick_gelu}


def uniform_fan_in(fan_in: int):
    """Initialiser U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for Linear and Conv, for
    kernel and bias alike.

    (Kaiming uniform with a = sqrt(5): bound = sqrt(6 / ((1 + a²) fan_in)) = 1/sqrt(fan_in).)
    """
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Dense(nn.Module):
    """y = x W + b over the last axis, [..., in] -> [..., features].

    The leading axes are flattened to one, so that the gradient of W contracts a single axis: XLA on
    a CPU runs that as one plain matrix product and contracts several axes far more slowly.
    """

    features: int
    use_bias: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*lead in"]) -> Float[Array, "*lead out"]:
        fan_in = x.shape[-1]
        kernel = self.param("kernel", uniform_fan_in(fan_in), (fan_in, self.features))
        y = x.reshape(-1, fan_in).astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            bias = self.param("bias", uniform_fan_in(fan_in), (self.features,)).astype(self.dtype)
            y = y + bias[None]
        return y.reshape(*x.shape[:-1], self.features)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's conventions.

    Training: (x - mean) / sqrt(biased variance + eps); running = (1 - momentum) running + momentum
    batch, where the running variance takes the UNBIASED variance. Arrays are global under jit, so
    the statistics are those of the global batch.

    Raises ConfigError when asked to train on a single row: its variance is undefined.
    """

    use_running_average: bool
    momentum: float = 0.1
    eps: float = 1e-5

    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
        """Normalised x, in the type of x."""
        rows = math.prod(x.shape[:-1])

        def moments():
            flat = x.reshape(rows, x.shape[-1]).astype(jnp.float32)
            mean = flat.mean(0)
            return mean, jnp.square(flat - mean[None]).mean(0)

        factor, shift = self.affine(x.shape[-1], rows, moments)
        factor, shift = (jnp.broadcast_to(value, x.shape) for value in (factor, shift))
        return (x * factor + shift).astype(x.dtype)

    @nn.compact
    def affine(
        self,
        width: int,
        rows: int,
        moments: Callable[[], tuple[Float[Array, " D"], Float[Array, " D"]]] | None,
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """The normalisation as x * factor + shift, for a caller that applies it along with
        something else.

        moments: computes mean and biased variance of the batch of `rows` rows; called in training
        alone.
        """
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (width,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (width,))
        mean, var = running_mean.value, running_var.value
        if not self.use_running_average and not self.is_initializing():
            if rows < 2:
                raise ConfigError(
                    f"BatchNorm: training on a single row of width {width}; use a batch of 2 or "
                    "more"
                )
            if moments is None:
                raise ValueError("BatchNorm.affine: training needs the moments of the batch")
            mean, var = moments()
            running_mean.value = (1 - self.momentum) * running_mean.value + self.momentum * mean
            unbiased = var * (rows / (rows - 1))
            running_var.value = (1 - self.momentum) * running_var.value + self.momentum * unbiased
        factor = scale * jax.lax.rsqrt(var + self.eps)
        return factor, bias - mean * factor


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, eps 1e-5, statistics in float32 and in two passes."""

    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
        width = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(-1, keepdims=True)
        var = jnp.square(centred).mean(-1, keepdims=True)
        scale, bias = (jnp.broadcast_to(value, x.shape) for value in (scale, bias))
        return (centred * jax.lax.rsqrt(var + self.eps) * scale + bias).astype(x.dtype)


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for a whole sample, and divides the kept ones by
    the keep probability.

    The leading axis is the sample. Draws from the "drop_path" stream; the identity when `train` is
    False or the rate is 0.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."], train: bool) -> Float[Array, "B ..."]:
        if not train or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = jax.random.bernoulli(
            self.make_rng("drop_path"), keep, (x.shape[0],) + (1,) * (x.ndim - 1)
        )
        return x * (mask / keep).astype(x.dtype)


def check_rate(rate: float, name: str) -> None:
    """Raises ConfigError, under the name given, where a share of dropped values or branches is
    outside [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"{name} is {rate}; it must be at least 0 and below 1")


class Mlp(nn.Module):
    """Dense, activation ("gelu", the exact one, or "quick_gelu"), Dense back to the input width."""

    hidden: int
    dtype: str = "float32"
    activation: str = "gelu"

    @nn.compact
    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"Mlp: activation {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}"
            )
        hidden = ACTIVATIONS[self.activation](Dense(self.hidden, dtype=self.dtype, name="fc1")(x))
        return Dense(x.shape[-1], dtype=self.dtype, name="fc2")(hidden)


class Attention(nn.Module):
    """Multi-head self-attention with one joint projection; its output columns are q | k | v, each
    `num_heads` heads wide.

    causal: a token attends to itself and to those before it alone. mask: False marks padding, which
    no token attends to.
    """

    num_heads: int
    qkv_bias: bool = False
    dtype: str = "float32"
    causal: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "B T"] | None = None
    ) -> Float[Array, "B T D"]:
        width = x.shape[-1]
        if width % self.num_heads:
            raise ConfigError(
                f"attention: width {width} is not a multiple of num_heads {self.num_heads}"
            )
        qkv = Dense(3 * width, use_bias=self.qkv_bias, dtype=self.dtype, name="qkv")(x)
        return Dense(width, dtype=self.dtype, name="proj")(
            self_attention(qkv, self.num_heads, self.causal, mask)
        )


class Block(nn.Module):
    """Pre-norm transformer block: x + DropPath(Attention(LN(x))), then x + DropPath(Mlp(LN(x)))."""

    num_heads: int
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    qkv_bias: bool = False
    dtype: str = "float32"
    eps: float = 1e-5
    activation: str = "gelu"
    causal: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], train: bool) -> Float[Array, "B T D"]:
        drop_path = DropPath(self.drop_path)
        attention = Attention(self.num_heads, self.qkv_bias, self.dtype, self.causal, name="attn")
        mlp = Mlp(round(self.mlp_ratio * x.shape[-1]), self.dtype, self.activation, name="mlp")
        x = x + drop_path(attention(LayerNorm(self.eps, name="norm1")(x)), train)
        return x + drop_path(mlp(LayerNorm(self.eps, name="norm2")(x)), train)
