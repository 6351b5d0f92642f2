"""The tree over occupied cells, as arrays: nodes, their children, and rows for shared corners."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jax3dret.core.types import DataError, PyTree
from jax3dret.models.fields.interpolation import CORNERS


def with_parents(
    cells: Int[np.ndarray, "C 3"], base: int, finest: int
) -> list[Int[np.ndarray, "_ 3"]]:
    """The cells of each level, base first, in Morton order and each once: those given, and all
    that contain one. Raises DataError for no cell or one outside.
    """
    if not len(cells):
        raise DataError("octree: no cell is occupied; does the surface lie within [-1, 1]^3?")
    if cells.min() < 0 or cells.max() >= 2**finest:
        raise DataError(
            f"octree: cells from {cells.min()} to {cells.max()}; level {finest} has 0 to "
            f"{2**finest - 1}"
        )
    keys = np.unique(morton(cells))
    levels = [keys]
    for _ in range(base, finest):
        keys = np.unique(keys >> 3)
        levels.append(keys)
    return [places(keys) for keys in reversed(levels)]


def tree(levels: Sequence[Int[np.ndarray, "_ 3"]], base: int) -> dict[str, np.ndarray]:
    """{"top", "children", "corners"} over the cells of each level, the level `base` first.

    Node 0 is the empty cell; the others follow level by level, in Morton order. Corners are rows
    counted level by level, in Morton order, each corner of a level once. Raises DataError for a
    cell whose parent is not there.
    """
    keys = [np.unique(morton(cells)) for cells in levels]
    first = 1 + np.cumsum([0] + [len(k) for k in keys])
    top = np.zeros(8**base, np.int32)
    x, y, z = places(keys[0]).T
    top[(x * 2**base + y) * 2**base + z] = 1 + np.arange(len(keys[0]))
    children = np.zeros((first[-2], 8), np.int32)
    corners, rows = np.zeros((first[-1], 8), np.int32), 0
    for i, own in enumerate(keys):
        if i:
            parent = np.searchsorted(keys[i - 1], own >> 3)
            inside = np.minimum(parent, len(keys[i - 1]) - 1)
            if (keys[i - 1][inside] != own >> 3).any():
                raise DataError(
                    f"octree: a cell of level {base + i} lies in none of level {base + i - 1}"
                )
            children[first[i - 1] + parent, own & 7] = first[i] + np.arange(len(own))
        ends = morton((places(own)[:, None] + CORNERS).reshape(-1, 3))
        unique, index = np.unique(ends, return_inverse=True)
        corners[first[i] : first[i + 1]] = rows + index.reshape(-1, 8)
        rows += len(unique)
    return {"top": top, "children": children, "corners": corners}


def corner_places(
    levels: Sequence[Int[np.ndarray, "_ 3"]],
) -> list[Int[np.ndarray, "_ 3"]]:
    """Of each level, where the corners lie whose rows `tree` counts, in units of its cells."""
    return [
        places(np.unique(morton((np.asarray(cells)[:, None] + CORNERS).reshape(-1, 3))))
        for cells in levels
    ]


def finest_cells(structure: PyTree, base: int, levels: int) -> Int[np.ndarray, "C 3"]:
    """The cells of the last level of a tree, in Morton order."""
    top, children = np.asarray(structure["top"]), np.asarray(structure["children"])
    flat = np.flatnonzero(top)
    x, rest = np.divmod(flat, 4**base)
    cells = np.stack([x, *np.divmod(rest, 2**base)], -1)
    keys = morton(cells)
    order = np.argsort(keys)
    keys, nodes = keys[order], top[flat][order]
    for _ in range(levels - 1):
        found = children[nodes]
        parent, octant = np.nonzero(found)
        keys, nodes = keys[parent] << 3 | octant, found[parent, octant]
    return places(keys)


def capacity(count: int) -> int:
    """The next of the sizes 2^k and 3 x 2^k: room for `count` in few different sizes."""
    power = 1 << max(count - 1, 0).bit_length()
    return 3 * power // 4 if count <= 3 * power // 4 else power


def padded(array: jax.Array | np.ndarray, rows: int) -> jax.Array:
    """With zeros behind, up to so many rows."""
    return jnp.pad(jnp.asarray(array), [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1))


def morton(cells: Int[np.ndarray, "*S 3"]) -> Int[np.ndarray, "*S"]:
    """Bits of x, y and z in turn, x the highest: the last three are the place in the parent."""
    key = np.zeros(cells.shape[:-1], np.int64)
    for axis in range(3):
        for bit in range(10):
            key |= (np.asarray(cells[..., axis], np.int64) >> bit & 1) << (3 * bit + 2 - axis)
    return key


def places(keys: Int[np.ndarray, " K"]) -> Int[np.ndarray, "K 3"]:
    """What `morton` was given."""
    cells = np.zeros((len(keys), 3), np.int64)
    for axis in range(3):
        for bit in range(10):
            cells[:, axis] |= (keys >> (3 * bit + 2 - axis) & 1) << bit
    return cells
