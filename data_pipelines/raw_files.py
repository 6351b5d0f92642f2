"""Raw files as users have them: where they lie, what a file is if it is not what its name says, and
what is missing.

A failed download often leaves an HTML page under the name of the archive, and a clone without Git
LFS leaves three lines of text under the name of a mesh. Both are said in so many words, because the
parser's own complaint would not help anyone.
"""

from __future__ import annotations

import gzip
import json
import logging
import pathlib
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import h5py

from jax3dret.core.files import pointer
from jax3dret.core.types import DataError

logger = logging.getLogger("jax3dret")

SPLITS = ("train", "val", "test")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar")
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head)", re.IGNORECASE)


def hidden(path: pathlib.Path, root: pathlib.Path) -> bool:
    """Files and folders that archivers and desktops leave behind."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts)


def places(manual_dir: pathlib.Path, depth: int = 1) -> list[pathlib.Path]:
    """manual_dir and its folders down to `depth` levels, nearest first: archives unpack with or
    without a top folder.
    """
    found, level = [manual_dir], [manual_dir]
    for _ in range(depth):
        level = [
            p
            for here in level
            for p in sorted(here.iterdir())
            if p.is_dir() and not hidden(p, manual_dir)
        ]
        found += level
    return found


def sizes(root: pathlib.Path, paths: Iterable[pathlib.Path]) -> dict[str, int]:
    """{path relative to root: bytes}, as the build driver wants it of what will be read."""
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in paths}


def not_the_file(path: pathlib.Path) -> str | None:
    """What lies under the name of a data file if it is an empty file, an HTML page or a pointer
    of Git LFS or git-annex; else None.
    """
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if not head:
        return "is empty (0 bytes); copy or download it again"
    if _HTML.match(head):
        return "is an HTML page (a failed download?); download the file itself, after logging in if its site asks for it"
    pointed = pointer(head)
    return None if pointed is None else f"is {pointed[0]}; {pointed[1]}"


def packed(manual_dir: pathlib.Path) -> str:
    """For the end of "nothing usable here": the archives that lie there unopened, or what they are
    instead. May be empty.
    """
    found = [
        p for p in sorted(manual_dir.iterdir()) if p.is_file() and p.suffix.lower() in _ARCHIVES
    ]
    notes = []
    for path in found[:4]:
        wrong = not_the_file(path)
        notes.append(
            f"{path.name} {wrong}" if wrong else f"{path.name} is not unpacked; unpack it there"
        )
    more = f"; and {len(found) - 4} more archives" if len(found) > 4 else ""
    return f"; {'; '.join(notes)}{more}" if notes else ""


def read_text(path: pathlib.Path, wanted: str) -> str:
    """The text of a list file; DataError with `wanted` (what it should be) if it is something else."""
    wrong = not_the_file(path)
    if wrong:
        raise DataError(f"{path}: {wrong}; {wanted} is needed")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read as text ({first}); {wanted} is needed") from None


def read_json(path: pathlib.Path, wanted: str) -> Any:
    """The value of a JSON file, gzipped if its name ends in .gz."""
    wrong = not_the_file(path)
    if wrong:
        raise DataError(f"{path}: {wrong}; {wanted} is needed")
    try:
        data = path.read_bytes()
        return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        first = str(error).partition("\n")[0]
        raise DataError(
            f"{path}: not readable JSON ({first}); {wanted} is needed; copy it again"
        ) from None


def open_hdf5(path: pathlib.Path) -> h5py.File:
    """An HDF5 file opened for reading; DataError if it is none."""
    wrong = not_the_file(path)
    if wrong:
        raise DataError(f"{path}: {wrong}; an HDF5 file is needed")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a readable HDF5 file ({first}); copy it again") from None


def count_notes(counts: Mapping[str, int], published: Mapping[str, int]) -> dict[str, Any]:
    """The part of the manifest's "source" that says how many there are, how many were published,
    and whether all are there.
    """
    return {
        "counts": dict(counts),
        "published_counts": dict(published),
        "complete": all(counts.get(split, 0) == published[split] for split in published),
    }


def warn_counts(
    name: str, root: pathlib.Path, counts: Mapping[str, int], published: Mapping[str, int]
) -> None:
    """One warning for every split whose number of shapes is not the published one."""
    for split, number in published.items():
        if counts.get(split, 0) != number:
            logger.warning(
                "%s: %s has %d shapes in the split '%s', the published data set %d",
                name,
                root,
                counts.get(split, 0),
                split,
                number,
            )


def missing_notes(missing: Sequence[str]) -> dict[str, Any]:
    """The part of the manifest's "source" that names files which a split lists and which are not
    there.
    """
    return {"missing": len(missing), "missing_first": list(missing[:20])}


def warn_missing(name: str, missing: Sequence[str], total: int) -> None:
    """One warning for all files that a split lists and that are not there."""
    if missing:
        logger.warning("%s: %s", name, _missing(missing, total))


def require_some(root: pathlib.Path, missing: Sequence[str], total: int, wanted: str) -> None:
    """DataError if not one of the files that a split lists is there. wanted: what is needed."""
    if total == len(missing):
        raise DataError(f"{root}: {_missing(missing, total)}; {wanted}{packed(root)}")


def _missing(missing: Sequence[str], total: int) -> str:
    return f"{len(missing)} of {total} files of the split are missing (first: {missing[0] if missing else 'none listed'})"
