"""Pictures from files, decoded whole, or refused with one line that says why."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from jax3dret.core.files import pointer
from jax3dret.core.types import DataError
from jax3dret.geometry.mesh_formats.text import is_web_page

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 64_000_000
# What turns a picture upright, by the number in its EXIF.
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture file in memory, its header checked; decoded by whoever reads it, in the mode that
    it needs.

    name: the path, for messages. size: width and height in pixels.
    """

    name: str
    data: bytes = dataclasses.field(repr=False)
    size: tuple[int, int]

    def decoded(self, mode: str | None = None) -> Image.Image:
        """The first frame, whole, not yet turned as its EXIF says.

        mode: what a JPEG is decoded to where its format allows it, such as "L", the luminance
        alone.

        Raises:
            DataError: it is cut off or damaged.
        """
        with one_line(self.name), Image.open(io.BytesIO(self.data)) as picture:
            if mode is not None:
                picture.draft(mode, None)
            picture.load()
            return picture


def load_picture(path: pathlib.Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture file: PNG, JPEG, TIFF, GIF, BMP, WebP and what else Pillow opens.

    Raises:
        DataError: the file is missing, empty, no picture, or larger than max_pixels.
    """
    with one_line(str(path)):
        if not path.stat().st_size:
            raise DataError(f"{path}: the file is empty; a picture is needed")
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
    if width * height > max_pixels:
        raise DataError(
            f"{path}: {width} x {height} pixels, more than the {max_pixels:,} that are read; "
            "make the picture smaller"
        )
    return Picture(str(path), data, (width, height))


def rgb_of(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a picture, upright as its EXIF says, what is transparent on white, grey in all
    three channels.

    Raises DataError for one that is cut off or damaged.
    """
    image = picture.decoded()
    turn = ORIENTATIONS.get(image.getexif().get(0x0112, 1))
    with one_line(picture.name):
        if image.mode[0] in "IF":
            image = Image.fromarray(eight_bits(image)).convert("RGB")
        elif image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
        else:
            image = image.convert("RGB")
        return np.asarray(image if turn is None else image.transpose(turn))


def eight_bits(image: Image.Image) -> UInt8[np.ndarray, "H W"]:
    """Grey values of 16 bits by their upper ones; those of 32 bits, which have no scale of their
    own, from the least to the largest.

    Raises ValueError for values that are not finite.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise ValueError("pixels that are not finite numbers")
    scale = np.float32(255 / (high - low)) if high > low else np.float32(0)
    return (
        np.rint((values.astype(np.float32) - np.float32(low)) * scale).clip(0, 255).astype(np.uint8)
    )


@contextlib.contextmanager
def one_line(name: str) -> Iterator[None]:
    """Turns what a decoder raises into one line that names the file."""
    try:
        with warnings.catch_warnings():
            # Our own limit applies; other warnings are about metadata.
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name}: {_what_else(pathlib.Path(name))}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: too many pixels; expected PNG or JPEG") from None
    except MemoryError:
        raise DataError(f"{name}: does not fit into memory; make the picture smaller") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # whatever a decoder throws at a damaged file
        first = (str(error).strip().splitlines() or [""])[0][:160]
        raise DataError(
            f"{name}: a damaged picture ({type(error).__name__}: {first}); save it again"
        ) from None


def _what_else(path: pathlib.Path) -> str:
    """What a file is that is no picture, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError:
        head = b""
    if (found := pointer(head)) is not None:
        return f"is {found[0]}; {found[1]}"
    if is_web_page(head):
        return "is an HTML page, not a picture (a failed download?); download the file itself"
    return "no picture that can be read; expected PNG or JPEG"
