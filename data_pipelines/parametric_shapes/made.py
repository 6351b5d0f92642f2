"""Makes items by a function of numbers, in order, by one process or by several."""

from __future__ import annotations

import collections
import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from jax3dret.core.types import DataError

_AHEAD = 8  # items under way for each process


def made(
    function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], jobs: int
) -> Iterator[Any]:
    """function(*a) of every a, in order; the DataError in place of the result where it raised one.

    function: of a module, so that other processes find it.

    Raises:
        DataError: a process died, as happens when memory runs out.
    """
    if jobs <= 1:
        for each in arguments:
            yield _outcome(function, each)
        return
    waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
    # Spawned, not forked: the parent may have threads of JAX and of the record writer.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            for each in arguments:
                waiting.append(pool.submit(_outcome, function, each))
                if len(waiting) >= _AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                "a process that makes shapes died (out of memory?); use fewer jobs"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except DataError as error:
        return error
