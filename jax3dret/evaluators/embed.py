"""A whole split through an embedding function, row by row onto disk."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jax3dret.core import files, logging
from jax3dret.core.types import ConfigError, DataError, EmbedFn
from jax3dret.data.pipeline import eval_batches
from jax3dret.evaluators.sides import Side, Sides


class Embedded(NamedTuple):
    """The embeddings of one side, float32[N, D] in data-set order, and the .npy file that they lie
    in.

    outputs: what else the model gave for the records, by name, [N, ...]. items_per_s: of the
    embedding, its compilation left out.
    """

    vectors: np.ndarray
    path: pathlib.Path
    outputs: Mapping[str, np.ndarray]
    items_per_s: float


class Pair(NamedTuple):
    """Gallery and queries, embedded into one space; one and the same where the sides are."""

    gallery: Embedded
    queries: Embedded


def embed_sides(
    embed_fn: EmbedFn,
    sides: Sides,
    scratch: pathlib.Path,
    *,
    outputs: tuple[str, ...] = (),
    show: bool = False,
) -> Pair:
    """Embeds both sides into files below `scratch`; every process must call it.

    outputs: names of what the model may give for the gallery beside its embedding, [B, ...] each,
    to be kept. show: a progress bar.

    Raises what `embed_split` does, and DataError for embeddings of two widths.
    """
    gallery = embed_side(
        embed_fn, sides.gallery, scratch / "gallery.npy", outputs=outputs, show=show
    )
    queries = gallery
    if not sides.same:
        queries = embed_side(embed_fn, sides.queries, scratch / "queries.npy", show=show)
    widths = gallery.vectors.shape[1], queries.vectors.shape[1]
    if widths[0] != widths[1]:
        raise DataError(
            f"gallery embeddings are {widths[0]} wide, query embeddings {widths[1]}; "
            "they must be of one space"
        )
    return Pair(gallery, queries)


def embed_side(
    embed_fn: EmbedFn,
    side: Side,
    path: pathlib.Path,
    *,
    outputs: tuple[str, ...] = (),
    show: bool = False,
) -> Embedded:
    """Embeds the records of one side into `path`. The arguments are those of `embed_sides`."""
    source, kept = side.source, dict[str, list[np.ndarray]]()
    marks = [(0, time.perf_counter())]

    def keeping(batch: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        embedded = embed_fn(batch)
        for name in outputs:
            if name in embedded:
                kept.setdefault(name, []).append(np.asarray(embedded[name], np.float32))
        return embedded

    batches = eval_batches(
        source, side.spec, process_index=jax.process_index(), process_count=jax.process_count()
    )
    with logging.progress(len(source), f"embed {source.split}", active=show) as update:

        def note(done: int) -> None:
            marks.append((done, time.perf_counter()))
            update(done)

        vectors = embed_split(
            keeping,
            batches,
            items=len(source),
            key=side.modality,
            path=path,
            ids=source.ids,
            progress=note,
        )
    first = marks[1] if len(marks) > 2 else marks[0]  # the first batch compiles
    rate = (marks[-1][0] - first[0]) / max(marks[-1][1] - first[1], 1e-9)
    # Padding rows stand at the very end.
    rows = {name: np.concatenate(parts)[: len(vectors)] for name, parts in kept.items()}
    return Embedded(vectors, path, rows, rate)


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
    """Writes the embeddings of `items` records to `path` (.npy, float32[items, D]), in data-set
    order, and maps them.

    batches: as `data.pipeline.eval_batches` gives them: this process's rows of each global batch,
    padding at the end of the last one. embed_fn: the rows of the whole global batch, on every
    process; so every process must call this, and each gets every row in a file of its own. Only one
    batch is in memory at a time. progress: called after each batch with the number of items done.
    The file appears when it is complete.

    Raises DataError: an embedding that is NaN or infinite (names the row and, with `ids`, the
    item), shapes that do not fit, more or fewer rows than `items`. ConfigError: the model gives no
    embedding `key`.
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
            # With several processes the mask covers this one's rows only, but padding stands at the
            # very end.
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
