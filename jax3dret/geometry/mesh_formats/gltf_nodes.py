"""Where a glTF 2.0 scene places its meshes: the tree of nodes and their transforms (specification,
section 3.5).

A node that KHR_node_visibility hides takes all below it along: what a file does not show is not
read. EXT_mesh_gpu_instancing places the mesh of a node, not its children, once an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jax3dret.geometry.mesh_formats.gltf_accessors import Accessors, entry
from jax3dret.geometry.mesh_formats.unusable import Unusable

INSTANCING = "EXT_mesh_gpu_instancing"
VISIBILITY = "KHR_node_visibility"
_DEFAULTS = {
    "translation": np.zeros(3),
    "rotation": np.array([0.0, 0, 0, 1]),
    "scale": np.ones(3),
}


class Placement(NamedTuple):
    """A node with a mesh. transforms: float64[I, 4, 4] from the mesh to the world, one an instance.
    hidden: by itself or a node above it.
    """

    node: int
    transforms: np.ndarray
    hidden: bool


class Nodes:
    """The nodes of a document, their transforms to the world, and those that its scene places."""

    def __init__(self, document: dict[str, Any], accessors: Accessors):
        """Raises Unusable: nodes that form no trees, or a transform that is none."""
        self._document, self._accessors = document, accessors
        rows = document.get("nodes", [])
        self._nodes = [entry(document, "nodes", i) for i in range(len(rows))]
        self._parents = self._parents_of()
        self.world = self._to_world()

    def placements(self) -> list[Placement]:
        """The nodes with a mesh below the roots of the default scene, in the file's order; without
        a default of the first, without scenes of all nodes.
        """
        found = []
        waiting = [(root, False) for root in reversed(self._roots())]
        while waiting:
            index, hidden = waiting.pop()
            node = self._nodes[index]
            hidden = hidden or _extension(node, VISIBILITY).get("visible") is False
            if "mesh" in node:
                found.append(Placement(index, self._instances(index), hidden))
            waiting += [(child, hidden) for child in reversed(node.get("children", []))]
        return found

    def node(self, index: int) -> dict[str, Any]:
        return self._nodes[index]

    def _roots(self) -> list[int]:
        scenes = self._document.get("scenes")
        if not scenes:
            return [i for i, parent in enumerate(self._parents) if parent < 0]
        which = self._document.get("scene", 0)
        roots = entry(self._document, "scenes", which).get("nodes", [])
        for index in roots:
            entry(self._document, "nodes", index)
            if self._parents[index] >= 0:
                raise Unusable(
                    f"scene {which} names node {index}, which is below node {self._parents[index]};"
                    " export it again"
                )
        if len(set(roots)) < len(roots):
            raise Unusable(f"scene {which} names a node twice; export it again")
        return list(roots)

    def _parents_of(self) -> list[int]:
        parents = [-1] * len(self._nodes)
        for index, node in enumerate(self._nodes):
            for child in node.get("children", []):
                entry(self._document, "nodes", child)
                if parents[child] >= 0 or child == index:
                    raise Unusable(
                        f"node {child} is a child of node {index} and of another, or of itself; "
                        "nodes must form trees"
                    )
                parents[child] = index
        return parents

    def _to_world(self) -> np.ndarray:
        """float64[N, 4, 4]. Walking from the roots reaches all nodes unless some form a cycle."""
        own = _local(self._nodes)
        world = np.zeros_like(own)
        waiting = [i for i, parent in enumerate(self._parents) if parent < 0]
        reached = 0
        while waiting:
            index = waiting.pop()
            above = self._parents[index]
            world[index] = own[index] if above < 0 else world[above] @ own[index]
            waiting += self._nodes[index].get("children", [])
            reached += 1
        if reached < len(own):
            raise Unusable(f"{len(own) - reached} nodes form a cycle; nodes must form trees")
        return world

    def _instances(self, index: int) -> np.ndarray:
        node = self._nodes[index]
        attributes = _extension(node, INSTANCING).get("attributes")
        if attributes is None:
            return self.world[index][None]
        where = f"node {index}, {INSTANCING}"
        if "skin" in node:
            raise Unusable(f"{where}: instances of a skinned mesh; export it again")
        counts = {self._accessors.count(accessor) for accessor in attributes.values()}
        if len(counts) != 1:
            raise Unusable(f"{where}: attributes of {sorted(counts)} instances; export it again")
        (count,) = counts
        parts = {
            name: self._accessors.floats(attributes[name], kind)
            for name, kind in (("TRANSLATION", "VEC3"), ("ROTATION", "VEC4"), ("SCALE", "VEC3"))
            if name in attributes
        }
        own = composed(
            parts.get("TRANSLATION", np.zeros((count, 3))),
            parts.get("ROTATION", np.tile([0.0, 0, 0, 1], (count, 1))),
            parts.get("SCALE", np.ones((count, 3))),
            lambda _: where,
        )
        return self.world[index] @ own


def composed(
    translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray, name: Callable[[int], str]
) -> np.ndarray:
    """float64[I, 4, 4], T R S of each; rotation: quaternions x, y, z, w.

    Raises Unusable for a quaternion of length 0, with the name of its row.
    """
    norm = np.linalg.norm(rotation, axis=1, keepdims=True)
    if not (norm > 1e-6).all():
        raise Unusable(f"{name(int(norm.argmin()))}: a rotation of length 0; export it again")
    x, y, z, w = (rotation / norm).T
    turns = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    out = np.zeros((len(turns), 4, 4))
    out[:, :3, :3] = turns * scale[:, None, :]
    out[:, :3, 3] = translation
    out[:, 3, 3] = 1.0
    return out


def _local(nodes: list[dict[str, Any]]) -> np.ndarray:
    """float64[N, 4, 4] of each node to its parent: a matrix, column by column, or T R S."""
    rows: dict[str, list[np.ndarray]] = {key: [] for key in _DEFAULTS}
    matrices: dict[int, np.ndarray] = {}
    for index, node in enumerate(nodes):
        if "matrix" in node:
            if node.keys() & _DEFAULTS.keys():
                raise Unusable(f"node {index} has a matrix and T R S beside it; export it again")
            matrix = _numbers(node["matrix"], 16, f"node {index}, matrix")
            matrices[index] = matrix.reshape(4, 4).T
        for key, default in _DEFAULTS.items():
            given = key in node
            rows[key].append(
                _numbers(node[key], len(default), f"node {index}, {key}") if given else default
            )
    if not nodes:
        return np.zeros((0, 4, 4))
    translation, rotation, scale = (np.array(rows[key]) for key in _DEFAULTS)
    out = composed(translation, rotation, scale, lambda index: f"node {index}")
    for index, matrix in matrices.items():
        out[index] = matrix
    return out


def _numbers(values: Any, count: int, where: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise Unusable(f"{where}: {count} numbers are needed; export it again")
    return numbers


def _extension(node: dict[str, Any], name: str) -> dict[str, Any]:
    found = node.get("extensions", {}).get(name, {})
    return found if isinstance(found, dict) else {}
