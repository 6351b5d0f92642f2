"""Captions: what the templates see in known shapes, and what a caption file must hold."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data import captions
from jax3dret.data.pipeline import open_source


def surface(radius, height, rng, count=2000):
    """A tube about the y axis."""
    angle, y = rng.uniform(0, 2 * np.pi, count), rng.uniform(-height / 2, height / 2, count)
    return np.stack([radius * np.cos(angle), y, radius * np.sin(angle)], 1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_measures_of_known_shapes(rng):
    tube = captions.measure(surface(0.2, 1.0, rng))
    assert tube["axis"] == 1
    assert tube["roundness"] > 0.97
    assert tube["hole"] > 0.9
    assert tube["symmetry"] > 0.95
    np.testing.assert_allclose(tube["extents"], [0.4, 1.0, 0.4], rtol=0.03)
    box = captions.measure(rng.uniform(-1, 1, (2000, 3)) * [1.0, 0.1, 0.5])
    assert box["hole"] < 0.2
    assert box["fill"] > 0.7
    lopsided = np.concatenate(
        [rng.uniform(0, 1, (900, 3)) * [1, 1, 0.1], rng.uniform(-1, 0, (100, 3)) * [1, 0.1, 0.1]]
    )
    assert captions.measure(lopsided)["symmetry"] < 0.85
    top_heavy = np.concatenate([rng.uniform(0.8, 1, (900, 3)), rng.uniform(0, 1, (100, 3))])
    assert captions.measure(top_heavy)["balance"] > 0.6
    assert captions.measure(-top_heavy)["balance"] < 0.4
    shifted = captions.measure(surface(0.2, 1.0, np.random.default_rng(0)) + 100.0)
    np.testing.assert_allclose(shifted["roundness"], tube["roundness"], atol=1e-6)


def test_sentences_follow_the_shape(rng):
    tall = captions.describe(surface(0.1, 1.0, rng), 12, "a")
    assert all(any(word in c for word in ("tall", "upright", "high")) for c in tall)
    assert any("ten times" in c or "five times" in c for c in tall)
    flat = captions.describe(rng.uniform(-1, 1, (2000, 3)) * [1, 0.05, 1], 12, "a")
    assert all("flat" in c or "plate" in c for c in flat)
    lying = captions.describe(surface(0.1, 1.0, rng)[:, [1, 0, 2]], 12, "a")
    assert all(any(word in c for word in ("long", "stretched")) for c in lying)
    assert len(set(tall)) > 6


def test_words_depend_on_the_name_alone(rng):
    points = surface(0.2, 1.0, rng)
    assert captions.describe(points, 3, "a") == captions.describe(points[::-1].copy()[::-1], 3, "a")
    assert captions.describe(points, 3, "a") != captions.describe(points, 3, "b")


@pytest.mark.parametrize("bad", [np.zeros((1, 3)), np.full((8, 3), np.nan)])
def test_nothing_to_describe(bad):
    with pytest.raises(DataError, match="x: "):
        captions.describe(bad, 1, "x")


def test_one_place_for_all_points():
    assert captions.describe(np.zeros((8, 3)), 2, "x")


def test_templates_cover_a_split(parts_dir):
    source = open_source("parts", "val", parts_dir)
    found = captions.templates(2)(source, None)
    assert [len(entry) for entry in found] == [1] * 7
    assert [len(entry[0]) for entry in found] == [2] * 7
    with pytest.raises(ConfigError, match="count=0"):
        captions.templates(0)


def test_a_file_of_captions(parts_dir, tmp_path):
    source = open_source("parts", "val", parts_dir)
    path = tmp_path / "captions.jsonl"
    given = [
        [[f"part {i}", "naïve"]] if i % 2 else [[f"front {i}"], [f"back {i}"]] for i in range(7)
    ]
    given[0][0][0] += "\u2028\x85 of a line"  # ends of lines to splitlines, none to JSON
    captions.write_jsonl(path, [*source.ids, "other/1"], [*given, [["more"]]])
    assert captions.from_jsonl(str(path))(source, None) == given
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert captions.from_jsonl(str(path))(source, None) == given


@pytest.mark.parametrize(
    "text, message",
    [
        (
            '{"id": "part/0023", "captions": ["a"]}',
            r"6 of the 7 items of parts, split .val., have no caption \(first: part",
        ),
        ("<html>", r"line 1: not an object"),
        ('{"id": "a"}', "line 1: not an object"),
        ('\n{"id": "a", "captions": []}', "line 2: 'captions' of 'a'"),
        ('{"id": "a", "captions": ["x", ""]}', "none of them empty"),
        ('{"id": "a", "captions": "x"}', "must be a list"),
        (
            '{"id": "a", "captions": ["x"]}\n{"id": "a", "captions": ["y"]}',
            "line 2: 'a' has captions already",
        ),
    ],
)
def test_refuses(parts_dir, tmp_path, text, message):
    (tmp_path / "c.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        captions.from_jsonl(str(tmp_path / "c.jsonl"))(open_source("parts", "val", parts_dir), None)


def test_missing_file(parts_dir, tmp_path):
    with pytest.raises(DataError, match="No such file"):
        captions.from_jsonl(str(tmp_path / "none.jsonl"))(
            open_source("parts", "val", parts_dir), None
        )
