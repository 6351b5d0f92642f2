"""CLIP's tokenizer: text to token numbers by byte-pair encoding of its UTF-8 bytes (Radford et al.
2021, section 2.4).

1. Clean: repair broken Unicode (ftfy), undo HTML escapes twice, collapse white space, lower-case.
2. Split into words: contractions ('s, 't, 're, 've, 'm, 'll, 'd), runs of letters, single digits,
runs of anything else.
3. Write each byte of a word as one printable character, mark the last with "</w>", and merge pairs
   of symbols, the pair that stands earliest in the list of merges first, until no pair is in the
   list.

Numbers: 256 bytes, 256 bytes at the end of a word, one for each merge in order, start of text, end
of text. The list of merges is part of the weights: the published models go with
`bpe_simple_vocab_16e6.txt.gz`, of which they use the first 48,894.
"""

from __future__ import annotations

import functools
import gzip
import html
import itertools
import pathlib
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from jax3dret.core.types import ConfigError, DataError

PUBLISHED_MERGES = 48894
START, END = "<|startoftext|>", "<|endoftext|>"
TRUNCATE = ("keep_end", "drop_end", "error")
# Longest words are random strings; remembering them all would not be of use.
_REMEMBERED_WORDS = 1 << 16


class Tokens(NamedTuple):
    """ids: start, text, end, then zeros. truncated: the caption did not fit and lost its tail."""

    ids: Int32[np.ndarray, "B T"]
    truncated: Bool[np.ndarray, " B"]


class Tokenizer:
    """Text to token numbers with a list of merges, see `read_merges`.

    Immutable apart from a memory of words; the strings "<|startoftext|>" and "<|endoftext|>" in a
    text become those tokens, as in the published tokenizer.
    """

    def __init__(self, merges: Sequence[tuple[str, str]]):
        """merges: pairs of symbols, best first.

        Raises DataError if a pair holds a symbol that is no byte and that no earlier pair made, or
        makes one a second time.
        """
        self._characters = byte_characters()
        symbols = list(self._characters.values())
        symbols += [symbol + "</w>" for symbol in symbols]
        self._numbers = {symbol: number for number, symbol in enumerate(symbols)}
        for number, pair in enumerate(merges, start=1):
            merged = "".join(pair)
            if merged in self._numbers or not all(symbol in self._numbers for symbol in pair):
                reason = (
                    "makes a symbol again"
                    if merged in self._numbers
                    else "is of symbols that no earlier merge makes"
                )
                raise DataError(
                    f"merge {number}, {' '.join(pair)!r}, {reason}; expected a list of CLIP's byte "
                    "pairs"
                )
            self._numbers[merged] = len(self._numbers)
        for special in (START, END):
            self._numbers[special] = len(self._numbers)
        self._symbols = symbols = list(self._numbers)
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.vocab_size = len(symbols)
        self.start, self.end = self.vocab_size - 2, self.vocab_size - 1
        self._word = functools.lru_cache(_REMEMBERED_WORDS)(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """Token numbers of the text, without start and end and of any length."""
        return [number for word in split_words(clean(text)) for number in self._word(word)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token numbers: cleaned and lower-cased, a space after each word. Raises
        DataError for another number.
        """
        ids = [int(number) for number in ids]
        if wrong := [number for number in ids if not 0 <= number < self.vocab_size]:
            raise DataError(f"token {wrong[0]} is not in a vocabulary of {self.vocab_size}")
        byte_of = {character: byte for byte, character in self._characters.items()}
        raw = bytes(byte_of[c] for number in ids for c in self._symbols[number])
        return raw.decode("utf-8", errors="replace").replace("</w>", " ")

    def __call__(
        self, texts: Sequence[str], *, context_length: int = 77, truncate: str = "keep_end"
    ) -> Tokens:
        """Start, text, end, padded with 0, one row for each text; and which rows were cut.

        truncate, for a text of more than context_length - 2 tokens: "keep_end" (CLIP) cuts it and
        puts the end token in the last place; "drop_end" (SLIP, ULIP) cuts it without, so that the
        text tower reads some token of the content; "error".

        Raises DataError for a text that is too long where truncate is "error", ConfigError for
        another `truncate` or a single string in place of a sequence.
        """
        if truncate not in TRUNCATE:
            raise ConfigError(f"truncate is {truncate!r}; expected one of {', '.join(TRUNCATE)}")
        if context_length < 2:
            raise ConfigError(
                f"context_length is {context_length}; expected at least 2 (start and end)"
            )
        if isinstance(texts, str):
            raise ConfigError("texts is one string; expected a list of strings")
        ids = np.zeros((len(texts), context_length), np.int32)
        truncated = np.zeros(len(texts), bool)
        for row, text in enumerate(texts):
            tokens = [self.start, *self.encode(text), self.end]
            truncated[row] = len(tokens) > context_length
            if truncated[row] and truncate == "error":
                raise DataError(
                    f"text {row} has {len(tokens)} tokens, not at most {context_length}: "
                    f"{text[:80]!r}"
                )
            ids[row, : len(tokens)] = tokens[:context_length]
            if truncated[row] and truncate == "keep_end":
                ids[row, -1] = self.end
        return Tokens(ids, truncated)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in (START, END):
            return (self._numbers[word],)
        symbols = [self._characters[byte] for byte in word.encode("utf-8", errors="replace")]
        symbols[-1] += "</w>"
        return tuple(self._numbers[symbol] for symbol in self._merge(symbols))

    def _merge(self, symbols: list[str]) -> list[str]:
        """Merges the pair of the best rank, wherever it stands, from left to right; again, until no
        pair has a rank.
        """
        ranks = self._ranks
        none = len(ranks)
        while len(symbols) > 1:
            best = min(itertools.pairwise(symbols), key=lambda pair: ranks.get(pair, none))
            if best not in ranks:
                break
            merged, i = [], 0
            while i < len(symbols):
                if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == best:
                    merged.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    merged.append(symbols[i])
                    i += 1
            symbols = merged
        return symbols


def load_tokenizer(path: str | pathlib.Path, *, merges: int | None = PUBLISHED_MERGES) -> Tokenizer:
    """The tokenizer of a file of merges. Raises what `read_merges` raises."""
    return Tokenizer(read_merges(path, limit=merges))


def read_merges(
    path: str | pathlib.Path, *, limit: int | None = PUBLISHED_MERGES
) -> list[tuple[str, str]]:
    """Pairs of symbols from a text file, plain or gzipped: a header line, then one pair in each
    line, best first.

    limit: how many to read; the published file has more than the published models use. None: all,
    for a list of one's own.

    Raises DataError if the file is missing or empty, is not text of that form (an HTML page of a
    failed download, another archive), or has fewer than `limit` pairs.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; expected the list of merges bpe_simple_vocab_16e6.txt.gz"
        )
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{path}: neither UTF-8 text nor a complete gzip file of it ({error})"
        ) from None
    except Exception as error:
        # zlib.error derives from Exception alone.
        raise DataError(f"{path}: damaged gzip file ({error})") from None
    if text.lstrip()[:1] == "<" and re.match(r"\s*<(!doctype|html|\?xml)", text, re.IGNORECASE):
        raise DataError(f"{path}: is a web page, not a list of merges; download the file itself")
    # Not splitlines: symbols may be characters that it takes for the end of a line.
    lines = text.removesuffix("\n").split("\n")[1:]
    pairs = []
    for number, line in enumerate(lines[:limit], start=2):
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2 or not all(pair):
            raise DataError(
                f"{path}: line {number} is {line[:60]!r}; expected two symbols with a space between"
            )
        pairs.append((pair[0], pair[1]))
    if not pairs or (limit is not None and len(pairs) < limit):
        wanted = f"{limit}" if limit is not None else "at least 1"
        raise DataError(f"{path}: {len(pairs)} merges after the header; expected {wanted}")
    return pairs


