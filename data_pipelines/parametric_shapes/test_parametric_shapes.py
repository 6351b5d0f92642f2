"""The shape programs make closed, varied, repeatable solids; the builder writes them in order with everything a record promises."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
import trimesh
from manifold3d import Manifold

from data_pipelines.parametric_shapes import parametric_shapes as builder_module
from data_pipelines.parametric_shapes import programs, solids
from data_pipelines.parametric_shapes.parametric_shapes import (
    FIRST_INDEX,
    ParametricShapes,
    ParametricShapesConfig,
    record,
)
from data_pipelines.parametric_shapes.programs import CLASS_NAMES, PROGRAMS, shape
from data_pipelines.records import write_splits
from jax3dret.core.types import DataError


@pytest.mark.parametrize("label", range(len(CLASS_NAMES)), ids=CLASS_NAMES)
def test_every_class_makes_closed_solids_that_differ(label):
    measures = []
    for seed, index in ((0, 0), (0, 1), (3, 0), (11, 1_000_007)):
        mesh = shape(label, seed, index)
        assert mesh.vertices.dtype == np.float64 and mesh.faces.dtype == np.int32
        assert np.isfinite(mesh.vertices).all()
        assert 60 <= len(mesh.faces) <= 12_000
        # Joining corners by position, as a reader of STL does, must not open the mesh.
        solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
        assert len(solid.vertices) == len(mesh.vertices)
        assert solid.is_watertight and solid.is_winding_consistent
        assert solid.volume > 0
        assert mesh.vertices[:, 2].min() == 0.0
        size = np.ptp(mesh.vertices, axis=0)
        assert (size > 0).all()
        measures.append([*(size / size.max()), solid.volume / size.prod(), solid.area / size.max() ** 2])
    gaps = [np.abs(np.subtract(a, b)).max() for i, a in enumerate(measures) for b in measures[:i]]
    assert min(gaps) > 1e-3


def test_classes():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) >= 24
    assert all(program.__doc__ for program in PROGRAMS)


def test_a_shape_depends_on_its_three_numbers_alone():
    label = CLASS_NAMES.index("chair")
    alone = shape(label, 5, 9)
    for other in range(3):
        shape(label, 5, other)
        np.random.default_rng(other).random(1000)
    again = shape(label, 5, 9)
    np.testing.assert_array_equal(alone.vertices, again.vertices)
    np.testing.assert_array_equal(alone.faces, again.faces)
    for changed in (shape(label, 6, 9), shape(label, 5, 10), shape(label + 1, 5, 9)):
        assert changed.vertices.shape != alone.vertices.shape or not np.allclose(changed.vertices, alone.vertices)


def test_variants_of_a_class_occur():
    # Discrete variants show in the number of faces: a class of one program path would keep to one or two.
    for name in ("nut", "chair", "washer", "key"):
        label = CLASS_NAMES.index(name)
        assert len({len(shape(label, 1, i).faces) for i in range(8)}) >= 4


def test_a_failed_program_is_an_error_that_names_the_shape(monkeypatch):
    monkeypatch.setattr(programs, "PROGRAMS", (lambda rng: Manifold(), *PROGRAMS[1:]))
    with pytest.raises(DataError, match=r"gear \(seed 2, index 4\)"):
        shape(0, 2, 4)


def test_solids():
    straight = solids.sweep([(0, 0, 0), (0, 0, 1), (0, 0, 3)], 0.5, segments=64)
    assert straight.volume() == pytest.approx(np.pi * 0.25 * 3, rel=0.01)
    arc = np.radians(np.linspace(0, 180, 60))
    bent = solids.sweep(np.stack([4 * np.cos(arc), 4 * np.sin(arc), 0 * arc], axis=1), 0.5, segments=48)
    assert bent.volume() == pytest.approx(np.pi * 0.25 * 4 * np.pi, rel=0.02)  # Pappus
    leaning = solids.rod((1, 2, 3), (4, -2, 3), 0.5, segments=64)
    np.testing.assert_allclose(leaning.bounding_box()[:3], [1 - 0.4, -2 - 0.3, 2.5], atol=0.01)
    np.testing.assert_allclose(leaning.bounding_box()[3:], [4 + 0.4, 2 + 0.3, 3.5], atol=0.01)
    cup = solids.vessel(np.array([(2.0, 0.0), (2.0, 5.0)]), 0.2, 0.5, 128)
    assert cup.volume() == pytest.approx(np.pi * (4 * 5 - 1.8**2 * 4.5), rel=0.01)
    control = [(1, 0), (2, 3), (0.5, 4)]
    curve = solids.smooth(control, 5)
    np.testing.assert_allclose(curve[::5], control)
    assert solids.section([(0, 0), (0, 1), (1, 1)]).area() == solids.section([(1, 1), (0, 1), (0, 0)]).area() == 0.5


def test_record_is_in_the_frame_of_its_points():
    label = CLASS_NAMES.index("mug")
    arrays = record(label, 0, 3, 500)
    mesh = shape(label, 0, 3)
    assert {name: (value.dtype, value.shape[1:]) for name, value in arrays.items()} == {
        "points": (np.float32, (3,)),
        "normals": (np.float32, (3,)),
        "vertices": (np.float32, (3,)),
        "faces": (np.int32, (3,)),
        "centroid": (np.float32, ()),
        "scale": (np.float32, ()),
    }
    np.testing.assert_allclose(arrays["points"].mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(arrays["points"], axis=1).max(), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(arrays["normals"], axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(arrays["vertices"] * arrays["scale"] + arrays["centroid"], mesh.vertices, atol=1e-4)
    # Every point lies in the plane of a face that has its normal: points, normals and mesh belong together.
    corners = arrays["vertices"].astype(np.float64)[arrays["faces"]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    height = np.abs(np.einsum("nfi,fi->nf", arrays["points"][:, None] - corners[None, :, 0], normal))
    fits = (height < 1e-5) & (arrays["normals"] @ normal.T > 0.999)
    assert fits.any(axis=1).all()


def tiny(folder, **changes):
    config = ParametricShapesConfig(name="tiny", per_class={"train": 2, "val": 0, "test": 1}, num_points=32, **changes)
    return ParametricShapes(config=config, data_dir=folder)


def test_builder_writes_records_in_order_without_tensorflow(tmp_path):
    builder = tiny(tmp_path, seed=4)
    splits = write_splits(builder, None, name="tiny")
    assert list(splits) == ["train", "test"] and splits["train"]["items"] == 2 * len(CLASS_NAMES)
    assert "tensorflow" not in sys.modules
    assert builder.skipped == [] and builder.UP_AXIS == "z" and builder.source["seed"] == 4
    builder = tfds.builder_from_directory(builder.data_dir)
    train, test = builder.as_data_source("train"), builder.as_data_source("test")
    assert [r["id"].decode() for r in train] == [f"{name}/train_{i:04d}" for name in CLASS_NAMES for i in range(2)]
    assert [int(r["label"]) for r in test] == list(range(len(CLASS_NAMES)))
    label = CLASS_NAMES.index("table")
    expected = record(label, 4, FIRST_INDEX["test"], 32)
    for name, value in expected.items():
        np.testing.assert_array_equal(test[label][name], value)
        assert name == "scale" or test[label][name].dtype == value.dtype  # TFDS hands a scalar over as a float
    # The demo trains on what the larger configurations train on, and none tests what another trains on.
    assert not {FIRST_INDEX["train"] + i for i in range(1000)} & {FIRST_INDEX["test"] + i for i in range(1000)}


def test_a_shape_that_fails_is_counted_and_the_rest_goes_on(tmp_path, monkeypatch):
    whole = shape

    def failing(label, seed, index):
        if (label, index) == (0, 1):
            raise DataError("gear: no valid solid")
        return whole(label, seed, index)

    monkeypatch.setattr(builder_module, "shape", failing)
    builder = tiny(tmp_path)
    examples = list(builder._generate_examples("train", 2))
    assert builder.skipped == [{"file": "gear/train_0001", "reason": "gear: no valid solid"}]
    assert [key for key, _ in examples] == list(range(2 * len(CLASS_NAMES) - 1))


def test_configurations():
    names = [config.name for config in ParametricShapes.BUILDER_CONFIGS]
    assert names == ["demo", "small", "full"]
    assert ParametricShapes.MANUAL_DOWNLOAD_INSTRUCTIONS is None
    for config in ParametricShapes.BUILDER_CONFIGS:
        assert set(config.per_class) == set(FIRST_INDEX) and max(config.per_class.values()) < 1_000_000
