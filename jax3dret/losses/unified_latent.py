"""INRet's unified latent space: the implicit functions of a shape are drawn to one embedding."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError, nearest

Norm = Literal["l1", "l2"]
Reduction = Literal["mean", "sum"]


def reconstruction(
    values: Float[Array, "*K B P"],
    truth: Float[Array, "B P"],
    *,
    norm: Norm = "l1",
    clamp: float | None = 0.1,
) -> Float[Array, "*K B"]:
    """Mean over the points of |value - truth| or its square, for each embedding of each shape.

    INRet, equation 4, first term: the truth is the unsigned distance, whatever function the
    embedding was made of. clamp: both are cut to at most that, as in the fit of a UDF; None: they
    are not (for a decoder of signed distances or occupancies). Raises ConfigError for another norm.
    """
    _check("norm", norm, ("l1", "l2"))
    if clamp is not None:
        values, truth = jnp.minimum(values, clamp), jnp.minimum(truth, clamp)
    off = values - truth.reshape((1,) * (values.ndim - 2) + truth.shape)
    return jnp.mean(jnp.abs(off) if norm == "l1" else jnp.square(off), -1)


def alignment(
    embeddings: Mapping[str, Float[Array, "B D"]],
    *,
    weights: Mapping[tuple[str, str], float] | None = None,
    reduction: Reduction = "mean",
) -> Float[Array, ""]:
    """The sum over all pairs of embeddings of the same shapes of w ||e_i - e_j||^2.

    INRet, equation 4, second term. weights: of a pair, in either order; 1 where none is given.
    reduction: over the width, the batch is always averaged; the paper's formula is the sum, the
    mean is how such a term is usually written (a choice). Raises ConfigError for another reduction.
    """
    _check("reduction", reduction, ("mean", "sum"))
    weights = weights or {}
    total = jnp.zeros(())
    for one, other in itertools.combinations(embeddings, 2):
        weight = weights.get((one, other), weights.get((other, one), 1.0))
        squared = jnp.square(embeddings[one] - embeddings[other])
        of_shape = squared.mean(-1) if reduction == "mean" else squared.sum(-1)
        total = total + weight * of_shape.mean()
    return total


def _check(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"{key}='{value}'{nearest(value, known)}; expected one of {', '.join(known)}"
        )
