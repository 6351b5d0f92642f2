"""A text: what a sentence encoder reads of words."""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Hashable, Sequence
from typing import ClassVar

import numpy as np

from jax3dret.core.types import ConfigError, DataError, Loaded, Row
from jax3dret.data.wordpiece import MAX_TOKENS, WordPiece, bucket, padded
from jax3dret.weights import packages
from jax3dret.weights.recognise import TOKENIZER

log = logging.getLogger("jax3dret")
EMPTY = 2  # tokens of a text without any word, [CLS] and [SEP]


@dataclasses.dataclass(frozen=True)
class Text:
    """ "ids" int32[T], the WordPiece numbers of a text; a batch of them is padded to the next power
    of two, with "mask" bool[B, T].

    weights: the package or the import whose tokenizer it is; its name, so that an index finds it on
    another machine. sha256: of that tokenizer; texts are read by no other. max_tokens: longer texts
    are cut, and a warning says so.
    """

    weights: str
    sha256: str
    max_tokens: int = MAX_TOKENS
    accepts: ClassVar[tuple[str, ...]] = ("text",)
    version: ClassVar[int] = 1

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Nothing is drawn from `rng`. Raises ConfigError where the tokenizer is missing or another
        one, DataError for a text without words and for one that is no Unicode.
        """
        tokenizer = _tokenizer(self.weights, self.sha256, self.max_tokens)
        try:
            loaded.value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{loaded.name}: holds what is no Unicode character; write it again"
            ) from None
        ids = tokenizer.encode(loaded.value)
        if len(ids) <= EMPTY:
            raise DataError(f"{loaded.name}: holds no words; a few are needed")
        if unknown := ids.count(tokenizer.unknown):
            known = len(ids) - EMPTY - unknown
            log.warning("%s: %d words are not known, %d tokens are", loaded.name, unknown, known)
        if len(ids) > self.max_tokens:
            log.warning(
                "%s: %d tokens, of which %d are read", loaded.name, len(ids), self.max_tokens
            )
        return {"ids": np.asarray(tokenizer.cut(ids), np.int32)}

    def bucket(self, row: Row) -> Hashable:
        """The length that the row is padded to."""
        return bucket(len(row["ids"]))

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        ids, mask = padded([row["ids"].tolist() for row in rows], bucket(len(rows[0]["ids"])))
        return {"ids": ids, "mask": mask}


def text_of(weights: str) -> Text:
    """The input of a text network with these weights, a package or the folder of an import.

    Raises ConfigError where they are not there.
    """
    return Text(weights, WordPiece(_file(weights)).sha256)


def _file(weights: str) -> pathlib.Path:
    package = packages.find(weights)
    return (pathlib.Path(weights) if package is None else package.path.parent) / TOKENIZER


@functools.lru_cache(maxsize=4)
def _tokenizer(weights: str, sha256: str, max_tokens: int) -> WordPiece:
    tokenizer = WordPiece(_file(weights), max_tokens)
    if tokenizer.sha256 != sha256:
        raise ConfigError(
            f"{_file(weights)}: its sha256 is {tokenizer.sha256}, the model was made with "
            f"{sha256}; "
            "install that version, or index again"
        )
    return tokenizer
