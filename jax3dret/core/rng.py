"""Random streams by name: one seed, and every consumer draws from a stream of its own.

A stream depends on (seed, name, step) alone. Adding a consumer, or drawing more from one, leaves
all others as they were, and a resumed run draws what the uninterrupted run would have drawn. Names
become numbers by CRC-32 (`hash` differs between processes).
"""

from __future__ import annotations

import operator
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, Key

from jax3dret.core.types import ConfigError

_WORD = 1 << 32


def stream(
    seed_or_key: int | np.integer | Key[Array, ""] | Integer[Array, ""],
    name: str,
    step: int | np.integer | Integer[Array, ""] | None = None,
) -> Key[Array, ""]:
    """The typed key of a named stream, at `step` if one is given. May be called under `jit` with a
    traced key or step.

    A stream can be split further: `stream(stream(seed, "train"), "dropout", step)`. The key without
    a step differs from the key of every step.

    Args:
        seed_or_key: an integer in [0, 2**32), or a typed key (`jax.random.key`).
        name: what the stream is for.
        step: a number in [0, 2**32).

    Raises:
        ConfigError: seed or step out of range, or a raw uint32[2] key.
    """
    key = jax.random.fold_in(_key(seed_or_key), _word(name))
    if step is None:
        return key
    if not isinstance(step, jax.Array):
        step = _in_range(step, _WORD, f"step of stream '{name}'")
    return jax.random.fold_in(key, jnp.asarray(step, jnp.uint32))


def host_generator(
    seed: int | np.integer, name: str, *indices: int | np.integer
) -> np.random.Generator:
    """A NumPy generator for (seed, name, indices), such as (seed, "augment", epoch, row).

    Every index is written as two 32-bit words after the number of indices, because `SeedSequence`
    pads with zeros: its entropies [1] and [1, 0] are one and the same.

    Raises:
        ConfigError: seed or an index is not an integer in [0, 2**64).
    """
    entropy = [int(_word(name)), len(indices)]
    for number in (seed, *indices):
        value = _in_range(number, _WORD**2, f"seed or index of stream '{name}'")
        entropy += [value % _WORD, value // _WORD]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _word(name: str) -> np.uint32:
    return np.uint32(zlib.crc32(name.encode()))


def _key(seed_or_key: int | np.integer | Array) -> Key[Array, ""]:
    if not isinstance(seed_or_key, jax.Array):
        # jax.random.key keeps the lower 32 bits only, so that 2**32 would be the same seed as 0.
        return jax.random.key(_in_range(seed_or_key, _WORD, "seed"))
    if jnp.issubdtype(seed_or_key.dtype, jax.dtypes.prng_key):
        return seed_or_key
    if seed_or_key.ndim or not jnp.issubdtype(seed_or_key.dtype, jnp.integer):
        raise ConfigError(
            f"a random stream starts from an integer seed or a typed key (jax.random.key), "
            f"not from {seed_or_key.dtype}{list(seed_or_key.shape)}"
        )
    return jax.random.key(seed_or_key)


def _in_range(value: int | np.integer, limit: int, what: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < limit:
        raise ConfigError(
            f"{what} is {value!r}; give an integer in [0, 2**{limit.bit_length() - 1})"
        )
    return number
