"""An index on disk: `index.json`, which names a data folder beside it that holds ids.json,
vectors.npy and, maybe, a tree.

`index.json` is written last and by rename, so a reader finds the old index or the new one, whole.
It records the size of every data file, so a file that was cut short is found before anything reads
it.
"""

from __future__ import annotations

import contextlib
import json
import math
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
# What to do about one that is damaged.
AGAIN = "build the index again, with --weights WORKDIR"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int) and value >= 0


def _is_one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: value in values


# What an entry holds, and whether a value is one that `Index.save` writes there.
_KEYS: dict[str, Callable[[Any], bool]] = {
    "data": lambda value: isinstance(value, str),
    "files": lambda value: (
        isinstance(value, dict)
        and {"ids.json", "vectors.npy"} <= value.keys()
        and all(map(_is_count, value.values()))
    ),
    "distance": _is_one_of("cosine", "euclidean"),
    "kind": _is_one_of("scann", "exact"),
    "scoring": _is_one_of("brute_force", "tree_ah"),
    "requested_scoring": _is_one_of("auto", "brute_force", "tree_ah"),
    "target_recall": lambda value: _is_number(value) and 0 < value <= 1,
    "items": _is_count,
    "width": _is_count,
    "recall_at_10": lambda value: _is_number(value) and 0 <= value <= 1,
    "build_s": _is_number,
    "tree": lambda value: isinstance(value, dict) and all(map(_is_count, value.values())),
    "meta": lambda value: isinstance(value, dict),
}
_TREE = {"leaves", "leaves_searched"}


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
                f"{path}: format {entry['format']}, of another version of jax3dret (this one "
                f"writes {FORMAT}), is left alone; give another folder"
            )
        return
    if not any(_is_data(each) for each in folder.iterdir()):
        raise ConfigError(
            f"{path}: was not written by jax3dret and is left alone; give a new folder"
        )


def _is_data(path: pathlib.Path) -> bool:
    """Whether a folder holds what `write` begins with, and not only has such a name."""
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
        raise DataError(f"{error}; {AGAIN}") from None
    if entry.get("format") != FORMAT:
        raise DataError(f"{path}: format {entry.get('format')}; this version reads {FORMAT}")
    if missing := sorted(_KEYS.keys() - entry.keys()):
        raise DataError(f"{path}: lacks {', '.join(missing)}; {AGAIN}")
    for key, is_right in _KEYS.items():
        if not is_right(entry[key]):
            raise DataError(f"{path}: its {key} is {_short(entry[key])}; {AGAIN}")
    if entry["scoring"] == "tree_ah" and not entry["tree"].keys() >= _TREE:
        raise DataError(f"{path}: its tree is {_short(entry['tree'])}; {AGAIN}")
    if not _DATA.fullmatch(entry["data"]):
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
            raise DataError(f"{file}: {what}; {AGAIN}")
    vectors, ids = _vectors(data / "vectors.npy"), _ids(data / "ids.json")
    if vectors.shape != (entry["items"], entry["width"]):
        raise DataError(
            f"{data / 'vectors.npy'}: holds {vectors.shape} vectors, not ({entry['items']}, "
            f"{entry['width']}); {AGAIN}"
        )
    return entry, vectors, ids, data / "scann"


def _vectors(path: pathlib.Path) -> np.ndarray:
    try:
        vectors = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError):
        raise DataError(f"{path}: is no array that NumPy wrote; {AGAIN}") from None
    if vectors.dtype != np.float32:
        raise DataError(f"{path}: holds {vectors.dtype}, not float32; {AGAIN}")
    return vectors


def _ids(path: pathlib.Path) -> list[str]:
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}; {AGAIN}") from None
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise DataError(f"{path}: is no list of ids; {AGAIN}")
    return ids


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
