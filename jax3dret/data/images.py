"""Images for the frozen towers: to a square of the right size on the host, to normalised floats on
the device.

A tower is fed in two steps. `resize_center_crop` runs once for each image, in NumPy and Pillow, and
gives uint8, a quarter of the bytes of floats; `normalise` runs in the tower's own compiled
function.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from jax3dret.core.types import ConfigError, DataError

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# Sides of the square in the longer side, from which on the square alone is scaled.
_LONG = 16


class Normalisation(NamedTuple):
    """Mean and standard deviation of R, G, B, for values in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# ResNet and VGG of torchvision, and SLIP.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# [0, 255] to [-1, 1].
MOBILENET = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# (pixel - 127) / 128.
EFFICIENTNET_LITE = Normalisation((127 / 255,) * 3, (128 / 255,) * 3)


def normalise(
    images: UInt8[Array, "*lead 3"], normalisation: Normalisation
) -> Float[Array, "*lead 3"]:
    """(image / 255 - mean) / std for each channel, float32. Runs under jit.

    Raises ConfigError for anything but uint8: floats may be in [0, 1] or in [0, 255], and nothing
    would tell.
    """
    if images.dtype != jnp.uint8:
        raise ConfigError(f"normalise: images of type {images.dtype}; expected uint8 in [0, 255]")
    mean, std = (
        jnp.broadcast_to(jnp.asarray(values, jnp.float32), images.shape) for values in normalisation
    )
    return (images.astype(jnp.float32) / 255 - mean) / std


def resize_center_crop(
    image: UInt8[np.ndarray, "H W 3"], size: int = 224, filter: str = "bicubic"
) -> UInt8[np.ndarray, "size size 3"]:
    """The image scaled so that its shorter side is `size`, and the square in the middle of it.

    filter: "bicubic" (CLIP) or "bilinear" (ImageNet networks of torchvision), both with Pillow's
    antialiasing. The longer side is rounded down, an odd margin is split with the larger half by
    round-half-even, as torchvision does.

    Raises DataError if the image is not uint8[H, W, 3] or is empty, ConfigError for another filter
    or size.
    """
    if filter not in FILTERS:
        raise ConfigError(
            f"resize_center_crop: filter {filter!r}; expected one of {', '.join(FILTERS)}"
        )
    if size < 1:
        raise ConfigError(f"resize_center_crop: size {size}; expected at least 1 pixel")
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(
            f"image of type {image.dtype} and shape {image.shape}; expected uint8[H, W, 3]"
        )
    height, width = image.shape[:2]
    short = min(height, width)
    height, width = size * height // short, size * width // short
    top, left = round((height - size) / 2), round((width - size) / 2)
    if max(height, width) > _LONG * size:  # what is cut off may be more than fits into memory
        down, right = image.shape[0] / height, image.shape[1] / width
        box = (left * right, top * down, (left + size) * right, (top + size) * down)
        return np.asarray(Image.fromarray(image).resize((size, size), FILTERS[filter], box))
    if (height, width) != image.shape[:2]:
        image = np.asarray(Image.fromarray(image).resize((width, height), FILTERS[filter]))
    return np.ascontiguousarray(image[top : top + size, left : left + size])
