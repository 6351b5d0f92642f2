"""The shape programs make closed, varied, repeatable solids; the builder writes them in order with
everything a record promises.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
import trimesh
from manifold3d import Manifold

from data_pipelines.parametric_shapes import parametric_shapes as builder_module
from data_pipelines.parametric_shapes import programs, solids
from data_pipelines.parametric_shapes.drawings import chosen_view, drawing
from data_pipelines.parametric_shapes.parametric_shapes import (
    FIRST_DRAWN,
    FIRST_INDEX,
    UNSEEN,
    ParametricShapes,
    ParametricShapesConfig,
    record,
)
from data_pipelines.parametric_shapes.programs import CLASS_NAMES, PROGRAMS, shape
from data_pipelines.records import write_splits
from jax3dret.core.types import DataError
from jax3dret.data.sketches import SKETCH_SIZE, decode


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
        measures.append(
            [*(size / size.max()), solid.volume / size.prod(), solid.area / size.max() ** 2]
        )
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
        assert changed.vertices.shape != alone.vertices.shape or not np.allclose(
            changed.vertices, alone.vertices
        )


def test_variants_of_a_class_occur():
    # Discrete variants show in the number of faces: a class of one program path would keep to one
    # or two.
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
    bent = solids.sweep(
        np.stack([4 * np.cos(arc), 4 * np.sin(arc), 0 * arc], axis=1), 0.5, segments=48
    )
    assert bent.volume() == pytest.approx(np.pi * 0.25 * 4 * np.pi, rel=0.02)  # Pappus
    leaning = solids.rod((1, 2, 3), (4, -2, 3), 0.5, segments=64)
    np.testing.assert_allclose(leaning.bounding_box()[:3], [1 - 0.4, -2 - 0.3, 2.5], atol=0.01)
    np.testing.assert_allclose(leaning.bounding_box()[3:], [4 + 0.4, 2 + 0.3, 3.5], atol=0.01)
    cup = solids.vessel(np.array([(2.0, 0.0), (2.0, 5.0)]), 0.2, 0.5, 128)
    assert cup.volume() == pytest.approx(np.pi * (4 * 5 - 1.8**2 * 4.5), rel=0.01)
    control = [(1, 0), (2, 3), (0.5, 4)]
    curve = solids.smooth(control, 5)
    np.testing.assert_allclose(curve[::5], control)
    assert (
        solids.section([(0, 0), (0, 1), (1, 1)]).area()
        == solids.section([(1, 1), (0, 1), (0, 0)]).area()
        == 0.5
    )


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
    np.testing.assert_allclose(
        arrays["vertices"] * arrays["scale"] + arrays["centroid"], mesh.vertices, atol=1e-4
    )
    # Every point lies in the plane of a face that has its normal: points, normals and mesh belong
    # together.
    corners = arrays["vertices"].astype(np.float64)[arrays["faces"]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    height = np.abs(
        np.einsum("nfi,fi->nf", arrays["points"][:, None] - corners[None, :, 0], normal)
    )
    fits = (height < 1e-5) & (arrays["normals"] @ normal.T > 0.999)
    assert fits.any(axis=1).all()


def tiny(folder, **changes):
    config = ParametricShapesConfig(
        name="tiny", per_class={"train": 2, "val": 0, "test": 1}, num_points=32, **changes
    )
    return ParametricShapes(config=config, data_dir=folder)


def test_builder_writes_records_in_order_without_tensorflow(tmp_path):
    builder = tiny(tmp_path, seed=4)
    splits = write_splits(builder, None, name="tiny")
    assert list(splits) == ["train", "test"] and splits["train"]["items"] == 2 * len(CLASS_NAMES)
    assert "tensorflow" not in sys.modules
    assert builder.skipped == [] and builder.UP_AXIS == "z" and builder.source["seed"] == 4
    builder = tfds.builder_from_directory(builder.data_dir)
    train, test = builder.as_data_source("train"), builder.as_data_source("test")
    assert [r["id"].decode() for r in train] == [
        f"{name}/train_{i:04d}" for name in CLASS_NAMES for i in range(2)
    ]
    assert [int(r["label"]) for r in test] == list(range(len(CLASS_NAMES)))
    label = CLASS_NAMES.index("table")
    expected = record(label, 4, FIRST_INDEX["test"], 32)
    for name, value in expected.items():
        np.testing.assert_array_equal(test[label][name], value)
        assert (
            name == "scale" or test[label][name].dtype == value.dtype
        )  # TFDS hands a scalar over as a float
    # The demo trains on what the larger configurations train on, and none tests what another trains
    # on.
    assert not {FIRST_INDEX["train"] + i for i in range(1000)} & {
        FIRST_INDEX["test"] + i for i in range(1000)
    }


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
    assert names == ["demo", "small", "full", "sbr_demo", "sbr_demo_sketches"]
    assert ParametricShapes.MANUAL_DOWNLOAD_INSTRUCTIONS is None
    for config in ParametricShapes.BUILDER_CONFIGS:
        firsts = FIRST_DRAWN if config.kind == "sketches" else FIRST_INDEX
        assert set(config.per_class) <= set(firsts) and max(config.per_class.values()) < 1_000_000
        if not config.unseen:
            # Nothing of these depends on the sets that are compared with drawings.
            assert set(config.per_class) == {"train", "val", "test"} and config.kind == "shapes"
            assert (
                config.class_names
                == config.classes("train")
                == config.classes("test")
                == CLASS_NAMES
            )


# ------------------------------------------------------------------------------------------------------ shapes by drawings


def sbr(folder, kind, per_class, **arguments):
    config = ParametricShapesConfig(
        name=f"tiny_{kind}",
        kind=kind,
        per_class=per_class,
        num_points=32,
        unseen=UNSEEN,
        by_name=True,
        seed=2,
    )
    return ParametricShapes(config=config, data_dir=folder, **arguments)


def test_shapes_and_drawings_share_classes_and_no_shape(tmp_path):
    shapes = sbr(tmp_path, "shapes", {"train": 2, "test": 1, "unseen": 2})
    sketches = sbr(tmp_path, "sketches", {"train": 1, "unseen_test": 1})
    written = write_splits(sketches, None, name="tiny_sketches")
    assert (
        shapes.info.features["label"].names
        == sketches.info.features["label"].names
        == sorted(CLASS_NAMES)
    )
    assert (shapes.KIND, shapes.UP_AXIS) == ("shapes", "z") and (
        sketches.KIND,
        sketches.UP_AXIS,
    ) == ("sketches", None)
    assert sketches.source["unseen_classes"] == list(UNSEEN) == shapes.source["unseen_classes"]
    seen = [name for name in sorted(CLASS_NAMES) if name not in UNSEEN]
    assert len(seen) == 24 and set(UNSEEN) < set(CLASS_NAMES)
    assert shapes.planned == {"train": 48, "test": 24, "unseen": 16} and sketches.planned == {
        "train": 24,
        "unseen_test": 8,
    }
    assert written["train"]["ids"] == [f"{name}/train_0000" for name in seen]
    assert written["unseen_test"]["ids"] == [f"{name}/unseen_test_0000" for name in sorted(UNSEEN)]
    source = tfds.builder_from_directory(sketches.data_dir).as_data_source("unseen_test")
    assert [int(r["label"]) for r in source] == [
        sorted(CLASS_NAMES).index(name) for name in sorted(UNSEEN)
    ]
    wanted = drawing(CLASS_NAMES.index("stool"), 2, FIRST_DRAWN["unseen_test"])
    found = decode(next(r["png"] for r in source if r["id"] == b"stool/unseen_test_0000"))
    np.testing.assert_array_equal(found, wanted)
    ranges = [
        range(first, first + 1_000_000) for first in {*FIRST_INDEX.values(), *FIRST_DRAWN.values()}
    ]
    assert len(set().union(*({r.start, r.stop - 1} for r in ranges))) == 2 * len(ranges)
    assert not set(FIRST_INDEX.values()) & set(FIRST_DRAWN.values())


def test_drawings_are_of_the_shape_and_differ():
    first, again, other = drawing(0, 1, 7), drawing(0, 1, 7), drawing(0, 1, 8)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.01
    for name in ("bolt", "chair", "vase", "washer"):
        picture = drawing(CLASS_NAMES.index(name), 0, FIRST_DRAWN["train"])
        rows, columns = (
            np.flatnonzero((picture < 128).any(1)),
            np.flatnonzero((picture < 128).any(0)),
        )
        assert max(np.ptp(rows), np.ptp(columns)) > 0.8 * SKETCH_SIZE
        assert 0.005 < (picture < 128).mean() < 0.25


def test_views_show_the_object():
    rng = np.random.default_rng(0)
    tall, flat = (
        np.array(list(itertools.product((-1, 1), (-1, 1), (0, h)))) * 1.0 for h in (4.0, 0.1)
    )
    up = lambda eye: np.degrees(np.arcsin(eye.axes[2][2]))  # noqa: E731
    levels = [up(chosen_view(tall, rng)) for _ in range(60)]
    steep = [up(chosen_view(flat, rng)) for _ in range(60)]
    assert min(levels) >= 0 and max(levels) <= 50 and np.median(levels) < 30 and min(steep) >= 35
    board = tall * [1.0, 0.1, 1.0]  # its broad side looks along y
    facing = [abs(chosen_view(board, rng).axes[2][1]) for _ in range(60)]
    assert np.mean(np.array(facing) > 0.5) > 0.75
    assert {chosen_view(tall, rng).fov > 0 for _ in range(20)} == {True, False}
