"""A folder of INRs: a file each, and `manifest.json` that lists them.

    DIR/manifest.json                            what is there, sorted by file
    DIR/<source>.<architecture>.<function>.safetensors
    DIR/failed.json                              what could not be fitted, with reasons

Every file is whole or absent, so a store is usable at any moment of its making; a file that was
written and is not listed yet, because the process was killed between the two, is taken up by the
next writer. Nothing of the time or the machine is written: the same INRs give the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from jax3dret.core import files, lock
from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.field_file import SUFFIX, read_field, write_field

log = logging.getLogger("jax3dret")

MANIFEST, FAILED, EVALUATED = "manifest.json", "failed.json", "evaluated.json"
KIND, VERSION = "jax3dret store of fields", 1


@dataclasses.dataclass(frozen=True, order=True)
class Entry:
    """One INR of a store. file: relative, with "/". source: what it was fitted to, such as a path
    relative to the folder of the meshes. fit: of everything that its numbers depend on, a hash.
    bytes: of the file.
    """

    file: str
    source: str
    architecture: str
    function: str
    fit: str
    bytes: int


def file_of(source: str, architecture: str, function: str) -> str:
    """The name of an INR's file: the source's own with its extension, so that a.stl and a.obj of
    one folder are two.
    """
    return f"{source}.{architecture}.{function}{SUFFIX}"


class FieldStore:
    """The INRs of a folder, as its manifest lists them.

    Raises:
        ConfigError: the folder is no store. DataError: its manifest is damaged, or of another
        version.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = pathlib.Path(folder)
        self.entries: dict[str, Entry] = {e.file: e for e in _read_manifest(self.folder)}

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        """In the order of their files."""
        return iter(sorted(self.entries.values()))

    def damaged(self) -> list[tuple[Entry, str]]:
        """Those whose file is missing or is not as long as it was written, with what is wrong."""
        found = []
        for entry in self:
            try:
                size = (self.folder / entry.file).stat().st_size
            except OSError as error:
                missing = isinstance(error, FileNotFoundError | NotADirectoryError)
                said = "is missing" if missing else f"cannot be read ({error.strerror})"
                found.append((entry, said))
                continue
            if size != entry.bytes:
                found.append((entry, f"has {size:,} bytes, {entry.bytes:,} were written"))
        return found

    def check(self) -> None:
        """Raises DataError for a store with a file that is missing or cut short; it names the
        first.
        """
        if broken := self.damaged():
            entry, reason = broken[0]
            more = f", and {len(broken) - 1} more files" if len(broken) > 1 else ""
            raise DataError(
                f"{self.folder / entry.file}: {reason}{more}; run `jax3dret fit` of the same "
                "meshes again, which fits what is missing"
            )

    def read(self, file: str) -> Field:
        """The INR of one file. Raises DataError as `read_field`, or for one that is not listed."""
        if file not in self.entries:
            raise DataError(f"{self.folder / file}: is not listed in {self.folder / MANIFEST}")
        return read_field(self.folder / file)


