"""3D Manufacturing Format: what the build section of a .3mf places (3MF Core Specification 1.3,
Production Extension 1.1).

Object ids belong to their part; an item or a component of the production extension says by its
path which part is meant. What is not built is not read, nor are supports, which are printed and
taken away, and components of the type "other", as which slicers write modifiers. Extensions with
shapes of their own (beam lattices, slices alone, booleans, implicit functions) are refused, what it
is named.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats.threemf_model import Model, Object, Reference, read_model
from jax3dret.geometry.mesh_formats.threemf_package import Package, absolute
from jax3dret.geometry.mesh_formats.unusable import Unusable

_SHAPES = {"model", "surface"}
_SUPPORTS = {"support", "solidsupport"}
# Far above what a program writes; below what a chain of components could be made to cost.
_DEEPEST = 64


class Reading(NamedTuple):
    """What was built: items of the build section, and how many meshes they place; aside: those of
    them that are supports or modifiers, no part of the shape; unit: as `threemf_model.Model` has
    it.
    """

    mesh: Mesh
    items: int
    meshes: int
    aside: int
    unit: str


def read(data: bytes, max_bytes: int) -> Reading:
    """The triangles of what the build section places, in the unit of the file; faces that a
    transform mirrors are turned over.

    max_bytes: of the unpacked archive, and of what repeated components add to the mesh.

    Raises: Unusable: not a whole 3MF archive, an object or a part that is not there, a shape that
        is not of triangles, or nothing built.
    """
    build = _Build(Package(data, max_bytes), max_bytes)
    items = build.model.items
    if not items:
        there = len(build.model.objects)
        raise Unusable(
            f"its build section is empty ({there} objects are defined, none is built); place one "
            "and export it again"
        )
    for item in items:
        build.place(item, build.start, np.eye(4), 0)
    if not build.faces:
        said = f"{build.aside} supports or modifiers alone" if build.aside else "no triangles"
        raise Unusable(f"its build section places {said}; a triangle mesh is needed")
    mesh = Mesh(np.concatenate(build.vertices), np.concatenate(build.faces))
    return Reading(mesh, len(items), build.meshes, build.aside, build.model.unit)


class _Build:
    def __init__(self, package: Package, max_bytes: int):
        self._package, self._max_bytes = package, max_bytes
        self._models: dict[str, Model] = {}
        self.start = package.start()
        self.model = self._model(self.start)
        self.vertices: list[np.ndarray] = []
        self.faces: list[np.ndarray] = []
        self.meshes = self.aside = self._placed = self._copied = 0
        self._seen: set[tuple[str, str]] = set()

    def place(self, reference: Reference, part: str, above: np.ndarray, depth: int) -> None:
        """Adds what a reference of a part places. above: float64[4, 4] for row vectors."""
        part = absolute(reference.part) if reference.part else part
        found = self._object(reference, part)
        own = np.eye(4)
        own[:, :3] = reference.transform
        to_world = own @ above
        if depth > _DEEPEST:
            raise Unusable(
                f"object {reference.object_id} of part '{part}' is nested deeper than {_DEEPEST} "
                "components, or in itself; export it again"
            )
        if found.other:
            raise Unusable(
                f"object {reference.object_id} of part '{part}' has its shape from {found.other}, "
                "which is not read; export it as a triangle mesh"
            )
        self._count(found, (part, reference.object_id))
        if found.components:  # what it is, its components say
            for component in found.components:
                self.place(component, part, to_world, depth + 1)
        elif found.kind in _SUPPORTS or (found.kind == "other" and depth):
            self.meshes += 1
            self.aside += 1
        elif found.kind in _SHAPES:
            self._add(found, to_world)
        else:
            raise Unusable(
                f"builds object {reference.object_id} of the type '{found.kind}', which cannot be "
                "built; export it again"
            )

    def _add(self, found: Object, to_world: np.ndarray) -> None:
        self.meshes += 1
        if not len(found.faces):
            return
        linear = to_world[:3, :3]
        self.faces.append(
            (found.faces[:, ::-1] if np.linalg.det(linear) < 0 else found.faces) + self._placed
        )
        self.vertices.append(found.vertices @ linear + to_world[3, :3])
        self._placed += len(found.vertices)

    def _count(self, found: Object, key: tuple[str, str]) -> None:
        """Raises Unusable where components of components multiply beyond the limit."""
        if key in self._seen:
            self._copied += found.vertices.nbytes + found.faces.nbytes + 256
        self._seen.add(key)
        if self._copied > self._max_bytes:
            raise Unusable(
                "places its objects so often that they fill more than the limit of "
                f"{self._max_bytes:,} bytes (max_bytes)"
            )

    def _object(self, reference: Reference, part: str) -> Object:
        found = self._model(part).objects.get(reference.object_id)
        if found is None:
            raise Unusable(
                f"part '{part}' has no object {reference.object_id}, which is built from it; "
                "export it again"
            )
        return found

    def _model(self, part: str) -> Model:
        if part not in self._models:
            self._models[part] = read_model(part, self._package.read(part))
        return self._models[part]
