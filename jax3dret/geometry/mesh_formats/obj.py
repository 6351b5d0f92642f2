"""Wavefront OBJ: the polygons among its statements.

Source: Alias|Wavefront, "Advanced Visualizer" manual, appendix B1 (Object Files). A line is a
keyword and its arguments; a backslash continues it, "#" begins a comment. Lines are sorted by
keyword, a few megabytes at a time; the arguments of all `v` and all `f` lines are read at once.
"""

from __future__ import annotations

import collections
import re
from typing import NamedTuple

import numpy as np

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import text as lines_of_text
from jax3dret.geometry.mesh_formats.polygons import triangulate
from jax3dret.geometry.mesh_formats.text import Words
from jax3dret.geometry.mesh_formats.unusable import Unusable

# Statements that are rightly no surface: attributes of corners, points and lines, free-form curves
# and what belongs to them, groups, what a thing looks like; creases for a subdivision (t, as in
# OpenSubdiv's shapes), whose control mesh is read, and weights of joints (vw).
_NO_SURFACE = frozenset(
    b"vt vn vp p l g o s mg cstype deg bmat step curv curv2 parm trim hole scrv sp end con cdc "
    b"usemtl mtllib usemap maplib bevel c_interp d_interp lod shadow_obj trace_obj ctech stech "
    b"res t vw".split()
)
_CURVES = frozenset((b"curv", b"curv2", b"cdc"))
# Statements that hold a surface, or bring one, and what they are.
_OTHER_SURFACE = {
    b"surf": "a free-form surface",
    b"bsp": "a B-spline patch",
    b"bzp": "a Bezier patch",
    b"cdp": "a Cardinal patch",
    b"call": "another file",
    b"csh": "a command to run",
}
# Numbers of a vertex: x y z; with a weight, which only free-form statements use; with a colour;
# with both, or a colour of four.
_VERTEX_SIZES = (3, 4, 6, 7)
_CORNER = re.compile(rb"[-+]?\d+(/[-+]?\d*){0,2}")


class _Part(NamedTuple):
    """What some lines hold."""

    vertices: np.ndarray  # float64[V, 3]
    corners: np.ndarray  # int64[C]; counted from 0, relative ones resolved
    sizes: np.ndarray  # int64[P]; corners of each polygon
    places: np.ndarray  # int64[P]; byte of the text at which each polygon's line begins


def parse(data: bytes) -> Mesh:
    """The polygons of a file as triangles, in file order, on the vertices as they are listed.

    Raises:
        Unusable: a statement that is not known or holds a surface of another kind, a number that is
            none, an index that names no vertex, the file ends inside a line; each with its line.
    """
    whole = data[-1:] in (b"\n", b"\r")
    text = lines_of_text.plain(data, "Wavefront OBJ")
    del data
    seen: collections.Counter[bytes] = collections.Counter()
    parts, num_vertices = [], 0
    for offset, chunk in lines_of_text.chunks(text):
        part = _read(text, offset, _joined(chunk), num_vertices, seen)
        num_vertices += len(part.vertices)
        parts.append(part)
    vertices, corners, sizes, places = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    if not whole and _is_cut(text, sizes):
        raise Unusable("ends in the middle of a line (truncated?); copy or export it again")
    if len(corners) and corners.max() >= num_vertices:
        at = int(
            np.searchsorted(np.cumsum(sizes), int((corners >= num_vertices).argmax()), "right")
        )
        raise Unusable(
            f"line {lines_of_text.line_of(text, int(places[at]))}: a face refers to a vertex that "
            f"does not exist ({int(corners.max()) + 1} of {num_vertices}); export it again"
        )
    if not (sizes > 2).any():
        raise Unusable(_without_faces(num_vertices, seen))
    return Mesh(vertices, triangulate(vertices, corners, sizes))


def _is_cut(text: bytes, sizes: np.ndarray) -> bool:
    """Whether a text that does not end in a newline ends in a part of a face: in a slash where the
    corner before does not, or in an edge or a point where the faces before are polygons.
    """
    last = text[text.rstrip().rfind(b"\n") + 1 :].split()
    if last[:1] not in ([b"f"], [b"fo"]):
        return False
    slashes = [word.count(b"/") if word.endswith(b"/") else 0 for word in last[-2:]]
    if slashes[1] > slashes[0]:  # some writers put one behind every corner: "f 3/3/ 8/8/ 7/7/"
        return True
    return bool(sizes[-1] < 3 and (len(sizes) == 1 or sizes[-2] > 2))


