"""From items to what an encoder reads of each, with a key for what an item holds, in worker
processes.

Each file is loaded once; what is made of the object is for an input to say, which draws from a
constant
stream: an object gives the same wherever its file lies and whatever it is called.
"""

from __future__ import annotations

import collections
import functools
import logging
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from typing import Any, NamedTuple

from jax3dret.core.types import ConfigError, DataError, Input, Loaded, Row
from jax3dret.core.workers import ordered_map
from jax3dret.inputs import choose, describe, loading
from jax3dret.inputs.item import Item

log = logging.getLogger("jax3dret")
# Objects that an input lifts at a time.
_LIFTED = 16


class Prepared(NamedTuple):
    """One item. key: of what it holds and how it is turned, hexadecimal. kind: of the object, empty
    where it was not loaded.
    row: what the encoder reads of it, or None where the key was known already. reason: why it
    cannot be used, or empty.
    """

    key: str
    row: Row | None
    reason: str = ""
    kind: str = ""


def prepare(item: Item, reads: Input) -> Prepared:
    """What an input makes of one item.

    Raises:
        DataError: the item cannot be used, or is of a kind that the input does not read: one line,
        its name first.
    """
    try:
        _check_kind(item, reads)
        key, loaded = item.digest(), loading.load(item)
    except OSError as error:
        raise DataError(f"{item.name}: {_unreadable(error)}") from None
    lifted = _lifted(reads, [loaded])[0]
    if isinstance(lifted, DataError):
        raise lifted
    return Prepared(key, _row(reads, lifted), kind=loaded.kind)


def prepare_all(
    items: Iterable[Item], reads: Input, *, known: Set[str], jobs: int
) -> Generator[Prepared, None, None]:
    """`prepare` of each item, in order, by `jobs` processes (1: in this one); what cannot be used
    comes with a reason.

    known: keys whose rows are not needed. Only a window of items is under way at a time, so memory
    does not grow with their number. An input that lifts does so in this process, some objects at a
    time.

    Raises:
        DataError: a worker process was ended from outside; names the files that were under way.
    """
    lifts = hasattr(reads, "lift")
    work = functools.partial(_attempt, reads=reads, known=known)
    found = ordered_map(work, items, jobs=jobs, name=lambda item: item.name)
    return _lift_all(found, reads) if lifts else found


def log_remarks(reads: Input, kinds: Iterable[str]) -> None:
    """What a user should know where an input has read objects of these kinds, with their number."""
    counts = collections.Counter(kinds)
    for kind, remark in getattr(reads, "remarks", {}).items():
        if counts[kind]:
            log.info("%d %s", counts[kind], remark)


def _attempt(item: Item, reads: Input, known: Set[str]) -> Prepared:
    """An input that lifts leaves the loaded object in the place of its row."""
    try:
        _check_kind(item, reads)
        before = _stamp(item)
        key = item.digest()
        if key in known:
            return Prepared(key, None)
        loaded = loading.load(item)
        row: Any = loaded if hasattr(reads, "lift") else _row(reads, loaded)
        if _stamp(item) != before:
            return Prepared("", None, "changed while it was read; index it again")
        return Prepared(key, row, kind=loaded.kind)
    except DataError as error:
        return Prepared("", None, str(error).removeprefix(f"{item.name}: "))
    except OSError as error:
        return Prepared("", None, _unreadable(error))


def _check_kind(item: Item, reads: Input) -> None:
    """Raises DataError for an object of a kind that the input does not read. A file of no known
    kind is for `loading.load` to refuse.
    """
    kind = loading.kind_of(item)
    if kind and kind not in reads.accepts:
        raise DataError(
            f"{item.name}: is {choose.a(kind)}, and what reads it ({type(reads).__name__}) reads "
            f"{' and '.join(reads.accepts)}"
        )


def _row(reads: Input, loaded: Loaded) -> Row:
    """Raises RuntimeError, which names the object, for what an input fails with."""
    try:
        return reads.row(loaded, describe.constant_stream(reads))
    except (ConfigError, DataError, OSError, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise RuntimeError(
            f"{loaded.name}: {type(reads).__name__}.row: {type(error).__name__}: {said}"
        ) from error


def _lifted(reads: Any, objects: list[Loaded]) -> Sequence[Loaded | DataError]:
    """An error in the place of an object that cannot be lifted. Raises DataError where an input
    gives back fewer objects, or more.
    """
    lift = getattr(reads, "lift", None)
    if lift is None:
        return objects
    lifted = list(lift(objects))
    if len(lifted) != len(objects):
        raise DataError(
            f"{type(reads).__name__}.lift: gives {len(lifted)} objects for {len(objects)}, the "
            f"first of them {objects[0].name}; one each is needed"
        )
    return lifted


def _lift_all(found: Iterator[Prepared], reads: Input) -> Generator[Prepared, None, None]:
    waiting: collections.deque[Prepared] = collections.deque()

    def flush() -> Iterator[Prepared]:
        loaded: list[Any] = [each.row for each in waiting if each.row is not None]
        lifted = iter(zip(loaded, _lifted(reads, loaded) if loaded else (), strict=True))
        while waiting:
            each = waiting.popleft()
            if each.row is None:
                yield each
                continue
            given, now = next(lifted)
            try:
                if isinstance(now, DataError):
                    raise now
                yield each._replace(row=_row(reads, now))
            except DataError as error:
                yield Prepared("", None, str(error).removeprefix(f"{given.name}: "))

    for each in found:
        waiting.append(each)
        if sum(w.row is not None for w in waiting) == _LIFTED:
            yield from flush()
    yield from flush()


def _stamp(item: Item) -> list[tuple[str, int, int]]:
    stats = [(str(part), part.stat()) for part in item.files()]
    return [(name, status.st_size, status.st_mtime_ns) for name, status in stats]


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({(error.strerror or str(error)).lower()})"
