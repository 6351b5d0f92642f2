"""SHREC'13 in small: both layouts of models, halves and unseen classes, published totals, parts
that are missing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_pipelines import build as driver
from data_pipelines import mesh_records, shrec_files
from data_pipelines.shrec import Totals
from data_pipelines.shrec13.shrec13 import TOTALS, UNSEEN, Shrec13
from data_pipelines.shrec_splits import read_models, split_models, unseen_classes
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.sketches import decode
from jax3dret.data.source import open_source

TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 2 0\n0 0 3\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
MODELS = {
    "chair": [12, 3, 104, 7, 8, 9, 10],
    "bee": [1500, 20],
    "wine_bottle": [30, 31, 32, 33, 34, 35],
}
TINY = Totals(classes=3, models=15, train=2, test=1)


def write_list(path: pathlib.Path, classes: dict[str, list]) -> None:
    """As the tracks have them: CRLF, tabs, trailing blanks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = [
        f"{name} 0\t{len(ids)} \r\n" + "".join(f"{i}\t\r\n" for i in ids)
        for name, ids in classes.items()
    ]
    head = f"PSB 1\r\n{len(classes)}\t{sum(map(len, classes.values()))} \r\n"
    path.write_bytes("\r\n".join([head, *blocks, ""]).encode())


def write_sketch(path: pathlib.Path, shift: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("1", (60, 60), 1)
    ImageDraw.Draw(image).line([(10, 10), (50, 20 + shift), (30, 50)], fill=0, width=2)
    image.save(path)


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_records, "NUM_POINTS", 40)


@pytest.fixture(autouse=True)
def tiny_totals(monkeypatch):
    for config in Shrec13.BUILDER_CONFIGS:
        if config.totals is not None:
            monkeypatch.setattr(config, "totals", TINY)
            monkeypatch.setattr(config, "unseen", 1)


@pytest.fixture
def raw(tmp_path) -> pathlib.Path:
    root = tmp_path / "raw"
    write_list(root / "SHREC2013_Sketch_Evaluation" / "SHREC13_SBR_Model.cla", MODELS)
    for numbers in MODELS.values():
        for number in numbers:
            path = root / "SHREC13_SBR_TARGET_MODELS" / "models" / f"m{number}.off"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(TETRAHEDRON)
    train = root / "SHREC13_SBR_TRAINING_SKETCHES" / "SHREC13_SBR_TRAINING_SKETCHES"
    test = root / "SHREC13_SBR_TESTING_SKETCHES"
    for number, name in enumerate(("bee", "chair", "wine bottle")):
        for i in (10, 9):
            write_sketch(train / name / "train" / f"{3 * number + i}.png", shift=i)
        write_sketch(test / name / "test" / f"{3 * number + 11}.png")
    return root


def build(kind, raw, out):
    return driver.build(f"shrec13/{kind}", manual_dir=raw, data_dir=out)


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text())


def test_shapes_and_sketches_share_their_classes(raw, tmp_path):
    shapes, sketches = (build(kind, raw, tmp_path / "out") for kind in ("shapes", "sketches"))
    said, drawn = manifest_of(shapes), manifest_of(sketches)
    assert said["class_names"] == drawn["class_names"] == ["bee", "chair", "wine_bottle"]
    counts = {split: part["items"] for split, part in said["splits"].items()}
    assert counts == {"train": 11, "test": 2, "unseen": 2}  # of 7 one is test, of 6 one
    assert said["splits"]["unseen"] == {
        "items": 2,
        "ids": ["m20", "m1500"],
        "labels": [0, 0],
        "points": [40, 40],
    }
    assert set(said["splits"]["test"]["labels"]) == {1, 2} and said["up_axis"] == "y"
    assert said["source"]["unseen_classes"] == ["bee"] and said["source"]["classes"] == {
        "seen": 2,
        "unseen": 1,
        "unseen_published": 1,
    }
    with (shapes / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    for split, part in said["splits"].items():
        assert [row["id"] for row in rows if row["split"] == split] == part["ids"]
    # Sketches by number, not by name: 9 before 10; the class folder "wine bottle" is the list's
    # wine_bottle.
    assert drawn["splits"]["unseen_train"]["ids"] == ["bee/train/9", "bee/train/10"]
    assert drawn["splits"]["test"] == {
        "items": 2,
        "ids": ["chair/test/14", "wine_bottle/test/17"],
        "labels": [1, 2],
    }
    assert drawn["splits"]["unseen_test"]["items"] == 1 and drawn["splits"]["train"]["labels"] == [
        1,
        1,
        2,
        2,
    ]
    gallery = open_source("shrec13/shapes", "train+unseen", tmp_path / "out")
    assert (
        len(gallery) == 13
        and gallery[0]["faces"].shape == (4, 3)
        and gallery[0]["vertices"].dtype == np.float32
    )
    queries = open_source("shrec13/sketches", "unseen_train+unseen_test", tmp_path / "out")
    whole = next(raw.rglob("bee/train/10.png"))
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(queries[1]["picture"].tobytes()))),
        np.asarray(Image.open(whole).convert("L")),
    )
    drawing = decode(queries[1]["png"])
    assert drawing.shape == (448, 448) and drawing[0, 0] == 255 and drawing.min() < 60


