"""Losses of fields, beside what they are most easily mistaken for."""

import jax
import numpy as np
import pytest
from on_device import on_device

from jax3dret.core.types import ConfigError
from jax3dret.losses import fields

RNG = np.random.default_rng(0)
VALUES, TRUTH = RNG.normal(size=(2, 3, 50)).astype(np.float32) * 0.2
loss = on_device(fields.loss)


def test_each_function_has_its_loss(unchecked):
    error = VALUES.astype(float) - TRUTH
    np.testing.assert_allclose(loss("sdf", VALUES, TRUTH), np.mean(error**2, 1), rtol=1e-5)
    np.testing.assert_allclose(loss("occ", VALUES, TRUTH), np.mean(np.abs(error), 1), rtol=1e-5)
    clamped = np.minimum(VALUES.astype(float), 0.1) - np.minimum(TRUTH, 0.1)
    np.testing.assert_allclose(loss("udf", VALUES, TRUTH), np.abs(clamped).mean(1), rtol=1e-5)
    np.testing.assert_allclose(
        loss("udf", VALUES, TRUTH, clamp=None), np.mean(np.abs(error), 1), rtol=1e-5
    )
    wrong = np.abs(np.clip(VALUES, -0.1, 0.1) - np.clip(TRUTH, -0.1, 0.1)).mean(1)
    assert np.abs(loss("udf", VALUES, TRUTH) - wrong).min() > 1e-3
    assert np.abs(loss("udf", VALUES, TRUTH, clamp=0.3) - loss("udf", VALUES, TRUTH)).min() > 1e-3
    with pytest.raises(ConfigError, match="did you mean 'udf'"):
        loss("udff", VALUES, TRUTH)


def test_beyond_the_clamp_nothing_pulls_and_a_nan_stays_in_its_row():
    gradient = jax.grad(lambda v: loss("udf", v, TRUTH).sum())(VALUES)
    np.testing.assert_array_equal(gradient != 0, VALUES < 0.1)
    values = VALUES.copy()
    values[1, 3] = np.nan
    found = np.asarray(loss("sdf", values, TRUTH))
    assert np.isnan(found).tolist() == [False, True, False]
