"""Parameters and states drawn with NumPy, for tests that need some values and not those that
training begins with: there is nothing to compile, which for a small network takes longer than its
train step.
"""

import jax
import numpy as np

from jax3dret.core import sharding, train
from jax3dret.core.types import TrainState


def arrays(abstract, seed=0):
    """Arrays of these shapes and dtypes: of the size that keeps activations near 1; vectors are
    positive, as variances must be."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        if leaf.ndim < 2:
            return rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
        inputs = max(np.prod(leaf.shape[:-1]), 1)
        return (rng.normal(size=leaf.shape) / np.sqrt(inputs)).astype(leaf.dtype)

    return jax.tree.map(draw, abstract)


def state(recipe):
    """A TrainState before its first step."""
    abstract = train.abstract_state(recipe, 0)
    params, model_state = arrays((abstract.params, abstract.model_state))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
    return TrainState(zeros.step, params, model_state, zeros.opt_state)


def sharded_state(recipe, mesh):
    """The same over a mesh of one process or of several, and its shardings."""
    shardings = sharding.state_shardings(train.abstract_state(recipe, 0), recipe.sharding, mesh)

    def place(array, where):
        return jax.make_array_from_callback(array.shape, where, lambda index: array[index])

    return jax.tree.map(place, state(recipe), shardings), shardings
