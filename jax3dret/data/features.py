"""Features of frozen networks: computed once per item, kept beside the prepared data, joined to the
records as rows.

    <prepared folder>/features/<split>-<digest>.npy    float32 [N, V, D], row i = record i

The digest covers the data, the split and what the caller names as the features' provenance
(weights, renderer, preprocessing), so a file is either of exactly this or is not found.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jax3dret.core import files
from jax3dret.core.logging import progress
from jax3dret.core.types import DataError, Source
from jax3dret.data.lock import exclusive
from jax3dret.data.rows import Rows, open_rows

logger = logging.getLogger("jax3dret")


def frozen_features(
    source: Source,
    rows: Rows,
    embed: Callable[[np.ndarray], Any],
    *,
    provenance: Mapping[str, Any],
    batch_size: int = 8,
    what: str = "features",
    lead: tuple[int, ...] = (),
) -> pathlib.Path:
    """The file of float32 [N, V, D] features of every record's V pictures (or texts), computed now
    if it is not there.

    rows: one array [V, ...] per record, in record order, all of one shape. lead: how V is to be
    split in the file, such as (views, captions of each); () leaves it.
    embed: [batch_size * V, ...] -> [batch_size * V, D]; always called with that many, so it
    compiles once.
    provenance: JSON-like; everything else that the features depend on, such as `digest` of the
    weights.

    Every process calls it; the first computes, the others wait and find it. Nothing half-written is
    left behind.

    Raises DataError: rows that do not belong to the records or differ in shape; features that are
    not finite; a disk error.
    """
    if len(rows) != len(source):
        raise DataError(
            f"{source!r}: {len(rows)} rows for {len(source)} records; they were made from other "
            "data"
        )
    path = features_path(source, provenance)
    with exclusive(path.with_suffix(".lock"), f"{what} of {source.name}"):
        if path.is_file():
            return path
        logger.info(
            "%s of %s, split '%s': computed once, kept in %s", what, source.name, source.split, path
        )
        _write(path, source, rows, embed, batch_size, what, lead)
    return path


def features_path(source: Source, provenance: Mapping[str, Any]) -> pathlib.Path:
    """Where features of this provenance belong."""
    identity = {
        "name": source.name,
        "version": source.version,
        "split": source.split,
        "making": provenance,
    }
    data = json.dumps(identity, sort_keys=True) + "\n".join(source.ids)
    name = re.sub(r"\W+", "_", source.split).strip("_") or "split"
    return source.path / "features" / f"{name}-{hashlib.sha256(data.encode()).hexdigest()[:16]}.npy"


def digest(tree: Any) -> str:
    """A hash of every array of a tree of parameters, with its path, shape and type."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]


def mean_feature(path: pathlib.Path) -> np.ndarray:
    """The mean over records and views, float32 [D]: random networks map all pictures near one
    point, which this is.
    """
    rows = open_rows(path)
    width = np.shape(rows[0])[-1]
    total = sum(
        np.asarray(rows[i], np.float64).reshape(-1, width).mean(0) for i in range(len(rows))
    )
    return np.asarray(total / len(rows), np.float32)


def _write(
    path: pathlib.Path,
    source: Source,
    rows: Rows,
    embed: Callable[[np.ndarray], Any],
    batch_size: int,
    what: str,
    lead: tuple[int, ...],
) -> None:
    if not len(source):
        raise DataError(f"{source!r}: has no records")
    shape: tuple[int, ...] | None = None
    try:
        with (
            files.writing(path) as out,
            progress(len(source), f"{what} {source.split}") as update,
        ):
            for first in range(0, len(source), batch_size):
                last = min(first + batch_size, len(source))
                block = []
                for i in range(first, last):
                    row = np.asarray(rows[i])
                    if row.shape != (shape or row.shape):
                        raise DataError(
                            f"{source.ids[i]}: its row has the shape {row.shape}, the ones before "
                            f"{shape}"
                        )
                    shape = row.shape
                    block.append(row)
                block += [block[-1]] * (batch_size - len(block))
                stacked = np.stack(block)
                flat = np.asarray(embed(stacked.reshape(-1, *stacked.shape[2:])), np.float32)
                features = flat.reshape(batch_size, stacked.shape[1], -1)[: last - first]
                bad = ~np.isfinite(features).all((1, 2))
                if bad.any():
                    raise DataError(
                        f"{source.ids[first + int(bad.argmax())]}: its {what} are not finite"
                    )
                if first == 0:
                    header = {
                        "descr": np.dtype(np.float32).str,
                        "fortran_order": False,
                        "shape": (len(source), *(lead or features.shape[1:2]), features.shape[2]),
                    }
                    np.lib.format.write_array_header_1_0(out, header)
                out.write(features.tobytes())
                update(last)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
