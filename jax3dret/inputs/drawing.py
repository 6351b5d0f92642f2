"""A drawing: what a sketch encoder reads of a picture file, by the steps that made the drawings it
was trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jax3dret.core.types import Loaded, Row
from jax3dret.data import sketches
from jax3dret.inputs.batching import stack


@dataclasses.dataclass(frozen=True)
class Drawing:
    """ "sketch" uint8[size, size]: prepared as "strokes", dark on white and centred, or "plain",
    see `data.sketches`.
    """

    size: int
    prepare: str = "strokes"
    accepts: ClassVar[tuple[str, ...]] = ("image",)
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Raises ConfigError for a preparation that there is not."""
        sketches.check_prepare(self.prepare, "Drawing: prepare")

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What is dark over most of its area is a photo rather than a drawing; that is logged as a
        warning where the strokes are prepared.

        Raises DataError for a picture that is damaged or shows nothing.
        """
        if self.prepare == "plain":
            return {
                "sketch": sketches.plain_drawing(sketches.grey_drawing(loaded.value), self.size)
            }
        png = np.frombuffer(sketches.encode(sketches.drawing_of(loaded.value)), np.uint8)
        record = sketches.Drawing(self.size)({"id": loaded.name, "png": png}, rng)
        return {"sketch": record["sketch"]}

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        return stack(rows)
