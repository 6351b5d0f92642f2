"""What the encoders of INRet read: rows of INRs, made once and kept beside the data set, and points
of the query pool.

    <prepared folder>/features/<split>-<digest>.npy     [N, ...], row i = record i

A file holds one array of one kind of INR (`models.field_encoders.inr_row`) for all records of a
split. Its digest covers the records, the INRs and how rows are made of them. What is trained on is
read from there, a batch at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jax3dret.core import files
from jax3dret.core.logging import progress
from jax3dret.core.types import Arrays, ConfigError, DataError, Record, Source, Transform
from jax3dret.data.features import features_path
from jax3dret.data.lock import exclusive
from jax3dret.data.points import Keep
from jax3dret.models.field_encoders.inr_row import InrRow, split_kind
from jax3dret.models.fields.field import Architecture
from jax3dret.models.fields.field_records import FieldRecords

logger = logging.getLogger("jax3dret")
# Counts up when the same INR gives another row.
VERSION = 1


@dataclasses.dataclass(frozen=True)
class QueryPoints:
    """ "points" float32 [count, 3] drawn from the pool of a record, each at most once, and the true
    values of the functions there. Raises DataError for a pool that is smaller.
    """

    count: int
    functions: tuple[str, ...]

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        pool = len(record["points"])
        if pool < self.count:
            raise DataError(
                f"{record.get('id', 'a record')}: a query pool of {pool} points; lower "
                f"config.data.query_points, which is {self.count}"
            )
        chosen = rng.choice(pool, self.count, replace=False)
        drawn = {
            key: np.asarray(record[key], np.float32)[chosen] for key in ("points", *self.functions)
        }
        return {**record, **drawn}


@dataclasses.dataclass(frozen=True)
class RowOf:
    """The row of an INR of a record, made now: what `arrays` keeps."""

    records: FieldRecords = dataclasses.field(repr=False)
    kind: str
    made: InrRow

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        del rng
        return {**record, **self.made(self.records.field(record, *split_kind(self.kind)))}


@dataclasses.dataclass(frozen=True)
class Reader:
    """architectures: by name, those that the encoders are for. row: how rows are made."""

    architectures: Mapping[str, Architecture]
    row: InrRow

    def shapes(self, kind: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Of the arrays of a row."""
        architecture, function = split_kind(kind)
        return self.row.shapes(self.architectures[architecture], function)

    def arrays(self, kinds: tuple[str, ...]) -> Arrays:
        """The arrays of these kinds, as a DataSpec takes them."""
        return tuple(
            (name, functools.partial(self.file_of, kind, name))
            for kind in kinds
            for name in self.shapes(kind)
        )

    def training(self, count: int, functions: tuple[str, ...], kinds: tuple[str, ...]) -> Any:
        """The transforms of a record: draw points, keep what is read."""
        names = [name for kind in kinds for name in self.shapes(kind)]
        points = ("points", *functions) if functions else ()
        draw = (QueryPoints(count, functions),) if functions else ()
        return (*draw, Keep((*points, *names, "label")))

    def live(self, source: Source, kind: str) -> tuple[tuple[str, ...], tuple[Transform, ...]]:
        """The features of a record and the transforms that make its row of them."""
        records = self.records_of(source, kind)
        row = RowOf(records, kind, self.row)
        names = tuple(self.shapes(kind))
        return records.features(*split_kind(kind)), (row, Keep((*names, "label")))

    def records_of(self, source: Source, kind: str) -> FieldRecords:
        """Raises ConfigError for a data set without INRs of a kind, or with others than the
        encoders are for.
        """
        records = FieldRecords.from_manifest(source.manifest)
        architecture, function = split_kind(kind)
        records.features(architecture, function)
        theirs = self.row.shapes(records.architectures[architecture], function)
        for name, shape in self.shapes(kind).items():
            if theirs.get(name) != shape:
                found = list(theirs[name].shape) if name in theirs else "none"
                raise ConfigError(
                    f"{source.name}: its {name} is {found}, the encoder's {list(shape.shape)}; set "
                    f"config.inrs.{architecture} as its INRs are: "
                    f"{records.architectures[architecture]}"
                )
        return records

    def file_of(self, kind: str, name: str, source: Source) -> pathlib.Path:
        """The file of one array, made with the others of its kind if it is not there.

        Every process calls it; the first makes it, the others wait and find it.

        Raises: ConfigError: as `records_of`. DataError: an INR whose row is not finite; a disk
            error.
        """
        records = self.records_of(source, kind)
        paths = {each: self._path(source, each) for each in self.shapes(kind)}
        what = f"rows of INRs ({kind}) of {source.name}"
        with exclusive(paths[f"{kind}/rows"].with_suffix(".lock"), what):
            if not all(path.is_file() for path in paths.values()):
                logger.info(
                    "%s, split '%s': made once, kept in %s", what, source.split, paths[name].parent
                )
                self._write(source, records, kind, paths)
        return paths[name]

    def _path(self, source: Source, name: str) -> pathlib.Path:
        made_from = dict(source.manifest.get("source", {}))
        provenance = {
            "what": name,
            "version": VERSION,
            "row": dataclasses.asdict(self.row),
            "inrs": made_from.get("inrs"),
            "made_from": made_from.get("made_from"),
        }
        return features_path(source, provenance)

    def _write(
        self,
        source: Source,
        records: FieldRecords,
        kind: str,
        paths: Mapping[str, pathlib.Path],
    ) -> None:
        architecture, function = split_kind(kind)
        features = records.features(architecture, function)
        shapes, chosen = self.shapes(kind), source.select(*features)
        try:
            with contextlib.ExitStack() as stack:
                # The first of the files is renamed last: where it is, all are.
                out = {
                    name: stack.enter_context(files.writing(path)) for name, path in paths.items()
                }
                for name, shape in shapes.items():
                    header = {
                        "descr": np.dtype(shape.dtype).str,
                        "fortran_order": False,
                        "shape": (len(source), *shape.shape),
                    }
                    np.lib.format.write_array_header_1_0(out[name], header)
                update = stack.enter_context(progress(len(source), f"rows {kind} {source.split}"))
                for i, identity in enumerate(source.ids):
                    if records.has(identity, architecture, function):
                        row = self.row(records.field(chosen[i], architecture, function))
                    else:  # no batch reads it
                        row = {n: np.zeros(s.shape, s.dtype) for n, s in shapes.items()}
                    for name, file in out.items():
                        file.write(np.ascontiguousarray(row[name]).data)
                    update(i + 1)
        except OSError as error:
            raise DataError(f"{error.filename or paths}: {error.strerror or error}") from error