def _joined(chunk: bytes) -> bytes:
    """Lines without comments, continued ones made one; every byte keeps its place."""
    chunk = lines_of_text.without_comments(chunk)
    if b"\\" in chunk:
        chunk = re.sub(rb"\\[ \t]*\n", lambda found: b" " * len(found[0]), chunk)
    return chunk if chunk.endswith(b"\n") else chunk[:-1] + b"\n"


def _read(
    text: bytes, offset: int, chunk: bytes, before: int, seen: collections.Counter[bytes]
) -> _Part:
    """What some whole lines of the text, from a byte on, hold.

    before: vertices that stand before them. seen: how many lines of each other keyword there are.
    """
    data = np.frombuffer(bytearray(chunk), np.uint8)
    found = lines_of_text.words(data)
    begins = found.starts[found.first]
    letters, behind = data[begins], data[begins + 1] <= 32
    is_vertex = (letters == ord("v")) & behind
    is_face = (letters == ord("f")) & behind
    old = (letters == ord("f")) & (data[begins + 1] == ord("o"))  # how faces were once written
    if old.any():
        old &= data[np.minimum(begins + 2, len(data) - 1)] <= 32
        data[begins[old] + 1] = 32
        is_face |= old
    other = ~(is_vertex | is_face)
    _count_others(text, offset, data, begins[other], seen)
    data[begins[~other]] = 32
    vertices = _vertices(text, offset, data, found, is_vertex)
    upto = before + np.cumsum(is_vertex)[is_face]
    corners, sizes = _corners(text, offset, data, found, is_face, upto)
    return _Part(vertices, corners, sizes, begins[is_face] + offset)


def _count_others(
    text: bytes,
    offset: int,
    data: np.ndarray,
    begins: np.ndarray,
    seen: collections.Counter[bytes],
) -> None:
    """Counts lines of other keywords, but vt and vn. Raises Unusable for one that is not known."""
    corner = (data[begins] == ord("v")) & (data[np.minimum(begins + 2, len(data) - 1)] <= 32)
    corner &= (data[begins + 1] == ord("t")) | (data[begins + 1] == ord("n"))
    begins = begins[~corner]  # most of the lines of many files, known without sorting words
    if not len(begins):
        return
    padded = np.concatenate([data, np.full(16, 32, np.uint8)])
    letters = padded[begins[:, None] + np.arange(12)]
    letters[np.logical_or.accumulate(letters <= 32, axis=1)] = 0
    keys, first, counts = np.unique(
        letters.view("S12").reshape(-1), return_index=True, return_counts=True
    )
    for key, at, count in sorted(
        zip(keys.tolist(), first.tolist(), counts.tolist(), strict=True), key=lambda row: row[1]
    ):
        if key in _NO_SURFACE:
            seen[key] += count
            continue
        place = offset + int(begins[at])
        if key in _OTHER_SURFACE:
            line, what = lines_of_text.line_of(text, place), _OTHER_SURFACE[key]
            raise Unusable(
                f"line {line}: {what} ({key.decode()}), of which nothing is read; export the model "
                "as polygons"
            )
        word = re.compile(rb"[^\x00-\x20]+").match(text, place)
        assert word is not None
        said = (
            f"{lines_of_text.shown(word[0])} is no OBJ keyword; correct the line or export it again"
        )
        raise _broken(text, place, said, short=True)


def _vertices(
    text: bytes, offset: int, data: np.ndarray, found: Words, chosen: np.ndarray
) -> np.ndarray:
    """x, y, z of the chosen lines: float64[V, 3]."""
    counts = found.counts[chosen] - 1
    if not len(counts):
        return np.zeros((0, 3))
    begins, ends = found.starts[found.first[chosen]], found.ends[chosen]
    known = np.isin(counts, _VERTEX_SIZES)
    if not known.all():
        at = int(known.argmin())
        raise _broken(
            text,
            offset + int(begins[at]),
            f"a vertex of {counts[at]} numbers; x y z, x y z w, or either with r g b, is needed",
            short=counts[at] < 3,
        )
    values = lines_of_text.floats(
        lines_of_text.bytes_of(data, begins, ends).tobytes(), int(counts.sum())
    )
    if values is None:
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            for word in bytes(data[begin:end]).split():
                if not lines_of_text.is_number(word):
                    said = lines_of_text.not_number(word, "a vertex is three numbers")
                    raise _broken(text, offset + begin, said)
        raise Unusable("has vertices that are no numbers; export it again")
    if (counts == 3).all():
        return values.reshape(-1, 3)
    if (counts == counts[0]).all():
        return values.reshape(-1, counts[0])[:, :3]
    return values[(np.cumsum(counts) - counts)[:, None] + np.arange(3)]


