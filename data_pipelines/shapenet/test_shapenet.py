"""ShapeNetCore55 in its two forms, the tables of the tracks, and the ten classes, all made small by
these tests.
"""

from __future__ import annotations

import json
import pathlib

import pytest

from data_pipelines import build as driver
from data_pipelines import mesh_records
from data_pipelines.shapenet import layouts
from data_pipelines.shapenet.layouts import find_layout
from data_pipelines.shapenet.synsets import NAMES, TEN
from jax3dret.core.types import DataError

BOX = "v 0 0 0\nv 1 0 0\nv 0 2 0\nv 0 0 3\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
CHAIR, PLANE, TABLE = "03001627", "02691156", "04379243"
# number, synset, model, split
ROWS = [
    ("000003", CHAIR, "c3", "train"),
    ("000001", CHAIR, "c1", "train"),
    ("000002", PLANE, "a2", "train"),
    ("000004", PLANE, "a4", "val"),
    ("000005", TABLE, "t5", "test"),
    ("000006", CHAIR, "c6", "test"),
]


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_records, "NUM_POINTS", 40)


def write(path: pathlib.Path, text: str = BOX) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_all_csv(root: pathlib.Path, rows=ROWS) -> None:
    lines = [f"{number},{synset},{synset},{model},{split}" for number, synset, model, split in rows]
    write(root / "all.csv", "\n".join(["id,synsetId,subSynsetId,modelId,split", *lines]))


def write_tables(root: pathlib.Path) -> None:
    for split in ("train", "val", "test"):
        lines = [f"{number},{synset},{synset}" for number, synset, _, part in ROWS if part == split]
        write(root / f"{split}.csv", "\n".join(["id,synsetId,subSynsetId", *lines]))


def numbers(layout) -> dict[str, list[str]]:
    return {split: [item.identity for item in part] for split, part in layout.items.items()}


WANTED = {
    "train": [f"{PLANE}/000002", f"{CHAIR}/000001", f"{CHAIR}/000003"],
    "val": [f"{PLANE}/000004"],
    "test": [f"{CHAIR}/000006", f"{TABLE}/000005"],
}


def test_classes():
    assert (
        len(NAMES) == len(set(NAMES.values())) == 55
        and len(set(TEN)) == 10
        and set(TEN) <= set(NAMES)
    )
    assert sorted(NAMES[synset] for synset in TEN) == sorted(
        [
            "table",
            "car",
            "chair",
            "airplane",
            "sofa",
            "rifle",
            "lamp",
            "watercraft",
            "bench",
            "loudspeaker",
        ]
    )


