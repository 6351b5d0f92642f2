"""A function over many items by several processes or threads, its results in their order."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from jax3dret.core.types import DataError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ordered_map(
    work: Callable[..., _Result],
    items: Iterable[_Item],
    *,
    jobs: int,
    threads: bool = False,
    state: Callable[[], Any] | None = None,
    name: Callable[[_Item], object] = str,
    ahead: int = 4,
) -> Generator[_Result, None, None]:
    """work(item) of every item, in order, by `jobs` processes (1: in this one, nothing is started).

    work: a function of a module, or an object that can be pickled; sent once to each process.
    threads: threads instead, which start at once and need nothing that can be pickled; for work
        that leaves Python most of its time, such as drawing and decoding pictures.
    state: makes what a process keeps for all its items, such as open files, before its first one;
        then work(item, state). Picklable too: a function, or functools.partial of one.
    name: what to call an item in an error.
    ahead: items under way for each process. The items are taken as they are needed, and never more
        than jobs * ahead of them, or of their results, are held.

    What `work` or `state` raises comes out in the place of the item's result and ends the map. So
    does closing the generator: what has not begun is dropped, what has is waited for. The processes
    ignore Ctrl-C, which reaches them too, for the parent ends them; they end with a killed parent.

    Raises:
        DataError: a process was ended from outside, as happens where memory runs out; names the
            items that were under way.
    """
    if jobs <= 1:
        yield from map(_Call(work, state), items)
        return
    waiting: collections.deque[tuple[_Item, concurrent.futures.Future[Any]]] = collections.deque()
    # Spawned, not forked: threads of JAX and of readers do not survive a fork.
    pool: concurrent.futures.Executor
    if threads:
        pool = concurrent.futures.ThreadPoolExecutor(
            jobs, initializer=_take_up, initargs=(work, state)
        )
    else:
        pool = concurrent.futures.ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), _start_process, (work, state)
        )
    try:
        for item in items:
            waiting.append((item, pool.submit(_run, item)))
            if len(waiting) >= jobs * ahead:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    except BrokenProcessPool:
        # They are taken up in order, so of those without a result the first are under way.
        broken = [item for item, future in waiting if _lost(future)][:jobs]
        names = ", ".join(str(name(item)) for item in broken)
        raise DataError(
            f"a worker process was ended from outside at {'one of ' if len(broken) > 1 else ''}"
            f"{names or 'its start'}; out of memory? try fewer jobs"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Call:
    """work(item), or work(item, state) with a state that is made before the first item."""

    def __init__(self, work: Callable[..., Any], state: Callable[[], Any] | None) -> None:
        self._work, self._state = work, state
        self._made: tuple[Any, ...] | None = None if state else ()

    def __call__(self, item: Any) -> Any:
        if self._made is None:
            assert self._state is not None
            self._made = (self._state(),)
        return self._work(item, *self._made)


def _first(waiting: collections.deque[tuple[_Item, concurrent.futures.Future[Any]]]) -> Any:
    result = waiting[0][1].result()  # it stays in the list until it is known, to be named
    waiting.popleft()
    return result


def _lost(future: concurrent.futures.Future[Any]) -> bool:
    return not future.done() or isinstance(future.exception(), BrokenProcessPool)


# .call: what this worker, a thread or the main thread of a process, was started with.
_worker = threading.local()


def _take_up(work: Callable[..., Any], state: Callable[[], Any] | None) -> None:
    _worker.call = _Call(work, state)


def _start_process(work: Callable[..., Any], state: Callable[[], Any] | None) -> None:
    _take_up(work, state)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    with contextlib.suppress(OSError):
        multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _run(item: Any) -> Any:
    return _worker.call(item)
