"""SHREC'14 in small: one folder of sketches for both halves, models of six digits beside those of
SHREC'13.
"""

from __future__ import annotations

import json

import pytest
from PIL import Image, ImageDraw

from data_pipelines import build as driver
from data_pipelines import mesh_records
from data_pipelines.shrec import Totals
from data_pipelines.shrec14.shrec14 import TOTALS, UNSEEN, Shrec14
from jax3dret.core.types import DataError

TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 2 0\n0 0 3\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh_records, "NUM_POINTS", 40)
    for config in Shrec14.BUILDER_CONFIGS:
        monkeypatch.setattr(config, "totals", Totals(classes=2, models=8, train=1, test=1))
    root = tmp_path / "raw"
    models, other = (
        root / "SHREC14LSSTB_TARGET_MODELS",
        root / "SHREC13_SBR_TARGET_MODELS" / "models",
    )
    for folder in (models, other, root / "SHREC14_Sketch_Evaluation_CVIU"):
        folder.mkdir(parents=True)
    text = (
        "PSB 1\r\n2 8\r\n\r\npipe_for_smoking\t0\t2\t\r\n000001\r\n8986\r\n\r\nbee 0 6 \r\n"
        + "".join(f"{n:06d} \r\n" for n in range(11, 17))
    )
    for folder in (
        "SHREC14_Sketch_Evaluation_CVIU",
        "SHREC14LSSTB_TARGET_MODELS",
    ):  # two copies of one list
        (root / folder / "SHREC14_SBR_Model.cla").write_bytes(text.encode())
    for number in (1, 8986, *range(11, 17)):
        (models / f"M{number:06d}.off").write_text(TETRAHEDRON)
        (other / f"m{number}.off").write_text("not of this benchmark")
    for place, (name, half) in enumerate(
        (c, h) for c in ("bee", "pipe (for smoking)") for h in ("train", "test")
    ):
        path = (
            root / "SHREC14LSSTB_SKETCHES" / "SHREC14LSSTB_SKETCHES" / name / half / f"{place}.png"
        )
        path.parent.mkdir(parents=True)
        image = Image.new("L", (50, 50), 255)
        ImageDraw.Draw(image).line([(10, 10), (40, 40)], fill=0, width=2)
        image.save(path)
    return root


def test_shapes_and_sketches(raw, tmp_path):
    shapes, sketches = (
        json.loads(
            (
                driver.build(f"shrec14/{k}", manual_dir=raw, data_dir=tmp_path / "o")
                / "manifest.json"
            ).read_text()
        )
        for k in ("shapes", "sketches")
    )
    assert shapes["class_names"] == sketches["class_names"] == ["bee", "pipe_for_smoking"]
    assert shapes["source"]["models_from"] == "SHREC14LSSTB_TARGET_MODELS" and not shapes["skipped"]
    assert shapes["splits"]["unseen"]["ids"] == ["M000001", "M008986"]
    assert [shapes["splits"][split]["items"] for split in ("train", "test")] == [5, 1]
    ids = {split: part["ids"] for split, part in sketches["splits"].items()}
    assert ids == {
        "train": ["bee/train/0"],
        "test": ["bee/test/1"],
        "unseen_train": ["pipe_for_smoking/train/2"],
        "unseen_test": ["pipe_for_smoking/test/3"],
    }


def test_missing_models_are_named_as_their_files(raw, tmp_path):
    for number in (13, 14, 15, 8986):
        next(raw.rglob(f"M{number:06d}.off")).unlink()
    with pytest.raises(
        DataError, match="4 of the 8 models are missing in .*: M000013-M000015, M008986"
    ):
        driver.build("shrec14/shapes", manual_dir=raw, data_dir=tmp_path / "o")


def test_published_totals():
    assert TOTALS == (171, 8987, 50, 30) and TOTALS.classes * (TOTALS.train + TOTALS.test) == 13_680
    assert TOTALS.classes - UNSEEN == 133
