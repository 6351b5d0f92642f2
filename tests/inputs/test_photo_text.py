"""What an image network reads of a photo, and a sentence encoder of a text."""

import json

import numpy as np
import PIL.Image
import pytest
from data.test_wordpiece import tokenizer_json

from jax3dret.core.types import ConfigError, DataError, Loaded
from jax3dret.inputs import batching, describe, loading
from jax3dret.inputs.item import Item
from jax3dret.inputs.photo import Photo
from jax3dret.inputs.text import Text, text_of


def seen(path, reads=Photo(8, 1.0)):  # noqa: B008
    return reads.row(loading.load(Item.of(path)), describe.constant_stream(reads))["image"]


def halves(*shape):
    """Black on the left, white on the right."""
    pixels = np.zeros(shape, np.uint8)
    pixels[:, shape[1] // 2 :] = 255
    return pixels


def test_any_size_reads_the_middle(tmp_path):
    path = tmp_path / "p.png"
    for shape in ((40, 90, 3), (90, 40, 3), (5, 7, 3)):
        PIL.Image.fromarray(np.full(shape, 90, np.uint8)).save(path)
        assert (seen(path) == 90).all() and seen(path).shape == (8, 8, 3)
    # A frame of a sixteenth of the side on each side is what a crop of 0.875 leaves out.
    framed = np.zeros((64, 64, 3), np.uint8)
    framed[4:60, 4:60] = 200
    PIL.Image.fromarray(framed).save(path)
    assert seen(path, Photo(56, 0.875))[3:-3, 3:-3].min() == 200
    assert seen(path, Photo(56, 0.875)).min() > 90 and seen(path, Photo(56, 1.0)).min() == 0
    for size, crop in ((0, 1.0), (8, 0.0), (8, 1.5)):
        with pytest.raises(ConfigError, match="at least 1 pixel"):
            Photo(size, crop)


def test_orientation_of_the_exif(tmp_path):
    path = tmp_path / "p.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    PIL.Image.fromarray(halves(16, 16, 3)).save(path, exif=exif, quality=100)
    found = seen(path)
    assert (found[:3] < 60).all() and (found[-3:] > 190).all()


def test_transparent_and_grey(tmp_path):
    path = tmp_path / "p.png"
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, :8, 3] = 255
    rgba[..., 0] = 100
    PIL.Image.fromarray(rgba).save(path)
    found = seen(path)
    assert found[4, 0].tolist() == [100, 0, 0] and found[4, -1].tolist() == [255, 255, 255]
    palette = PIL.Image.fromarray(halves(16, 16)).convert("P")
    palette.info["transparency"] = 0
    palette.save(path, transparency=0)
    assert (seen(path) == 255).all()
    for picture in (
        PIL.Image.fromarray(halves(16, 16)),
        PIL.Image.fromarray(halves(16, 16)).convert("1"),
        PIL.Image.fromarray(halves(16, 16).astype(np.uint16) * 257),
    ):
        picture.save(path)
        found = seen(path)
        assert (found[:, :3] < 30).all() and (found[:, -3:] > 225).all()
        assert (found[..., :1] == found).all()


def test_a_damaged_photo_is_named(tmp_path):
    path = tmp_path / "p.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"p\.png: "):
        seen(path)


def test_what_is_no_photo_is_named(tmp_path):
    path = tmp_path / "p.png"
    for content, says in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"<!doctype html><html></html>", "an HTML page"),
        (b"<svg/>", "no picture that can be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"p\.png: .*{says}"):
            seen(path)


@pytest.fixture
def weights(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    return str(tmp_path)


def test_texts_are_padded_by_bucket(weights):
    reads = text_of(weights)
    rng = describe.constant_stream(reads)
    texts = ["chair", "hex nut " * 5, "a", "a chair"]
    rows = [reads.row(Loaded("text", text, text), rng) for text in texts]
    assert [len(row["ids"]) for row in rows] == [3, 12, 3, 4]
    groups = list(batching.batches(reads, rows, 4))
    assert [group.places for group in groups] == [[0, 2, 3], [1]]
    first, second = (group.batch for group in groups)
    assert first["ids"].shape == (4, 8) and second["ids"].shape == (1, 16)
    assert first["mask"].sum(1).tolist() == [3, 3, 4, 3] and not first["ids"][~first["mask"]].any()
    assert describe.restore(describe.describe(reads), where="x") == reads


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "holds no words"), (" \n", "holds no words"), ("a \udcff", r"a \\udcff.*no Unicode")],
)
def test_a_text_that_says_nothing_is_refused(weights, text, says):
    with pytest.raises(DataError, match=says) as error:
        text_of(weights).row(loading.load(Item(text=text)), np.random.default_rng(0))
    assert str(error.value).encode() and "\n" not in str(error.value)


def test_a_long_text_is_cut_and_said(weights, caplog):
    reads = Text(weights, text_of(weights).sha256, max_tokens=6)
    row = reads.row(Loaded("text", "chair " * 9, "text 'chair'"), describe.constant_stream(reads))
    assert row["ids"].tolist() == [2, 4, 4, 4, 4, 3]
    assert "text 'chair': 11 tokens, of which 6 are read" in caplog.text


def test_unknown_words_are_said(weights, caplog):
    reads = text_of(weights)
    for text in ("chair", "\U0001fa91 chair \u6905"):
        reads.row(loading.load(Item(text=text)), np.random.default_rng(0))
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.endswith("chair \u6905': 2 words are not known, 1 tokens are")


def test_another_tokenizer_is_refused(weights):
    with pytest.raises(ConfigError, match="the model was made with 00"):
        Text(weights, "00").row(Loaded("text", "a", "a"), np.random.default_rng(0))
