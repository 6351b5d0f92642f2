"""Numbers of a glTF 2.0 asset: accessors over views of buffers, sparse ones too, integers that
stand for fractions turned back (specification, sections 3.6 and 3.11).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jax3dret.geometry.mesh_formats.gltf_files import COMPRESSED, Buffers
from jax3dret.geometry.mesh_formats.unusable import Unusable

_COMPONENTS: dict[int, np.dtype[Any]] = {
    5120: np.dtype("i1"),
    5121: np.dtype("u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
    5130: np.dtype("<f8"),  # KHR_accessor_float64
}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def entry(document: dict[str, Any], kind: str, index: Any) -> dict[str, Any]:
    """document[kind][index]. Raises Unusable, naming both, where there is none."""
    rows = document.get(kind, [])
    valid = isinstance(index, int) and not isinstance(index, bool)
    if not valid or not isinstance(rows, list) or not 0 <= index < len(rows):
        there = len(rows) if isinstance(rows, list) else 0
        raise Unusable(f"refers to {kind}[{index!r}], but it has {there} of them; export it again")
    if not isinstance(rows[index], dict):
        raise Unusable(f"{kind}[{index}] is no JSON object; export it again")
    return rows[index]  # type: ignore[no-any-return]


def natural(owner: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
    """A whole number from 0 on. Raises Unusable where it is another, or missing without default."""
    value = owner.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        said = "no" if value is None else f"{value!r} as its"
        raise Unusable(f"{where} has {said} {key}; export it again")
    return value


class Accessors:
    """The numbers that accessors describe, by their index."""

    def __init__(self, document: dict[str, Any], buffers: Buffers, max_bytes: int):
        self._document, self._buffers, self._max_bytes = document, buffers, max_bytes

    def count(self, index: Any) -> int:
        """How many elements an accessor has, without reading them."""
        return natural(entry(self._document, "accessors", index), "count", f"accessor {index}")

    def is_stored(self, index: Any) -> bool:
        """Whether an accessor has numbers of its own, beside those of a compressed copy."""
        return index is not None and "bufferView" in entry(self._document, "accessors", index)

    def integers(self, index: Any) -> tuple[np.ndarray, int]:
        """Whole numbers [count] of a SCALAR accessor as int64, and the largest that its type holds.

        Raises:
            Unusable: floating-point numbers, or what `floats` raises.
        """
        values, component = self._values(index, ("SCALAR",))
        if component.kind != "u":
            raise Unusable(f"accessor {index} numbers vertices with {component}; export it again")
        return values[:, 0].astype(np.int64), int(np.iinfo(component).max)

    def whole(self, index: Any, kind: str) -> np.ndarray:
        """int64[count, width] of an accessor of unsigned integers, such as joints."""
        values, component = self._values(index, (kind,))
        if component.kind != "u":
            raise Unusable(f"accessor {index} has {component} for whole numbers; export it again")
        return values.astype(np.int64)

    def floats(self, index: Any, kind: str) -> np.ndarray:
        """float64[count, width] of an accessor of a kind ("VEC3", say); normalized integers are
        fractions, the lowest signed one clamped to -1.

        Raises: Unusable: it is missing, of another kind, or reaches past its buffer.
        """
        accessor = entry(self._document, "accessors", index)
        values, component = self._values(index, (kind,))
        numbers = values.astype(np.float64)
        if accessor.get("normalized") is True and component.kind in "iu":
            if component.itemsize > 2:
                raise Unusable(f"accessor {index} is normalized {component}; export it again")
            numbers = np.maximum(numbers / np.iinfo(component).max, -1.0)
        return numbers

    def _values(self, index: Any, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.dtype[Any]]:
        """([count, width] as stored, the type of a component)."""
        where = f"accessor {index}"
        accessor = entry(self._document, "accessors", index)
        kind, component = accessor.get("type"), _component(accessor, where)
        if kind not in kinds:
            raise Unusable(f"{where} is {kind!r}, {' or '.join(kinds)} is needed; export it again")
        width, count = _WIDTHS[kind], natural(accessor, "count", where)
        if count * width * component.itemsize > self._max_bytes:
            raise Unusable(
                f"{where} announces {count:,} elements, more than the limit of "
                f"{self._max_bytes:,} bytes (max_bytes)"
            )
        if "bufferView" in accessor:
            offset = natural(accessor, "byteOffset", where, 0)
            values = self._strided(accessor["bufferView"], offset, component, count, width, where)
        elif "sparse" in accessor:
            values = np.zeros((count, width), component)
        else:
            # Zeros by the letter; in practice the numbers are in an extension that was not read.
            raise Unusable(
                f"{where} has no bufferView: its numbers are compressed or missing; export it "
                "without mesh compression"
            )
        if "sparse" in accessor:
            values = self._replaced(values, accessor["sparse"], component, where)
        return values, component

    def _replaced(
        self, values: np.ndarray, sparse: Any, component: np.dtype[Any], where: str
    ) -> np.ndarray:
        where = f"{where}, sparse"
        if not isinstance(sparse, dict):
            raise Unusable(f"{where} is no JSON object; export it again")
        places, new = sparse.get("indices"), sparse.get("values")
        if not isinstance(places, dict) or not isinstance(new, dict):
            raise Unusable(f"{where} has no indices or no values; export it again")
        count = natural(sparse, "count", where)
        kind = _component(places, where)
        if kind.kind != "u":
            raise Unusable(f"{where} has indices of {kind}; export it again")
        at = self._strided(
            places.get("bufferView"), natural(places, "byteOffset", where, 0), kind, count, 1, where
        )[:, 0].astype(np.int64)
        if count and (at.max() >= len(values) or (np.diff(at) <= 0).any()):
            raise Unusable(f"{where} has indices out of order or out of range; export it again")
        offset = natural(new, "byteOffset", where, 0)
        width = values.shape[1]
        values = values.copy()
        values[at] = self._strided(new.get("bufferView"), offset, component, count, width, where)
        return values

    def _strided(
        self,
        view: Any,
        offset: int,
        component: np.dtype[Any],
        count: int,
        width: int,
        where: str,
    ) -> np.ndarray:
        """[count, width] of a buffer view, without copying."""
        described = entry(self._document, "bufferViews", view)
        name = f"bufferView {view}"
        extensions = described.get("extensions", {})
        packed = [key for key in COMPRESSED if key in extensions]
        try:
            data = self._buffers[natural(described, "buffer", name)]
        except Unusable:
            if not packed:
                raise
            raise Unusable(
                f"is compressed with {packed[0]}; export it without mesh compression"
            ) from None
        start = natural(described, "byteOffset", name, 0)
        length = natural(described, "byteLength", name)
        if start + length > len(data):
            raise Unusable(
                f"{name} ends at byte {start + length:,} of a buffer of {len(data):,}; export it "
                "again"
            )
        size = width * component.itemsize
        stride = natural(described, "byteStride", name, 0) or size
        if stride < size:
            raise Unusable(f"{name} has a byteStride of {stride}, below {size}; export it again")
        needed = offset + (stride * (count - 1) + size if count else 0)
        if needed > length:
            raise Unusable(
                f"{where} needs {needed:,} bytes of {name}, which has {length:,}; export it again"
            )
        if not count:
            return np.zeros((0, width), component)
        return np.ndarray(
            (count, width), component, data, start + offset, (stride, component.itemsize)
        )


def _component(owner: dict[str, Any], where: str) -> np.dtype[Any]:
    code = owner.get("componentType")
    if not isinstance(code, int) or code not in _COMPONENTS:
        raise Unusable(f"{where} has the componentType {code!r}; export it again")
    return _COMPONENTS[code]
