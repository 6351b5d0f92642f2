"""Rows computed once from the records of a split, such as rendered views or frozen features, joined
to the records again.
"""

from __future__ import annotations

import operator
import os
import pathlib
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from jax3dret.core.types import DataError, Record, Source


@runtime_checkable
class Rows(Protocol):
    """Random access to one array per record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...


def open_rows(path: str | os.PathLike[str]) -> Rows:
    """Opens a `.npy` file, memory-mapped, or a store of rendered views. Raises DataError for a file
    that is neither.
    """
    file = pathlib.Path(path)
    if file.suffix != ".npy":
        from jax3dret.data.views import open_views

        return open_views(file)
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be read as a .npy file ({error}); remove it and run again"
        ) from error


class WithRows:
    """The records of a source, each with its row of every array under the array's key.

    Raises DataError, here, for an array whose number of rows is not the number of records, or whose
    key a record has already.
    """

    def __init__(self, source: Source, rows: Mapping[str, Rows]) -> None:
        for key, values in rows.items():
            if len(values) != len(source):
                raise DataError(
                    f"{source.name}, split '{source.split}': '{key}' has {len(values)} rows for "
                    f"{len(source)} records; "
                    "it was made from other data: remove it and run again"
                )
            if key in source.features:
                raise DataError(
                    f"{source.name}: its records have a '{key}' already; give the rows another name"
                )
        self._source, self._rows = source, dict(rows)

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return f"WithRows({self._source!r}, {', '.join(self._rows)})"

    def __getitem__(self, index: int) -> Record:
        index = operator.index(index)
        rows = {key: np.asarray(values[index]) for key, values in self._rows.items()}
        return {**self._source[index], **rows}
