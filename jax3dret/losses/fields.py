"""What fitting a field minimises, for each implicit function."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError, nearest

Clamp = float | None


def sdf(values: Float[Array, "*B P"], truth: Float[Array, "*B P"]) -> Float[Array, "*B"]:
    """Mean squared error over the points (NGLOD; Kaolin Wisp: summed, over the batch size)."""
    return jnp.mean(jnp.square(values - truth), -1)


def udf(
    values: Float[Array, "*B P"], truth: Float[Array, "*B P"], clamp: Clamp = 0.1
) -> Float[Array, "*B"]:
    """Mean over the points of |min(value, clamp) - min(truth, clamp)| (NDF, Chibane et al. 2020).

    A distance is not negative, the value of an untrained network may be: it is taken as it is.
    clamp: distance up to which a shape is learned; None for the plain absolute error. A value and a
    truth beyond it cost nothing and have no gradient.
    """
    if clamp is not None:
        values, truth = jnp.minimum(values, clamp), jnp.minimum(truth, clamp)
    return jnp.mean(jnp.abs(values - truth), -1)


def occ(values: Float[Array, "*B P"], truth: Float[Array, "*B P"]) -> Float[Array, "*B"]:
    """Mean absolute error over the points; the truth is -1 inside and 1 outside, without clamp or
    sigmoid (INRet, section 3)."""
    return jnp.mean(jnp.abs(values - truth), -1)


def loss(
    function: Literal["sdf", "udf", "occ"],
    values: Float[Array, "*B P"],
    truth: Float[Array, "*B P"],
    clamp: Clamp = 0.1,
) -> Float[Array, "*B"]:
    """The loss of an implicit function; clamp is the UDF's alone. Raises ConfigError for another
    function.
    """
    if function == "udf":
        return udf(values, truth, clamp)
    losses = {"sdf": sdf, "occ": occ}
    if function not in losses:
        raise ConfigError(
            f"there is no implicit function '{function}'{nearest(function, ('udf', *losses))}; "
            "there are: sdf, udf, occ"
        )
    return losses[function](values, truth)
