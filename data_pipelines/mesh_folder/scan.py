"""What a folder of meshes says about classes and splits.

<folder>/<class>/...                 classes, split here: about 80 % train, 20 % test of each class
<folder>/<class>/{train,test}/...    classes and splits (ModelNet's way)
<folder>/{train,test,val}/<class>/... splits and classes (MCB's way)
<folder>/*                           no classes: all are "unlabelled"
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import pathlib
from typing import Any

from jax3dret.core.files import check_readable
from jax3dret.core.types import DataError
from jax3dret.geometry.mesh_formats import unread
from jax3dret.geometry.meshes import EXTENSIONS
from jax3dret.geometry.up_axis import up_axis_of

UNLABELLED = "unlabelled"
SPLITS = ("train", "test", "val")
# Folder names, in lower case, that mean a split.
_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
} | {
    "valid": "val",
    "validation": "val",
}
TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class Scan:
    """files: {path relative to the folder: bytes}. items: split -> (relative path, class name),
    sorted by path.

    notes go into the manifest; unreadable lists folders and links that could not be followed and
    files of known 3D formats that are not read, as {"file", "reason"}. up_axis: of the records.
    """

    files: dict[str, int]
    items: dict[str, list[tuple[str, str]]]
    class_names: tuple[str, ...]
    up_axis: str
    notes: dict[str, Any]
    unreadable: list[dict[str, str]]


def scan(folder: pathlib.Path) -> Scan:
    """Lists the meshes below `folder` and gives each a class and a split.

    Hidden files are passed over; files of other kinds are counted by extension. The axis of the
    records is that of the files where they agree, as in a folder of glTF alone; else "z".

    Raises:
        DataError: there is no mesh, or the folder cannot be read.
    """
    check_readable(folder)
    files, others, unreadable = _walk(folder)
    if not files:
        held = [f"{n} {kind}" for kind, n in sorted(others.items())]
        held += [f"{entry['file']}, which {entry['reason']}" for entry in unreadable[:1]]
        seen = f"; it holds {', '.join(held)}" if held else ""
        raise DataError(
            f"{folder}: no meshes in it or below it; supported are {', '.join(EXTENSIONS)}{seen}"
        )
    paths = {name: pathlib.PurePosixPath(name).parts for name in sorted(files)}
    first = {parts[0] for parts in paths.values() if len(parts) > 1}
    by_split_first = {"train", "test"} <= {_split_of(name) for name in first} <= set(SPLITS)
    inner = [parts for parts in paths.values() if len(parts) > 1]
    by_class_first = bool(inner) and all(len(parts) > 2 and _split_of(parts[1]) for parts in inner)

    splits: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    single = 0
    if by_split_first:
        layout = "split/class"
        for name, parts in paths.items():
            # Beside the split folders there is no split to read: such a file can be searched for,
            # not tested on.
            split = (_split_of(parts[0]) if len(parts) > 1 else None) or "train"
            splits[split].append((name, parts[1] if len(parts) > 2 else UNLABELLED))
    elif by_class_first:
        layout = "class/split"
        for name, parts in paths.items():
            split = (_split_of(parts[1]) if len(parts) > 2 else None) or "train"
            splits[split].append((name, parts[0] if len(parts) > 2 else UNLABELLED))
    else:
        layout = "class" if first else "flat"
        members: dict[str, list[str]] = collections.defaultdict(list)
        for name, parts in paths.items():
            members[parts[0] if len(parts) > 1 else UNLABELLED].append(name)
        tests = {name for names in members.values() for name in _test_part(names)}
        single = sum(len(names) == 1 for names in members.values())
        for label, names in members.items():
            for name in names:
                splits["test" if name in tests else "train"].append((name, label))
    classes = tuple(sorted({label for part in splits.values() for _, label in part}))
    axes = {up_axis_of(name) for name in files}
    notes = {
        "kind": "mesh_folder",
        "manual_dir": folder.name,
        "layout": layout,
        "labelled": classes != (UNLABELLED,),
        "single_item_classes": single,
        "files_without_class": sum(
            label == UNLABELLED for part in splits.values() for _, label in part
        ),
        "other_files": dict(sorted(others.items())),
        "up_axis_from": "glTF specification" if axes == {"y"} else "assumed",
        "turned_to_up_axis": sum(up_axis_of(name) == "y" for name in files) * (len(axes) > 1),
    }
    return Scan(
        files=files,
        items={split: sorted(part) for split, part in splits.items() if part},
        class_names=classes,
        up_axis="y" if axes == {"y"} else "z",
        notes=notes,
        unreadable=unreadable,
    )


def _walk(folder: pathlib.Path) -> tuple[dict[str, int], dict[str, int], list[dict[str, str]]]:
    files: dict[str, int] = {}
    others: collections.Counter[str] = collections.Counter()
    unreadable: list[dict[str, str]] = []

    def note(error: OSError) -> None:
        name = pathlib.Path(str(error.filename)).relative_to(folder).as_posix()
        unreadable.append({"file": name, "reason": f"the folder cannot be read ({error.strerror})"})

    entered: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, onerror=note, followlinks=True):
        status = pathlib.Path(here).stat()
        if (status.st_dev, status.st_ino) in entered:  # a link back to a folder above or beside it
            folders[:] = []
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name != "__MACOSX"
        )
        for name in sorted(names):
            path = pathlib.Path(here, name)
            if name.startswith("."):
                continue
            relative = path.relative_to(folder).as_posix()
            readable = relative.encode("utf-8", "backslashreplace").decode()
            if path.suffix.lower() not in EXTENSIONS:
                if reason := unread.reason_of(name):
                    unreadable.append({"file": readable, "reason": reason})
                else:
                    others[path.suffix.lower() or "(no extension)"] += 1
                continue
            try:
                size = path.stat().st_size
            except OSError as error:  # a dangling link
                unreadable.append({"file": readable, "reason": str(error.strerror)})
                continue
            if readable != relative:
                unreadable.append(
                    {"file": readable, "reason": "the file's name is not UTF-8; rename it"}
                )
                continue
            files[relative] = size
    return files, dict(others), unreadable


def _split_of(folder: str) -> str | None:
    return _SPLIT_FOLDERS.get(folder.lower())


def _test_part(names: list[str]) -> list[str]:
    """A fifth of a class, at least one of two or more: those with the smallest hash of their path.

    The choice depends on names alone, so that it is the same on every machine. The only item of a
    class stays in train: in test it could find nothing of its kind.
    """
    if len(names) < 2:
        return []
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return ranked[: max(1, round(TEST_FRACTION * len(names)))]
