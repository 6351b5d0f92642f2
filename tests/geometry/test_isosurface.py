"""Points, meshes and pictures of fields whose surface is known."""

from __future__ import annotations

import numpy as np
import pytest
import solids

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry import isosurface
from jax3dret.geometry.cameras import by_name
from jax3dret.geometry.field_values import SIZES, field_values
from jax3dret.geometry.field_views import render
from jax3dret.geometry.isosurface import field_mesh, surface_points
from jax3dret.geometry.marching import marching_cubes
from jax3dret.geometry.seen_points import seen_points
from jax3dret.geometry.tracing import SIGNED, UNSIGNED, normals_at, trace
from jax3dret.geometry.views import render_views

FIELDS = {
    "sdf": solids.box_distance,
    "udf": lambda p: np.abs(solids.box_distance(p)),
    "occ": lambda p: np.where(solids.box_distance(p) < 0, -1.0, 1.0),
}
# Of tracing: the threshold at which two values swing around 0; the damped one takes a least value.
# Of cubes: half a cell.
OFF = {"sdf": 16e-4, "udf": 9.1e-3, "occ": 1 / 31}


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("function", ["sdf", "udf", "occ"])
def test_points_lie_on_the_surface_and_are_as_many_as_asked(function):
    points = surface_points(FIELDS[function], function, 700, rng(), resolution=32)
    assert points.shape == (700, 3) and points.dtype == np.float32
    assert np.abs(solids.box_distance(points)).max() < OFF[function]
    # Every side has some.
    side = (np.abs(points) / solids.HALF).argmax(1) * 2 + (
        np.take_along_axis(points, (np.abs(points) / solids.HALF).argmax(1)[:, None], 1)[:, 0] > 0
    )
    assert (np.bincount(side, minlength=6) > 30).all()
    again = surface_points(FIELDS[function], function, 700, rng(), resolution=32)
    np.testing.assert_array_equal(points, again)
    assert surface_points(FIELDS[function], function, 0, rng(), resolution=32).shape == (0, 3)


