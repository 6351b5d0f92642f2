"""Pictures of the INRs of a data set, for the report."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from jax3dret.core.types import DataError, Source
from jax3dret.geometry.isosurface import field_mesh
from jax3dret.geometry.rendering import render_mesh
from jax3dret.models.fields.field_records import FieldRecords

# Places an axis of the lattice that a surface is looked for on: enough for a small picture.
RESOLUTION = 64


def holds_fields(source: Source) -> bool:
    """Whether the records of a data set are INRs."""
    return "inrs" in source.manifest.get("source", {})


def field_picture(source: Source, row: int, size: int) -> UInt8[np.ndarray, "S S 3"] | None:
    """The surface of a record's first INR, of the function that shows most: a signed distance, else
    an occupancy, else the shell around a distance. None where the record has none, or it has no
    surface.
    """
    records = FieldRecords.from_manifest(source.manifest)
    for function in ("sdf", "occ", "udf"):
        for name in records.architectures:
            if function not in records.functions or not _has(records, source, row, name, function):
                continue
            record = source.select(*records.features(name, function))[row]
            field = records.field(record, name, function)
            try:
                mesh = field_mesh(field, function, RESOLUTION)
            except DataError:  # all inside, or all outside: a poor fit
                continue
            return render_mesh(mesh, size=size, up="y")
    return None


def _has(records: FieldRecords, source: Source, row: int, name: str, function: str) -> bool:
    features = set(records.features(name, function))
    return features <= set(source.features) and records.has(source.ids[row], name, function)
