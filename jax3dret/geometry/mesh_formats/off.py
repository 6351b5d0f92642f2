"""Object File Format, ASCII: a stream of numbers.

Source: Geomview manual, "OFF Files". Counts and coordinates may be broken into lines anywhere. What
stands behind the vertex numbers of a face up to the end of its line is its colour: nothing else
tells how many numbers that is, so there the line ends count. A file that is not a vertex and a face
a line is read both ways, as a stream without colours and with colours up to the ends of lines; what
takes up all numbers, and makes faces of vertices that there are, holds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import text as lines_of_text
from jax3dret.geometry.mesh_formats.polygons import triangulate
from jax3dret.geometry.mesh_formats.unusable import Unusable

# Texture coordinates, colour, normal; then two kinds that are not read.
_MAGIC = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?(?:OFF|off)(?![A-Za-z])")
_PURPOSE = "a vertex is three numbers, a face its number of corners and their vertices"
_MOST_BEHIND_VERTEX = 9  # normal, colour of four, texture coordinates
_MOST_COLOURS = 4


class _Body:
    """The numbers behind the counts, and the lines that they stand on."""

    def __init__(self, text: bytes, numbers: lines_of_text.Numbers, used: int) -> None:
        ends = np.cumsum(numbers.counts)
        line = int(np.searchsorted(ends, used, "right"))
        self.text = text
        self.values = numbers.values[used:]
        self.ends = ends[line:] - used  # of each line, among the values
        self.counts = np.diff(self.ends, prepend=0)
        self.places = numbers.places[line:]

    def line(self, at: int) -> int:
        """The line of the file on which a value stands."""
        row = min(int(np.searchsorted(self.ends, at, "right")), len(self.places) - 1)
        return lines_of_text.line_of(self.text, int(self.places[row]))


class _Reading(NamedTuple):
    """What the numbers may mean."""

    body: _Body
    vertices: np.ndarray  # float64[V, 3]
    sizes: np.ndarray  # int64[F]; corners of each face
    places: np.ndarray  # int64[C]; which of the body's values is each corner

    def is_likely(self) -> bool:
        """Whether faces are polygons of vertices that there are."""
        corners = self.body.values[self.places]
        within = (corners >= 0) & (corners < len(self.vertices)) & (corners == np.floor(corners))
        return bool((self.sizes > 2).all() and within.all())

    def whole_corners(self) -> np.ndarray:
        corners = self.body.values[self.places]
        whole = corners == np.floor(corners)
        if not whole.all():
            at = int(whole.argmin())
            raise Unusable(
                f"line {self.body.line(int(self.places[at]))}: a face refers to vertex "
                f"{corners[at]}; it must be a whole number"
            )
        return np.clip(corners, -(2.0**62), 2.0**62).astype(np.int64)


def parse(data: bytes) -> Mesh:
    """The polygons of OFF, COFF, NOFF, STOFF and their mixtures as triangles, in file order.

    Counts may be glued to the magic word ("OFF3 1 0"), the count of edges may be absent. Normals,
    colours and texture coordinates are passed over.

    Raises:
        Unusable: not OFF, binary, of another dimension than three, or other than its counts say.
    """
    head = re.match(rb"(?:\xef\xbb\xbf)?[A-Za-z4]*OFF\s+BINARY", data, re.IGNORECASE)
    if head is not None:
        raise Unusable("is binary OFF; export it as ASCII OFF")
    text = lines_of_text.without_comments(lines_of_text.plain(data, "OFF"))
    del data
    magic = _MAGIC.match(text)
    if magic is None:
        raise Unusable('does not begin with "OFF"; export it again as ASCII OFF')
    textured, coloured, normals, four, general = magic.groups()
    if four or general:
        raise Unusable(
            f"is {magic[0].strip().decode()}, whose points have "
            f"{'four coordinates' if not general else 'any number of coordinates'}; export it as "
            "OFF with three"
        )
    numbers = lines_of_text.numbers(text, magic.end(), _PURPOSE)
    wanted = 3 + 3 * bool(normals) + 2 * bool(textured)
    widths = (wanted + 4, wanted + 3) if coloured else (wanted,)
    num_vertices, num_faces = _announced(numbers)
    bodies = [_Body(text, numbers, used) for used in _ends_of_counts(numbers)]
    found: _Reading | None = None
    for reading in _readings(bodies, num_vertices, num_faces, widths):
        found = reading if found is None or reading.is_likely() else found
        if reading.is_likely():
            break
    if found is None:
        raise Unusable(_why_not(bodies[0], num_vertices, num_faces, widths[0]))
    return Mesh(found.vertices, triangulate(found.vertices, found.whole_corners(), found.sizes))


def _announced(numbers: lines_of_text.Numbers) -> tuple[int, int]:
    given = numbers.values[:2]
    if len(given) < 2 or not (given == np.floor(given)).all():
        raise Unusable('has no "vertices faces edges" counts after OFF; export it again')
    num_vertices, num_faces = (int(count) for count in given)
    if num_vertices < 0 or num_faces < 0:
        raise Unusable(
            f"announces {num_vertices} vertices and {num_faces} faces; counts cannot be negative"
        )
    return num_vertices, num_faces


def _ends_of_counts(numbers: lines_of_text.Numbers) -> tuple[int, ...]:
    """How many numbers may be counts, likeliest first: the third, of edges, is left out by some."""
    ends = np.cumsum(numbers.counts)
    second = int(ends[np.searchsorted(ends, 1, "right")]) if len(numbers.values) > 1 else 0
    if second != 2:
        return (3,) if second > 2 else (2,)
    following = numbers.counts[np.searchsorted(ends, 2, "right") :]
    return (3, 2) if len(following) and following[0] == 1 else (2, 3)


def _readings(
    bodies: list[_Body], num_vertices: int, num_faces: int, widths: tuple[int, ...]
) -> Iterator[_Reading]:
    """What the numbers may mean, likeliest first; each takes up all of them."""
    for body in bodies:
        counts, by_line = body.counts, body.counts[:num_vertices]
        if (
            len(counts) != num_vertices + num_faces
            or not ((by_line >= 3) & (by_line <= 3 + _MOST_BEHIND_VERTEX)).all()
        ):
            continue
        if num_vertices and (by_line == by_line[0]).all():
            table = body.values[: num_vertices * by_line[0]].reshape(num_vertices, by_line[0])
            vertices = table[:, :3]
        else:
            vertices = body.values[(body.ends - counts)[:num_vertices, None] + np.arange(3)]
        faces = _a_face_a_line(body, num_vertices, num_faces)
        if faces is not None:
            yield _Reading(body, vertices, *faces)
    # Without colours first: faces broken at odd places can look like colours, hardly the reverse.
    # With a count of edges first, as the format has it: who leaves it out writes a row a line.
    bodies = sorted(bodies, key=lambda body: len(body.values))
    for to_line_end, body, width in itertools.product((False, True), bodies, widths):
        begin = num_vertices * width
        if len(body.values) >= begin:
            vertices = body.values[:begin].reshape(num_vertices, width)[:, :3]
            faces = _faces_of_stream(body, begin, num_faces, to_line_end)
            if faces is not None:
                yield _Reading(body, vertices, *faces)


def _a_face_a_line(
    body: _Body, num_vertices: int, num_faces: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """sizes, places of corners; None where some line is not one face and its colour."""
    counts = body.counts[num_vertices:]
    first = (body.ends - body.counts)[num_vertices:]
    given = body.values[first]
    if not ((given >= 1) & (given < counts) & (given == np.floor(given))).all():
        return None
    sizes = given.astype(np.int64)
    if (counts - sizes - 1 > _MOST_COLOURS).any():
        return None
    begins = np.cumsum(sizes) - sizes
    return sizes, np.arange(sizes.sum()) + np.repeat(first + 1 - begins, sizes)


def _faces_of_stream(
    body: _Body, begin: int, num_faces: int, to_line_end: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """sizes, places of corners of faces that are not one a line; None unless they take up all
    numbers.

    to_line_end: what stands behind a face on its line is its colour.
    """
    values = body.values.tolist()
    sizes, wanted, at = [], np.zeros(len(values), bool), begin
    ends = np.repeat(body.ends, body.counts).tolist()
    for _ in range(num_faces):
        if at >= len(values) or not 1 <= values[at] < len(values) - at or values[at] % 1:
            return None
        size = int(values[at])
        wanted[at + 1 : at + 1 + size] = True
        at += size + 1
        if to_line_end and ends[at - 1] - at > _MOST_COLOURS:
            return None
        at = ends[at - 1] if to_line_end else at
        sizes.append(size)
    if at != len(values):
        return None
    return np.array(sizes, np.int64), np.flatnonzero(wanted)


def _why_not(body: _Body, num_vertices: int, num_faces: int, width: int) -> str:
    """Why the numbers are not what the counts announce."""
    announced = f"announces {num_vertices} vertices and {num_faces} faces"
    lines = num_vertices + num_faces
    begun = body.counts[:num_vertices]
    by_line = np.isin(begun, (width, width + 3, width + 4)).all()
    if len(body.counts) < lines and by_line:
        return (
            f"{announced} but holds {len(body.counts)} of their {lines} lines (truncated?); copy "
            "or export it again"
        )
    if len(body.values) < num_vertices * width:
        return (
            f"{announced} but holds {len(body.values)} of the {num_vertices * width} numbers of "
            "its vertices (truncated?); copy or export it again"
        )
    if not by_line and len(body.counts) == lines:
        row = int(((begun < 3) | (begun > 3 + _MOST_BEHIND_VERTEX)).argmax())
        at = int(body.ends[row] - body.counts[row])
        return f"line {body.line(at)}: a vertex of {begun[row]} numbers; {_PURPOSE}"
    for row in range(num_vertices, min(lines, len(body.counts))):
        at, count = int(body.ends[row] - body.counts[row]), int(body.counts[row])
        size = body.values[at]
        if not (size >= 1 and size == np.floor(size)):
            return f"line {body.line(at)}: a face of {size:g} corners; export it again"
        if size >= count:
            return (
                f"line {body.line(at)}: a face line without its {size:g} vertex numbers "
                "(truncated?); copy or export it again"
            )
        if count - size - 1 > _MOST_COLOURS:
            return (
                f"line {body.line(at)}: {count - size - 1:g} numbers behind the vertices of a "
                "face; a colour has at most four"
            )
    if len(body.counts) > lines:
        at = int(body.ends[lines] - body.counts[lines])
        return f"{announced} but goes on behind them (line {body.line(at)}); correct the counts"
    return f"{announced}, which its numbers do not give (truncated?); export it again"
