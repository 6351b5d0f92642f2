"""INRs of a data set as clouds and as pictures, for methods that read those; made once and kept.

INRet, section 4.4: the baselines see what the INR says of the shape, not the shape. Clouds are kept
as rows beside the prepared data (`data.features`), pictures as a view store (`data.views`); the
digest of either covers the data, the INRs and how they were converted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, UInt8

from jax3dret.core import rng
from jax3dret.core.types import DataError, Record, Source
from jax3dret.core.workers import ordered_map
from jax3dret.data.features import frozen_features
from jax3dret.data.lock import exclusive
from jax3dret.data.views import describe_cameras, describe_source, is_stored, write_store
from jax3dret.evaluators.fields import LIVE
from jax3dret.geometry import cameras as camera_sets
from jax3dret.geometry import views as view_rendering
from jax3dret.geometry.cameras import Cameras
from jax3dret.geometry.field_views import render
from jax3dret.geometry.isosurface import surface_points
from jax3dret.models.field_encoders.inr_row import split_kind
from jax3dret.models.fields import architectures
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.field_records import FieldRecords

# Counts up whenever the same INR gives another cloud or picture.
VERSION = 1
# Records that make another process worth its start.
_PER_JOB = 8


class Fields:
    """The INRs of one kind, "<architecture>_<function>", of a split: `fields[i]` is that of record
    i; None where the record has none, which its manifest lists and no batch reads.

    Raises ConfigError, here, where the data set has none at all.
    """

    def __init__(self, source: Source, kind: str) -> None:
        architecture, function = split_kind(kind)
        records = FieldRecords.from_manifest(source.manifest)
        features = records.features(architecture, function)
        self.architecture, self.function, self.kind = architecture, function, kind
        self.names = source.ids
        self._records, self._source = records, source.select(*features)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Field | None:
        if not self._records.has(self.names[index], self.architecture, self.function):
            return None
        field = self._records.field(self._source[index], self.architecture, self.function)
        return in_few_sizes(field)

    def described(self) -> dict[str, Any]:
        """What the INRs are and were made from, JSON-like, for a digest."""
        made_from = self._source.manifest["source"]
        return {
            "kind": self.kind,
            "inrs": made_from["inrs"],
            "made_from": made_from.get("made_from"),
        }


def in_few_sizes(field: Field) -> Field:
    """The same field, an octree's arrays padded as for a stack: what asks many of them is compiled
    for few sizes.
    """
    stacked = architectures.stack(field.architecture, [field.variables])
    variables = jax.tree.map(lambda leaf: np.asarray(leaf[0]), stacked)
    return dataclasses.replace(field, variables=variables)


def cloud_of(fields: Fields, index: int, points: int, seed: int = 0) -> Float32[np.ndarray, "P 3"]:
    """Points on the surface of an INR, the same for the same arguments; zeros where there is none.
    Raises DataError, the record first, for an INR without a surface.
    """
    field = fields[index]
    if field is None:
        return np.zeros((points, 3), np.float32)
    return _points(field, points, rng.host_generator(seed, "points of an INR", index, points))


def _points(field: Field, points: int, generator: np.random.Generator) -> np.ndarray:
    try:
        return surface_points(field, field.function, points, generator)
    except DataError as error:
        raise DataError(f"{field.about['source']}: {error}") from None


def cloud_file(source: Source, kind: str, *, points: int, seed: int = 0) -> pathlib.Path:
    """The file of float32 [N, points, 3], a cloud of every record's INR, made now if it is not
    there; the points are in the INR's frame, y up. Raises as `Fields` and `cloud_of`.
    """
    fields = Fields(source, kind)
    return frozen_features(
        source,
        _CloudRows(fields, points, seed),
        np.asarray,
        provenance={
            "converted": "cloud",
            "version": VERSION,
            "points": points,
            "seed": seed,
            **fields.described(),
        },
        batch_size=1,
        what=f"clouds of {kind}",
    )


class _CloudRows:
    """Row i is the cloud of record i, made when it is asked for."""

    def __init__(self, fields: Fields, points: int, seed: int) -> None:
        self._fields, self._points, self._seed = fields, points, seed

    def __len__(self) -> int:
        return len(self._fields)

    def __getitem__(self, index: int) -> np.ndarray:
        return cloud_of(self._fields, index, self._points, self._seed)


def view_file(
    source: Source,
    kind: str,
    *,
    cameras: str,
    size: int = 224,
    by: str = "auto",
    jobs: int = 1,
) -> pathlib.Path:
    """The view store of every record's INR, uint8 [V, size, size] grey, made now if it is not
    there.

    cameras: a set by name. by: see `geometry.field_views.render`. jobs: processes that render.
    Raises as `Fields`, ConfigError for cameras or a way to render that there is not, and DataError,
    the record first, for an INR that shows nothing.
    """
    fields, placed = Fields(source, kind), camera_sets.by_name(cameras)
    meta = {
        "converted": "views",
        "version": [VERSION, view_rendering.VERSION],
        "cameras": describe_cameras(placed),
        "size": size,
        "by": by,
        **fields.described(),
        "source": describe_source(source),
    }
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:12]
    words = [source.split, placed.name, kind]
    stem = "-".join(re.sub(r"\W+", "_", word).strip("_") for word in words)
    path = source.path / "views" / f"{stem}-{size}-{digest}.array_record"
    name = f"views of {kind} of {source.name}, split '{source.split}'"
    with exclusive(path.with_name(path.name + ".lock"), name):
        if not is_stored(path, meta):
            work = _Render(fields, placed, size, by)
            jobs = max(1, min(jobs, len(source) // _PER_JOB))
            rows = ordered_map(work, range(len(source)), jobs=jobs, name=source.ids.__getitem__)
            write_store(path, meta, rows, name)
    return path


class _Render:
    """Index -> the pixels of that record's INR; callable in another process."""

    def __init__(self, fields: Fields, cameras: Cameras, size: int, by: Any) -> None:
        self._fields, self._cameras, self._size, self._by = fields, cameras, size, by

    def __call__(self, index: int) -> bytes:
        field = self._fields[index]
        if field is None:
            return bytes(len(self._cameras.positions) * self._size**2)
        return _pictures(field, self._cameras, self._size, self._by).tobytes()


