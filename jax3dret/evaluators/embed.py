"""A whole split through an embedding function, row by row onto disk."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from jax3dret.core import files
from jax3dret.core.types import ConfigError, DataError, EmbedFn


def embed_split(
    embed_fn: EmbedFn,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    items: int,
    key: str = "shape",
    path: pathlib.Path,
    ids: Sequence[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> np.memmap:
    """Writes the embeddings of `items` records to `path` (.npy, float32[items, D]), in data-set order, and maps them.

    batches: as `data.pipeline.eval_batches` gives them: this process's rows of each global batch, padding at the end of the
    last one. embed_fn: the rows of the whole global batch, on every process; so every process must call this, and each gets
    every row in a file of its own. Only one batch is in memory at a time. progress: called after each batch with the number of
    items done. The file appears when it is complete.

    Raises DataError: an embedding that is NaN or infinite (names the row and, with `ids`, the item), shapes that do not fit,
    more or fewer rows than `items`. ConfigError: the model gives no embedding `key`.
    """
    if items < 1:
        raise DataError(f"{path.name}: no items to embed")
    width = done = 0
    # Not a memory map: where one runs out of disk the process is killed.
    with files.writing(path) as out:
        for batch in batches:
            embedded = embed_fn(batch)
            if key not in embedded:
                raise ConfigError(
                    f"the model embeds {', '.join(sorted(embedded)) or 'nothing'}, not '{key}'"
                )
            rows = np.asarray(embedded[key], np.float32)
            if rows.ndim != 2 or rows.shape[1] < 1:
                raise DataError(
                    f"embedding '{key}' has shape {rows.shape}; it must be [batch, width]"
                )
            mask = batch.get("mask")
            whole = mask is not None and len(mask) == len(rows)
            # With several processes the mask covers this one's rows only, but padding stands at the very end.
            rows = rows[np.asarray(mask, bool)] if whole else rows[: items - done]
            if done + len(rows) > items:
                raise DataError(f"the batches hold more than the {items} items of the split")
            if not width:
                width = rows.shape[1]
                header = {
                    "descr": np.dtype(np.float32).str,
                    "fortran_order": False,
                    "shape": (items, width),
                }
                np.lib.format.write_array_header_1_0(out, header)
            if rows.shape[1] != width:
                raise DataError(
                    f"embedding '{key}' is {rows.shape[1]} wide after row {done}, {width} before"
                )
            bad = ~np.isfinite(rows).all(axis=1)
            if bad.any():
                row = done + int(bad.argmax())
                name = f" ({ids[row]})" if ids is not None else ""
                raise DataError(f"embedding '{key}' of row {row}{name} holds NaN or infinity")
            out.write(rows.tobytes())
            done += len(rows)
            if progress is not None:
                progress(done)
        if done != items:
            raise DataError(f"the batches held {done} items; the split has {items}")
    return np.load(path, mmap_mode="r")
