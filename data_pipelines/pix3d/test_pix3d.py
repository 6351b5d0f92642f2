"""Pix3D in small: meshes shown by several photos, a seeded split, missing meshes, damaged lists."""

from __future__ import annotations

import json
import pathlib

import pytest

from data_pipelines import build as driver
from data_pipelines import mesh_records
from jax3dret.core.types import DataError
from jax3dret.data.source import open_source

BOX = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
COUNTS = {"bed": 10, "chair": 4, "misc": 1}


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_records, "NUM_POINTS", 40)


def write(root: pathlib.Path, models: list[tuple[str, str]]) -> pathlib.Path:
    rows = []
    for number, (name, category) in enumerate(models):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BOX)
        photo = {"img": f"img/{category}/{number:04d}.png", "mask": "", "category": category}
        rows += [{**photo, "model": name, "voxel": str(path.parent / "voxel.mat")}] * 2
    (root / "pix3d.json").write_text(json.dumps(rows))
    return root


def all_models() -> list[tuple[str, str]]:
    return [
        (f"model/{category}/IKEA_{n}/model.obj", category)
        for category, count in COUNTS.items()
        for n in range(count)
    ]


@pytest.fixture
def raw(tmp_path) -> pathlib.Path:
    return write(tmp_path / "raw" / "pix3d", all_models())


def test_split_by_category(raw, tmp_path):
    path = driver.build("pix3d", manual_dir=raw.parent, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["name"] == "pix3d" and manifest["up_axis"] == "y"
    assert len(manifest["class_names"]) == 9
    assert manifest["source"]["photos"] == 30 and manifest["source"]["complete"] is False
    train, test = (open_source("pix3d", split, tmp_path / "out") for split in ("train", "test"))
    # Seven tenths, rounded down: of four 2, of one none.
    names = manifest["class_names"]
    assert [sum(names[y] == c for y in train.labels) for c in COUNTS] == [7, 2, 0]
    assert [sum(names[y] == c for y in test.labels) for c in COUNTS] == [3, 2, 1]
    assert not set(train.ids) & set(test.ids) and "misc/IKEA_0" in test.ids
    # Chosen by the seed, not by the order of names.
    assert sorted(i for i in train.ids if i[0] == "b") != [f"bed/IKEA_{n}" for n in range(7)]
    # Another order of the photos changes nothing.
    again = write(tmp_path / "other", all_models()[::-1])
    found = driver.build("pix3d", manual_dir=again, data_dir=tmp_path / "out2")
    same = json.loads((found / "manifest.json").read_text())
    assert same["splits"] == manifest["splits"]


def test_missing_broken_and_several_in_a_folder(raw, tmp_path, caplog):
    write(
        raw,
        [*all_models(), *((f"model/tool/A/part_{n}.obj", "tool") for n in (0, 1))],
    )
    (raw / "model/bed/IKEA_0/model.obj").unlink()
    (raw / "model/chair/IKEA_1/model.obj").write_text("v 0 0 0\n")
    path = driver.build("pix3d", manual_dir=raw, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert "1 of 17 files of the split are missing" in caplog.text
    assert manifest["source"]["missing_first"] == ["model/bed/IKEA_0/model.obj"]
    assert [each["file"] for each in manifest["skipped"]] == ["model/chair/IKEA_1/model.obj"]
    ids = [i for part in manifest["splits"].values() for i in part["ids"]]
    assert {"tool/A/part_0", "tool/A/part_1"} < set(ids) and len(ids) == 15


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "not readable JSON"),
        ("{}", "holds no photos"),
        ('[{"category": "bed"}]', "entry 0 has no 'model' and 'category'"),
        ('[{"category": "bed", "model": "../x.obj"}]', "outside the folder"),
        (
            '[{"category": "bed", "model": "a.obj"}, {"category": "sofa", "model": "a.obj"}]',
            "is of 'bed' and of 'sofa'",
        ),
        ('[{"category": "bed", "model": "a.obj"}]', "1 of 1 files of the split are missing"),
    ],
)
def test_refused_lists(tmp_path, text, says):
    (tmp_path / "pix3d.json").write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        driver.build("pix3d", manual_dir=tmp_path, data_dir=tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_not_unpacked(tmp_path):
    (tmp_path / "pix3d.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"no pix3d.json there.*pix3d.zip is not unpacked"):
        driver.build("pix3d", manual_dir=tmp_path, data_dir=tmp_path / "out")
