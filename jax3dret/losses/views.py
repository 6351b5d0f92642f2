"""Losses of networks that read several views of a shape."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.losses.classification import cross_entropy


def view_gcn(
    logits: Float[Array, "B C"],
    scores: Sequence[Float[Array, "B _ K C"]],
    labels: Int[Array, " B"],
    *,
    selector_weight: float = 1.0,
    smoothing: float = 0.0,
    mask: Bool[Array, " B"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Cross-entropy of the shape's logits + selector_weight * cross-entropy of all scores of the
    view selectors.

    Every score of an item (S sampled views times K candidates, of every selector) has the item's
    label, and the mean is over all of them alike, so the selector with more views weighs more
    (view-GCN, section 3.4 and published code). The terms are returned as "shape" and "selector".
    mask: False marks items that do not count. For the rest see `cross_entropy`.

    Raises ConfigError if the shapes do not fit together.
    """
    if not scores or any(s.ndim != 4 or s.shape[0] != logits.shape[0] for s in scores):
        shapes = ", ".join(str(s.shape) for s in scores) or "none"
        raise ConfigError(
            f"view_gcn: logits {logits.shape}, scores {shapes}; expected [B, C] and [B, S, k, C]"
        )
    flat = jnp.concatenate([s.reshape(s.shape[0], -1, s.shape[-1]) for s in scores], axis=1)
    shape = cross_entropy(logits, labels, smoothing=smoothing, mask=mask)
    selector = single_view(flat, labels, smoothing=smoothing, mask=mask)
    return shape + selector_weight * selector, {"shape": shape, "selector": selector}


def single_view(
    logits: Float[Array, "B V C"],
    labels: Int[Array, " B"],
    *,
    smoothing: float = 0.0,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Mean cross-entropy of every view's own logits; a view has its shape's label, and a masked
    item's views do not count.

    Raises ConfigError if the shapes do not fit together; see `cross_entropy`.
    """
    if (
        logits.ndim != 3
        or labels.shape != logits.shape[:1]
        or (mask is not None and mask.shape != labels.shape)
    ):
        raise ConfigError(
            f"single_view: logits {logits.shape}, labels {labels.shape}; expected [B, V, C] and [B]"
        )
    views = logits.shape[1]
    return cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        jnp.repeat(labels, views),
        smoothing=smoothing,
        mask=None if mask is None else jnp.repeat(jax.lax.stop_gradient(mask), views),
    )
