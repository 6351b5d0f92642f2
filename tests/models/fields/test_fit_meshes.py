"""Meshes fitted: what an INR depends on and what not, shapes that cannot be fitted, diverged fits."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from models.fields.meshes_of import box, quick, sheet

from jax3dret.core.types import ConfigError
from jax3dret.geometry.mesh import Mesh
from jax3dret.models.fields import fit_meshes
from jax3dret.models.fields.fit_meshes import Job, Shape
from jax3dret.models.fields.true_values import TrueValues


def leaves(field):
    return jax.tree.leaves(field.variables)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def test_an_inr_depends_on_its_shape_alone():
    """Not on its neighbours, their number or the order; to the last bit."""
    jobs = [quick()]
    shapes = [Shape(box(1, 1, n), about={"source": str(n)}) for n in (1, 2, 3)]
    together = fit_meshes.fit_meshes(shapes, jobs, seed=5)
    alone = fit_meshes.fit_meshes(shapes[1:2], jobs, seed=5)
    reordered = fit_meshes.fit_meshes(shapes[::-1], jobs, seed=5)
    assert same(together[1][0].field, alone[0][0].field)
    assert same(together[2][0].field, reordered[0][0].field)
    assert not same(together[0][0].field, together[1][0].field)
    field = together[1][0].field
    assert field.about["source"] == "2" and field.about["steps"] == 6 and field.about["seed"] == 5
    assert field.about["preset"] == "quick" and field.about["sign"] == "closed"
    assert np.isfinite(field.about["loss"]) and field.scale == pytest.approx(np.sqrt(6) / 2)
    assert field.centre == (0.5, 0.5, 1.0)
    other = fit_meshes.fit_meshes(shapes[1:2], jobs[:1], seed=6)
    assert not same(other[0][0].field, field)


def test_z_up_is_turned_to_y_up():
    tall = box(1, 1, 3)  # z up
    lying = Mesh(tall.vertices[:, [0, 2, 1]] * np.array([1, 1, -1]), tall.faces)
    job = [quick()]
    turned = fit_meshes.fit_meshes([Shape(tall, "z")], job)[0][0].field
    assert same(turned, fit_meshes.fit_meshes([Shape(lying, "y")], job)[0][0].field)
    assert not same(turned, fit_meshes.fit_meshes([Shape(tall, "y")], job)[0][0].field)
    assert turned.centre == (0.5, 1.5, -0.5)


def test_shapes_that_cannot_be_fitted(monkeypatch):
    monkeypatch.setattr("jax3dret.geometry.watertight.available", lambda: False)
    point = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]], np.int32))
    nan = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]]), np.array([[0, 1, 2]], np.int32))
    shapes = [Shape(m) for m in (sheet(), box(1, 2, 1), point, nan)]
    jobs = [quick(function="sdf"), quick(function="occ"), quick(function="udf")]
    needed = [[True] * 3, [False, True, False], [True] * 3, [True] * 3]
    found = fit_meshes.fit_meshes(shapes, jobs, needed=needed)
    assert "encloses no volume" in found[0][0].reason and "encloses no volume" in found[0][1].reason
    assert found[0][2].field is not None and found[0][2].field.function == "udf"
    assert "sign" not in found[0][2].field.about  # a distance needs none
    assert [each.field is not None for each in found[1]] == [False, True, False]
    assert found[1][0].reason == ""  # it was not asked for
    assert all("one place" in each.reason for each in found[2])
    assert all("not finite" in each.reason for each in found[3])
    assert fit_meshes.fit_meshes([], jobs) == []


def test_a_diverged_fit_is_told_and_spoils_no_other():
    """A learning rate far too high; the shape beside it is fitted as if alone."""
    job = quick("siren", learning_rate=1e6, explode=2.0)
    (outcome,) = fit_meshes.fit_meshes([Shape(box(1, 1, 1))], [job])[0]
    assert outcome.field is None and "the fit diverged at step" in outcome.reason
    assert "of 6" in outcome.reason and "\n" not in outcome.reason


def test_identity_and_names():
    job = quick()
    one = fit_meshes.identity(job, 0, "auto", "a")
    assert one == fit_meshes.identity(dataclasses.replace(job), 0, "auto", "a")
    others = [
        fit_meshes.identity(job, 1, "auto", "a"),
        fit_meshes.identity(job, 0, "lines", "a"),
        fit_meshes.identity(job, 0, "auto", "b"),
        fit_meshes.identity(quick(steps=7), 0, "auto", "a"),
        fit_meshes.identity(quick(function="occ"), 0, "auto", "a"),
        fit_meshes.identity(quick("hashgrid"), 0, "auto", "a"),
    ]
    assert len({one, *others}) == 7
    assert Job.of("hashgrid", "sdf").spec.steps == 9766
    assert 1 <= fit_meshes.at_once([Job.of("hashgrid", "sdf"), Job.of("siren", "udf")]) <= 64
    with pytest.raises(ConfigError, match="did you mean 'hashgrid'"):
        Job.of("hashgird", "sdf")


def test_true_values_are_those_of_the_mesh_whatever_was_asked_before():
    mesh = fit_meshes.to_unit_sphere(box(1, 2, 3)).mesh
    first, second = TrueValues(mesh, 3), TrueValues(mesh, 3, keep=4000)
    points = first.points(500, 2)
    np.testing.assert_array_equal(points, second.points(500, 2))
    assert not np.array_equal(points, first.points(500, 1))
    assert not np.array_equal(points, TrueValues(mesh, 4).points(500, 2))
    udf = first.values("udf", 500, 2)  # before the sign is known, and after
    sdf, occ = (second.values(f, 500, 2) for f in ("sdf", "occ"))
    np.testing.assert_array_equal(second.values("udf", 500, 2), udf)
    np.testing.assert_array_equal(np.abs(sdf), udf)
    half = np.ptp(mesh.vertices, axis=0) / 2
    outside = np.abs(points) - half
    inside = (outside < -1e-5).all(1)  # not those on the surface
    np.testing.assert_array_equal(occ[inside], -1)
    np.testing.assert_array_equal(occ[(outside > 1e-5).any(1)], 1)
    np.testing.assert_allclose(sdf[inside], outside[inside].max(1), atol=1e-6)
    np.testing.assert_array_equal(occ < 0, sdf < 0)
    assert 0.02 < inside.mean() < 0.6 and (sdf > 0.2).any()
