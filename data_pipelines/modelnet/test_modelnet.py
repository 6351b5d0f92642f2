"""ModelNet in its three forms, made small by these tests, and what is refused."""

from __future__ import annotations

import json
import os
import pathlib

import h5py
import numpy as np
import pytest

from data_pipelines import build as driver
from data_pipelines.modelnet import modelnet
from data_pipelines.modelnet.layouts import find_layout
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.source import open_source

TEN = [
    "bathtub",
    "bed",
    "chair",
    "desk",
    "dresser",
    "monitor",
    "night_stand",
    "sofa",
    "table",
    "toilet",
]
FORTY = TEN + [f"class_{i:02d}" for i in range(30)]
TETRAHEDRON = "OFF4 4 0\n0 0 0\n1 0 0\n0 2 0\n0 0 3\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"


def write_off(root: pathlib.Path) -> pathlib.Path:
    for name in ("desk", "night_stand"):
        for split, numbers in {"train": (1, 2), "test": (3,)}.items():
            folder = root / name / split
            folder.mkdir(parents=True)
            for number in numbers:
                (folder / f"{name}_{number:04d}.off").write_text(TETRAHEDRON)
    return root


def write_hdf5(
    root: pathlib.Path, names=TEN, *, normals: bool = False, tables: bool = True
) -> dict[str, np.ndarray]:
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    (root / "shape_names.txt").write_text("\n".join(names) + "\n")
    clouds = {}
    for split, parts in {"train": (3, 2), "test": (2,)}.items():
        prefix = "data/modelnet40_ply_hdf5_2048/"
        (root / f"{split}_files.txt").write_text(
            "".join(f"{prefix}ply_data_{split}{k}.h5\n" for k in range(len(parts)))
        )
        for k, count in enumerate(parts):
            data = rng.normal(loc=[4.0, 0, 0], size=(count, 50, 3))
            data -= data.mean(1, keepdims=True)
            data /= np.linalg.norm(data, axis=2).max(1)[:, None, None]
            with h5py.File(root / f"ply_data_{split}{k}.h5", "w") as file:
                file["data"] = data.astype(np.float32)
                file["label"] = np.array([[6], [3], [6]][:count], np.uint8)
                if normals:
                    file["normal"] = np.roll(data, 1, axis=2).astype(np.float32)
            clouds[f"{split}{k}"] = data.astype(np.float32)
            table = [
                f"{names[label]}/{names[label]}_{split}{k}{i}.ply"
                for i, label in enumerate([6, 3, 6][:count])
            ]
            if tables:
                (root / f"ply_data_{split}_{k}_id2file.json").write_text(json.dumps(table))
    return clouds


def write_text(root: pathlib.Path, number: int = 40, names=FORTY) -> dict[str, np.ndarray]:
    root.mkdir(parents=True)
    rng = np.random.default_rng(1)
    (root / f"modelnet{number}_shape_names.txt").write_text("\n".join(names))
    rows = {}
    for split, stems in {
        "train": ["night_stand_0001", "bed_0001"],
        "test": ["night_stand_0002"],
    }.items():
        (root / f"modelnet{number}_{split}.txt").write_text("\n".join(stems) + "\n")
        for stem in stems:
            rows[stem] = rng.normal(size=(20, 6))
            path = root / stem.rpartition("_")[0] / f"{stem}.txt"
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path, rows[stem], delimiter=",", fmt="%.6f")
    return rows


