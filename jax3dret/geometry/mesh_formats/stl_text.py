"""ASCII STL: facets between "solid" and "endsolid", in capitals or not.

What is written one statement a line, a triangle a facet, is read at once. All else (statements
that share lines, facets of more corners, mistakes) is read word by word, which gives the same
triangles or the line of the mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from jax3dret.geometry.mesh_formats import text as lines_of_text
from jax3dret.geometry.mesh_formats.unusable import Unusable

# Statements by what a line begins with, and how many words it has; 0 for any number.
_STATEMENTS = (
    (b"facet", 5),
    (b"outer", 2),
    (b"vertex", 4),
    (b"endloop", 1),
    (b"endfacet", 1),
    (b"solid", 0),
    (b"endsolid", 0),
    (b"color", 0),  # of a solid, by some programs
)
_TRIANGLE = np.array([0, 1, 2, 2, 2, 3, 4], np.int8)
_SOLID, _END, _UNKNOWN = 5, 6, -1
_CUT = 'is ASCII STL but does not end with "endsolid" (truncated?); copy or export it again'


def parse(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Corners float64[C, 3] of all facets, one facet after the other, and how many each has,
    int64[F].

    Raises:
        Unusable: not ASCII STL, cut off, or a word that should not stand where it does.
    """
    text = lines_of_text.plain(data, "ASCII STL")
    if re.match(rb"\s*(solid(?![^\x00-\x20])|$)", text, re.IGNORECASE) is None:
        raise Unusable('is text that does not begin with "solid"; export it again as STL')
    corners = _statement_a_line(text)
    if corners is not None:
        return corners, np.full(len(corners) // 3, 3)
    return _word_by_word(text)


def _statement_a_line(text: bytes) -> np.ndarray | None:
    """Corners, or None where the file is not written one statement a line."""
    parts, kinds = [np.zeros((0, 3))], [np.zeros(0, np.int8)]
    for _, chunk in lines_of_text.chunks(text):
        data = np.frombuffer(bytearray(chunk), np.uint8)
        found = lines_of_text.words(data)
        begins = found.starts[found.first]
        kind = _kinds(data, begins, found.counts)
        if (kind == _UNKNOWN).any():
            return None
        is_vertex = kind == 2
        for letter in range(len(b"vertex")):
            data[begins[is_vertex] + letter] = 32
        numbers = lines_of_text.bytes_of(data, begins[is_vertex], found.ends[is_vertex])
        values = lines_of_text.floats(numbers.tobytes(), 3 * int(is_vertex.sum()))
        if values is None:
            return None
        parts.append(values.reshape(-1, 3))
        kinds.append(kind)
    return np.concatenate(parts) if _is_regular(np.concatenate(kinds)) else None


def _kinds(data: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which statement each line is, by its first word and its number of words: int8[L]."""
    padded = np.concatenate([data, np.full(9, 32, np.uint8)])
    # The eight bytes from each byte on as one number, in small letters.
    eight: np.ndarray = np.ndarray(len(data), "<u8", padded.data, strides=(1,))
    words = eight[begins] | np.uint64(0x2020202020202020)
    kind = np.full(len(begins), _UNKNOWN, np.int8)
    for number, (word, wanted) in enumerate(_STATEMENTS):
        mask = np.uint64((1 << 8 * len(word)) - 1)
        fits = (words & mask) == np.uint64(int.from_bytes(word, "little"))
        fits &= padded[begins + len(word)] <= 32
        if wanted:
            fits &= counts == wanted
        kind[fits] = number
    return kind


def _is_regular(kinds: np.ndarray) -> bool:
    """Whether statements are solids of triangles, each closed before the next."""
    body = kinds < _SOLID
    if body.sum() % len(_TRIANGLE):
        return False
    if (kinds[body].reshape(-1, len(_TRIANGLE)) != _TRIANGLE).any():
        return False
    frame = (kinds == _SOLID) | (kinds == _END)
    names = kinds[frame]
    if len(names) % 2 or (names[::2] != _SOLID).any() or (names[1::2] != _END).any():
        return False
    within = np.cumsum(frame) % 2 == 1
    before = np.cumsum(body)
    return bool(within[body].all() and (before[~body] % len(_TRIANGLE) == 0).all())


def _word_by_word(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    corners: list[list[float]] = []
    sizes: list[int] = []
    words = _words(text)
    word, place = next(words, (b"", 0))
    while word:
        _expect(text, word, place, b"solid")
        word, place = next(words, (b"", 0))
        while word == b"facet":
            for wanted in (b"normal", None, None, None, b"outer", b"loop"):
                word, place = next(words, (b"", 0))
                _expect(text, word, place, wanted)
            word, place = next(words, (b"", 0))
            facet, size = place, 0
            while word == b"vertex":
                corners.append([_number(text, *next(words, (b"", 0))) for _ in range(3)])
                size += 1
                word, place = next(words, (b"", 0))
            _expect(text, word, place, b"endloop", b"vertex")
            _expect(text, *next(words, (b"", 0)), b"endfacet")
            if size < 3:
                line = lines_of_text.line_of(text, facet)
                raise Unusable(f"line {line}: a facet of {size} corners; three are needed")
            sizes.append(size)
            word, place = next(words, (b"", 0))
        _expect(text, word, place, b"endsolid", b"facet")
        word, place = next(words, (b"", 0))
    return np.array(corners, np.float64).reshape(-1, 3), np.array(sizes, np.int64)


def _words(text: bytes) -> Iterator[tuple[bytes, int]]:
    """Words in small letters and where they stand, without names and colours of solids, which take
    up what is left of their line.
    """
    lowered = text.lower()
    named = re.compile(rb"\s*facet\s+normal|\n")
    end = 0
    find = re.compile(rb"(?:end[ \t]+(?=solid|loop|facet))?[^\x00-\x20]+")
    while True:
        found = find.search(lowered, end)
        if found is None:
            return
        word, end = found[0].replace(b" ", b"").replace(b"\t", b""), found.end()
        if word in (b"solid", b"endsolid", b"color"):
            behind = named.search(lowered, end)
            if behind is not None:
                end = behind.start()
        if word != b"color":
            yield word, found.start()


def _expect(text: bytes, word: bytes, place: int, *wanted: bytes | None) -> None:
    """Raises Unusable unless a word is one of those that are wanted; None stands for any."""
    if not word:
        raise Unusable(_CUT)
    if None not in wanted and word not in wanted[:1]:
        names = " or ".join(f'"{name.decode()}"' for name in wanted if name)
        if place + len(word) >= len(text.rstrip()) and any(
            name and name.startswith(word) for name in wanted
        ):
            raise Unusable(_CUT)
        raise Unusable(
            f"line {lines_of_text.line_of(text, place)}: {lines_of_text.shown(word)} stands where "
            f"{names} is needed; export it again"
        )


def _number(text: bytes, word: bytes, place: int) -> float:
    if not word:
        raise Unusable(_CUT)
    if not lines_of_text.is_number(word):
        said = lines_of_text.not_number(word, "a vertex is three numbers")
        raise Unusable(f"line {lines_of_text.line_of(text, place)}: {said}")
    return float(word)
