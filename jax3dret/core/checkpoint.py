"""Orbax checkpoints of a train state, the position in the data, and `meta`; and where a run starts
from. How parameters of one tree are given to another of other names: `matching`.

A checkpoint has four items: `model` (params, model_state), `optimizer` (step, opt_state), `data`
(iterator state), `meta`; that of a run that refreshes its data has a fifth, `refreshed` (the step
of the last refresh, and its arrays). The model can be restored without the optimizer, on any number
of devices.

A run starts, in this order, from: its own last checkpoint; `checkpoint.resume`, another run's
state, step and data position; `checkpoint.init_from`, another run's parameters alone, never its
step; scratch.
"""

from __future__ import annotations

import contextlib
import errno
import json
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import orbax.checkpoint as ocp

from jax3dret.core.matching import MatchRow as MatchRow
from jax3dret.core.matching import format_matches as format_matches
from jax3dret.core.matching import match_params as match_params
from jax3dret.core.sharding import path_name
from jax3dret.core.types import ConfigError, DataError, PyTree, TrainState

FOLDER = "checkpoints"
# The items that every checkpoint has, and the file without which each is none.
_ITEMS = {"model": "_METADATA", "optimizer": "_METADATA", "data": "metadata", "meta": "metadata"}
# Bytes of a checkpoint beside its arrays: names, shapes, shardings.
_ROOM = 1 << 20


class Refreshed(NamedTuple):
    """What `Recipe.refresh` gave: at which step, and arrays by name with a row per training record."""

    step: int
    arrays: Mapping[str, np.ndarray]


