"""The Princeton Shape Benchmark in small: nested classes, coarse levels, cut-off lists, missing
models.
"""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from data_pipelines import build as driver
from data_pipelines import mesh_records
from data_pipelines.cla import read_cla
from jax3dret.core.types import DataError
from jax3dret.data.source import open_source

TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 2 0\n0 0 3\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
TRAIN = """PSB 1
5 4

vehicle 0 0

car vehicle 0

sedan car 2
1500
12

wheel 0 1
7

gear wheel 1
8
"""
TEST = "PSB 1\n4 3\nvehicle 0 0\ncar vehicle 0\nsedan car 2\n1501\n13\n\nplant 0 1\n150\n"


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_records, "NUM_POINTS", 40)


@pytest.fixture
def raw(tmp_path) -> pathlib.Path:
    root = tmp_path / "raw" / "benchmark"
    base = root / "classification" / "v1" / "base"
    base.mkdir(parents=True)
    (base / "train.cla").write_text(TRAIN)
    (base / "test.cla").write_text(TEST)
    coarse = root / "classification" / "v1" / "coarse3"
    coarse.mkdir()
    (coarse / "README.txt").write_text("x")
    (coarse / "coarse3Train.cla").write_text("PSB 1\n1 4\nmanmade 0 4\n1500\n12\n7\n8\n")
    (coarse / "coarse3Test.cla").write_text("PSB 1\n2 3\nnatural 0 1\n150\nmanmade 0 2\n1501\n13\n")
    for number in (1500, 12, 7, 8, 1501, 13, 150):
        folder = root / "db" / str(number // 100) / f"m{number}"
        folder.mkdir(parents=True)
        (folder / f"m{number}.off").write_text(TETRAHEDRON)
        (folder / f"m{number}_info.txt").write_text("mid: x")
    return tmp_path / "raw"


@pytest.mark.parametrize("place", [".", "benchmark"])
def test_base(raw, tmp_path, place, caplog):
    path = driver.build("psb", manual_dir=raw / place, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["name"] == "psb/base" and manifest["up_axis"] == "y"
    # Union of both halves; an inner class with models of its own is a class, one without is not.
    assert manifest["class_names"] == ["plant", "vehicle/car/sedan", "wheel", "wheel/gear"]
    train, test = (open_source("psb/base", split, tmp_path / "out") for split in ("train", "test"))
    assert list(train.ids) == ["m1500", "m12", "m7", "m8"] and list(train.labels) == [1, 1, 2, 3]
    assert list(test.ids) == ["m1501", "m13", "m150"] and list(test.labels) == [1, 1, 0]
    assert (
        manifest["source"]["classes"] == {"train": 3, "test": 2}
        and "inside the test" in manifest["source"]["retrieval"]
    )
    assert "has 4 shapes in the split 'train', the published data set 907" in caplog.text


def test_coarse(raw, tmp_path):
    path = driver.build("psb/coarse3", manual_dir=raw, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["class_names"] == ["manmade", "natural"] and manifest["splits"]["test"][
        "labels"
    ] == [1, 0, 0]
    with pytest.raises(
        DataError, match=r"coarse1: coarse1Train.cla is needed there; .* holds base, coarse3"
    ):
        driver.build("psb/coarse1", manual_dir=raw, data_dir=tmp_path / "out")


def test_missing_and_broken_models(raw, tmp_path, caplog):
    (raw / "benchmark/db/0/m12/m12.off").unlink()
    (raw / "benchmark/db/15/m1501/m1501.off").write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n")
    path = driver.build("psb", manual_dir=raw, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    assert "1 of 7 files of the split are missing (first: db/0/m12/m12.off)" in caplog.text
    assert manifest["source"]["missing"] == 1 and manifest["splits"]["train"]["items"] == 3
    (skipped,) = manifest["skipped"]
    assert skipped["file"] == "db/15/m1501/m1501.off" and "no faces" in skipped["reason"]


def test_no_benchmark_there(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "psb_v1.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        DataError, match=r"no Princeton Shape Benchmark there.*psb_v1.zip is not unpacked"
    ):
        driver.build("psb", manual_dir=tmp_path / "raw", data_dir=tmp_path / "out")


@pytest.mark.real
def test_real_benchmark():
    root = os.environ.get("JAX3DRET_REAL_DATA")
    raw = pathlib.Path(root or "", "psb", "benchmark", "classification", "v1", "base")
    if not root or not raw.is_dir():
        pytest.skip("set JAX3DRET_REAL_DATA to the folder that holds psb")
    train, test = read_cla(raw / "train.cla"), read_cla(raw / "test.cla")
    assert (len(train), len(test)) == (90, 92)
    assert sum(len(c.models) for c in train) == sum(len(c.models) for c in test) == 907
    assert len({c.path for c in train} | {c.path for c in test}) == 161
