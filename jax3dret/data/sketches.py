"""Drawings: from any picture file to one form, and from a record to what a sketch tower takes.

    load_drawing      a file as grey pixels, whatever its format
    prepare_drawing   grey pixels as a square drawing, dark strokes on white, in the middle, strokes thick enough to be shrunk
    read_drawing      both, for one file
    encode, decode    the form in the records: PNG
    plain_drawing     grey pixels as they are, resized alone
    Drawing           the transform: a record's drawing -> record["sketch"]

A drawing is prepared in one of two ways: "strokes", as `prepare_drawing` does, or "plain", as
CLIP's own pictures are and as papers describe it. What counts as ink is what stands apart from the
paper (`data.ink`); lines printed on the paper are ink. A photo is treated as a drawing too, with a
warning that says how much of its ink is in areas wider than a stroke.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import pathlib

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from scipy import ndimage

from jax3dret.core.types import ConfigError, DataError, Record
from jax3dret.data.ink import find_ink, fit_strokes
from jax3dret.data.pictures import (
    MAX_PIXELS,
    ORIENTATIONS,
    Picture,
    eight_bits,
    load_picture,
    one_line,
)

logger = logging.getLogger("jax3dret")

SKETCH_SIZE = 448
_FILL = 0.84  # of the side is the ink's longer side
# Strokes come out at least about this wide, in pixels of the drawing: a shrink to 64 pixels leaves
# them 40 % of ink.
_STROKE = 3.0
_BICUBIC = Image.Resampling.BICUBIC
_WIDE = 20  # pixels of the drawing: what is wider is an area, not a stroke
# Of the ink in such areas: more is hardly a drawing (strokes: 0; photos and filled shapes: 0.2 to
# 1).
_FILLED = 0.1
_TURN = 15.0  # degrees
# How a drawing is prepared -> where a record has what that starts from: "png" after
# `prepare_drawing`, "picture" the pixels of the file.
PREPARE = {"strokes": "png", "plain": "picture"}


def load_drawing(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "H W"]:
    """The pixels of a picture file (PNG, JPEG, TIFF, GIF, BMP, WebP ...) as grey in 0 to 255,
    turned as its EXIF says.

    Transparent parts take the tone of the paper where the rest is paper with strokes on it; where
    the rest is strokes alone, white, or black for light strokes. 16 bits are rounded to 8; other
    ranges (32 bits, floats) are stretched to 0 to 255. Of several frames the first is read.

    Raises: DataError: the file is missing, empty, cut off, no picture, larger than max_pixels, or
        all of one colour.
    """
    return grey_drawing(load_picture(pathlib.Path(path), max_pixels=max_pixels))


def grey_drawing(picture: Picture) -> UInt8[np.ndarray, "H W"]:
    """`load_drawing` of a picture that is in memory."""
    image = picture.decoded("L")  # JPEG: the luminance alone
    turn = ORIENTATIONS.get(image.getexif().get(0x0112, 1))
    with one_line(picture.name):
        grey = _grey(image)
    low, high = int(grey.min()), int(grey.max())
    if low == high:
        raise DataError(
            f"{picture.name}: all of its {image.width} x {image.height} pixels have one colour; "
            "a drawing is needed"
        )
    return np.asarray(Image.fromarray(grey).transpose(turn)) if turn is not None else grey


def prepare_drawing(grey: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "S S"]:
    """The drawing on a white square of SKETCH_SIZE pixels: dark strokes, the ink's box centred, its
    longer side 84 % of the square.

    Polarity is found: light strokes on dark become dark ones. Slow changes of the paper's tone and
    its noise are taken away, the strokes' own tone is stretched to black. Single specks, and marks
    along an edge of the picture, are not part of the drawing. Strokes that would come out narrower
    than 3 pixels are thickened; wider ones are resampled by area. The same pixels give the same
    drawing.

    Raises:
        DataError: not uint8[H, W], one colour, or nothing stands apart from the paper.
    """
    drawing, filled = _prepare(grey)
    if filled > _FILLED:
        logger.warning("%s", _filled_line("the drawing", filled))
    return drawing


def read_drawing(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "S S"]:
    """`prepare_drawing` of `load_drawing`: the file's path stands in every error and warning."""
    return drawing_of(load_picture(pathlib.Path(path), max_pixels=max_pixels))


def drawing_of(picture: Picture) -> UInt8[np.ndarray, "S S"]:
    """`read_drawing` of a picture that is in memory."""
    grey = grey_drawing(picture)
    try:
        drawing, filled = _prepare(grey)
    except DataError as error:
        raise DataError(f"{picture.name}: {error}") from None
    if filled > _FILLED:
        logger.warning("%s", _filled_line(picture.name, filled))
    return drawing


