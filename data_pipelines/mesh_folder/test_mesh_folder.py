"""Folders of meshes: classes, splits, broken files, and what the prepared records hold."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from geometry.mesh_formats import gltf_writer, threemf_writer

from data_pipelines import build as driver
from data_pipelines.mesh_folder import mesh_folder
from data_pipelines.mesh_folder.scan import scan
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.points import UpAxis
from jax3dret.data.source import open_source
from jax3dret.inputs.item import Item
from jax3dret.inputs.mesh import SampledMesh
from jax3dret.search.prepare import prepare

TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 2 0\n0 0 3\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
SQUARE_OBJ = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n"


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(mesh_folder, "NUM_POINTS", 64)


def fill(root: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SQUARE_OBJ if name.endswith(".obj") else TETRAHEDRON)
    return root


def manifest_of(path: pathlib.Path) -> dict:
    return json.loads((path / "manifest.json").read_text())


def test_classes_are_first_level_folders_and_a_fifth_is_test(tmp_path):
    names = [
        f"{label}/deep/{i}.off"
        for label, n in {"bolt": 10, "nut": 7, "pair": 2, "solo": 1}.items()
        for i in range(n)
    ]
    found = scan(fill(tmp_path / "parts", *names))
    count = {
        split: {c: sum(label == c for _, label in part) for c in found.class_names}
        for split, part in found.items.items()
    }
    assert found.class_names == ("bolt", "nut", "pair", "solo")
    assert count["test"] == {"bolt": 2, "nut": 1, "pair": 1, "solo": 0}
    assert count["train"] == {"bolt": 8, "nut": 6, "pair": 1, "solo": 1}
    assert found.notes["single_item_classes"] == 1 and found.notes["labelled"]
    # The same names give the same split elsewhere, whatever the files were made in.
    again = scan(fill(tmp_path / "elsewhere", *reversed(names)))
    assert again.items == found.items


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (
            ("train/bolt/a.off", "train/nut/b.off", "test/bolt/c.off", "val/nut/d.off"),
            "split/class",
        ),
        (
            ("Train/bolt/a.off", "Train/nut/b.off", "TEST/bolt/c.off", "validation/nut/d.off"),
            "split/class",
        ),
        (
            ("bolt/train/a.off", "nut/train/b.off", "bolt/test/c.off", "nut/val/d.off"),
            "class/split",
        ),
    ],
)
def test_splits_that_the_folder_has_are_kept(tmp_path, names, layout):
    found = scan(fill(tmp_path, *names))
    assert found.notes["layout"] == layout
    assert found.class_names == ("bolt", "nut")
    assert found.items == {
        "train": [(names[0], "bolt"), (names[1], "nut")],
        "test": [(names[2], "bolt")],
        "val": [(names[3], "nut")],
    }


def test_a_class_called_train_alone_is_a_class(tmp_path):
    found = scan(fill(tmp_path, "train/a.off", "bus/b.off"))
    assert found.class_names == ("bus", "train") and found.notes["layout"] == "class"


def test_no_folders_no_classes(tmp_path):
    found = scan(fill(tmp_path, *(f"{i}.off" for i in range(5))))
    assert found.class_names == ("unlabelled",) and found.notes["labelled"] is False
    assert len(found.items["train"]) == 4 and len(found.items["test"]) == 1


def test_hidden_and_other_files_links_and_names(tmp_path):
    fill(
        tmp_path,
        "bolt/a.off",
        "bolt/b.off",
        ".git/c.off",
        "__MACOSX/d.off",
        "bolt/._a.off",
        "bolt/x.step",
        "bolt/y.STEP",
        "bolt/z.mtl",
    )
    (tmp_path / "bolt" / "dead.off").symlink_to("nowhere.off")
    (tmp_path / "bolt" / "loop").symlink_to(tmp_path, target_is_directory=True)
    fill(tmp_path.parent / "outside", "e.off")
    (tmp_path / "nut").symlink_to(tmp_path.parent / "outside", target_is_directory=True)
    found = scan(tmp_path)
    assert sorted(found.files) == ["bolt/a.off", "bolt/b.off", "nut/e.off"]
    assert found.notes["other_files"] == {".mtl": 1}
    reasons = {entry["file"]: entry["reason"] for entry in found.unreadable}
    assert set(reasons) == {"bolt/dead.off", "bolt/x.step", "bolt/y.STEP"}
    assert "STEP" in reasons["bolt/y.STEP"] and "FreeCAD" in reasons["bolt/x.step"]


def test_gltf_folders_are_y_up(tmp_path):
    assert scan(fill(tmp_path / "a", "x.glb", "y.gltf")).up_axis == "y"
    assert scan(fill(tmp_path / "b", "x.glb", "y.off")).up_axis == "z"


def test_one_shape_stands_alike_in_records_and_in_an_index_whatever_its_format(tmp_path):
    """A tetrahedron of heights 1, 2 and 3 with its 3 upright: z in STL, OBJ and 3MF, y in glTF."""
    upright = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    faces = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    rows = ["solid a"]
    for face in faces:
        corners = "".join("vertex {} {} {}\n".format(*upright[i]) for i in face)
        rows.append(f"facet normal 0 0 0\nouter loop\n{corners}endloop\nendfacet")
    lines = ["v {} {} {}".format(*v) for v in upright]
    lines += ["f {} {} {}".format(*(i + 1 for i in f)) for f in faces]
    asset = gltf_writer.Asset()
    y_up = np.stack([upright[:, 0], upright[:, 2], -upright[:, 1]], 1)
    asset.node(mesh=asset.mesh(asset.primitive(y_up, faces)))
    written = threemf_writer.mesh(vertices=upright, faces=faces)
    model = threemf_writer.part(f'<object id="1">{written}</object>', '<item objectid="1"/>')
    (tmp_path / "parts").mkdir()
    for suffix, content in {
        "stl": "\n".join([*rows, "endsolid a\n"]).encode(),
        "obj": "\n".join(lines).encode(),
        "3mf": threemf_writer.archive(model),
        "glb": asset.glb(),
    }.items():
        (tmp_path / "parts" / f"a.{suffix}").write_bytes(content)
    path = driver.build("mesh_folder", manual_dir=tmp_path / "parts", data_dir=tmp_path / "out")
    manifest = manifest_of(path)
    assert manifest["up_axis"] == "z" and manifest["source"]["turned_to_up_axis"] == 1
    prepared = open_source(manifest["name"], "train", tmp_path / "out")
    tested = open_source(manifest["name"], "test", tmp_path / "out")
    records = {row["id"]: row for source in (prepared, tested) for row in source}
    assert set(records) == {"a.stl", "a.obj", "a.3mf", "a.glb"}
    rng = np.random.default_rng(0)
    for name, record in records.items():
        turned = UpAxis(manifest["up_axis"])(record, rng)
        row = prepare(Item.of(tmp_path / "parts" / name), SampledMesh(64, 64)).row
        faces = row["faces"][row["face_mask"]]
        for vertices in (turned["vertices"], row["vertices"][np.unique(faces)]):
            sizes = np.ptp(vertices, axis=0)  # x, y, z with y up
            np.testing.assert_allclose(sizes / sizes[0], [1, 3, 2], atol=1e-4, err_msg=name)
            top = vertices[vertices[:, 1].argmax()] - vertices.min(axis=0)
            np.testing.assert_allclose(top / sizes, [0, 1, 1], atol=1e-4, err_msg=name)
        original = record["vertices"] * record["scale"] + record["centroid"]
        np.testing.assert_allclose(np.ptp(original, axis=0), [1, 2, 3], atol=1e-5)


def test_nothing_to_read(tmp_path):
    fill(tmp_path, "notes.txt", "a.fbx")
    with pytest.raises(
        DataError,
        match=r"no meshes .*supported are \.off, \.obj.*it holds 1 \.txt, a.fbx, which is an FBX",
    ) as caught:
        driver.build("mesh_folder", manual_dir=tmp_path, data_dir=tmp_path / "out")
    assert str(tmp_path) in str(caught.value)


def test_records_hold_the_mesh_in_the_frame_of_the_points(tmp_path):
    parts = fill(
        tmp_path / "my parts!",
        "bolt/a.off",
        "bolt/b.off",
        "sheet/c.obj",
        "sheet/d.obj",
        "sheet/e.obj",
    )
    path = driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")
    manifest = manifest_of(path)
    name = manifest["name"]
    assert name.startswith("mesh_folder/my_parts-") and path == tmp_path / "out" / name / "1.1.0"
    assert (
        manifest["class_names"] == ["bolt", "sheet"]
        and manifest["up_axis"] == "z"
        and manifest["skipped"] == []
    )
    assert manifest["source"]["num_files"] == 5 and manifest["source"]["manual_dir"] == "my parts!"
    source = open_source(name, "train", tmp_path / "out")
    assert list(source.ids) == sorted(source.ids) == manifest["splits"]["train"]["ids"]
    row = next(source[i] for i in range(len(source)) if source[i]["id"].startswith("bolt"))
    assert (
        row["points"].shape == row["normals"].shape == (64, 3) and row["points"].dtype == np.float32
    )
    assert np.linalg.norm(row["points"], axis=1).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(row["points"].mean(0), 0, atol=1e-6)
    original = row["vertices"] * row["scale"] + row["centroid"]
    np.testing.assert_allclose(original, [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], atol=1e-5)
    assert (
        row["faces"].tolist() == [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
        and row["faces"].dtype == np.int32
    )
    # Points lie on the faces: on one of the three coordinate planes or on the slanted one.
    points = row["points"] * row["scale"] + row["centroid"]
    distance = np.minimum(np.abs(points).min(1), np.abs(points @ [1, 1 / 2, 1 / 3] - 1))
    np.testing.assert_allclose(distance, 0, atol=1e-5)
    # A cloud depends on its own path alone.
    fill(tmp_path / "other", row["id"])
    other = driver.build("mesh_folder", manual_dir=tmp_path / "other", data_dir=tmp_path / "out")
    same = open_source(manifest_of(other)["name"], "train", tmp_path / "out")[0]
    np.testing.assert_array_equal(same["points"], row["points"])


def test_broken_meshes_are_skipped_and_listed(tmp_path, caplog):
    parts = fill(tmp_path / "parts", *(f"bolt/{i}.off" for i in range(6)))
    (parts / "bolt" / "3.off").write_text(TETRAHEDRON[:40])
    (parts / "bolt" / "page.stl").write_text("<html>404</html>")
    with caplog.at_level("WARNING", logger="jax3dret"):
        path = driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")
    manifest = manifest_of(path)
    assert [entry["file"] for entry in sorted(manifest["skipped"], key=str)] == [
        "bolt/3.off",
        "bolt/page.stl",
    ]
    assert all(
        str(tmp_path) not in entry["reason"] and entry["reason"] for entry in manifest["skipped"]
    )
    assert sum(part["items"] for part in manifest["splits"].values()) == 5
    assert "2 files skipped" in caplog.text


def test_all_broken(tmp_path):
    parts = fill(tmp_path / "parts", "bolt/a.off")
    (parts / "bolt" / "a.off").write_text("OFF\n")
    with pytest.raises(
        DataError,
        match=r"not one usable record; 1 files were skipped, the first: bolt/a\.off: has no",
    ):
        driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.array_record*"))


def test_finding_by_folder_by_name_and_by_bare_name(tmp_path):
    out = tmp_path / "out"
    assert driver.find("mesh_folder", out) is None
    first = driver.build(
        "mesh_folder", manual_dir=fill(tmp_path / "x" / "parts", "a.off", "b.off"), data_dir=out
    )
    assert driver.find("mesh_folder", out) == first
    second = driver.build(
        "mesh_folder", manual_dir=fill(tmp_path / "y" / "parts", "a.off", "b.off"), data_dir=out
    )
    assert first != second
    with pytest.raises(ConfigError, match="fits 2 prepared data sets"):
        driver.find("mesh_folder", out)
    assert driver.find("mesh_folder", out, manual_dir=tmp_path / "y" / "parts") == second
    name = manifest_of(first)["name"]
    assert driver.find(name, out) == first and driver.build(name, data_dir=out) == first
    with pytest.raises(ConfigError, match="is the data set of another folder"):
        driver.build(name, manual_dir=tmp_path / "y" / "parts", data_dir=out)


def test_a_folder_that_changed_since_is_an_error(tmp_path):
    parts = fill(tmp_path / "parts", "a.off", "b.off")
    path = driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")
    assert driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out") == path
    fill(parts, "c.off")
    with pytest.raises(
        DataError, match=r"was prepared from 2 files .* now holds 3 .*remove the prepared folder"
    ):
        driver.build("mesh_folder", manual_dir=parts, data_dir=tmp_path / "out")
