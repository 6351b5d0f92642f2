"""What a level of MV-HGNN does with the graph of its views: convolve over the nearest cameras, then
attend to all of them.

Paper: "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
2604.18019, Eq. 4-6. The paper leaves open whether a view's own loop is a member of the softmax or
added to it afterwards, and the slope of the LeakyReLU; here it is a member, and the slope is 0.2 as
in View-GCN, from which the network descends.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import BatchNorm
from jax3dret.models.view_choice import nearest_views
from jax3dret.models.viewgcn import leaky_relu

SELF_LOOPS = ("member", "add_identity")
# The products of a graph of a dozen views cost nothing, so they are exact float32 on accelerators
# too.
EXACT = lax.Precision.HIGHEST


class Linear(nn.Module):
    """y = x W + b over the last axis; W starts from Kaiming's uniform distribution (bound sqrt(6 /
    fan_in)), b from zero.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*lead in"]) -> Float[Array, "*lead out"]:
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.kaiming_uniform(), (width, self.features))
        # One leading axis: XLA on a CPU contracts a single axis far faster than several in the
        # gradient of the kernel.
        y = x.reshape(-1, width) @ kernel
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))[None]
        return y.reshape(*x.shape[:-1], self.features)


def neighbourhood(positions: Float[Array, "B V 3"], k: int) -> Bool[Array, "B V V"]:
    """True at [b, i, j] where camera j is among the k nearest to camera i, itself included; see
    `nearest_views`.

    A level with fewer than k views takes them all. Raises ConfigError if k is below 1.
    """
    views = positions.shape[1]
    near = nearest_views(positions, min(k, views))
    return (near[..., None] == jnp.arange(views)[None, None, None]).any(-2)


def masked_softmax(
    scores: Float[Array, "*lead V"], mask: Bool[Array, "*lead V"]
) -> Float[Array, "*lead V"]:
    """Softmax over the last axis where `mask` is True, exactly 0 elsewhere; a row without any True
    is all 0.

    A score outside the mask has no influence, even if it is NaN; one inside makes its row NaN.
    """
    kept = jnp.where(mask, scores, -jnp.inf)
    largest = lax.stop_gradient(kept.max(-1, keepdims=True, initial=jnp.finfo(scores.dtype).min))
    # Zero, not -inf, outside: the gradient of exp is then defined in what is thrown away.
    weights = jnp.where(mask, jnp.exp(jnp.where(mask, scores - largest, 0.0)), 0.0)
    total = weights.sum(-1, keepdims=True)
    return jnp.where(mask, weights / jnp.where(total == 0, 1.0, total), 0.0)


def adjacency(
    features: Float[Array, "B V F"], mask: Bool[Array, "*B V V"], self_loop: str = "member"
) -> Float[Array, "B V V"]:
    """The row-normalised weights of Eq. 4: softmax of f_i f_j / sqrt(F) over the neighbourhood of
    i, 0 elsewhere.

    self_loop: "member": a view is one of its own neighbours. "add_identity": softmax over the
    others, then (A + I) divided by its row sums, so that a view counts as much as all of its
    neighbours together (and alone if it has none).

    Raises ConfigError for another self_loop.
    """
    if self_loop not in SELF_LOOPS:
        raise ConfigError(f"self_loop='{self_loop}'; expected one of {', '.join(SELF_LOOPS)}")
    similar = jnp.einsum("bif,bjf->bij", features, features, precision=EXACT) / math.sqrt(
        features.shape[-1]
    )
    mask = jnp.broadcast_to(mask, similar.shape)
    if self_loop == "member":
        return masked_softmax(similar, mask)
    own = jnp.eye(features.shape[1], dtype=bool)[None]
    others = mask & ~own
    return (masked_softmax(similar, others) + own) / jnp.where(
        others.any(-1, keepdims=True), 2.0, 1.0
    )


class LocalGraph(nn.Module):
    """Convolution over the nearest cameras, Eq. 4-5: LeakyReLU(BatchNorm(A F W)), A of `adjacency`,
    W without bias.

    BatchNorm is over all views of the batch; training on a single row raises ConfigError.
    """

    width: int
    self_loop: str = "member"

    @nn.compact
    def __call__(
        self, features: Float[Array, "B V F"], mask: Bool[Array, "*B V V"], train: bool = False
    ) -> Float[Array, "B V D"]:
        weights = adjacency(features, mask, self.self_loop)
        self.sow("intermediates", "adjacency", weights)
        mixed = jnp.einsum("bij,bjf->bif", weights, features, precision=EXACT)
        return leaky_relu(
            BatchNorm(not train, name="norm")(
                Linear(self.width, use_bias=False, name="linear")(mixed)
            )
        )


class GlobalAttention(nn.Module):
    """One head of attention among all views, Eq. 6: F + softmax(Q K^T / sqrt(d / 2)) V, no biases.

    Q and K are half as wide as the features (width d). Raises ConfigError if d is 1.
    """

    @nn.compact
    def __call__(self, features: Float[Array, "B V D"]) -> Float[Array, "B V D"]:
        width = features.shape[-1]
        half = width // 2
        if not half:
            raise ConfigError("GlobalAttention: features of width 1; expected 2 or more")
        query = Linear(half, use_bias=False, name="query")(features)
        key = Linear(half, use_bias=False, name="key")(features)
        value = Linear(width, use_bias=False, name="value")(features)
        scores = jnp.einsum("bif,bjf->bij", query, key, precision=EXACT) / math.sqrt(half)
        return features + jnp.einsum("bij,bjf->bif", nn.softmax(scores), value, precision=EXACT)
