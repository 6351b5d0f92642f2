"""Rows of an input, in any sizes, to batches of few shapes, so that few programs are compiled."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jax3dret.core.types import DataError, Input, Row


class Group(NamedTuple):
    """places: of its rows in the sequence that was given. batch: their arrays, filled up to the
    batch size with repeats of the first.
    """

    places: list[int]
    batch: dict[str, np.ndarray]


def stack(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Rows of equal shapes, each array stacked along a new first axis: the `batch` of most inputs."""
    return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}


def batches(reads: Input, rows: Sequence[Row], batch_size: int) -> Iterator[Group]:
    """All rows, each once, in batches of at most `batch_size` rows of one bucket; buckets in the
    order in which they appear.

    A batch is filled up to a power of two, or to `batch_size`: few sizes are ever compiled, and one
    query does not pay for a whole batch.

    Raises DataError for arrays of a batch that do not have one row each.
    """
    buckets: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows):
        buckets.setdefault(_bucket(reads, row), []).append(place)
    for places in buckets.values():
        for start in range(0, len(places), batch_size):
            part = places[start : start + batch_size]
            size = min(batch_size, 1 << (len(part) - 1).bit_length())
            filled = [rows[place] for place in part] + [rows[part[0]]] * (size - len(part))
            batch = reads.batch(filled)
            wrong = next((name for name, array in batch.items() if len(array) != size), None)
            if wrong is not None:
                raise DataError(
                    f"{type(reads).__name__}.batch: '{wrong}' has {len(batch[wrong])} rows, "
                    f"expected {size}"
                )
            yield Group(part, batch)


def _bucket(reads: Any, row: Row) -> Hashable:
    bucket = getattr(reads, "bucket", None)
    if bucket is not None:
        return bucket(row)  # type: ignore[no-any-return]
    return tuple((name, np.shape(array)) for name, array in sorted(row.items()))
