"""Drawings as queries: a picture file to what a sketch tower reads, by the steps that made the drawings it was trained on."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import UInt8

from jax3dret.data import sketches

# Counts up whenever the same file gives another drawing, so that no index is asked in two ways.
VERSION = 1
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a query is read as a drawing: by its extension."""
    return pathlib.Path(path).suffix.lower() in EXTENSIONS


@dataclasses.dataclass(frozen=True)
class Drawings:
    """Picture files to drawings uint8 [size, size], dark strokes on white, centred."""

    size: int
    name: ClassVar[str] = "sketch"
    batch_size: ClassVar[int] = 16

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size, self.size)

    @property
    def dtype(self) -> Any:
        return np.uint8

    def identity(self) -> list[Any]:
        """JSON-like: all that the drawing of a file depends on."""
        return [VERSION, sketches.SKETCH_SIZE, self.size]

    def __call__(self, path: str | os.PathLike[str]) -> UInt8[np.ndarray, "size size"]:
        """What is dark over most of its area is a photo rather than a drawing; that is logged as a warning.

        Raises:
            DataError: the file cannot be used: one line, path first.
        """
        png = np.frombuffer(sketches.encode(sketches.read_drawing(path)), np.uint8)
        record = sketches.Drawing(self.size)(
            {"id": os.fspath(path), "png": png}, np.random.default_rng(0)
        )
        drawing: np.ndarray = record["sketch"]
        return drawing

    def batch(self, rows: jax.Array) -> dict[str, jax.Array]:
        """Rows as a task takes them."""
        return {"sketch": rows}
