"""The keys of files by path, size and times, so that what has not changed is not read again.

The time at which a file's own entry last changed is among them: a copy that is given the old
modification time has another.
"""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from jax3dret.core import files
from jax3dret.core.types import DataError
from jax3dret.geometry.mesh_formats import gltf_files
from jax3dret.inputs import item

_RECENT_NS = 2_000_000_000


class Hashes:
    """What a folder's hashes.json says; only a shortcut, so a broken one is as good as none."""

    def __init__(self, path: pathlib.Path, up_axis: str | None):
        self._path, self._up_axis = path, up_axis
        self._known: dict[str, Any] = {}
        self._stamps: dict[str, tuple[int, int, int]] = {}
        with contextlib.suppress(DataError):
            value = files.read_json_object(path)
            same = value.get("up_axis") == up_axis and value.get("readers") == item.READERS
            known = value.get("files")
            self._known = known if same and isinstance(known, dict) else {}

    def get(self, path: str) -> str | None:
        """The key of a file that has not changed since it was read; None for any other."""
        with contextlib.suppress(OSError):
            status = pathlib.Path(path).stat()
            stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            self._stamps[path] = stamp
            known = self._known.get(path)
            # Files beside a glTF hold its numbers, and their times are not looked at.
            if (
                isinstance(known, list)
                and known[:-1] == list(stamp)
                and isinstance(known[-1], str)
                and not gltf_files.has_side_files(path)
            ):
                return known[-1]
        return None

    def save(self, keys: Mapping[str, str]) -> None:
        """keys: by path, of the files that were asked for."""
        # A file written moments ago could change once more within the resolution of its time.
        latest = time.time_ns() - _RECENT_NS
        settled = {p: [*s, keys[p]] for p, s in self._stamps.items() if p in keys and s[1] < latest}
        made = {"up_axis": self._up_axis, "readers": item.READERS}
        files.write_json(self._path, {**made, "files": settled})
