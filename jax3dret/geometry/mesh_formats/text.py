"""Text formats as bytes: line ends, blanks, words and numbers, a few megabytes at a time.

Every number is counted twice: the words that begin in the bytes, and the values that the parser of
numbers gives. Where they differ, the word that is no number is looked up and named with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from jax3dret.geometry.mesh_formats.unusable import Unusable

_CHUNK = 1 << 22
_NEWLINE = 10
_BLANK = 32  # this and every control character part words
_EXACT = 2.0**53  # integers below it are float64 without rounding
_NUMBER = re.compile(
    rb"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf|infinity)", re.IGNORECASE
)


class Words(NamedTuple):
    """The words of some text, and how they lie in its lines; lines without any are left out."""

    starts: Int[np.ndarray, "W"]  # byte at which each word begins
    first: Int[np.ndarray, "L"]  # the first word of each line
    counts: Int[np.ndarray, "L"]  # words of each line
    ends: Int[np.ndarray, "L"]  # byte of the newline that ends each line


class Numbers(NamedTuple):
    """Text that is numbers alone; lines without any are left out."""

    values: Float[np.ndarray, "N"]
    counts: Int[np.ndarray, "L"]  # numbers of each line
    places: Int[np.ndarray, "L"]  # byte at which each line's first number begins


def is_web_page(head: bytes) -> bool:
    """Whether a file begins as HTML does."""
    page = rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)"
    return re.match(page, head, re.IGNORECASE) is not None


def plain(data: bytes, name: str) -> bytes:
    """Text with one kind of line end and one behind its last line, without a byte-order mark.

    name: of the format, for the reason.

    Raises:
        Unusable: UTF-16 or UTF-32, or a byte that no text has.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    zero = data.find(b"\0")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or (zero >= 0 and _is_wide(data[:4096])):
        raise Unusable(f"is UTF-16 or UTF-32 text; save it as UTF-8, {name} is plain text")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        zero = data.find(b"\0")
    if zero >= 0:
        where = "" if zero < 4096 else f" from line {line_of(data, zero)} on (damaged?)"
        raise Unusable(f"is binary, not {name} text{where}; export it again")
    data = data.rstrip(b"\x1a")  # the end of a file in DOS
    return data if data.endswith(b"\n") else data + b"\n"


def _is_wide(head: bytes) -> bool:
    """Whether every other byte is zero, and few of those between."""
    if head.startswith(b"\0\0\xfe\xff"):
        return True
    halves = head[::2], head[1::2]
    return any(
        zeros.count(0) >= 0.9 * len(zeros) and letters.count(0) < 0.1 * len(letters)
        for zeros, letters in (halves, halves[::-1])
    )


def line_of(text: bytes, place: int) -> int:
    """The line, counted from 1, on which a byte stands."""
    return text.count(b"\n", 0, place) + 1


def without_comments(text: bytes, mark: bytes = b"#") -> bytes:
    """Blanks in place of all that stands behind a mark on its line: every byte keeps its place.

    "1.#QNAN" and "-1.#IND", as some programs print what is no number, hold no comment.
    """
    if mark not in text:
        return text
    comment = rb"(?<!\d\.)" + re.escape(mark) + rb"[^\n]*"
    return re.sub(comment, lambda found: b" " * len(found[0]), text)


def chunks(text: bytes, begin: int = 0) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a text, a few megabytes at a time, each with the byte at which they begin.

    A line that a backslash continues stays with the next one.
    """
    while begin < len(text):
        end = begin + _CHUNK
        while True:
            end = text.find(b"\n", end) + 1
            if end <= 0:
                end = len(text)
            if end == len(text) or not text[max(begin, end - 64) : end].rstrip().endswith(b"\\"):
                break
        yield begin, text[begin:end]
        begin = end


def words(text: UInt8[np.ndarray, "N"]) -> Words:
    """Where the words of some whole lines begin, the last line's newline included."""
    starts = np.flatnonzero(word_starts(text <= _BLANK))
    ends = np.flatnonzero(text == _NEWLINE)
    upto = np.searchsorted(starts, ends)
    counts = np.diff(upto, prepend=0)
    kept = counts > 0
    return Words(starts, (upto - counts)[kept], counts[kept], ends[kept])


def word_starts(parted: np.ndarray) -> np.ndarray:
    """Where something begins that is not parted, by whether each byte parts."""
    begins = ~parted
    begins[1:] &= parted[:-1]
    return begins


def bytes_of(text: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The bytes of some lines, one behind the other, newlines included."""
    marks = np.zeros(len(text) + 1, np.int8)
    marks[begins] += 1
    marks[ends + 1] -= 1
    return text[np.cumsum(marks[:-1], dtype=np.int8).astype(bool)]


def integers(text: bytes, expected: int) -> Int[np.ndarray, "N"] | None:
    """Exactly so many whole numbers below 2**53, or None."""
    values = _parsed(text, np.int64, expected)
    if values is None or (len(values) and max(-values.min(), values.max()) >= _EXACT):
        return None
    return values


def floats(text: bytes, expected: int) -> Float[np.ndarray, "N"] | None:
    """Exactly so many numbers, or None."""
    if b"." not in text:  # whole numbers parse several times faster
        whole = integers(text, expected)
        if whole is not None:
            return whole.astype(np.float64)
    return _parsed(text, np.float64, expected)


def _parsed(text: bytes, kind: type, expected: int) -> np.ndarray | None:
    # One number more behind all: parsing ends at what is no number, so it is missed if any is none.
    try:
        values: np.ndarray = np.fromstring(text + b" 0", kind, sep=" ")
    except ValueError:
        return None
    return values[:-1] if len(values) == expected + 1 else None


def numbers(text: bytes, begin: int = 0, purpose: str = "numbers are needed") -> Numbers:
    """All numbers of a text from a byte on.

    purpose: what is needed there, for the reason.

    Raises:
        Unusable: a word is no number; its line is named.
    """
    values, counts, places = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for offset, chunk in chunks(text, begin):
        found = words(np.frombuffer(chunk, np.uint8))
        parsed = floats(chunk, len(found.starts))
        if parsed is None:
            raise Unusable(not_a_number(text, offset, offset + len(chunk), purpose))
        values.append(parsed)
        counts.append(found.counts)
        places.append(found.starts[found.first] + offset)
    return Numbers(np.concatenate(values), np.concatenate(counts), np.concatenate(places))


def not_a_number(text: bytes, begin: int, end: int, purpose: str) -> str:
    """The reason against the first word of a stretch of text that is no number."""
    for word in re.finditer(rb"[^\x00-\x20]+", text[begin:end]):
        if not _NUMBER.fullmatch(word[0]):
            said = not_number(word[0], purpose)
            return f"line {line_of(text, begin + word.start())}: {said}"
    return f"line {line_of(text, begin)}: {purpose}"


def not_number(word: bytes, purpose: str) -> str:
    """The reason against a word that stands where a number should, without its line."""
    if re.fullmatch(rb"[-+]?\d*,\d+([eE][-+]?\d+)?", word):
        return f"{shown(word)} has a decimal comma; write numbers with decimal points"
    return f"{shown(word)} is not a number; {purpose}"


def is_number(word: bytes) -> bool:
    """Whether a word is a decimal number, NaN and the infinities included."""
    return _NUMBER.fullmatch(word) is not None


def printable(text: bytes) -> str:
    """Bytes of a file for a reason: what cannot be printed on one line is escaped."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


def shown(word: bytes) -> str:
    """A word of a file between quotes, cut where it is long."""
    return f"'{printable(word[:24])}{'...' if len(word) > 24 else ''}'"
