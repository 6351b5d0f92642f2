"""Where arrays live: a mesh with the axes `data` and `fsdp`, regex rules for parameters, batches
split over both axes.

Arrays are global under `jax.jit`: a mean over the batch axis is the mean over the global batch, on
one device or many, and no collective is written by hand. The optimizer state is placed explicitly,
because what `jax.jit(tx.init)` would choose is a single device, and such a state can neither be
donated into a sharded step nor restored beside sharded parameters.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax3dret.core.config import check_rules
from jax3dret.core.types import ConfigError, PyTree

Rules = Sequence[tuple[str, tuple[str | None, ...]]]
# Parameters, or their shapes alone.
Leaf = jax.Array | jax.ShapeDtypeStruct


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
    """All devices of all processes as a (data, fsdp) mesh; -1 takes what the other axis leaves.

    Raises:
        ConfigError: the axes do not multiply to the number of devices.
    """
    devices = jax.devices()
    n = len(devices)
    shape = [data, fsdp]
    other = -data * fsdp
    if shape.count(-1) == 1 and other > 0 and n % other == 0:
        shape[shape.index(-1)] = n // other
    if min(shape) < 1 or shape[0] * shape[1] != n:
        raise ConfigError(
            f"config.mesh: data={data} x fsdp={fsdp} does not fit {n} devices; data=-1, fsdp=1 does"
        )
    return Mesh(np.asarray(devices).reshape(shape), ("data", "fsdp"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over every device."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def path_name(path: Sequence[object]) -> str:
    """ "a/b/kernel" for a key path of a pytree."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def param_shardings(params: PyTree, rules: Rules, mesh: Mesh) -> PyTree:
    """A NamedSharding for each parameter: the first rule whose regex matches the whole path; none
    means replicated.

    Raises: ConfigError: a rule matches nothing, names an unknown axis, or asks for a split that
        does not divide the shape.
    """
    check_rules(rules, where="config.sharding")
    unmatched = {pattern for pattern, _ in rules}

    def place(path: Sequence[object], leaf: Leaf) -> NamedSharding:
        name = path_name(path)
        for pattern, axes in rules:
            if re.fullmatch(pattern, name):
                unmatched.discard(pattern)
                _check_axes(name, leaf.shape, axes, mesh)
                return NamedSharding(mesh, PartitionSpec(*axes))
        return replicated(mesh)

    out = jax.tree_util.tree_map_with_path(place, params)
    if unmatched:
        names = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        raise ConfigError(
            f"config.sharding: '{sorted(unmatched)[0]}' matches no parameter; they are called like "
            f"'{names[0]}'"
        )
    return out


def state_shardings(state: PyTree, rules: Rules, mesh: Mesh) -> PyTree:
    """Shardings of a whole TrainState (abstract or not): optimizer slots lie where their parameter
    lies.

    A leaf of the optimizer state belongs to the parameter whose path ends its own path and whose
    shape it has; counters and all else are replicated.
    """
    params = param_shardings(state.params, rules, mesh)
    by_name = {
        path_name(path): (leaf.shape, sharding)
        for (path, leaf), sharding in zip(
            jax.tree_util.tree_flatten_with_path(state.params)[0],
            jax.tree.leaves(params),
            strict=True,
        )
    }

    def place(path: Sequence[object], leaf: Leaf) -> NamedSharding:
        parts = path_name(path).split("/")
        for start in range(len(parts)):
            shape, sharding = by_name.get("/".join(parts[start:]), (None, None))
            if sharding is not None and shape == leaf.shape:
                return sharding
        return replicated(mesh)

    return dataclasses.replace(
        state,
        step=replicated(mesh),
        params=params,
        model_state=jax.tree.map(lambda _: replicated(mesh), state.model_state),
        opt_state=jax.tree_util.tree_map_with_path(place, state.opt_state),
    )


def check_batch_sizes(
    mesh: Mesh, *, train: int | None = None, accumulate: int = 1, evaluate: int | None = None
) -> None:
    """That batches can be split as they will be: `train` rows over all devices and into
    `accumulate` parts, `evaluate` rows over the processes. What is None is not looked at.

    Each process fills its rows of an evaluation up to its devices, so that these do not count
    there.

    Raises ConfigError naming the size, what it is split over, and the nearest sizes that will do.
    """
    if train is not None:
        parts = f", and into config.train.accumulate={accumulate} parts" * (accumulate > 1)
        over = f"the {mesh.size} devices{_of_processes()}{parts}"
        _check_divides("config.train.batch_size", train, math.lcm(mesh.size, accumulate), over)
    if evaluate is not None:
        over = f"the {jax.process_count()} processes"
        _check_divides("config.eval.batch_size", evaluate, jax.process_count(), over)


def _check_divides(key: str, rows: int, parts: int, over: str) -> None:
    if rows % parts:
        below, above = rows // parts * parts, -(-rows // parts) * parts
        nearest = f"{below} and {above} do" if below else f"{above} is the smallest that does"
        raise ConfigError(f"{key}={rows} does not divide evenly over {over}; {nearest}")


def _of_processes() -> str:
    return f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch -> global arrays split over the mesh.

    Raises:
        ConfigError: the rows do not divide by the devices of this process.
    """
    sharding = batch_sharding(mesh)
    local = len(mesh.local_devices)
    for key, value in batch.items():
        if value.shape[0] % local:
            raise ConfigError(
                f"a batch of {value.shape[0] * jax.process_count()} rows ('{key}') does not divide "
                f"by {mesh.size} devices; choose a multiple of {mesh.size}"
            )
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }


def _check_axes(
    name: str, shape: tuple[int, ...], axes: tuple[str | None, ...], mesh: Mesh
) -> None:
    if not isinstance(axes, tuple | list):
        raise ConfigError(
            f"config.sharding: {name}: {axes!r} is not a list of mesh axes, such as (None, 'fsdp')"
        )
    if len(axes) > len(shape):
        raise ConfigError(
            f"config.sharding: {name} has shape {shape}, the rule gives {len(axes)} axes"
        )
    for size, axis in zip(shape, axes, strict=False):
        if axis is None:
            continue
        if axis not in mesh.shape:
            raise ConfigError(
                f"config.sharding: {name}: no mesh axis '{axis}'; there are: data, fsdp"
            )
        if size % mesh.shape[axis]:
            raise ConfigError(
                f"config.sharding: {name} of shape {shape} does not split over {mesh.shape[axis]} "
                f"'{axis}' devices"
            )