@dataclasses.dataclass(frozen=True)
class Complete:
    """A sampler of a data set in which some records lack an INR: each of the others once an epoch,
    in an order of its own, what is left of the last batch in none.
    """

    rows: tuple[int, ...]
    batch_size: int

    def __call__(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        del labels
        order = np.random.default_rng((seed, epoch)).permutation(np.asarray(self.rows))
        batches = len(order) // self.batch_size
        return order[: batches * self.batch_size].reshape(batches, self.batch_size)


def complete_rows(source: Source, kinds: tuple[str, ...], functions: tuple[str, ...]) -> Any:
    """The rows of records that have all these INRs and true values; None where all have. What is
    left out is counted in the log.

    Raises DataError where none has.
    """
    if "inrs" not in source.manifest.get("source", {}):
        return None
    without = FieldRecords.from_manifest(source.manifest).without
    lacking = frozenset().union(*(without.get(key, frozenset()) for key in (*kinds, *functions)))
    if lacking.isdisjoint(source.ids):
        return None
    rows = tuple(i for i, identity in enumerate(source.ids) if identity not in lacking)
    if not rows:
        raise DataError(
            f"{source.name}, split '{source.split}': no record has all of {', '.join(kinds)}"
        )
    logger.warning(
        "%s, split '%s': %d of %d records lack one of %s, or true values; they are not trained on",
        source.name,
        source.split,
        len(source.ids) - len(rows),
        len(source.ids),
        ", ".join(kinds),
    )
    return rows
