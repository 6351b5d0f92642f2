"""Pictures of the user's own: the right file for each view, colours kept, and what is refused."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from fakes import FakeSource
from PIL import Image

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.own_views import OwnViews, store_own_views
from jax3dret.data.views import open_views
from jax3dret.geometry.cameras import ring

IDS = ("chair/chair_1", "bed/bed_1", "bed/bed_2")


def colour(row, view):
    """A colour of its own for each picture."""
    return (10 + 70 * row, 200 - 90 * view, 33)


def render(folder, pattern="{id}/{view}.png", size=12, mode="RGB"):
    own = OwnViews(folder, pattern)
    for row, name in enumerate(IDS):
        for view in range(2):
            path = own.path(name, view)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (size, size), colour(row, view)).convert(mode).save(path)
    return own


@pytest.fixture
def source(tmp_path):
    return FakeSource(np.zeros(3), name="things", ids=IDS, path=tmp_path / "prepared")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "renders").mkdir()
    return tmp_path / "renders"


@pytest.mark.parametrize(
    "pattern", ["{id}/{view}.png", "{name}.off.shaded_v{number:03d}.png", "{id}-{view:02d}.webp"]
)
def test_view_i_of_record_j_is_its_file(source, folder, pattern):
    own = render(folder, pattern)
    assert (folder / "bed_1.off.shaded_v002.png").is_file() == ("shaded" in pattern)
    path = store_own_views(source, own, ring(2), size=8, jobs=2)
    store = open_views(path)
    assert path.parent == source.path / "views" and len(store) == 3
    assert store[0].shape == (2, 8, 8, 3) and store[0].dtype == np.uint8
    atol = 12 if pattern.endswith("webp") else 0
    for row in range(3):
        for view in range(2):
            np.testing.assert_allclose(store[row][view, 4, 4], colour(row, view), atol=atol)
    with pytest.raises(DataError, match="have colours"):
        store.grey(0)


def test_what_is_transparent_is_white_and_pictures_are_scaled_whole(source, folder):
    own = render(folder, size=20)
    half = np.zeros((20, 20, 4), np.uint8)
    half[:, 10:] = (255, 0, 0, 255)
    Image.fromarray(half).save(own.path(IDS[1], 1))
    shown = open_views(store_own_views(source, own, ring(2), size=10))[1][1]
    assert shown[5, 1].tolist() == [255, 255, 255] and shown[5, 8].tolist() == [255, 0, 0]


def test_a_store_is_kept_until_a_file_changes(source, folder):
    own = render(folder)
    path = store_own_views(source, own, ring(2), size=8)
    before = path.stat().st_mtime_ns
    assert store_own_views(source, own, ring(2), size=8) == path
    assert path.stat().st_mtime_ns == before
    assert store_own_views(source, own, ring(2), size=9) != path
    changed = own.path(IDS[0], 0)
    Image.new("RGB", (12, 12), "black").save(changed)
    os.utime(changed, ns=(1, 1))
    again = store_own_views(source, own, ring(2), size=8)
    assert again != path and open_views(again)[0][0].max() == 0


def refused(source, own, size=8, views=2):
    with pytest.raises(DataError) as caught:
        store_own_views(source, own, ring(views), size=size)
    assert "\n" not in str(caught.value)
    assert not list(source.path.rglob("*.array_record*.partial"))
    return str(caught.value)


def test_missing_pictures_are_named_and_counted(source, folder):
    own = render(folder)
    assert "3 of 9 are missing, and 0 of the 3 items" in refused(source, own, views=3)
    for view in range(2):
        own.path(IDS[1], view).unlink()
    said = refused(source, own)
    assert said.startswith(f"{own.path(IDS[1], 0)}: no such picture; 2 of 6 are missing, and 1 of")
    assert "the 3 items of things, split 'train', have none at all" in said


def test_wrong_pictures_are_named_and_counted(source, folder):
    own = render(folder)
    first, second = own.path(IDS[0], 1), own.path(IDS[2], 0)
    Image.new("RGB", (12, 9)).save(first)
    Image.new("RGB", (16, 16)).save(second)
    said = refused(source, own)
    assert said.startswith(f"{first}: 12 x 9 pixels; a square of at least config.views.size=8")
    assert said.endswith("; 2 of 6 pictures cannot be used")
    Image.new("RGB", (12, 12)).save(first)
    assert f"{second}: 16 x 16 pixels, the ones before 12 square; 1 of 6" in refused(source, own)
    assert "12 x 12 pixels; a square of at least config.views.size=13" in refused(source, own, 13)
    Image.fromarray(np.zeros((12, 12), np.uint16)).save(second)
    assert f"{second}: more than 8 bits" in refused(source, own)
    second.write_bytes(first.read_bytes()[:45])
    assert str(second) in refused(source, own)
    second.write_bytes(b"no picture")
    assert f"{second}: no picture that can be read" in refused(source, own)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("{view}.png", "must name the record and the view"),
        ("{id}.png", "must name the record and the view"),
        ("{id}/{angle}.png", "there is no {angle}"),
        ("{id}/{view:x}{.png", "{id}, {name}, {view}, {number}"),
        ("{id.real}/{view}.png", "there is no {id.real}"),
    ],
)
def test_a_pattern_that_cannot_be(folder, pattern, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        OwnViews(folder, pattern)
    with pytest.raises(ConfigError, match="no such folder"):
        OwnViews(folder / "gone")
