"""Objaverse Easy in small: the selection rule, the published split, models and cached clouds."""

from __future__ import annotations

import gzip
import json
import pathlib

import numpy as np
import pytest
import trimesh

from data_pipelines import build as driver
from data_pipelines import mesh_records
from data_pipelines.objaverse_lvis import samples
from data_pipelines.objaverse_lvis.objaverse_lvis import ObjaverseLvis
from data_pipelines.objaverse_lvis.samples import easy, find_layout
from jax3dret.core.types import DataError
from jax3dret.data.source import open_source

HERE = pathlib.Path("lvis-annotations.json")


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_records, "NUM_POINTS", 40)


@pytest.fixture(scope="module")
def glb() -> bytes:
    return trimesh.creation.box((1, 2, 3)).export(file_type="glb")


def write_split(folder: pathlib.Path, rows) -> None:
    lines = ["objaverse_uid\tlabel_id\tlabel\tsplit\thas_cloud\tnormalization_scale"]
    lines += [
        f"{uid}\t{number}\t{label}\t{split}\t{cloud}\t1.0"
        for uid, number, label, split, cloud in rows
    ]
    (folder / "objaverse_easy_v0.tsv").write_text("\n".join(lines) + "\n")


ROWS = [
    ("u3", 1, "vase", "train", 1),
    ("u1", 0, "car_(automobile)", "train", 1),
    ("u2", 0, "car_(automobile)", "val", 0),
    ("u4", 1, "vase", "test", 1),
]


def test_the_rule():
    annotations = {
        "vase": [f"v{i:03d}" for i in range(120)],
        "mug": [f"m{i:03d}" for i in range(100)] + ["v000"],
        "rare": [f"r{i:03d}" for i in range(99)],
        "rarer": [f"r{i:03d}" for i in range(99)] * 2,  # a uid counts once
    }
    chosen, twice = easy(annotations, HERE)
    labels = {sample.label for sample in chosen}
    assert (
        labels == {"mug", "vase"}
        and len(chosen) == len({s.uid for s in chosen}) == 220
        and twice == 1
    )
    counts = {
        split: sum(s.label == "vase" and s.split == split for s in chosen)
        for split in ("train", "val", "test")
    }
    assert counts == {"train": 92, "val": 12, "test": 15}  # 119: v000 is a mug already
    again, _ = easy({label: uids[::-1] for label, uids in reversed(annotations.items())}, HERE)
    assert sorted(again) == sorted(chosen)
    with pytest.raises(DataError, match=r"no category has 100 uids \(the largest 99\)"):
        easy({"rare": annotations["rare"]}, HERE)
    with pytest.raises(DataError, match="lvis-annotations.json"):
        easy(["u1"], HERE)


def test_models_with_the_published_split(tmp_path, glb, caplog):
    root = tmp_path / "raw"
    for uid, folder in (
        ("u1", "000-001"),
        ("u2", "000-001"),
        ("u3", "000-159"),
        ("other", "000-159"),
    ):
        path = root / "hf-objaverse-v1" / "glbs" / folder / f"{uid}.glb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(glb[:60] if uid == "u2" else glb)
    write_split(root, ROWS)
    path = driver.build("objaverse_lvis", manual_dir=root, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["name"] == "objaverse_lvis/easy" and manifest["up_axis"] == "y"
    assert manifest["class_names"] == ["car_(automobile)", "vase"]
    assert {split: part["ids"] for split, part in manifest["splits"].items()} == {
        "train": ["u1", "u3"]
    }
    (skipped,) = manifest["skipped"]
    assert skipped["file"] == "hf-objaverse-v1/glbs/000-001/u2.glb" and "60 of" in skipped["reason"]
    assert "1 of 4 files of the split are missing (first: u4.glb)" in caplog.text
    assert "2 classes, Objaverse Easy has 76" in caplog.text
    row = open_source("objaverse_lvis/easy", "train", tmp_path / "out")[0]
    assert row["points"].shape == row["normals"].shape == (40, 3)
    assert np.ptp(row["vertices"] * row["scale"], axis=0) == pytest.approx([1, 2, 3], abs=1e-4)


def test_cached_clouds(tmp_path):
    root = tmp_path / "raw"
    (root / "clouds").mkdir(parents=True)
    cloud = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    np.save(root / "clouds" / "u1.npy", cloud)
    np.save(root / "clouds" / "u4.npy", np.zeros((5, 2)))
    (root / "clouds" / "u3.npy").write_text("<html>")
    write_split(root, ROWS)
    path = driver.build("objaverse_lvis/easy", manual_dir=root, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["source"]["kind"] == "npy" and manifest["source"]["missing_first"] == ["u2.npy"]
    assert manifest["source"]["without_published_cloud"] == {"train": 0, "val": 1, "test": 0}
    reasons = {entry["file"]: entry["reason"] for entry in manifest["skipped"]}
    assert "HTML page" in reasons["clouds/u3.npy"] and "float64[5, 2]" in reasons["clouds/u4.npy"]
    row = open_source("objaverse_lvis/easy", "train", tmp_path / "out")[0]
    np.testing.assert_allclose(
        row["points"] * row["scale"] + row["centroid"], cloud[:, :3], atol=1e-5
    )
    assert "normals" not in row and "faces" not in row


def test_the_published_numbers_of_samples(tmp_path):
    """A split of the published size, and a file for each of its samples."""
    splits = ["train"] * 6142 + ["val"] * 833 + ["test"] * 1018
    write_split(
        tmp_path, [(f"u{i:05d}", i % 76, f"class_{i % 76:02d}", s, 1) for i, s in enumerate(splits)]
    )
    for i in range(len(splits)):
        (tmp_path / f"u{i:05d}.npy").touch()
    builder = ObjaverseLvis(config="easy", manual_dir=tmp_path)
    assert (
        builder.planned == {"train": 6142, "val": 833, "test": 1018} and builder.source["complete"]
    )
    assert len(builder.info.features["label"].names) == 76


def test_annotations_alone(tmp_path, monkeypatch, glb):
    monkeypatch.setattr(samples, "MIN_SAMPLES", 3)
    (tmp_path / "hf-objaverse-v1").mkdir()
    text = json.dumps({"vase": ["a", "b", "c"], "mug": ["d"]}).encode()
    (tmp_path / "hf-objaverse-v1" / "lvis-annotations.json.gz").write_bytes(gzip.compress(text))
    (tmp_path / "a.glb").write_bytes(glb)
    found = find_layout(tmp_path)
    assert (
        found.class_names == ("vase",) and found.missing == ["b.glb", "c.glb"] and found.listed == 3
    )
    assert "not the published split" in found.notes["split"]


def test_refused_folders(tmp_path):
    with pytest.raises(DataError, match=r"no split file .* and no lvis-annotations.json there"):
        find_layout(tmp_path)
    write_split(tmp_path, ROWS)
    with pytest.raises(DataError, match="not one file of the 4 samples is there"):
        find_layout(tmp_path)
    (tmp_path / "objaverse_easy_v0.tsv").unlink()
    (tmp_path / "lvis-annotations.json").write_text("<!DOCTYPE html>")
    with pytest.raises(DataError, match="lvis-annotations.json: is an HTML page"):
        find_layout(tmp_path)
    (tmp_path / "lvis-annotations.json").unlink()
    (tmp_path / "lvis-annotations.json.gz").write_bytes(gzip.compress(b"{}")[:8])
    with pytest.raises(DataError, match="not readable JSON"):
        find_layout(tmp_path)
