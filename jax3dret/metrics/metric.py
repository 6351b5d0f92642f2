"""What a number is called and what it measures: one record beside the function that computes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Metric(NamedTuple):
    """key: its name in files; {k} or {n} in it stands for the cut of the ranked lists. title: its
    name for a reader. meaning: what it measures, with the conventions that its value depends on, in
    one line."""

    key: str
    title: str
    meaning: str

    def at(self, **cut: int | str) -> Metric:
        """The same with the cut filled in: RECALL.at(k=5) has the key "recall_5"."""
        return Metric(*(text.format(**cut) for text in self))


def about(metrics: Iterable[Metric]) -> dict[str, dict[str, str]]:
    """{key: {"title", "meaning"}} in their order, as result.json holds it."""
    return {m.key: {"title": m.title, "meaning": m.meaning} for m in metrics}
