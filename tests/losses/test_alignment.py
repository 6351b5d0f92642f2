"""Semantic alignment against its equation, and against what it is most easily mistaken for."""

import jax
import numpy as np
import pytest
from on_device import on_device

from jax3dret.core.types import ConfigError
from jax3dret.losses import alignment

semantic_alignment = on_device(alignment.semantic_alignment)

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(6, 5)).astype(np.float32) * 3
PROTOTYPES = RNG.normal(size=(4, 5)).astype(np.float32) * 2
LABELS = np.array([0, 3, 1, 1, 2, 0])


@jax.jit
def loss_and_gradients(rows, prototypes, labels, mask):
    """Gradients by rows and prototypes."""
    return jax.value_and_grad(lambda p, w: semantic_alignment(p, labels, w, mask=mask), (0, 1))(
        rows, prototypes
    )


def literal(rows, labels, prototypes, scale=1 / 0.07, unit=(True, True)):
    total = 0.0
    for row, y in zip(rows.astype(float), labels, strict=True):
        row = row / np.sqrt(row @ row) if unit[0] else row
        vectors = [w / np.sqrt(w @ w) if unit[1] else w for w in prototypes.astype(float)]
        weights = [np.exp(scale * (row @ w)) for w in vectors]
        total -= np.log(weights[y] / sum(weights))
    return total / len(labels)


def test_equals_the_equation_and_nothing_like_it():
    found = loss_and_gradients(ROWS, PROTOTYPES, LABELS, np.ones(6, bool))[0]
    np.testing.assert_allclose(found, literal(ROWS, LABELS, PROTOTYPES), rtol=1e-5)
    np.testing.assert_allclose(
        semantic_alignment(ROWS, LABELS, PROTOTYPES, temperature=0.5),
        literal(ROWS, LABELS, PROTOTYPES, 2),
        rtol=1e-5,
    )
    wrong = {
        "multiplied by the temperature": literal(ROWS, LABELS, PROTOTYPES, 0.07),
        "features as they are": literal(ROWS, LABELS, PROTOTYPES, unit=(False, True)),
        "prototypes as they are": literal(ROWS, LABELS, PROTOTYPES, unit=(True, False)),
        "prototypes among the batch": literal(ROWS, np.arange(6), PROTOTYPES[LABELS]),
        "summed": 6 * literal(ROWS, LABELS, PROTOTYPES),
    }
    for name, other in wrong.items():
        assert abs(other - found) > 1e-2, name


def test_learned_prototypes_get_a_gradient():
    """Pulled to the features of their class; a step down lowers the loss."""
    value, (_, gradient) = loss_and_gradients(ROWS, PROTOTYPES, LABELS, np.ones(6, bool))
    after = loss_and_gradients(ROWS, PROTOTYPES - 0.01 * gradient, LABELS, np.ones(6, bool))[0]
    assert np.abs(gradient).max() > 1e-2 and after < value


def test_mask_and_adversarial_rows():
    some = np.array([True, True, False, True, False, True])
    rows, labels = ROWS.copy(), LABELS.copy()
    rows[2], rows[4], labels[4] = np.nan, np.inf, -1
    found = loss_and_gradients(rows, PROTOTYPES, labels, some)
    np.testing.assert_allclose(found[0], literal(ROWS[some], LABELS[some], PROTOTYPES), rtol=1e-5)
    clean = loss_and_gradients(ROWS, PROTOTYPES, LABELS, some)
    for one, other in zip(found[1], clean[1], strict=True):
        np.testing.assert_array_equal(one, other)
    rows, prototypes = ROWS.copy(), PROTOTYPES.copy()
    rows[0], prototypes[3] = 0, 0
    value, gradients = loss_and_gradients(rows, prototypes, LABELS, np.ones(6, bool))
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradients)
    assert loss_and_gradients(ROWS, PROTOTYPES, LABELS, np.zeros(6, bool))[0] == 0
    # A class that is not in the bank, say an unseen one.
    assert np.isnan(
        loss_and_gradients(ROWS, PROTOTYPES, np.array([0, 3, 1, 1, 2, 4]), np.ones(6, bool))[0]
    )
    assert semantic_alignment(ROWS, np.zeros(6, int), PROTOTYPES[:1]) == 0


def test_errors(unchecked):
    with pytest.raises(ConfigError, match=r"expected \[B, D\], \[B\] and \[C, D\]"):
        semantic_alignment(ROWS, LABELS, PROTOTYPES.T)
    with pytest.raises(ConfigError, match="temperature=0"):
        semantic_alignment(ROWS, LABELS, PROTOTYPES, temperature=0.0)
