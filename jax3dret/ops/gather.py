"""Rows of each cloud by index."""

from __future__ import annotations

import math

import jax
from jaxtyping import Array, Int, Num

from jax3dret.core.types import ConfigError


def gather(values: Num[Array, "B N D"], indices: Int[Array, "B ..."]) -> Num[Array, "B ... D"]:
    """values[b, indices[b, ...]] for every cloud b.

    Differentiable in `values` (the gradient of a row that was taken twice is the sum). Indices must
    lie in 0..N-1, as the other operations of this package return them; under jit an index outside
    cannot be reported and is clamped.

    Raises ConfigError if the batch sizes differ.
    """
    if values.ndim != 3 or indices.ndim < 1 or values.shape[0] != indices.shape[0]:
        raise ConfigError(
            f"gather: values {values.shape} and indices {indices.shape}; expected [B, N, D] and "
            "[B, ...]"
        )
    flat = indices.reshape(indices.shape[0], math.prod(indices.shape[1:]))
    rows = jax.vmap(
        lambda cloud, index: cloud.at[index].get(mode="clip", wrap_negative_indices=False)
    )(values, flat)
    return rows.reshape(*indices.shape, values.shape[-1])
