"""Reference values are NumPy, the functions under test take JAX arrays; what is jitted converts by
itself.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def on_device(function):
    """The function, for NumPy arguments as well: each is made a JAX array before the call."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        args, kwargs = jax.tree.map(
            lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, (args, kwargs)
        )
        return function(*args, **kwargs)

    return call
