"""What a command does with an error: one line on stderr and an exit code, never a traceback for bad
input.

Neither this file nor a command's own imports anything slow: the libraries load within `run`, so
that a Ctrl-C meanwhile is one line too.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import pathlib
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

DONE, FAILED, WRONG = 0, 1, 2
# The attribute of an error that names the folder for its traceback.
_FOLDER = "_jax3dret_folder"
# What `run` found as sys.unraisablehook.
_PREVIOUS_HOOK: list[Callable[[sys.UnraisableHookArgs], object]] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, at a moment when there is nothing left to save.

    Libraries treat it as they treat Ctrl-C.
    """


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose errors are ConfigErrors, so that they end as one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        from jax3dret.core.types import ConfigError, nearest

        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", message)
        known = re.findall(r"[^', ]+", wrong[2]) if wrong else []
        hint = nearest(wrong[1], known) if wrong else ""
        raise ConfigError(f"{self.prog}: {message}{hint}; see {self.prog} --help")


def run(command: Callable[[], int]) -> int:
    """Runs `command` as what this process is for, and turns what it raises into an exit code.

    The traceback of an unexpected error is kept where `traceback_in` says, else in the system's
    temporary folder.
    """
    if sys.unraisablehook is not _in_a_callback:
        _PREVIOUS_HOOK.append(sys.unraisablehook)
        sys.unraisablehook = _in_a_callback
    try:
        try:
            return command()
        except Exception as error:
            return _code_of(error)
    except KeyboardInterrupt as error:
        return _interrupted(type(error))


def _code_of(error: Exception) -> int:
    """Says what an error is in one line, and gives its exit code."""
    from jax3dret.core.types import ConfigError, DataError

    folder: pathlib.Path | None = getattr(error, _FOLDER, None)
    if isinstance(error, ConfigError):
        return _say(error, WRONG)
    if isinstance(error, DataError):
        return _say(error, FAILED)
    if isinstance(error, BrokenPipeError):
        return FAILED
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = error.filename or folder or "output"
        return _say(f"{where}: the disk is full; what was complete before is untouched", FAILED)
    if isinstance(error, OSError) and error.filename is not None:
        return _say(f"{error.filename}: {(error.strerror or str(error)).lower()}", FAILED)
    return _unexpected(error, folder)


@contextlib.contextmanager
def traceback_in(folder: pathlib.Path) -> Iterator[None]:
    """While it is open, the traceback of an unexpected error is kept in `folder`, if there is such
    a folder by then.
    """
    try:
        yield
    except Exception as error:
        with contextlib.suppress(AttributeError):  # an error that takes no attribute
            setattr(error, _FOLDER, folder)
        raise


def unknown_argument(argument: str, known: list[str]) -> Exception:
    """The ConfigError for a flag that no command takes."""
    from jax3dret.core.types import ConfigError, nearest

    flag = argument.partition("=")[0]
    return ConfigError(f"unknown argument '{flag}'{nearest(flag, known)}")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """While it is open, SIGTERM ends the command in order, as the platform that sends it wants it:
    with code 0.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupted(kind: type[BaseException] = KeyboardInterrupt) -> int:
    # From here on a further Ctrl-C ends the process at once, instead of a traceback out of what is
    # being closed.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if issubclass(kind, Terminated):
        sys.stderr.write("SIGTERM: ended; the same command goes on from what was complete\n")
        return DONE
    return _say("interrupted; the same command goes on from what was complete", FAILED)


def _in_a_callback(event: sys.UnraisableHookArgs) -> None:
    """The unraisablehook: Python drops what a garbage-collection callback raises, so a Ctrl-C there
    would do nothing.
    """
    if issubclass(event.exc_type, KeyboardInterrupt):
        os._exit(_interrupted(event.exc_type))
    if event.object is None and threading.get_ident() != threading.main_thread().ident:
        # From a library's compiled thread; what counts of it, the library raises in the main
        # thread too.
        return
    _PREVIOUS_HOOK[-1](event)


def _unexpected(error: BaseException, folder: pathlib.Path | None) -> int:
    text = "".join(traceback.format_exception(error))
    try:
        folder = (
            folder
            if folder is not None and folder.is_dir()
            else pathlib.Path(tempfile.mkdtemp(prefix="jax3dret_"))
        )
        kept = folder / "traceback.txt"
        kept.write_text(text)
        note = f"the traceback is in {kept}"
    except OSError:
        note = "the traceback could not be written"
    first = (str(error).strip().splitlines() or [""])[0][:400]
    return _say(f"unexpected {type(error).__name__}: {first}; {note}", FAILED)


def _say(message: object, code: int) -> int:
    line = " ".join(str(message).split())
    sys.stderr.write(f"error: {line}\n")
    return code
