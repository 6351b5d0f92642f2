"""Ranked lists in the exchange format of the SHREC sketch tracks: one file for each query, the
whole gallery in it.

    <folder>/<query>      first line: the query's name; then a line "<item> <distance>" for each gallery item, nearest first

The tracks' own names are numbers ("m1204" for a model); ours are the last part of an id, or the
whole id with "/" as "_" where the last parts are not unique.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from jax3dret.core import files
from jax3dret.core.types import DataError


def write(
    folder: pathlib.Path,
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    ranked: Iterable[tuple[int, np.ndarray, np.ndarray]],
) -> None:
    """Writes every list beside `folder`, then renames; what stood there is replaced.

    ranked: (first query, gallery rows [q, G], distances [q, G]) some queries at a time, as
    `metrics.ranking.rank` gives them.

    Raises DataError for ids that give two queries, or two items, one name, and where the disk does
    not take a file.
    """
    queries, items = names(query_ids, "query"), names(gallery_ids, "gallery")
    try:
        with files.writing_folder(folder) as beside:
            for first, rows, distances in ranked:
                for query, (order, away) in enumerate(
                    zip(rows.tolist(), distances.tolist(), strict=True), first
                ):
                    lines = (
                        f"{items[row]} {value:.9g}\n"
                        for row, value in zip(order, away, strict=True)
                        if row >= 0
                    )
                    (beside / queries[query]).write_text(
                        f"{queries[query]}\n{''.join(lines)}", encoding="utf-8"
                    )
    except OSError as error:
        raise DataError(
            f"{error.filename}: {error.strerror or error} while writing rank lists"
        ) from error


def names(ids: Sequence[str], what: str) -> list[str]:
    """A name for each id that can name a file and stand as one word on a line.

    Raises DataError where two ids would share a name.
    """
    for attempt in ([name.rsplit("/", 1)[-1] for name in ids], list(ids)):
        found = ["".join("_" if c in "/\\" or c.isspace() else c for c in name) for name in attempt]
        if len(set(found)) == len(found) and not {"", ".", ".."} & set(found):
            return found
    raise DataError(
        f"rank lists: the {what} ids, such as '{ids[0]}', give no names that are unique"
    )
