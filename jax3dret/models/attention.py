"""Softmax self-attention over all tokens, from the joint projection q | k | v, with its own backward pass.

For one head with scaled queries q, keys k and values v, [T, d] each:

    s = q k^T        l_t = log sum_u exp(s_tu)        p = exp(s - l)        o = p v

and for a gradient g of o

    dv = p^T g        dp = g v^T        ds = p (dp - rowsum(o g))        dq = ds k        dk = ds^T q

since rowsum(p dp) = rowsum(o g) for a softmax. The backward pass keeps o and l and computes p again from them, as
FlashAttention does (Dao et al. 2022, section 3.1): for 513 tokens p is eight times larger than q, and fetching it from memory
costs more than the product that makes it.

On a CPU the heads are worked off one after the other, so that a [T, T] matrix is still in the core's cache when the next step
needs it, and all arrays are held transposed, [d, T], in which layout each of the products above runs fastest there. Elsewhere
all heads run together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def self_attention(qkv: Float[Array, "B T 3D"], num_heads: int) -> Float[Array, "B T D"]:
    """softmax(q k^T / sqrt(d)) v for each head of width d = D / num_heads; the heads are concatenated.

    qkv: columns q | k | v, each of them num_heads blocks of d columns. Scores and softmax are float32 whatever the type of qkv;
    the output has that type. A NaN in a cloud's tokens makes all of that cloud NaN. Reverse mode only.
    """
    return _forward(qkv, num_heads)[0]


def _forward(qkv: Float[Array, "B T 3D"], num_heads: int) -> tuple[Float[Array, "B T D"], tuple[Array, ...]]:
    batch, _, width = qkv.shape
    q, k, v = (_split(part, num_heads) for part in jnp.split(qkv, 3, -1))
    q = q * (width // 3 // num_heads) ** -0.5
    out, log_sum = _each_head(_head_forward, (q, k, v))
    return _join(out, batch), (q, k, v, out, log_sum)


def _backward(num_heads: int, kept: tuple[Array, ...], grad: Float[Array, "B T D"]) -> tuple[Float[Array, "B T 3D"]]:
    batch, _, width = grad.shape
    dq, dk, dv = _each_head(_head_backward, (*kept, _split(grad, num_heads)))
    dq = dq * (width // num_heads) ** -0.5
    return (jnp.concatenate([_join(part, batch) for part in (dq, dk, dv)], -1),)


self_attention.defvjp(_forward, _backward)


def _head_forward(parts: tuple[Array, ...]) -> tuple[Float[Array, "c d T"], Float[Array, "c T 1"]]:
    q, k, v = parts
    scores = _product(q, k, 1, 1)
    largest = scores.max(-1, keepdims=True)
    weights = jnp.exp(scores - largest)
    total = weights.sum(-1, keepdims=True)
    out = _product(v, weights.astype(v.dtype), 2, 2) / total.swapaxes(1, 2)
    return out.astype(v.dtype), largest + jnp.log(total)


def _head_backward(parts: tuple[Array, ...]) -> tuple[Float[Array, "c d T"], ...]:
    q, k, v, out, log_sum, grad = parts
    weights = jnp.exp(_product(q, k, 1, 1) - log_sum)
    inner = (out.astype(jnp.float32) * grad).sum(1)[:, :, None]
    dscores = (weights * (_product(grad, v, 1, 1) - inner)).astype(q.dtype)
    dq, dk = _product(k, dscores, 2, 2), _product(q, dscores, 2, 1)
    dv = _product(grad, weights.astype(grad.dtype), 2, 1)
    return dq.astype(q.dtype), dk.astype(q.dtype), dv.astype(q.dtype)


def _product(a: Float[Array, "c i j"], b: Float[Array, "c k l"], axis_a: int, axis_b: int) -> Float[Array, "c m n"]:
    """Matrix products of a batch, contracting these axes, accumulated in float32."""
    return lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((0,), (0,))), preferred_element_type=jnp.float32)


def _each_head(head: Callable, parts: tuple[Array, ...]):
    """Applies `head` along the leading axis: in turn on a CPU, at once elsewhere."""
    return lax.platform_dependent(parts, cpu=partial(lax.map, head), default=jax.vmap(head))


def _split(x: Float[Array, "B T D"], num_heads: int) -> Float[Array, "s c d T"]:
    """Heads and clouds on two axes: s are worked off in turn, c together.

    c is one cloud for each device, taken from as many equal parts of the batch, so a batch that is sharded over the devices
    stays where it is.
    """
    batch, tokens, width = x.shape
    together = math.gcd(batch, jax.device_count())
    x = x.reshape(together, batch // together, tokens, num_heads, width // num_heads).transpose(3, 1, 0, 4, 2)
    return x.reshape(-1, together, width // num_heads, tokens)


def _join(x: Float[Array, "s c d T"], batch: int) -> Float[Array, "B T D"]:
    """The reverse of `_split`."""
    _, together, head_dim, tokens = x.shape
    x = x.reshape(-1, batch // together, together, head_dim, tokens).transpose(2, 1, 4, 0, 3)
    return x.reshape(batch, tokens, -1)
