"""INRs of a data set as clouds and as pictures, for methods that read those; made once and kept.

INRet, section 4.4: the baselines see what the INR says of the shape, not the shape. Clouds are kept
as rows beside the prepared data (`data.features`), pictures as a view store (`data.views`); the
digest of either covers the data, the INRs and how they were converted.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float32

from jax3dret.core import rng
from jax3dret.core.types import DataError, Source
from jax3dret.data.features import frozen_features
from jax3dret.geometry.isosurface import surface_points
from jax3dret.models.fields.architectures import describe
from jax3dret.models.fields.field import Field, Function
from jax3dret.models.fields.field_records import FieldRecords

# Counts up whenever the same INR gives another cloud or picture.
VERSION = 1


class Fields:
    """The INRs of one architecture and function of a split: `fields[i]` is that of record i.

    Raises ConfigError, here, where the data set has none of them, and DataError where some of its
    records lack theirs, with how many.
    """

    def __init__(self, source: Source, architecture: str, function: Function) -> None:
        records = FieldRecords.from_manifest(source.manifest)
        features = records.features(architecture, function)
        lacking = [name for name in source.ids if not records.has(name, architecture, function)]
        if lacking:
            raise DataError(
                f"{source.name}, split '{source.split}': {len(lacking)} of {len(source)} records "
                f"have no INR {architecture}_{function}, such as {lacking[0]}; take a function that "
                "all have"
            )
        self.architecture, self.function = architecture, function
        self.names = source.ids
        self._records, self._source = records, source.select(*features)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Field:
        return self._records.field(self._source[index], self.architecture, self.function)

    def described(self) -> dict[str, Any]:
        """What the INRs are, JSON-like, for a digest."""
        about = describe(self._records.architectures[self.architecture])
        return {"architecture": about, "function": self.function}


def cloud_of(fields: Fields, index: int, points: int, seed: int = 0) -> Float32[np.ndarray, "P 3"]:
    """Points on the surface of an INR; the same for the same arguments. Raises DataError, the
    record first, for an INR without a surface.
    """
    generator = rng.host_generator(seed, "points of an INR", index, points)
    try:
        return surface_points(fields[index], fields.function, points, generator)
    except DataError as error:
        raise DataError(f"{fields.names[index]}: {error}") from None


def cloud_file(
    source: Source, architecture: str, function: Function, *, points: int, seed: int = 0
) -> pathlib.Path:
    """The file of float32 [N, points, 3], a cloud of every record's INR, made now if it is not
    there; the points are in the INR's frame, y up. Raises as `Fields` and `cloud_of`.
    """
    fields = Fields(source, architecture, function)
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
        what=f"clouds of {architecture}_{function}",
    )


class _CloudRows:
    """Row i is the cloud of record i, made when it is asked for."""

    def __init__(self, fields: Fields, points: int, seed: int) -> None:
        self._fields, self._points, self._seed = fields, points, seed

    def __len__(self) -> int:
        return len(self._fields)

    def __getitem__(self, index: int) -> np.ndarray:
        return cloud_of(self._fields, index, self._points, self._seed)
