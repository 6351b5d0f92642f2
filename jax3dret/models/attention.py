"""Softmax self-attention over all tokens, from the joint projection q | k | v, with its own
backward pass.

For one head with scaled queries q, keys k and values v, [T, d] each:

    s = q k^T        l_t = log sum_u exp(s_tu)        p = exp(s - l)        o = p v

and for a gradient g of o

    dv = p^T g        dp = g v^T        ds = p (dp - rowsum(o g))        dq = ds k        dk = ds^T q

since rowsum(p dp) = rowsum(o g) for a softmax. Causal attention sets s_tu to -inf where u > t, so
that p is 0 there. The backward pass keeps o and l and computes p again from them, as FlashAttention
does (Dao et al. 2022, section 3.1): for 513 tokens p is eight times larger than q, and fetching it
from memory costs more than the product that makes it.

On a CPU the heads of each cloud are worked off one after the other, each cut out of the projection
and put back in its place, so that a [T, T] matrix is still in the core's cache when the next step
needs it and no array is rearranged as a whole. A head is held transposed, [d, T], the layout in
which the products above run fastest there. Elsewhere all heads run together.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def self_attention(
    qkv: Float[Array, "B T qkv"],
    num_heads: int,
    causal: bool = False,
    mask: Bool[Array, "B T"] | None = None,
) -> Float[Array, "B T D"]:
    """softmax(q k^T / sqrt(d)) v for each head of width d = D / num_heads; the heads are
    concatenated.

    qkv: columns q | k | v, each of them num_heads blocks of d columns. causal: a token attends to
    itself and to those before it, and to no later one (a NaN among its own tokens still spoils all
    of that cloud). mask: False marks padding, which no token attends to; a row of padding alone
    becomes NaN. Scores and softmax are float32 whatever the type of qkv; the output has that type.
    A NaN in a cloud's tokens makes all of that cloud NaN. Reverse mode only.
    """
    return _forward(qkv, num_heads, causal, mask)[0]


def _forward(
    qkv: Float[Array, "B T qkv"],
    num_heads: int,
    causal: bool,
    mask: Bool[Array, "B T"] | None,
) -> tuple[Float[Array, "B T D"], tuple[Array | None, ...]]:
    parts = (_by_head(qkv, 3, num_heads), *_padding(mask, num_heads))
    head = partial(_head, causal=causal)
    out, log_sum = lax.platform_dependent(
        parts, cpu=partial(_in_turn, head), default=partial(_at_once, head)
    )
    out = out.reshape(*qkv.shape[:2], -1)
    return out, (qkv, out, log_sum, mask)


def _backward(
    num_heads: int, causal: bool, kept: tuple[Any, ...], grad: Float[Array, "B T D"]
) -> tuple[Float[Array, "B T qkv"], None]:
    qkv, out, log_sum, mask = kept
    parts = (
        _by_head(qkv, 3, num_heads),
        _by_head(out, 1, num_heads),
        log_sum,
        _by_head(grad, 1, num_heads),
        *_padding(mask, num_heads),
    )
    head = partial(_head_gradient, causal=causal)
    back = lax.platform_dependent(
        parts, cpu=partial(_in_turn, head), default=partial(_at_once, head)
    )
    return back[0].reshape(qkv.shape), None


self_attention.defvjp(_forward, _backward)


def _head(
    qkv: Float[Array, "3 d T"], padding: Float[Array, "1 1 T"] | None = None, causal: bool = False
) -> tuple[Float[Array, "1 d T"], Float[Array, "1 1 T"]]:
    """o and l of one head."""
    q, k, v = qkv
    scores = _scores(q * _scale(q), k, padding, causal)
    largest = scores.max(-1)
    weights = jnp.exp(scores - largest[:, None])
    total = weights.sum(-1)
    out = _product(v, weights.astype(v.dtype), 1, 1) / total[None]
    return out.astype(v.dtype)[None], (largest + jnp.log(total))[None, None]


def _head_gradient(
    qkv: Float[Array, "3 d T"],
    out: Float[Array, "1 d T"],
    log_sum: Float[Array, "1 1 T"],
    grad: Float[Array, "1 d T"],
    padding: Float[Array, "1 1 T"] | None = None,
    causal: bool = False,
) -> tuple[Float[Array, "3 d T"]]:
    """dq, dk, dv of one head, as a tuple of one."""
    q, k, v = qkv
    q = q * _scale(q)
    grad = grad[0]
    weights = jnp.exp(_scores(q, k, padding, causal) - log_sum[0, 0, :, None])
    inner = (out[0].astype(jnp.float32) * grad).sum(0)
    dscores = (weights * (_product(grad, v, 0, 0) - inner[:, None])).astype(q.dtype)
    dq = _product(k, dscores, 1, 1) * _scale(q)
    dk = _product(q, dscores, 1, 0)
    dv = _product(grad, weights.astype(grad.dtype), 1, 0)
    return (jnp.stack([dq, dk, dv]).astype(q.dtype),)


def _scores(
    q: Float[Array, "d T"],
    k: Float[Array, "d T"],
    padding: Float[Array, "1 1 T"] | None,
    causal: bool,
) -> Float[Array, "T T"]:
    """q^T k, one row for each query; -inf for padding, and beyond the diagonal if causal."""
    scores = _product(q, k, 0, 0)
    if padding is not None:
        scores = scores + padding[0]
    return jnp.where(jnp.tri(q.shape[1], dtype=bool), scores, -jnp.inf) if causal else scores


def _scale(q: Float[Array, "d T"]) -> float:
    return q.shape[0] ** -0.5


def _product(
    a: Float[Array, "i j"], b: Float[Array, "k l"], axis_a: int, axis_b: int
) -> Float[Array, "m n"]:
    """Matrix product that contracts these axes, accumulated in float32."""
    return lax.dot_general(
        a, b, (((axis_a,), (axis_b,)), ((), ())), preferred_element_type=jnp.float32
    )


def _by_head(x: Float[Array, "B T PHd"], parts: int, num_heads: int) -> Float[Array, "B T P H d"]:
    return x.reshape(*x.shape[:2], parts, num_heads, -1)


def _padding(mask: Bool[Array, "B T"] | None, num_heads: int) -> tuple[Array, ...]:
    """What padding adds to its scores, 0 or -inf, [B, T, 1, H, 1]; nothing without a mask."""
    if mask is None:
        return ()
    added = jnp.where(mask, 0.0, -jnp.inf).astype(jnp.float32)
    return (jnp.broadcast_to(added[:, :, None, None, None], (*mask.shape, 1, num_heads, 1)),)


def _at_once(
    head, parts: tuple[Float[Array, "B T _ H _"], ...]
) -> tuple[Float[Array, "B T _ H _"], ...]:
    """Applies `head` to every head of every cloud together."""
    return tuple(
        y.transpose(0, 4, 2, 1, 3)
        for y in jax.vmap(jax.vmap(head))(*(x.transpose(0, 3, 2, 4, 1) for x in parts))
    )


def _in_turn(
    head, parts: tuple[Float[Array, "B T _ H _"], ...]
) -> tuple[Float[Array, "B T _ H _"], ...]:
    """Applies `head` to one head after the other, to one cloud of each device at a time.

    The batch is seen as `together` equal parts, of which each gives one cloud, so that a batch
    which is sharded over the devices stays where it is.
    """
    batch, num_heads = parts[0].shape[0], parts[0].shape[3]
    together = math.gcd(batch, jax.device_count())
    parts = tuple(x.reshape(together, batch // together, *x.shape[1:]) for x in parts)

    def cut(
        x: Float[Array, "c n T P H d"], i: Int32[Array, ""], h: Int32[Array, ""]
    ) -> Float[Array, "c P d T"]:
        x = lax.dynamic_slice(
            x, (0, i, 0, 0, h, 0), (*x.shape[:1], 1, *x.shape[2:4], 1, *x.shape[5:])
        )
        return x[:, 0, :, :, 0].transpose(0, 2, 3, 1)

    def put(
        whole: Float[Array, "c n T P H d"],
        y: Float[Array, "c P d T"],
        i: Int32[Array, ""],
        h: Int32[Array, ""],
    ) -> Array:
        return lax.dynamic_update_slice(
            whole, y.transpose(0, 3, 1, 2)[:, None, :, :, None], (0, i, 0, 0, h, 0)
        )

    def step(j: Int32[Array, ""], results: tuple[Array, ...]) -> tuple[Array, ...]:
        i, h = j // num_heads, j % num_heads
        made = jax.vmap(head)(*(cut(x, i, h) for x in parts))
        return tuple(put(whole, y, i, h) for whole, y in zip(results, made, strict=True))

    shapes = jax.eval_shape(jax.vmap(head), *(jax.eval_shape(cut, x, 0, 0) for x in parts))
    empty = tuple(
        jnp.zeros(
            (together, batch // together, y.shape[3], y.shape[1], num_heads, y.shape[2]), y.dtype
        )
        for y in shapes
    )
    results = lax.fori_loop(0, batch // together * num_heads, step, empty)
    return tuple(x.reshape(batch, *x.shape[2:]) for x in results)
