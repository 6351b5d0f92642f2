"""Adam (Kingma and Ba 2015) with the arithmetic of PyTorch, over leaves that hold many shapes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jax3dret.core.types import PyTree


class Rates(NamedTuple):
    """What the bias corrections make of the learning rate, for the steps 1 .. T at index 0 .. T -
    1, and the decays."""

    size: Float[jax.Array, " T"]  # learning rate / (1 - beta1^t)
    root: Float[jax.Array, " T"]  # sqrt(1 - beta2^t)
    beta1: float
    beta2: float
    eps: float


def rates(steps: int, learning_rate: float, betas: tuple[float, float], eps: float) -> Rates:
    """Computed in double precision, as PyTorch does."""
    t = np.arange(1, steps + 1)
    size = learning_rate / (1 - betas[0] ** t)
    root = np.sqrt(1 - betas[1] ** t)
    return Rates(jnp.asarray(size, jnp.float32), jnp.asarray(root, jnp.float32), *betas, eps)


def moved(
    value: jax.Array,
    first: jax.Array,
    second: jax.Array,
    gradient: jax.Array,
    rates: Rates,
    step: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Value and moments after step number `step`, counted from 0."""
    first = first + (1 - rates.beta1) * (gradient - first)
    second = rates.beta2 * second + (1 - rates.beta2) * jnp.square(gradient)
    scale = jnp.sqrt(second) / rates.root[step] + rates.eps
    return value - rates.size[step] * (first / scale), first, second


def tree_moved(
    values: PyTree, moments: PyTree, gradients: PyTree, rates: Rates, step: jax.Array
) -> tuple[PyTree, PyTree]:
    """Values and (first, second) moments after a step, leaf by leaf."""
    three = jax.tree.map(
        lambda value, first, second, gradient: moved(value, first, second, gradient, rates, step),
        values,
        *moments,
        gradients,
    )
    value, first, second = (
        jax.tree.map(lambda leaf, i=i: leaf[i], three, is_leaf=lambda x: isinstance(x, tuple))
        for i in range(3)
    )
    return value, (first, second)
