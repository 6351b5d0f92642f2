"""Linear metrics against their formulas: what is whitened, what is kept, what cannot be fitted."""

import types

import numpy as np
import pytest
from fakes import FakeSource, opener, reading

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError, DataError
from jax3dret.tasks import calibration
from jax3dret.tasks.calibration import discriminant, whitening

D, CLASSES = 5, 4
RNG = np.random.default_rng(0)
# Unlike sizes: a class of one adds nothing to the scatter, and the mean of the class means is not
# the mean of all.
LABELS = np.repeat([7, 2, 9, 4], [9, 12, 1, 8])
X = RNG.normal(size=(4, D))[np.searchsorted([2, 4, 7, 9], LABELS)]
X = X * 2 + RNG.normal(size=(len(LABELS), D)) @ np.diag([3, 1, 0.5, 0.1, 0.02])


def within(x, labels):
    """The pooled covariance, class by class."""
    total = sum(
        np.cov(x[labels == c].T, bias=True) * (labels == c).sum()
        for c in np.unique(labels)
        if (labels == c).sum() > 1
    )
    return total / (len(x) - len(np.unique(labels)))


@pytest.mark.parametrize("shrinkage", [0.3, 1.0])
def test_whitening(shrinkage):
    fitted = whitening(X, LABELS, shrinkage)
    s = within(X, LABELS)
    shrunk = (1 - shrinkage) * s + shrinkage * np.trace(s) / D * np.eye(D)
    matrix = fitted["matrix"]
    np.testing.assert_allclose(matrix @ matrix, np.linalg.inv(shrunk), rtol=1e-8)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-9)
    centre = np.mean([X[c == LABELS].mean(0) for c in np.unique(LABELS)], 0)
    np.testing.assert_allclose(centre @ matrix + fitted["offset"], 0, atol=1e-9)


def test_discriminant():
    white, fitted = whitening(X, LABELS, 0.3), discriminant(X, LABELS, 0.3, 3)
    spread = [X[c == LABELS].mean(0) @ white["matrix"] + white["offset"] for c in (2, 4, 7, 9)]
    values, vectors = np.linalg.eigh(np.cov(np.array(spread).T, bias=True))
    assert fitted["matrix"].shape == (D, 3) and fitted["offset"].shape == (3,)
    for i in range(3):
        own = X @ fitted["matrix"][:, i] + fitted["offset"][i]
        other = (X @ white["matrix"] + white["offset"]) @ vectors[:, -1 - i]
        assert abs(own @ other) == pytest.approx(np.sqrt((own @ own) * (other @ other)))
        np.testing.assert_allclose(own @ own, other @ other, rtol=1e-8)
    np.testing.assert_allclose(discriminant(X, LABELS, 0.3, 2)["matrix"], fitted["matrix"][:, :2])
    assert values[-4] < 1e-9  # four classes differ in three directions


def test_what_cannot_be_fitted():
    for x, labels, says in [
        (X, np.arange(len(X)), "do not differ within any class"),
        (np.repeat(X[:2], 3, 0), np.repeat([0, 1], 3), "do not differ within any class"),
        (np.where(X[0, 0] == X, np.nan, X), LABELS, "not finite"),
    ]:
        with pytest.raises(DataError, match=says):
            whitening(x, labels, 0.3)


def test_a_discriminant_of_fewer_classes_than_there_are_names():
    """A split without items of some classes: what no mean differs in is zeros, not rounding."""
    narrow, wide = discriminant(X, LABELS, 0.3, CLASSES - 1), discriminant(X, LABELS, 0.3, CLASSES)
    assert wide["matrix"].shape == (D, CLASSES) and wide["offset"].shape == (CLASSES,)
    for name, values in narrow.items():
        np.testing.assert_array_equal(wide[name][..., :-1], values)
        assert (wide[name][..., -1] == 0).all()
    with pytest.raises(DataError, match="all 12 items are of one class"):
        discriminant(X[LABELS == 2], LABELS[LABELS == 2], 0.3, 2)


def settings(**changes):
    values = {**calibration.defaults(), "fit": "whitening", **changes}
    return configs.Config({"calibration": values}).calibration


def test_settings():
    calibration.check(settings())
    for changes, says in [
        ({"fit": "whiten"}, "'whiten' is unknown; it is one of: whitening, discriminant"),
        ({"shrinkage": 0.0}, "must be above 0"),
    ]:
        with pytest.raises(ConfigError, match=says):
            calibration.check(settings(**changes))
    assert calibration.width_of(settings(), 20, 5) == 20
    found = settings(fit="discriminant")
    assert [calibration.width_of(found, *sizes) for sizes in ((20, 5), (3, 9), (3, 2))] == [4, 3, 1]
    with pytest.raises(ConfigError, match="fit=discriminant: 1 class, and at least two"):
        calibration.width_of(found, 3, 1)
    assert calibration.width_of(settings(fit="discriminant", width=2), 20, 5) == 2
    with pytest.raises(ConfigError, match=r"config\.calibration\.width is 5; 5 classes"):
        calibration.width_of(settings(fit="discriminant", width=5), 20, 5)


def test_fitted_to_every_record_of_the_split_that_is_named():
    labels = np.searchsorted([2, 4, 7, 9], LABELS)
    source = FakeSource(labels, lambda i: {"x": np.float32(X[i])}, name="shape", split="other")

    def keep(record, rng):
        return {"x": record["x"], "label": record["label"]}

    # 30 records in batches of 8: the last is padded.
    fit = calibration.calibrate(settings(split="other"), reading(8, shape=keep), opener(source), D)
    found = fit(lambda batch: {"shape": np.asarray(batch["x"])})
    expected = whitening(np.float32(X), labels, 0.3)
    np.testing.assert_allclose(found["shape"]["matrix"], expected["matrix"], rtol=1e-6)
    np.testing.assert_allclose(found["shape"]["offset"], expected["offset"], rtol=1e-6)


def test_a_fitted_discriminant_narrows(monkeypatch):
    side = types.SimpleNamespace(source=types.SimpleNamespace(labels=LABELS))
    monkeypatch.setattr(calibration, "open_side", lambda *args: side)
    monkeypatch.setattr(calibration, "embed_side", lambda *args: types.SimpleNamespace(vectors=X))
    fit = calibration.calibrate(settings(fit="discriminant"), None, None, 2)
    found, expected = fit(None)["shape"], discriminant(X, LABELS, 0.3, 2)
    assert found["matrix"].shape == (D, 2) and found["offset"].shape == (2,)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
