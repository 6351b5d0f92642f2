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
    # Masked before anything is computed: a NaN that is merely not selected afterwards would still
    # reach the gradient.
    logits = jnp.where(valid[:, None], logits.astype(jnp.float32), 0.0)
    column = jnp.where((labels >= 0) & (labels < logits.shape[1]), labels, 0)
    rows = row_losses(logits, column, smoothing)
    rows = jnp.where(column == labels, rows, jnp.nan)
    return jnp.sum(jnp.where(valid, rows, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def row_losses(
    logits: Float[Array, "B C"], labels: Int[Array, " B"], smoothing: float = 0.0
) -> Float[Array, " B"]:
    """-sum_c q_c log softmax(logits)_c of every row, see `cross_entropy`; labels: in 0..C-1.

    With d_c = logit_c - logit of the right class it is log1p(sum of exp(d_c) over the other
    classes), and with smoothing less that share of the mean of d. So a loss of 1e-12 keeps its
    digits and none is negative, where a logarithm of the softmax is off by 1e-7. -inf rules a class
    out; a row whose right class is not finite, or with a NaN, is not finite.
    """
    logits = logits.astype(jnp.float32)
    right = jnp.take_along_axis(logits, labels[:, None], axis=1)
    is_right = labels[:, None] == jnp.arange(logits.shape[1])[None]
    difference = logits - right
    # The right class is left out, not added as exp(0) and taken off again.
    others = jnp.where(is_right, -jnp.inf, difference)
    # Shifted where another class leads, so that no exponential overflows.
    lead = jax.lax.stop_gradient(jnp.maximum(jnp.max(others, axis=1, keepdims=True), 0.0))
    lead = jnp.where(lead == jnp.inf, 0.0, lead)
    total = jnp.sum(jnp.exp(others - lead), axis=1) + jnp.expm1(-lead[:, 0])
    rows = lead[:, 0] + jnp.log1p(total)
    if smoothing:
        rows = rows - smoothing * jnp.mean(difference, axis=1)
    # With an infinite logit the right class would cost nothing; alone, a NaN would not be seen.
    return jnp.where(right[:, 0] < jnp.inf, rows, jnp.nan)
