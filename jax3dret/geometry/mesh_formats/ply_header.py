"""The header of a PLY file: what its body holds, in which order.

Source: G. Turk, "The PLY Polygon File Format", 1994.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from jax3dret.geometry.mesh_formats import text as lines_of_text
from jax3dret.geometry.mesh_formats.unusable import Unusable

_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_INCOMPLETE = 'has no complete PLY header ("ply" to "end_header"); copy or export it again'


class Property(NamedTuple):
    """One value of each row of an element, or a list of values behind its length."""

    name: str
    kind: str  # of NumPy, without the byte order
    length: str  # kind of a list's length; empty for a single value


class Element(NamedTuple):
    """Rows of one kind: vertices, faces, ..."""

    name: str
    rows: int
    properties: tuple[Property, ...]


class Header(NamedTuple):
    """What a file announces."""

    order: str  # of bytes: "<", ">"; empty for ASCII
    elements: tuple[Element, ...]
    end: int  # byte at which the body begins

    def element(self, name: str) -> Element:
        """The element of a name; one without rows where there is none."""
        return next((e for e in self.elements if e.name == name), Element(name, 0, ()))


def parse(data: bytes) -> Header:
    """The header at the beginning of a file. Its lines may end as they like; where the first ends
    in a carriage return alone, the last does too, and what follows is the body.

    Raises:
        Unusable: no whole header, or a line that is not understood, with its number.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Unusable("is UTF-16 text; save it as UTF-8, PLY begins with plain text")
    first = re.match(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)", data)
    if first is None:
        raise Unusable(_INCOMPLETE)
    order: str | None = None
    elements: list[Element] = []
    at, number = first.end(), 1
    line_end = re.compile(rb"\r\n|\n|\r")
    while True:
        end = line_end.search(data, at)
        if end is None:
            raise Unusable(_INCOMPLETE)
        words = [lines_of_text.printable(w) for w in data[at : end.start()].split()]
        at, number = end.end(), number + 1
        keyword = words[0] if words else ""
        if keyword == "end_header":
            if first[1] == b"\r":
                at = end.start() + 1
            break
        if keyword == "format":
            order = _order(words, number)
        elif keyword == "element":
            elements.append(_element(words, number, elements))
        elif keyword == "property":
            if not elements:
                raise Unusable(f"line {number}: a property before any element; export it again")
            last = elements[-1]
            new = _property(words, number)
            if new.name in (known.name for known in last.properties):
                raise Unusable(
                    f"line {number}: element '{last.name}' has two properties '{new.name}'; export "
                    "it again"
                )
            elements[-1] = last._replace(properties=(*last.properties, new))
        elif keyword and keyword not in ("comment", "obj_info"):
            raise Unusable(
                f"line {number}: '{keyword[:24]}' is no keyword of a PLY header; export it again"
            )
    if order is None:
        raise Unusable("its header names no format that PLY has; export it again")
    return Header(order, tuple(elements), at)


def _order(words: list[str], line: int) -> str:
    if len(words) < 2 or words[1] not in _ORDERS or words[2:] not in ([], ["1.0"]):
        raise Unusable(
            f"line {line}: '{' '.join(words)[:60]}' is no format that is read; those are "
            f"{', '.join(_ORDERS)}, each 1.0"
        )
    return _ORDERS[words[1]]


def _element(words: list[str], line: int, before: list[Element]) -> Element:
    if len(words) != 3 or not re.fullmatch(r"\d{1,18}", words[2]):
        raise Unusable(
            f"line {line}: '{' '.join(words)[:60]}' is no name and count of an element; export it "
            "again"
        )
    if words[1] in (element.name for element in before):
        raise Unusable(f"line {line}: a second element '{words[1]}'; export it again")
    return Element(words[1], int(words[2]), ())


def _property(words: list[str], line: int) -> Property:
    if words[1:2] == ["list"] and len(words) == 5:
        length, kind, name = words[2:]
        if _TYPES.get(length, "f")[0] == "f":
            raise Unusable(
                f"line {line}: property '{name}' is a list whose length has the type '{length}', "
                "which is no whole number"
            )
    elif len(words) == 3:
        length, (kind, name) = "", words[1:]
    else:
        raise Unusable(
            f"line {line}: '{' '.join(words)[:60]}' is no type and name of a property; export it "
            "again"
        )
    if kind not in _TYPES:
        raise Unusable(
            f"line {line}: property '{name}' has the type '{kind}', which PLY does not have"
        )
    return Property(name, _TYPES[kind], _TYPES[length] if length else "")
