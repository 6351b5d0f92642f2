"""The classifier of frozen embeddings: what it learns, that it repeats, what it refuses."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.tasks.inret.embedding_classifier import ClassifierSpec, _held_out, train_classifier

SPEC = ClassifierSpec((16,), 0.2, learning_rate=0.02, epochs=25, batch=32)


def embeddings(seed, count=60, classes=3, width=8):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, width)) * 2
    return (centres[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


def test_it_learns_and_repeats():
    x, labels = embeddings(0)
    logits = train_classifier(x, labels, 3, spec=SPEC, seed=1)
    test, of_test = embeddings(1)
    assert (logits(test).argmax(1) == of_test).mean() > 0.9
    assert logits(test).shape == (60, 3)
    again = train_classifier(x, labels, 3, spec=SPEC, seed=1)
    np.testing.assert_array_equal(again(test), logits(test))
    # An embedding's class does not hang on the others that it is asked with.
    np.testing.assert_allclose(logits(test[:1]), logits(test)[:1], atol=1e-5)


def test_what_is_held_out():
    labels = np.array([0] * 30 + [1] * 4 + [2])
    held = _held_out(labels, 0.1, 0)
    assert [held[labels == c].sum() for c in range(3)] == [3, 1, 0]
    assert not _held_out(labels, 0.0, 0).any()
    assert (_held_out(labels, 0.1, 1) != held).any()
    assert _held_out(labels, 0.99, 0)[30:34].sum() == 3  # one of each class stays


def test_what_it_refuses():
    x, labels = embeddings(0, 8, 2)
    with pytest.raises(ConfigError, match="batch=1"):
        train_classifier(x, labels, 2, spec=ClassifierSpec(batch=1))
    with pytest.raises(DataError, match="8 embeddings of 1 classes"):
        train_classifier(x, labels * 0, 2)
    with pytest.raises(DataError, match="outside of the 1 classes"):
        train_classifier(x, labels, 1)
    x[5, 1] = np.nan
    with pytest.raises(DataError, match="embedding 5 is not finite"):
        train_classifier(x, labels, 2)
