"""The build driver: names, interruption, two processes, full disks, order and size of what is
written.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines import build as driver
from data_pipelines import records
from data_pipelines.mesh_folder import mesh_folder
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.source import open_source

TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 2 0\n0 0 3\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_folder, "NUM_POINTS", 64)


@pytest.fixture
def parts(tmp_path) -> pathlib.Path:
    for i in range(12):
        path = tmp_path / "parts" / f"class{i % 2}" / f"{i:02d}.off"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TETRAHEDRON)
    return tmp_path / "parts"


def left_over(out: pathlib.Path) -> list[str]:
    return sorted(
        str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and p.suffix != ".lock"
    )


def load_that(monkeypatch, action):
    """Calls `action(number of meshes loaded so far)` before each mesh is loaded."""
    load, count = mesh_folder.load_mesh, [0]

    def loading(path):
        action(count[0])
        count[0] += 1
        return load(path)

    monkeypatch.setattr(mesh_folder, "load_mesh", loading)


def test_available_names_every_folder():
    entries = {entry.name: entry for entry in driver.available()}
    assert {"modelnet/10", "modelnet/40", "mesh_folder"} <= set(entries)
    assert "princeton" in entries["modelnet/10"].manual and entries[
        "modelnet/10"
    ].description.startswith("ModelNet10")
    assert all(entry.description and "\n" not in entry.description for entry in entries.values())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("modelnet/41", "'modelnet' has modelnet/10, modelnet/40"),
        ("modelnett/10", "did you mean 'modelnet/10'"),
        ("mesh_folders", "did you mean 'mesh_folder'"),
        ("zzz", "one of .*mesh_folder"),
        ("", "unknown data set ''"),
        ("../build", "unknown data set"),
    ],
)
def test_unknown_names(tmp_path, name, said):
    with pytest.raises(ConfigError, match=said):
        driver.build(name, data_dir=tmp_path)
    with pytest.raises(ConfigError, match=said):
        driver.find(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_default_folder_is_that_of_tfds(tmp_path, monkeypatch, parts):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "env"))
    path = driver.build("mesh_folder", manual_dir=parts)
    assert path.is_relative_to(tmp_path / "env") and driver.find("mesh_folder") == path


def test_relative_folders(tmp_path, monkeypatch, parts):
    monkeypatch.chdir(tmp_path)
    path = driver.build("mesh_folder", manual_dir="parts", data_dir="out")
    assert path.is_absolute() and (path / "manifest.json").is_file()


def test_many_shards_keep_the_order_of_generation(tmp_path, monkeypatch, parts):
    # 64 points with normals are 1.5 kB: a shard closes after two records.
    def small(*args, **kwargs):
        return records.write_splits(*args, **kwargs, shard_bytes=3000)

    monkeypatch.setattr(driver, "write_splits", small)
    path = driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")
    manifest = json.loads((path / "manifest.json").read_text())
    source = open_source(manifest["name"], "train", tmp_path / "out")
    files = sorted(p.name for p in path.glob("*train*"))
    assert (
        len(files) > 2 and files[0] == f"mesh_folder-train.array_record-00000-of-{len(files):05d}"
    )
    assert len(source) == 10 and list(source.ids) == sorted(source.ids)
    assert [source[i]["id"] for i in range(len(source))] == manifest["splits"]["train"]["ids"]
    assert not list(path.glob("*.part"))
    assert "tensorflow" not in sys.modules


def test_two_builds_are_bit_identical(tmp_path, parts):
    for name in ("a", "b"):
        driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / name)
    (first,), (second,) = ([*(tmp_path / n).rglob("*test.array_record*")] for n in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_an_interrupted_build_leaves_nothing_and_is_repeated(tmp_path, monkeypatch, parts):
    def interrupt(number):
        if number == 3:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        load_that(patched, interrupt)
        with pytest.raises(KeyboardInterrupt):
            driver.build("mesh_folder", manual_dir=parts, data_dir=out)
    assert left_over(out) == [] and driver.find("mesh_folder", out) is None
    assert driver.build("mesh_folder", manual_dir=parts, data_dir=out).is_dir()


def test_a_killed_build_is_cleaned_and_repeated(tmp_path, parts, caplog):
    out = tmp_path / "out"
    code = (
        "import time\nfrom data_pipelines import build\nfrom data_pipelines.mesh_folder import "
        "mesh_folder as m\n"
        "load = m.load_mesh\nm.load_mesh = lambda path: (time.sleep(0.3), load(path))[1]\n"
        f"build.build('mesh_folder', manual_dir={str(parts)!r}, data_dir={str(out)!r})\n"
    )
    root = pathlib.Path(driver.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        while not list(out.rglob("shard-*.part")):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert left_over(out) and driver.find("mesh_folder", out) is None
    with caplog.at_level(logging.WARNING, logger="jax3dret"):
        path = driver.build("mesh_folder", manual_dir=parts, data_dir=out)
    assert "removing what an interrupted build left" in caplog.text
    assert {pathlib.Path(name).parts[0] for name in left_over(out)} == {"mesh_folder"}
    assert len(open_source(f"mesh_folder/{path.parent.name}", "train", out)) == 10


def test_two_builds_at_once_run_one_after_the_other(tmp_path, monkeypatch, parts, caplog):
    entered, go = threading.Event(), threading.Event()
    loads = []

    def wait(number):
        loads.append(number)
        entered.set()
        assert go.wait(30)

    load_that(monkeypatch, wait)
    results = []

    def run():
        results.append(driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out"))

    with caplog.at_level(logging.INFO, logger="jax3dret"):
        first = threading.Thread(target=run)
        first.start()
        assert entered.wait(30)
        second = threading.Thread(target=run)
        second.start()
        deadline = time.monotonic() + 30
        while "waiting for another process" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        go.set()
        first.join(60)
        second.join(60)
    assert len(results) == 2 and results[0] == results[1]
    assert len(loads) == 12  # the second read nothing


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, parts):
    def full(number):
        if number == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    load_that(monkeypatch, full)
    with pytest.raises(
        DataError, match=r"the disk is full \(\d+ MiB free\) while preparing mesh_folder/parts-"
    ):
        driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")
    assert left_over(tmp_path / "out") == []


def test_a_full_disk_in_the_record_writer(tmp_path, monkeypatch, parts):
    class Full:
        def __init__(self, *args):
            pass

        def write(self, data):
            raise RuntimeError("RESOURCE_EXHAUSTED: write() failed: No space left on device")

        def close(self):
            raise RuntimeError("closed after a failure")

    monkeypatch.setattr(records.array_record_module, "ArrayRecordWriter", Full)
    with pytest.raises(DataError, match="the disk is full"):
        driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")


def test_data_dir_that_cannot_be_written(tmp_path, parts):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="while preparing mesh_folder"):
        driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "file" / "out")


def test_folders_without_a_manifest_are_not_prepared(tmp_path, parts, monkeypatch):
    path = driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")
    (path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read"):
        driver.find("mesh_folder", tmp_path / "out")
    with monkeypatch.context() as patch:
        denied = PermissionError(errno.EACCES, "Permission denied")
        patch.setattr(pathlib.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(denied))
        with pytest.raises(
            DataError, match=r"manifest.json: cannot be read \(permission denied\)$"
        ):
            driver.find("mesh_folder", tmp_path / "out")
    (path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"manifest\.json: has no 'class_names'"):
        driver.find("mesh_folder", tmp_path / "out")
    (path / "manifest.json").unlink()
    assert driver.find("mesh_folder", tmp_path / "out") is None
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")


def test_sets_of_builders_that_live_elsewhere_are_found(tmp_path):
    folder = tmp_path / "theirs" / "small" / "2.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(ConfigError, match="unknown data set"):
        driver.find("theirs/small", tmp_path)
    manifest = {"name": "theirs/small", "version": "2.0.0", "splits": {}, "class_names": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert driver.find("theirs/small", tmp_path) == folder


class MadeUp(tfds.core.GeneratorBasedBuilder):
    """Shapes out of nothing: a builder that needs no raw files."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name, description=name) for name in ("demo", "full")
    ]
    UP_AXIS = "y"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.skipped, self.source = [], {"kind": "made_up"}

    def _info(self):
        features = records.shape_features(["a", "b"], normals=False, mesh=False)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            "test": self._generate_examples("zax"),
            tfds.Split.TRAIN: self._generate_examples("qmb"),
            "none": iter(()),
        }

    def _generate_examples(self, names):
        zero = {
            "points": np.zeros((1, 3), np.float32),
            "centroid": np.zeros(3, np.float32),
            "scale": np.float32(1),
        }
        for name in names:
            yield name, {"id": name, "label": "b", **zero}


