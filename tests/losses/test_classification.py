"""Cross-entropy against the definition, with smoothing and with rows that do not count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from on_device import on_device

from jax3dret.core.types import ConfigError
from jax3dret.losses import classification

cross_entropy = on_device(classification.cross_entropy)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 4)).astype(np.float32) * 3
LABELS = np.array([0, 3, 1, 1, 2])


def literal(logits, labels, smoothing=0.0):
    rows = []
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        log_p = row - np.log(np.exp(row).sum())
        q = np.full(len(row), smoothing / len(row))
        q[label] += 1 - smoothing
        rows.append(-(q * log_p).sum())
    return np.array(rows)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_equals_the_definition(smoothing):
    got = jax.jit(lambda x, y: cross_entropy(x, y, smoothing=smoothing))(LOGITS, LABELS)
    np.testing.assert_allclose(got, literal(LOGITS, LABELS, smoothing).mean(), rtol=1e-6)


def test_smoothing_spreads_over_all_classes():
    right = cross_entropy(LOGITS, LABELS, smoothing=0.3)
    others_only = 0.7 * literal(LOGITS, LABELS) + 0.3 * np.array(
        [
            np.mean([literal(LOGITS[i : i + 1], [c])[0] for c in range(4) if c != LABELS[i]])
            for i in range(5)
        ]
    )
    assert abs(right - others_only.mean()) > 1e-2


def test_mean_over_the_valid_rows_alone():
    mask = np.array([True, False, True, True, False])
    got = cross_entropy(LOGITS, LABELS, mask=jnp.asarray(mask))
    np.testing.assert_allclose(got, literal(LOGITS, LABELS)[mask].mean(), rtol=1e-6)
    assert abs(got - literal(LOGITS, LABELS)[mask].sum() / 5) > 1e-2


def test_what_masked_rows_hold_has_no_effect():
    logits, labels = LOGITS.copy(), LABELS.copy()
    logits[1], logits[4], labels[1], labels[4] = np.nan, np.inf, -1, 99
    mask = jnp.asarray([True, False, True, True, False])
    for smoothing in (0.0, 0.2):
        value, gradient = jax.value_and_grad(
            lambda x, s=smoothing: cross_entropy(x, labels, smoothing=s, mask=mask)
        )(jnp.asarray(logits))
        clean, expected = jax.value_and_grad(
            lambda x, s=smoothing: cross_entropy(x, LABELS, smoothing=s, mask=mask)
        )(jnp.asarray(LOGITS))
        np.testing.assert_array_equal(value, clean)
        np.testing.assert_array_equal(gradient, expected)
        assert (gradient[1] == 0).all() and (gradient[4] == 0).all()


def test_no_valid_row_gives_zero():
    value, gradient = jax.value_and_grad(
        lambda x: cross_entropy(x, LABELS, mask=jnp.zeros(5, bool))
    )(jnp.asarray(LOGITS))
    assert value == 0 and (gradient == 0).all()


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_outside_of_the_classes_shows(label):
    assert jnp.isnan(cross_entropy(LOGITS, LABELS * 0 + label))


def test_extreme_logits_and_bfloat16():
    huge = jnp.asarray([[1e30, -1e30], [-1e30, 1e30]])
    assert cross_entropy(huge, jnp.array([0, 1])) == 0
    low = jnp.asarray(LOGITS, jnp.bfloat16)
    got = cross_entropy(low, LABELS)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, cross_entropy(low.astype(jnp.float32), LABELS))


# Differences to the right class from far below it to far above, equal logits, and -inf for classes
# that cannot be.
FAR = np.array(
    [
        [0, -27.0, -27.5, -90.0],
        [-1e3, -1027.0, -1031.0, -1040.0],
        [2.0, 2.0, 2.0, 2.0],
        [-5.0, 40.0, 39.0, -np.inf],
        [7.0, -np.inf, -np.inf, -np.inf],
        [3.0, -9.0, -np.inf, 3.0],
    ],
    np.float32,
)


def exact(logits, smoothing):
    """Loss and gradient of each row, whose right class is the first, in extended precision."""
    x = logits.astype(np.longdouble)
    others = x[:, 1:] - x[:, :1]
    top = np.maximum(others.max(1), 0)
    rest = np.exp(others - top[:, None]).sum(1)
    value = np.where(top > 0, top + np.log(np.exp(-top) + rest), np.log1p(rest))
    share = np.exp(others - value[:, None])
    gradient = np.concatenate([-share.sum(1, keepdims=True), share], 1)
    if smoothing:
        value = value - smoothing * others.sum(1) / x.shape[1]
        gradient = gradient + smoothing * (np.eye(x.shape[1])[:1] - 1 / x.shape[1])
    return value, gradient


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_small_losses_keep_their_digits_and_no_loss_is_negative(smoothing):
    """A logarithm of the softmax loses every loss below 1e-7, and can turn it negative."""
    logits = FAR if not smoothing else FAR[np.isfinite(FAR).all(1)]
    labels = jnp.zeros(1, int)

    def one(row):
        return cross_entropy(row[None], labels, smoothing=smoothing)

    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(one)))(logits)
    expected, slope = exact(logits, smoothing)
    np.testing.assert_allclose(values, expected.astype(float), rtol=2e-5)
    np.testing.assert_allclose(gradients, slope.astype(float), rtol=2e-5, atol=1e-30)
    assert (np.asarray(values) >= 0).all()


def test_one_class_costs_nothing_and_a_value_that_is_not_finite_shows():
    label = jnp.zeros(1, int)
    value, gradient = jax.value_and_grad(lambda x: cross_entropy(x, label))(jnp.asarray([[9.0]]))
    assert value == 0 and gradient == 0
    for bad in ([[jnp.nan]], [[jnp.inf, 0.0]], [[-jnp.inf, 0.0]], [[0.0, jnp.nan]]):
        assert not jnp.isfinite(cross_entropy(jnp.asarray(bad), label)), bad


@pytest.mark.parametrize(
    "shape, options",
    [((4,), {}), ((5, 1), {}), ((5,), {"mask": jnp.ones(4, bool)}), ((5,), {"smoothing": 1.0})],
)
def test_errors(unchecked, shape, options):
    with pytest.raises(ConfigError, match="cross_entropy"):
        cross_entropy(jnp.zeros((5, 4)), jnp.zeros(shape, int), **options)
