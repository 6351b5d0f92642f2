"""What a run says: metrics.jsonl, TensorBoard events, console lines, a progress bar, the table of
parameters.

Everything for people goes to standard error through the logger "jax3dret"; standard output stays
free for results.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import absl.logging
import numpy as np
import rich.console
import rich.logging
import rich.progress
import rich.table

from jax3dret.core import files
from jax3dret.core.measured import RESERVED
from jax3dret.core.types import ConfigError, DataError

if TYPE_CHECKING:
    from jax3dret.core.optim import ParameterRow

logger = logging.getLogger("jax3dret")
# One console for the bar and the lines, so that lines appear above a running bar. It looks up
# sys.stderr when it prints.
_CONSOLE = rich.console.Console(stderr=True)
_NOISY = ("absl", "jax", "orbax", "grain", "flax", "tensorflow_datasets", "tensorboardX")


class MetricWriter:
    """Appends events to `workdir`/metrics.jsonl, and to TensorBoard and the console.

    One JSON object a line: {"step", "split", "time" (seconds since 1970), metric: value, ...}.
    Floats keep every digit; NaN and infinities become the strings "nan", "inf", "-inf". Each line
    is flushed as it is written.

    At opening, a last line that an interruption cut short is removed and reported. With
    `resume_step`, events of later steps are dropped too (`-1`: all events), so that the file
    becomes what an uninterrupted run would have written.

    Args:
        workdir: created if missing.
        resume_step: the step the run goes on from; None keeps every event.
        tensorboard: also write events below `workdir`/tensorboard.
        console: also log one line an event.
        active: False on all processes but the first; nothing is read or written then.

    Raises:
        DataError: metrics.jsonl has a broken line before its last.
        ConfigError: TensorBoard is asked for and tensorboardX is not installed.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        resume_step: int | None = None,
        tensorboard: bool = True,
        console: bool = True,
        active: bool = True,
    ):
        self.path = pathlib.Path(workdir) / "metrics.jsonl"
        self._active, self._console = active, console
        self._file: io.TextIOBase | None = None
        self._board: Any = None
        self._recorded: set[tuple[int, str]] = set()
        if not active:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._recorded = _restore(self.path, resume_step)
        self._file = self.path.open("a", encoding="utf-8")
        if tensorboard:
            purge = None if resume_step is None else resume_step + 1
            self._board = _summary_writer(self.path.parent / "tensorboard", purge)

    def write(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Records one event. Values are scalars (NumPy, JAX or Python numbers, bools) or strings.

        Raises:
            ValueError: a metric is called "step", "split" or "time", or is not a scalar.
        """
        if self._file is None:
            if self._active:
                raise ValueError(f"{self.path} is closed; write before close()")
            return
        values = {key: _scalar(key, value) for key, value in metrics.items()}
        event = {"step": int(step), "split": split, "time": time.time()} | {
            k: _jsonable(v) for k, v in values.items()
        }
        with self._named():
            self._file.write(json.dumps(event, allow_nan=False) + "\n")
            self._file.flush()
        self._recorded.add((int(step), split))
        if self._board is not None:
            for key, value in values.items():
                if not isinstance(value, str):
                    self._board.add_scalar(f"{split}/{key}", float(value), int(step))
        if self._console:
            logger.info(
                "step %d  %s  %s",
                step,
                split,
                "  ".join(f"{k} {_short(v)}" for k, v in values.items()),
            )

    def recorded(self, step: int, split: str) -> bool:
        """Whether an event of this step and split is in the file, from this run or from before it
        was resumed.
        """
        return (step, split) in self._recorded

    def close(self) -> None:
        """Flushes and closes both files; calling it again does nothing."""
        if self._file is not None:
            file, self._file = self._file, None
            with self._named():
                file.close()
        if self._board is not None:
            self._board.close()
            self._board = None

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """A failed write does not know its file's name."""
        try:
            yield
        except OSError as error:
            error.filename = str(self.path)
            raise

    def __enter__(self) -> MetricWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The events of a metrics.jsonl in order; "nan", "inf" and "-inf" are floats again. A cut last
    line is left out.

    Raises:
        DataError: a broken line before the last.
    """
    special = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    events, _ = _parse(pathlib.Path(path))
    return [
        {
            k: special.get(v, v) if k not in RESERVED and isinstance(v, str) else v
            for k, v in e.items()
        }
        for _, e in events
    ]


def setup_console(level: int | str = "INFO") -> None:
    """Sends log records to standard error: coloured on a terminal, plain lines elsewhere.

    The project's own logger takes `level`; libraries (jax, grain, ...) are heard from WARNING on.
    May be called again to change the level.

    Raises:
        ConfigError: unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if number is None:
        raise ConfigError(f"log level '{level}' is unknown; there are: DEBUG, INFO, WARNING, ERROR")
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "1"
    )  # INFO lines of XLA's C++ side, if it is not loaded yet
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Orbax logs through absl, with a traceback, the errors that it raises as well; they are told
    # once, as what is raised.
    absl.logging.set_verbosity(absl.logging.FATAL)
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    # absl.app.run puts its own handler on the root logger, which would print every line twice.
    for handler in list(root.handlers):
        # Some library's logging.basicConfig may have been first; it would print every line a second
        # time as well.
        ours = isinstance(handler, _PlainHandler | _TerminalHandler | absl.logging.ABSLHandler)
        if ours or type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.addHandler(_TerminalHandler() if _CONSOLE.is_terminal else _PlainHandler())
    logger.setLevel(number)


