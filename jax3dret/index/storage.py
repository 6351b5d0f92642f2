"""An index on disk: `index.json`, which names a data folder beside it that holds ids.json,
vectors.npy and, maybe, a tree.

`index.json` is written last and by rename, so a reader finds the old index or the new one, whole.
It records the size of every data file, so a file that was cut short is found before anything reads
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from jax3dret.core.files import read_json_object, write_json
from jax3dret.core.types import ConfigError, DataError

FORMAT = 1
_DATA = re.compile(r"data-\d{6}")
_KEYS = {
    "distance",
    "kind",
    "scoring",
    "requested_scoring",
    "target_recall",
    "items",
    "width",
    "recall_at_10",
    "tree",
    "meta",
}


def write(
    folder: pathlib.Path,
    entry: dict[str, Any],
    vectors: np.ndarray,
    ids: list[str],
    write_tree: Callable[[pathlib.Path], None] | None,
) -> None:
    """Writes an index into `folder`, then removes the data folders of earlier ones.

    Raises: DataError: `folder` is a file. ConfigError: what is there is no index of this version.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; an index is a folder")
    check_replaceable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    old = [path for path in folder.iterdir() if _DATA.fullmatch(path.name)]
    number = 1 + max((int(path.name[5:]) for path in old), default=0)
    data = folder / f"data-{number:06d}"
    try:
        data.mkdir()
        (data / "ids.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
        with (data / "vectors.npy").open("wb") as file:
            np.save(file, np.ascontiguousarray(vectors), allow_pickle=False)
        if write_tree is not None:
            write_tree(data / "scann")
        sizes = {
            path.relative_to(data).as_posix(): path.stat().st_size
            for path in sorted(data.rglob("*"))
            if path.is_file()
        }
        for name in sizes:
            _sync(data / name)
        described = {"format": FORMAT, "data": data.name, "files": sizes, **entry}
        write_json(folder / "index.json", described, allow_nan=False, sync=True)
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)
        raise
    for path in filter(_is_data, old):
        shutil.rmtree(path, ignore_errors=True)


def check_replaceable(folder: pathlib.Path) -> None:
    """Raises ConfigError for a folder whose index.json is another program's, or another version's.

    A damaged one counts as this one's where a data folder of an index lies beside it.
    """
    path = folder / "index.json"
    if not path.exists() and not path.is_symlink():
        return
    entry: dict[str, Any] = {}
    with contextlib.suppress(DataError):
        entry = read_json_object(path)
    if {"format", "data", "files"} <= entry.keys() and _DATA.fullmatch(str(entry["data"])):
        if entry["format"] != FORMAT:
            raise ConfigError(
                f"{path}: format {entry['format']}, of another version of jax3dret (this one writes "
                f"{FORMAT}), is left alone; give another folder"
            )
        return
    if not any(_is_data(each) for each in folder.iterdir()):
        raise ConfigError(
            f"{path}: was not written by jax3dret and is left alone; give a new folder"
        )


def _is_data(path: pathlib.Path) -> bool:
    """Whether a folder holds what `write` begins with, and is not only called as its folders are."""
    return bool(_DATA.fullmatch(path.name)) and (path / "ids.json").is_file()


def _sync(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read(folder: pathlib.Path) -> tuple[dict[str, Any], np.ndarray, list[str], pathlib.Path]:
    """(entry, vectors as a read-only memory map, ids, the tree's folder). Raises DataError naming
    what is wrong.
    """
    path = folder / "index.json"
    if not path.is_file():
        raise DataError(f"{path}: not found; {folder} is not an index")
    try:
        entry = read_json_object(path)
    except DataError as error:
        raise DataError(f"{error}; build the index again") from None
    if entry.get("format") != FORMAT:
        raise DataError(f"{path}: format {entry.get('format')}; this version reads {FORMAT}")
    if missing := sorted(({"data", "files"} | _KEYS) - entry.keys()):
        raise DataError(f"{path}: lacks {', '.join(missing)}; build the index again")
    if not _DATA.fullmatch(str(entry["data"])):
        raise DataError(f"{path}: data folder {entry['data']!r} is not one that an index writes")
    data = folder / entry["data"]
    for name, size in entry["files"].items():
        file = data / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            what = (
                "is missing"
                if found is None
                else f"has {found} bytes, not the {size} that were written"
            )
            raise DataError(f"{file}: {what}; build the index again")
    try:
        vectors = np.load(data / "vectors.npy", mmap_mode="r", allow_pickle=False)
        ids = json.loads((data / "ids.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{data}: {str(error).splitlines()[0]}; build the index again") from None
    if vectors.shape != (entry["items"], entry["width"]) or not isinstance(ids, list):
        raise DataError(
            f"{data}: holds {vectors.shape} vectors, not ({entry['items']}, {entry['width']}); "
            "build it again"
        )
    return entry, vectors, ids, data / "scann"
