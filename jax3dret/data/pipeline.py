"""Batches on Grain: a global order that does not depend on how many processes read it.

The run is one endless sequence of elements g = 0, 1, 2, ...: element g is record number g mod N of
epoch g // N, in an order drawn from (seed, epoch), and its transforms draw from a generator keyed
by (seed, g). Global batch `step` holds the elements step * B ... step * B + B - 1, so a batch may
straddle two epochs and no record is left out of one. Each process takes a contiguous range of the
rows of every global batch. A position in the run is therefore one number, the same on every
process.

With a sampler (`DataSpec.sampler`) the records of an epoch are those of the batches that it gives,
one after another; all else is the same.
"""

from __future__ import annotations

import bisect
import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain.python as grain
import numpy as np

from jax3dret.core.types import (
    ConfigError,
    DataError,
    DataSpec,
    Record,
    Sampler,
    Source,
    Transform,
)
from jax3dret.data.matching import matched
from jax3dret.data.rows import Rows, WithRows, open_rows
from jax3dret.data.source import open_source

__all__ = ["Source", "TrainIterator", "eval_batches", "open_source", "train_iterator"]

HostBatch = dict[str, np.ndarray]


def train_iterator(
    source: Source,
    spec: DataSpec,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainIterator:
    """Endless training batches of this process: rows [p*B/P, (p+1)*B/P) of every global batch of B
    rows.

    A batch holds what the transforms leave (stacked), "label" int32[B/P] and "mask" bool[B/P], all
    True; "id" is dropped. The records are shuffled anew in every epoch; within an epoch each is
    seen exactly once. With a sampler it decides.

    arrays: further ones by name, with a row per record (what `Recipe.refresh` gave); they join the
    records as those of `spec.arrays` do.

    Raises DataError if there are fewer records than rows in a batch, ConfigError if B cannot be
    split evenly over the processes or the sampler gives no batches of B rows. While iterating:
    DataError for a record that cannot be read or rows that do not stack.
    """
    local_rows = _local_rows(spec.batch_size, process_index, process_count)
    if spec.class_names and spec.class_names != source.class_names:
        source = matched(source, spec.class_names)
    if spec.sampler is None and spec.batch_size > len(source):
        raise DataError(
            f"{source.name}, split '{source.split}': {len(source)} items but a batch of "
            f"{spec.batch_size}; "
            "lower config.train.batch_size"
        )
    order_seed, draw_seed, _ = _seeds(spec.seed)
    records = grain.MapDataset.source(_records(source, spec, arrays))
    if spec.sampler is None:
        ordered = records.shuffle(seed=order_seed).repeat()
    else:
        epochs = _Epochs(spec.sampler, source.labels, order_seed, spec.batch_size)
        ordered = _Sampled(records, epochs)
    elements = ordered.random_map(_Apply(spec.transforms), seed=draw_seed)
    rows = _ProcessRows(elements, spec.batch_size, local_rows, process_index, valid=sys.maxsize)
    batches = rows.batch(local_rows, drop_remainder=True, batch_fn=_stack).to_iter_dataset(
        _read_options(spec)
    )
    identity = {
        "data": f"{source.name}:{source.split}",
        "items": len(source),
        "batch_size": spec.batch_size,
        "seed": spec.seed,
        **({} if spec.sampler is None else {"sampler": _name(spec.sampler)}),
    }
    return TrainIterator(batches, identity)


def eval_batches(
    source: Source, spec: DataSpec, *, process_index: int = 0, process_count: int = 1
) -> Iterator[HostBatch]:
    """Every record once, in data-set order, in ceil(N / B) global batches; this process's rows of
    each.

    As `train_iterator`, but finite and unshuffled. The last batch is filled up with repeats of row
    0 whose "mask" is False, so that every process sees the same number of equal batches. Transforms
    draw from (seed, row): two passes are equal.
    """
    local_rows = _local_rows(spec.batch_size, process_index, process_count)
    elements = grain.MapDataset.source(_records(source, spec)).random_map(
        _Apply(spec.transforms), seed=_seeds(spec.seed)[2]
    )
    rows = _ProcessRows(elements, spec.batch_size, local_rows, process_index, valid=len(source))
    return _finite(
        rows.batch(local_rows, drop_remainder=True, batch_fn=_stack).to_iter_dataset(
            _read_options(spec)
        )
    )


class TrainIterator:
    """An endless iterator over host-local batches whose position can be saved and restored.

    The state is a small JSON-like dict, equal on all processes and valid for any number of them:
    the number of batches taken, and what the position belongs to (data, items, batch size, seed,
    and the sampler where there is one).
    """

    def __init__(self, batches: grain.IterDataset, identity: dict[str, Any]) -> None:
        self._iterator = iter(batches)
        self._identity = identity

    def __iter__(self) -> TrainIterator:
        return self

    def __next__(self) -> HostBatch:
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """The position after the batches returned so far."""
        return {"step": int(self._iterator.get_state()["next_index"]), **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a saved position, bit for bit; ConfigError if it was saved for other data,
        batch size or seed.
        """
        for key in (*self._identity, "sampler"):
            saved, ours = state.get(key), self._identity.get(key)
            if saved != ours:
                raise ConfigError(
                    f"the saved position in the training data is for {key} = {saved!r}, this run "
                    f"has {ours!r}: continue with the same setting or start in a new workdir"
                )
        self._iterator.set_state({"next_index": int(state["step"])})

    def close(self) -> None:
        """Stops the reader threads."""
        self._iterator.close()


def _records(
    source: Source, spec: DataSpec, arrays: Mapping[str, np.ndarray] | None = None
) -> Source | WithRows:
    """The source as the specification wants it: the features it names, and the rows of its arrays."""
    chosen = source.select(*spec.features) if spec.features else source
    rows: dict[str, Rows] = dict(arrays or {})
    for key, path in spec.arrays:
        if key in rows:
            raise DataError(
                f"{source.name}: two arrays are called '{key}', one of a file and one that was "
                "refreshed; "
                "give one another name"
            )
        rows[key] = open_rows(path(source) if callable(path) else path)
    return WithRows(chosen, rows) if rows else chosen


class _Epochs:
    """The rows of every batch of every epoch, as a sampler gives them; those of the last few epochs
    are kept.

    How many batches an epoch has is the sampler's choice: to find the place of a batch, all epochs
    before it are asked for once.
    """

    _KEPT = 3

    def __init__(self, sampler: Sampler, groups: np.ndarray, seed: int, batch_size: int) -> None:
        self._sampler, self._groups = sampler, np.asarray(groups)
        self._seed, self._batch_size = seed, batch_size
        self._ends: list[int] = []  # batches up to the end of each epoch
        self._rows: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()  # the reader threads ask
        self._of(0)

    def row(self, element: int) -> int:
        """The record that stands at place `element` of the run."""
        batch, place = divmod(element, self._batch_size)
        with self._lock:
            while not self._ends or batch >= self._ends[-1]:
                self._of(len(self._ends))
            epoch = bisect.bisect_right(self._ends, batch)
            before = self._ends[epoch - 1] if epoch else 0
            return int(self._of(epoch)[batch - before, place])

    def _of(self, epoch: int) -> np.ndarray:
        if epoch not in self._rows:
            rows = self._checked(epoch)
            if epoch == len(self._ends):
                self._ends.append((self._ends[-1] if epoch else 0) + len(rows))
            while len(self._rows) >= self._KEPT:
                del self._rows[next(iter(self._rows))]
            self._rows[epoch] = rows
        return self._rows[epoch]

    def _checked(self, epoch: int) -> np.ndarray:
        rows = np.asarray(self._sampler(self._groups, self._seed, epoch))
        said = f"{_name(self._sampler)}, epoch {epoch}"
        if rows.ndim != 2 or rows.dtype.kind not in "iu" or rows.shape[1] != self._batch_size:
            raise ConfigError(
                f"{said}: gives {rows.dtype} of shape {rows.shape}; a sampler gives whole numbers "
                f"[batches, {self._batch_size}], the rows of each batch"
            )
        if not len(rows):
            raise ConfigError(f"{said}: gives no batch of {self._batch_size} rows")
        if rows.min() < 0 or rows.max() >= len(self._groups):
            raise ConfigError(
                f"{said}: gives rows {rows.min()} to {rows.max()}; there are {len(self._groups)}"
            )
        return rows


class _Sampled(grain.MapDataset):
    """The records in the order that a sampler gives, endless."""

    def __init__(self, records: grain.MapDataset, epochs: _Epochs) -> None:
        super().__init__(records)
        self._records, self._epochs = records, epochs

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        return self._records[self._epochs.row(index)]


def _name(sampler: Any) -> str:
    """What a sampler is called, whether it is a function, one with settings bound to it, or an
    object."""
    sampler = getattr(sampler, "func", sampler)
    return str(getattr(sampler, "__qualname__", type(sampler).__qualname__))


class _Apply:
    """All transforms of a record, in order, drawing from the element's own generator; "label" is
    put back, "id" dropped.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._transforms = tuple(transforms)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        label = record["label"]
        for transform in self._transforms:
            record = transform(record, rng)
        record = {key: value for key, value in record.items() if key != "id"}
        record["label"] = np.int32(label)
        return record


class _ProcessRows(grain.MapDataset):
    """The rows of the global batches that one process holds, in order; each row gets its "mask".

    Placed after the random map, whose generators are keyed by the index they are asked for: that
    index is the global one here, never the local one.
    """

    def __init__(
        self,
        elements: grain.MapDataset,
        batch_size: int,
        local_rows: int,
        process_index: int,
        *,
        valid: int,
    ) -> None:
        super().__init__(elements)
        self._elements = elements
        self._batch_size, self._local_rows, self._first = (
            batch_size,
            local_rows,
            process_index * local_rows,
        )
        self._valid = valid
        self._length = min(math.ceil(valid / batch_size), sys.maxsize // batch_size) * local_rows

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        step, row = divmod(index, self._local_rows)
        element = step * self._batch_size + self._first + row
        inside = element < self._valid
        return {**self._elements[element if inside else 0], "mask": np.bool_(inside)}


def _stack(rows: Sequence[Record]) -> HostBatch:
    """Rows of equal keys and shapes to arrays with a leading batch axis."""
    batch = {}
    for key in rows[0]:
        values = [np.asarray(row[key]) for row in rows]
        if values[0].dtype.kind not in "biuf":
            raise ConfigError(
                f"the transforms leave '{key}', which is no array of numbers; end them with "
                "Keep(...)"
            )
        odd = next((value.shape for value in values if value.shape != values[0].shape), None)
        if odd is not None:
            raise DataError(
                f"'{key}' has the shape {values[0].shape} in one record and {odd} in another; make "
                "them equal, as with "
                "Subsample(n), or leave it out with Keep(...)"
            )
        batch[key] = np.stack(values)
    return batch


def _finite(batches: grain.IterDataset) -> Iterator[HostBatch]:
    iterator = iter(batches)
    try:
        yield from iterator
    finally:
        iterator.close()


def _local_rows(batch_size: int, process_index: int, process_count: int) -> int:
    if batch_size < 1:
        raise ConfigError(f"a batch of {batch_size} rows; batch_size must be at least 1")
    if batch_size % process_count:
        raise ConfigError(
            f"a batch of {batch_size} rows cannot be split evenly over {process_count} processes; "
            f"use a multiple of {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise ConfigError(f"process {process_index} of {process_count}: the index counts from 0")
    return batch_size // process_count


def _seeds(seed: int) -> tuple[int, int, int]:
    """Seeds of the order, of the training draws and of the evaluation draws.

    Grain gives epoch e of seed s the order of epoch e + 1 of seed s - 1; hashing keeps runs of
    neighbouring seeds apart.
    """
    if seed < 0:
        raise ConfigError(f"seed = {seed}; a seed is a non-negative integer")
    order, train, evaluation = np.random.SeedSequence(seed).generate_state(3)
    return int(order), int(train), int(evaluation)


def _read_options(spec: DataSpec) -> grain.ReadOptions:
    # What is read ahead are whole batches, so a few are enough.
    ahead = spec.num_threads + 1 if spec.num_threads else 0
    return grain.ReadOptions(num_threads=spec.num_threads, prefetch_buffer_size=ahead)
