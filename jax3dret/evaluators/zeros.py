"""Embeddings of all zeros, which have no direction: under the cosine distance they rank last, and
are counted and said.

A ReLU at the end of a network makes them of whatever it has learned nothing about.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from jaxtyping import Float

from jax3dret.metrics import ranking

log = logging.getLogger("jax3dret")


def said(
    gallery: Float[np.ndarray, "G D"], queries: Float[np.ndarray, "Q D"], distance: ranking.Distance
) -> dict[str, Any]:
    """The entries of a protocol; empty under the Euclidean distance, where such an embedding is a
    point like any other. Logs a warning where there are some.
    """
    if distance != "cosine":
        return {}
    counts = {
        side: int(ranking.without_direction(vectors, distance).sum())
        for side, vectors in (("gallery", gallery), ("query", queries))
    }
    entries: dict[str, Any] = {"zero_embeddings": counts}
    if any(counts.values()):
        log.warning(
            "embeddings of all zeros: %d of %d in the gallery, %d of %d queries; they have no "
            "direction and rank last",
            counts["gallery"],
            len(gallery),
            counts["query"],
            len(queries),
        )
        entries["zero_embeddings_note"] = (
            "an embedding of all zeros has no direction: as a gallery item it is ranked last, and "
            "to a query of zeros all items are equally far"
        )
    return entries