def _corners(
    text: bytes,
    offset: int,
    data: np.ndarray,
    found: Words,
    chosen: np.ndarray,
    upto: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the corners of the chosen lines, and how many corners each line has.

    upto: vertices that stand before each line, from which negative numbers count back.
    """
    sizes = found.counts[chosen] - 1
    if not len(sizes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    begins, ends = found.starts[found.first[chosen]], found.ends[chosen]
    if (sizes == 0).any():
        place = offset + int(begins[int((sizes == 0).argmax())])
        raise _broken(text, place, "a face without corners; export it again", short=True)
    corners = _first_numbers(lines_of_text.bytes_of(data, begins, ends), int(sizes.sum()))
    if corners is None:
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            for word in bytes(data[begin:end]).split():
                if not _CORNER.fullmatch(word):
                    said = f"{lines_of_text.shown(word)} is no corner; a face is made of numbers "
                    raise _broken(text, offset + begin, said + "v, v/vt, v//vn or v/vt/vn")
        raise Unusable("has a face with an index too large to be one; export it again")
    backward = corners < 0
    if backward.any():
        corners[backward] += np.repeat(upto, sizes)[backward] + 1
    if corners.min() < 1:
        at = int((corners < 1).argmax())
        line = int(np.searchsorted(np.cumsum(sizes), at, "right"))
        given = int(corners[at] - (upto[line] + 1 if backward[at] else 0))
        said = (
            "index 0; OBJ counts vertices from 1"
            if given == 0
            else f"index {given} counts back past the {upto[line]} vertices above it"
        )
        raise _broken(text, offset + int(begins[line]), f"a face has {said}; export it again")
    return corners - 1, sizes


def _first_numbers(data: np.ndarray, num_words: int) -> np.ndarray | None:
    """The number before the first slash of each word: int64[num_words]; None if a word is none of
    v, v/vt, v//vn, v/vt/vn.
    """
    slash = data == ord("/")
    if not slash.any():
        return lines_of_text.integers(data.tobytes(), num_words)
    blank = data <= 32
    word = lines_of_text.word_starts(blank)
    if (word & slash).any():
        return None
    number = np.flatnonzero(lines_of_text.word_starts(blank | slash))
    is_first = word[number]
    first = np.flatnonzero(is_first)
    in_word = np.diff(first, append=len(number))
    slashes = np.cumsum(slash, dtype=np.int64)
    starts = number[first]
    in_slashes = np.diff(slashes[starts], append=slashes[-1])
    if in_word.max() > 3 or in_slashes.max() > 2:
        return None
    data = data.copy()
    data[slash] = 32
    values = lines_of_text.integers(data.tobytes(), len(number))
    return None if values is None else values[is_first]


def _broken(text: bytes, place: int, reason: str, *, short: bool = False) -> Unusable:
    """The reason with its line; where too few words stand in the file's last line, the file may be
    cut off.
    """
    line = lines_of_text.line_of(text, place)
    if short and not text[place:].partition(b"\n")[2].strip():
        return Unusable(
            f"ends in the middle of a line (line {line}, truncated?); copy or export it again"
        )
    return Unusable(f"line {line}: {reason}")


def _without_faces(num_vertices: int, seen: collections.Counter[bytes]) -> str:
    curves = sum(seen[key] for key in _CURVES)
    if curves or seen[b"l"]:
        held = [f"{curves} free-form curves"] * bool(curves) + [f"{seen[b'l']} lines"] * bool(
            seen[b"l"]
        )
        return f"holds {' and '.join(held)} but no faces; a triangle mesh is needed"
    if num_vertices:
        return (
            f"has {num_vertices} vertices but no faces (a point cloud?); a triangle mesh is needed"
        )
    return "has no faces; a triangle mesh is needed"
