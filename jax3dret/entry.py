"""What a command does with an error: one line on stderr and an exit code, never a traceback for bad input."""

from __future__ import annotations

import argparse
import errno
import pathlib
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import NoReturn

from jax3dret.core.config import nearest
from jax3dret.core.types import ConfigError, DataError

DONE, FAILED, WRONG = 0, 1, 2


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose errors are ConfigErrors, so that they end as one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def run(command: Callable[[], int], *, where: Callable[[], pathlib.Path | None] = lambda: None) -> int:
    """Runs `command` and turns what it raises into an exit code.

    where: the folder that an unexpected error's traceback is kept in; None means the system's temporary folder.
    """
    try:
        return command()
    except ConfigError as error:
        return _say(error, WRONG)
    except DataError as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return _say("interrupted; the same command goes on from the last checkpoint", FAILED)
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _say(
                f"{error.filename or 'output'}: the disk is full; what was complete before is untouched", FAILED
            )
        if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError | IsADirectoryError):
            return _say(f"{error.filename}: {(error.strerror or str(error)).lower()}", FAILED)
        return _unexpected(error, where())
    except Exception as error:
        return _unexpected(error, where())


def unknown_argument(argument: str, known: list[str]) -> ConfigError:
    """The error for a flag that no command takes."""
    flag = argument.partition("=")[0]
    return ConfigError(f"unknown argument '{flag}'{nearest(flag, known)}")


def _unexpected(error: BaseException, folder: pathlib.Path | None) -> int:
    text = "".join(traceback.format_exception(error))
    try:
        folder = (
            folder if folder is not None and folder.is_dir() else pathlib.Path(tempfile.mkdtemp(prefix="jax3dret_"))
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