def test_rays_that_go_by_do_not_hit_and_rays_from_inside_go_back():
    origins = np.array([[-1, 0, 0], [-3, 0.1, 0], [-1, 0.6, 0], [0.3, 0, 0], [0, 0, 2.0]])
    towards = np.array([[2.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    signed = trace(FIELDS["sdf"], origins, towards, SIGNED)
    np.testing.assert_array_equal(signed.hit, [True, True, False, True, False])
    np.testing.assert_allclose(signed.points[0], [-0.6, 0, 0], atol=2e-3)
    np.testing.assert_allclose(signed.points[1], [-0.6, 0.1, 0], atol=2e-3)
    assert abs(abs(signed.points[3, 0]) - 0.6) < 2e-3
    assert signed.evaluations < 5 * 256
    unsigned = trace(FIELDS["udf"], origins, towards, UNSIGNED)
    np.testing.assert_array_equal(unsigned.hit, [True, True, False, True, False])
    # The last step is whole, so that the threshold is no offset.
    np.testing.assert_allclose(unsigned.points[[0, 3], 0], [-0.6, 0.6], atol=1e-6)


def test_an_unsigned_field_that_never_reaches_0_is_hit_where_it_is_least():
    def thick(p):  # 0.004 at least, above the threshold of a hit, and no kink but there
        return 0.004 + 0.9 * np.abs(p[:, 0] - 0.1)

    start, along = np.array([[-0.9, 0.2, 0.1]]), np.array([[1.0, 0, 0]])
    found = trace(thick, start, along, UNSIGNED)
    assert found.hit.all()
    np.testing.assert_allclose(found.points[0], [0.1, 0.2, 0.1], atol=2e-3)
    higher = trace(lambda p: thick(p) + 0.008, start, along, UNSIGNED)
    assert not higher.hit.any()


def test_marching_cubes_close_the_border_and_turn_outwards():
    mesh = marching_cubes(solids.ring_distance, 40)
    assert np.abs(solids.ring_distance(mesh.vertices)).max() < 0.02
    assert _volume(mesh) == pytest.approx(2 * np.pi**2 * 0.6 * 0.25**2, rel=0.03)

    def wall(p):  # reaches the border on five sides
        return p[:, 0] - 0.25

    cut = marching_cubes(wall, 17)
    edges = np.sort(cut.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert 2 * 2 * 1.25 < _volume(cut) < 2.25 * 2.25 * 1.4
    # Axes are not exchanged.
    flat = marching_cubes(solids.box_distance, 41).vertices
    np.testing.assert_allclose(np.abs(flat).max(0), solids.HALF, atol=0.01)
    shell = field_mesh(FIELDS["udf"], "udf", 41)
    assert (np.abs(solids.box_distance(shell.vertices)) < 0.08).all()


def test_no_surface_is_said_after_a_bounded_number_of_questions(monkeypatch):
    monkeypatch.setattr(isosurface, "_ASKED", 5000)
    monkeypatch.setattr(isosurface, "_ASKED_EACH", 10)
    asked = []

    def empty(p, value=0.5):
        asked.append(len(p))
        return np.full(len(p), value, np.float32)

    for function in ("sdf", "udf"):
        with pytest.raises(DataError, match=r"no surface to speak of: 0 of \d+ rays"):
            surface_points(empty, function, 50, rng())
    assert sum(asked) < 200_000
    for value in (1.0, -1.0):
        with pytest.raises(DataError, match=r"no surface at 0: on 8\^3 places it is between"):
            surface_points(lambda p, v=value: empty(p, v), "occ", 50, rng(), resolution=8)
    with pytest.raises(DataError, match="no ray from 12 cameras"):
        render(empty, "sdf", by_name("ring12"), size=8)


def test_callables_that_give_something_else_are_named(unchecked):
    points = np.zeros((5, 3), np.float32)
    for field, said in (
        (lambda p: np.zeros((len(p), 1)), r"shape \(1024, 1\) for points of shape \(1024, 3\)"),
        (lambda p: 0.0, r"values of shape \(\)"),
        (lambda p: np.zeros(len(p) - 1), r"shape \(1023,\)"),
        (lambda p: np.full(len(p), np.nan), r"gave nan at \[0.0, 0.0, 0.0\], and 5 of 5 values"),
    ):
        with pytest.raises(DataError, match=said):
            field_values(field, points)
        with pytest.raises(DataError):
            surface_points(field, "sdf", 5, rng())
        with pytest.raises(DataError):
            marching_cubes(field, 4)
    with pytest.raises(ConfigError, match="function 'tsdf'"):
        surface_points(solids.box_distance, "tsdf", 5, rng())
    with pytest.raises(ConfigError, match="says no distance"):
        render(FIELDS["occ"], "occ", by_name("ring12"), by="tracing")


def test_values_are_asked_for_in_few_sizes_and_keep_their_order():
    sizes = []

    def field(p):
        sizes.append(len(p))
        return p[:, 0]

    for count in (1, 1024, 1500, 9000, 70_000):
        x = np.linspace(-1, 1, count, dtype=np.float32)
        points = np.stack([x, 0 * x, 0 * x], 1)
        np.testing.assert_array_equal(field_values(field, points), x)
    assert set(sizes) <= set(SIZES) and field_values(field, points[:0]).shape == (0,)


@pytest.mark.parametrize("function", ["sdf", "udf", "occ"])
def test_pictures_are_those_of_the_mesh(function):
    cameras = by_name("ring12")
    cameras = cameras._replace(positions=cameras.positions[[1, 5]])
    what = ("shaded", "depth", "normals", "mask")
    kind = {"size": 48, "up_axis": "y", "what": what}
    expected = render_views(solids.box(), cameras, fitted=True, renderer="zbuffer", **kind)
    found = render(FIELDS[function], function, cameras, resolution=48, **kind)
    both = found.mask & expected.mask
    assert (found.mask != expected.mask).mean() < 0.03 and both.sum() > 300
    np.testing.assert_allclose(found.depth[both], expected.depth[both], atol=0.06)
    assert np.isinf(found.depth[~found.mask]).all()
    assert (np.abs(found.normals - expected.normals).max(-1)[both] < 0.05).mean() > 0.85
    apart = np.abs(found.shaded.astype(int) - expected.shaded)
    assert apart.mean() < 4 and np.median(apart[both]) <= 1
    if function == "sdf":
        by_mesh = render(FIELDS["sdf"], "sdf", cameras, by="marching", resolution=48, **kind)
        assert (by_mesh.mask != expected.mask).mean() < 0.03
        half = render(FIELDS["sdf"], "sdf", cameras._replace(fit="box"), **kind)
        assert half.mask.sum() == pytest.approx(found.mask.sum() / 4, rel=0.15)


def test_normals_and_seen_points():
    at = np.array([[0.6, 0.1, 0.1], [0.1, -0.4, 0]])
    np.testing.assert_allclose(
        normals_at(solids.box_distance, at), [[1, 0, 0], [0, -1, 0]], atol=1e-4
    )
    inner = solids.box(solids.HALF / 2)
    points = seen_points(solids.together(solids.box(), inner), 2000, rng())
    assert points.shape == (2000, 3) and points.dtype == np.float32
    outer = np.abs(solids.box_distance(points)) < 1e-5
    assert outer.mean() > 0.5
    np.testing.assert_allclose(solids.box_distance(points[~outer], solids.HALF / 2), 0, atol=1e-5)


def _volume(mesh):
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return np.einsum("fi,fi->", a, np.cross(b, c)) / 6
