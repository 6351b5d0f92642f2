"""One model part of a 3MF file: the objects it defines and the items it builds, as its XML says
(3MF Core Specification, chapters 3 and 4; Production Extension).

Read as a stream, so that a million triangles do not become a million elements in memory. Elements
of other namespaces are passed over, as the specification has it, unless an object that is built
has its shape from them: what such an object holds is noted, for its user to refuse.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any
from xml.parsers import expat

import numpy as np

from jax3dret.geometry.mesh_formats.unusable import Unusable

CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
PRODUCTION = "http://schemas.microsoft.com/3dmanufacturing/production/2015/06"
_SLICE = "http://schemas.microsoft.com/3dmanufacturing/slice/2015/07"
_BEAMS = "http://schemas.microsoft.com/3dmanufacturing/beamlattice/2017/02"
# Extensions that a file may require: read, or without any effect on triangles; of slices and beams
# it is asked whether an object has its shape from them.
_KNOWN = {
    CORE,
    PRODUCTION,
    _SLICE,
    _BEAMS,
    "http://schemas.microsoft.com/3dmanufacturing/beamlattice/balls/2020/07",
    "http://schemas.microsoft.com/3dmanufacturing/material/2015/02",
    "http://schemas.microsoft.com/3dmanufacturing/trianglesets/2021/07",
}


# What the attribute "unit" of a model may name; the first is meant where there is none.
_UNITS = {
    "millimeter": "mm",
    "micron": "um",
    "centimeter": "cm",
    "meter": "m",
    "inch": "in",
    "foot": "ft",
}


@dataclasses.dataclass(frozen=True)
class Reference:
    """An item of a build section, or a component: an object, moved. part: of which part, empty for
    the one that it stands in. transform: float64[4, 3], for row vectors (x, y, z, 1).
    """

    object_id: str
    part: str
    transform: np.ndarray


@dataclasses.dataclass
class Object:
    """An object resource: a mesh, or components. other: what else its shape would come from, in
    words; empty if nothing.
    """

    kind: str
    vertices: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3)))
    faces: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3), np.int64))
    components: list[Reference] = dataclasses.field(default_factory=list)
    other: str = ""


@dataclasses.dataclass
class Model:
    """objects: by id, which is its own in each part. items: what the build section places. unit: of
    its lengths, by its sign such as "mm"; empty for one that 3MF does not have.
    """

    objects: dict[str, Object]
    items: list[Reference]
    unit: str = ""


def read_model(name: str, data: bytes) -> Model:
    """The objects and items of a part.

    Raises: Unusable: not XML, not a 3MF model, an extension required that is not read, a number or
        an index that is none.
    """
    reader = _Reader(name)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Unusable(f"part '{name}' is not XML ({error}); export it again") from None
    return reader.model


def _is_a_box(vertices: np.ndarray) -> bool:
    """Whether every vertex is a corner of the bounding box."""
    if not len(vertices):
        return False
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return bool(((vertices == low) | (vertices == high)).all())


def _core(name: str) -> str:
    return f"{CORE} {name}"


_VERTEX, _TRIANGLE = _core("vertex"), _core("triangle")
_VERTICES, _TRIANGLES = _core("vertices"), _core("triangles")
_MODEL, _RESOURCES, _OBJECT = _core("model"), _core("resources"), _core("object")
_MESH, _COMPONENTS, _COMPONENT = _core("mesh"), _core("components"), _core("component")
_BUILD, _ITEM = _core("build"), _core("item")
_OBJECT_PATH = [_MODEL, _RESOURCES, _OBJECT]
_NOTES = {_core("metadatagroup"), _core("metadata")}


class _Reader:
    def __init__(self, name: str):
        self.model = Model({}, [])
        self._part = name
        self._path: list[str] = []
        self._prefixes: dict[str, str] = {}
        self._object = Object("model")
        self._id, self._sliced = "", False
        self._coordinates, self._corners = array("d"), array("q")
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartNamespaceDeclHandler = self._namespace
        self._everywhere()

    def _everywhere(self) -> None:
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end

    def _doctype(self, *_: Any) -> None:
        raise Unusable(f"part '{self._part}' has a document type, which 3MF forbids")

    def _namespace(self, prefix: str | None, uri: str) -> None:
        if not self._path:  # those of the model element are what requiredextensions names
            self._prefixes[prefix or ""] = uri

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        path = self._path
        if not path:
            self._check_model(name, attributes)
        elif path == [*_OBJECT_PATH, _MESH] and name == _VERTICES:
            self._rows(_VERTICES, _VERTEX, ("x", "y", "z"), self._coordinates, float)
        elif path == [*_OBJECT_PATH, _MESH] and name == _TRIANGLES:
            self._rows(_TRIANGLES, _TRIANGLE, ("v1", "v2", "v3"), self._corners, int)
        elif path == [_MODEL, _RESOURCES] and name == _OBJECT:
            self._begin(attributes)
        elif path == [*_OBJECT_PATH, _COMPONENTS] and name == _COMPONENT:
            self._object.components.append(self._reference(name, attributes))
        elif path == [_MODEL, _BUILD] and name == _ITEM:
            self.model.items.append(self._reference(name, attributes))
        elif path == _OBJECT_PATH and name not in {_MESH, _COMPONENTS, *_NOTES}:
            self._object.other = f"a {name.split()[-1]}"
        elif name.startswith(f"{_BEAMS} ") and name.endswith(" beam"):
            self._object.other = "a beam lattice"
        path.append(name)

    def _end(self, name: str) -> None:
        self._path.pop()
        if name == _OBJECT and self._path == [_MODEL, _RESOURCES]:
            self._finish()

    def _rows(
        self, around: str, row: str, keys: tuple[str, str, str], into: array[Any], kind: Any
    ) -> None:
        """Reads the rows of an element with handlers of their own, which are most of a file."""
        a, b, c = keys
        extend = into.extend

        def start(name: str, attributes: dict[str, str]) -> None:
            if name == row:
                try:
                    extend((kind(attributes[a]), kind(attributes[b]), kind(attributes[c])))
                except (KeyError, ValueError, OverflowError):
                    raise Unusable(self._no_numbers(keys, attributes)) from None

        def end(name: str) -> None:
            if name == around:
                self._everywhere()
                self._end(name)

        self.parser.StartElementHandler, self.parser.EndElementHandler = start, end

    def _no_numbers(self, keys: tuple[str, ...], attributes: dict[str, str]) -> str:
        given = " ".join(f'{k}="{v}"' for k, v in list(attributes.items())[:4])[:80]
        return (
            f"object {self._id} of part '{self._part}': {', '.join(keys)} are no numbers in "
            f"<{given}>; export it again"
        )

    def _check_model(self, name: str, attributes: dict[str, str]) -> None:
        if name != _MODEL:
            raise Unusable(
                f"part '{self._part}' is '{name}', not a 3MF core model; export it again"
            )
        self.model.unit = _UNITS.get(attributes.get("unit", "millimeter"), "")
        for prefix in attributes.get("requiredextensions", "").split():
            uri = self._prefixes.get(prefix, "")
            if uri not in _KNOWN:
                raise Unusable(
                    f"requires the extension {uri or prefix}, which is not read and may change its "
                    "shape; export it without"
                )

    def _begin(self, attributes: dict[str, str]) -> None:
        self._id = attributes.get("id", "")
        if not self._id or self._id in self.model.objects:
            raise Unusable(
                f"part '{self._part}' has two objects with the id '{self._id}', or one without; "
                "export it again"
            )
        self._object = self.model.objects[self._id] = Object(attributes.get("type", "model"))
        self._sliced = f"{_SLICE} slicestackid" in attributes
        if attributes.get(f"{_SLICE} meshresolution") == "lowres":
            self._object.other = "slices, for which its mesh stands in"
        self._coordinates, self._corners = array("d"), array("q")

    def _finish(self) -> None:
        done = self._object
        done.vertices = np.array(self._coordinates, np.float64).reshape(-1, 3)
        done.faces = np.array(self._corners, np.int64).reshape(-1, 3)
        if done.faces.size and not 0 <= done.faces.min() <= done.faces.max() < len(done.vertices):
            worst = done.faces.min() if done.faces.min() < 0 else done.faces.max()
            raise Unusable(
                f"object {self._id} of part '{self._part}': a face refers to vertex {worst}, but "
                f"there are {len(done.vertices)} vertices; export it again"
            )
        if self._sliced and _is_a_box(done.vertices):  # whatever meshresolution says
            done.other = "slices, of which its mesh is only the bounding box"
        if done.components and len(done.faces):
            raise Unusable(
                f"object {self._id} of part '{self._part}' has a mesh and components, one is "
                "allowed; export it again"
            )

    def _reference(self, name: str, attributes: dict[str, str]) -> Reference:
        kind = name.split()[-1]
        if "objectid" not in attributes:
            raise Unusable(f"part '{self._part}' has a {kind} without objectid; export it again")
        transform = np.eye(4, 3)
        if "transform" in attributes:
            try:
                numbers = [float(word) for word in attributes["transform"].split()]
                transform = np.array(numbers, np.float64).reshape(4, 3)
            except ValueError:
                transform = np.full((4, 3), np.nan)
            if not np.isfinite(transform).all():
                raise Unusable(
                    f"part '{self._part}' has a {kind} with a transform that is not 12 numbers; "
                    "export it again"
                )
        return Reference(
            attributes["objectid"], attributes.get(f"{PRODUCTION} path", ""), transform
        )
