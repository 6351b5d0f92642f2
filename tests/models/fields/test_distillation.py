"""Fields of any make into hash grids: what comes out, what is said of it, what is refused."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.fields import distillation
from jax3dret.models.fields.distillation import Oracle, distil
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.fit import FitSpec
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.network import Decoder
from jax3dret.models.fields.octree import Octree

GRID = HashGrid(levels=2, min_resolution=4, max_resolution=16, table=12, decoder=Decoder(hidden=16))
SPEC = FitSpec(steps=160, learning_rate=5e-3, batch=256, pool=20480, resample=False, chunk=80)


def sphere(radius):
    return lambda points: (np.linalg.norm(points, axis=1) - radius).astype(np.float32)


def test_spheres_and_what_cannot_be():
    about = {"source": "ball.off", "preset": "paper", "loss": 0.5}
    oracles = [
        Oracle(sphere(0.4), "sdf", "small", (1.0, 2.0, 3.0), 7.0, about),
        Oracle(lambda points: points, "sdf", "wrong shape"),
        Oracle(sphere(0.7), "sdf", "large"),
        Oracle(lambda points: np.full(len(points), 3.0), "sdf", "nothing"),
        Oracle(lambda points: np.full(len(points), np.nan), "sdf", "no number"),
        Oracle(lambda points: np.abs(sphere(0.4)(points)), "udf", "unsigned"),
    ]
    told = []
    found = distil(oracles, GRID, "sdf", SPEC, seed=3, tell=told.append)
    assert [each.field is None for each in found] == [False, True, False, True, True, True]
    assert "values of shape (1024, 3)" in found[1].reason or "of shape" in found[1].reason
    assert "no surface in [-1, 1]^3" in found[3].reason and "not finite" in found[4].reason
    assert "udf does not tell sdf" in found[5].reason
    assert told[0] == "2 into hashgrid: step 80 of 160"
    points = np.random.default_rng(0).uniform(-0.9, 0.9, (2000, 3)).astype(np.float32)
    for place, radius in ((0, 0.4), (2, 0.7)):
        field = found[place].field
        assert isinstance(field, Field) and field.function == "sdf"
        assert np.abs(field(points) - sphere(radius)(points)).mean() < 0.03
    small = found[0].field
    assert (small.centre, small.scale) == ((1.0, 2.0, 3.0), 7.0)
    assert small.about["source"] == "ball.off" and small.about["preset"] == "own"
    assert small.about["distilled_from"] == {
        "name": "small",
        "function": "sdf",
        "fit": {"preset": "paper", "loss": 0.5},
    }
    assert 0 < small.about["loss"] < 0.01 and small.about["steps"] == 160


def test_a_source_that_fails_later_leaves_the_others():
    def without_a_middle(points):
        values = sphere(0.5)(points)
        return np.where(np.abs(points[:, 0]) < 1e-3, np.nan, values)

    spec = FitSpec(steps=2, learning_rate=1e-3, batch=256, pool=20480, resample=False)
    good, bad = distil(
        [Oracle(sphere(0.4), "sdf", "good"), Oracle(without_a_middle, "sdf", "bad")],
        GRID,
        "sdf",
        spec,
    )
    assert good.field is not None and bad.field is None and "not finite" in bad.reason


def test_names_and_presets():
    with pytest.raises(ConfigError, match="no preset 'papr'; did you mean 'paper'"):
        distil([], "hashgrid", "sdf", "papr")
    with pytest.raises(ConfigError, match="no field architecture 'hashgird'"):
        distil([], "hashgird", "sdf")
    with pytest.raises(ConfigError, match="needs a preset by its name"):
        distil([], "hashgrid", "sdf", SPEC)
    assert distil([], "octree", "sdf", "fast") == []


def test_an_octree_is_built_where_the_source_is_near_0(monkeypatch):
    given = {}

    def fitting(*args, **more):
        given.update(more)
        raise KeyboardInterrupt  # the fit itself is the same as that of a hash grid

    monkeypatch.setattr(distillation, "Fitting", fitting)
    octree = Octree(base=2, levels=2, width=2)
    with pytest.raises(KeyboardInterrupt):
        distil([Oracle(sphere(0.5), "sdf")], octree, "udf", FitSpec(1, 1e-3, 8, 16))
    cells = octree.cells(given["structures"][0])
    away = np.linalg.norm((cells + 0.5) / 4 - 1, axis=1) - 0.5
    assert 0 < len(cells) < 8**3 and np.abs(away).max() <= 2 * np.sqrt(3) / 8
