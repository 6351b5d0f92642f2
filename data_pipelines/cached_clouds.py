"""The published cache of clouds: a split file, and a `.npy` array for each sample that it lists.

The published code of ULIP-2 fine-tuning for geometric object retrieval (Computers & Graphics 122
(2024) 103993) reads every data set in this one form, so its own numbers are of these points:

    <stem>_v0.json                the split file, see `split_table`; also in a folder "splits"
    clouds/<key>.npy              [N, 3 or more], of which x, y, z are read; in any depth

The file of a sample is the last part of its "cache_path", or `<key>.npy` where the table has none.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.mesh_records import MeshItem, cloud_record
from data_pipelines.raw_files import SPLITS, missing_notes, not_the_file, require_some
from data_pipelines.split_table import Row, SplitTable, find_split_table
from jax3dret.core.types import DataError

POINTS = "as stored in the published cache"


class Cache(NamedTuple):
    """items: split -> clouds in the order of class and key, of the splits that the table has.
    missing: files of its samples that are not there. notes: for the manifest's "source".
    """

    root: pathlib.Path
    table: SplitTable
    items: dict[str, list[MeshItem]]
    missing: list[str]
    notes: dict[str, Any]


def find_cache(root: pathlib.Path, stem: str) -> Cache | None:
    """The cache whose split file is `<stem>_v*.json` or `.tsv` in `root` or its folder "splits";
    None where there is no such file, or not one array below `root`.

    Raises DataError for a split file that cannot be used, arrays of which it lists none, and an
    array that lies in two folders: caches of one data set may share their names.
    """
    table = find_split_table(root, stem) if has_cache(root, stem) else None
    if table is None:
        return None
    files = _files(root, table)
    missing = [cloud_file(row) for row in table.rows if cloud_file(row) not in files]
    require_some(root, missing, len(table.rows), f"the arrays that {table.file.name} lists")
    order = {name: i for i, name in enumerate(table.class_names)}
    items: dict[str, list[MeshItem]] = {split: [] for split in table.counts}
    for row in sorted(table.rows, key=lambda row: (order[row.label], row.key)):
        path = files.get(cloud_file(row))
        if path is not None:
            name = path.relative_to(root).as_posix()
            items[row.split].append(MeshItem(path, row.key, row.label, name))
    notes = {
        "split_file": table.file.name,
        "listed": table.counts,
        "without_published_cloud": without_cloud(table),
        **missing_notes(missing),
    }
    return Cache(root, table, items, missing, notes)


def has_cache(root: pathlib.Path, stem: str) -> bool:
    """Whether such a split file and any array are there; neither is read."""
    files = (
        root.glob(f"{at}{stem}_v*.{kind}") for at in ("", "splits/") for kind in ("json", "tsv")
    )
    has_table = any(True for found in files for _ in found)
    return has_table and next(root.rglob("*.npy"), None) is not None


def cloud_file(row: Row) -> str:
    """The name of a sample's array."""
    return pathlib.PurePosixPath(row.cache).name if row.cache else f"{row.key}.npy"


def _files(root: pathlib.Path, table: SplitTable) -> dict[str, pathlib.Path]:
    """The arrays of a table by name; not those of another cache, which lie below a split file of
    their own.
    """
    found = named_files(root, {cloud_file(row) for row in table.rows})
    others = {
        file.parent
        for kind in ("json", "tsv")
        for file in root.glob(f"*/*_v*.{kind}")
        if file != table.file and file.parent.name != "splits"
    }
    kept = {
        name: [path for path in paths if others.isdisjoint(path.parents)]
        for name, paths in found.items()
    }
    for name, paths in kept.items():
        if len(paths) > 1:
            at = " and ".join(path.relative_to(root).parent.as_posix() for path in paths[:2])
            raise DataError(
                f"{root}: the array {name} of {table.file.name} lies in {at}; give a folder that "
                "holds the clouds of one cache, and its split file"
            )
    return {name: paths[0] for name, paths in kept.items() if paths}


def named_files(root: pathlib.Path, names: set[str]) -> dict[str, list[pathlib.Path]]:
    """{name: every file of that name} of the wanted names, in any depth below `root`."""
    found: dict[str, list[pathlib.Path]] = {}
    for here, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
        for name in sorted(names.intersection(files)):
            found.setdefault(name, []).append(pathlib.Path(here, name))
    return found


def without_cloud(table: SplitTable) -> dict[str, int]:
    """How many samples of each split the published cache has no cloud of: its numbers are measured
    without them.
    """
    rows = [row for row in table.rows if row.cache is None]
    return {split: sum(row.split == split for row in rows) for split in SPLITS}


def cloud_examples(
    items: Iterable[MeshItem], *, skipped: list[dict[str, str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, record) of every cloud that can be used, in the order of items; the others go to
    `skipped` with their reason.
    """
    for item in items:
        try:
            example = cloud_record(read_cloud(item.path), item.identity)
        except DataError as error:
            skipped.append({"file": item.name, "reason": str(error)})
            continue
        yield item.identity, {**example, "label": item.label}


def read_cloud(path: pathlib.Path) -> np.ndarray:
    """x, y, z of a cached cloud, [N, 3]; further columns are not read, as the published code does
    it.

    Raises DataError, without the path, for what is no such array.
    """
    wrong = not_the_file(path)
    if wrong:
        raise DataError(wrong)
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"not a readable .npy array ({first}); copy it again") from None
    if rows.ndim != 2 or rows.shape[1] < 3 or rows.dtype.kind not in "fiu":
        raise DataError(f"holds {rows.dtype}{list(rows.shape)}; numbers [N, 3 or more] are needed")
    return rows[:, :3]
