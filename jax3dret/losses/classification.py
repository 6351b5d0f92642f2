"""Softmax cross-entropy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax3dret.core.types import ConfigError


def cross_entropy(
    logits: Float[Array, "B C"],
    labels: Int[Array, " B"],
    *,
    smoothing: float = 0.0,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Mean over the valid rows of -sum_c q_c log softmax(logits)_c, in float32.

    smoothing: q = (1 - smoothing) one-hot + smoothing / C, the uniform part over all C classes, the
    right one included.
    mask: False marks rows that do not count; what they hold, NaN or a label of -1, has no effect on
        value or gradient. With no valid row the loss is 0.

    A label outside of 0..C-1 in a valid row makes the loss NaN. Raises ConfigError if the shapes do
    not fit together or the smoothing is not in [0, 1).
    """
    if (
        logits.ndim != 2
        or labels.shape != logits.shape[:1]
        or (mask is not None and mask.shape != labels.shape)
    ):
        shapes = f"logits {logits.shape}, labels {labels.shape}" + (
            f", mask {mask.shape}" if mask is not None else ""
        )
        raise ConfigError(f"cross_entropy: {shapes}; expected [B, C] and [B]")
    if not 0.0 <= smoothing < 1.0:
        raise ConfigError(
            f"cross_entropy: smoothing={smoothing}; expected 0 or more and less than 1"
        )
    valid = jnp.ones(labels.shape, bool) if mask is None else mask
    # Masked before the logarithm: a NaN that is merely not selected afterwards would still reach
    # the gradient.
    log_p = jax.nn.log_softmax(jnp.where(valid[:, None], logits.astype(jnp.float32), 0.0))
    count = logits.shape[1]
    column = jnp.where((labels >= 0) & (labels < count), labels, 0)
    rows = -(1.0 - smoothing) * jnp.take_along_axis(log_p, column[:, None], axis=1)[:, 0]
    if smoothing:
        rows = rows - smoothing * jnp.mean(log_p, axis=1)
    rows = jnp.where(column == labels, rows, jnp.nan)
    return jnp.sum(jnp.where(valid, rows, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
