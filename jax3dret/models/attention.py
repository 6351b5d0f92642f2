"""Softmax self-attention over all tokens, from the joint projection q | k | v, with its own backward pass.

For one head with scaled queries q, keys k and values v, [T, d] each:

    s = q k^T        l_t = log sum_u exp(s_tu)        p = exp(s - l)        o = p v

and for a gradient g of o

    dv = p^T g        dp = g v^T        ds = p (dp - rowsum(o g))        dq = ds k        dk = ds^T q

since rowsum(p dp) = rowsum(o g) for a softmax. The backward pass keeps o and l and computes p again from them, as
FlashAttention does (Dao et al. 2022, section 3.1): for 513 tokens p is eight times larger than q, and reading it back costs
more than the product that makes it. The heads are worked off one after the other on a CPU, so that a [T, T] matrix of weights
is still in the cache when the next step needs it: 1.6 times faster than all heads at once, and a sixth of the memory. On other
devices all heads run together.
"""

from __future__ import annotations

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
    q, k, v = _split(qkv, num_heads)
    out, log_sum = _each_head(_head_forward, (q, k, v))
    return _join(out), (q, k, v, out, log_sum)


def _backward(num_heads: int, kept: tuple[Array, ...], grad: Float[Array, "B T D"]) -> tuple[Float[Array, "B T 3D"]]:
    heads = grad.reshape(*grad.shape[:2], num_heads, -1).transpose(2, 0, 1, 3)
    dq, dk, dv = _each_head(_head_backward, (*kept, heads))
    return (jnp.concatenate([_join(dq * dq.shape[-1] ** -0.5), _join(dk), _join(dv)], -1),)


self_attention.defvjp(_forward, _backward)


def _head_forward(parts: tuple[Array, ...]) -> tuple[Float[Array, "B T d"], Float[Array, "B T 1"]]:
    q, k, v = parts
    scores = _product(q, k, 2, 2)
    largest = scores.max(-1, keepdims=True)
    weights = jnp.exp(scores - largest)
    total = weights.sum(-1, keepdims=True)
    out = _product(weights.astype(v.dtype), v, 2, 1) / total
    return out.astype(v.dtype), largest + jnp.log(total)


def _head_backward(parts: tuple[Array, ...]) -> tuple[Float[Array, "B T d"], ...]:
    q, k, v, out, log_sum, grad = parts
    weights = jnp.exp(_product(q, k, 2, 2) - log_sum)
    inner = (out.astype(jnp.float32) * grad).sum(-1, keepdims=True)
    dscores = (weights * (_product(grad, v, 2, 2) - inner)).astype(q.dtype)
    dq, dk = _product(dscores, k, 2, 1), _product(dscores, q, 1, 1)
    dv = _product(weights.astype(grad.dtype), grad, 1, 1)
    return dq.astype(q.dtype), dk.astype(q.dtype), dv.astype(q.dtype)


def _product(a: Float[Array, "B i j"], b: Float[Array, "B k l"], axis_a: int, axis_b: int) -> Float[Array, "B m n"]:
    """Matrix products of a batch, contracting these axes, accumulated in float32."""
    return lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((0,), (0,))), preferred_element_type=jnp.float32)


def _each_head(head: Callable, parts: tuple[Array, ...]):
    """Applies `head` to arrays with a leading head axis: in turn on a CPU, at once elsewhere."""
    return lax.platform_dependent(parts, cpu=partial(lax.map, head), default=jax.vmap(head))


def _split(qkv: Float[Array, "B T 3D"], num_heads: int) -> tuple[Float[Array, "H B T d"], ...]:
    batch, tokens, width = qkv.shape
    q, k, v = qkv.reshape(batch, tokens, 3, num_heads, width // 3 // num_heads).transpose(2, 3, 0, 1, 4)
    return q * q.shape[-1] ** -0.5, k, v


def _join(heads: Float[Array, "H B T d"]) -> Float[Array, "B T D"]:
    return heads.transpose(1, 2, 0, 3).reshape(*heads.shape[1:3], -1)
