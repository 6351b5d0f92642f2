"""The variables of an INR as arrays by name, and as one vector: what files and records hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Int32

from jax3dret.core.types import DataError, PyTree
from jax3dret.models.fields.field import Architecture

_STRUCTURE = "structure/"


def named_arrays(variables: PyTree) -> dict[str, Any]:
    """The leaves by their path, "decoder/layers/0/weight", sorted by name; positions in a list are
    numbers.
    """
    found: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, Mapping):
            for key, child in node.items():
                walk(f"{prefix}{key}/", child)
        elif isinstance(node, list | tuple):
            for place, child in enumerate(node):
                walk(f"{prefix}{place}/", child)
        elif node is not None:
            found[prefix[:-1]] = node

    walk("", variables)
    return {name: found[name] for name in sorted(found)}


def tree_of(arrays: Mapping[str, Any]) -> PyTree:
    """The variables that `named_arrays` took apart: dictionaries, and lists where all names of a
    level are 0, 1, ...

    Raises DataError for names of which no tree comes: one inside another, or a list with a gap.
    """
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *above, last = name.split("/")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise DataError(f"'{name}' lies inside another array")
        if last in node:
            raise DataError(f"'{name}' is there twice, or other arrays lie inside it")
        node[last] = array
    return _with_lists(tree, "")


def _with_lists(node: Any, name: str) -> Any:
    if not isinstance(node, dict):
        return node
    children = {key: _with_lists(child, f"{name}{key}/") for key, child in node.items()}
    if not children or not all(key.isdecimal() for key in children):
        return children
    if set(children) != {str(place) for place in range(len(children))}:
        raise DataError(f"'{name}' holds {', '.join(sorted(children))}, which is no list")
    return [children[str(place)] for place in range(len(children))]


def shapes_of(
    architecture: Architecture, structure: PyTree | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """By name, shape and type of the arrays that INRs of an architecture have, without making any.

    structure: for an architecture that has one, that of the INR.
    """
    made = jax.eval_shape(lambda key: architecture.init(key, structure), jax.random.key(0))
    return named_arrays(made)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which number of a vector is which parameter, for the INRs of one architecture.

    parameters: (name, shape) of the trained arrays, in the order in which they follow one another.
    structure: (name, shape) of the integers that are not trained, likewise, in a vector of their
    own. Where these are there, sizes differ from INR to INR: a dimension is then None, and
    `shapes` of the INR says it.
    """

    parameters: tuple[tuple[str, tuple[int | None, ...]], ...]
    structure: tuple[tuple[str, tuple[int | None, ...]], ...] = ()

    @property
    def varies(self) -> bool:
        """Whether sizes differ from INR to INR."""
        return bool(self.structure)

    @property
    def size(self) -> int:
        """Trained parameters of an INR; 0 where their number varies."""
        if self.varies:
            return 0
        return sum(math.prod(dim or 0 for dim in shape) for _, shape in self.parameters)

    def described(self) -> dict[str, Any]:
        """As JSON: {"parameters": [{"name", "shape", "offset"}], "structure": [...]}. Offsets are
        left out where sizes vary.
        """
        parts: dict[str, Any] = {}
        for part in ("parameters", "structure"):
            at, entries = 0, []
            for name, shape in getattr(self, part):
                entry: dict[str, Any] = {"name": name, "shape": list(shape)}
                if not self.varies:
                    entry["offset"] = at
                    at += math.prod(shape)
                entries.append(entry)
            parts[part] = entries
        return parts

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Layout:
        """The layout of `described`. Raises DataError for what is none."""
        try:
            parts = [
                tuple((str(each["name"]), tuple(each["shape"])) for each in described[part])
                for part in ("parameters", "structure")
            ]
        except (KeyError, TypeError) as error:
            raise DataError(f"the layout of INRs is damaged ({error!r})") from None
        return cls(*parts)

    def flatten(self, variables: PyTree) -> dict[str, np.ndarray]:
        """{"parameters" float32[n], and where sizes vary "structure" int32[m] and "shapes"
        int32[d], the dimensions of all arrays, parameters first}.

        Raises DataError for variables of another architecture.
        """
        arrays = named_arrays(variables)
        if set(arrays) != {name for name, _ in (*self.parameters, *self.structure)}:
            raise DataError(
                f"an INR has the arrays {', '.join(arrays)}; the layout names "
                f"{', '.join(name for name, _ in (*self.parameters, *self.structure))}"
            )
        for name, shape in (*self.parameters, *self.structure):
            _check_shape(name, arrays[name].shape, shape)
        out = {"parameters": _joined(arrays, self.parameters, np.float32)}
        if self.varies:
            out["structure"] = _joined(arrays, self.structure, np.int32)
            dims = [arrays[name].shape for name, _ in (*self.parameters, *self.structure)]
            out["shapes"] = np.asarray([dim for shape in dims for dim in shape], np.int32)
        return out

    def restore(
        self,
        parameters: Float32[np.ndarray, " n"],
        structure: Int32[np.ndarray, " m"] | None = None,
        shapes: Int32[np.ndarray, " d"] | None = None,
    ) -> PyTree:
        """The variables that `flatten` took; arrays are views of the vectors.

        Raises DataError where the numbers are too many or too few for the layout.
        """
        dims = list(np.asarray(shapes).tolist()) if shapes is not None else []
        found: dict[str, np.ndarray] = {}
        for vector, part in ((parameters, self.parameters), (structure, self.structure)):
            at = 0
            for name, shape in part:
                if self.varies:
                    own, dims = tuple(dims[: len(shape)]), dims[len(shape) :]
                    _check_shape(name, own, shape)
                else:
                    own = shape  # type: ignore[assignment]
                end = at + math.prod(own)
                if vector is None or end > len(vector):
                    given = 0 if vector is None else len(vector)
                    raise DataError(f"an INR of {given} numbers ends inside '{name}'")
                found[name], at = vector[at:end].reshape(own), end
            if part and vector is not None and at != len(vector):
                raise DataError(f"an INR of {len(vector)} numbers; the layout has {at}")
        return tree_of(found)


def layout_of(architecture: Architecture, structure: PyTree | None = None) -> Layout:
    """The layout of an architecture's INRs; with a structure, of all that have one like it."""
    parts: tuple[list[Any], list[Any]] = ([], [])
    for name, leaf in shapes_of(architecture, structure).items():
        trained = not name.startswith(_STRUCTURE)
        parts[0 if trained else 1].append((name, leaf.shape))
    if not parts[1]:
        return Layout(tuple(parts[0]))
    free = [tuple((name, (None,) * len(shape)) for name, shape in part) for part in parts]
    return Layout(*free)


def _joined(arrays: Mapping[str, np.ndarray], part: Any, dtype: Any) -> np.ndarray:
    flat = [np.asarray(arrays[name], dtype).reshape(-1) for name, _ in part]
    return np.concatenate(flat) if flat else np.empty(0, dtype)


def _check_shape(name: str, own: tuple[int, ...], shape: tuple[int | None, ...]) -> None:
    fits = len(own) == len(shape) and all(
        want in (None, dim) for want, dim in zip(shape, own, strict=True)
    )
    if not fits:
        raise DataError(f"'{name}' has the shape {list(own)}; the layout says {list(shape)}")
