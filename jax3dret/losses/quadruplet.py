"""Quadruplet loss: a sketch is nearer to a shape of its class than to one of another class, and
than to another sketch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax3dret.core.types import ConfigError

Metric = Literal["unit_euclidean", "euclidean", "unit_squared", "cosine"]


def quadruplet(
    anchor: Float[Array, "B D"],
    positive: Float[Array, "B D"],
    negative: Float[Array, "B D"],
    other_negative: Float[Array, "B D"],
    *,
    margin: float = 1.0,
    metric: Metric = "unit_euclidean",
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Mean over the valid rows of relu(margin + d(a, p) - d(a, n)) + relu(margin + d(a, p) - d(a,
    o)).

    "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
    2604.18019, equation 14: anchor sketch a, shape p of its class, shape n and sketch o of other
    classes, all outputs of the encoders. The metric is not stated:

    "unit_euclidean"  distance of the vectors at length 1: the order is that of the cosine, by which retrieval ranks
    "euclidean"       distance as they are
    "unit_squared"    the square of the first, 2 - 2 cosine
    "cosine"          1 - cosine

    mask: False marks rows that do not count; what they hold has no effect, and with no valid row
    the loss is 0. Equal vectors and vectors of zeros have a finite gradient. Raises ConfigError for
    shapes that differ or an unknown metric.
    """
    vectors = (anchor, positive, negative, other_negative)
    if anchor.ndim != 2 or any(x.shape != anchor.shape for x in vectors):
        raise ConfigError(
            f"quadruplet: {', '.join(str(x.shape) for x in vectors)}; expected four of the same "
            "[B, D]"
        )
    if mask is not None and mask.shape != anchor.shape[:1]:
        raise ConfigError(
            f"quadruplet: mask {mask.shape} for rows {anchor.shape}; expected [B] and [B, D]"
        )
    if metric not in DISTANCES:
        raise ConfigError(
            f"quadruplet: metric '{metric}'; expected one of {', '.join(get_args(Metric))}"
        )
    valid = jnp.ones(len(anchor), bool) if mask is None else mask
    # Before anything is computed: a NaN that is not selected afterwards would still reach the
    # gradient.
    a, p, n, o = (jnp.where(valid[:, None], x.astype(jnp.float32), 0.0) for x in vectors)
    distance = DISTANCES[metric]
    near = distance(a, p)
    rows = jnp.maximum(margin + near - distance(a, n), 0.0) + jnp.maximum(
        margin + near - distance(a, o), 0.0
    )
    return jnp.sum(jnp.where(valid, rows, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def _unit(x: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Rows of length 1; a row of zeros stays one, and its gradient is finite."""
    return x / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x), -1, keepdims=True), 1e-24))


def _squared(x: Float[Array, "B D"], y: Float[Array, "B D"]) -> Float[Array, " B"]:
    return jnp.sum(jnp.square(x - y), -1)


def _euclidean(x: Float[Array, "B D"], y: Float[Array, "B D"]) -> Float[Array, " B"]:
    """At least 1e-6: the gradient of a root at 0 is not finite."""
    return jnp.sqrt(jnp.maximum(_squared(x, y), 1e-12))


DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "unit_euclidean": lambda x, y: _euclidean(_unit(x), _unit(y)),
    "euclidean": _euclidean,
    "unit_squared": lambda x, y: _squared(_unit(x), _unit(y)),
    "cosine": lambda x, y: 1 - jnp.sum(_unit(x) * _unit(y), -1),
}