def byte_characters() -> dict[int, str]:
    """A printable character for each byte, in the order of the vocabulary.

    The 188 bytes that are printable in Latin-1 stand for themselves and come first; the others are
    U+0100 and on, in order.
    """
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


def clean(text: str) -> str:
    """Broken Unicode repaired, HTML escapes undone twice, white space collapsed, lower-cased.

    Repairing takes ftfy; plain printable ASCII without "&" comes out of it as it went in, and is
    not handed to it. Raises ConfigError if ftfy is needed and not installed: without it a caption
    would get other tokens than in training.
    """
    if (
        not text.isascii()
        or "&" in text
        or not all(c.isprintable() or c in " \t\n\r" for c in text)
    ):
        text = html.unescape(html.unescape(_fix(text)))
    return " ".join(text.split()).lower()


def split_words(text: str) -> list[str]:
    """The words of cleaned text, white space left out."""
    return _pattern().findall(text)


def _fix(text: str) -> str:
    try:
        import ftfy
    except ImportError:
        raise ConfigError(
            f"text {text[:60]!r} needs ftfy, which is not installed: pip install ftfy (captions of "
            "plain ASCII do not need it)"
        ) from None
    return ftfy.fix_text(text)


@functools.cache
def _pattern() -> re.Pattern[str]:
    """The words. Letters are Unicode's categories L, digits its categories N, which `re` has no
    names for.

    \\w is L, N and "_"; \\d is Nd. So letters are \\w without \\d, "_" and what else is in N.
    """
    other = (
        c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Nl", "No")
    )
    numbers = re.escape("".join(other))
    return re.compile(
        rf"{re.escape(START)}|{re.escape(END)}|'s|'t|'re|'ve|'m|'ll|'d"
        rf"|[^\W\d_{numbers}]+|[\d{numbers}]|(?:[^\s\w]|_)+",
        re.IGNORECASE,
    )