@contextlib.contextmanager
def progress(
    total: int,
    description: str,
    *,
    done: int = 0,
    lines_every: float | None = 10.0,
    active: bool = True,
) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal, plain lines elsewhere.

    Yields `update(done, text=None)`: `done` of `total` are finished; `text` is shown beside the bar
    until the next one.

    Args: done: finished already, when the work is resumed. lines_every: seconds between two plain
        lines; None: no plain lines (the caller logs its own). active: False shows nothing.
    """
    if not active:
        yield lambda done, text=None: None
    elif _CONSOLE.is_terminal:
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[text]}", markup=False),
        )
        with rich.progress.Progress(*columns, console=_CONSOLE) as bar:
            task = bar.add_task(description, total=total, completed=done, text="")
            yield lambda done, text=None: bar.update(
                task, completed=done, **({} if text is None else {"text": text})
            )
    else:
        yield _PlainProgress(total, description, done, lines_every)


def log_parameters(rows: Sequence[ParameterRow]) -> None:
    """Shows how each parameter is trained (`core.optim.describe`), and the totals."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=None)
    table.add_column("parameter", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    for name in ("size", "lr", "decay"):
        table.add_column(name, justify="right", no_wrap=True)
    sizes = [math.prod(row.shape) for row in rows]
    for row, size in zip(rows, sizes, strict=True):
        how = ("frozen", "") if row.frozen else (f"x{row.lr:g}", f"x{row.decay:g}")
        table.add_row(row.path, "x".join(map(str, row.shape)) or "scalar", f"{size:,}", *how)
    frozen = sum(size for row, size in zip(rows, sizes, strict=True) if row.frozen)
    if logger.isEnabledFor(logging.INFO):
        if _CONSOLE.is_terminal:
            _CONSOLE.print(table)
        else:
            # Wide enough for any path: a plain line is never folded.
            plain = rich.console.Console(file=io.StringIO(), width=400, color_system=None)
            plain.print(table)
            lines = plain.file.getvalue().splitlines()  # type: ignore[attr-defined]
            logger.info(
                "parameters\n%s", "\n".join(line.rstrip() for line in lines if line.strip())
            )
    logger.info(
        "%d parameters: %s values, %s of them frozen", len(rows), f"{sum(sizes):,}", f"{frozen:,}"
    )


class _PlainHandler(logging.Handler):
    """Lines on whatever sys.stderr is at the time."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class _TerminalHandler(rich.logging.RichHandler):
    def __init__(self) -> None:
        super().__init__(
            console=_CONSOLE, show_path=False, log_time_format="%H:%M:%S", markup=False
        )


class _PlainProgress:
    """`update` of `progress` where standard error is not a terminal."""

    def __init__(self, total: int, description: str, done: int, every: float | None):
        self._total, self._description, self._every = total, description, every
        self._first, self._text = done, ""
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, text: str | None = None) -> None:
        now = time.monotonic()
        self._text = self._text if text is None else text
        if self._every is None or (now - self._last < self._every and done < self._total):
            return
        self._last = now
        speed = (done - self._first) / max(now - self._start, 1e-9)
        share = f" ({100 * done // self._total} %)" if self._total else ""
        line = f"{self._description} {done}/{self._total}{share}  {speed:.3g}/s  {self._text}"
        logger.info("%s", line.rstrip())


def _restore(path: pathlib.Path, resume_step: int | None) -> set[tuple[int, str]]:
    """Drops a cut last line and the events after `resume_step`; returns the (step, split) of what
    stays.
    """
    if not path.exists():
        return set()
    events, cut = _parse(path)
    kept = [
        (line, event)
        for line, event in events
        if resume_step is None or event["step"] <= resume_step
    ]
    if cut:
        logger.warning("%s: removed 1 incomplete line at the end, left by an interruption", path)
    if len(kept) < len(events):
        logger.info(
            "%s: dropped %d events after step %d, where the run resumes",
            path,
            len(events) - len(kept),
            resume_step,
        )
    content = b"".join(line + b"\n" for line, _ in kept)
    if content != path.read_bytes():
        files.write_bytes(path, content, sync=True)
    return {(event["step"], event["split"]) for _, event in kept}


def _parse(path: pathlib.Path) -> tuple[list[tuple[bytes, dict[str, Any]]], bool]:
    """The lines that hold an event, with it, and whether there is a cut line after them."""
    lines = path.read_bytes().split(b"\n")
    if not lines[-1]:  # after the newline of the last complete line
        lines.pop()
    events: list[tuple[bytes, dict[str, Any]]] = []
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if not (isinstance(event["step"], int) and isinstance(event["split"], str)):
                raise TypeError
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                return events, True
            raise DataError(
                f"{path}, line {number}: not an event with step and split; repair or remove the "
                "line"
            ) from error
        events.append((line, event))
    return events, False


def _summary_writer(folder: pathlib.Path, purge_step: int | None) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as error:
        raise ConfigError(
            "TensorBoard events need tensorboardX (pip install tensorboardX), or "
            "log.tensorboard=false"
        ) from error
    return SummaryWriter(str(folder), purge_step=purge_step)


def _scalar(key: str, value: Any) -> float | int | bool | str:
    if key in RESERVED:
        raise ValueError(f"a metric cannot be called '{key}': an event has that field already")
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.ndim or array.dtype == object:
        raise ValueError(
            f"metric '{key}' is {type(value).__name__} of shape {array.shape}; give one number or "
            "a string"
        )
    if array.dtype.kind in "biu":
        return array.item()
    return float(array)  # bfloat16 too


def _jsonable(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
