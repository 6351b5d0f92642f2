"""A glTF and the buffers beside it: an index notices when these change, between runs and in one."""

from __future__ import annotations

import os

import numpy as np
import pytest
from geometry.mesh_formats.gltf_writer import BOX, Asset, pack

from jax3dret.inputs import loading
from jax3dret.inputs.item import Item
from jax3dret.inputs.points import Points
from jax3dret.search import encode, gallery
from jax3dret.search.prepare import prepare_all


def box(folder, name, uri, scale=1.0):
    """A file whose only buffer lies beside it, and that buffer."""
    asset = Asset()
    asset.node(mesh=asset.mesh(asset.primitive(BOX * [scale, 1, 1])))
    asset.document["buffers"][0] = {"byteLength": len(asset.blob), "uri": uri}
    folder.mkdir(exist_ok=True)
    data = asset.text if name.endswith(".gltf") else pack(asset.text, None)
    (folder / name).write_bytes(data)
    return folder / name, bytes(asset.blob)


@pytest.mark.parametrize("name", ["a.gltf", "a.glb"])
def test_a_buffer_that_changed_is_read_again(tmp_path, trained, monkeypatch, name):
    embed = lambda self, rows, *_: np.ones((len(rows), self.width), np.float32)  # noqa: E731
    monkeypatch.setattr(encode.Encoder, "embed", embed)
    path, first = box(tmp_path / "parts", name, "my%20part.bin")
    _, second = box(tmp_path / "other", name, "x.bin", scale=2)
    for blob, wanted in ((first, (1, 0)), (first, (0, 0)), (second, (1, 1))):
        (path.parent / "my part.bin").write_bytes(blob)
        for file in path.parent.iterdir():
            os.utime(file, (0, 0))  # settled, and as old as before
        summary = gallery.build([path.parent], tmp_path / "index", weights=trained.path)
        assert (summary.embedded, summary.changed) == wanted
    (path.parent / "my part.bin").unlink()
    (path.parent / "b.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    summary = gallery.build([path.parent], tmp_path / "index")
    assert (summary.items, summary.dropped, summary.skipped) == (1, 1, 1)


def test_a_buffer_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path, blob = box(tmp_path / "parts", "a.gltf", "a.bin")
    buffer = path.parent / "a.bin"
    buffer.write_bytes(blob)
    load = loading.load

    def slowly(item):
        loaded = load(item)
        buffer.write_bytes(blob + b"more")
        return loaded

    monkeypatch.setattr(loading, "load", slowly)
    (found,) = prepare_all([Item.of(path)], Points(16), known=frozenset(), jobs=1)
    assert found.row is None and "changed while it was read" in found.reason