def _pictures(field: Field, cameras: Cameras, size: int, by: Any) -> UInt8[np.ndarray, "V S S"]:
    how: Any = "marching" if field.function == "occ" else by
    try:
        views = render(field, field.function, cameras, size=size, up_axis="y", by=how)
    except DataError as error:
        raise DataError(f"{field.about['source']}: {error}") from None
    return np.ascontiguousarray(views.shaded)


@dataclasses.dataclass(frozen=True)
class CloudNow:
    """record["cloud"]: points of its INR, made now: what a query of an INR costs."""

    records: FieldRecords
    kind: str
    points: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        field = in_few_sizes(self.records.field(record, *split_kind(self.kind)))
        return {**record, "cloud": _points(field, self.points, rng)}


@dataclasses.dataclass(frozen=True)
class ViewsNow:
    """record["views"] uint8 [V, S, S, 3]: pictures of its INR, made now."""

    records: FieldRecords
    kind: str
    cameras: str
    size: int
    by: str

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        del rng
        field = in_few_sizes(self.records.field(record, *split_kind(self.kind)))
        pictures = _pictures(field, camera_sets.by_name(self.cameras), self.size, self.by)
        return {**record, "views": np.repeat(pictures[..., None], 3, axis=-1)}


def read_kind(modality: str) -> tuple[str, bool]:
    """The kind of INR that an evaluator asks for, and whether its records are to be converted now,
    for their time, rather than read as they were converted before. Raises ConfigError for no kind.
    """
    kind, now = modality.removesuffix(LIVE), modality.endswith(LIVE)
    split_kind(kind)
    return kind, now
