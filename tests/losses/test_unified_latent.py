"""INRet's equation 4 against literal sums, and what it is easily taken for."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.losses.unified_latent import alignment, reconstruction

RNG = np.random.default_rng(0)
E = {key: RNG.normal(size=(3, 5)).astype(np.float32) for key in ("udf", "sdf", "occ")}


def test_alignment_is_the_weighted_sum_over_pairs():
    def pair(a, b):
        return [np.sum((E[a][i] - E[b][i]) ** 2) for i in range(3)]

    pairs = {("udf", "sdf"): 2.0, ("occ", "udf"): 3.0}  # in either order; the third has 1
    wanted = (
        2 * np.mean(pair("udf", "sdf"))
        + 3 * np.mean(pair("udf", "occ"))
        + np.mean(pair("sdf", "occ"))
    )
    found = alignment(E, weights=pairs, reduction="sum")
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(alignment(E, weights=pairs), wanted / 5, rtol=1e-6)
    # Not the distance itself, nor the mean over pairs, nor over both orders.
    plain = sum(np.mean(pair(a, b)) for a, b in (("udf", "sdf"), ("udf", "occ"), ("sdf", "occ")))
    np.testing.assert_allclose(alignment(E, reduction="sum"), plain, rtol=1e-6)
    assert alignment({"sdf": E["sdf"]}) == 0
    assert np.isnan(alignment({**E, "occ": E["occ"] * np.nan}))


def test_reconstruction_is_clamped_on_both_sides_and_not_below():
    values = np.array([[[0.05, 0.3, -0.2, 0.5]]], np.float32)
    truth = np.array([[0.02, 0.05, 0.0, 0.7]], np.float32)
    found = reconstruction(values, truth)
    assert found.shape == (1, 1)
    np.testing.assert_allclose(found, (0.03 + 0.05 + 0.2 + 0.0) / 4, rtol=1e-5)
    squares = reconstruction(values, truth, norm="l2")
    np.testing.assert_allclose(squares, (0.03**2 + 0.05**2 + 0.2**2) / 4, rtol=1e-5)
    plain = reconstruction(values, truth, clamp=None)
    np.testing.assert_allclose(plain, (0.03 + 0.25 + 0.2 + 0.2) / 4, rtol=1e-5)


def test_unknown_choices_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        alignment(E, reduction="means")
    with pytest.raises(ConfigError, match="norm='L3'"):
        reconstruction(np.zeros((1, 1, 2)), np.zeros((1, 2)), norm="L3")
