"""An input of a user's own, outside the package: what is written between the lines of a text."""

import dataclasses
from typing import ClassVar

import numpy as np


@dataclasses.dataclass(frozen=True)
class Letters:
    """ "letters" int32[T], of any length; a batch is padded to its longest, with what is padding in
    "spare".
    """

    alphabet: tuple = ("a", "b", "c")
    accepts: ClassVar[tuple] = ("text",)
    version: ClassVar[int] = 3

    def row(self, loaded, rng):
        return {"letters": np.array([self.alphabet.index(c) for c in loaded.value], np.int32)}

    def bucket(self, row):
        return len(row["letters"]) > 8

    def batch(self, rows):
        longest = max(len(row["letters"]) for row in rows)
        letters = np.zeros((len(rows), longest), np.int32)
        spare = np.ones((len(rows), longest), bool)
        for i, row in enumerate(rows):
            letters[i, : len(row["letters"])] = row["letters"]
            spare[i, : len(row["letters"])] = False
        return {"letters": letters, "spare": spare}
