"""Semantic alignment: an embedding is drawn to the vector of its class, most often that of the
class's name.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.losses.am_softmax import cosines
from jax3dret.losses.classification import cross_entropy


def semantic_alignment(
    p: Float[Array, "B D"],
    labels: Int[Array, " B"],
    prototypes: Float[Array, "C D"],
    *,
    temperature: float = 0.07,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Mean over the valid rows of the cross-entropy of cos(p, prototype of every class) /
    temperature.

    "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
    2604.18019, equation 10. p: the PROJECTED features; labels: rows of `prototypes`, which hold the
    classes of training alone. Lengths do not matter.

    mask: False marks rows that do not count; what they hold has no effect. A row of zeros gets a
    finite gradient. A label that is no row makes the loss NaN. Raises ConfigError if the shapes do
    not fit together or the temperature is not positive.
    """
    if (
        p.ndim != 2
        or prototypes.ndim != 2
        or p.shape[1] != prototypes.shape[1]
        or labels.shape != p.shape[:1]
    ):
        raise ConfigError(
            f"semantic_alignment: features {p.shape}, labels {labels.shape}, prototypes "
            f"{prototypes.shape}; "
            "expected [B, D], [B] and [C, D]"
        )
    if not temperature > 0:
        raise ConfigError(
            f"semantic_alignment: temperature={temperature}; expected a positive number"
        )
    if mask is not None:
        # Before anything is computed: a NaN that is not selected afterwards would still reach the
        # prototypes' gradient.
        p = jnp.where(mask[:, None], p, 0.0)
    return cross_entropy(cosines(p, prototypes.T) / temperature, labels, mask=mask)
