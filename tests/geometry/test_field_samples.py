"""Where fields are fitted: the shares, how far from the surface, and nothing outside the domain."""

import numpy as np
import pytest
import solids

from jax3dret.core.types import ConfigError
from jax3dret.geometry import field_samples
from jax3dret.geometry.field_samples import FieldSamples, inr2vec_points
from jax3dret.geometry.mesh import Mesh, MeshError


def test_shares_and_spread():
    samples = FieldSamples(solids.box(), 5001)
    assert (samples.anywhere, samples.near, samples.on) == (1000, 2001, 2000)
    points = samples.draw(np.random.default_rng(0))
    assert points.shape == (5001, 3) and points.dtype == np.float32
    anywhere, near, on = np.split(points, [1000, 3001])
    np.testing.assert_allclose(anywhere.var(0), 1 / 3, rtol=0.1)
    np.testing.assert_allclose(solids.box_distance(on), 0, atol=1e-6)
    # Sides along z hold 4 HALF_x HALF_y of the area.
    x, y, z = solids.HALF
    top = np.abs(np.abs(on[:, 2]) - z) < 1e-6
    assert top.mean() == pytest.approx(x * y / (x * y + y * z + z * x), abs=0.05)
    # 0.015 is the deviation of each coordinate, so of the distance to a plane; 0.122 if it were the
    # variance. Edges make the least distance a little smaller.
    flat = (np.abs(near[:, :2]) < solids.HALF[:2] - 0.1).all(1)
    assert solids.box_distance(near)[flat].std() == pytest.approx(0.015, rel=0.1)
    assert not np.array_equal(points, samples.draw(np.random.default_rng(1)))
    np.testing.assert_array_equal(points, samples.draw(np.random.default_rng(0)))


def test_domain_and_refusals():
    large = solids.box(np.ones(3))
    points = FieldSamples(large, 500, (0, 1, 0), sigma=0.5).draw(np.random.default_rng(0))
    assert np.abs(points).max() == 1
    assert FieldSamples(large, 0).draw(np.random.default_rng(0)).shape == (0, 3)
    with pytest.raises(MeshError, match=r"reaches to 2: fields live in \[-1, 1\]"):
        FieldSamples(Mesh(large.vertices * 2, large.faces), 5)
    with pytest.raises(ConfigError, match="not all 0"):
        FieldSamples(large, 5, (0, 0, 0))
    with pytest.raises(ConfigError, match="sigma=-1"):
        FieldSamples(large, 5, sigma=-1.0)


def test_inr2vec_pool(monkeypatch):
    assert sum(n for _, n in field_samples.INR2VEC_NEAR) + field_samples.INR2VEC_ANYWHERE == 500_000
    monkeypatch.setattr(field_samples, "INR2VEC_CLOUD", 1000)
    monkeypatch.setattr(field_samples, "INR2VEC_NEAR", ((0.003, 2500), (0.01, 2000), (0.1, 250)))
    monkeypatch.setattr(field_samples, "INR2VEC_ANYWHERE", 250)
    points = inr2vec_points(solids.box(), np.random.default_rng(0))
    assert points.shape == (5000, 3) and points.dtype == np.float32
    off = np.abs(solids.box_distance(points))
    parts = [part.mean() for part in np.split(off, [2500, 4500, 4750])]
    # The mean of |normal| is 0.8 of its deviation; edges take a little.
    np.testing.assert_allclose(parts[:2], [0.0024, 0.008], rtol=0.15)
    assert 0.05 < parts[2] < 0.1 < parts[3]
