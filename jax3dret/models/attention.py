"""Softmax self-attention over all tokens, from the joint projection q | k | v."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def self_attention(qkv: Float[Array, "B T 3D"], num_heads: int) -> Float[Array, "B T D"]:
    """softmax(q k^T / sqrt(d)) v for each head of width d = D / num_heads; the heads are concatenated.

    qkv: columns q | k | v, each of them num_heads blocks of d columns. The softmax is in float32.
    """
    batch, tokens, width3 = qkv.shape
    head_dim = width3 // 3 // num_heads
    q, k, v = jnp.moveaxis(qkv.reshape(batch, tokens, 3, num_heads, head_dim), (2, 3), (0, 2))
    scores = jnp.einsum("bhtd,bhsd->bhts", q, k).astype(jnp.float32) * head_dim**-0.5
    weights = jax.nn.softmax(scores, axis=-1).astype(qkv.dtype)
    out = jnp.einsum("bhts,bhsd->bhtd", weights, v)
    return jnp.moveaxis(out, 1, 2).reshape(batch, tokens, width3 // 3)
