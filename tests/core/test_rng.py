"""Named random streams: independent, reproducible, traceable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.rng import host_generator, stream
from jax3dret.core.types import ConfigError


def words(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_names_steps_and_seeds_give_different_keys():
    keys = [
        stream(seed, name, step)
        for seed in (0, 1)
        for name in ("dropout", "fps", "")
        for step in (None, 0, 1, 2**31)
    ]
    assert len({words(key) for key in keys}) == len(keys)


def test_a_stream_is_a_function_of_its_arguments_alone():
    first = words(stream(7, "dropout", 5))
    stream(7, "fps", 5), stream(7, "dropout", 4)
    assert words(stream(7, "dropout", 5)) == first == words(stream(jax.random.key(7), "dropout", 5))
    # CRC-32 of "123456789" is the published check value of the algorithm.
    assert words(stream(0, "123456789")) == words(
        jax.random.fold_in(jax.random.key(0), np.uint32(0xCBF43926))
    )


def test_traced_key_seed_and_step():
    traced = jax.jit(lambda key, step: stream(key, "dropout", step))(
        jax.random.key(3), jnp.int32(11)
    )
    seeded = jax.jit(lambda seed: stream(seed, "dropout", 11))(3)
    assert (
        words(traced)
        == words(seeded)
        == words(stream(3, "dropout", 11))
        == words(stream(np.int64(3), "dropout", np.int32(11)))
    )
    many = jax.vmap(lambda step: stream(3, "dropout", step))(jnp.arange(20))
    assert [words(key) for key in many] == [words(stream(3, "dropout", step)) for step in range(20)]
    assert jnp.issubdtype(traced.dtype, jax.dtypes.prng_key)


def test_draws_of_two_streams_are_uncorrelated():
    a, b = (jax.random.normal(stream(0, name), (20000,)) for name in ("a", "b"))
    assert abs(float(jnp.mean(a * b))) < 0.03


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "0", None])
def test_a_seed_that_jax_would_wrap_is_refused(unchecked, seed):
    with pytest.raises(ConfigError, match="seed"):
        stream(seed, "a")


def test_bad_step_and_raw_key(unchecked):
    with pytest.raises(ConfigError, match="step of stream 'a' is -1"):
        stream(0, "a", -1)
    with pytest.raises(ConfigError, match="typed key"):
        stream(jax.random.PRNGKey(0), "a")


def test_host_generator_tells_zero_padded_indices_apart():
    calls = [
        (0, "a"),
        (0, "a", 0),
        (0, "a", 0, 0),
        (0, "b"),
        (1, "a"),
        (0, "a", 1),
        (0, "a", 1, 0),
        (0, "a", 2**32),
        (0, "a", 0, 1),
    ]
    draws = [host_generator(*call).integers(2**63) for call in calls]
    assert len(set(draws)) == len(calls)
    assert host_generator(0, "a", np.int64(1)).integers(2**63) == draws[5]
    # The trap that the layout avoids.
    assert (
        np.random.SeedSequence([1]).generate_state(2)
        == np.random.SeedSequence([1, 0]).generate_state(2)
    ).all()


@pytest.mark.parametrize("indices", [(-1,), (2**64,), (0.5,)])
def test_host_generator_refuses_bad_indices(unchecked, indices):
    with pytest.raises(ConfigError, match="index"):
        host_generator(0, "a", *indices)