def plain_drawing(grey: UInt8[np.ndarray, "H W"], size: int) -> UInt8[np.ndarray, "S S"]:
    """All of the picture at `size` pixels, resampled by Pillow's bicubic filter, as CLIP reads its
    pictures; nothing is moved, thickened or inverted.

    CLIP cuts what is not square to its middle. No part of a drawing may be lost, so it is set in
    the middle of a square of the paper's tone instead, the median of the picture's edge.
    """
    return np.array(_squared(Image.fromarray(np.asarray(grey))).resize((size, size), _BICUBIC))


def encode_picture(grey: UInt8[np.ndarray, "H W"]) -> bytes:
    """The pixels of a picture as the bytes of a PNG file, whatever its size."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(grey)).save(out, "PNG")
    return out.getvalue()


def check_prepare(prepare: str, where: str) -> None:
    """Raises ConfigError for a way of preparing drawings that there is none."""
    if prepare not in PREPARE:
        raise ConfigError(f"{where} '{prepare}' is unknown; it is one of: {', '.join(PREPARE)}")


def encode(drawing: UInt8[np.ndarray, "S S"]) -> bytes:
    """A drawing as the bytes of a PNG file.

    Raises:
        DataError: not uint8[SKETCH_SIZE, SKETCH_SIZE].
    """
    drawing = np.asarray(drawing)
    _require_form(drawing)
    out = io.BytesIO()
    Image.fromarray(drawing).save(out, "PNG")
    return out.getvalue()


def decode(png: UInt8[np.ndarray, " n"]) -> UInt8[np.ndarray, "S S"]:
    """The drawing in the bytes of a record.

    Raises:
        DataError: not a PNG file of a grey picture of SKETCH_SIZE pixels.
    """
    return np.asarray(_opened(png))


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A record's drawing, bytes of a PNG file, becomes record["sketch"], uint8[size, size].

    prepare: "strokes": record["png"], as `prepare_drawing` made it, resampled by area; "plain":
    record["picture"], see `plain_drawing`.
    augment: mirrored left to right with chance 1/2, then turned by U(-15, 15) degrees about the
    middle; made smaller where a corner would be cut off.
    """

    size: int
    augment: bool = False
    prepare: str = "strokes"

    def __post_init__(self) -> None:
        check_prepare(self.prepare, "Drawing: prepare")
        if not 8 <= self.size <= 4096:
            raise ConfigError(
                f"Drawing(size={self.size}): the side of a drawing is 8 to 4096 pixels"
            )

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        key, plain = PREPARE[self.prepare], self.prepare == "plain"
        if key not in record:
            raise DataError(
                f"record '{record.get('id')}' has no '{key}'; it holds "
                f"{', '.join(sorted(record))}, no drawing to prepare as '{self.prepare}'"
            )
        try:
            image = _squared(_png(record[key])) if plain else _opened(record[key])
        except DataError as error:
            raise DataError(f"record '{record.get('id')}': {error}") from None
        if self.augment:
            mirrored, angle = rng.random() < 0.5, rng.uniform(-_TURN, _TURN)
            image = _shown_turned(image, mirrored, angle, 1.0 if plain else _FILL)
        if self.size != image.size[0]:
            by_area = not plain and self.size < image.size[0]
            kind = Image.Resampling.BOX if by_area else _BICUBIC
            image = image.resize((self.size, self.size), kind)
        rest = {name: value for name, value in record.items() if name not in PREPARE.values()}
        return {**rest, "sketch": np.array(image)}


# ---------------------------------------------------------------------------------------------------------------- reading


def _grey(image: Image.Image) -> UInt8[np.ndarray, "H W"]:
    """Luminance of ITU-R 601."""
    if image.mode in ("P", "PA") or (
        image.mode in ("1", "L", "RGB") and "transparency" in image.info
    ):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("LA", "La", "RGBA", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))
        alpha = np.asarray(image.getchannel("A"))
        grey = np.asarray(
            image.getchannel("L") if image.mode == "LA" else image.convert("RGB").convert("L")
        )
        return _on_paper(grey, alpha)
    return eight_bits(image) if image.mode[0] in "IF" else np.asarray(image.convert("L"))


