"""An INR: what an encoder of fields reads of it, and of a mesh that is fitted to one on the way."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import numpy as np

from jax3dret.core.types import ConfigError, DataError, Loaded, Row, nearest
from jax3dret.inputs.batching import stack
from jax3dret.models.field_encoders.inr_row import InrRow, kind_of, split_kind
from jax3dret.models.fields import architectures, fit_meshes
from jax3dret.models.fields.fit_meshes import Job, Shape


@dataclasses.dataclass(frozen=True)
class FieldInput:
    """The rows of an INR's network and the features of its grid on a lattice, under names that say
    its architecture and function (`models.field_encoders.inr_row`): a batch holds one kind.

    kinds: those that there is an encoder for, such as "hashgrid_sdf". resolution, precision: of the
    lattice. preset: how a mesh is fitted, to the first of the kinds; one that bounds no volume to
    the first distance among them. inrs: JSON, {architecture: its fields} as far as the encoders
    depend on them; empty: no INR is refused for its size.
    """

    kinds: tuple[str, ...]
    resolution: int = 64
    precision: str = "float16"
    preset: str = "fast"
    inrs: str = ""
    accepts: ClassVar[tuple[str, ...]] = ("field", "mesh")
    version: ClassVar[int] = 1
    remarks: ClassVar[Mapping[str, str]] = {
        "mesh": "meshes were fitted to INRs on the way, which are not kept; `jax3dret fit` keeps "
        "them"
    }

    def lift(self, objects: Sequence[Loaded]) -> list[Loaded | DataError]:
        """Meshes as INRs, fitted in batches; INRs as they are. An error in the place of a mesh that
        cannot be fitted.
        """
        meshes = [i for i, each in enumerate(objects) if each.kind == "mesh"]
        out: list[Loaded | DataError] = list(objects)
        jobs = self._jobs
        step = fit_meshes.at_once(jobs)
        for start in range(0, len(meshes), step):
            places = meshes[start : start + step]
            shapes = [
                Shape(objects[i].value, objects[i].up_axis, {"source": objects[i].name})
                for i in places
            ]
            reasons = [""] * len(places)
            for job in jobs:
                left = [i for i, place in enumerate(places) if out[place] is objects[place]]
                found = fit_meshes.fit_meshes([shapes[i] for i in left], [job])
                for i, (outcome,) in zip(left, found, strict=True):
                    reasons[i] = reasons[i] or outcome.reason
                    if outcome.field is not None:
                        out[places[i]] = Loaded("field", outcome.field, objects[places[i]].name)
            for i, place in enumerate(places):
                if out[place] is objects[place]:
                    out[place] = DataError(f"{objects[place].name}: {reasons[i]}")
        return out

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Nothing is drawn from `rng`. Raises DataError for an INR that there is no encoder for."""
        field = loaded.value
        kind = kind_of(field.architecture.name, field.function)
        if kind not in self.kinds:
            raise DataError(
                f"{loaded.name}: an INR of the kind '{kind}'{nearest(kind, self.kinds)}; the model "
                f"has encoders for {', '.join(self.kinds)}. {_DISTIL}"
            )
        try:
            made = InrRow(self.resolution, self.precision)(field)
        except (ConfigError, DataError) as error:
            raise DataError(f"{loaded.name}: {error}") from None
        for name, shape in self._shapes(kind).items():
            found = list(made[name].shape) if name in made else "none"
            if found != list(shape.shape):
                raise DataError(
                    f"{loaded.name}: its {name} is {found}, the encoder's {list(shape.shape)}. "
                    f"{_DISTIL}"
                )
        return made

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        return stack(rows)

    @property
    def _jobs(self) -> list[Job]:
        """The first is tried first."""
        kinds = [self.kinds[0], *(k for k in self.kinds if split_kind(k)[1] == "udf")]
        return [self._job(kind) for kind in dict.fromkeys(kinds[:2])]

    def _job(self, kind: str) -> Job:
        architecture, function = split_kind(kind)
        return Job.of(architecture, function, self.preset)

    def _shapes(self, kind: str) -> Mapping[str, jax.ShapeDtypeStruct]:
        return _shapes_of(self.inrs, kind, self.resolution, self.precision) if self.inrs else {}


_DISTIL = (
    "Distil it into an INR that the model reads (jax3dret.models.fields.distillation), or fit the "
    "mesh anew"
)


@functools.lru_cache(maxsize=32)
def _shapes_of(
    inrs: str, kind: str, resolution: int, precision: str
) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Of the arrays of a row. Raises ConfigError for fields that make no architecture."""
    name, function = split_kind(kind)
    architecture = architectures.by_name(name, **json.loads(inrs).get(name, {}))
    return InrRow(resolution, precision).shapes(architecture, function)
