"""From PyTorch's names and layouts to ours and back, by a table; complete, or refused with what
does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jax3dret.core.types import DataError


class Entry(NamedTuple):
    """One tensor: its original name and shape, and its place in our variables.

    A path that ends in "kernel" holds the transpose: Linear [out, in] and Conv [out, in, 1, ...]
    become Dense [in, out]. Everything else keeps its shape, a packed projection q | k | v its order
    of rows (which become columns).
    """

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]

    def ours(self, value: np.ndarray) -> np.ndarray:
        """The tensor in our layout."""
        return value.reshape(self.shape[:2]).T if self.path[-1] == "kernel" else value

    def original(self, value: np.ndarray) -> np.ndarray:
        """The reverse of `ours`."""
        return value.T.reshape(self.shape) if self.path[-1] == "kernel" else value


class Filters(Entry):
    """The filters of a convolution: [out, in, height, width] becomes [height, width, in, out], and
    those of one in space likewise, with a depth in front of the height.

    A depthwise convolution of C channels has in = 1 in either layout: [C, 1, height, width],
    [height, width, 1, C].
    """

    __slots__ = ()

    def ours(self, value: np.ndarray) -> np.ndarray:
        return value.transpose(*range(2, value.ndim), 1, 0)

    def original(self, value: np.ndarray) -> np.ndarray:
        return value.transpose(value.ndim - 1, value.ndim - 2, *range(value.ndim - 2))


class Squeezed(Entry):
    """A vector or matrix whose original shape begins with axes of length 1, say a class token [1,
    1, width].
    """

    __slots__ = ()

    def ours(self, value: np.ndarray) -> np.ndarray:
        lead = next((i for i, n in enumerate(self.shape) if n != 1), 0)
        return value.reshape(self.shape[lead:])

    def original(self, value: np.ndarray) -> np.ndarray:
        return value.reshape(self.shape)


def dense(
    name: str, path: tuple[str, ...], shape: tuple[int, ...], bias: bool = True
) -> list[Entry]:
    """A Linear or a 1 x 1 convolution whose weight has the original `shape`."""
    entries = [Entry(f"{name}.weight", shape, ("params", *path, "kernel"))]
    return (
        [*entries, Entry(f"{name}.bias", shape[:1], ("params", *path, "bias"))] if bias else entries
    )


def conv(
    name: str, path: tuple[str, ...], shape: tuple[int, ...], bias: bool = False
) -> list[Entry]:
    """A convolution whose weight has the original `shape` [out, in, height, width], or [out, in,
    depth, height, width]; for a depthwise one, in = 1.
    """
    entries: list[Entry] = [Filters(f"{name}.weight", shape, ("params", *path, "kernel"))]
    return (
        [*entries, Entry(f"{name}.bias", shape[:1], ("params", *path, "bias"))] if bias else entries
    )


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


def within(path: tuple[str, ...], entries: Iterable[Entry]) -> list[Entry]:
    """The same tensors for a module that stands at `path` of a larger one: ("params", "norm") ->
    ("params", *path, "norm").
    """
    moved = []
    for entry in entries:
        collection, *rest = entry.path
        moved.append(entry._replace(path=(collection, *path, *rest)))
    return moved


def left_out(state_dict: Mapping[str, Any], pattern: str, prefix: str = "") -> tuple[str, ...]:
    """Names below `prefix` that match `pattern` as a whole: those that `load` is told to ignore,
    for a report of them.
    """
    below = (name for name in state_dict if name.startswith(prefix))
    return tuple(sorted(name for name in below if re.fullmatch(pattern, name[len(prefix) :])))


def load(
    state_dict: Mapping[str, np.ndarray],
    entries: Iterable[Entry],
    prefix: str,
    network: str,
    ignored: str = "",
) -> dict[str, Any]:
    """Variables of `network` from the tensors below `prefix`, float32.

    Tensors outside `prefix` are somebody else's. Below it every tensor must be in the table with
    its shape, and every entry of the table must be found. Dropped are the counters
    `num_batches_tracked` and the names that match the pattern `ignored` as a whole (`left_out`
    lists those). A scalar may be stored as a vector of one. Raises DataError with all that does not
    fit.
    """
    found = {
        name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)
    }
    found = {
        name: value for name, value in found.items() if not name.endswith("num_batches_tracked")
    }
    if ignored:
        found = {name: value for name, value in found.items() if not re.fullmatch(ignored, name)}
    variables: dict[str, Any] = {}
    wrong = []
    for entry in entries:
        name, shape, path = entry
        if name not in found:
            wrong.append(f"{prefix}{name} is missing")
            continue
        value = np.asarray(found.pop(name), np.float32)
        if shape == () and value.shape == (1,):
            value = value.reshape(())
        if value.shape != shape:
            wrong.append(f"{prefix}{name} has shape {value.shape}, not {shape}")
            continue
        node = variables
        for key in path[:-1]:
            node = node.setdefault(key, {})
        # A copy, not a view: the caller may overwrite or unmap the file's tensors.
        node[path[-1]] = np.array(entry.ours(value), order="C")
    wrong += [f"{prefix}{name} has no place" for name in sorted(found)]
    if wrong:
        raise DataError(f"{network} weights do not fit: {'; '.join(wrong)}")
    return variables


def save(
    variables: Mapping[str, Any], entries: Iterable[Entry], prefix: str
) -> dict[str, np.ndarray]:
    """The reverse of `load`, for the collections that `variables` holds; gradients of the
    parameters map alike.
    """
    state_dict = {}
    for entry in entries:
        if entry.path[0] not in variables:
            continue
        node: Any = variables
        for key in entry.path:
            node = node[key]
        state_dict[prefix + entry.name] = np.asarray(entry.original(np.asarray(node)), order="C")
    return state_dict


class Shapes:
    """The shapes of the tensors below a prefix, for telling a network's fields from them."""

    def __init__(self, state_dict: Mapping[str, Any], prefix: str, network: str):
        self._shapes = {
            name[len(prefix) :]: np.shape(v)
            for name, v in state_dict.items()
            if name.startswith(prefix)
        }
        self._prefix, self._network = prefix, network

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def __call__(self, name: str, ndim: int) -> tuple[int, ...]:
        """Shape of the tensor `name`. Raises DataError if it is missing or does not have `ndim`
        axes.
        """
        if name not in self._shapes:
            raise DataError(f"{self._network} weights do not fit: {self._prefix}{name} is missing")
        shape = self._shapes[name]
        if len(shape) != ndim:
            raise DataError(
                f"{self._network} weights do not fit: {self._prefix}{name} has shape {shape}, not "
                f"{ndim} axes"
            )
        return shape

    def count(self, pattern: str) -> int:
        """1 + the largest number in the group of `pattern`, matched at the start of the names; 0 if
        none matches.
        """
        numbers = (re.match(pattern, name) for name in self._shapes)
        return 1 + max((int(match[1]) for match in numbers if match), default=-1)
