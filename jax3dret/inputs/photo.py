"""A photo: what an image network reads of a picture file of any size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jax3dret.core.types import ConfigError, DataError, Loaded, Row
from jax3dret.data.images import resize_center_crop
from jax3dret.data.pictures import rgb_of
from jax3dret.inputs.batching import stack


@dataclasses.dataclass(frozen=True)
class Photo:
    """ "image" uint8[size, size, 3]: the middle of the photo, upright, what is transparent on
    white, grey in all channels. The network normalises it, on the device.

    crop: the side of the square that is read, as a share of the photo's shorter side. 0.875 is that
    of EfficientNet's evaluation on ImageNet (224 of 256 pixels); 1 reads the whole shorter side.
    """

    size: int
    crop: float = 0.875
    accepts: ClassVar[tuple[str, ...]] = ("image",)
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.crop <= 1:
            raise ConfigError(
                f"a photo of {self.size} pixels that shows {self.crop} of the shorter side; "
                "expected at least 1 pixel, and a share above 0 and at most 1"
            )

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Nothing is drawn from `rng`. Raises DataError for a picture that is damaged."""
        pixels = rgb_of(loaded.value)
        try:
            whole = resize_center_crop(pixels, round(self.size / self.crop))
        except DataError as error:
            raise DataError(f"{loaded.name}: {error}") from None
        first = (len(whole) - self.size) // 2
        middle = slice(first, first + self.size)
        return {"image": np.ascontiguousarray(whole[middle, middle])}

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        return stack(rows)
