"""An INR: what an encoder of fields reads of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jax3dret.core.types import DataError, Loaded, Row, nearest
from jax3dret.inputs.batching import stack
from jax3dret.models.field_encoders.inr_row import InrRow, kind_of


@dataclasses.dataclass(frozen=True)
class FieldInput:
    """The rows of an INR's network and the features of its grid on a lattice, under names that say
    its architecture and function (`models.field_encoders.inr_row`): a batch holds one kind.

    kinds: those that there is an encoder for, such as "hashgrid_sdf". resolution, precision: of the
    lattice.
    """

    kinds: tuple[str, ...]
    resolution: int = 64
    precision: str = "float16"
    accepts: ClassVar[tuple[str, ...]] = ("field",)
    version: ClassVar[int] = 1

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Nothing is drawn from `rng`. Raises DataError for an INR that there is no encoder for."""
        field = loaded.value
        kind = kind_of(field.architecture.name, field.function)
        if kind not in self.kinds:
            raise DataError(
                f"{loaded.name}: an INR of the kind '{kind}'{nearest(kind, self.kinds)}; the model "
                f"has encoders for {', '.join(self.kinds)}. Distil it into one of these "
                "(jax3dret.tasks.inret.distillation)"
            )
        try:
            return InrRow(self.resolution, self.precision)(field)
        except DataError as error:
            raise DataError(f"{loaded.name}: {error}") from None

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        return stack(rows)
