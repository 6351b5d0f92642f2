"""Published split files as JSON and as tables, and the raw files that are not what their name says."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from data_pipelines.raw_files import not_the_file, packed
from data_pipelines.split_table import find_split_table, read_split_table
from jax3dret.core.types import DataError

SAMPLES = {
    "a1": {
        "label": "sofa",
        "label_id": 1,
        "split": "train",
        "cache_path": "a1.npy",
        "path": "sofa/train/sofa_0001.off",
    },
    "b2": {"label": "bed", "label_id": 0, "split": "test", "cache_path": "b2.npy"},
    "c3": {"label": "bed", "label_id": 0, "split": "val"},
}


def write_json(path: pathlib.Path, samples=SAMPLES) -> pathlib.Path:
    path.write_text(json.dumps({"name": "x", "version": "0", "n_classes": 2, "samples": samples}))
    return path


def write_table(path: pathlib.Path, rows, columns="key\tlabel_id\tlabel\tsplit") -> pathlib.Path:
    path.write_text("\n".join([columns, *("\t".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_json_and_table_read_alike(tmp_path):
    table = read_split_table(write_json(tmp_path / "x_v0.json"))
    assert table.class_names == ("bed", "sofa")  # by label id, not in the order of appearance
    assert table.counts == {"train": 1, "val": 1, "test": 1}
    assert table.rows[0].path == "sofa/train/sofa_0001.off" and [
        row.cache for row in table.rows
    ] == ["a1.npy", "b2.npy", None]
    rows = [
        ("a1", 1, "sofa", "train", 1, "sofa/train/sofa_0001.off"),
        ("b2", 0, "bed", "test", 1, ""),
        ("c3", 0, "bed", "val", 0, ""),
    ]
    columns = "objaverse_uid\tlabel_id\tlabel\tsplit\thas_cloud\tmesh_path"
    same = read_split_table(write_table(tmp_path / "x_v0.tsv", rows, columns))
    assert same.class_names == table.class_names
    assert [row.cache for row in same.rows] == ["", "", None]
    assert [row._replace(path=row.path or None, cache=None) for row in same.rows] == [
        row._replace(cache=None) for row in table.rows
    ]


def test_found_beside_the_raw_files(tmp_path):
    assert find_split_table(tmp_path, "mcb") is None
    (tmp_path / "splits").mkdir()
    write_json(tmp_path / "splits" / "mcb_v0.json")
    found = find_split_table(tmp_path, "mcb")
    assert found is not None and found.file.name == "mcb_v0.json"
    write_json(tmp_path / "mcb_v1.json")
    with pytest.raises(
        DataError, match=r"holds 2 split files: mcb_v1.json, splits/mcb_v0.json; keep one"
    ):
        find_split_table(tmp_path, "mcb")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "lists no samples"),
        ([("a", 0, "bed", "train"), ("a", 0, "bed", "test")], "the key 'a' comes twice"),
        ([("a", 0, "bed", "dev")], "in the split 'dev'"),
        ([("a", 0, "bed", "train"), ("b", 0, "sofa", "train")], "label id 0 is 'bed' and 'sofa'"),
        ([("a", 1, "bed", "train")], "must number the 1 labels from 0"),
        ([("a", 0, "bed", "train"), ("b", 1, "bed", "train")], "must number"),
        ([("a", "x", "bed", "train")], "line 2 has the label id 'x'"),
    ],
)
def test_refused_tables(tmp_path, rows, says):
    with pytest.raises(DataError, match=says) as caught:
        read_split_table(write_table(tmp_path / "t.tsv", rows))
    assert "\n" not in str(caught.value)


def test_refused_files(tmp_path):
    html = tmp_path / "mcb_v0.json"
    html.write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(DataError, match="is an HTML page"):
        read_split_table(html)
    html.write_text('{"samples": {"a": {"label": "bed"}}}')
    with pytest.raises(DataError, match="sample 'a' must have"):
        read_split_table(html)
    html.write_text('{"samples": ')
    with pytest.raises(DataError, match="not readable JSON"):
        read_split_table(html)
    with pytest.raises(DataError, match="no column 'split'"):
        read_split_table(write_table(tmp_path / "t.tsv", [], "key\tlabel_id\tlabel"))


def test_what_lies_under_a_name(tmp_path):
    cases = {
        "a.zip": (b"PK\x03\x04", None),
        "b.zip": (b"\n<html><body>Sign in", "HTML page"),
        "c.tar.gz": (b"", "empty"),
        "d.obj": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    }
    for name, (data, says) in cases.items():
        (tmp_path / name).write_bytes(data)
        found = not_the_file(tmp_path / name)
        assert (says is None and found is None) or says in found
    text = packed(tmp_path)
    assert (
        "a.zip is not unpacked" in text
        and "b.zip is an HTML page" in text
        and "c.tar.gz is empty" in text
    )
    assert "d.obj" not in text


@pytest.mark.real
def test_the_published_tables():
    folder = pathlib.Path(os.environ.get("JAX3DRET_REAL_DATA", ""), "splits")
    if not folder.is_dir():
        pytest.skip("set JAX3DRET_REAL_DATA to the folder that holds splits/*_v0.tsv")
    tables = {
        stem: find_split_table(folder, stem) for stem in ("m40", "scanobjectnn", "objaverse_easy")
    }
    assert {stem: (table.counts, len(table.class_names)) for stem, table in tables.items()} == {
        "m40": ({"train": 9843, "test": 2468}, 40),
        "scanobjectnn": ({"train": 2309, "test": 581}, 15),
        "objaverse_easy": ({"train": 6142, "val": 833, "test": 1018}, 76),
    }
    # The published ModelNet40 split is the official one: every path is in the folder of its class
    # and split.
    for row in tables["m40"].rows:
        label, split, name = row.path.split("/")
        assert (label, split) == (row.label, row.split) and name.startswith(f"{label}_")
    assert len({row.path for row in tables["m40"].rows}) == 12_311
