"""Pictures among the names of classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.conse import class_names, conse

LOGITS = jnp.asarray([[2.0, 0.0, -1.0, 1.0], [900.0, 0.0, 0.0, -900.0]])
WORDS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x)


def test_all_classes_and_the_likeliest():
    e = np.exp([2.0, 0.0, -1.0, 1.0])
    p = e / e.sum()
    np.testing.assert_allclose(conse(LOGITS, WORDS)[0], unit(p @ WORDS), rtol=1e-5)
    # Weighted by p, not by the logits and not evenly; of the two likeliest alone.
    two = (p[0] * WORDS[0] + p[3] * WORDS[3]) / (p[0] + p[3])
    np.testing.assert_allclose(conse(LOGITS, WORDS, 2)[0], unit(two), rtol=1e-5)
    for top in (0, 1, 4):
        np.testing.assert_allclose(conse(LOGITS, WORDS, top)[1], unit(WORDS[0]), rtol=1e-5)
    np.testing.assert_allclose(conse(LOGITS, WORDS, 4), conse(LOGITS, WORDS), rtol=1e-5)


def test_nan_and_words_that_cancel():
    spoilt = np.asarray(conse(LOGITS.at[0, 1].set(jnp.nan), WORDS))
    assert np.isnan(spoilt[0]).all() and np.isfinite(spoilt[1]).all()
    even = conse(jnp.zeros((1, 2)), jnp.asarray([[1.0, 0.0], [-1.0, 0.0]]))
    np.testing.assert_array_equal(even, [[0, 0]])
    for top in (-1, 5):
        with pytest.raises(ConfigError, match="0 for all"):
            jax.eval_shape(lambda logits, top=top: conse(logits, WORDS, top), LOGITS)


def test_names_of_the_classes():
    names = class_names()
    assert len(names) == len(set(names)) == 1000
    assert [names[i] for i in (0, 1, 134, 392, 517, 559, 765, 999)] == [
        "tench",
        "goldfish",
        "crane bird",
        "rock beauty",
        "crane machine",
        "folding chair",
        "rocking chair",
        "toilet tissue",
    ]