def test_track_archives(tmp_path, caplog):
    root = tmp_path / "raw"
    write_tables(root)
    for number, _, _, split in ROWS:
        write(root / f"{split}_normal" / f"{number}.obj")
        write(root / f"{split}_perturbed" / f"model_{number}.obj")
    write(
        root / "train_normal" / "000005.obj"
    )  # a test model among the train models: not listed there
    path = driver.build("shapenet/normal", manual_dir=root, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["class_names"] == ["airplane", "chair", "table"] and manifest["up_axis"] == "y"
    assert {split: part["ids"] for split, part in manifest["splits"].items()} == WANTED
    assert manifest["source"]["kind"] == "shrec" and manifest["source"]["missing"] == 0
    assert "has 3 shapes in the split 'train', the published data set 35764" in caplog.text
    assert "3 classes, the data set has 55" in caplog.text
    perturbed = find_layout(root, "perturbed")
    assert (
        numbers(perturbed) == WANTED
        and perturbed.items["val"][0].name == "val_perturbed/model_000004.obj"
    )


def test_first_track_with_synset_folders(tmp_path):
    """2016: aligned models in train/<synset>/ and val/<synset>/, test models without folders."""
    write_tables(tmp_path)
    for number, synset, _, split in ROWS:
        write(tmp_path / split / ("" if split == "test" else synset) / f"model_{number}.obj")
    found = find_layout(tmp_path, "normal")
    assert found.kind == "shrec" and numbers(found) == WANTED
    with pytest.raises(DataError, match=r"the perturbed models are those of the SHREC tracks"):
        find_layout(tmp_path, "perturbed")


@pytest.mark.parametrize("name", ["models/model_normalized.obj", "model.obj"])
def test_core_folders(tmp_path, name):
    write_all_csv(
        tmp_path, [(n.lstrip("0"), s.lstrip("0"), m, p) for n, s, m, p in ROWS]
    )  # as a spreadsheet saves it
    for _, synset, model, _ in ROWS:
        write(tmp_path / "ShapeNetCore.v2" / synset / model / name)
    found = find_layout(tmp_path, "normal")
    assert found.kind == "core" and numbers(found) == WANTED and found.missing == []


def test_missing_and_empty_models(tmp_path, caplog):
    root = tmp_path / "raw"
    write_all_csv(root)
    for number, _, _, split in ROWS[1:]:
        write(root / f"{split}_normal" / f"{number}.obj", "" if number == "000002" else BOX)
    path = driver.build("shapenet", manual_dir=root, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["name"] == "shapenet/normal"
    assert "1 of 6 files of the split are missing (first: train_normal/000003.obj)" in caplog.text
    assert manifest["skipped"] == [
        {"file": "train_normal/000002.obj", "reason": "is empty (0 bytes); copy or export it again"}
    ]
    assert manifest["splits"]["train"]["ids"] == [f"{CHAIR}/000001"]
    assert manifest["source"]["listed"] == {"train": 3, "val": 1, "test": 2}


def test_ten_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "PER_CLASS", 3)
    rows = [(f"{i:06d}", CHAIR, f"c{i}", "train" if i % 2 else "test") for i in range(8)]
    rows += [
        (f"{i:06d}", "02747177", f"b{i}", "train") for i in range(10, 14)
    ]  # a trash bin is not among the ten
    write_all_csv(tmp_path, rows)
    for _, synset, model, _ in rows:
        write(
            tmp_path / synset / model / "models" / "model_normalized.obj",
            "" if model == "c5" else BOX,
        )
    found = find_layout(tmp_path, "ten")
    assert found.class_names == ("chair",)
    ids = numbers(found)
    assert len(ids["train"]) == len(ids["test"]) == 3 and not set(ids["train"]) & set(ids["test"])
    assert f"{CHAIR}/000005" not in ids["train"] + ids["test"]  # empty
    write_all_csv(tmp_path, rows[::-1])
    assert numbers(find_layout(tmp_path, "ten")) == ids  # the order of the table does not matter


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<!DOCTYPE html><html>", "is an HTML page"),
        ("id,class\n1,2\n", "has no column 'synsetId'"),
        ("id,synsetId\n1,02691156\n", "has no column 'split'"),
        ("id,synsetId,split\n1,chair,train\n", "line 2 has id '1', synsetId 'chair'"),
        ("id,synsetId,split\n1,02691156,train\n1,02691156,val\n", "the id 000001 comes twice"),
        ("id,synsetId,split\n", "lists no models"),
    ],
)
def test_refused_tables(tmp_path, text, says):
    write(tmp_path / "all.csv", text)
    with pytest.raises(DataError, match=says) as caught:
        find_layout(tmp_path, "normal")
    assert "\n" not in str(caught.value)


def test_what_is_needed(tmp_path):
    (tmp_path / "train_normal.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        DataError, match=r"no split table there; .*all.csv.*; train_normal.zip is not unpacked"
    ):
        find_layout(tmp_path, "normal")
    write_tables(tmp_path)
    with pytest.raises(DataError, match="split tables but no models there"):
        find_layout(tmp_path, "normal")
    (tmp_path / CHAIR).mkdir()
    with pytest.raises(DataError, match="joined by modelId, which only all.csv has"):
        find_layout(tmp_path, "normal")
    (tmp_path / "val.csv").unlink()
    with pytest.raises(DataError, match=r"val.csv is missing beside .*train.csv"):
        find_layout(tmp_path, "normal")
    write_all_csv(tmp_path)
    with pytest.raises(
        DataError, match=r"6 of 6 files of the split are missing \(first: 02691156/a2\)"
    ):
        find_layout(tmp_path, "normal")