def _on_paper(
    grey: UInt8[np.ndarray, "H W"], alpha: UInt8[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W"]:
    """Composited. What is opaque is strokes if it has one tone or covers less than half of its box;
    else it is a sheet of paper.
    """
    if alpha.min() == 255:
        return grey
    if alpha.max() == 0:
        return np.full_like(grey, 255)
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    opaque = alpha[box] >= 128
    tones = grey[box][opaque if opaque.any() else alpha[box] > 0]
    low, middle, high = np.percentile(tones, (1, 50, 99))
    is_sheet = high - low > 64 and opaque.mean() > 0.5
    paper = int(middle) if is_sheet else 255 * int(tones.mean(dtype=np.float64) < 160)
    # Strip by strip: 32 bits for every pixel of a large scan would be four times its size.
    out = np.empty_like(grey)
    for first in range(0, len(grey), 256):
        strip = slice(first, first + 256)
        share = alpha[strip].astype(np.int32)
        out[strip] = (grey[strip] * share + paper * (255 - share) + 127) // 255
    return out


# -------------------------------------------------------------------------------------------------------------- preparing


def _prepare(grey: UInt8[np.ndarray, "H W"]) -> tuple[UInt8[np.ndarray, "S S"], float]:
    """The drawing, and the share of its ink in areas wider than a stroke."""
    ink = fit_strokes(find_ink(grey), round(_FILL * SKETCH_SIZE), _STROKE)
    canvas = np.full((SKETCH_SIZE, SKETCH_SIZE), 255, np.uint8)
    top, left = ((SKETCH_SIZE - extent) // 2 for extent in ink.shape)
    canvas[top : top + ink.shape[0], left : left + ink.shape[1]] = 255 - ink
    return canvas, _filled(canvas < 224)


def _filled(ink: Bool[np.ndarray, "S S"]) -> float:
    """The share of the ink that lies within half of _WIDE of a pixel as deep in it: within an area
    that wide.
    """
    deep = ndimage.distance_transform_edt(np.pad(ink, 1))[1:-1, 1:-1] > _WIDE / 2
    if not deep.any():
        return 0.0
    return float((ndimage.distance_transform_edt(~deep)[ink] <= _WIDE / 2).mean())


def _filled_line(name: str, share: float) -> str:
    return (
        f"{name}: {share:.0%} of its ink is in areas wider than a stroke; a photo or a filled "
        "shape is compared as if it were drawn "
        "with strokes, and finds little"
    )


def _require_form(drawing: np.ndarray) -> None:
    if drawing.dtype != np.uint8 or drawing.shape != (SKETCH_SIZE, SKETCH_SIZE):
        raise DataError(
            f"a drawing of type {drawing.dtype} and shape {drawing.shape}; expected "
            f"uint8[{SKETCH_SIZE}, {SKETCH_SIZE}]"
        )


def _squared(image: Image.Image) -> Image.Image:
    """In the middle of a square of the tone of its edge."""
    side = max(image.size)
    if image.size == (side, side):
        return image
    out = Image.new("L", (side, side), _paper(image))
    out.paste(image, tuple((side - extent) // 2 for extent in image.size))  # type: ignore[arg-type]
    return out


def _paper(image: Image.Image) -> int:
    pixels = np.asarray(image)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return int(np.median(edge))


def _opened(png: UInt8[np.ndarray, " n"]) -> Image.Image:
    image = _png(png)
    if image.size != (SKETCH_SIZE, SKETCH_SIZE):
        raise DataError(
            f"its drawing is a picture of {image.size[0]} x {image.size[1]} pixels; expected grey "
            f"of {SKETCH_SIZE} x {SKETCH_SIZE}"
        )
    return image


def _png(png: UInt8[np.ndarray, " n"]) -> Image.Image:
    """A grey picture of any size."""
    try:
        image = Image.open(io.BytesIO(np.ascontiguousarray(png).tobytes()), formats=("PNG",))
        image.load()
    except Exception as error:  # whatever the decoder meets
        raise DataError(
            f"its drawing of {np.size(png)} bytes is no PNG picture; prepare the data set again"
        ) from error
    if image.mode != "L":
        raise DataError(
            f"its drawing is a picture of {image.size[0]} x {image.size[1]} pixels, mode "
            f"{image.mode}; expected grey"
        )
    return image


def _shown_turned(
    image: Image.Image, mirrored: bool, angle: float, share: float = _FILL
) -> Image.Image:
    """Mirrored, then turned counter-clockwise by `angle` degrees; made a little smaller where a
    corner of the box would be cut off, which takes `share` of the side.
    """
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    scale = max(
        1.0, share * (cosine + abs(sine)) / 0.99
    )  # pixels of the source for one of the result
    middle, sign = image.size[0] / 2, -1.0 if mirrored else 1.0
    # Pillow asks for the map from the result to the source: turned back, then mirrored; rows run
    # downwards.
    across = sign * scale * np.array([cosine, -sine])
    down = scale * np.array([sine, cosine])
    rows = [(*row, middle - row.sum() * middle) for row in (across, down)]
    data = tuple(float(value) for row in rows for value in row)
    paper = 255 if share == _FILL else _paper(image)
    return image.transform(
        image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=paper
    )
