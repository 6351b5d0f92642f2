"""glTF 2.0: .gltf with its buffers, and .glb (Khronos Group, "glTF 2.0 Specification").

What a viewer shows before anything moves: the meshes that the default scene places, with instances,
morph weights and the pose of skins. Points and lines are no surface and materials no shape; a file
that requires an extension with geometry of its own is refused, the extension named.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats.gltf_accessors import Accessors, entry
from jax3dret.geometry.mesh_formats.gltf_files import COMPRESSED, Buffers, unpack
from jax3dret.geometry.mesh_formats.gltf_nodes import INSTANCING, VISIBILITY, Nodes, Placement
from jax3dret.geometry.mesh_formats.unusable import Unusable

# Extensions that a file may require. Those read here, then those that change no geometry: looks,
# lights, notes about parts, ways to act on them, and coarser copies of what is there anyway.
_READ = {INSTANCING, VISIBILITY, "KHR_mesh_quantization", "KHR_accessor_float64"}
_HARMLESS = {
    "CESIUM_primitive_outline",
    "EXT_instance_features",
    "EXT_mesh_features",
    "EXT_structural_metadata",
    "FB_geometry_metadata",
    "KHR_animation_pointer",
    "KHR_node_hoverability",
    "KHR_node_selectability",
    "KHR_techniques_webgl",
    "MSFT_lod",
    "MSFT_packing_normalRoughnessMetallic",
    "MSFT_packing_occlusionRoughnessMetallic",
}
_HARMLESS_PREFIXES = (
    "KHR_materials_",
    "EXT_materials_",
    "ADOBE_materials_",
    "KHR_texture_",
    "EXT_texture_",
    "MSFT_texture_",
    "KHR_lights_",
    "EXT_lights_",
    "KHR_xmp",
)
_POINTS, _LINES, _TRIANGLES, _STRIP, _FAN = 0, (1, 2, 3), 4, 5, 6


class Reading(NamedTuple):
    """A scene's surface and how many primitives it placed, by what became of them; together, every
    primitive of every mesh that a node places, once an instance.

    triangles: their faces are in `mesh`. points, lines: no surface. hidden: by
    KHR_node_visibility. bare: without positions, which the specification skips.
    """

    mesh: Mesh
    triangles: int
    points: int
    lines: int
    hidden: int
    bare: int


class _Part(NamedTuple):
    """Primitives of a mesh that share vertices. vertices float64[V, 3], morphed; faces int64[F, 3].
    joints int64[V, K] and weights float64[V, K], where a skin may move them.
    """

    vertices: np.ndarray
    faces: np.ndarray
    joints: np.ndarray | None
    weights: np.ndarray | None


class _Contents(NamedTuple):
    """Of a mesh: its parts, how many primitives are of which kind, and the vertices of those
    without faces.
    """

    parts: list[_Part]
    triangles: int
    points: int
    lines: int
    bare: int
    loose: int


def parse(path: pathlib.Path, data: bytes, max_bytes: int) -> Mesh:
    """The triangles of the default scene, placed. See `read`."""
    return read(path, data, max_bytes).mesh


def read(path: pathlib.Path, data: bytes, max_bytes: int) -> Reading:
    """The triangles of the default scene in the world's frame (y up), metres by the specification.

    data: of `path`, beside which buffers are looked for. max_bytes: of each buffer, and of what
    instances add to the mesh. Without `scene` the first scene counts, without scenes all nodes do.

    Raises: Unusable: not glTF 2.0, cut off, a buffer that is missing, an extension that is not
        read, nodes that form no trees, numbers out of range, or no faces.
    """
    try:
        document, binary = unpack(data)
        _check_required(document)
        buffers = Buffers(document, binary, path.parent, max_bytes)
        accessors = Accessors(document, buffers, max_bytes)
        return _Scene(document, accessors, max_bytes).read()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Unusable(
            f"its JSON is not as glTF 2.0 has it ({str(error).splitlines()[0][:80]}); export it "
            "again"
        ) from None


def _check_required(document: dict[str, Any]) -> None:
    required = document.get("extensionsRequired", [])
    packed = sorted(set(COMPRESSED).intersection(required))
    if packed:
        raise Unusable(
            f"is compressed with {', '.join(packed)}; export it without mesh compression"
        )
    unknown = [
        name
        for name in required
        if name not in _READ | _HARMLESS and not name.startswith(_HARMLESS_PREFIXES)
    ]
    if unknown:
        raise Unusable(
            f"requires {', '.join(sorted(unknown))}, which is not read and may change its shape; "
            "export it without"
        )


class _Scene:
    def __init__(self, document: dict[str, Any], accessors: Accessors, max_bytes: int):
        self._document, self._accessors, self._max_bytes = document, accessors, max_bytes
        self._nodes = Nodes(document, accessors)
        self._contents: dict[tuple[int, tuple[float, ...]], _Contents] = {}

    def read(self) -> Reading:
        vertices: list[np.ndarray] = []
        faces: list[np.ndarray] = []
        triangles = points = lines = hidden = bare = loose = num_vertices = copied = 0
        seen: set[int] = set()
        for place in self._nodes.placements():
            node = self._nodes.node(place.node)
            mesh = entry(self._document, "meshes", node["mesh"])
            times = len(place.transforms)
            if place.hidden:
                hidden += times * len(mesh["primitives"])
                continue
            contents = self._contents_of(node["mesh"], _weights(node, mesh))
            for each in contents.parts:
                size = each.vertices.nbytes + each.faces.nbytes
                copied += size * (times if node["mesh"] in seen else times - 1)
            seen.add(node["mesh"])
            if copied > self._max_bytes:
                raise Unusable(
                    f"places its meshes so often that they fill {copied:,} bytes more, above the "
                    f"limit of {self._max_bytes:,} (max_bytes)"
                )
            for placed, turned in self._placed(place, contents.parts):
                vertices.append(placed)
                faces.append(turned + num_vertices)
                num_vertices += len(placed)
            triangles += times * contents.triangles
            points += times * contents.points
            lines += times * contents.lines
            bare += times * contents.bare
            loose += times * contents.loose
        if not triangles:
            raise Unusable(_why_empty(points, lines, hidden, bare, loose))
        mesh_of = Mesh(np.concatenate(vertices), np.concatenate(faces))
        return Reading(mesh_of, triangles, points, lines, hidden, bare)

    def _placed(
        self, place: Placement, parts: list[_Part]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(vertices, faces) of each part and instance in the world, faces counter-clockwise seen
        from outside: a transform that mirrors turns them over (section 3.7.4).
        """
        node = self._nodes.node(place.node)
        for part in parts:
            if "skin" in node:
                yield self._skinned(part, node["skin"], place.node)
                continue
            for transform in place.transforms:
                placed = part.vertices @ transform[:3, :3].T + transform[:3, 3]
                mirrored = np.linalg.det(transform[:3, :3]) < 0
                yield placed, part.faces[:, ::-1] if mirrored else part.faces

    def _skinned(self, part: _Part, skin: int, node: int) -> tuple[np.ndarray, np.ndarray]:
        """A part in the pose of its joints; the transform of its own node does not count (section
        3.7.3.2).
        """
        described = entry(self._document, "skins", skin)
        if part.joints is None or part.weights is None:
            raise Unusable(
                f"node {node} has a skin, its mesh no JOINTS_0 and WEIGHTS_0; export it again"
            )
        for joint in described["joints"]:
            entry(self._document, "nodes", joint)
        matrices = self._nodes.world[np.array(described["joints"], np.int64)]
        if "inverseBindMatrices" in described:
            columns = self._accessors.floats(described["inverseBindMatrices"], "MAT4")
            if len(columns) < len(matrices):
                raise Unusable(
                    f"skin {skin} has {len(matrices)} joints and {len(columns)} inverse bind "
                    "matrices; export it again"
                )
            inverse = columns[: len(matrices)].reshape(-1, 4, 4).transpose(0, 2, 1)
            matrices = matrices @ inverse
        used = part.weights > 0
        if (part.joints[used] >= len(matrices)).any():
            raise Unusable(
                f"a vertex names a joint that skin {skin} does not have; export it again"
            )
        total = part.weights.sum(axis=1)
        if not (total > 0).all():
            raise Unusable(
                f"{int((total <= 0).sum())} vertices of node {node} follow no joint of its skin; "
                "export it again"
            )
        blended = np.zeros((len(total), 3, 4))
        for k in range(part.joints.shape[1]):
            share = part.weights[:, k] / total
            joint = np.where(used[:, k], part.joints[:, k], 0)
            blended += share[:, None, None] * matrices[joint, :3]
        placed = np.einsum("vij,vj->vi", blended[:, :, :3], part.vertices) + blended[:, :, 3]
        mirrored = np.sign(np.linalg.det(blended[:, :, :3]))[part.faces].sum(axis=1) < 0
        return placed, np.where(mirrored[:, None], part.faces[:, ::-1], part.faces)

    def _contents_of(self, index: int, weights: tuple[float, ...]) -> _Contents:
        key = (index, weights)
        if key not in self._contents:
            self._contents[key] = self._read_mesh(index, weights)
        return self._contents[key]

    def _read_mesh(self, index: int, weights: tuple[float, ...]) -> _Contents:
        shared: dict[tuple[Any, ...], tuple[np.ndarray, list[np.ndarray], dict[str, Any]]] = {}
        triangles = points = lines = bare = loose = 0
        for number, primitive in enumerate(entry(self._document, "meshes", index)["primitives"]):
            where = f"mesh {index}, primitive {number}"
            attributes, mode = primitive["attributes"], primitive.get("mode", _TRIANGLES)
            if "POSITION" not in attributes:
                packed = [key for key in COMPRESSED if key in primitive.get("extensions", {})]
                if packed:
                    raise Unusable(
                        f"{where} is compressed with {packed[0]}; export it without mesh "
                        "compression"
                    )
                bare += 1
                continue
            if mode == _POINTS or mode in _LINES:
                points += mode == _POINTS
                lines += mode in _LINES
                loose += self._accessors.count(attributes["POSITION"])
                continue
            sources = _sources(primitive, weights, where)
            if sources not in shared:
                shared[sources] = (self._positions(sources, weights, where), [], attributes)
            vertices, found, _ = shared[sources]
            found.append(self._faces(primitive, mode, len(vertices), where))
            triangles += 1
        parts = [
            _Part(vertices, np.concatenate(found), *self._skinning(attributes, len(vertices)))
            for vertices, found, attributes in shared.values()
        ]
        return _Contents(parts, triangles, points, lines, bare, loose)

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


def _weights(node: dict[str, Any], mesh: dict[str, Any]) -> tuple[float, ...]:
    """Of morph targets: the node's, else the mesh's; empty where none moves anything."""
    weights = tuple(float(w) for w in node.get("weights", mesh.get("weights", ())))
    return weights if any(weights) else ()


def _why_empty(points: int, lines: int, hidden: int, bare: int, loose: int) -> str:
    if lines or points:
        what = "a point cloud?" if not lines else f"{points} primitives of points, {lines} of lines"
        return f"has {loose} vertices but no faces ({what}); a triangle mesh is needed"
    if hidden:
        return f"hides all its {hidden} primitives (KHR_node_visibility); a triangle mesh is needed"
    if bare:
        return f"has {bare} primitives without positions and no faces; a triangle mesh is needed"
    return "its scene places no mesh; a triangle mesh is needed"
