"""The constant offset between drawings and shapes, taken off: one encoder or two, each side's
embeddings lie around a mean of its own, which says nothing of what is shown.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np

from jax3dret.core.types import EmbedFn, EvaluationData, OpenSource
from jax3dret.evaluators.embed import embed_side
from jax3dret.evaluators.sides import open_side

# Rows whose sum is taken at a time.
_ROWS = 4096


def side_means(
    data: EvaluationData,
    open_source: OpenSource,
    split: str,
    width: int,
    sides: Sequence[str],
    embed: EmbedFn,
) -> dict[str, dict[str, np.ndarray]]:
    """The map "embedding less its side's mean over a split" of each of `sides`, the identity of the
    others, as `Recipe.calibrate` gives it.

    Raises what `evaluators.embed.embed_side` does.
    """
    fitted = {}
    for side in ("shape", "sketch"):
        mean = np.zeros(width)
        if side in sides:
            with tempfile.TemporaryDirectory(prefix="jax3dret-") as folder:
                records = open_side(data, open_source, side, split)
                vectors = embed_side(embed, records, pathlib.Path(folder) / f"{side}.npy").vectors
                parts = range(0, len(vectors), _ROWS)
                total = sum(vectors[at : at + _ROWS].sum(0, dtype=np.float64) for at in parts)
                mean = np.asarray(total / len(vectors))
        fitted[side] = {
            "matrix": np.eye(width, dtype=np.float32),
            "offset": (-mean).astype(np.float32),
        }
    return fitted
