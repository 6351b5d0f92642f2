"""Drawings from files of every kind to one form: dark strokes on white, in the middle, thick enough
to be shrunk.
"""

from __future__ import annotations

import io
import logging
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFilter

from data_pipelines.sketch_records import sketch_example, sketch_features
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.ink import find_ink, stroke_width
from jax3dret.data.sketches import (
    SKETCH_SIZE,
    Drawing,
    decode,
    encode,
    encode_picture,
    load_drawing,
    plain_drawing,
    prepare_drawing,
    read_drawing,
)


def pot(width: int = 200, height: int = 160, stroke: int = 3) -> np.ndarray:
    """A drawing 60 % wide and 70 % high, not symmetric: dark on white."""
    image = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(image)
    w, h = width - 1, height - 1
    draw.ellipse((0.2 * w, 0.2 * h, 0.8 * w, 0.6 * h), outline=0, width=stroke)
    draw.line((0.2 * w, 0.4 * h, 0.3 * w, 0.9 * h), fill=0, width=stroke)
    draw.line((0.8 * w, 0.4 * h, 0.7 * w, 0.9 * h), fill=0, width=stroke)
    draw.rectangle((0.3 * w, 0.3 * h, 0.4 * w, 0.35 * h), outline=0, width=stroke)
    return np.array(image)


