"""What fits are timed on, and the form of the results."""

import sys

import jax
import numpy as np
import pytest

from jax3dret.bench import inr_fit
from jax3dret.core.types import ConfigError
from jax3dret.models.fields.fit import FitSpec
from jax3dret.models.fields.hashgrid import HashGrid

SMALL = HashGrid(levels=2, min_resolution=4, max_resolution=8, table=8)


def test_the_sampler_tells_true_distances():
    points, values = inr_fit._sampler(1000)(0, 3)
    assert np.abs(values[600:]).max() < 1e-6 and np.abs(values[:200]).mean() > 0.2
    assert 0.005 < np.abs(values[200:600]).mean() < 0.02
    # By area: half of it lies beyond the middle of the tube, and more than half outside.
    ring = np.hypot(points[600:, 0], points[600:, 2])
    assert (ring > inr_fit.RING).mean() == pytest.approx(0.5 + 0.25 / 0.6 / np.pi, abs=0.08)


def test_without_pytorch_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "jax3dret.bench.torch_inr_fit", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'jax3dret\[torch\]'"):
        inr_fit.cases(1)


def test_results_compare_both_sides(monkeypatch):
    monkeypatch.setattr(inr_fit, "_theirs", lambda grid: lambda: None)
    monkeypatch.setattr(inr_fit, "HashGrid", lambda table: SMALL)
    monkeypatch.setattr(inr_fit, "BATCH", 16)
    monkeypatch.setattr(inr_fit, "OURS", 2)
    fast = FitSpec(steps=300, learning_rate=1e-2, batch=128, pool=4096, resample=False)
    monkeypatch.setattr(inr_fit, "preset", lambda name, field: (SMALL, fast))
    monkeypatch.setattr(inr_fit, "QUALITY", ("fast", "fast"))
    monkeypatch.setattr(inr_fit, "CLOUD", 128)
    rows = inr_fit.cases(repeats=1)
    assert [row["unit"] for row in rows] == [
        "ms/step/INR",
        "INRs/s",
        "points/s",
        "MB/step/INR",
        "domain",
    ]
    assert all(row["ratio"] == pytest.approx(row["ours"] / row["baseline"]) for row in rows)
    assert rows[1]["ours"] == pytest.approx(1e3 / rows[0]["ours"] / inr_fit.PROTOCOL)
    assert 0.02 < rows[4]["ours"] == rows[4]["baseline"] < 0.3


def test_the_pytorch_side_fits_the_same_field():
    pytest.importorskip("torch")
    from jax3dret.bench.torch_inr_fit import TorchHashGrid, torch

    variables = SMALL.init(jax.random.key(0))
    points = np.random.default_rng(0).uniform(-1, 1, (9, 3)).astype(np.float32)
    found = TorchHashGrid(SMALL, variables)(torch.from_numpy(points)).detach().numpy()
    np.testing.assert_allclose(found, SMALL.apply(variables, jax.numpy.asarray(points)), atol=1e-5)
