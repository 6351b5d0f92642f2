"""The batches of a run, which begin anew wherever `Recipe.refresh` makes the arrays that they are a
function of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jax3dret.core.checkpoint import Refreshed
from jax3dret.core.types import DataError, DataSpec, EmbedFn, Recipe

HostBatch = Mapping[str, np.ndarray]


@runtime_checkable
class DataIterator(Protocol):
    """Host-local batches whose position can be saved."""

    def __next__(self) -> HostBatch: ...

    def get_state(self) -> Any: ...

    def set_state(self, state: Any) -> None: ...


# (the training data, arrays with one row per record that join its records) -> its batches from the
# first on.
OpenData = Callable[[DataSpec, Mapping[str, np.ndarray]], DataIterator]


class Batches:
    """The training batches from step `first` on, and what a checkpoint needs to go on with them.

    position: in the data, after the batches given so far; None before the first. refreshed: what
    the last refresh gave; None without one. Both are handed in from the checkpoint that the run
    goes on from.

    Raises what `open_data` raises, and ConfigError for a position in other data.
    """

    def __init__(
        self,
        recipe: Recipe,
        open_data: OpenData,
        first: int,
        *,
        position: Any = None,
        refreshed: Refreshed | None = None,
    ) -> None:
        self.position = position
        self.refreshed = None if recipe.refresh is None else refreshed
        self._recipe, self._open_data = recipe, open_data
        self._data: DataIterator | None = None
        if first < recipe.steps and not self.is_due(first):
            self._data = self._open()
            if position is not None:
                self._data.set_state(position)

    def is_due(self, step: int) -> bool:
        """Whether the arrays are to be made before the batch of `step` is read.

        A checkpoint that has none, as one of an earlier version, makes it due at once.
        """
        if self._recipe.refresh is None:
            return False
        every = self._recipe.refresh_every
        return self.refreshed is None or step == 0 or (every > 0 and step % every == 0)

    def refresh(self, step: int, embed: EmbedFn) -> list[str]:
        """Makes the arrays with the model as it is before `step`; the data begins anew with them.

        Its seed is the run's own at step 0 and one for each later refresh, so that order and
        augmentations are not the same every time. Returns the names of the arrays.

        Raises what the refresh and `open_data` raise.
        """
        assert self._recipe.refresh is not None
        made = self._recipe.refresh(embed, step)
        arrays = {name: np.asarray(values) for name, values in made.items()}
        self.close()
        self.position, self.refreshed = None, Refreshed(step, arrays)
        self._data = self._open()
        return list(arrays)

    def _open(self) -> DataIterator:
        spec, step, arrays = self._recipe.train, *(self.refreshed or Refreshed(0, {}))
        if step:
            seed = np.random.SeedSequence([spec.seed, step]).generate_state(1)
            spec = dataclasses.replace(spec, seed=int(seed[0]))
        return self._open_data(spec, arrays)

    def next(self, step: int) -> HostBatch:
        """This process's rows of the batch of `step`.

        Raises DataError where the data ends before the run does.
        """
        assert self._data is not None
        try:
            batch = next(self._data)
        except StopIteration:
            raise DataError(
                f"step {step}: the data '{self._recipe.train.name}' ended before the last step "
                f"{self._recipe.steps}"
            ) from None
        self.position = self._data.get_state()
        return batch

    def close(self) -> None:
        """Stops the reader threads of the data."""
        if self._data is not None and hasattr(self._data, "close"):
            self._data.close()
        self._data = None
