"""An affine map of embeddings, fitted after training (`Recipe.calibrate`): centring, whitening, a
discriminant.

It stands in `model_state["map"]`, by modality, as {"matrix": float32[D, E], "offset": float32[E]}.
A task's init puts the identity there, and its embed applies what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def identity(width: int) -> dict[str, Float[Array, "..."]]:
    """The map of embeddings of this width that leaves them as they are."""
    return {"matrix": jnp.eye(width, dtype=jnp.float32), "offset": jnp.zeros(width, jnp.float32)}


def apply(
    fitted: Mapping[str, Float[Array, "..."]], embedding: Float[Array, "B D"]
) -> Float[Array, "B E"]:
    """embedding @ matrix + offset, in float32 on every device; the identity changes no number."""
    # Unless told otherwise, accelerators multiply in fewer bits.
    product = jnp.matmul(embedding, fitted["matrix"], precision=jax.lax.Precision.HIGHEST)
    return product + fitted["offset"][None]
