"""Metrics for a reader: titles, meanings and order as an evaluation states them, and their values
in words.

`about`: {key: {"title", "meaning"}} in the order to show them in, from result.json or
report/metrics.json. A metric that it lacks, such as one that only a paper has, is called by its
key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jax3dret.report.charts import short

About = Mapping[str, Mapping[str, Any]]


def read_about(value: object) -> dict[str, Mapping[str, Any]]:
    """The entries of a JSON value that have the form of `about`."""
    found = value if isinstance(value, Mapping) else {}
    return {str(key): entry for key, entry in found.items() if isinstance(entry, Mapping)}


def title(key: str, about: About) -> str:
    return str(about.get(key, {}).get("title") or key.replace("_", " "))


def meaning(key: str, about: About) -> str:
    """What the metric measures; empty where that is not stated."""
    return str(about.get(key, {}).get("meaning") or "")


def ordered(metrics: Iterable[str], about: About) -> list[str]:
    """Keys of metrics in the order of `about`, then the others as they come."""
    metrics = list(metrics)
    return [key for key in about if key in metrics] + [key for key in metrics if key not in about]


def value(number: object) -> str:
    """Shares as percent, other numbers as they are; "undefined" for NaN."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return "not reported" if number is None else str(number)
    if not math.isfinite(number):
        return "undefined"
    if isinstance(number, float) and 0 <= number <= 1:
        return f"{100 * number:.1f} %"
    return f"{number:,}" if isinstance(number, int) else short(number)
