"""What a mesh of a glTF 2.0 asset holds, in its own frame: the triangles of its primitives, morph
targets added, and what a skin would move (specification, section 3.7.2).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from jax3dret.geometry.mesh_formats.gltf_accessors import Accessors, entry
from jax3dret.geometry.mesh_formats.gltf_files import COMPRESSED
from jax3dret.geometry.mesh_formats.unusable import Unusable

_POINTS, _LINES, _TRIANGLES, _STRIP, _FAN = 0, (1, 2, 3), 4, 5, 6


@dataclasses.dataclass
class Counts:
    """Primitives that a scene places, by what became of them; together, every primitive of every
    mesh that a node places, once an instance.

    triangles: their faces are in the mesh. points, lines: no surface. hidden: by
    KHR_node_visibility. bare: without positions, which the specification skips. loose: vertices of
    points and lines.
    """

    triangles: int = 0
    points: int = 0
    lines: int = 0
    hidden: int = 0
    bare: int = 0
    loose: int = 0

    def add(self, other: Counts, times: int) -> None:
        for field in dataclasses.fields(self):
            total = getattr(self, field.name) + times * getattr(other, field.name)
            setattr(self, field.name, total)


class Part(NamedTuple):
    """Primitives of a mesh that share vertices. vertices float64[V, 3], morphed; faces int64[F, 3].
    joints int64[V, K] and weights float64[V, K], where a skin may move them.
    """

    vertices: np.ndarray
    faces: np.ndarray
    joints: np.ndarray | None
    weights: np.ndarray | None


class Contents(NamedTuple):
    """Of a mesh: its parts with faces, and how many primitives are of which kind."""

    parts: list[Part]
    counts: Counts


class Meshes:
    """The meshes of a document by index and weights, each read once."""

    def __init__(self, document: dict[str, Any], accessors: Accessors):
        self._document, self._accessors = document, accessors
        self._contents: dict[tuple[int, tuple[float, ...]], Contents] = {}

    def contents(self, index: int, weights: tuple[float, ...]) -> Contents:
        """Of mesh `index`, with `weights` of its morph targets.

        Raises:
            Unusable: numbers that are missing or out of range, compressed ones, no whole triangles.
        """
        key = (index, weights)
        if key not in self._contents:
            self._contents[key] = self._read_mesh(index, weights)
        return self._contents[key]

    def _read_mesh(self, index: int, weights: tuple[float, ...]) -> Contents:
        shared: dict[tuple[Any, ...], tuple[np.ndarray, list[np.ndarray], dict[str, Any]]] = {}
        counts = Counts()
        for number, primitive in enumerate(entry(self._document, "meshes", index)["primitives"]):
            where = f"mesh {index}, primitive {number}"
            attributes, mode = primitive["attributes"], primitive.get("mode", _TRIANGLES)
            packed = [key for key in COMPRESSED if key in primitive.get("extensions", {})]
            if packed and not self._accessors.is_stored(attributes.get("POSITION")):
                raise Unusable(
                    f"{where} is compressed with {packed[0]}; export it without mesh compression"
                )
            if "POSITION" not in attributes:
                counts.bare += 1
                continue
            if mode == _POINTS or mode in _LINES:
                counts.points += mode == _POINTS
                counts.lines += mode in _LINES
                counts.loose += self._accessors.count(attributes["POSITION"])
                continue
            sources = _sources(primitive, weights, where)
            if sources not in shared:
                shared[sources] = (self._positions(sources, weights, where), [], attributes)
            vertices, found, _ = shared[sources]
            found.append(self._faces(primitive, mode, len(vertices), where))
            counts.triangles += 1
        parts = [
            Part(vertices, np.concatenate(found), *self._skinning(attributes, len(vertices)))
            for vertices, found, attributes in shared.values()
        ]
        return Contents(parts, counts)

    def _positions(
        self, sources: tuple[Any, ...], weights: tuple[float, ...], where: str
    ) -> np.ndarray:
        """float64[V, 3], with the morph targets added that have a weight (section 3.7.2.2)."""
        position, targets, _ = sources
        vertices = self._accessors.floats(position, "VEC3")
        for weight, target in zip(weights, targets, strict=True):
            if weight and target is not None:
                moved = self._accessors.floats(target, "VEC3")
                if len(moved) != len(vertices):
                    raise Unusable(
                        f"{where}: a morph target of {len(moved)} vertices for {len(vertices)}; "
                        "export it again"
                    )
                vertices = vertices + weight * moved
        return vertices

    def _skinning(
        self, attributes: dict[str, Any], count: int
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        sets = [k for k in range(len(attributes)) if f"JOINTS_{k}" in attributes]
        if not sets:
            return None, None
        joints = [self._accessors.whole(attributes[f"JOINTS_{k}"], "VEC4") for k in sets]
        weights = [self._accessors.floats(attributes[f"WEIGHTS_{k}"], "VEC4") for k in sets]
        for each in (*joints, *weights):
            if len(each) != count:
                raise Unusable(f"{len(each)} joints or weights for {count} vertices; export again")
        return np.concatenate(joints, axis=1), np.concatenate(weights, axis=1)

    def _faces(self, primitive: dict[str, Any], mode: Any, count: int, where: str) -> np.ndarray:
        """int64[F, 3] into the primitive's vertices; section 3.7.2.1 gives the order of corners."""
        if "indices" in primitive:
            corners, largest = self._accessors.integers(primitive["indices"])
            if len(corners) and corners.max() == largest:
                raise Unusable(
                    f"{where} has the index {largest}, which restarts a strip and is not allowed "
                    "in glTF; export it again"
                )
            if len(corners) and corners.max() >= count:
                raise Unusable(
                    f"{where}: a face refers to vertex {corners.max()}, but there are {count} "
                    "vertices; export it again"
                )
        else:
            corners = np.arange(count)
        if mode not in (_TRIANGLES, _STRIP, _FAN):
            raise Unusable(f"{where} has the mode {mode!r}; there are 0 to 6")
        if len(corners) % 3 if mode == _TRIANGLES else 0 < len(corners) < 3:
            raise Unusable(
                f"{where} has {len(corners)} corners, which make no whole triangles (truncated?); "
                "export it again"
            )
        if mode == _TRIANGLES or not len(corners):
            return corners.reshape(-1, 3)
        steps = np.arange(len(corners) - 2)
        if mode == _FAN:
            return np.stack([corners[1:-1], corners[2:], np.full(len(steps), corners[0])], 1)
        odd = steps % 2  # every second triangle of a strip has its last two corners exchanged
        return np.stack([corners[steps], corners[steps + 1 + odd], corners[steps + 2 - odd]], 1)


def _sources(
    primitive: dict[str, Any], weights: tuple[float, ...], where: str
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """The accessors that its vertices come from: primitives with the same ones share vertices."""
    attributes = primitive["attributes"]
    targets = primitive.get("targets", []) if any(weights) else []
    if any(weights) and len(targets) != len(weights):
        raise Unusable(f"{where} has {len(targets)} morph targets for {len(weights)} weights")
    skin = tuple(sorted(i for i in attributes.items() if i[0].startswith(("JOINTS_", "WEIGHTS_"))))
    return attributes["POSITION"], tuple(target.get("POSITION") for target in targets), skin


def weights_of(node: dict[str, Any], mesh: dict[str, Any]) -> tuple[float, ...]:
    """Of morph targets: the node's, else the mesh's; empty where none moves anything."""
    weights = tuple(float(w) for w in node.get("weights", mesh.get("weights", ())))
    return weights if any(weights) else ()
