"""From PyTorch's names and layouts to ours and back, by a table; complete, or refused with what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jax3dret.core.types import DataError


class Entry(NamedTuple):
    """One tensor: its original name and shape, and its place in our variables.

    A path that ends in "kernel" holds the transpose: Linear [out, in] and Conv [out, in, 1, ...] become Dense [in, out].
    """

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]


def dense(name: str, path: tuple[str, ...], shape: tuple[int, ...], bias: bool = True) -> list[Entry]:
    """A Linear or a 1 x 1 convolution whose weight has the original `shape`."""
    entries = [Entry(f"{name}.weight", shape, ("params", *path, "kernel"))]
    return [*entries, Entry(f"{name}.bias", shape[:1], ("params", *path, "bias"))] if bias else entries


def norm(name: str, path: tuple[str, ...], width: int, running: bool = False) -> list[Entry]:
    """A LayerNorm, or with `running` a BatchNorm."""
    entries = [
        Entry(f"{name}.weight", (width,), ("params", *path, "scale")),
        Entry(f"{name}.bias", (width,), ("params", *path, "bias")),
    ]
    if running:
        entries += [
            Entry(f"{name}.running_mean", (width,), ("batch_stats", *path, "mean")),
            Entry(f"{name}.running_var", (width,), ("batch_stats", *path, "var")),
        ]
    return entries


def load(state_dict: Mapping[str, np.ndarray], entries: Iterable[Entry], prefix: str, network: str) -> dict[str, Any]:
    """Variables of `network` from the tensors below `prefix`, float32.

    Tensors outside `prefix` are somebody else's. Below it every tensor must be in the table with its shape, and every entry of
    the table must be found; the counters `num_batches_tracked` alone are dropped. Raises DataError with all that does not fit.
    """
    found = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    found = {name: value for name, value in found.items() if not name.endswith("num_batches_tracked")}
    variables: dict[str, Any] = {}
    wrong = []
    for name, shape, path in entries:
        if name not in found:
            wrong.append(f"{prefix}{name} is missing")
            continue
        value = np.asarray(found.pop(name), np.float32)
        if value.shape != shape:
            wrong.append(f"{prefix}{name} has shape {value.shape}, not {shape}")
            continue
        node = variables
        for key in path[:-1]:
            node = node.setdefault(key, {})
        # A copy, not a view: the caller may overwrite or unmap the file's tensors.
        node[path[-1]] = value.reshape(shape[:2]).T.copy() if path[-1] == "kernel" else value.copy()
    wrong += [f"{prefix}{name} has no place" for name in sorted(found)]
    if wrong:
        raise DataError(f"{network} weights do not fit: {'; '.join(wrong)}")
    return variables


def save(variables: Mapping[str, Any], entries: Iterable[Entry], prefix: str) -> dict[str, np.ndarray]:
    """The reverse of `load`, for the collections that `variables` holds; gradients of the parameters map alike."""
    state_dict = {}
    for name, shape, path in entries:
        if path[0] not in variables:
            continue
        node: Any = variables
        for key in path:
            node = node[key]
        value = np.asarray(node)
        state_dict[prefix + name] = value.T.reshape(shape) if path[-1] == "kernel" else value
    return state_dict
