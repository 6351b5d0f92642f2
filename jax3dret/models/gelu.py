"""The exact GELU, x Phi(x) with Phi the standard normal distribution function, with its own
backward pass; and QuickGELU.

    d/dx x Phi(x) = Phi(x) + x phi(x),    Phi(x) = (1 + erf(x / sqrt 2)) / 2,    phi(x) = exp(-x² / 2) / sqrt(2 pi)

Only x is kept for the backward pass. Automatic differentiation would keep erf and its derivative
too, each as large as x, and in a transformer these are the largest arrays there are.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x Phi(x), elementwise, computed in float32 and returned in the type of x. Reverse mode only."""
    wide = x.astype(jnp.float32)
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x sigmoid(1.702 x), elementwise, computed in float32 and returned in the type of x: CLIP's
    approximation of the GELU.

    It differs from the exact one by up to 0.02; weights trained with either need that one.
    """
    wide = x.astype(jnp.float32)
    return (wide * jax.nn.sigmoid(1.702 * wide)).astype(x.dtype)


def _forward(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    return gelu(x), x


def _backward(
    x: Float[Array, "*shape"], grad: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"]]:
    wide = x.astype(jnp.float32)
    # exp(-x²/2) underflows to 0 before x² overflows, but inf * 0 is NaN: beyond 1e3 the second term
    # is 0.
    bounded = jnp.clip(wide, -1e3, 1e3)
    density = jnp.exp(-0.5 * bounded * bounded) / math.sqrt(2 * math.pi)
    slope = _normal_cdf(wide) + bounded * density
    return ((grad * slope).astype(x.dtype),)


gelu.defvjp(_forward, _backward)


def _normal_cdf(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))
