"""Points of a field that is known by its values alone: where they lie, and what cannot be asked."""

import numpy as np
import pytest
from solids import ball

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.occupied_cells import touched
from jax3dret.models.fields.distillation_samples import DistillationSamples, as_function

CENTRE, RADIUS = np.array([0.2, -0.1, 0.0]), 0.5


def sdf(points):
    return np.linalg.norm(points - CENTRE, axis=1).astype(np.float32) - np.float32(RADIUS)


OF = {f: as_function(sdf, "sdf", f) for f in ("sdf", "udf", "occ")}


@pytest.mark.parametrize("function", ["sdf", "udf", "occ"])
def test_points_and_values(function):
    samples = DistillationSamples(OF[function], function, count=5000, scan=32, seed=3)
    points, values = samples.draw(0)
    assert points.shape == (5000, 3) and points.dtype == values.dtype == np.float32
    np.testing.assert_array_equal(values, OF[function](points))
    anywhere, around = points[:2000], points[2000:]
    assert np.abs(anywhere.mean(0)).max() < 0.06 and np.abs(anywhere.std(0) - 0.577).max() < 0.03
    # A cell's half diagonal is 0.054; the jitter of 0.015 comes on top of it.
    off = np.abs(sdf(around))
    assert off.mean() < 0.045 and np.quantile(off, 0.999) < 0.11
    # Both sides of the surface, and all of it.
    assert 0.3 < (sdf(around) < 0).mean() < 0.7
    assert np.abs((around - CENTRE).mean(0)).max() < 0.05
    again, _ = DistillationSamples(OF[function], function, count=5000, scan=32, seed=3).draw(0)
    np.testing.assert_array_equal(again, points)
    assert not np.array_equal(samples.draw(1)[0], points)
    all_near = DistillationSamples(OF[function], function, count=50, share=0.0, sigma=0.0, scan=32)
    centre = (all_near.draw(0)[0] + 1) * 16 - 0.5  # without jitter, the centres of cells
    np.testing.assert_allclose(centre, np.round(centre), atol=1e-4)


@pytest.mark.parametrize("function", ["sdf", "udf", "occ"])
def test_cells_of_an_octree(function):
    samples = DistillationSamples(OF[function], function, count=10, scan=16)
    cells = samples.cells(5)
    assert len(np.unique(cells, axis=0)) == len(cells)
    found = {tuple(cell) for cell in cells}
    # Every cell that the sphere crosses is there, and none that is more than a cell away from it.
    rng = np.random.default_rng(0)
    on = rng.normal(size=(4000, 3))
    on = CENTRE + RADIUS * on / np.linalg.norm(on, axis=1, keepdims=True)
    assert {tuple(cell) for cell in np.floor((on + 1) * 16).astype(int)} <= found
    centres = (cells + 0.5) / 16 - 1
    assert np.abs(sdf(centres)).max() <= 2.001 * np.sqrt(3) / 32
    # Those that an octree of the mesh has, but for a few that the surface only grazes; divided, and
    # joined, as many of a distance without a sign.
    mesh = ball(RADIUS, 96)
    mesh = Mesh(mesh.vertices + CENTRE, mesh.faces)
    for level in (5, 3):
        ours, theirs = (
            {tuple(c) for c in of} for of in (samples.cells(level), touched(mesh, level))
        )
        few = 0.1 if function == "udf" else 0.04
        assert len(ours ^ theirs) <= few * len(theirs)


def test_functions():
    points = np.array([[0.2, -0.1, 0.0], [0.2, -0.1, 0.5], [0.9, 0.9, 0.9]], np.float32)
    np.testing.assert_allclose(OF["udf"](points), np.abs(sdf(points)))
    np.testing.assert_array_equal(OF["occ"](points), [-1, 1, 1])
    assert as_function(sdf, "occ", "occ") is sdf
    with pytest.raises(ConfigError, match="the function udf does not tell sdf; only sdf tells"):
        as_function(sdf, "udf", "sdf")
    with pytest.raises(ConfigError, match="function 'tsdf'"):
        as_function(sdf, "tsdf", "sdf")


def test_what_cannot_be_asked():
    with pytest.raises(DataError, match=r"no surface in \[-1, 1\]\^3: as sdf its values go from 2"):
        DistillationSamples(lambda p: np.full(len(p), 2.0), "sdf", scan=8)
    with pytest.raises(DataError, match="no surface"):
        DistillationSamples(lambda p: np.ones(len(p)), "occ", scan=8)
    with pytest.raises(DataError, match="gave values of shape"):
        DistillationSamples(lambda p: p, "sdf", scan=8)
    with pytest.raises(DataError, match="not finite"):
        DistillationSamples(lambda p: np.where(p[:, 0] > 0.5, np.nan, p[:, 0]), "sdf", scan=8)
    with pytest.raises(ConfigError, match="scan=1"):
        DistillationSamples(sdf, "sdf", scan=1)
    with pytest.raises(ConfigError, match="power of two"):
        DistillationSamples(sdf, "sdf", scan=12, count=1).cells(5)
