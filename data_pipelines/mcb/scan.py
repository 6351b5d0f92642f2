"""The tree of the Mechanical Components Benchmark: train/<class>/<id>.obj, test/<class>/<id>.obj.

With a published split file (mcb_v<number>.json or .tsv) beside it, samples, classes and splits are
those of the file, val included. The paper's cached clouds (<key>.npy) are read with that file where
there is no tree.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from data_pipelines.cached_clouds import find_cache, has_cache
from data_pipelines.mesh_records import MeshItem
from data_pipelines.raw_files import (
    SPLITS,
    hidden,
    missing_notes,
    packed,
    places,
    require_some,
    sizes,
)
from data_pipelines.split_table import SplitTable, find_split_table
from jax3dret.core.types import DataError

# Number of classes -> (name, objects), as the benchmark's paper states them.
PARTS = {68: ("A", 58_696), 25: ("B", 18_038)}
WANTED = (
    "train/<class>/<id>.obj and test/<class>/<id>.obj are needed, in it or one level below, or the "
    "cached clouds (<key>.npy) with mcb_v0.json"
)


@dataclasses.dataclass(frozen=True)
class Scan:
    """items: split -> its meshes, sorted by class and id. remark: how the counts differ from the
    published ones, or "".

    missing: files that the split file lists (listed: how many it does) and that are not there.
    """

    root: pathlib.Path
    class_names: tuple[str, ...]
    items: dict[str, list[MeshItem]]
    files: dict[str, int]
    notes: dict[str, Any]
    remark: str
    missing: list[str]
    listed: int


def scan(manual_dir: pathlib.Path) -> Scan:
    """Finds the tree in manual_dir or directly below it.

    Raises:
        DataError: there is none, there are several, or a split file fits nothing.
    """
    found = [place for place in places(manual_dir) if _is_tree(place)]
    if not found and (cached := _cached(manual_dir)):
        return cached
    if not found:
        raise DataError(
            f"{manual_dir}: no Mechanical Components Benchmark there; {WANTED}{packed(manual_dir)}"
        )
    if len(found) > 1:
        trees = ", ".join(str(place) for place in found)
        raise DataError(
            f"{manual_dir}: holds {len(found)} trees of parts: {trees}; give one as manual_dir"
        )
    root = found[0]
    paths = {
        split: sorted(
            path
            for path in (root / split).rglob("*")
            if path.suffix.lower() == ".obj"
            and not hidden(path, root)
            and len(path.relative_to(root).parts) > 2
        )
        for split in SPLITS
        if (root / split).is_dir()
    }
    table = find_split_table(root, "mcb") or (
        find_split_table(manual_dir, "mcb") if root != manual_dir else None
    )
    missing: list[str] = []
    if table is None:
        items = {
            split: [_item(root, path, path.relative_to(root).parts[1]) for path in part]
            for split, part in paths.items()
            if part
        }
        names = tuple(sorted({item.label for part in items.values() for item in part}))
    else:
        items, missing = _by_table(root, [path for part in paths.values() for path in part], table)
        names = table.class_names
    return _scan(root, "mcb", names, items, table, missing)


def _scan(
    root: pathlib.Path,
    kind: str,
    names: tuple[str, ...],
    items: dict[str, list[MeshItem]],
    table: SplitTable | None,
    missing: list[str],
) -> Scan:
    total = sum(len(part) for part in items.values())
    part = PARTS.get(len(names))
    notes = {
        "kind": kind,
        "part": part[0] if part else "other",
        "manual_dir": root.name,
        "counts": {split: len(part) for split, part in items.items()},
        "published_counts": {
            f"{name} ({classes} classes)": number for classes, (name, number) in PARTS.items()
        },
        "complete": part is not None and total == part[1],
        "split_file": table.file.name if table else None,
        **missing_notes(missing),
    }
    return Scan(
        root=root,
        class_names=names,
        items=items,
        files=sizes(root, [item.path for part in items.values() for item in part]),
        notes=notes,
        remark=_remark(len(names), total),
        missing=missing,
        listed=len(table.rows) if table else total,
    )


def _cached(manual_dir: pathlib.Path) -> Scan | None:
    here = places(manual_dir)
    cache = next((find_cache(place, "mcb") for place in here if has_cache(place, "mcb")), None)
    if cache is None:
        return None
    table = cache.table
    return _scan(cache.root, "npy", table.class_names, cache.items, table, cache.missing)


def _is_tree(place: pathlib.Path) -> bool:
    return all(next((place / split).glob("*/*.[oO][bB][jJ]"), None) for split in ("train", "test"))


def _item(root: pathlib.Path, path: pathlib.Path, label: str) -> MeshItem:
    name = path.relative_to(root).as_posix()
    return MeshItem(path, name, label, name)


def _by_table(
    root: pathlib.Path, paths: list[pathlib.Path], table: SplitTable
) -> tuple[dict[str, list[MeshItem]], list[str]]:
    """Rows joined to files by the end of their path, or by the key where the table has no paths."""
    by_name: dict[str, list[pathlib.Path]] = {}
    for path in paths:
        for name in (
            path.relative_to(root).as_posix(),
            f"{path.parent.name}/{path.name}",
            path.name,
            path.stem,
        ):
            by_name.setdefault(name, []).append(path)
    items: dict[str, list[MeshItem]] = {split: [] for split in table.counts}
    missing = []
    for row in table.rows:
        parts = pathlib.PurePosixPath((row.path or row.key).replace("\\", "/")).parts
        wanted = ["/".join(parts[-depth:]) for depth in range(min(3, len(parts)), 0, -1)]
        found = next((by_name[name] for name in wanted if name in by_name), [])
        if len(found) > 1:
            names = ", ".join(path.relative_to(root).as_posix() for path in found[:2])
            raise DataError(
                f"{table.file}: '{row.key}' fits {len(found)} files ({names}); its path must tell "
                "them apart"
            )
        if found:
            items[row.split].append(_item(root, found[0], row.label))
        else:
            missing.append("/".join(parts))
    require_some(
        root, missing, len(table.rows), f"{table.file.name} lists other files than lie there"
    )
    return {
        split: sorted(part, key=lambda item: (item.label, item.name))
        for split, part in items.items()
    }, missing


def _remark(classes: int, total: int) -> str:
    part = PARTS.get(classes)
    if part and part[1] == total:
        return ""
    if part:
        return f"has {total:,} parts, the published part {part[0]} {part[1]:,}"
    parts = " and ".join(
        f"part {name} {number:,} of {n} classes" for n, (name, number) in PARTS.items()
    )
    return f"has {total:,} parts of {classes} classes; the published benchmark has {parts}"
