"""Point clouds as text: a point a line, as scanners and CloudCompare, MeshLab, NumPy and
spreadsheets write it.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float

from jax3dret.geometry.mesh_formats import text as lines_of_text
from jax3dret.geometry.mesh_formats.unusable import Unusable

_PURPOSE = "a point is a line of numbers, x, y, z first"
_PARTS = re.compile(rb"[\s,;]+")
_UNIT = re.compile(rb"(?<=[\w\s])[\[(][^\])\n]*[\])]")
# How columns of coordinates are called beside x, y and z: pos_x, x_coord, Points:0.
_AXIS = re.compile(
    rb"(?:(?:position|pos|coordinates?|coords?|points?|vertex|p)[_.:-]?)?([xyz])"
    rb"(?:[_.:-]?(?:coordinates?|coords?|position|pos|mm?|cm))?"
)
_NUMBERED = re.compile(rb"(?:position|coordinates?|coords?|points?|vertex)[_.:-]?([012])")
# A first column of one of these names is none of coordinates.
_NO_AXIS = re.compile(
    rb"(?:point|vertex)?[_ ]?(?:id|index|idx|no|nr|number)|i|t|time|timestamp|label|class|"
    rb"intensity|r|g|b|red|green|blue|n_?[xyz]|normal_?[xyz]"
)


def parse(data: bytes) -> Float[np.ndarray, "N 3"]:
    """x, y, z of the points of a text: float64.

    Numbers are parted by blanks, tabs, commas or semicolons. "#" and "//" begin comments. Before
    the points there may be one line of words and one of a single whole number: the number of
    points, which is checked. Words that name x, y and z ("X", "pos_x", "x [m]", "Points:0") say
    which columns they are; without them the first three are taken. Further columns are passed over,
    words in them too.

    Raises:
        Unusable: no text, a line that is no point or has other columns than the first, decimal
            commas, more or fewer points than announced, points in columns instead of rows, or names
            of columns that leave open which are x, y and z.
    """
    text = lines_of_text.plain(data, "a point cloud")
    names = _names_in_comment(text)
    text = lines_of_text.without_comments(lines_of_text.without_comments(text), b"//")
    begin, announced, title = _preamble(text)
    names = title if title and (_axes(title) or names is None) else names
    text = _parted(text, begin)
    try:
        found = lines_of_text.numbers(text, begin, _PURPOSE)
    except Unusable:
        points = _with_words(text, begin, names)
    else:
        points = _points(text, found, names)
    if announced is not None and len(points) != announced:
        raise Unusable(
            f"announces {announced} points in a line of its own but holds {len(points)} "
            "(truncated?); copy or export it again"
        )
    return points


def _names_in_comment(text: bytes) -> list[bytes] | None:
    """The names of columns where a comment above the points gives them: "//X Y Z R G B"."""
    for line in text.split(b"\n", 32)[:32]:
        line = line.strip()
        if line and not line.startswith((b"#", b"//")):
            return None
        names = _names(line.lstrip(b"#/"))
        if _axes(names):
            return names
    return None


def _words(line: bytes) -> list[bytes]:
    return [word for word in _PARTS.split(line.strip()) if word]


def _names(line: bytes) -> list[bytes]:
    """The names of columns in a line, without units and without what introduces them
    ("columns: x y z").
    """
    line = re.split(rb":\s", _UNIT.sub(b" ", line))[-1]
    return [name.strip(b"\"'").lower() for name in _words(line)]


def _axes(names: list[bytes]) -> list[int] | None:
    """Which columns are named x, y and z; None if not each is, once."""
    for axes in (names, [_axis(name) for name in names]):
        if all(axes.count(axis) == 1 for axis in (b"x", b"y", b"z")):
            return [axes.index(axis) for axis in (b"x", b"y", b"z")]
    return None


def _axis(name: bytes) -> bytes:
    """The axis that a column of this name holds; empty for another one."""
    if found := _AXIS.fullmatch(name):
        return found[1]
    found = _NUMBERED.fullmatch(name)
    return b"xyz"[int(found[1]) :][:1] if found else b""


def _preamble(text: bytes) -> tuple[int, int | None, list[bytes] | None]:
    """The byte at which the points begin, their announced number, and the words of the line of
    words.
    """
    begin, announced, title = 0, None, None
    while begin < len(text):
        end = text.index(b"\n", begin) + 1
        words = _words(text[begin:end])
        if len(words) == 1 and words[0].isdigit() and announced is None:
            announced = int(words[0])
        elif title is None and _is_title(words):
            title = _names(text[begin:end])
        elif words:
            break
        begin = end
    return begin, announced, title


def _is_title(words: list[bytes]) -> bool:
    """Whether a line is words, of which a few may be numbers: fewer than a point has."""
    numbers = [lines_of_text.is_number(word) for word in words]
    return bool(words) and not numbers[0] and sum(numbers) < 3


def _parted(text: bytes, begin: int) -> bytes:
    """Blanks for commas and semicolons, which must not be decimal commas."""
    if b"," not in text and b";" not in text:
        return text
    inner = re.compile(rb"\d,\d").search(text, begin)
    if inner is not None:
        outer = re.compile(rb";|[\d.][ \t]+[-+.\d]").search(text, begin)
        if outer is not None:
            line = lines_of_text.line_of(text, inner.start())
            start = text.rfind(b"\n", 0, inner.start()) + 1
            words = re.split(rb"[\s;]+", text[start : text.index(b"\n", start)].strip())
            word = next((w for w in words if re.search(rb"\d,\d", w)), inner[0])
            raise Unusable(
                f"line {line}: {lines_of_text.shown(word)} has a decimal comma, or commas part "
                "numbers beside blanks or semicolons; write numbers with decimal points and part "
                "them in one way"
            )
    empty = re.compile(rb"[,;][ \t]*[,;]|\n[ \t]*[,;]").search(text, begin)
    if empty is not None:
        line = lines_of_text.line_of(text, empty.end() - 1)
        raise Unusable(f"line {line} has an empty column; every column needs a value")
    return text.translate(bytes.maketrans(b",;", b"  "))


def _points(text: bytes, found: lines_of_text.Numbers, names: list[bytes] | None) -> np.ndarray:
    counts = found.counts
    if not len(counts):
        raise Unusable("holds no points")
    if (counts != counts[0]).any():
        at = int((counts != counts[0]).argmax())
        raise Unusable(
            f"line {lines_of_text.line_of(text, int(found.places[at]))} has {counts[at]} numbers "
            f"where the first point has {counts[0]}; {_PURPOSE}"
        )
    width = int(counts[0])
    if width < 3:
        raise Unusable(f"has {width} numbers a line; x, y, z are needed")
    axes = _columns(names, width)
    if names is None and width > 32 and width > len(counts):
        raise Unusable(
            f"holds {len(counts)} lines of {width} numbers: its points are columns; a line a point "
            "is needed, so transpose it"
        )
    return found.values.reshape(-1, width)[:, axes]


def _columns(names: list[bytes] | None, width: int) -> list[int]:
    """Which columns are x, y and z: those of the names, else the first three."""
    axes = _axes(names) if names else None
    if axes is None and names and len(names) == width and _NO_AXIS.fullmatch(names[0]):
        raise Unusable(
            f"names its columns {lines_of_text.printable(b', '.join(names)[:80])}, of which none "
            "is x, y or z; name those"
        )
    # Words in another number than columns are a sentence: "coordinates x y z in metres".
    if axes is None or axes == [0, 1, 2] or (width == 3 and axes == sorted(axes)):
        return [0, 1, 2]
    if names and len(names) != width:
        raise Unusable(
            f"names {len(names)} columns but its points have {width}; which are x, y and z is not "
            "known"
        )
    return axes


def _with_words(text: bytes, begin: int, names: list[bytes] | None) -> np.ndarray:
    """Points among columns of which some are words: labels behind the coordinates, say."""
    points: list[list[float]] = []
    width, axes, offset = 0, [0, 1, 2], begin
    for line in text[begin:].splitlines(keepends=True):
        words = line.split()
        if words and not points:
            width = len(words)
            axes = _columns(names, width)
        if words:
            taken = [words[axis] for axis in axes if axis < len(words)]
            wrong = next((word for word in taken if not lines_of_text.is_number(word)), None)
            if wrong is not None or len(words) != width or width < 3:
                said = (
                    lines_of_text.not_number(wrong, _PURPOSE)
                    if wrong is not None
                    else f"{len(words)} columns where the first point has {width}; {_PURPOSE}"
                )
                raise Unusable(f"line {lines_of_text.line_of(text, offset)}: {said}")
            points.append([float(word) for word in taken])
        offset += len(line)
    return np.array(points, np.float64).reshape(-1, 3)
