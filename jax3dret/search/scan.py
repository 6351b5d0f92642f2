"""The files that go into a gallery: folders are walked, each file gets an id, the path relative to
its source.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence

from jax3dret.core.files import check_readable
from jax3dret.core.types import ConfigError
from jax3dret.search.loose_text import is_loose_text

# What a text for people is counted as, where a cloud may have the same extension.
TEXT = ".txt without points"


@dataclasses.dataclass(frozen=True)
class File:
    """id: relative path with "/"; path: absolute; source: which of `Scan.sources` it is relative
    to.
    """

    id: str
    path: str
    source: int


@dataclasses.dataclass(frozen=True)
class Scan:
    """files: sorted by id. sources: absolute folders. skipped: what cannot be entered or is of a
    format that is known and not read, as {"file", "path", "reason"}. others: extensions that are
    not read, with counts.
    """

    files: list[File]
    sources: list[str]
    skipped: list[dict[str, str]]
    others: dict[str, int]


def scan(
    sources: Sequence[str | os.PathLike[str]],
    *,
    extensions: Collection[str],
    exclude: pathlib.Path,
    unread: Mapping[str, str] | None = None,
) -> Scan:
    """The files of `sources` with these extensions; a source is a folder (walked, links followed)
    or a file.

    Hidden files, other indexes and the folder `exclude` are passed over, and in a folder each .txt
    that begins with no points. A file that two sources hold counts once, for the first. unread: by
    extension, why files in a folder that are expected to be found are not.

    Raises:
        ConfigError: a source that does not exist; two files with one id. DataError: a source that
            cannot be read.
    """
    found: dict[str, File] = {}
    taken: set[str] = set()
    folders: list[str] = []
    skipped: list[dict[str, str]] = []
    others: collections.Counter[str] = collections.Counter()

    def add(path: pathlib.Path, root: pathlib.Path) -> None:
        name, absolute = path.relative_to(root).as_posix(), str(path)
        if absolute in taken:
            return
        listed = _listed(path, root, "the file's name is not UTF-8; rename it")
        if listed["file"] != name:
            skipped.append(listed)
            return
        if name in found:
            raise ConfigError(
                f"{found[name].path} and {path} would both be '{name}'; give a folder above both "
                "as the one SOURCE"
            )
        if str(root) not in folders:
            folders.append(str(root))
        taken.add(absolute)
        found[name] = File(name, absolute, folders.index(str(root)))

    check_sources(sources)
    for source in sources:
        root = pathlib.Path(source).expanduser().absolute()
        if root.is_dir():
            _walk(root, exclude.absolute(), extensions, unread or {}, add, skipped, others)
        else:
            add(root, root.parent)
    once = list({entry["path"]: entry for entry in skipped}.values())  # a folder inside another
    return Scan(
        [found[name] for name in sorted(found)], folders, once, dict(sorted(others.items()))
    )


def check_sources(sources: Sequence[str | os.PathLike[str]]) -> None:
    """Raises ConfigError for a source that does not exist or has no name, DataError for a folder
    that cannot be entered.
    """
    for source in sources:
        if not os.fspath(source):
            raise ConfigError(
                "a SOURCE is empty; give a folder of files, or a file ('.' for this one)"
            )
        path = pathlib.Path(source).expanduser()
        if not path.exists():
            raise ConfigError(
                f"{source}: no such file or folder; SOURCE is a folder of files, or a file"
            )
        if path.is_dir():
            check_readable(path)


def _walk(
    root: pathlib.Path,
    exclude: pathlib.Path,
    extensions: Collection[str],
    unread: Mapping[str, str],
    add: Callable[[pathlib.Path, pathlib.Path], None],
    skipped: list[dict[str, str]],
    others: collections.Counter[str],
) -> None:
    def note(error: OSError) -> None:
        reason = f"the folder cannot be read ({error.strerror})"
        skipped.append(_listed(pathlib.Path(str(error.filename)), root, reason))

    entered: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(root, onerror=note, followlinks=True):
        status = pathlib.Path(here).stat()
        seen = (
            status.st_dev,
            status.st_ino,
        ) in entered  # a link back to a folder above or beside it
        entered.add((status.st_dev, status.st_ino))
        if seen or pathlib.Path(here) == exclude or _is_index(names, folders):
            folders[:] = []
            continue
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name != "__MACOSX"
        )
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = pathlib.Path(here, name)
            suffix = path.suffix.lower()
            if suffix == ".txt" and suffix in extensions and is_loose_text(path):
                others[TEXT] += 1
            elif suffix in extensions:
                add(path, root)
            elif suffix in unread:
                skipped.append(_listed(path, root, unread[suffix]))
            else:
                others[suffix or "(no extension)"] += 1


def _listed(path: pathlib.Path, root: pathlib.Path, reason: str) -> dict[str, str]:
    """An entry of skipped.json; of a name that is not UTF-8, its bytes are escaped."""
    name, at = (
        text.encode("utf-8", "backslashreplace").decode()
        for text in (os.path.relpath(path, root).replace(os.sep, "/"), str(path))
    )
    return {"file": name, "path": at, "reason": reason}


def _is_index(names: list[str], folders: list[str]) -> bool:
    return "index.json" in names and any(name.startswith("data-") for name in folders)
