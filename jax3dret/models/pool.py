"""The maximum over the members of a group, with a backward pass that goes to one member each.

Automatic differentiation of `max` shares the gradient among equal maxima. Here, as in PyTorch, it
goes to the first of them, whose index is all that the backward pass keeps. Equal maxima come from a
point that is in a cloud twice.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int32

# Under this name `jax.checkpoint` can be told to keep the index rather than to compute the maximum
# again.
INDEX = "max_pool_index"


@jax.custom_vjp
def max_pool(x: Float[Array, "G K D"]) -> Float[Array, "G D"]:
    """Maximum over the middle axis. A NaN among the members gives NaN, in value and in gradient.
    Reverse mode only.
    """
    return x.max(1)


def _forward(
    x: Float[Array, "G K D"],
) -> tuple[Float[Array, "G D"], tuple[Int32[Array, "G 1 D"], Int32[Array, "K 1"]]]:
    largest = x.max(1, keepdims=True)
    size = x.shape[1]
    member = jnp.arange(size, dtype=jnp.int32)[:, None]
    # Not argmax: XLA on a CPU does not vectorise it. No member equals a maximum that is NaN; its
    # gradient goes to the first.
    first = jnp.where(x == largest, member, size).min(1, keepdims=True) % size
    return largest[:, 0], (checkpoint_name(first, INDEX), member)


def _backward(
    kept: tuple[Int32[Array, "G 1 D"], Int32[Array, "K 1"]], grad: Float[Array, "G D"]
) -> tuple[Float[Array, "G K D"]]:
    first, member = kept
    return (jnp.where(member[None] == first, grad[:, None], 0),)


max_pool.defvjp(_forward, _backward)
