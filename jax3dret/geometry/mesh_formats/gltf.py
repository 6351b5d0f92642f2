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
from jax3dret.geometry.mesh_formats.gltf_meshes import Counts, Meshes, Part, weights_of
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
    "KHR_technique_webgl",
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
# Bytes of a mesh in memory for a byte of a buffer, at most: a strip whose indices have one byte.
# What fills more has been placed several times.
_GROWTH = 24


class Reading(NamedTuple):
    """A scene's surface, and how many primitives it placed."""

    mesh: Mesh
    counts: Counts


def parse(path: pathlib.Path, data: bytes, max_bytes: int) -> Mesh:
    """The triangles of the default scene, placed. See `read`."""
    return read(path, data, max_bytes).mesh


def read(path: pathlib.Path, data: bytes, max_bytes: int) -> Reading:
    """The triangles of the default scene in the world's frame (y up), metres by the specification.

    data: of `path`, beside which buffers are looked for. max_bytes: of each buffer, and of the mesh
    where it is placed several times. Without `scene` the first scene counts, without scenes all
    nodes do.

    Raises: Unusable: not glTF 2.0, cut off, a buffer that is missing, an extension that is not
        read, nodes that form no trees, numbers out of range, or no faces.
    """
    try:
        document, binary = unpack(data)
        _check_required(document)
        buffers = Buffers(document, binary, path.parent, max_bytes)
        accessors = Accessors(document, buffers, max_bytes)
        return _Scene(document, accessors, buffers, max_bytes).read()
    except KeyError as missing:
        raise Unusable(f"its JSON lacks {missing} where glTF 2.0 has it; export it again") from None
    except (AttributeError, IndexError, TypeError, ValueError):
        # A number where a list belongs, a list where an object does: JSON of no glTF writer.
        raise Unusable("its JSON is not built as glTF 2.0 has it; export it again") from None


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
    def __init__(
        self, document: dict[str, Any], accessors: Accessors, buffers: Buffers, max_bytes: int
    ):
        self._document, self._accessors = document, accessors
        self._buffers, self._max_bytes = buffers, max_bytes
        self._nodes, self._meshes = Nodes(document, accessors), Meshes(document, accessors)

    def read(self) -> Reading:
        vertices: list[np.ndarray] = []
        faces: list[np.ndarray] = []
        num_vertices = size = 0
        counts = Counts()
        for place in self._nodes.placements():
            node = self._nodes.node(place.node)
            mesh = entry(self._document, "meshes", node["mesh"])
            times = len(place.transforms)
            if place.hidden:
                counts.hidden += times * len(mesh["primitives"])
                continue
            contents = self._meshes.contents(node["mesh"], weights_of(node, mesh))
            size += times * sum(each.vertices.nbytes + each.faces.nbytes for each in contents.parts)
            limit = max(self._max_bytes, _GROWTH * self._buffers.stored)
            if size > limit:
                raise Unusable(
                    f"places its meshes so often that they fill {size:,} bytes, more than the "
                    f"limit of {limit:,} (max_bytes)"
                )
            for placed, turned in self._placed(place, contents.parts):
                vertices.append(placed)
                faces.append(turned + num_vertices)
                num_vertices += len(placed)
            counts.add(contents.counts, times)
        if not counts.triangles:
            raise Unusable(_why_empty(self._document, counts))
        return Reading(Mesh(np.concatenate(vertices), np.concatenate(faces)), counts)

    def _placed(
        self, place: Placement, parts: list[Part]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(vertices, faces) of each part and instance in the world, faces counter-clockwise seen
        from outside: a transform that mirrors turns them over (section 3.7.4).
        """
        node = self._nodes.node(place.node)
        for part in parts:
            if "skin" in node:
                yield self._skinned(part, node["skin"], place.node)
                continue
            linear, moved = place.transforms[:, :3, :3], place.transforms[:, None, :3, 3]
            placed = part.vertices @ linear.transpose(0, 2, 1) + moved
            mirrored = np.linalg.det(linear) < 0
            faces = np.where(mirrored[:, None, None], part.faces[:, ::-1], part.faces)
            faces = faces + len(part.vertices) * np.arange(len(linear))[:, None, None]
            yield placed.reshape(-1, 3), faces.reshape(-1, 3)

    def _skinned(self, part: Part, skin: int, node: int) -> tuple[np.ndarray, np.ndarray]:
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


def _why_empty(document: dict[str, Any], counts: Counts) -> str:
    if counts.lines:
        what = f"primitives of lines: {counts.lines}, of points: {counts.points}"
        return f"has {counts.loose} vertices but no faces ({what}); a triangle mesh is needed"
    if counts.points:
        return (
            f"has {counts.loose} vertices but no faces (a point cloud?); a triangle mesh is needed"
        )
    if counts.hidden:
        return f"hides all its {counts.hidden} primitives ({VISIBILITY}); a triangle mesh is needed"
    if counts.bare:
        return f"has {counts.bare} primitives without positions; a triangle mesh is needed"
    return (
        f"its scene places none of its {len(document.get('meshes', []))} meshes; a triangle mesh "
        "is needed"
    )
