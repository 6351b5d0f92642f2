"""AM-Softmax: classification by the angle to a vector of each class, with a margin for the right
one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.losses.classification import cross_entropy


def cosines(f: Float[Array, "B D"], weight: Float[Array, "D C"]) -> Float[Array, "B C"]:
    """Cosine of every row of f with every column of the weight, float32.

    A row or column of zeros has cosine 0 with everything, and a finite gradient. Raises ConfigError
    if the shapes do not fit.
    """
    if f.ndim != 2 or weight.ndim != 2 or f.shape[1] != weight.shape[0]:
        raise ConfigError(
            f"cosines: rows {f.shape}, weight {weight.shape}; expected [B, D] and [D, C]"
        )
    return jnp.matmul(_unit(f, 1), _unit(weight, 0), precision="highest")


def am_softmax(
    cosines: Float[Array, "B C"],
    labels: Int[Array, " B"],
    *,
    scale: float = 15.0,
    margin: float = 0.3,
    smoothing: float = 0.0,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Mean over the valid rows of the cross-entropy of scale * (cosine - margin at the right
    class).

    "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
    2604.18019, equations 11 and 12; the sum in the denominator runs over the classes. The paper's
    vectors of the classes act on the encoder's output, not on its projection, have no bias, and are
    the same for shapes and sketches. They start in ±1/sqrt(D) in published code.

    smoothing and mask: see `cross_entropy`; what masked rows hold has no effect. Raises ConfigError
    if the shapes do not fit together, or for a scale that is not positive.
    """
    if cosines.ndim != 2 or labels.shape != cosines.shape[:1]:
        raise ConfigError(
            f"am_softmax: cosines {cosines.shape}, labels {labels.shape}; expected [B, C] and [B]"
        )
    if not scale > 0:
        raise ConfigError(f"am_softmax: scale={scale}; expected a positive number")
    right = jax.nn.one_hot(labels, cosines.shape[1], dtype=jnp.float32)
    logits = scale * (cosines.astype(jnp.float32) - margin * right)
    return cross_entropy(logits, labels, smoothing=smoothing, mask=mask)


def _unit(x: Float[Array, "N M"], axis: int) -> Float[Array, "N M"]:
    """Length 1 along the axis; zeros stay zeros, and their gradient is finite."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(jnp.square(x), axis, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squared, 1e-24))
