"""A function over many items by several threads, the results in the order of the items, few of them in memory.

For work that leaves Python most of its time, such as decoding and resampling pictures; threads start at once and share what is loaded.
"""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
_AHEAD = 8


def in_order(function: Callable[[_T], _R], items: Iterable[_T], *, jobs: int = 1) -> Iterator[_R]:
    """function(item) of every item, in order; jobs: threads, at most 8 items each under way. Exceptions come out where their item is."""
    if jobs <= 1:
        yield from map(function, items)
        return
    waiting: collections.deque[concurrent.futures.Future[_R]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
