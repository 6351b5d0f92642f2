"""Files and folders that are whole or absent, JSON files that are read with one-line errors, and
files that only point to their content.

Whatever is written here is written beside its place, under its name with ".partial" behind, and
renamed when it is complete: who reads meanwhile finds what was there before, or all that is new.
A write that fails, or is interrupted, leaves nothing behind, and its OSError names the final path.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, BinaryIO

from jax3dret.core.types import DataError

PARTIAL = ".partial"
# What stands in a repository where a large file was not fetched: first bytes, what it is, what
# fetches the file. The second is what Git LFS wrote before its name was Git LFS.
_POINTERS = (
    (b"version https://git-lfs", "Git LFS", "git lfs pull"),
    (b"version https://hawser", "Git LFS", "git lfs pull"),
    (b"/annex/objects/", "git-annex", "git annex get"),
)


def pointer(head: bytes) -> tuple[str, str] | None:
    """What a file is that only points to its content, and what to do; None for any other file.

    head: the first bytes of the file, 32 or more where it has so many.
    """
    for start, tool, command in _POINTERS:
        if head.startswith(start):
            what = f"a {tool} pointer, not the file it stands for"
            return what, f"run `{command}` in its repository"
    return None


def partial_of(path: pathlib.Path) -> pathlib.Path:
    """Where `path` is written until it is complete."""
    return path.with_name(path.name + PARTIAL)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives the path to write a file to, which is renamed to `path` at the end of the block.

    For writers that open their file by its name; `writing` opens it. Missing folders are made.

    Raises:
        OSError: with `path` as its filename, unless it names some other file.
    """
    partial = partial_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        _name(error, partial, path)
        raise


@contextlib.contextmanager
def writing(path: pathlib.Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """A file to write bytes to, which appears at `path` at the end of the block.

    sync: it is on the disk, not only handed to the system, before it appears.

    Raises:
        OSError: as `replacing`.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        yield file
        file.flush()
        if sync:
            os.fsync(file.fileno())


@contextlib.contextmanager
def writing_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty folder to fill, which takes the place of `folder` at the end of the block.

    What stood there is removed. No system call exchanges two folders everywhere, so for a moment
    between two renames there is none; never one that holds a part.

    Raises:
        OSError: as `replacing`; a file within is named where it will be.
    """
    partial, old = partial_of(folder), folder.with_name(folder.name + ".old")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    try:
        for left in (partial, old):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.replace(old)
        try:
            partial.replace(folder)
        except OSError:
            if old.exists():
                old.replace(folder)
            raise
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        _name(error, partial, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: pathlib.Path, data: bytes, *, sync: bool = False) -> None:
    """Writes a file whole or not at all. sync: as in `writing`. Raises OSError as `replacing`."""
    with writing(path, sync=sync) as file:
        file.write(data)


def write_text(
    path: pathlib.Path, text: str, *, errors: str = "strict", sync: bool = False
) -> None:
    """Likewise of text, as UTF-8 with the line ends that it has.

    errors: as in `str.encode`; "replace" writes a question mark for what is no text, such as the
        lone surrogates of a strange file name.
    """
    write_bytes(path, text.encode("utf-8", errors), sync=sync)


def write_json(
    path: pathlib.Path,
    value: Any,
    *,
    indent: int | None = 1,
    sort_keys: bool = False,
    allow_nan: bool = True,
    ensure_ascii: bool = True,
    sync: bool = False,
) -> None:
    """Likewise of a value as JSON and a newline; the options are those of `json.dumps`.

    Raises:
        OSError: as `replacing`. TypeError, ValueError: the value is not JSON; then nothing is
            touched. allow_nan=False makes NaN and the infinities, which JSON lacks, such values.
    """
    text = json.dumps(
        value,
        indent=indent,
        sort_keys=sort_keys,
        allow_nan=allow_nan,
        ensure_ascii=ensure_ascii,
    )
    write_text(path, text + "\n", sync=sync)


def check_readable(folder: pathlib.Path) -> None:
    """Raises DataError for a folder whose files cannot be listed or opened, which a walk would take
    for an empty one.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                entry.stat(
                    follow_symlinks=False
                )  # a folder that is listed and not entered refuses here
                break
    except FileNotFoundError:
        return  # the file has just gone
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{folder}: cannot be read ({reason})") from None


def read_json_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        DataError: it is missing, cannot be read, is no JSON, or holds another kind of value.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: cannot be read ({reason})") from None
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}; it must be a JSON object")
    return value


def _name(error: BaseException, partial: pathlib.Path, path: pathlib.Path) -> None:
    """Makes an OSError name the final path: a failed write knows no name, or the partial one."""
    if not isinstance(error, OSError):
        return
    if error.filename is None:
        error.filename = str(path)
        return
    with contextlib.suppress(TypeError, ValueError):  # a descriptor's number, or another file
        within = pathlib.Path(os.fsdecode(error.filename)).relative_to(partial)
        error.filename = str(path / within)
