"""An index with damaged files: one line that names the file and what to do, and that does it."""

import json
import shutil

import numpy as np
import pytest
from search.toy import tetrahedron

from jax3dret.core.types import ConfigError, DataError
from jax3dret.index.index import Index
from jax3dret.search import encode, gallery
from jax3dret.search.query import open_gallery

AGAIN = "build the index again, with --weights WORKDIR"
ABSENT = object()
VALUES = (ABSENT, None, True, -1, 0.5, 3, "x", [], ["x"], {}, {"x": "y"}, float("nan"))
# What may as well stand there.
RIGHT = {
    "build_s": (-1, 0.5, 3),
    "tree": ({},),
    "recall_at_10": (0.5,),
    "target_recall": (0.5,),
    "items": (3,),
    "meta.gallery.sources": (["x"],),
    "meta.gallery.up_axis": (None,),
    "meta.gallery.modality": ("x",),
    "meta.model": ({}, {"x": "y"}),
    "meta.encoder.identity": ("x",),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("damaged")
    for i in range(3):
        tetrahedron(folder / f"parts/{i}.obj", height=0.4 + i)
    gallery.build([folder / "parts"], folder / "index", weights=trained.path)
    return folder


@pytest.fixture
def index(whole, tmp_path):
    return shutil.copytree(whole / "index", tmp_path / "index")


def refused(whole, index, what=None):
    """What both commands say; the encoder is not opened."""
    said = []
    for opens in (open_gallery, lambda at: gallery.build([whole / "parts"], at)):
        with pytest.raises((ConfigError, DataError)) as caught:
            opens(index)
        said.append(str(caught.value))
        assert "\n" not in said[-1] and "reached" not in said[-1], what
    return said


def keys_of(entry):
    names = {"data": entry, "meta.gallery": entry["meta"]["gallery"]}
    names["meta.encoder"] = entry["meta"]["encoder"]
    top = [key for key in entry if key != "format"]
    inner = [f"{at}.{key}" for at in ("meta.gallery", "meta.encoder") for key in names[at]]
    return [*top, *inner, "meta.gallery", "meta.encoder", "meta.model"]


def test_every_entry_that_is_damaged_is_named(whole, index, monkeypatch):
    def reached(_):
        raise ConfigError("reached")

    monkeypatch.setattr(encode, "load_encoder", reached)
    path = index / "index.json"
    text = path.read_text()
    keys = keys_of(json.loads(text))
    assert {"distance", "files", "meta.gallery.keys", "meta.encoder.folder"} <= set(keys)
    for key in keys:
        for value in VALUES:
            if any(value is each or value == each for each in RIGHT.get(key, ())):
                continue
            entry = json.loads(text)
            *above, last = key.split(".")
            section = entry
            for part in above:
                section = section[part]
            if value is ABSENT:
                del section[last]
            else:
                section[last] = value
            path.write_text(json.dumps(entry))
            for said in refused(whole, index, (key, value)):
                assert str(index) in said, (key, value, said)


@pytest.mark.parametrize("name", ["index.json", "data-000001/ids.json", "data-000001/vectors.npy"])
@pytest.mark.parametrize("damage", ["gone", "cut", "noise", "zip", "object"])
def test_what_is_said_to_do_does_it(whole, index, trained, name, damage, caplog):
    path = index / name
    size = path.stat().st_size
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: size // 2])
    elif damage == "noise":
        path.write_bytes(b"\xff" * size)
    elif damage == "zip":
        np.savez(path.open("wb"), a=np.zeros(3))
    else:
        np.save(path.open("wb"), np.array([{}], object), allow_pickle=True)
    if damage in ("zip", "object") and name != "index.json":  # of the size that is written down
        entry = json.loads((index / "index.json").read_text())
        entry["files"][path.name] = path.stat().st_size
        (index / "index.json").write_text(json.dumps(entry))
    if name == "index.json" and damage == "gone":
        return  # no index any more
    for said in refused(whole, index):
        assert said.endswith(f"; {AGAIN}") and str(path) in said and "allow_pickle" not in said
    assert "made anew" not in caplog.text
    done = gallery.build([whole / "parts"], index, weights=trained.path)
    assert (
        done.items == 3 and f"{path}: " in caplog.text and "the index is made anew" in caplog.text
    )
    assert len(Index.load(index)) == 3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("meta.json", {"inputs": {"shape": "x"}}),
        ("meta.json", {"inputs": {}}),
        (
            "meta.json",
            {"inputs": {"shape": {"name": "jax3dret.inputs.points:Points", "version": 2}}},
        ),
        ("meta.json", {"inputs": 3}),
        ("config.json", {"model": 3}),
        ("config.json", {"data": 3}),
        ("config.json", {"model": {"name": "jax3dret.models.pointbert:PointBert", "depth": "x"}}),
        ("config.json", {"model": {"name": "jax3dret.models.pointbert:PointBert", "depth": -1}}),
        ("config.json", None),
        ("manifest.json", {"class_names": 3}),
        ("manifest.json", None),
        ("model.npz", None),
        ("model.npz", b"x"),
        ("", None),
    ],
)
def test_an_encoder_that_is_damaged(whole, index, trained, name, change):
    (folder,) = index.glob("encoder-*")
    path = folder / name
    if not name:
        shutil.rmtree(folder)
    elif change is None:
        path.unlink()
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    for said in refused(whole, index):
        assert "--weights WORKDIR" in said and str(folder) in said
    done = gallery.build([whole / "parts"], index, weights=trained.path)
    assert (done.items, done.embedded) == (3, 0)
    assert len(open_gallery(index).index) == 3


@pytest.mark.parametrize(
    ("key", "value", "opens"),
    [
        ("distance", "euclidean", lambda whole, index: open_gallery(index)),
        ("meta.gallery.modality", "sketch", lambda w, index: gallery.build([w / "parts"], index)),
    ],
)
def test_what_does_not_go_with_the_model(whole, index, key, value, opens):
    path = index / "index.json"
    entry = section = json.loads(path.read_text())
    *above, last = key.split(".")
    for part in above:
        section = section[part]
    section[last] = value
    path.write_text(json.dumps(entry))
    with pytest.raises(DataError, match=f"index.json: .*{value}.*; {AGAIN}"):
        opens(whole, index)


@pytest.mark.parametrize("change", [{"splits": 3}, {"splits": {"train": 3}}, {"class_names": 3}])
def test_a_workdir_with_a_damaged_manifest_is_named(trained, tmp_path, change):
    run = shutil.copytree(trained.path, tmp_path / "run")
    path = run / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"manifest.json: its splits or class_names are damaged"):
        encode.open_encoder(run)
