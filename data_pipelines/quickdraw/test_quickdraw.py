"""Quick, Draw! in small: recognized drawings, the cap, splits by key, broken lines; and what
rasterised strokes look like.
"""

from __future__ import annotations

import json
import os
import pathlib
import re

import numpy as np
import pytest

from data_pipelines import build as driver
from data_pipelines.quickdraw.quickdraw import Quickdraw
from data_pipelines.quickdraw.strokes import rasterise, read_lines
from jax3dret.core.types import DataError
from jax3dret.data.sketches import decode, prepare_drawing
from jax3dret.data.source import open_source


def line(word: str, key: int, *, recognized=True, drawing=None, timed=False) -> str:
    strokes = drawing or [[[0, 255, 20 + key % 50], [0, key % 40, 200]], [[100, 120], [90, 110]]]
    if timed:
        strokes = [[*stroke, list(range(len(stroke[0])))] for stroke in strokes]
    values = {
        "word": word,
        "countrycode": "US",
        "timestamp": "2017-03-01",
        "recognized": recognized,
    }
    return json.dumps({**values, "key_id": str(key), "drawing": strokes})


@pytest.fixture
def raw(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setattr(Quickdraw.BUILDER_CONFIGS[0], "per_class", 12)
    for kind in ("simplified", "raw"):
        folder = tmp_path / "raw" / "quickdraw_dataset" / "full" / kind
        folder.mkdir(parents=True)
        for word in ("bee", "wine bottle"):
            lines = [
                line(word, 100 + i, recognized=i % 4 != 1, timed=kind == "raw") for i in range(20)
            ]
            (folder / f"{word}.ndjson").write_text("\n".join(lines) + "\n")
    return tmp_path / "raw"


def build(config, raw, out):
    return json.loads(
        (driver.build(config, manual_dir=raw, data_dir=out) / "manifest.json").read_text()
    )


def test_the_first_recognized_drawings(raw, tmp_path):
    said = build("quickdraw", raw, tmp_path / "out")
    assert said["name"] == "quickdraw/simplified" and said["class_names"] == ["bee", "wine bottle"]
    keys = {
        split: [i for i in part["ids"] if i.startswith("bee/")]
        for split, part in said["splits"].items()
    }
    # Every fourth is not recognized, so the first 12 others are among the first 16; left out are 4
    # of each class.
    wanted = [f"bee/{100 + i}" for i in range(16) if i % 4 != 1]
    assert sorted(keys["train"] + keys["test"]) == wanted and keys["train"] == sorted(keys["train"])
    assert said["source"]["not_recognized_left_out"] == 8 and not said["source"]["complete"]
    raw_said = build("quickdraw/raw", raw, tmp_path / "out")
    both = set(raw_said["splits"]["test"]["ids"])
    assert (
        set(said["splits"]["test"]["ids"]) <= both and len(both) < 15
    )  # a drawing is in one split in either form
    source = open_source("quickdraw/simplified", "train+test", tmp_path / "out")
    assert len(source) == 24 and decode(source[0]["png"]).shape == (448, 448)


def test_not_recognized_ones_too(raw, tmp_path):
    said = build("quickdraw/simplified_any", raw, tmp_path / "out")
    assert sum(part["items"] for part in said["splits"].values()) == 40


def test_broken_lines_are_listed(raw, tmp_path):
    path = raw / "quickdraw_dataset/full/simplified/bee.ndjson"
    lines = [
        line("bee", 1),
        line("bee", 2, drawing=[[[5], [5]], [[5, 5], [5, 5]]]),
        line("bee", 3, drawing=[[[1, 2], [5]]]),
        line("bee", 4).replace("255", "NaN"),
        line("bee", 1),
        line("bee", 5)[:-20],
    ]
    path.write_text("\n".join(lines))
    said = build("quickdraw/simplified", raw, tmp_path / "out")
    reasons = [entry["reason"] for entry in said["skipped"]]
    assert [entry["file"] for entry in said["skipped"]] == ["bee.ndjson"] * 5
    for reason, words in zip(
        reasons,
        (
            "in one place",
            "2 x and 1 y",
            "not finite",
            "key_id 1 comes twice",
            "line 6 is no drawing .*cut off",
        ),
        strict=True,
    ):
        assert re.search(words, reason), reason


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("<html></html>", "is an HTML page"),
        ("[1, 2]\n", "line 1 is no drawing"),
        (line("fly", 1), "line 1 is a drawing of 'fly', the file is named for 'bee'"),
        (line("bee", 1, timed=True), "holds raw drawings; simplified ones are needed"),
    ],
)
def test_other_files(raw, tmp_path, text, says):
    (raw / "quickdraw_dataset/full/simplified/bee.ndjson").write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        build("quickdraw/simplified", raw, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_downloaded_names_and_no_files(raw, tmp_path):
    folder = raw / "quickdraw_dataset/full/simplified"
    (folder / "bee.ndjson").rename(folder / "full_simplified_bee.ndjson")
    assert build("quickdraw/simplified_100", folder, tmp_path / "out")["class_names"] == [
        "bee",
        "wine bottle",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folder 'raw' with <category>.ndjson"):
        build("quickdraw/raw", tmp_path / "empty", tmp_path / "out")


def test_strokes_are_where_they_were_drawn():
    """Not turned, not mirrored: an L whose foot points right, its corner below left. y points down."""
    drawing = rasterise([np.array([[10.0, 10], [10, 90], [50, 90]])])
    dark = drawing < 128
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    assert (rows[0], rows[-1]) == (36, 411)  # 376 pixels, 84 % of 448, in the middle
    assert abs(columns[0] + columns[-1] - 447) <= 1 and columns[-1] - columns[0] == pytest.approx(
        376 / 2, abs=3
    )
    assert dark[60, columns[0] + 1] and not dark[60, columns[-1] - 1] and dark[410, columns[-1] - 5]
    across = 255.0 - drawing[200]
    assert across.sum() / 255 == pytest.approx(3.0, abs=0.3)  # the width of the line
    slanted = rasterise([np.array([[0.0, 0], [50, 80]])])
    assert len(np.unique(slanted)) > 8  # antialiased
    np.testing.assert_array_equal(
        rasterise([np.array([[0.0, 0], [500, 800]])]), slanted
    )  # of any unit


def test_a_rasterised_drawing_is_a_prepared_one():
    angle = np.linspace(0, 6, 40)
    strokes = [
        np.stack([np.cos(angle), np.sin(angle)], 1),
        np.array([[0.2, 0.2]]),
        np.array([[-0.5, 0], [0.5, 0]]),
    ]
    drawing = rasterise(strokes)
    again = prepare_drawing(drawing)
    assert np.abs(drawing.astype(int) - again).mean() < 4
    ink, ink_again = (255 - drawing).sum(dtype=int), (255 - again).sum(dtype=int)
    assert ink == pytest.approx(ink_again, rel=0.1)
    assert drawing[255:268, 255:268].min() < 200  # a stroke of one point is a dot


@pytest.mark.parametrize("strokes", [[], [np.zeros((0, 2))], [np.ones((3, 2))]])
def test_no_drawing(strokes):
    with pytest.raises(DataError):
        rasterise(strokes)


@pytest.mark.real
def test_real_files():
    root = os.environ.get("JAX3DRET_REAL_DATA")
    full = pathlib.Path(root or "", "psb_quickdraw_sbr", "quickdraw_dataset", "full")
    if not root or not full.is_dir():
        pytest.skip("set JAX3DRET_REAL_DATA to the folder that holds psb_quickdraw_sbr")
    simplified = {one.key: one for one in read_lines(full / "simplified" / "bee.ndjson", "bee")}
    drawn = list(read_lines(full / "raw" / "bee.ndjson", "bee"))
    assert all(one.recognized and one.strokes for one in drawn) and len(simplified) == 25
    pairs = [(one, simplified[one.key]) for one in drawn if one.key in simplified]
    assert len(pairs) >= 5
    for one, other in pairs[:5]:  # one drawing in two forms, drawn by us alike
        a, b = (rasterise(each.strokes, size=56, width=4.0).astype(float) for each in (one, other))
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.7
