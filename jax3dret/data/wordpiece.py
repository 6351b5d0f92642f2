"""WordPiece: text to the token numbers of a BERT, by the tokenizer.json that its weights come with.

Cleaning, splitting and the search for the longest pieces are those of the package `tokenizers`; the
length is decided here.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from jax3dret.core.types import ConfigError, DataError

INSTALL = 'pip install "jax3dret[text]"'
# As all-MiniLM-L6-v2 was trained to read.
MAX_TOKENS = 256
SHORTEST = 8


class Tokens(NamedTuple):
    """ids: [CLS], the pieces, [SEP], then zeros. mask: False for those zeros. truncated: the text
    did not fit and lost its tail.
    """

    ids: Int32[np.ndarray, "B T"]
    mask: Bool[np.ndarray, "B T"]
    truncated: Bool[np.ndarray, " B"]


class WordPiece:
    """Text to token numbers."""

    def __init__(self, path: pathlib.Path, max_tokens: int = MAX_TOKENS) -> None:
        """path: a tokenizer.json. max_tokens: of a text, [CLS] and [SEP] among them.

        Raises ConfigError where `tokenizers` is not installed, DataError for a file that it cannot
        read.
        """
        try:
            import tokenizers
        except ImportError:
            raise ConfigError(
                f"text needs the package tokenizers, which is not installed: {INSTALL}"
            ) from None
        if max_tokens < 2:
            raise ConfigError(f"max_tokens is {max_tokens}; expected at least 2 ([CLS] and [SEP])")
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected the tokenizer.json of a text encoder")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # what the package raises has no type of its own
            raise DataError(f"{path}: is no tokenizer.json ({str(error)[:100]})") from None
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        # The file's own settings are those of its last use.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens = max_tokens
        # What stands for a word that it cannot spell, such as an emoji; -1 where it spells all.
        unknown = self._tokenizer.token_to_id("[UNK]")
        self.unknown = -1 if unknown is None else int(unknown)

    def encode(self, text: str) -> list[int]:
        """The numbers of [CLS], every piece, [SEP], of any length."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def cut(self, ids: list[int]) -> list[int]:
        """At most max_tokens of them, the last one [SEP]."""
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """All texts, padded to the next multiple of 8 above the longest.

        Raises ConfigError for a single string in place of a sequence.
        """
        if isinstance(texts, str):
            raise ConfigError("texts is one string; expected a list of strings")
        rows = [self.encode(text) for text in texts]
        truncated = np.array([len(row) > self.max_tokens for row in rows], bool)
        kept = [self.cut(row) for row in rows]
        longest = max(map(len, kept), default=1)
        ids, mask = padded(kept, -(-longest // SHORTEST) * SHORTEST)
        return Tokens(ids, mask, truncated)


def padded(
    rows: Sequence[Sequence[int]], length: int
) -> tuple[Int32[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """Token numbers filled up to `length` with zeros, and the mask that marks those False."""
    ids = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask


def bucket(tokens: int) -> int:
    """The next power of two from 8 on: few lengths, so that few programs are compiled."""
    return max(SHORTEST, 1 << max(0, tokens - 1).bit_length())
