"""Small architectures, trees and shapes for the tests of fields."""

from __future__ import annotations

import numpy as np

from jax3dret.models.fields import architectures
from jax3dret.models.fields.field import Architecture

_SMALL = {
    "siren": {"hidden": 8, "depth": 2},
    "hashgrid": {"levels": 2, "min_resolution": 4, "max_resolution": 8, "table": 7},
    "triplane": {"resolution": 2, "width": 4},
    "octree": {"base": 1, "levels": 2, "width": 2},
}


def small(name: str) -> Architecture:
    """An architecture of few parameters."""
    decoder = {} if name == "siren" else {"decoder": {"hidden": 4}}
    return architectures.by_name(name, **_SMALL[name], **decoder)


def cells_of_a_ball() -> np.ndarray:
    """Cells of the finest level of the small octree, 4 an axis: all but one corner."""
    cells = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return cells[cells.sum(1) < 7]
