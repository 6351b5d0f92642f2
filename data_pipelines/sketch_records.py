"""The record of one drawing: what the builders of sketch sets share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from jax3dret.data.sketches import encode


def sketch_features(class_names: Sequence[str]) -> tfds.features.FeaturesDict:
    """id, label, and png: uint8 [n], the bytes of a PNG file of `data.sketches.SKETCH_SIZE` pixels,
    dark strokes on white.
    """
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "png": tfds.features.Tensor(
                shape=(None,), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
            ),
        }
    )


def sketch_example(id: str, label: str | int, drawing: UInt8[np.ndarray, "S S"]) -> dict[str, Any]:
    """One record of `sketch_features`. drawing: as `data.sketches.prepare_drawing` makes it.

    Raises:
        DataError: a drawing of another size or type.
    """
    return {"id": id, "label": label, "png": np.frombuffer(encode(drawing), np.uint8)}
