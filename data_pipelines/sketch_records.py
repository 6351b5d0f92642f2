"""The record of one drawing: what the builders of sketch sets share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from jax3dret.data.sketches import encode, encode_picture


def sketch_features(
    class_names: Sequence[str], *, picture: bool = False
) -> tfds.features.FeaturesDict:
    """id, label, and png: uint8 [n], the bytes of a PNG file of `data.sketches.SKETCH_SIZE` pixels,
    dark strokes on white. picture: with the pixels of the file that it comes from too, as a PNG
    file.
    """

    def png() -> tfds.features.Tensor:
        return tfds.features.Tensor(
            shape=(None,), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
        )

    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "png": png(),
            **({"picture": png()} if picture else {}),
        }
    )


def sketch_example(
    id: str,
    label: str | int,
    drawing: UInt8[np.ndarray, "S S"],
    picture: UInt8[np.ndarray, "H W"] | None = None,
) -> dict[str, Any]:
    """One record of `sketch_features`. drawing: as `data.sketches.prepare_drawing` makes it;
    picture: the pixels that it was made from.

    Raises:
        DataError: a drawing of another size or type.
    """
    record = {"id": id, "label": label, "png": np.frombuffer(encode(drawing), np.uint8)}
    if picture is None:
        return record
    return {**record, "picture": np.frombuffer(encode_picture(picture), np.uint8)}
