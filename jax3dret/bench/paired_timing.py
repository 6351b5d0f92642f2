"""Two sides of a comparison timed in turns, so that a machine that slows down slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def compare(
    name: str,
    ours: Callable[[], Any],
    baseline_name: str,
    baseline: Callable[[], Any],
    *,
    repeats: int,
    calls: int = 1,
    scale: float = 1.0,
    unit: str = "s",
) -> dict[str, Any]:
    """name, ours, baseline, baseline_name, ratio = ours / baseline, unit: medians of `repeats`
    turns after a warm-up of each.

    calls: that make one measurement, where one alone is too short for a steady clock. scale: from
    seconds a call to `unit`.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for function in (ours, baseline):
        function()
    for _ in range(repeats):
        for side, function in zip(times, (ours, baseline), strict=True):
            begin = time.perf_counter()
            for _ in range(calls):
                function()
            side.append(scale * (time.perf_counter() - begin) / calls)
    own, other = (statistics.median(side) for side in times)
    return {
        "name": name,
        "ours": own,
        "baseline": other,
        "baseline_name": baseline_name,
        "ratio": own / other,
        "unit": unit,
    }
