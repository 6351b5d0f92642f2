"""An affine map of embeddings, fitted after training (`Recipe.calibrate`): centring, whitening, a
discriminant.

It stands in `model_state["map"]`, by modality, as {"matrix": float32[D, E], "offset": float32[E]}.
A task's init puts one there that keeps the first E numbers, the identity where E is D, and its
embed applies what it finds, of whatever shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def identity(width: int, kept: int | None = None) -> dict[str, Float[Array, "..."]]:
    """The map of embeddings of this width that leaves their first `kept` numbers (default: all) as
    they are and drops the others.
    """
    kept = width if kept is None else kept
    return {
        "matrix": jnp.eye(width, kept, dtype=jnp.float32),
        "offset": jnp.zeros(kept, jnp.float32),
    }


def apply(
    fitted: Mapping[str, Float[Array, "..."]], embedding: Float[Array, "B D"]
) -> Float[Array, "B E"]:
    """embedding @ matrix + offset, in float32 on every device; the identity changes no number."""
    # Unless told otherwise, accelerators multiply in fewer bits.
    product = jnp.matmul(embedding, fitted["matrix"], precision=jax.lax.Precision.HIGHEST)
    return product + fitted["offset"][None]
