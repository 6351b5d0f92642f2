"""Looks through a few levels of folders for raw data, nearest first, without asking the disk about
every file.

`raw_files.places` does for one or two levels. Where parts of a data set lie deeper, beside folders
of many thousands of files, names are read but no file is touched, and a tree of too many folders is
an error instead of a walk of minutes.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

from jax3dret.core.types import DataError

_MOST_FOLDERS = 2_000


def entries(folder: pathlib.Path) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in a folder, sorted, hidden ones left out."""
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as found:
        for entry in found:
            if not entry.name.startswith(".") and entry.name != "__MACOSX":
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(files), sorted(folders)


def walk(
    root: pathlib.Path,
    *,
    depth: int,
    enter: Callable[[pathlib.Path, list[str], list[str]], Iterable[str]],
) -> Iterator[tuple[pathlib.Path, list[str], list[str]]]:
    """(folder, its files, its folders) of root and of what lies below it, nearest first, `depth`
    levels down.

    enter: (folder, files, folders) -> the folders in it that are to be looked into.

    Raises:
        DataError: more folders than a data set has above its many files.
    """
    level, visited = [root], 0
    for _ in range(depth + 1):
        below: list[pathlib.Path] = []
        for folder in level:
            visited += 1
            if visited > _MOST_FOLDERS:
                raise DataError(
                    f"{root}: holds more than {_MOST_FOLDERS:,} folders, too many to search; give "
                    "the folder of the data set"
                )
            files, folders = entries(folder)
            yield folder, files, folders
            below += [folder / name for name in enter(folder, files, folders)]
        level = below
