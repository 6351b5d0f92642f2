"""The view store: row i shows record i, a store is whole or absent, and stale or damaged ones are
noticed.
"""

from __future__ import annotations

import json
import pathlib
import pickle
import threading

import numpy as np
import pytest
from fakes import FakeSource

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data import views
from jax3dret.data.source import open_source
from jax3dret.data.views import build_views, open_views, views_path
from jax3dret.geometry.cameras import ring
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.views import render_point_views, render_views

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


def solid(index):
    """Record `index` is a tetrahedron, taller with it."""
    vertices = CORNERS * np.array([1, 1 + index, 1], np.float32)
    return {"vertices": vertices, "faces": FACES, "points": vertices}


def solids_in(path: pathlib.Path, num: int = 5, *, up_axis: str = "y") -> FakeSource:
    ids = [f"solid/{i}" for i in range(num)]
    return FakeSource(np.zeros(num), solid, name="solids", ids=ids, path=path, up_axis=up_axis)


@pytest.fixture
def solids(tmp_path) -> FakeSource:
    return solids_in(tmp_path)


def leftovers(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.partial*"))


def test_row_i_shows_record_i(solids):
    path = build_views(solids, ring(2), size=24)
    assert (
        path == views_path(solids, ring(2), 24)
        and path.parent == solids.path / "views"
        and not leftovers(path.parent)
    )
    store = open_views(path)
    assert len(store) == 5 and store[0].shape == (2, 24, 24, 3) and store[0].dtype == np.uint8
    for i in range(5):
        mesh = Mesh(solids[i]["vertices"], solids[i]["faces"])
        expected = render_views(mesh, ring(2), size=24, up_axis="y").shaded
        np.testing.assert_array_equal(store.grey(i), expected)
        np.testing.assert_array_equal(store[i], np.stack([expected] * 3, -1))
    np.testing.assert_array_equal(store[-1], store[4])
    assert not np.array_equal(store.grey(0), store.grey(4))
    with pytest.raises(IndexError, match="no item 5"):
        store[5]
    assert store.meta["renderer"] in ("embree", "zbuffer") and store.meta["rendered_from"] == "mesh"
    assert store.meta["cameras"]["name"] == "ring2" and store.meta["source"]["items"] == 5


def test_a_store_is_rendered_once(solids, monkeypatch):
    path = build_views(solids, ring(1), size=16)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(views.rendering, "render_views", None)
    assert build_views(solids, ring(1), size=16) == path and path.stat().st_mtime_ns == before


def test_every_setting_has_its_own_file(solids):
    other = solids_in(solids.path, 4)
    turned = solids_in(solids.path, up_axis="z")
    paths = [
        views_path(solids, ring(2), 24),
        views_path(solids, ring(3), 24),
        views_path(solids, ring(2, 31.0), 24),
        views_path(solids, ring(2), 25),
        views_path(solids, ring(2), 24, what="mask"),
        views_path(solids, ring(2), 24, background="black"),
        views_path(solids, ring(2), 24, supersample=1),
        views_path(other, ring(2), 24),
        views_path(turned, ring(2), 24),
    ]
    assert len(set(paths)) == len(paths)
    # What a mask does not depend on, makes no other file.
    assert views_path(solids, ring(2), 24, what="mask", background="black") == paths[4]


def test_a_file_of_something_else_is_rendered_anew(solids, tmp_path):
    out = tmp_path / "own" / "store.array_record"
    build_views(solids, ring(1), size=16, out=out)
    build_views(solids_in(tmp_path, 3), ring(1), size=16, out=out)
    assert len(open_views(out)) == 3
    build_views(solids_in(tmp_path, 3), ring(1), size=16, out=out, what="mask")
    assert set(np.unique(open_views(out).grey(0))) == {0, 255}


def test_records_without_a_mesh_are_drawn_as_points(parts_dir, caplog):
    source = open_source("parts", "val", parts_dir)
    with caplog.at_level("INFO", logger="jax3dret"):
        store = open_views(build_views(source, ring(2), size=16))
    assert (
        "from the points: the records have no mesh" in caplog.text
        and store.meta["renderer"] == "discs"
    )
    assert len(store) == 7
    expected = render_point_views(source[6]["points"], ring(2), size=16, up_axis="y").shaded
    np.testing.assert_array_equal(store.grey(6), expected)


def test_processes_give_the_same_file(parts_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(views, "_PER_JOB", 4)
    source = open_source("parts", "train[:9]", parts_dir)
    one, two = (
        build_views(source, ring(1), size=16, jobs=n, out=tmp_path / f"{n}.array_record")
        for n in (1, 2)
    )
    assert one.read_bytes() == two.read_bytes()


def test_a_store_can_be_copied_and_read_by_many_threads(solids):
    store = open_views(build_views(solids, ring(2), size=24))
    copy = pickle.loads(pickle.dumps(store))
    expected = [store[i].tobytes() for i in range(5)]
    wrong: list[int] = []

    def read() -> None:
        wrong.extend(i % 5 for i in range(100) if copy[i % 5].tobytes() != expected[i % 5])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_unusable_record_is_named_and_nothing_is_left(solids, monkeypatch):
    solids.record = lambda i: {**solid(i), "vertices": CORNERS * (i != 3)}
    with pytest.raises(DataError, match=r"solids: record 'solid/3' cannot be rendered: .* no size"):
        build_views(solids, ring(1), size=16)
    path = views_path(solids, ring(1), 16)
    assert not path.exists() and not leftovers(path.parent)


def test_an_interrupted_rendering_leaves_nothing_and_starts_again(solids, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    path = views_path(solids, ring(1), 16)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(views.rendering, "render_views", stop)
        build_views(solids, ring(1), size=16)
    assert not path.exists() and not leftovers(path.parent)
    path.with_name(path.name + ".partial").write_bytes(b"what a killed process left")
    assert len(open_views(build_views(solids, ring(1), size=16))) == 5 and not leftovers(
        path.parent
    )


def test_damaged_stores(solids):
    with pytest.raises(DataError, match="no such view store"):
        open_views(views_path(solids, ring(1), 16))
    path = build_views(solids, ring(1), size=16)
    description = path.with_name(path.name + ".json")
    meta = json.loads(description.read_text())
    for change, reason in (
        ({"source": {**meta["source"], "items": 6}}, "holds 5 items, its .json lists 6"),
        ({"size": 17}, "item 0 has 256 bytes"),
    ):
        description.write_text(json.dumps({**meta, **change}))
        with pytest.raises(DataError, match=reason):
            open_views(path).grey(0)
    description.write_text("{")
    with pytest.raises(DataError, match="missing or damaged"):
        open_views(path)
    description.write_text(json.dumps(meta))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"\.array_record: "):
        open_views(path)


def test_settings_that_do_not_exist(unchecked, solids):
    for wrong, reason in (
        ({"what": "depth"}, "'shaded' or 'mask'"),
        ({"jobs": 0}, "jobs=0"),
        ({"size": 2}, "size=2"),
    ):
        with pytest.raises(ConfigError, match=reason):
            build_views(solids, ring(1), **wrong)
