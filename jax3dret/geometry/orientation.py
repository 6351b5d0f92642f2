"""Which way the faces of a mesh turn: whether they close it, and how to make them agree."""

from __future__ import annotations

import igl
import numpy as np
from jaxtyping import Float, Int


def _places(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> np.ndarray:
    """The faces over places: vertices at the same coordinates, to 1e-9 of the size, are one.
    Triangles that keep fewer than three places are gone."""
    used = vertices[faces.reshape(-1)]
    size = float(np.ptp(used, axis=0).max())
    grid = np.rint((used - used.min(0)) / (1e-9 * size)).astype(np.int64)
    # Two keys of 64 bits hold three coordinates of 30 bits each; a structured sort would be slower.
    key = grid[:, 0] << 32 | grid[:, 1]
    order = np.lexsort((grid[:, 2], key))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(key[order]) != 0) | (np.diff(grid[order, 2]) != 0)
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(new) - 1
    return place.reshape(-1, 3)


def is_closed(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> bool:
    """Whether every edge is used as often in one direction as in the other: then the winding number
    is whole everywhere."""
    place = _places(vertices, faces)
    start, end = place.reshape(-1), place[:, [1, 2, 0]].reshape(-1)
    count = int(place.max()) + 1
    low, high = np.minimum(start, end), np.maximum(start, end)
    edge, which = np.unique(low * count + high, return_inverse=True)
    balance = np.bincount(which, np.sign(end - start), minlength=len(edge))
    return not balance.any()


def single_faces(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Int[np.ndarray, "S 3"]:
    """One of the faces with the same three corners, however they turn."""
    place = np.sort(_places(vertices, faces), axis=1)
    return faces[np.sort(np.unique(place, axis=0, return_index=True)[1])]


def agreeing_faces(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], outwards: bool = False
) -> Int[np.ndarray, "F 3"]:
    """The faces, those of a connected part turned to agree. Of the two ways, the one that more of
    the part's area has in the file; or, `outwards`, the one that gives the part a volume above 0.
    """
    place = _places(vertices, faces)
    turned, part = igl.bfs_orient(np.ascontiguousarray(place))
    part = part.reshape(-1)
    # A turned face has its corners in another cyclic order.
    same = np.zeros(len(faces), bool)
    for shift in range(3):
        same |= (turned == np.roll(place, shift, axis=1)).all(1)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = np.cross(b - a, c - a)
    if outwards:
        count = np.maximum(np.bincount(part), 1)
        middle = np.stack([np.bincount(part, a[:, i]) / count for i in range(3)], 1)
        vote = ((a - middle[part]) * cross).sum(1)
    else:
        vote = np.sqrt((cross * cross).sum(1))
    votes = np.bincount(part, np.where(same, vote, -vote))
    keep = same == (votes[part] >= 0)
    return np.where(keep[:, None], faces, faces[:, ::-1])
