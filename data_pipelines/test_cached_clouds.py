"""The published cache of clouds, in small trees of its layout, through the builders that read it."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from data_pipelines import build as driver
from data_pipelines.cached_clouds import find_cache
from data_pipelines.modelnet.layouts import find_layout as modelnet_layout
from data_pipelines.shapenet.layouts import find_layout as shapenet_layout
from jax3dret.core.types import DataError
from jax3dret.data.source import open_source

KEYS = [f"{i:032x}" for i in range(6)]
# key, label id, label, split, mesh
ROWS = [
    (KEYS[3], 0, "stairs", "train", "stairs/train/stairs_0011.off"),
    (KEYS[2], 0, "stairs", "train", "stairs/train/stairs_0013.off"),
    (KEYS[5], 0, "stairs", "test", "stairs/test/stairs_0140.off"),
    (KEYS[1], 1, "bed", "train", "bed/train/bed_0001.off"),
    (KEYS[0], 1, "bed", "test", "bed/test/bed_0516.off"),
]
FILLING = [f"class_{i:02d}" for i in range(2, 40)]


def cloud(seed: int, num: int = 30) -> np.ndarray:
    """Points and normals of a shape that is 40 long and lies off the origin."""
    rng = np.random.default_rng(seed)
    return np.concatenate([20 * rng.uniform(-1, 1, (num, 3)) + 7, rng.normal(size=(num, 3))], 1)


def write(root: pathlib.Path, stem: str, rows, *, clouds: str = "clouds", arrays=None) -> None:
    """As the published repository has it. arrays: by key; those not given are clouds."""
    (root / clouds).mkdir(parents=True, exist_ok=True)
    samples = {}
    for number, (key, label_id, label, split, *mesh) in enumerate(rows):
        entry = {"label": label, "label_id": label_id, "split": split, "cache_path": f"{key}.npy"}
        samples[key] = {**entry, **({"path": mesh[0]} if mesh else {})}
        array = (arrays or {}).get(key, cloud(number))
        if array is not None:
            np.save(root / clouds / f"{key}.npy", array)
    labels = {label: label_id for _, label_id, label, *_ in rows}
    file = {
        "name": stem,
        "version": "0",
        "n_classes": len(labels),
        "label_to_id": labels,
        "id_to_label": {str(v): k for k, v in labels.items()},
        "samples": samples,
    }
    (root / f"{stem}_v0.json").write_text(json.dumps(file))


def build(name: str, root: pathlib.Path, out: pathlib.Path):
    path = driver.build(name, manual_dir=root, data_dir=out)
    return json.loads((path / "manifest.json").read_text())


@pytest.mark.parametrize("place", ["raw", "raw/cache"])
def test_modelnet(tmp_path, caplog, place):
    # All forty classes, as the file that was published numbers them.
    rows = [*ROWS, *((f"k{i}", i, FILLING[i - 2], "train") for i in range(2, 40))]
    arrays = {f"k{i}": None for i in range(2, 40)} | {
        KEYS[1]: np.zeros((5, 2)),
        KEYS[2]: cloud(1, 20),
    }
    write(tmp_path / place, "m40", rows, arrays=arrays)
    manifest = build("modelnet/40", tmp_path / "raw", tmp_path / "out")
    ids = {split: part["ids"] for split, part in manifest["splits"].items()}
    assert ids == {
        "train": ["stairs/stairs_0013", "stairs/stairs_0011"],  # by key
        "test": ["stairs/stairs_0140", "bed/bed_0516"],
    }
    assert manifest["class_names"][:3] == ["stairs", "bed", "class_02"]
    points = {split: part["points"] for split, part in manifest["splits"].items()}
    assert points == {"train": [20, 30], "test": [30, 30]}  # of the smallest and the largest
    source = manifest["source"]
    assert source["kind"] == "cached_clouds" and source["split_file"] == "m40_v0.json"
    assert source["points"] == "as stored in the published cache" and not source["complete"]
    assert source["missing"] == 38 and "38 of 43 files of the split are missing" in caplog.text
    assert "modelnet/40" in caplog.text and manifest["up_axis"] == "z"
    (skipped,) = manifest["skipped"]
    assert skipped["file"] == "train: bed/bed_0001" and "float64[5, 2]" in skipped["reason"]
    row = open_source("modelnet/40", "train", tmp_path / "out")[1]
    np.testing.assert_allclose(
        row["points"] * row["scale"] + row["centroid"], cloud(0)[:, :3], atol=1e-5
    )
    assert set(row) == {"id", "label", "points", "centroid", "scale"}


@pytest.mark.parametrize("config", ["normal", "perturbed"])
def test_shapenet(tmp_path, config):
    rows = [
        ("a", 0, "02691156", "train"),
        ("b", 0, "02691156", "val"),
        ("c", 1, "chair", "test"),
        ("d", 1, "chair", "train"),
    ]
    root = tmp_path / "raw"
    write(root, f"shapenet_{config}_coarse", rows, arrays={"d": None})
    other = {"normal": "perturbed", "perturbed": "normal"}[config]
    write(root / "other", f"shapenet_{other}_coarse", rows)
    manifest = build(f"shapenet/{config}", root, tmp_path / "out")
    assert {split: part["ids"] for split, part in manifest["splits"].items()} == {
        "train": ["a"],
        "val": ["b"],
        "test": ["c"],
    }
    assert manifest["class_names"] == ["airplane", "chair"]
    assert manifest["source"]["kind"] == "npy" and manifest["source"]["missing_first"] == ["d.npy"]
    assert manifest["source"]["split_file"] == f"shapenet_{config}_coarse_v0.json"
    assert manifest["source"]["listed"] == {"train": 2, "val": 1, "test": 1}
    row = open_source(f"shapenet/{config}", "test", tmp_path / "out")[0]
    assert row["points"].shape == (30, 3) and "normals" not in row and "faces" not in row


@pytest.mark.parametrize(
    ("name", "stem", "rows"),
    [
        (
            "mcb",
            "mcb",
            [("a", 1, "nut", "val"), ("b", 0, "bolt", "train"), ("c", 1, "nut", "test")],
        ),
        (
            "scanobjectnn/obj_only",
            "scanobjectnn",
            [("test_0", 0, "bag", "test"), ("train_3", 0, "bag", "train"), ("x", 1, "bin", "val")],
        ),
    ],
)
def test_the_others_of_the_paper(tmp_path, caplog, name, stem, rows):
    root = tmp_path / "raw" / "cache"
    write(root, stem, [*rows, ("gone", 0, rows[1][2], "train")], arrays={"gone": None})
    manifest = build(name, tmp_path / "raw", tmp_path / "out")
    assert {split: part["ids"] for split, part in manifest["splits"].items()} == {
        split: [key] for key, _, _, split in rows
    }
    source = manifest["source"]
    assert source["kind"] == "npy" and source["split_file"] == f"{stem}_v0.json"
    assert source["points"] == "as stored in the published cache"
    assert "1 of 4 files of the split are missing (first: gone.npy)" in caplog.text
    assert manifest["class_names"] == sorted({row[2] for row in rows})
    row = open_source(name, "train", tmp_path / "out")[0]
    assert set(row) == {"id", "label", "points", "centroid", "scale"}


def test_the_file_that_the_table_names_counts(tmp_path):
    write(tmp_path, "x", [("a", 0, "bed", "train"), ("b", 0, "bed", "test")])
    table = json.loads((tmp_path / "x_v0.json").read_text())
    table["samples"]["a"]["cache_path"] = "cache/b.npy"
    del table["samples"]["b"]["cache_path"]
    (tmp_path / "x_v0.json").write_text(json.dumps(table))
    cache = find_cache(tmp_path, "x")
    assert cache is not None and cache.items["train"][0].path.name == "b.npy"
    assert cache.notes["without_published_cloud"] == {"train": 0, "val": 0, "test": 1}


def test_caches_that_share_their_names_are_not_mixed(tmp_path):
    rows = [("a", 0, "bed", "train"), ("b", 0, "bed", "test")]
    write(tmp_path, "x", rows, clouds="first")
    write(tmp_path, "y", rows, clouds="second")
    with pytest.raises(DataError, match="a.npy of x_v0.json lies in first and second; give a fold"):
        find_cache(tmp_path, "x")
    write(tmp_path / "x", "x", rows)
    write(tmp_path / "y", "y", rows)
    assert {p.path.parent for p in find_cache(tmp_path / "x", "x").items["train"]} == {
        tmp_path / "x" / "clouds"
    }


def test_a_split_file_alone_is_no_cache(tmp_path):
    """Beside meshes it says nothing; arrays of which it lists none are an error."""
    for split in ("train", "test"):
        path = tmp_path / "bed" / split / f"bed_{split}.off"
        path.parent.mkdir(parents=True)
        path.write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    write(tmp_path, "m40", ROWS, arrays=dict.fromkeys(KEYS))
    assert modelnet_layout(tmp_path, 40).kind == "off" and find_cache(tmp_path, "m40") is None
    np.save(tmp_path / "clouds" / "other.npy", cloud(0))
    with pytest.raises(DataError, match="5 of 5 files of the split are missing"):
        find_cache(tmp_path, "m40")
    with pytest.raises(DataError, match=r"holds 2 forms of the data set: .*\(off\)"):
        modelnet_layout(tmp_path, 40)


def test_two_forms_of_shapenet_in_one_folder(tmp_path):
    write(tmp_path, "shapenet_normal_coarse", [("a", 0, "chair", "train")])
    (tmp_path / "all.csv").write_text("id,synsetId,split\n")
    with pytest.raises(DataError, match=r"two forms .* all.csv .* shapenet_normal_coarse_v0.json"):
        shapenet_layout(tmp_path, "normal")
    (tmp_path / "all.csv").unlink()
    with pytest.raises(DataError, match="no split table there; .*coarse_v0.json"):
        shapenet_layout(tmp_path, "perturbed")
