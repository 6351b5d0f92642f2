"""Embeddings that an interrupted indexing has made already: an append-only log, so that the next
run goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float32

from jax3dret.core.types import DataError

_NAMES = ("embedded.partial.jsonl", "embedded.partial.f32")


class Journal:
    """Rows by key, in two files of `folder`. A last entry that was cut short, or those of another
    header, are dropped.

    Raises:
        DataError: another process has it open.
    """

    def __init__(self, folder: pathlib.Path, header: Mapping[str, Any], width: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._width = width
        self._paths = tuple(folder / name for name in _NAMES)
        self._keys_file, self._rows_file = (path.open("a+b") for path in self._paths)
        try:
            _lock(self._keys_file.fileno(), folder)
            lines = self._read_keys()
            head = json.dumps(dict(header), sort_keys=True)
            rows = os.fstat(self._rows_file.fileno()).st_size // (4 * width)
            keys = lines[1 : rows + 1] if lines[:1] == [head] else []
            # Written anew, so that what was cut short is gone from both files.
            self._keys_file.truncate(0)
            self._write(self._keys_file, "".join(line + "\n" for line in (head, *keys)).encode())
            self._rows_file.truncate(4 * width * len(keys))
        except BaseException:
            self._close()
            raise
        self.place: dict[str, int] = {key: row for row, key in enumerate(keys)}
        self._count = len(keys)

    def append(self, keys: Sequence[str], rows: Float32[np.ndarray, "N D"]) -> None:
        """Rows first, then their keys: a key in the log has its row."""
        self._write(self._rows_file, np.ascontiguousarray(rows, np.float32).tobytes())
        self._write(self._keys_file, "".join(key + "\n" for key in keys).encode())
        self.place.update({key: self._count + i for i, key in enumerate(keys)})
        self._count += len(keys)

    def rows(self) -> Float32[np.ndarray, "N D"]:
        """All rows, as a read-only memory map."""
        if not self._count:
            return np.empty((0, self._width), np.float32)
        return np.memmap(self._paths[1], np.float32, "r", shape=(self._count, self._width))

    def remove(self) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if not self._count:
            self.remove()

    def _close(self) -> None:
        self._keys_file.close()
        self._rows_file.close()

    def _read_keys(self) -> list[str]:
        self._keys_file.seek(0)
        text = self._keys_file.read().decode("utf-8", "replace")
        return text[: text.rfind("\n") + 1].splitlines()

    @staticmethod
    def _write(file: Any, data: bytes) -> None:
        file.write(data)
        file.flush()


def _lock(descriptor: int, folder: pathlib.Path) -> None:
    with contextlib.suppress(
        ImportError
    ):  # no such locks on this system: one run at a time is then the user's care
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(
                f"{folder}: another `jax3dret index` is writing there; wait for it"
            ) from None
