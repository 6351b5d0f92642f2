"""The tree of the Mechanical Components Benchmark, made small by these tests, with and without a
split file.
"""

from __future__ import annotations

import json
import os
import pathlib

import numpy as np
import pytest

from data_pipelines import build as driver
from data_pipelines import mesh_records
from data_pipelines.mcb import scan as scanning
from data_pipelines.mcb.scan import scan
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.source import open_source

BOX = "v 0 0 0\nv 1 0 0\nv 0 2 0\nv 0 0 3\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
NAMES = (
    "train/nut/00002.obj",
    "train/bolt/00001.obj",
    "train/nut/00010.obj",
    "test/bolt/00003.obj",
    "test/nut/00004.obj",
)


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_records, "NUM_POINTS", 40)


def fill(root: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names or NAMES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BOX)
    return root


def split_file(folder: pathlib.Path, rows: dict[str, tuple[str, str, str | None]]) -> None:
    ids = {"bolt": 1, "nut": 0}
    samples = {
        key: {"label": label, "label_id": ids[label], "split": split}
        | ({"path": path} if path else {})
        for key, (label, split, path) in rows.items()
    }
    (folder / "mcb_v0.json").write_text(json.dumps({"samples": samples}))


@pytest.mark.parametrize("top", ["MCB_A", "."])
def test_records(tmp_path, top, caplog):
    root = fill(tmp_path / "raw" / top)
    (root / "train" / "nut" / "._00002.obj").write_text("x")
    (root / "metadata.csv").write_text("x")
    path = driver.build("mcb", manual_dir=tmp_path / "raw", data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    train, test = (open_source("mcb", split, tmp_path / "out") for split in ("train", "test"))
    assert (
        manifest["class_names"] == ["bolt", "nut"]
        and manifest["up_axis"] == "y"
        and not manifest["skipped"]
    )
    assert list(train.ids) == ["train/bolt/00001.obj", "train/nut/00002.obj", "train/nut/00010.obj"]
    assert list(train.labels) == [0, 1, 1] and list(test.labels) == [0, 1]
    row = train[1]
    assert row["points"].shape == row["normals"].shape == (40, 3) and row["faces"].shape == (4, 3)
    assert np.ptp(row["vertices"] * row["scale"], axis=0) == pytest.approx([1, 2, 3], abs=1e-4)
    assert manifest["source"]["part"] == "other" and manifest["source"]["complete"] is False
    assert (
        "5 parts of 2 classes; the published benchmark has part A 58,696 of 68 classes"
        in caplog.text
    )


def test_part_a_is_known_by_its_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(scanning, "PARTS", {2: ("A", 5), 3: ("B", 9)})
    found = scan(fill(tmp_path / "five"))
    assert found.notes["part"] == "A" and found.notes["complete"] and found.remark == ""
    found = scan(fill(tmp_path / "four", *NAMES[:4]))
    assert (
        found.notes["complete"] is False and found.remark == "has 4 parts, the published part A 5"
    )


def test_unusable_parts_are_counted(tmp_path):
    root = fill(tmp_path / "raw")
    (root / "train" / "nut" / "00002.obj").write_text("<html><body>Sign in</body></html>")
    (root / "test" / "nut" / "00004.obj").write_text("v 0 0 0\nv 1 0 0\n")
    path = driver.build("mcb", manual_dir=root, data_dir=tmp_path / "out")
    skipped = json.loads((path / "manifest.json").read_text())["skipped"]
    assert [entry["file"] for entry in skipped] == ["train/nut/00002.obj", "test/nut/00004.obj"]
    assert "HTML page" in skipped[0]["reason"] and "no faces" in skipped[1]["reason"]


@pytest.mark.parametrize("with_paths", [True, False])
def test_a_split_file_decides(tmp_path, with_paths, caplog):
    root = fill(tmp_path / "raw")
    rows = {
        "00001": ("bolt", "val", "MCB_A/train/bolt/00001.obj"),
        "00002": ("nut", "train", "MCB_A/train/nut/00002.obj"),
        "00003": ("bolt", "test", "MCB_A/test/bolt/00003.obj"),
        "99999": ("nut", "train", "MCB_A/train/nut/99999.obj"),
    }
    split_file(
        root,
        {
            key: (label, split, path if with_paths else None)
            for key, (label, split, path) in rows.items()
        },
    )
    path = driver.build("mcb", manual_dir=root, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["class_names"] == ["nut", "bolt"]  # the order of the published label ids
    ids = {split: part["ids"] for split, part in manifest["splits"].items()}
    assert ids == {
        "train": ["train/nut/00002.obj"],
        "val": ["train/bolt/00001.obj"],
        "test": ["test/bolt/00003.obj"],
    }
    assert manifest["source"]["split_file"] == "mcb_v0.json" and manifest["source"]["missing"] == 1
    assert (
        "1 of 4 files of the split are missing (first: " in caplog.text and "99999" in caplog.text
    )


def test_a_split_file_that_fits_two_files_or_none(tmp_path):
    root = fill(tmp_path / "raw", *NAMES, "train/bolt/00002.obj")
    split_file(root, {"00002": ("nut", "train", None)})
    with pytest.raises(DataError, match="'00002' fits 2 files"):
        scan(root)
    split_file(root, {"70000": ("nut", "train", None)})
    with pytest.raises(DataError, match="1 of 1 files of the split are missing"):
        scan(root)


def test_refused_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "MCB_A.zip").write_text("<!doctype html>")
    with pytest.raises(
        DataError, match=r"no Mechanical Components Benchmark there.*MCB_A.zip is an HTML page"
    ):
        scan(tmp_path / "empty")
    fill(tmp_path / "two" / "MCB_A")
    fill(tmp_path / "two" / "MCB_B")
    with pytest.raises(DataError, match=r"holds 2 trees of parts: .*MCB_A, .*MCB_B; give one"):
        scan(tmp_path / "two")
    with pytest.raises(ConfigError, match="mcb is not prepared"):
        driver.build("mcb", data_dir=tmp_path / "out")


@pytest.mark.real
def test_real_parts(tmp_path):
    root = os.environ.get("JAX3DRET_REAL_DATA")
    raw = pathlib.Path(root or "", "ldraw_parts_mcb")
    if not root or not raw.is_dir():
        pytest.skip("set JAX3DRET_REAL_DATA to the folder that holds ldraw_parts_mcb")
    path = driver.build("mcb", manual_dir=raw, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert {split: part["items"] for split, part in manifest["splits"].items()} == {
        "train": 2040,
        "test": 509,
    }
    assert len(manifest["class_names"]) == 60 and not manifest["skipped"]
