"""Contrastive alignment of point clouds with images and texts (MMCL): a cloud is told from the
others by its picture and caption.
"""

from __future__ import annotations

import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.losses.classification import row_losses

# exp of it is what similarities are multiplied by: the temperature 0.07 at the start, at most 100
# later (published code).
INITIAL_LOG_SCALE = math.log(1 / 0.07)
MAX_LOG_SCALE = math.log(100.0)


def mmcl(
    cloud: Float[Array, "B D"],
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    log_scale: Float[Array, ""],
    *,
    form: Literal["ulip", "printed"] = "ulip",
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The loss of B triplets, row by row of one object each, and how often the nearest row is the
    right one.

    All rows are L2-normalised first. With S the cosines of clouds (rows) and images (columns), T
    those of clouds and texts, s = exp(log_scale), and CE the mean cross-entropy whose targets are
    the diagonal:

    form="ulip"     [CE(s S) + CE(s S^T)] / 2 + [CE(s T) + CE(s T^T)] / 2: ULIP's published code, the one that trains its weights
    form="printed"  the retrieval paper's equation 1 letter by letter, but for its missing minus sign, without which it would
                    push triplets apart: cloud to image and text to cloud, each twice over 4, summed over the batch, no
                    temperature. `log_scale` is not read.

    No term couples image and text: their towers are frozen. Over several devices the gradient is
    that of the whole global batch (the published code gathers the other devices' rows without
    gradient).

    Metrics: "cloud_image_acc", "cloud_text_acc": share of clouds whose own image (text) is the
    nearest of the batch.

    The rows of the batch are mixed, so the mean over micro-batches is another loss. A value that is
    not finite makes the loss not finite. Raises ConfigError for shapes that differ or are not [B,
    D], for B < 2, or an unknown form.
    """
    if cloud.ndim != 2 or not cloud.shape == image.shape == text.shape:
        raise ConfigError(
            f"mmcl: clouds {cloud.shape}, images {image.shape} and texts {text.shape}; expected "
            "three of the same [B, D]"
        )
    if cloud.shape[0] < 2:
        raise ConfigError(
            f"mmcl: a batch of shape {cloud.shape} has nothing to tell apart; expected 2 rows or "
            "more"
        )
    if form not in ("ulip", "printed"):
        raise ConfigError(f"mmcl: form '{form}' is unknown; it is 'ulip' or 'printed'")
    cloud, image, text = (_unit(x) for x in (cloud, image, text))
    with_image = jnp.matmul(cloud, image.T, precision="highest")
    with_text = jnp.matmul(cloud, text.T, precision="highest")
    diagonal = jnp.arange(len(cloud))
    metrics = {
        "cloud_image_acc": jnp.mean(with_image.argmax(1) == diagonal, dtype=jnp.float32),
        "cloud_text_acc": jnp.mean(with_text.argmax(1) == diagonal, dtype=jnp.float32),
    }
    if form == "printed":
        return (_cross_entropy(with_image).sum() + _cross_entropy(with_text.T).sum()) / 2, metrics
    scale = jnp.exp(log_scale)
    pairs = [
        _cross_entropy(scale * s).mean() + _cross_entropy(scale * s.T).mean()
        for s in (with_image, with_text)
    ]
    return (pairs[0] + pairs[1]) / 2, metrics


def _unit(x: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Rows of length 1; a row of zeros stays one, and its gradient is finite."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(jnp.square(x), -1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squared, 1e-24))


def _cross_entropy(logits: Float[Array, "B B"]) -> Float[Array, " B"]:
    """Of every row, with its diagonal entry as the target."""
    return row_losses(logits, jnp.arange(len(logits)))
