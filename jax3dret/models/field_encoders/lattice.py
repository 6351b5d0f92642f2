"""Features of an INR's grid on a lattice, as `GridEncoder` reads them.

The lattice has R points an axis at -1 + 2 i / R, i = 0 .. R - 1: corners of an octree's cells, and
the last plane of the domain left out, where no shape in the unit sphere has anything. The first
axis is x. Levels and planes are put together as the INR itself does it, which is the best way there
is (INRet, table 14).

A hash grid's level is read at the nodes that the lattice touches and interpolated axis by axis; a
triplane's lattice is three pictures; the cells of an octree are filled in one after the other.
Everything here is NumPy: readers of data call it in threads, and nothing is compiled.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from jax3dret.core.types import ConfigError, PyTree
from jax3dret.models.fields.field import Architecture
from jax3dret.models.fields.hashgrid import PRIMES, HashGrid
from jax3dret.models.fields.interpolation import CORNERS
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.triplane import AXES, Triplane

# The axes of the lattice that a plane varies along, in their order.
PLANES = tuple(tuple(sorted(axes)) for axes in AXES)
# Points that an architecture of no known form is asked for at a time.
_AT_A_TIME = 1 << 16
# Planes of a hash grid's nodes that are read at a time.
_SLAB = 8


def check_resolution(resolution: int) -> None:
    """Raises ConfigError for what is no power of two from 2 to 256."""
    if resolution not in {2**k for k in range(1, 9)}:
        raise ConfigError(
            f"a lattice of {resolution} points an axis; give a power of two, such as 32, 64 or 128"
        )


def coordinates(resolution: int) -> Float32[np.ndarray, " R"]:
    """Of the lattice along an axis, -1 + 2 i / R."""
    check_resolution(resolution)
    return (-1 + 2 * np.arange(resolution) / resolution).astype(np.float32)


def sample(
    architecture: Architecture, variables: PyTree, resolution: int
) -> Float32[np.ndarray, "X Y Z F"]:
    """The features of the grid at every point of the lattice.

    Raises ConfigError for an INR without a grid and for a resolution that is none.
    """
    check_resolution(resolution)
    if not architecture.feature_width:
        raise ConfigError(f"{architecture.name}: has no grid, so there are no features to sample")
    if isinstance(architecture, HashGrid):
        return _hash_grid(architecture, variables, resolution)
    if isinstance(architecture, Triplane):
        planes = sample_planes(architecture, variables, resolution)
        return np.asarray(expand(planes[None], architecture.planes, architecture.reduce)[0])
    if isinstance(architecture, Octree):
        return _octree(architecture, variables, resolution)
    return _any(architecture, variables, resolution)


def sample_planes(
    architecture: Triplane, variables: PyTree, resolution: int
) -> Float32[np.ndarray, "G R R D"]:
    """The three planes of each level on the lattice: [y, z], [x, z] and [x, y] (PLANES), all that
    there is to know of it.
    """
    check_resolution(resolution)
    table = np.asarray(variables["grid"]["table"], np.float32)
    places = coordinates(resolution) + 1
    planes = []
    for begin, n in zip(architecture.begins, architecture.sides, strict=False):
        along = _Axis.of(places * np.float32((n - 1) / 2), n)
        for plane, (column, row) in enumerate(AXES):
            first = begin + plane * n * n
            nodes = table[first : first + n * n].reshape(n, n, -1)
            picture = along.interpolate(along.interpolate(nodes[along.nodes][:, along.nodes], 0), 1)
            planes.append(picture if row < column else picture.swapaxes(0, 1))
    return np.stack(planes)


def expand(
    planes: Float[Array, "B G R R D"] | Float[np.ndarray, "B G R R D"],
    plane_reduce: str,
    level_reduce: str,
) -> Float[Array, "B R R R F"]:
    """The features on the lattice that planes stand for, put together as the triplane says."""
    resolution, width = planes.shape[2], planes.shape[-1]

    def spread(group: int) -> Array:
        lead = [resolution] * 3
        lead[({0, 1, 2} - set(PLANES[group % 3])).pop()] = 1
        picture = jnp.asarray(planes[:, group]).reshape(len(planes), *lead, width)
        return jnp.broadcast_to(picture, (len(planes), *(resolution,) * 3, width))

    levels = [
        _joined([spread(3 * level + plane) for plane in range(3)], plane_reduce)
        for level in range(planes.shape[1] // 3)
    ]
    return _joined(levels, level_reduce)


def _joined(parts: list[Array], reduce: str) -> Array:
    return functools.reduce(jnp.add, parts) if reduce == "sum" else jnp.concatenate(parts, -1)


class _Axis:
    """Places along an axis of nodes 0 .. n - 1: the nodes that they lie between, each once, and how
    much of which.
    """

    def __init__(
        self, nodes: Int[np.ndarray, " N"], below: Any, above: Any, share: np.ndarray
    ) -> None:
        self.nodes, self._below, self._above, self._share = nodes, below, above, share

    @classmethod
    def of(cls, places: Float[np.ndarray, " R"], n: int) -> _Axis:
        cells = np.floor(places).astype(np.int64)
        share = (places - cells).astype(np.float32)
        above = np.where(share > 0, np.minimum(cells + 1, n - 1), cells)
        nodes = np.unique(np.concatenate([cells, above]))
        return cls(nodes, np.searchsorted(nodes, cells), np.searchsorted(nodes, above), share)

    def interpolate(self, values: np.ndarray, axis: int) -> np.ndarray:
        """values at the nodes -> at the places, along an axis."""
        if not self._share.any():
            same = len(self.nodes) == len(self._below)
            return values if same else values.take(self._below, axis)
        share = self._share.reshape(-1, *(1,) * (values.ndim - axis - 1))
        low, high = values.take(self._below, axis), values.take(self._above, axis)
        high -= low
        high *= share
        high += low
        return high


@functools.lru_cache(maxsize=16)
def _hash_level(
    architecture: HashGrid, level: int, resolution: int
) -> tuple[_Axis, Int[np.ndarray, "N N N"]]:
    """The nodes that the lattice touches, and their rows of the table, [x, y, z]."""
    n = architecture.resolutions[level]
    begin, end = architecture.begins[level : level + 2]
    places = np.float32(n) * (np.float32(0.5) * coordinates(resolution) + np.float32(0.5))
    along = _Axis.of(np.clip(places, 0, np.float32(n - 1 - 1e-5)), n)
    if n**3 <= 2**architecture.table:
        x, y, z = (along.nodes * n**axis for axis in range(3))
        rows = x[:, None, None] + y[:, None] + z
    else:
        x, y, z = (along.nodes.astype(np.uint32) * prime for prime in PRIMES)
        rows = (x[:, None, None] ^ y[:, None] ^ z) & np.uint32(end - begin - 1)
    return along, (begin + rows).astype(np.int32)


def _hash_grid(
    architecture: HashGrid, variables: PyTree, resolution: int
) -> Float32[np.ndarray, "X Y Z F"]:
    table = np.ascontiguousarray(variables["grid"]["table"], np.float32)
    levels, width = architecture.levels, architecture.width
    summed = architecture.reduce == "sum"
    shape = (*(resolution,) * 3, width if summed else levels * width)
    out = np.zeros(shape, np.float32) if summed else np.empty(shape, np.float32)
    for level in range(levels):
        along, rows = _hash_level(architecture, level, resolution)
        # Some planes of nodes at a time, which stay in the cache until they are interpolated.
        slabs = [
            along.interpolate(along.interpolate(_take(table, rows[x : x + _SLAB]), 2), 1)
            for x in range(0, len(rows), _SLAB)
        ]
        values = along.interpolate(np.concatenate(slabs), 0)
        if summed:
            out += values
        else:
            out[..., level * width : (level + 1) * width] = values
    return out


def _take(table: Float32[np.ndarray, "N D"], rows: np.ndarray) -> np.ndarray:
    """Rows of a table; two numbers are read as one of twice the size, which is three times as fast
    as a row of two.
    """
    if table.shape[1] == 2:
        return table.view(np.float64)[:, 0].take(rows)[..., None].view(np.float32)
    return table.take(rows, axis=0)


def _octree(
    architecture: Octree, variables: PyTree, resolution: int
) -> Float32[np.ndarray, "X Y Z F"]:
    table = np.asarray(variables["grid"]["table"], np.float32)
    structure = {key: np.asarray(value) for key, value in variables["structure"].items()}
    width = architecture.width
    summed = architecture.reduce == "sum"
    groups = 1 if summed else architecture.levels
    out = np.zeros((*(resolution,) * 3, groups * width), np.float32)
    side = 2**architecture.base
    nodes = structure["top"]
    cells = np.stack(np.unravel_index(np.arange(side**3), (side,) * 3), -1)
    for level in range(architecture.levels):
        if level:
            children = structure["children"][nodes]
            cells = (2 * cells[:, None] + CORNERS).reshape(-1, 3)
            nodes, side = children.reshape(-1), 2 * side
        cells, nodes = cells[nodes > 0], nodes[nodes > 0]
        part = out[..., :width] if summed else out[..., level * width : (level + 1) * width]
        _fill(part, cells, table, structure["corners"][nodes], side)
        # What has no children has no finer cells: its row of children may not be stored.
        inside = nodes < len(structure["children"])
        cells, nodes = cells[inside], nodes[inside]
    return out


def _fill(
    out: np.ndarray,
    cells: Int[np.ndarray, "C 3"],
    table: np.ndarray,
    corners: Int[np.ndarray, "C 8"],
    side: int,
) -> None:
    """Adds what the cells of one level give at the points of the lattice within them."""
    resolution = len(out)
    if side > resolution:  # a point of the lattice is the first corner of its cell
        step = side // resolution
        is_met = (cells % step == 0).all(1)
        x, y, z = (cells[is_met] // step).T
        out[x, y, z] += table[corners[is_met, 0]]
        return
    points = resolution // side
    share = (np.arange(points) / points).astype(np.float32)
    along = np.stack([1 - share, share], -1)  # [point, end]
    weights = np.einsum("ia,jb,kc->ijkabc", along, along, along).reshape(-1, 8)
    parts = np.matmul(weights, table[corners])  # [C, points^3, D]
    blocks = out.reshape(*(side, points) * 3, -1)
    x, y, z = cells.T
    shape = (len(cells), points, points, points, out.shape[-1])
    blocks[x, :, y, :, z] += parts.reshape(shape)


def _any(
    architecture: Architecture, variables: PyTree, resolution: int
) -> Float32[np.ndarray, "X Y Z F"]:
    """Point by point, of an architecture that nothing is known of."""
    axis = coordinates(resolution)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    asked = jax.jit(architecture.features)
    parts = [
        np.asarray(asked(variables, points[start : start + _AT_A_TIME]), np.float32)
        for start in range(0, len(points), _AT_A_TIME)
    ]
    return np.concatenate(parts).reshape(*(resolution,) * 3, -1)