def prepare(name: str, manual_dir: pathlib.Path, tmp_path: pathlib.Path):
    path = driver.build(name, manual_dir=manual_dir, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    return (
        manifest,
        open_source(name, "train", tmp_path / "out"),
        open_source(name, "test", tmp_path / "out"),
    )


@pytest.fixture
def few_points(monkeypatch):
    monkeypatch.setattr(modelnet.Modelnet.builder_configs["10"], "num_points", 100)


@pytest.mark.parametrize("place", ["ModelNet10", "."])
def test_meshes(tmp_path, few_points, place, caplog):
    root = write_off(tmp_path / "raw" / "ModelNet10")
    (root / "README.txt").write_text("x")
    (tmp_path / "raw" / "__MACOSX" / "desk" / "train").mkdir(parents=True)
    (tmp_path / "raw" / "__MACOSX" / "desk" / "train" / "._desk_0001.off").write_text("x")
    manifest, train, test = prepare("modelnet/10", tmp_path / "raw" / place, tmp_path)
    assert (
        manifest["source"]["kind"] == "off"
        and manifest["up_axis"] == "z"
        and manifest["class_names"] == ["desk", "night_stand"]
    )
    assert list(train.ids) == [
        "desk/desk_0001",
        "desk/desk_0002",
        "night_stand/night_stand_0001",
        "night_stand/night_stand_0002",
    ]
    assert list(train.labels) == [0, 0, 1, 1] and list(test.labels) == [0, 1]
    row = train[0]
    assert row["points"].shape == row["normals"].shape == (100, 3)
    points = row["points"] * row["scale"] + row["centroid"]
    # z is the longest side of the mesh: no axis was turned.
    assert np.ptp(points, axis=0).argmax() == 2 and points.min() > -1e-5
    assert not np.array_equal(row["points"], train[1]["points"])  # each mesh has its own seed
    # The mesh itself, in the frame of its points.
    np.testing.assert_allclose(
        row["vertices"] * row["scale"] + row["centroid"],
        [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]],
        atol=1e-5,
    )
    assert row["faces"].tolist() == [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    assert manifest["version"] == "1.1.0"  # records of 1.0.0 have no meshes
    again = driver.build(
        "modelnet/10", manual_dir=tmp_path / "raw" / place, data_dir=tmp_path / "two", jobs=2
    )
    assert json.loads((again / "manifest.json").read_text())["splits"] == manifest["splits"]
    two = open_source("modelnet/10", "train", tmp_path / "two")
    for key in ("points", "normals", "vertices"):
        np.testing.assert_array_equal(two[3][key], train[3][key])
    assert manifest["source"]["complete"] is False and manifest["source"]["official_counts"] == {
        "train": 3991,
        "test": 908,
    }
    assert "has 4 shapes in the split 'train', the official data set 3991" in caplog.text


def test_a_broken_mesh_is_skipped_and_named(tmp_path, few_points):
    root = write_off(tmp_path / "raw")
    (root / "desk" / "train" / "desk_0002.off").write_text(TETRAHEDRON[:30])
    manifest, train, _ = prepare("modelnet/10", root, tmp_path)
    assert len(train) == 3
    (skipped,) = manifest["skipped"]
    assert skipped["file"] == "desk/train/desk_0002.off" and "\n" not in skipped["reason"]
    assert len(skipped["reason"]) > 10


def test_hdf5(tmp_path):
    clouds = write_hdf5(tmp_path / "raw")
    manifest, train, test = prepare("modelnet/10", tmp_path / "raw", tmp_path)
    assert manifest["source"]["kind"] == "pointnet_hdf5" and manifest["up_axis"] == "z"
    assert manifest["class_names"] == TEN  # the source's order
    assert list(train.labels) == [6, 3, 6, 6, 3] and list(test.labels) == [6, 3]
    assert train.ids[0] == "night_stand/night_stand_train00" and train.ids[4] == "desk/desk_train11"
    np.testing.assert_allclose(
        train[1]["points"], clouds["train0"][1], atol=1e-6
    )  # normalised already: stays
    np.testing.assert_allclose(train[3]["points"], clouds["train1"][0], atol=1e-6)
    assert not {"normals", "vertices", "faces"} & set(train[0])
    assert set(manifest["source"]["sha256"]) >= {
        "shape_names.txt",
        "train_files.txt",
        "ply_data_train1.h5",
    }


def test_hdf5_with_normals_without_names_and_with_duplicates(tmp_path):
    clouds = write_hdf5(tmp_path / "raw", FORTY, normals=True, tables=False)
    manifest, train, _ = prepare("modelnet/40", tmp_path / "raw", tmp_path)
    assert manifest["up_axis"] == "y" and train.ids[3] == "train/ply_data_train1_0000"
    np.testing.assert_allclose(
        train[2]["normals"], np.roll(clouds["train0"][2], 1, axis=1), atol=1e-6
    )
    (tmp_path / "raw" / "ply_data_train_0_id2file.json").write_text(
        '["a/a_1.ply", "a/a_2.ply", "a/a_1.ply"]'
    )
    path = driver.build("modelnet/40", manual_dir=tmp_path / "raw", data_dir=tmp_path / "again")
    again = json.loads((path / "manifest.json").read_text())
    assert again["splits"]["train"]["ids"][:3] == ["a/a_1", "a/a_2", "a/a_1#2"]
    assert again["source"]["repeated_ids"] == 1


def test_hdf5_cloud_that_is_not_finite(tmp_path):
    write_hdf5(tmp_path / "raw")
    with h5py.File(tmp_path / "raw" / "ply_data_test0.h5", "r+") as file:
        file["data"][1, 7, 2] = np.nan
    manifest, _, test = prepare("modelnet/10", tmp_path / "raw", tmp_path)
    assert len(test) == 1 and manifest["skipped"] == [
        {"file": "test: desk/desk_test01", "reason": "1 of 50 points are not finite"}
    ]


def test_text(tmp_path):
    rows = write_text(tmp_path / "raw" / "modelnet40_normal_resampled")
    manifest, train, test = prepare("modelnet/40", tmp_path / "raw", tmp_path)
    assert manifest["source"]["kind"] == "normal_resampled" and manifest["up_axis"] == "y"
    assert list(train.ids) == ["night_stand/night_stand_0001", "bed/bed_0001"]  # the list's order
    assert (
        list(train.labels) == [6, 1]
        and list(test.labels) == [6]
        and len(manifest["class_names"]) == 40
    )
    points = rows["night_stand_0001"][:, :3]
    centred = points - points.mean(0)
    np.testing.assert_allclose(
        train[0]["points"], centred / np.linalg.norm(centred, axis=1).max(), atol=1e-5
    )
    np.testing.assert_allclose(train[0]["normals"], rows["night_stand_0001"][:, 3:], atol=1e-5)
    assert not {"vertices", "faces"} & set(train.features)
    np.testing.assert_allclose(train[0]["centroid"], points.mean(0), atol=1e-5)


def test_text_lists_of_ten_beside_forty(tmp_path):
    root = tmp_path / "raw"
    write_text(root)
    (root / "modelnet10_shape_names.txt").write_text("\n".join(TEN))
    (root / "modelnet10_train.txt").write_text("bed_0001\n")
    (root / "modelnet10_test.txt").write_text("night_stand_0002\n")
    manifest, train, test = prepare("modelnet/10", root, tmp_path)
    assert (
        manifest["class_names"] == TEN
        and list(train.ids) == ["bed/bed_0001"]
        and list(test.labels) == [6]
    )


@pytest.mark.parametrize(
    "text", ["", "1,2,3\n", "1,2,3,4,5,6\n1,2,3\n", "a,b,c,d,e,f\n", "0,0,nan,0,0,1\n"]
)
def test_broken_text_cloud(tmp_path, text):
    write_text(tmp_path / "raw")
    (tmp_path / "raw" / "bed" / "bed_0001.txt").write_text(text)
    manifest, train, _ = prepare("modelnet/40", tmp_path / "raw", tmp_path)
    assert list(train.ids) == ["night_stand/night_stand_0001"]
    assert (
        manifest["skipped"][0]["file"] == "train: bed/bed_0001"
        and "\n" not in manifest["skipped"][0]["reason"]
    )


def refused(name: str, manual_dir: pathlib.Path) -> str:
    with pytest.raises(DataError) as caught:
        driver.build(name, manual_dir=manual_dir, data_dir=manual_dir.parent / "out")
    message = str(caught.value)
    assert "\n" not in message and str(manual_dir) in message
    return message


def test_missing_files_are_listed_with_where_to_get_them(tmp_path):
    write_hdf5(tmp_path / "h")
    (tmp_path / "h" / "ply_data_train1.h5").unlink()
    (tmp_path / "h" / "ply_data_test0.h5").unlink()
    message = refused("modelnet/10", tmp_path / "h")
    assert (
        "2 files are missing: ply_data_test0.h5, ply_data_train1.h5. " in message
        and "princeton" in message
    )
    (tmp_path / "h" / "shape_names.txt").unlink()
    (tmp_path / "h" / "test_files.txt").unlink()
    assert "2 files are missing: shape_names.txt, test_files.txt" in refused(
        "modelnet/10", tmp_path / "h"
    )
    write_text(tmp_path / "t")
    (tmp_path / "t" / "bed" / "bed_0001.txt").unlink()
    assert "1 files are missing: bed/bed_0001.txt" in refused("modelnet/40", tmp_path / "t")


def test_empty_folder_and_two_forms(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no ModelNet10 there" in refused("modelnet/10", tmp_path / "empty")
    write_hdf5(tmp_path / "both" / "clouds")
    write_off(tmp_path / "both" / "meshes")
    message = refused("modelnet/10", tmp_path / "both")
    assert (
        "clouds (pointnet_hdf5)" in message and "meshes (off)" in message and "give one" in message
    )


def test_ten_and_forty_side_by_side(tmp_path):
    write_off(tmp_path / "ModelNet10")
    write_off(tmp_path / "ModelNet40")
    assert find_layout(tmp_path, 40).root.name == "ModelNet40"
    assert find_layout(tmp_path, 10).root.name == "ModelNet10"


def test_wrong_number_of_classes(tmp_path):
    write_hdf5(tmp_path / "forty", FORTY)
    assert "holds 40 classes, ModelNet10 has 10; build modelnet/40" in refused(
        "modelnet/10", tmp_path / "forty"
    )
    write_hdf5(tmp_path / "ten", TEN)
    assert "build modelnet/10" in refused("modelnet/40", tmp_path / "ten")


def test_damaged_hdf5(tmp_path):
    root = tmp_path / "raw"
    write_hdf5(root)
    path = root / "ply_data_train1.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "not a readable HDF5 file" in refused("modelnet/10", root)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.zeros((2, 50, 3)), np.full((2, 1), 10)
    assert "label 10 is beyond the 10 names" in refused("modelnet/10", root)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((2, 50, 3))
    assert "'label'" in refused("modelnet/10", root)
    path.write_bytes(whole)
    (root / "ply_data_train_1_id2file.json").write_text('["one"]')
    assert "holds 1 names for the 2 clouds" in refused("modelnet/10", root)


def test_manual_dir_is_asked_for(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"modelnet/10 is not prepared .* give manual_dir.*modelnet\.cs\.princeton\.edu",
    ):
        driver.build("modelnet/10", data_dir=tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        driver.build("modelnet/10", data_dir=tmp_path, manual_dir=tmp_path / "gone")


@pytest.mark.real
def test_real_modelnet10(tmp_path):
    root = os.environ.get("JAX3DRET_REAL_DATA")
    raw = pathlib.Path(root or "", "modelnet10_ply_hdf5_1024")
    if not root or not raw.is_dir():
        pytest.skip("set JAX3DRET_REAL_DATA to the folder that holds modelnet10_ply_hdf5_1024")
    manifest, train, test = prepare("modelnet/10", raw, tmp_path)
    assert (
        (len(train), len(test)) == (3991, 908)
        and manifest["source"]["complete"]
        and not manifest["skipped"]
    )
    assert np.bincount(test.labels).tolist() == [50, 100, 100, 86, 86, 100, 86, 100, 100, 100]
