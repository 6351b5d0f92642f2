"""AM-Softmax against its equation, and against what it is most easily mistaken for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from on_device import on_device

from jax3dret.core.types import ConfigError
from jax3dret.losses import am_softmax as module

am_softmax, cosines = on_device(module.am_softmax), on_device(module.cosines)

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(6, 5)).astype(np.float32) * 3
WEIGHT = RNG.normal(size=(5, 4)).astype(np.float32) * 2
LABELS = np.array([0, 3, 1, 1, 2, 0])


@jax.jit
def loss_and_gradients(rows, weight, labels, mask):
    """Gradients by rows and weight."""
    return jax.value_and_grad(lambda f, w: am_softmax(cosines(f, w), labels, mask=mask), (0, 1))(
        rows, weight
    )


def angles():
    """Row by row, class by class."""
    return np.array(
        [
            [f @ w / np.sqrt(f @ f) / np.sqrt(w @ w) for w in WEIGHT.T.astype(float)]
            for f in ROWS.astype(float)
        ]
    )


def literal(angle, labels, t=15.0, m=0.3):
    total = 0.0
    for row, y in zip(angle, labels, strict=True):
        right = np.exp(t * (row[y] - m))
        total -= np.log(
            right / (right + sum(np.exp(t * row[c]) for c in range(len(row)) if c != y))
        )
    return total / len(labels)


def test_equals_the_equation_and_nothing_like_it():
    np.testing.assert_allclose(cosines(ROWS, WEIGHT), angles(), rtol=0, atol=1e-6)
    angle = angles()
    for options in ({}, {"t": 30.0, "m": 0.35}):
        names = {"t": "scale", "m": "margin"}
        found = float(am_softmax(angle, LABELS, **{names[k]: v for k, v in options.items()}))
        np.testing.assert_allclose(found, literal(angle, LABELS, **options), rtol=1e-5)
    right = literal(angle, LABELS)
    onehot = np.eye(4)[LABELS]
    wrong = {
        "margin not scaled": am_softmax(angle + 0.3 * onehot * (1 - 1 / 15), LABELS),
        "margin added": am_softmax(angle + 0.6 * onehot, LABELS),
        "margin at the others too": am_softmax(angle - 0.3 * (1 - onehot), LABELS),
        "margin on the angle": am_softmax(
            np.cos(np.arccos(angle) + 0.3 * onehot) + 0.3 * onehot, LABELS
        ),
        "the right class not in the sum": right
        + np.mean(
            [np.log(1 - np.exp(-literal(angle[i : i + 1], LABELS[i : i + 1]))) for i in range(6)]
        ),
        "weight not at length 1": am_softmax(
            ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True) @ WEIGHT, LABELS
        ),
        "weight by rows": am_softmax(
            cosines(ROWS, WEIGHT / np.linalg.norm(WEIGHT, axis=1, keepdims=True)), LABELS
        ),
        "summed": right * 6,
    }
    for name, other in wrong.items():
        assert abs(float(other) - right) > 1e-2, name


def test_smoothing_is_that_of_the_logits():
    angle, onehot = angles(), np.eye(4)[LABELS]
    logits = 15 * (angle - 0.3 * onehot)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -((0.9 * onehot + 0.1 / 4) * log_p).sum(1).mean()
    np.testing.assert_allclose(am_softmax(angle, LABELS, smoothing=0.1), expected, rtol=1e-5)


def test_mask_and_adversarial_rows():
    everyone = np.ones(6, bool)
    some = np.array([True, True, False, True, False, True])
    rows, labels = ROWS.copy(), LABELS.copy()
    rows[2], labels[4] = 1e30, -1
    value, (by_rows, by_weight) = loss_and_gradients(rows, WEIGHT, labels, some)
    np.testing.assert_allclose(value, literal(angles()[some], LABELS[some]), rtol=1e-5)
    assert not np.any(by_rows[~some]) and np.isfinite(by_weight).all()
    # Rows and classes without a direction: cosine 0, finite gradients.
    rows, weight = ROWS.copy(), WEIGHT.copy()
    rows[0], weight[:, 1] = 0, 0
    value, gradients = loss_and_gradients(rows, weight, LABELS, everyone)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradients)
    np.testing.assert_array_equal(cosines(rows, weight)[0], np.zeros(4))
    assert loss_and_gradients(ROWS, WEIGHT, LABELS, np.zeros(6, bool))[0] == 0
    assert np.isnan(loss_and_gradients(ROWS, WEIGHT, np.array([0, 3, 1, 1, 2, 4]), everyone)[0])


def test_one_class():
    assert am_softmax(cosines(ROWS, WEIGHT[:, :1]), np.zeros(6, int)) == 0


def test_bfloat16_is_computed_in_float32():
    rows = jnp.asarray(ROWS, jnp.bfloat16)
    found = cosines(rows, WEIGHT)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, cosines(rows.astype(jnp.float32), WEIGHT))


def test_errors(unchecked):
    with pytest.raises(ConfigError, match=r"expected \[B, D\] and \[D, C\]"):
        cosines(ROWS, WEIGHT.T)
    with pytest.raises(ConfigError, match=r"am_softmax: cosines \(6, 4\), labels \(5,\)"):
        am_softmax(np.zeros((6, 4)), LABELS[:5])
    with pytest.raises(ConfigError, match="scale=0"):
        am_softmax(np.zeros((6, 4)), LABELS, scale=0.0)


def test_a_loss_that_is_nearly_nothing_keeps_its_digits():
    """Rows that point at their own class, and away from the two others."""
    angle = np.array([[0.99, -0.7, -0.65], [-0.8, 0.95, -0.7]], np.float32)
    found = am_softmax(angle, np.array([0, 1]), scale=20.0, margin=0.35)
    logits = 20 * (angle.astype(float) - 0.35 * np.eye(2, 3))
    others = [np.delete(row, i) - row[i] for i, row in enumerate(logits)]
    right = np.mean([np.log1p(np.exp(d).sum()) for d in others])
    assert right < 1e-10
    np.testing.assert_allclose(found, right, rtol=1e-4)
