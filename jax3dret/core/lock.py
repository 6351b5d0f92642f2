"""A folder that one command at a time writes in."""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform
import time
from collections.abc import Iterator
from typing import BinaryIO

from jax3dret.core.types import DataError

try:
    import fcntl
except ImportError:  # no such locks on this system: one command at a time is then the user's care
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
# Who only looks holds the lock for a moment too.
_TRIES, _PAUSE_S = 10, 0.05


def refuse_busy(folder: pathlib.Path) -> None:
    """Raises DataError where another command writes in `folder`; leaves it as it is."""
    path = folder / NAME
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if not _locked(file, shared=True):
            raise _busy(path)


@contextlib.contextmanager
def held(folder: pathlib.Path, flag: str = "--workdir") -> Iterator[None]:
    """While it is open, `folder` (made if it is missing) is this command's; the file that says so
    goes with it. flag: what names the folder on the command line.

    The lock is the system's, on an open file, so that it ends with the process, however that ends:
    a file that a killed one left holds nobody up.

    Raises:
        DataError: another command writes there.
    """
    if fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    file = _take(path, flag)
    try:
        file.write(f"process {os.getpid()} on {platform.node()}".encode())
        file.flush()
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        file.close()


def _take(path: pathlib.Path, flag: str) -> BinaryIO:
    """The file at `path`, locked and empty."""
    for attempt in range(_TRIES):
        file = path.open("a+b")
        try:
            # Who held it until now has removed it: then a lock on it says nothing.
            if _locked(file) and _is_at(file, path):
                file.truncate(0)
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        if attempt < _TRIES - 1:
            time.sleep(_PAUSE_S)
    raise _busy(path, flag)


def _locked(file: BinaryIO, *, shared: bool = False) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_at(file: BinaryIO, path: pathlib.Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _busy(path: pathlib.Path, flag: str = "--workdir") -> DataError:
    who = ""
    with contextlib.suppress(OSError):
        who = path.read_text(encoding="utf-8", errors="replace")
    said = f" ({who})" if who else ""
    return DataError(
        f"{path.parent}: another command is writing there{said}; wait for its end, or give another "
        f"{flag}"
    )
