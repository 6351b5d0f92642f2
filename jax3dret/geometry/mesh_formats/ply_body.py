"""The body of a PLY file: the rows of each element, of which some properties are taken and all are
counted.

Rows lie one behind the other without marks; a list makes its row as long as it says. Where all
rows of an element are as long as its first, which is checked, they are a table. Otherwise the
lengths are followed row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from jax3dret.geometry.mesh_formats import text as lines_of_text
from jax3dret.geometry.mesh_formats.ply_header import Element, Header
from jax3dret.geometry.mesh_formats.unusable import Unusable

_NAMES = {"vertex": "vertices", "face": "faces", "tristrips": "triangle strips"}


class Column(NamedTuple):
    """One property of all rows: values one row after the other, and how many each row has."""

    values: np.ndarray
    sizes: np.ndarray  # int64[rows]; ones for a property that is no list


class _Cells(Protocol):
    """What a body is made of: bytes, or the numbers of a text."""

    total: int

    def width(self, kind: str) -> int:
        """Cells of one value."""

    def whole(self, at: int, kind: str) -> int:
        """The value at a cell."""

    def table(self, begin: int, rows: int, width: int, at: int, num: int, kind: str) -> np.ndarray:
        """`num` values from cell `at` of each row of a table that begins at a cell: [rows, num]."""

    def gather(self, begins: np.ndarray, num: int, kind: str) -> np.ndarray:
        """`num` values from each of some cells: [len(begins), num]."""


class _Bytes:
    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order, self.total = data, order, len(data)
        self.array = np.frombuffer(data, np.uint8)

    def width(self, kind: str) -> int:
        return int(kind[1])

    def whole(self, at: int, kind: str) -> int:
        if kind == "u1":
            return self.data[at]
        order: Literal["little", "big"] = "little" if self.order == "<" else "big"
        return int.from_bytes(self.data[at : at + int(kind[1])], order, signed=kind[0] == "i")

    def table(self, begin: int, rows: int, width: int, at: int, num: int, kind: str) -> np.ndarray:
        table = self.array[begin : begin + rows * width].reshape(rows, width)
        cells = np.ascontiguousarray(table[:, at : at + num * int(kind[1])])
        return cells.view(self.order + kind)

    def gather(self, begins: np.ndarray, num: int, kind: str) -> np.ndarray:
        if not num:
            return np.zeros((len(begins), 0), kind)
        cells = self.array[begins[:, None] + np.arange(num * int(kind[1]))]
        return cells.view(self.order + kind)


class _Numbers:
    def __init__(self, values: np.ndarray) -> None:
        self.values, self.total = values, len(values)

    def width(self, kind: str) -> int:
        return 1

    def whole(self, at: int, kind: str) -> int:
        value = float(self.values[at])
        return int(value) if value % 1 == 0 else -1

    def table(self, begin: int, rows: int, width: int, at: int, num: int, kind: str) -> np.ndarray:
        return self.values[begin : begin + rows * width].reshape(rows, width)[:, at : at + num]

    def gather(self, begins: np.ndarray, num: int, kind: str) -> np.ndarray:
        return self.values[begins[:, None] + np.arange(num)]


class Rows(NamedTuple):
    """The columns that were asked for, by element and property, and the bytes behind the last row
    of a binary body.
    """

    columns: dict[str, dict[str, Column]]
    rest: bytes


def read(data: bytes, header: Header, wanted: Mapping[str, Sequence[str]]) -> Rows:
    """All rows of a body, of which the wanted properties are kept.

    data: the whole file; of an ASCII file its text with plain line ends, as for the header.

    Raises:
        Unusable: fewer rows than the header announces, a row that is other than its element says,
            a list of negative length; in ASCII also a word that is no number, and numbers behind
            the last row.
    """
    if header.order:
        cells: _Cells = _Bytes(data[header.end :], header.order)
        numbers = None
    else:
        numbers = lines_of_text.numbers(data, header.end, "the body of an ASCII PLY is numbers")
        cells = _Numbers(numbers.values)
    num_rows = sum(element.rows for element in header.elements if element.properties)
    by_line = numbers is not None and len(numbers.counts) == num_rows
    columns: dict[str, dict[str, Column]] = {}
    at, row = 0, 0
    for element in header.elements:
        if not element.properties:
            columns[element.name] = {}
            continue
        lines = numbers.counts[row : row + element.rows] if numbers and by_line else None
        places = numbers.places[row : row + element.rows] if numbers and by_line else None
        names = wanted.get(element.name, ())
        columns[element.name], at, widths = _element(cells, at, element, names, lines)
        if lines is not None and (lines != widths).any():
            assert places is not None
            bad = int((lines != widths).argmax())
            raise Unusable(
                f"line {lines_of_text.line_of(data, int(places[bad]))}: {lines[bad]} numbers where "
                f"the header asks for {int(np.broadcast_to(widths, lines.shape)[bad])}; export it "
                "again"
            )
        row += element.rows
    if numbers is not None and at < cells.total:
        line = int(np.searchsorted(np.cumsum(numbers.counts), at, "right"))
        raise Unusable(
            f"line {lines_of_text.line_of(data, int(numbers.places[line]))}: the file goes on "
            "behind what its header announces; correct the counts or export it again"
        )
    return Rows(columns, data[header.end + at :] if header.order else b"")


def _element(
    cells: _Cells, begin: int, element: Element, wanted: Sequence[str], lines: np.ndarray | None
) -> tuple[dict[str, Column], int, np.ndarray]:
    """The wanted columns, the cell behind the last row, and the cells of each row.

    lines: numbers of each row's line, where rows are lines.
    """
    least = sum(cells.width(p.length or p.kind) for p in element.properties)
    has_lists = any(p.length for p in element.properties)
    if not has_lists and lines is not None and (lines != least).any():
        return {}, begin, np.full(len(lines), least)  # before numbers are taken for others
    if begin + element.rows * least > cells.total:
        raise _short(element, (cells.total - begin) // least)
    if not element.rows:
        empty = Column(np.zeros(0), np.zeros(0, np.int64))
        return dict.fromkeys(wanted, empty), begin, np.zeros(0, np.int64)
    try:
        first = _follow(cells, begin, element, 1)
        width = first.end - begin
        if begin + element.rows * width <= cells.total:
            columns = _table(cells, begin, element, wanted, width, first)
            if columns is not None:
                return columns, begin + element.rows * width, np.full(element.rows, width)
        rows = _follow(cells, begin, element, element.rows)
    except Unusable:
        # A line that is too long puts all behind it in a wrong place: that line is the reason.
        widths = lines if lines is None else _to_the_first_other(cells, begin, element, lines)
        if widths is None or (widths == lines).all():
            raise
        return {}, begin, widths
    gathered = {}
    for number, one in enumerate(element.properties):
        if one.name in wanted:
            begins, sizes = rows.begins[number], rows.sizes[number]
            gathered[one.name] = _gathered(cells, begins, sizes, one.kind)
    return gathered, rows.end, np.diff(rows.row_begins, append=rows.end)


def _to_the_first_other(
    cells: _Cells, begin: int, element: Element, lines: np.ndarray
) -> np.ndarray:
    """The numbers of each line, and of the first that has others than its element says, that many."""
    widths = lines.copy()
    for row, at in enumerate((begin + np.cumsum(lines) - lines).tolist()):
        try:
            widths[row] = _follow(cells, at, element, 1).end - at
        except Unusable:
            return lines
        if widths[row] != lines[row]:
            break
    return widths


class _Places(NamedTuple):
    begins: list[np.ndarray]  # of each property: the cell of its first value, by row
    sizes: list[np.ndarray]  # of each property: its values, by row
    row_begins: np.ndarray
    end: int


def _follow(cells: _Cells, begin: int, element: Element, rows: int) -> _Places:
    """Where the values of some rows stand, found row by row."""
    steps = [
        (cells.width(p.length) if p.length else 0, cells.width(p.kind), p.length)
        for p in element.properties
    ]
    begins: list[list[int]] = [[] for _ in steps]
    sizes: list[list[int]] = [[] for _ in steps]
    row_begins = []
    at, total, whole = begin, cells.total, cells.whole
    for row in range(rows):
        row_begins.append(at)
        for number, (before, width, length) in enumerate(steps):
            size = 1
            if before:
                if at + before > total:
                    raise _short(element, row)
                size = whole(at, length)
                if size < 0:
                    raise Unusable(
                        f"row {row} of element '{element.name}' (counted from 0): the length of "
                        f"'{element.properties[number].name}' is no whole number from 0 on; export "
                        "it again"
                    )
                at += before
            begins[number].append(at)
            sizes[number].append(size)
            at += size * width
        if at > total:
            raise _short(element, row)
    return _Places(
        [np.array(column, np.int64) for column in begins],
        [np.array(column, np.int64) for column in sizes],
        np.array(row_begins, np.int64),
        at,
    )


def _table(
    cells: _Cells, begin: int, element: Element, wanted: Sequence[str], width: int, first: _Places
) -> dict[str, Column] | None:
    """The wanted columns where every row has lists as long as those of the first; else None."""
    columns = {}
    for number, one in enumerate(element.properties):
        at, size = int(first.begins[number][0]) - begin, int(first.sizes[number][0])
        if one.length:
            before = at - cells.width(one.length)
            lengths = cells.table(begin, element.rows, width, before, 1, one.length)
            if (lengths != size).any():
                return None
        if one.name in wanted:
            values = cells.table(begin, element.rows, width, at, size, one.kind)
            columns[one.name] = Column(values.reshape(-1), np.full(element.rows, size))
    return columns


def _gathered(cells: _Cells, begins: np.ndarray, sizes: np.ndarray, kind: str) -> Column:
    """Lists of different lengths, one behind the other."""
    ends = np.cumsum(sizes)
    values = np.empty(int(ends[-1]), np.float64 if kind[0] == "f" else np.int64)
    for size in np.unique(sizes).tolist():
        chosen = np.flatnonzero(sizes == size)
        places = (ends - sizes)[chosen, None] + np.arange(size)
        values[places] = cells.gather(begins[chosen], size, kind)
    return Column(values, sizes)


def _short(element: Element, found: int) -> Unusable:
    name = _NAMES.get(element.name, f"rows of '{element.name}'")
    return Unusable(
        f"holds {found} of the {element.rows} {name} that its header announces (truncated?); copy "
        "or export it again"
    )