class Checkpoints:
    """The checkpoints of one workdir; a save is complete or absent.

    keep: how many of the last ones to keep; None opens them for reading alone, which is safe beside
    a run that writes.
    """

    def __init__(self, workdir: pathlib.Path, *, keep: int | None = None):
        self.directory = pathlib.Path(workdir).resolve() / FOLDER
        with _one_line(self.directory, reads=keep is None):
            self._manager = ocp.CheckpointManager(
                self.directory,
                # Named here so that a manager that has not saved yet can already read what is in a
                # checkpoint.
                item_handlers={
                    "model": ocp.StandardCheckpointHandler(),
                    "optimizer": ocp.StandardCheckpointHandler(),
                    "data": ocp.JsonCheckpointHandler(),
                    "meta": ocp.JsonCheckpointHandler(),
                    "refreshed": ocp.StandardCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep,
                    create=keep is not None,
                    cleanup_tmp_directories=keep is not None,
                    read_only=keep is None,
                ),
            )

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def save(
        self,
        state: TrainState,
        data: Any,
        meta: Mapping[str, Any],
        refreshed: Refreshed | None = None,
    ) -> None:
        """Saves in the background; an error of the previous save is raised here or by `wait`.

        Raises:
            DataError: the disk has no room for it, or cannot be written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self.wait()
        arrays = {} if refreshed is None else dict(refreshed.arrays)
        needed = _ROOM + sum(leaf.nbytes for leaf in jax.tree.leaves((state, arrays)))
        free = shutil.disk_usage(self.directory).free
        if (
            free < needed
        ):  # found out while it writes, the storage layer would leave a traceback in every thread
            raise DataError(
                f"{self.directory}: the disk is full: {free:,} bytes are free, the checkpoint of "
                f"step {step} takes "
                f"{needed:,}; the last complete checkpoint is untouched"
            )
        extra: dict[str, Any] = {}
        if refreshed is not None:
            item = {"step": np.int64(refreshed.step), "arrays": arrays}
            extra["refreshed"] = ocp.args.StandardSave(item)
        with _one_line(self.directory):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardSave(
                        {"params": state.params, "model_state": state.model_state}
                    ),
                    optimizer=ocp.args.StandardSave(
                        {"step": state.step, "opt_state": state.opt_state}
                    ),
                    data=ocp.args.JsonSave({"state": data}),
                    meta=ocp.args.JsonSave(dict(meta)),
                    **extra,
                ),
            )

    def restore(self, abstract: TrainState, step: int | None = None) -> tuple[TrainState, Any]:
        """The state and the data position of `step` (default: the last), placed as `abstract` says.

        Raises: ConfigError: the checkpoint is of another architecture or optimizer; names the first
            difference. DataError: there is none, or it cannot be read.
        """
        step = self._existing(step)
        model = {"params": abstract.params, "model_state": abstract.model_state}
        optimizer = {"step": abstract.step, "opt_state": abstract.opt_state}
        self.check(abstract, step)
        with self._reading(step):
            out = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardRestore(model),
                    optimizer=ocp.args.StandardRestore(optimizer),
                    data=ocp.args.JsonRestore(),
                ),
            )
        return TrainState(**out.optimizer, **out.model), out.data["state"]

    def refreshed(self, step: int | None = None) -> Refreshed | None:
        """The arrays of the last refresh, as they were; None where there was none.

        Raises DataError: there is no checkpoint, or it cannot be read.
        """
        step = self._existing(step)
        with self._reading(step):
            found = self._manager.item_metadata(step).get("refreshed")
            if found is None:
                return None
            # NumPy, not JAX: a JAX array would lose 64 bits.
            target = jax.tree.map(lambda m: np.empty(m.shape, m.dtype), found.tree)
            out = self._manager.restore(
                step, args=ocp.args.Composite(refreshed=ocp.args.StandardRestore(target))
            )
        return Refreshed(int(out.refreshed["step"]), out.refreshed["arrays"])

    def restore_model(
        self, abstract_params: PyTree, abstract_model_state: PyTree, step: int | None = None
    ) -> tuple[PyTree, PyTree]:
        """Parameters and model state alone, as an evaluation needs them."""
        step = self._existing(step)
        model = {"params": abstract_params, "model_state": abstract_model_state}
        self._check_structure(step, "model", model)
        with self._reading(step):
            out = self._manager.restore(
                step, args=ocp.args.Composite(model=ocp.args.StandardRestore(model))
            )
        return out.model["params"], out.model["model_state"]

    def restore_subset(self, wanted: PyTree, step: int | None = None) -> PyTree:
        """Of the `model` item the leaves of `wanted` alone, {"params", "model_state"} as shapes, on
        one device.

        The rest, such as heads and projectors, is not read.

        Raises:
            ConfigError: a leaf is absent or of another shape; names the first.
            DataError: there is no checkpoint, or it cannot be read.
        """
        step = self._existing(step)
        with self._reading(step):
            there = self._manager.item_metadata(step)["model"].tree
        ours = {path_name(p): leaf for p, leaf in jax.tree_util.tree_flatten_with_path(wanted)[0]}
        theirs = {path_name(p): m for p, m in jax.tree_util.tree_flatten_with_path(there)[0]}
        for name in sorted(ours):
            a, b = tuple(theirs[name].shape) if name in theirs else None, tuple(ours[name].shape)
            if a != b:
                self._refuse(step, "architecture", name, a, b)

        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_one_device()),
            wanted,
        )
        with (
            self._reading(step),
            ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader,
        ):
            args = ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            )
            return reader.restore(self.directory / str(step) / "model", args=args)

    def check(self, abstract: TrainState, step: int | None = None) -> None:
        """Raises what `restore` would of another architecture or optimizer, and reads no array."""
        step = self._existing(step)
        model = {"params": abstract.params, "model_state": abstract.model_state}
        self._check_structure(step, "model", model)
        optimizer = {"step": abstract.step, "opt_state": abstract.opt_state}
        self._check_structure(step, "optimizer", optimizer)

    def model_shapes(self, step: int | None = None) -> dict[str, PyTree]:
        """The `model` item under its own names, as shapes and dtypes."""
        step = self._existing(step)
        with self._reading(step):
            tree = self._manager.item_metadata(step)["model"].tree
        return jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), tree)  # type: ignore[no-any-return]

    def raw_model(self, step: int | None = None) -> dict[str, PyTree]:
        """The `model` item as NumPy arrays under its own names, whatever the architecture."""
        step = self._existing(step)
        with self._reading(step):
            metadata = self._manager.item_metadata(step).model
            target = jax.tree.map(
                lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=_one_device()),
                metadata.tree,
            )
            out = self._manager.restore(
                step, args=ocp.args.Composite(model=ocp.args.StandardRestore(target))
            )
        return out.model

    def meta(self, step: int | None = None) -> dict[str, Any]:
        step = self._existing(step)
        with self._reading(step):
            return self._manager.restore(
                step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
            ).meta

    def reached_preemption(self, step: int) -> bool:
        return self._manager.reached_preemption(step)

    def wait(self) -> None:
        with _one_line(self.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        with _one_line(self.directory):
            self._manager.close()

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """As `_one_line`, and says what is left to go on from."""
        try:
            with _one_line(self.directory / str(step), reads=True):
                yield
        except DataError as error:
            earlier = max(
                (other for other in self._manager.all_steps() if other < step), default=None
            )
            left = (
                "there is no earlier one"
                if earlier is None
                else f"without this folder a run goes on from step {earlier}"
            )
            raise DataError(f"{error}; {left}") from error

    def _existing(self, step: int | None) -> int:
        step = self.latest() if step is None else step
        if step is None:
            raise DataError(f"{self.directory}: holds no checkpoint")
        return step

    def _check_structure(self, step: int, item: str, wanted: PyTree) -> None:
        with self._reading(step):
            found = self._manager.item_metadata(step)[item].tree
        theirs = {
            path_name(p): tuple(m.shape) for p, m in jax.tree_util.tree_flatten_with_path(found)[0]
        }
        ours = {
            path_name(p): tuple(m.shape) for p, m in jax.tree_util.tree_flatten_with_path(wanted)[0]
        }
        for name in sorted(ours.keys() | theirs.keys()):
            a, b = theirs.get(name), ours.get(name)
            if a != b:
                what = "architecture" if item == "model" else "optimizer"
                self._refuse(step, what, name, a, b)

    def _refuse(
        self,
        step: int,
        what: str,
        name: str,
        theirs: tuple[int, ...] | None,
        ours: tuple[int, ...] | None,
    ) -> NoReturn:
        raise ConfigError(
            f"{self.directory / str(step)}: a checkpoint of another {what}: {name} is "
            f"{theirs or 'absent'} "
            f"there and {ours or 'absent'} here; use the config it was trained with, or another "
            "--workdir"
        )


def abstract_like(state: PyTree, shardings: PyTree) -> PyTree:
    """Shapes, dtypes and shardings to restore into."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
    )