def extent(drawing: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero((drawing < 128).any(1)), np.flatnonzero((drawing < 128).any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def assert_same_strokes(found: np.ndarray, wanted: np.ndarray, share: float = 0.02) -> None:
    """No more than `share` of the ink lies where the other drawing has none within 4 pixels."""
    assert found.shape == wanted.shape == (SKETCH_SIZE, SKETCH_SIZE) and found.dtype == np.uint8
    for a, b in ((found, wanted), (wanted, found)):
        near = np.asarray(Image.fromarray(b).convert("L").filter(_WIDE)) < 128
        assert np.count_nonzero((a < 128) & ~near) <= share * np.count_nonzero(a < 128)


_WIDE = ImageFilter.MinFilter(9)
WANTED = prepare_drawing(pot())


# ---------------------------------------------------------------------------------------------------------------- reading


def test_every_mode_reads_as_the_same_grey(tmp_path):
    grey = pot()
    base = Image.fromarray(grey)
    colours = base.convert("RGB")
    clear = Image.new("RGBA", base.size, (0, 0, 0, 0))
    clear.putalpha(Image.fromarray(255 - grey))
    palette = colours.quantize(4)
    files = {
        "l.png": base,
        "one.png": base.convert("1"),
        "rgb.png": colours,
        "rgb.bmp": colours,
        "p.png": palette,
        "p.gif": palette,
        "rgba.png": clear,
        "la.png": clear.convert("LA"),
        "cmyk.tif": colours.convert("CMYK"),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "deep.tif": Image.fromarray(grey.astype(np.uint16) * 257),
        "int.tif": Image.fromarray(grey.astype(np.int32) * 1000),
        "float.tif": Image.fromarray(grey.astype(np.float32) / 255),
        "x.webp": colours,
    }
    for name, image in files.items():
        image.save(tmp_path / name, **({"lossless": True} if name == "x.webp" else {}))
        found = load_drawing(tmp_path / name)
        assert found.dtype == np.uint8 and found.shape == grey.shape, name
        assert np.abs(found.astype(int) - grey).max() <= 2, name
    palette.save(tmp_path / "key.png", transparency=int(np.asarray(palette)[0, 0]))
    np.testing.assert_array_equal(prepare_drawing(load_drawing(tmp_path / "key.png")), WANTED)


@pytest.mark.parametrize(("tone", "paper"), [(0, 255), (255, 0), (128, 255), (220, 0)])
def test_transparent_strokes_show(tmp_path, tone, paper):
    mask = 255 - pot()
    Image.merge("LA", (Image.new("L", (200, 160), tone), Image.fromarray(mask))).save(
        tmp_path / "a.png"
    )
    grey = load_drawing(tmp_path / "a.png")
    assert grey[0, 0] == paper and grey[mask == 255][0] == tone
    assert_same_strokes(prepare_drawing(grey), WANTED)


def test_transparent_margin_of_a_sheet_is_paper(tmp_path):
    sheet = np.full((300, 400), 0, np.uint8)
    alpha = np.zeros_like(sheet)
    alpha[20:280, 30:370] = 255
    sheet[20:280, 30:370] = 240
    sheet[60:220, 60:260] = pot().clip(0, 240)
    alpha[20:60, 30:60] = 0  # a torn corner
    Image.merge("LA", (Image.fromarray(sheet), Image.fromarray(alpha))).save(tmp_path / "a.png")
    grey = load_drawing(tmp_path / "a.png")
    assert grey[0, 0] == grey[30, 40] == 240
    assert_same_strokes(prepare_drawing(grey), WANTED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns(tmp_path, orientation):
    upright = Image.fromarray(pot())
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(load_drawing(tmp_path / "x.png"), pot())
    stored.save(tmp_path / "x.jpg", exif=exif, quality=95)
    assert np.abs(load_drawing(tmp_path / "x.jpg").astype(int) - pot()).mean() < 3


def test_unusable_files_are_one_line_that_names_them(tmp_path):
    png = encode(WANTED)
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(
        noise, "JPEG"
    )
    contents = {
        "empty.png": b"",
        "short.png": png[:200],
        "head.png": png[:20],
        "half.jpg": noise.getvalue()[: len(noise.getvalue()) // 2],
        "text.png": b"not a picture at all",
        "bent.png": png[:100] + bytes(50) + png[150:],
        "white.png": _png(np.full((30, 40), 255, np.uint8)),
        "one.png": _png(np.zeros((1, 1), np.uint8)),
        "clear.png": _png(np.zeros((30, 40, 4), np.uint8)),
        "large.png": _png(np.zeros((101, 100), np.uint8)),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError) as caught:
            load_drawing(tmp_path / name, max_pixels=10_000)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(
            caught.value
        )
    with pytest.raises(DataError, match="100 x 101 pixels, more than the 10,000"):
        load_drawing(tmp_path / "large.png", max_pixels=10_000)
    with pytest.raises(DataError, match="40 x 30 pixels have one colour"):
        load_drawing(tmp_path / "white.png")
    for name, reason in (("absent.png", "No such file"), (".", "directory")):
        with pytest.raises(DataError, match=reason):
            load_drawing(tmp_path / name)
    nan = np.array([[0, np.nan], [1, 2]], np.float32)
    Image.fromarray(nan).save(tmp_path / "nan.tif")
    with pytest.raises(DataError, match=r"nan\.tif: .*not finite"):
        load_drawing(tmp_path / "nan.tif")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    # A few hundred bytes that announce 60,000 x 60,000 pixels.
    data = bytearray(_png(np.zeros((4, 4), np.uint8)))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(DataError, match=r"bomb\.png: (too many pixels|60000 x 60000)"):
        load_drawing(tmp_path / "bomb.png")


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


# -------------------------------------------------------------------------------------------------------------- preparing


def test_the_ink_is_centred_and_84_percent_wide():
    top, bottom, left, right = extent(WANTED)
    longer, middle = max(bottom - top, right - left), SKETCH_SIZE / 2
    assert abs(longer - 0.84 * SKETCH_SIZE) <= 4
    assert abs((top + bottom) / 2 - middle) <= 2 and abs((left + right) / 2 - middle) <= 2
    assert WANTED[0].min() == 255 and WANTED.min() == 0 and np.median(WANTED) == 255
    np.testing.assert_array_equal(WANTED, prepare_drawing(pot()))
    assert_same_strokes(prepare_drawing(WANTED), WANTED)
    aspect = (bottom - top) / (right - left)
    assert aspect == pytest.approx(0.7 * 160 / (0.6 * 200), rel=0.03)


@pytest.mark.parametrize(
    "name", ["light on dark", "faint", "board", "coloured paper", "moved", "cropped"]
)
def test_the_same_drawing_in_another_guise(name):
    grey = pot()
    guises = {
        "light on dark": 255 - grey,
        "faint": np.where(grey < 128, 215, 250).astype(np.uint8),
        "board": np.where(grey < 128, 180, 40).astype(np.uint8),
        "coloured paper": np.where(grey < 128, 30, 150).astype(np.uint8),
        "moved": np.pad(grey, ((0, 300), (700, 0)), constant_values=255),
        "cropped": grey[31:144, 38:161],
    }
    assert_same_strokes(prepare_drawing(guises[name]), WANTED)


def _photographed(grey: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : grey.shape[0] * 1j, -1 : 1 : grey.shape[1] * 1j]
    light = (205 - 50 * x - 25 * y - 20 * x * y - 15 * x * x) / 255
    return (grey * light + rng.normal(0, noise, grey.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("light", [False, True])
def test_shading_noise_and_jpeg(light):
    rng = np.random.default_rng(1)
    grey = pot(800, 640, 8)
    photographed = _photographed(grey, 3.0, rng)
    if light:
        photographed = 255 - photographed
    out = io.BytesIO()
    Image.fromarray(photographed).save(out, "JPEG", quality=40)
    for found in (photographed, np.asarray(Image.open(io.BytesIO(out.getvalue())))):
        assert_same_strokes(prepare_drawing(found), prepare_drawing(grey))


def test_specks_and_scanner_edges_do_not_move_the_box():
    grey = pot(1000, 800, 6)
    wanted = prepare_drawing(grey)
    spotted = grey.copy()
    spotted[10:14, 20:25] = 0
    spotted[790:792, 980:982] = 0
    spotted[400, 10] = 0
    spotted[:, 990:] = 20
    np.testing.assert_array_equal(prepare_drawing(spotted), wanted)
    # A drawing that is made of dots is no dust.
    dotted = np.full((400, 400), 255, np.uint8)
    for angle in np.linspace(0, 2 * np.pi, 60, endpoint=False):
        at = (200 + 150 * np.array([np.sin(angle), np.cos(angle)])).astype(int)
        dotted[at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2] = 0
    top, bottom, left, right = extent(prepare_drawing(dotted))
    assert bottom - top > 370 and right - left > 370


@pytest.mark.parametrize("noise", [0.5, 4.0])
def test_blank_paper_is_no_drawing(noise):
    rng = np.random.default_rng(0)
    blank = _photographed(np.full((600, 700), 255, np.uint8), noise, rng)
    out = io.BytesIO()
    Image.fromarray(blank).save(out, "JPEG", quality=50)
    for found in (blank, np.asarray(Image.open(io.BytesIO(out.getvalue())))):
        with pytest.raises(DataError, match="no drawing"):
            prepare_drawing(found)
    blank[100:103, 200:203] = 0
    with pytest.raises(DataError, match="no drawing"):
        prepare_drawing(blank)


def test_unusable_arrays(unchecked):
    for array, message in (
        (np.zeros((0, 4), np.uint8), r"uint8\[H, W\]"),
        (np.zeros((4, 4, 3), np.uint8), r"uint8\[H, W\]"),
        (np.zeros((4, 4)), "float64"),
        (np.full((4, 5), 7, np.uint8), "5 x 4 pixels have one colour"),
    ):
        with pytest.raises(DataError, match=message):
            prepare_drawing(array)


@pytest.mark.parametrize(("width", "height"), [(3, 3), (2000, 2), (5, 900), (1, 50)])
def test_tiny_and_narrow_pictures_have_a_defined_result(width, height):
    grey = np.full((height, width), 255, np.uint8)
    grey[height // 2 :, : (width + 1) // 2] = 0
    assert prepare_drawing(grey).shape == (SKETCH_SIZE, SKETCH_SIZE)


@pytest.mark.parametrize("scale", [1, 4, 8])
def test_thin_strokes_survive_the_shrink(scale):
    drawing = prepare_drawing(pot(300 * scale, 240 * scale, 1))
    assert 2.0 <= stroke_width(255 - drawing) <= 4.5
    assert_same_strokes(drawing, prepare_drawing(pot(600, 480, 3)), 0.05)
    for size in (64, 112, 224):
        small = Drawing(size)(
            {"png": np.frombuffer(encode(drawing), np.uint8)}, np.random.default_rng(0)
        )["sketch"]
        # By area: the ink is what it was, and a line is still a dark line.
        assert (255.0 - small).mean() == pytest.approx((255.0 - drawing).mean(), rel=0.02)
        assert np.percentile(small.min(0)[size // 4 : -size // 4], 50) < 185


def test_thick_strokes_are_not_thickened():
    thick = pot(800, 640, 24)
    found, scale = prepare_drawing(thick), 0.84 * SKETCH_SIZE / 480
    assert stroke_width(255 - found) == pytest.approx(stroke_width(255 - thick) * scale, rel=0.06)


def test_stroke_width():
    level = np.zeros((100, 300), np.uint8)
    level[40:45, 20:280] = 255
    assert stroke_width(level) == pytest.approx(5 * 4 / np.pi, rel=0.03)
    ring = Image.new("L", (400, 400))
    ImageDraw.Draw(ring).ellipse((20, 20, 380, 380), outline=255, width=7)
    assert stroke_width(np.asarray(ring)) == pytest.approx(7, rel=0.05)
    assert stroke_width(np.zeros((5, 5), np.uint8)) == 0


def test_a_large_scan():
    """20 megapixels with strokes of one pixel."""
    grey = pot(5000, 4000, 1)
    found = prepare_drawing(grey)
    assert_same_strokes(found, prepare_drawing(pot(1000, 800, 1)), 0.05)
    assert find_ink(grey).shape == (2801, 3001)


def test_a_photo_is_a_drawing_with_a_warning(tmp_path, caplog):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400]
    photo = 128 + 90 * np.sin(x / 40) * np.cos(y / 60) + rng.normal(0, 12, (300, 400))
    Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.jpg")
    with caplog.at_level(logging.WARNING, "jax3dret"):
        drawing = read_drawing(tmp_path / "photo.jpg")
    assert drawing.shape == (SKETCH_SIZE, SKETCH_SIZE)
    assert (
        len(caplog.records) == 1
        and "photo.jpg: " in caplog.text
        and "areas wider than a stroke" in caplog.text
    )
    caplog.clear()
    filled = np.full((100, 100), 255, np.uint8)
    filled[20:80, 30:70] = 0
    Image.fromarray(filled).save(tmp_path / "filled.png")
    with caplog.at_level(logging.WARNING, "jax3dret"):
        read_drawing(tmp_path / "filled.png")
    assert (
        len(caplog.records) == 1
        and "filled.png: 100% of its ink is in areas wider than a stroke" in caplog.text
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING, "jax3dret"):
        prepare_drawing(pot())
    assert not caplog.records


def test_read_names_the_file(tmp_path):
    speck = np.full((400, 500), 255, np.uint8)
    speck[7, 9] = 0
    Image.fromarray(speck).save(tmp_path / "speck.png")
    with pytest.raises(
        DataError, match=r"speck\.png: 1 pixels of 500 x 400 stand apart from the paper: no drawing"
    ):
        read_drawing(tmp_path / "speck.png")


# ---------------------------------------------------------------------------------------------------------------- records


def test_encode_and_decode(unchecked):
    data = encode(WANTED)
    assert data == encode(WANTED.copy()) and len(data) < 40_000
    np.testing.assert_array_equal(decode(np.frombuffer(data, np.uint8)), WANTED)
    for bad in (np.zeros((4, 4), np.uint8), WANTED.astype(np.float32)):
        with pytest.raises(DataError, match="expected "):
            encode(bad)
    cut = np.frombuffer(data[:-300], np.uint8)
    for bad, reason in (
        (cut, "no PNG"),
        (np.zeros(0, np.uint8), "no PNG"),
        (np.frombuffer(_png(np.zeros((8, 8), np.uint8)), np.uint8), "8 x 8 pixels"),
        (np.frombuffer(_png(np.zeros((448, 448, 3), np.uint8)), np.uint8), "mode RGB"),
    ):
        with pytest.raises(DataError, match=reason):
            decode(bad)
        with pytest.raises(DataError, match=f"record 'a/1': .*{reason}"):
            Drawing(64)({"id": "a/1", "png": bad}, np.random.default_rng(0))


def test_record_survives_its_features():
    features = sketch_features(["mug", "pot"])
    example = sketch_example("pot/train_0001", "pot", WANTED)
    back = features.deserialize_example_np(features.serialize_example(example))
    assert (
        back["id"] == b"pot/train_0001"
        and back["label"] == 1
        and isinstance(features, tfds.features.FeaturesDict)
    )
    np.testing.assert_array_equal(decode(back["png"]), WANTED)


def test_transform():
    record = {"id": "x", "label": 3, "png": np.frombuffer(encode(WANTED), np.uint8)}
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    plain = Drawing(SKETCH_SIZE)(record, rng)
    assert (
        rng.bit_generator.state == before
        and set(plain) == {"id", "label", "sketch"}
        and "png" in record
    )
    np.testing.assert_array_equal(plain["sketch"], WANTED)
    assert Drawing(500)(record, rng)["sketch"].shape == (500, 500)
    half = Drawing(224)(record, rng)["sketch"]
    blocks = WANTED.reshape(224, 2, 224, 2).mean((1, 3))
    assert half.dtype == np.uint8 and np.abs(half - blocks).max() <= 1
    with pytest.raises(DataError, match="has no 'png'"):
        Drawing(64)({"id": "x", "points": 0}, rng)
    with pytest.raises(ConfigError, match="size=4"):
        Drawing(4)


def plain_record(grey: np.ndarray) -> dict:
    """As the builders of picture files make it."""
    features = sketch_features(["mug", "pot"], picture=True)
    example = sketch_example("x", "pot", prepare_drawing(grey), grey)
    back = features.deserialize_example_np(features.serialize_example(example))
    return {"id": "x", "label": 1, "png": back["png"], "picture": back["picture"]}


def test_plain_is_the_whole_picture_resized_as_clip_does():
    grey = np.full((500, 500), 250, np.uint8)
    grey[40:200, 30:230] = pot()  # in a corner, and on paper that is not white
    found = Drawing(224, prepare="plain")(plain_record(grey), np.random.default_rng(0))
    assert set(found) == {"id", "label", "sketch"}
    image = Image.fromarray(grey)
    np.testing.assert_array_equal(
        found["sketch"], image.resize((224, 224), Image.Resampling.BICUBIC)
    )
    for other in ("BOX", "BILINEAR", "LANCZOS", "NEAREST"):
        wrong = image.resize((224, 224), Image.Resampling[other])
        assert (np.asarray(wrong) != found["sketch"]).any(), other
    assert found["sketch"][120:].min() == 250, "nothing is centred, enlarged or whitened"
    strokes = Drawing(224)(plain_record(grey), np.random.default_rng(0))["sketch"]
    assert strokes[120:].min() < 128
    # Light strokes on dark stay so.
    dark = Drawing(64, prepare="plain")(plain_record(255 - grey), np.random.default_rng(0))
    assert np.median(dark["sketch"]) == 5


@pytest.mark.parametrize("shape", [(120, 400), (400, 120), (401, 120), (1, 50)])
def test_plain_loses_nothing_of_a_picture_that_is_not_square(shape):
    grey = np.full(shape, 200, np.uint8)
    grey[0, :9] = grey[:9, 0] = grey[-1, -1] = 0
    side = max(shape)
    found = plain_drawing(grey, side)
    assert found.shape == (side, side)
    top, left = ((side - extent) // 2 for extent in shape)
    np.testing.assert_array_equal(found[top : top + shape[0], left : left + shape[1]], grey)
    assert min(shape) == 1 or found[0, -1] == found[-1, 0] == 200
    record = {"id": "x", "picture": np.frombuffer(encode_picture(grey), np.uint8)}
    again = Drawing(64, prepare="plain")(record, np.random.default_rng(0))["sketch"]
    np.testing.assert_array_equal(again, plain_drawing(grey, 64))


def test_plain_needs_the_picture_itself():
    record = {"id": "x", "png": np.frombuffer(encode(WANTED), np.uint8)}
    with pytest.raises(DataError, match="'x' has no 'picture'; .*no drawing to prepare as 'plain'"):
        Drawing(64, prepare="plain")(record, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="'plan' is unknown; it is one of: strokes, plain"):
        Drawing(64, prepare="plan")


def test_augmentation_of_plain_pictures_cuts_nothing_off():
    grey = np.full((100, 100), 180, np.uint8)
    grey[[0, -1]] = grey[:, [0, -1]] = 0
    grey[20:80, 20:80] = 180
    edge = np.full((140, 140), 180, np.uint8)
    edge[20:120, 20:120] = grey
    change = Drawing(140, augment=True, prepare="plain")
    for angle in (-15.0, 15.0):
        found = change(plain_record(edge), _Fixed(0.7, angle))["sketch"]
        assert found[0].min() == found[-1].min() == found[:, 0].min() == found[:, -1].min() == 180
        assert found.min() < 100


class _Fixed(np.random.Generator):
    """A generator whose two draws are given."""

    def __init__(self, mirror: float, angle: float):
        super().__init__(np.random.PCG64(0))
        self.mirror, self.angle = mirror, angle

    def random(self) -> float:
        return self.mirror

    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (-15.0, 15.0)
        return self.angle


def test_augmentation_mirrors_and_turns():
    record = {"png": np.frombuffer(encode(WANTED), np.uint8)}
    change = Drawing(SKETCH_SIZE, augment=True)
    np.testing.assert_array_equal(change(record, _Fixed(0.7, 0.0))["sketch"], WANTED)
    mirrored = change(record, _Fixed(0.2, 0.0))["sketch"]
    np.testing.assert_array_equal(mirrored, WANTED[:, ::-1])
    turned = change(record, _Fixed(0.7, 12.0))["sketch"]
    wanted = np.asarray(
        Image.fromarray(WANTED).rotate(12.0, Image.Resampling.BILINEAR, fillcolor=255)
    )
    centre = np.s_[150:300, 150:300]
    assert np.abs(turned.astype(int) - wanted)[centre].mean() < 12  # a little smaller at most
    both = change(record, _Fixed(0.2, 12.0))["sketch"]
    wanted = np.asarray(
        Image.fromarray(WANTED[:, ::-1]).rotate(12.0, Image.Resampling.BILINEAR, fillcolor=255)
    )
    assert np.abs(both.astype(int) - wanted)[centre].mean() < 12
    # Nothing leaves the picture, not even the corners of a full box.
    square = np.full((200, 200), 255, np.uint8)
    square[[20, 21, 178, 179], 20:180] = square[20:180, [20, 21, 178, 179]] = 0
    for angle in (-15.0, 15.0):
        found = change(
            {"png": np.frombuffer(encode(prepare_drawing(square)), np.uint8)}, _Fixed(0.7, angle)
        )["sketch"]
        assert min(found[0].min(), found[-1].min(), found[:, 0].min(), found[:, -1].min()) == 255
    draws = [change(record, np.random.default_rng(5))["sketch"] for _ in range(2)]
    np.testing.assert_array_equal(*draws)
    assert (draws[0] != change(record, np.random.default_rng(6))["sketch"]).any()
