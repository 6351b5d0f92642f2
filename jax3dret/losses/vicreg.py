"""VICReg: two views of a shape should agree, every dimension should vary, and no two dimensions
should say the same.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError


def vicreg(
    za: Float[Array, "B D"],
    zb: Float[Array, "B D"],
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted sum of the three terms, and the terms themselves without their weights.

    za, zb: projector outputs of two views of the same B shapes, row by row.

    invariance  mean over B and D of (za - zb)^2
    variance    for each view, half the mean over D of max(0, 1 - sqrt(Var_d + eps)), Var_d unbiased (divided by B - 1);
                the views are summed
    covariance  for each view, the sum of the squared off-diagonal entries of Cov, divided by D; Cov = zc^T zc / (B - 1)
                with zc centred over the batch; the views are summed, not averaged

    Bardes, Ponce, LeCun, "VICReg", ICLR 2022, equations 1 to 6, with the scales of its published
    code: there the variance terms are halved and the invariance is divided by D. The retrieval
    paper prints the covariance without 1/D and without eps; weights of 25, 25 and 1 belong to the
    form here.

    The loss mixes the rows of the batch, so the mean over micro-batches is a different loss. A
    value that is not finite makes the loss not finite. Raises ConfigError if the shapes differ or
    are not [B, D], or if B < 2 (no variance then).
    """
    if za.ndim != 2 or za.shape != zb.shape:
        raise ConfigError(
            f"vicreg: views of shapes {za.shape} and {zb.shape}; expected two of the same [B, D]"
        )
    if za.shape[0] < 2:
        raise ConfigError(
            f"vicreg: a batch of shape {za.shape} has no variance; expected 2 rows or more"
        )
    za, zb = za.astype(jnp.float32), zb.astype(jnp.float32)
    terms = {
        "invariance": jnp.mean(jnp.square(za - zb)),
        "variance": _hinge(za, eps) + _hinge(zb, eps),
        "covariance": _redundancy(za) + _redundancy(zb),
    }
    total = (
        invariance * terms["invariance"]
        + variance * terms["variance"]
        + covariance * terms["covariance"]
    )
    return total, terms


def _hinge(z: Float[Array, "B D"], eps: float) -> Float[Array, ""]:
    """How far the standard deviations stay below 1, halved."""
    deviation = jnp.sqrt(jnp.var(z, axis=0, ddof=1) + eps)
    return jnp.mean(jnp.maximum(0.0, 1.0 - deviation)) / 2


def _redundancy(z: Float[Array, "B D"]) -> Float[Array, ""]:
    """Sum of the squared covariances between different dimensions, per dimension."""
    rows, width = z.shape
    centred = z - z.mean(axis=0, keepdims=True)
    cov = jnp.matmul(centred.T, centred, precision="highest") / (rows - 1)
    return jnp.sum(jnp.where(jnp.eye(width, dtype=bool), 0.0, jnp.square(cov))) / width