class StoreWriter(FieldStore):
    """A store that this command alone writes in; `writing` opens one."""

    def take_up(self) -> None:
        """Lists the INRs that are there and whole and are not listed, as a process leaves them that
        was killed before it saved the manifest.
        """
        for path in sorted(self.folder.rglob(f"*{SUFFIX}")):
            name = path.relative_to(self.folder).as_posix()
            if name not in self.entries:
                self.has(name, "")

    def is_whole(self, entry: Entry) -> bool:
        """Whether the file of an entry is there and has its size."""
        path = self.folder / entry.file
        return path.is_file() and path.stat().st_size == entry.bytes

    def has(self, file: str, fit: str) -> bool:
        """Whether an INR of this fit is there and whole. One that is not listed yet is listed; one
        that is damaged is dropped from the list, and said.
        """
        path = self.folder / file
        entry = self.entries.get(file)
        if entry is None:
            if not path.is_file():
                return False
            try:  # left by a process that was killed; it is read whole, for nothing vouches for it
                field = read_field(path)
            except DataError as error:
                log.warning("%s; it counts as missing", error)
                return False
            self._list(file, field)
            return bool(field.about.get("fit") == fit)
        size = path.stat().st_size if path.is_file() else None
        if size != entry.bytes:
            found = "missing" if size is None else f"of {size:,} bytes, not {entry.bytes:,}"
            log.warning("%s: is %s; it is fitted again", path, found)
            del self.entries[file]
            return False
        return entry.fit == fit

    def add(self, file: str, field: Field) -> None:
        """Writes an INR and lists it. `field.about` holds "source" and "fit"."""
        write_field(self.folder / file, field)
        self._list(file, field)

    def save(self, failed: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Writes the manifest, and failed.json where `failed` is given; without failures there is
        none.
        """
        described = {
            "kind": KIND,
            "version": VERSION,
            "fields": [dataclasses.asdict(entry) for entry in self],
        }
        files.write_json(self.folder / MANIFEST, described)
        if failed:
            files.write_json(self.folder / FAILED, {"failed": list(failed)})
        elif failed is not None:
            (self.folder / FAILED).unlink(missing_ok=True)

    def _list(self, file: str, field: Field) -> None:
        about = field.about
        self.entries[file] = Entry(
            file,
            str(about.get("source", "")),
            field.architecture.name,
            field.function,
            str(about.get("fit", "")),
            (self.folder / file).stat().st_size,
        )


@contextlib.contextmanager
def writing(folder: str | os.PathLike[str]) -> Iterator[StoreWriter]:
    """A store to write in, made if it is missing; its manifest is saved at the end, however that
    comes.

    Raises: ConfigError: the folder holds other things. DataError: another command is writing
        there, or the manifest is damaged.
    """
    folder = pathlib.Path(folder)
    check_out(folder)
    with lock.held(folder, "--out"):
        if not (folder / MANIFEST).is_file():
            files.write_json(folder / MANIFEST, {"kind": KIND, "version": VERSION, "fields": []})
        for left in sorted(folder.rglob(f"*{files.PARTIAL}")):  # by a process that was killed
            if left.is_file():
                left.unlink(missing_ok=True)
        store = StoreWriter(folder)
        store.take_up()
        try:
            yield store
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk: the first error is the one to show
                store.save()
            raise
        store.save()


def is_store(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has the manifest of a store."""
    try:
        found = files.read_json_object(pathlib.Path(folder) / MANIFEST)
    except DataError:
        return False
    return found.get("kind") == KIND


def check_out(folder: pathlib.Path) -> None:
    """Raises ConfigError for a folder that holds other things than INRs, or is a file."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; give a folder")
    if not folder.is_dir() or (folder / MANIFEST).is_file():
        return
    # Without a manifest, what a store can consist of all the same.
    ours = (SUFFIX, files.PARTIAL)
    others = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not (path.is_dir() or path.name.startswith(".") or path.name in (FAILED, EVALUATED))
        and path.suffix not in ours
    )
    if others:
        raise ConfigError(
            f"{folder}: is a folder with other things in it, such as {others[0]}; give a new one, "
            "or one that holds INRs"
        )


def _read_manifest(folder: pathlib.Path) -> list[Entry]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ConfigError(f"{folder}: holds no {MANIFEST}, so it is no store of INRs")
    found = files.read_json_object(path)
    if found.get("kind") != KIND:
        raise ConfigError(f"{folder}: its {MANIFEST} is of something else than a store of INRs")
    if found.get("version") != VERSION:
        raise ConfigError(
            f"{path}: a store of version {found.get('version')}; this one reads {VERSION}"
        )
    rows = found.get("fields")
    if not isinstance(rows, list):
        _damaged(path)
    entries = []
    for row in rows:
        try:
            entry = Entry(**row)
        except TypeError:
            _damaged(path)
        if not isinstance(entry.bytes, int) or not _is_inside(entry.file):
            _damaged(path)
        entries.append(entry)
    return entries


def _is_inside(name: Any) -> bool:
    path = pathlib.PurePosixPath(name) if isinstance(name, str) else None
    return path is not None and not path.is_absolute() and ".." not in path.parts


def _damaged(path: pathlib.Path) -> NoReturn:
    raise DataError(
        f"{path}: is damaged; remove it and run `jax3dret fit` again, which takes up the INRs that "
        "are there"
    )
