"""Files beside those that an index reads: 3D formats that are known and refused, texts for people,
and clouds that begin as such and break.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib

import numpy as np
import pytest
from search.toy import tetrahedron

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry import clouds
from jax3dret.geometry.mesh_formats import unread
from jax3dret.geometry.meshes import EXTENSIONS, load_mesh
from jax3dret.inputs import choose, loading
from jax3dret.inputs import item as item_module
from jax3dret.inputs.item import Item
from jax3dret.inputs.points import Points
from jax3dret.search import encode, gallery
from jax3dret.search.loose_text import is_loose_text
from jax3dret.search.query import open_gallery
from jax3dret.search.scan import TEXT, scan

ROWS = "".join(f"{x} {x / 3} {-x}\n" for x in np.linspace(0, 1, 20))
TEXTS = {
    "readme": "Parts of the press.\n\nVersion 3, of 12 May. All in mm.\n",
    "licence": "MIT License\n\nCopyright (c) 2020\n\n" + "Permission is granted. " * 400,
    "ids": "".join(f"{i}\n" for i in range(50)),
    "pairs": "a.stl 3 4 5\nb.stl 6 7 8\n",
    "names": "chair\ntable\nsofa\n",
    "numbered": "1. Open the file.\n2. Look at it.\n",
    "foreign": "Größe: 3 × 4\n".encode("latin-1"),
    "commented": "# 1 2 3\n// 4 5 6\nnothing else\n",
}
CLOUDS = {
    "plain": ROWS,
    "commas": ROWS.replace(" ", ","),
    "semicolons": ROWS.replace(" ", ";"),
    "titled": "x y z\n" + ROWS,
    "commented": "# made by hand\n//X Y Z\n" + ROWS,
    "counted": "20\n" + ROWS,
    "marked": "\ufeff" + ROWS,
    "breaks": ROWS + "1 2 three\n",
    "nan": "nan nan nan\n",
    "pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "empty": "",
    "blank": "\n \n",
}


@pytest.mark.parametrize(("texts", "loose"), [(TEXTS, True), (CLOUDS, False)])
def test_a_text_is_told_from_a_cloud_by_what_it_says(tmp_path, texts, loose):
    for name, text in texts.items():
        path = tmp_path / f"{name}.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert is_loose_text(path) is loose, name


def test_what_cannot_be_opened_is_not_called_a_text(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "dead.txt").symlink_to("nowhere")
    (tmp_path / "folder.txt").mkdir()
    assert not any(is_loose_text(tmp_path / n) for n in ("pipe.txt", "dead.txt", "folder.txt"))


def test_every_unread_format_says_what_to_do_and_none_is_read():
    read = {*EXTENSIONS, *clouds.EXTENSIONS, ".png", ".jpg"}
    assert not read & set(unread.REASONS)
    for suffix, reason in unread.REASONS.items():
        assert suffix == suffix.lower() and suffix.startswith(".")
        head, _, advice = reason.partition("; ")
        assert head.startswith("is a") and head.endswith("which is not read") and len(advice) > 10
    wanted = ".dae .fbx .wrl .stp .step .iges .blend .usd .usdz .x3d .3ds .max .skp .sldprt"
    assert set(wanted.split()) <= set(unread.REASONS)
    assert unread.reason_of("a.mtl") == unread.reason_of("fbx") == ""


def test_a_file_of_an_unread_format_is_refused_in_one_line_wherever_it_is_given(tmp_path):
    for name, said in {"a.FBX": "Blender", "b.stp": "FreeCAD", "c.d.las": "CloudCompare"}.items():
        path = tmp_path / name
        path.write_bytes(b"x")
        item = Item.of(path)
        inputs = {"shape": Points(8)}
        for refuse in (
            lambda: load_mesh(path),  # noqa: B023
            lambda: loading.load(item),  # noqa: B023
            lambda: choose.choose(inputs, loading.kind_of(item), name=item.name),  # noqa: B023
        ):
            with pytest.raises((ConfigError, DataError)) as caught:
                refuse()
            message = str(caught.value)
            assert message.startswith(f"{path}: is a") and said in message and "\n" not in message


def test_a_scan_lists_unread_formats_counts_texts_and_keeps_broken_clouds(tmp_path):
    for folder in ("", "a/"):
        pathlib.Path(tmp_path, folder).mkdir(exist_ok=True)
        for name, text in {**TEXTS, "cloud": ROWS, "broken": ROWS + "1 2 three\n"}.items():
            path = tmp_path / f"{folder}{name}.txt"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        (tmp_path / f"{folder}part.STEP").write_text("ISO-10303-21;")
        (tmp_path / f"{folder}part.mtl").write_text("newmtl a")
        (tmp_path / f"{folder}.hidden.fbx").write_text("x")
    extensions = loading.extensions_of(("mesh", "cloud"))
    found = scan([tmp_path], extensions=extensions, exclude=tmp_path / "o", unread=unread.REASONS)
    assert [file.id for file in found.files] == [
        "a/broken.txt",
        "a/cloud.txt",
        "broken.txt",
        "cloud.txt",
    ]
    assert [s["file"] for s in found.skipped] == ["part.STEP", "a/part.STEP"]
    assert found.skipped[1]["path"] == str(tmp_path / "a" / "part.STEP")
    assert found.others == {".mtl": 2, TEXT: 2 * len(TEXTS)}
    pictures = scan([tmp_path], extensions=(".png",), exclude=tmp_path / "o")
    assert not pictures.skipped and pictures.others[".step"] == 2 and pictures.others[".txt"] == 20


def test_a_folder_inside_another_is_listed_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.fbx").write_text("x")
    sources = [tmp_path, tmp_path / "a"]
    found = scan(sources, extensions=(".obj",), exclude=tmp_path / "o", unread=unread.REASONS)
    assert len(found.skipped) == 1


def test_an_index_of_a_mixed_folder(tmp_path, trained, caplog, monkeypatch):
    embed = lambda self, rows, *_: np.ones((len(rows), self.width), np.float32)  # noqa: E731
    monkeypatch.setattr(encode.Encoder, "embed", embed)  # what is read counts here, not as what
    parts = tmp_path / "parts"
    tetrahedron(parts / "one.obj")
    (parts / "cloud.txt").write_text(ROWS)
    (parts / "broken.txt").write_text(ROWS + "1 2\n")
    (parts / "README.txt").write_text(TEXTS["readme"])
    (parts / "LICENCE.txt").write_text(TEXTS["licence"])
    (parts / "press.stp").write_text("ISO-10303-21;")
    (parts / "scene.dae").write_text("<COLLADA/>")
    out = tmp_path / "index"
    with caplog.at_level(logging.INFO, logger="jax3dret"):
        summary = gallery.build([parts], out, weights=trained.path)
    assert (summary.items, summary.skipped) == (2, 3)
    assert "files of other kinds are not read: 2 .txt without points" in caplog.text
    assert "listed in skipped.json: 1 .dae, 1 .stp" in caplog.text
    skipped = {s["file"]: s["reason"] for s in json.loads((out / "skipped.json").read_text())}
    assert set(skipped) == {"broken.txt", "press.stp", "scene.dae"}
    assert "FreeCAD" in skipped["press.stp"] and "assimp export" in skipped["scene.dae"]
    with pytest.raises(ConfigError, match=r"scene.dae: is a Collada scene, which is not read"):
        list(open_gallery(out).query([Item.of(parts / "scene.dae")], 3))
    with pytest.raises(DataError, match=r"none of the 1 files .*press.stp: is a STEP file"):
        gallery.build([parts / "press.stp"], out)
    (tmp_path / "cad").mkdir()
    (tmp_path / "cad" / "a.iges").write_text("x")
    with pytest.raises(DataError, match=r"no files that the model reads.*first is a.iges: is an I"):
        gallery.build([tmp_path / "cad"], out)
    # The files are the same, what reads them is not: nothing that was known of them counts.
    for file in parts.iterdir():
        os.utime(file, (0, 0))
    assert gallery.build([parts], out).embedded == 0
    assert len(json.loads((out / "hashes.json").read_text())["files"]) == 2
    monkeypatch.setattr(item_module, "READERS", 99)
    assert gallery.build([parts], out).embedded == 2