def _one_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


@contextlib.contextmanager
def _one_line(where: pathlib.Path, *, reads: bool = False) -> Iterator[None]:
    """Turns what the file system and the storage layer raise into one line that names the folder,
    and of a checkpoint that is read, what in it is damaged.
    """
    try:
        yield
    except (ConfigError, DataError):
        raise
    except Exception as error:
        text = str(error)
        if (
            getattr(error, "errno", None) == errno.ENOSPC
            or "No space left" in text
            or "ENOSPC" in text
        ):
            raise DataError(
                f"{where}: the disk is full; the last complete checkpoint is untouched"
            ) from error
        if isinstance(error, PermissionError):
            denied = f"read {error.filename or where}" if reads else "write there"
            raise DataError(f"{where}: no permission to {denied}") from error
        if reads and (what := _damage(where, text)):
            raise DataError(f"{where}: the checkpoint is damaged: {what}") from error
        first = text.strip().splitlines()[0][:300] if text.strip() else type(error).__name__
        raise DataError(f"{where}: cannot read or write the checkpoint: {first}") from error


def _damage(step: pathlib.Path, said: str) -> str:
    """What of a checkpoint's files is missing or no longer what it was; empty where that is not
    found. said: by the storage layer, whose own words are of its inside.
    """
    for item, file in _ITEMS.items():
        if not (step / item / file).is_file():
            return f"{item if not (step / item).is_dir() else f'{item}/{file}'} is missing"
    listed = [step / item / name for item in _ITEMS for name in (*_ITEMS.values(), "_sharding")]
    for path in (*listed, *sorted(step.glob("*/array_metadatas/*"))):
        try:
            json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        except ValueError:
            return f"{path.relative_to(step)} is cut off or overwritten"
    for named in re.findall(r'local file \\?"([^"\\]+)', said)[::-1]:
        path = pathlib.Path(named)
        if path.is_relative_to(step):
            lies = ("files in ", "are") if path.is_dir() else ("", "is")
            return f"{lies[0]}{path.relative_to(step)} {lies[1]} cut off, overwritten or missing"
    return ""