def test_a_builder_that_needs_no_raw_files(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(driver, "_builder_names", lambda: ["made_up"])
    monkeypatch.setattr(driver, "_load", lambda folder: MadeUp)
    assert [entry.name for entry in driver.available()] == ["made_up/demo", "made_up/full"]
    assert driver.available()[0].manual is None
    path = driver.build("made_up", data_dir=tmp_path)
    assert path == tmp_path / "made_up" / "demo" / "1.2.0" == driver.find("made_up", tmp_path)
    assert driver.find("made_up/full", tmp_path) is None
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest == {
        "name": "made_up/demo",
        "version": "1.2.0",
        "source": {"kind": "made_up"},
        "kind": "shapes",
        "up_axis": "y",
        "splits": {
            "test": {
                "items": 3,
                "ids": ["z", "a", "x"],
                "labels": [1, 1, 1],
                "points": [1, 1],
            },
            "train": {
                "items": 3,
                "ids": ["q", "m", "b"],
                "labels": [1, 1, 1],
                "points": [1, 1],
            },
        },
        "class_names": ["a", "b"],
        "skipped": [],
    }
    assert list(open_source("made_up/demo", "train", tmp_path).ids) == ["q", "m", "b"]
    assert "the split 'none' has no records" in caplog.text
    before = (path / "manifest.json").stat().st_mtime_ns
    assert driver.build("made_up/demo", data_dir=tmp_path, manual_dir="/gone") == path
    assert (
        path / "manifest.json"
    ).stat().st_mtime_ns == before and "needs no raw files" in caplog.text


def test_two_records_with_one_id_are_refused():
    rows = {"train": [("a", 0), ("b", 0)], "test": [("a", 1)]}
    with pytest.raises(DataError, match="two records have the id 'a'"):
        records._require_unique(rows, "x")


def test_progress_is_plain_lines_off_a_terminal(monkeypatch, caplog, capfd):
    monkeypatch.setattr(records, "LOG_SECONDS", 0.0)
    with (
        caplog.at_level(logging.INFO, logger="jax3dret"),
        records._progress("x train", 3) as advance,
    ):
        for _ in range(3):
            advance()
    assert caplog.messages[0].startswith("x train: 1 of 3 items, ") and len(caplog.messages) == 4
    assert capfd.readouterr().out == ""


def test_features_keep_every_bit():
    features = records.shape_features(["a", "b"], normals=True, mesh=True)
    rng = np.random.default_rng(0)
    example = {
        "id": "ä/ö",
        "label": 1,
        "points": rng.normal(size=(5, 3)).astype(np.float32),
        "normals": rng.normal(size=(5, 3)).astype(np.float32),
        "centroid": np.array([1e-30, 1e30, -0.1], np.float32),
        "scale": np.float32(0.1),
        "vertices": np.zeros((0, 3), np.float32),
        "faces": np.array([[0, 2**31 - 1, 7]], np.int32),
    }
    back = features.deserialize_example_np(features.serialize_example(example))
    assert back["id"].decode() == "ä/ö" and back["label"] == 1
    for key in set(example) - {"id", "label"}:
        np.testing.assert_array_equal(back[key], example[key])
        assert np.shape(back[key]) == np.shape(example[key])
        assert (
            key == "scale" or back[key].dtype == example[key].dtype
        )  # TFDS gives scalars as Python numbers


def test_nothing_is_said_of_processes_that_nobody_asked_for(parts, tmp_path, caplog):
    """Whoever asks for several is told by the command, once; a run gives its own number."""
    caplog.set_level(logging.INFO, "jax3dret")
    assert [driver.shares_work(name) for name in ("mesh_folder", "modelnet/10")] == [False, True]
    empty = tmp_path / "empty"
    (empty / "a").mkdir(parents=True)
    with pytest.raises(DataError):
        driver.build("mesh_folder", data_dir=tmp_path / "out", manual_dir=empty, jobs=2)
    assert caplog.text == ""