def test_several_threads_make_the_same_records(raw, tmp_path):
    one, two = (
        driver.build("shrec13/sketches", manual_dir=raw, data_dir=tmp_path / str(jobs), jobs=jobs)
        for jobs in (1, 2)
    )
    files = sorted(path.name for path in one.glob("*.array_record*"))
    assert files and all((one / name).read_bytes() == (two / name).read_bytes() for name in files)


def test_models_as_the_princeton_benchmark_has_them_and_a_list_of_another_name(
    raw, tmp_path, caplog
):
    listed = next(raw.rglob("*.cla"))
    listed.rename(raw / "SHREC2013_like_Model.cla")
    for path in list((raw / "SHREC13_SBR_TARGET_MODELS").rglob("*.off")):
        folder = raw / "psb" / "benchmark" / "db" / str(int(path.stem[1:]) // 100) / path.stem
        folder.mkdir(parents=True)
        path.rename(folder / path.name)
    (raw / "psb/benchmark/db/0/m8/m8.off").unlink()
    (raw / "psb/benchmark/db/0/m9/m9.off").unlink()
    said = manifest_of(build("psb_quickdraw_shapes", raw, tmp_path / "out"))
    assert (
        said["source"]["models_from"] == "psb/benchmark/db"
        and said["source"]["missing_models"] == "m8-m9"
    )
    assert "2 of the 15 models are missing" in caplog.text and "db: m8-m9" in caplog.text
    assert sum(part["items"] for part in said["splits"].values()) == 13
    with pytest.raises(
        DataError,
        match=r"no model list \(SHREC13_SBR_Model.cla\).*there are SHREC2013_like_Model.cla",
    ):
        build("shapes", raw, tmp_path / "out")


def test_missing_models_are_named(raw, tmp_path):
    for number in (104, 30, 31, 32):
        next(raw.rglob(f"m{number}.off")).unlink()
    with pytest.raises(
        DataError, match=r"4 of the 15 models are missing in .*: m30-m32, m104; SHREC'13"
    ):
        build("shapes", raw, tmp_path / "out")
    for path in raw.rglob("*.off"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"not one of the 15 models is there; files such as m20.off"
    ):
        build("shapes", raw, tmp_path / "out")


def test_totals_are_asserted(raw, tmp_path):
    listed = next(raw.rglob("*.cla"))
    write_list(listed, {**MODELS, "chair": MODELS["chair"][:5]})
    with pytest.raises(
        DataError,
        match=r"has 3 classes, 15 models; found 3 classes, 13 models; the list of the track",
    ):
        build("shapes", raw, tmp_path / "out")


def test_another_number_of_unseen_classes_is_a_warning(raw, tmp_path, caplog):
    """The lists in circulation and the paper do not agree; a track is its classes and models."""
    listed = next(raw.rglob("*.cla"))
    chair = MODELS["chair"]
    other = {**MODELS, "chair": chair[:5], "bee": [*MODELS["bee"], *chair[5:]]}
    write_list(listed, other)
    said = manifest_of(build("shapes", raw, tmp_path / "out"))["source"]
    assert said["classes"] == {"seen": 1, "unseen": 2, "unseen_published": 1}
    assert said["unseen_classes"] == ["bee", "chair"]
    assert "2 classes have at most 5 models and are unseen; the paper counts 1" in caplog.text


def test_sketches_of_other_numbers(raw, tmp_path):
    ids = {"bee": [9, 10], "chair": [12, 13], "wine_bottle": [15, 16]}
    write_list(raw / "lists" / "SHREC13_SBR_Sketch_Train.cla", ids)
    said = manifest_of(build("sketches", raw, tmp_path / "out"))
    assert said["source"]["sketch_lists"] == ["lists/SHREC13_SBR_Sketch_Train.cla"]
    next(raw.rglob("train/13.png")).unlink()
    with pytest.raises(
        DataError,
        match=r"has 9 sketches, 2 train and 1 test of every class; found 8, .* chair/train 1 of 2; "
        r"missing by the lists: chair/train/13.png",
    ):
        build("sketches", raw, tmp_path / "other")


def test_classes_of_one_side_only(raw, tmp_path, caplog):
    extra = raw / "SHREC13_SBR_TESTING_SKETCHES" / "unicorn" / "test" / "99.png"
    write_sketch(extra)
    with pytest.raises(
        DataError,
        match=r"classes that the model list does not have: unicorn \(1\); SHREC'13 SBR has",
    ):
        build("sketches", raw, tmp_path / "out")
    next(raw.rglob("*.cla")).rename(raw / "SHREC2013_like_Model.cla")
    for path in [*raw.rglob("bee/*/*.png")]:
        path.unlink()
    said = manifest_of(build("psb_quickdraw_sketches", raw, tmp_path / "out"))["source"]
    assert said["sketches_without_shapes"] == {"unicorn": 1} and said[
        "classes_without_sketches"
    ] == ["bee"]
    assert "1 sketches of 1 classes without shapes are left out: unicorn (1)" in caplog.text
    assert "1 classes have shapes but no sketches: bee" in caplog.text


def test_blank_drawings_and_broken_models_are_listed(raw, tmp_path):
    Image.new("1", (60, 60), 1).save(next(raw.rglob("train/12.png")))
    next(raw.rglob("train/13.png")).write_text("<!DOCTYPE html><html>404</html>")
    next(raw.rglob("m12.off")).write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n")
    drawing, page = manifest_of(build("sketches", raw, tmp_path / "out"))["skipped"]
    assert drawing["file"].endswith("chair/train/12.png") and "one colour" in drawing["reason"]
    assert page["file"].endswith("chair/train/13.png") and page["reason"].startswith(
        "is an HTML page"
    )
    (model,) = manifest_of(build("shapes", raw, tmp_path / "out"))["skipped"]
    assert model["file"].endswith("models/m12.off") and "no faces" in model["reason"]


def test_nothing_or_two_there(raw, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no model list"):
        build("shapes", tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ConfigError, match="SHREC13_SBR_TRAINING_SKETCHES"):
        build("shapes", None, tmp_path / "out")
    write_list(raw / "old" / "shrec13_sbr_model.cla", {"bee": [1]})
    with pytest.raises(
        DataError, match=r"2 of a kind that are not the same: .*; give the folder of one"
    ):
        build("shapes", raw, tmp_path / "out")


def test_few_folders_are_looked_into(raw, monkeypatch):
    looked = []
    monkeypatch.setattr(shrec_files, "walk", lambda *a, **k: _watched(looked, *a, **k))
    shrec_files.survey(raw)
    assert not any("SKETCHES" in folder.name for folder in looked) and len(looked) == 4
    monkeypatch.setattr("data_pipelines.folders._MOST_FOLDERS", 3)
    with pytest.raises(DataError, match="more than 3 folders"):
        shrec_files.survey(raw)


def _watched(looked, *args, walk=shrec_files.walk, **kwargs):
    for step in walk(*args, **kwargs):
        looked.append(step[0])
        yield step


@pytest.mark.parametrize(("models", "test"), [(6, 1), (7, 1), (8, 2), (12, 2), (13, 3), (184, 37)])
def test_a_fifth_rounded_is_test(models, test):
    """Neither the floor (8, 13), nor the ceiling (6, 7, 12)."""
    splits = split_models({"a": range(models)})
    assert (
        len(splits["test"]) == test
        and len(splits["train"]) == models - test
        and not splits["unseen"]
    )


def test_the_split_depends_on_the_class_alone():
    chairs = {"chair": tuple(range(40))}
    alone = split_models(chairs)
    beside = split_models(
        {"zebra": tuple(range(100, 130)), "chair": tuple(reversed(range(40))), "ant": (1, 2)}
    )
    assert [pair for pair in beside["test"] if pair[0] == "chair"] == alone["test"]
    assert split_models(chairs, seed=1)["test"] != alone["test"]
    assert alone["test"] != [("chair", n) for n in range(8)]  # shuffled
    assert sorted(alone["train"] + alone["test"]) == [("chair", n) for n in range(40)]


def test_five_models_are_unseen_six_are_not():
    models = {"six": range(6), "five": range(5), "one": range(1)}
    assert unseen_classes(models) == ("five", "one")
    assert split_models(models)["unseen"] == [*(("five", n) for n in range(5)), ("one", 0)]


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({"bee": ["7", "007"]}, r"model 7 stands there twice \(bee and bee\)"),
        ({"bee": ["7"], "fly": ["m7"]}, r"model 7 stands there twice \(bee and fly\)"),
        ({"bee": ["7"], "Bee": ["8"]}, "'Bee' stands there twice"),
        ({"bee": ["x7"]}, "'x7' in the class 'bee' is no model number"),
    ],
)
def test_refused_lists(tmp_path, classes, says):
    write_list(tmp_path / "a.cla", classes)
    with pytest.raises(DataError, match=says):
        read_models(tmp_path / "a.cla")


