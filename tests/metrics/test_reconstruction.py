"""How far a field is from its mesh: Chamfer distance and overlap with known answers."""

import numpy as np
import pytest
import solids

from jax3dret.core.types import ConfigError, DataError
from jax3dret.metrics.reconstruction import (
    METRICS,
    chamfer_distance,
    reconstruction,
    volumetric_iou,
)


def test_chamfer_of_clouds():
    a = np.array([[0.0, 0, 0], [4, 0, 0]])
    b = np.array([[0.0, 3, 0]])
    assert chamfer_distance(a, b) == (3 + 5) / 2 + 3 == chamfer_distance(b, a)
    assert chamfer_distance(a, b, squared=True) == (9 + 25) / 2 + 9
    with pytest.raises(DataError, match=r"second cloud has shape \(0, 3\)"):
        chamfer_distance(a, b[:0])
    with pytest.raises(DataError, match="1 of 2 points of the first cloud are not finite"):
        chamfer_distance(np.array([[0, 0, 0], [np.nan, 0, 0]]), b)


def test_volumetric_iou(unchecked):
    a = np.array([1, 1, 1, 0, 0, 0], bool)
    b = np.array([0, 1, 1, 1, 0, 0], bool)
    assert volumetric_iou(a, b) == 0.5  # neither 2/3 of the inside nor 4/6 of all points that agree
    assert volumetric_iou(a, ~a) == 0 and volumetric_iou(a, a) == 1
    assert np.isnan(volumetric_iou(~a & a, ~a & a))
    with pytest.raises(DataError, match="must be equal"):
        volumetric_iou(a, b[:3])


def test_reconstruction_of_the_shape_itself_and_of_a_larger_one():
    def rng():
        return np.random.default_rng(0)

    mesh, larger = solids.box(), solids.HALF * 1.1
    exact = reconstruction(solids.box_distance, "sdf", mesh, 2000, rng())
    assert exact.keys() == {m.key for m in METRICS}
    assert exact["giou"] > 0.99 and exact["chamfer"] < 0.07
    off = reconstruction(lambda p: solids.box_distance(p, larger), "sdf", mesh, 2000, rng())
    assert off["giou"] == pytest.approx(1 / 1.1**3, abs=0.06)
    assert off["chamfer"] > exact["chamfer"] + 0.03
    unsigned = reconstruction(lambda p: np.abs(solids.box_distance(p)), "udf", mesh, 2000, rng())
    assert np.isnan(unsigned["giou"]) and unsigned["chamfer"] < 0.07
    with pytest.raises(DataError, match="encloses no volume"):
        reconstruction(solids.box_distance, "sdf", solids.sheet(), 50, rng())
    with pytest.raises(ConfigError, match="at least 1"):
        reconstruction(solids.box_distance, "sdf", mesh, 0, rng())
