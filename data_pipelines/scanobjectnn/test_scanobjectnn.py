"""ScanObjectNN's h5 files made small by these tests, with and without the published split."""

from __future__ import annotations

import json
import pathlib

import h5py
import numpy as np
import pytest

from data_pipelines import build as driver
from data_pipelines.scanobjectnn.scanobjectnn import CLASS_NAMES, Scanobjectnn
from jax3dret.core.types import DataError
from jax3dret.data.source import open_source

LABELS = {"training": [0, 3, 3, 14], "test": [3, 0, 14]}


def write(path: pathlib.Path, labels, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).normal(size=(len(labels), 16, 3)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = data, np.array(labels, np.int32)
        file["mask"] = np.zeros((len(labels), 16), np.int32)
    return data


@pytest.fixture
def raw(tmp_path) -> pathlib.Path:
    root = tmp_path / "raw"
    for seed, (folder, ending) in enumerate(
        [
            ("main_split_nobg", "objectdataset.h5"),
            ("main_split", "objectdataset.h5"),
            ("main_split", "objectdataset_augmentedrot_scale75.h5"),
        ]
    ):
        for prefix, labels in LABELS.items():
            write(
                root / "h5_files" / folder / f"{prefix}_{ending}",
                labels * (2 if "scale75" in ending else 1),
                seed,
            )
    return root


def write_split(folder: pathlib.Path, keys: dict[str, str]) -> None:
    rows = [
        f"{key}\t{CLASS_NAMES.index(label)}\t{label}\t{key.split('_')[0]}"
        for key, label in keys.items()
    ]
    (folder / "scanobjectnn_v0.tsv").write_text(
        "\n".join(["key\tlabel_id\tlabel\tsplit", *rows]) + "\n"
    )


@pytest.mark.parametrize("place", [".", "h5_files", "h5_files/main_split_nobg"])
def test_objects_alone_by_default(raw, tmp_path, place, caplog):
    data = write(
        raw / "h5_files/main_split_nobg/training_objectdataset.h5", LABELS["training"], seed=7
    )
    path = driver.build("scanobjectnn", manual_dir=raw / place, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["name"] == "scanobjectnn/obj_only" and manifest["up_axis"] == "y"
    assert manifest["class_names"] == list(CLASS_NAMES)
    train, test = (
        open_source("scanobjectnn/obj_only", split, tmp_path / "out") for split in ("train", "test")
    )
    assert (
        list(train.ids) == ["train_0", "train_1", "train_2", "train_3"]
        and list(train.labels) == LABELS["training"]
    )
    assert list(test.labels) == LABELS["test"]
    row = train[2]
    np.testing.assert_allclose(row["points"] * row["scale"] + row["centroid"], data[2], atol=1e-5)
    assert "has 4 shapes in the split 'train', the published data set 2309" in caplog.text
    assert set(manifest["source"]["sha256"]) == {
        "training_objectdataset.h5",
        "test_objectdataset.h5",
    }


def test_background_and_hardest(raw):
    background, hardest = (
        Scanobjectnn(config="obj_bg", manual_dir=raw),
        Scanobjectnn(config="hardest", manual_dir=raw),
    )
    assert background.planned == {"train": 4, "test": 3} and hardest.planned == {
        "train": 8,
        "test": 6,
    }
    assert hardest.source["published_counts"] == {"train": 11_416, "test": 2_882}
    assert any("scale75" in name for name in hardest.files) and not any(
        "scale75" in name for name in background.files
    )


def test_the_published_numbers_of_clouds(tmp_path, caplog):
    """Files and split of the published size: all rows kept, nothing to warn about."""
    rng = np.random.default_rng(0)
    labels = {
        "training": np.sort(rng.integers(0, 15, 2309)),
        "test": np.sort(rng.integers(0, 15, 581)),
    }
    for prefix, part in labels.items():
        write(tmp_path / "main_split_nobg" / f"{prefix}_objectdataset.h5", part)
    keys = {f"train_{i}": CLASS_NAMES[label] for i, label in enumerate(labels["training"])}
    keys |= {f"test_{i}": CLASS_NAMES[label] for i, label in enumerate(labels["test"])}
    write_split(tmp_path, keys)
    builder = Scanobjectnn(config="obj_only", manual_dir=tmp_path)
    assert builder.planned == {"train": 2309, "test": 581} and builder.source["complete"]
    assert (
        builder.source["split_file"] == "scanobjectnn_v0.tsv"
        and "scanobjectnn_v0.tsv" in builder.files
    )
    builder._split_generators(None)
    assert not caplog.records


def test_split_that_lists_fewer_or_other_rows(raw):
    names = [CLASS_NAMES[label] for label in LABELS["training"]]
    keys = {f"train_{i}": name for i, name in enumerate(names)} | {"test_1": "bag"}

    def write_whole(changed: dict[str, str]) -> None:
        samples = {
            key: {
                "label": label,
                "label_id": ["bag", "toilet", "cabinet"].index(label),
                "split": key.split("_")[0],
            }
            for key, label in (keys | changed).items()
        }
        (raw / "scanobjectnn_v0.json").write_text(json.dumps({"samples": samples}))

    keys.pop("train_2")
    write_whole({})
    builder = Scanobjectnn(config="obj_only", manual_dir=raw)
    assert builder.planned == {"train": 3, "test": 1}
    assert builder.info.features["label"].names == ["bag", "toilet", "cabinet"]
    assert [row[1:] for row in builder._splits["train"].rows] == [
        ("train_0", 0),
        ("train_1", 2),
        ("train_3", 1),
    ]
    write_whole({"train_1": "toilet"})
    with pytest.raises(
        DataError,
        match=r"'train_1' is train and 'toilet', but row 1 of training_objectdataset.h5 is "
        r"'cabinet'",
    ):
        Scanobjectnn(config="obj_only", manual_dir=raw)
    write_whole({"train_9": "toilet"})
    with pytest.raises(DataError, match=r"lists 'train_9', but the files have fewer rows"):
        Scanobjectnn(config="obj_only", manual_dir=raw)


def test_a_cloud_that_is_not_finite(raw, tmp_path):
    with h5py.File(raw / "h5_files/main_split_nobg/test_objectdataset.h5", "r+") as file:
        file["data"][1, 5, 0] = np.inf
    path = driver.build("scanobjectnn", manual_dir=raw, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["splits"]["test"]["ids"] == ["test_0", "test_2"]
    assert manifest["skipped"] == [
        {"file": "test_objectdataset.h5: row 1", "reason": "1 of 16 points are not finite"}
    ]


def test_refused_files(raw, tmp_path):
    def refused(says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            Scanobjectnn(config="obj_only", manual_dir=raw)
        assert "\n" not in str(caught.value)

    path = raw / "h5_files/main_split_nobg/test_objectdataset.h5"
    path.write_text("<html>Quota exceeded</html>")
    refused("test_objectdataset.h5: is an HTML page")
    path.write_bytes(b"\x89HDF\r\n\x1a\nrest")
    refused("not a readable HDF5 file")
    write(path, [0, 15])
    refused("label 15; labels are 0 to 14")
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((2, 16, 3))
    refused(r"has data; 'data' \[n, points, 3\] and 'label'")
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.zeros((2, 16, 4)), np.zeros(2, int)
    refused("'data' has the shape")
    path.unlink()
    refused(r"main_split_nobg: test_objectdataset.h5 missing; it holds training_objectdataset.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folder main_split_nobg in it or below"):
        Scanobjectnn(config="obj_only", manual_dir=tmp_path / "empty")
