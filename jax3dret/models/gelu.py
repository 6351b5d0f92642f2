"""The exact GELU, x Phi(x) with Phi the standard normal distribution function."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x Phi(x) = x/2 (1 + erf(x / sqrt 2)), elementwise."""
    return jax.nn.gelu(x, approximate=False)
