"""One run of a table as a process of its own, which gets the signals that this one gets."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """code: as the process gave it, negative for a signal.

    error: its one line, or what stands for it.
    """

    code: int
    error: str


class Children:
    """Runs one child after the other, and passes SIGINT and SIGTERM on to the one that runs: it
    saves and ends.

    A process for each run gives its memory back, accelerator memory above all, and lets a run that
    crashes or is killed for memory be one failed row. Used as a context; `signal` is the name of
    the first signal that came, or empty.
    """

    def __init__(self) -> None:
        self.signal = ""
        self._running: subprocess.Popen[str] | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Children:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], log: pathlib.Path) -> Ended:
        """Starts `command`, shows what it says on standard error as it comes, and keeps it in
        `log`, after what is there.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        said = ""
        # A group of its own: Ctrl-C on a terminal reaches it once, through this process, and not
        # twice.
        with (
            log.open("a", encoding="utf-8") as kept,
            subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                process_group=0,
            ) as child,
        ):
            self._running = child
            try:
                if self.signal:  # it came while the child was being started
                    child.send_signal(signal.Signals[self.signal])
                assert child.stdout is not None
                for line in child.stdout:
                    sys.stderr.write("  " + line)
                    sys.stderr.flush()
                    kept.write(line)
                    kept.flush()
                    if line.startswith("error: "):
                        said = line.removeprefix("error: ").strip()
                code = child.wait()
            finally:
                self._running = None
                if child.poll() is None:
                    child.kill()
        return Ended(code, said or _stands_for(code, log))

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = self.signal or signal.Signals(number).name
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(number)


def _stands_for(code: int, log: pathlib.Path) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", which is what a machine out of memory sends" if name == "SIGKILL" else ""
        return f"ended by {name}{memory}; its last words are in {log}"
    return f"ended with code {code}; its last words are in {log}" if code else ""