def test_numbers_with_letters_and_zeros(tmp_path):
    write_list(tmp_path / "a.cla", {"fly": ["M000012", "m3"], "bee": ["0040"]})
    assert read_models(tmp_path / "a.cla") == {"bee": (40,), "fly": (3, 12)}
    assert shrec_files.runs([9, 3, 5, 4], "M{:06d}") == "M000003-M000005, M000009"


def test_published_totals():
    assert TOTALS == (90, 1258, 50, 30) and TOTALS.classes * (TOTALS.train + TOTALS.test) == 7200
    assert TOTALS.classes - UNSEEN == 67


@pytest.fixture
def pack() -> pathlib.Path:
    root = pathlib.Path(os.environ.get("JAX3DRET_REAL_DATA", ""), "psb_quickdraw_sbr")
    if not os.environ.get("JAX3DRET_REAL_DATA") or not root.is_dir():
        pytest.skip("set JAX3DRET_REAL_DATA to the folder that holds psb_quickdraw_sbr")
    return root


@pytest.mark.real
def test_real_list(pack):
    models = read_models(pack / "SHREC2013_like_Model.cla")
    assert (len(models), sum(map(len, models.values())), len(unseen_classes(models))) == (
        89,
        1291,
        21,
    )
    splits = split_models(models)
    assert {split: len(part) for split, part in splits.items()} == {
        "train": 965,
        "test": 233,
        "unseen": 93,
    }
    pairs = [pair for part in splits.values() for pair in part]
    assert len(set(pairs)) == 1291 and {number for _, number in pairs} == {
        n for part in models.values() for n in part
    }
    seen = {name: len(part) for name, part in models.items() if len(part) > 5}
    tests = {name: sum(own == name for own, _ in splits["test"]) for name in seen}
    assert tests == {name: max(1, round(0.2 * number)) for name, number in seen.items()}
    # Another permutation would be another benchmark.
    assert [number for name, number in splits["test"] if name == "door"] == [
        1717,
        1718,
        1722,
        1724,
        1728,
        1731,
    ]


@pytest.mark.real
def test_real_files(pack):
    """The pack and the models beside one another, as a user would have them."""
    found = shrec_files.survey(pack.parent)
    models = read_models(pack / "SHREC2013_like_Model.cla")
    there = shrec_files.model_files(found, (n for part in models.values() for n in part), digits=0)
    assert there.folder == pack.parent / "psb" / "benchmark" / "db" and not there.missing
    unseen = set(unseen_classes(models))
    counts = {}
    for half, word, number in (("train", "TRAINING", 1407), ("test", "TESTING", 834)):
        classes = shrec_files.sketch_files(pack / f"SHREC13_SBR_{word}_SKETCHES", half)
        assert set(classes) == set(models) and sum(map(len, classes.values())) == number
        counts[half] = sum(len(paths) for name, paths in classes.items() if name not in unseen)
    assert counts == {"train": 1086, "test": 644}
