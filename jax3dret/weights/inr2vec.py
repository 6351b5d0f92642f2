"""inr2vec's networks under their original names: encoder, decoder and classifier; and a Conv3D
encoder as a sequence in PyTorch has it.

Encoder: `layers.{i}`, three positions for each (Conv1d, BatchNorm, ReLU), then a Conv1d alone.
Decoder: `in_layer.0`, `skip_proj.0`, `before_skip.{i}.0`, `after_skip.{i}.0`, and as the last
`after_skip.{i}`. Classifier: `net.{i}`, four positions for each (Linear, BatchNorm, ReLU, dropout),
then a Linear. Conv3D encoder: three positions for each (Conv3d, GroupNorm, ReLU), one that
flattens, a Linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, conv, dense, load, norm, save

Shape = tuple[int, ...]


def encoder_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of an MlpEncoder from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    shapes = _shapes(state_dict, prefix, r"layers\.(\d+)\.weight", lambda s: len(s) == 3)
    return load(state_dict, _encoder_entries(shapes), prefix, "inr2vec encoder")


def encoder_to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `encoder_from_torch`, also for gradients: {"params": grads}."""
    params = variables["params"]
    kernels = [params[name]["kernel"] for name in _numbered(params, "linear")]
    kernels += [params["final"]["kernel"]] if "final" in params else []
    shapes = [(*kernel.shape[::-1], 1) for kernel in kernels]
    return save(variables, _encoder_entries(shapes, "final" in params), prefix)


def decoder_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params"} of a ShapeDecoder. Raises DataError as `encoder_from_torch`."""
    before = _shapes(state_dict, prefix, r"before_skip\.(\d+)\.0\.weight", _is_matrix)
    after = _shapes(state_dict, prefix, r"after_skip\.(\d+)\.0\.weight", _is_matrix)
    first = np.shape(state_dict.get(f"{prefix}in_layer.0.weight", ()))
    if not before or not after or len(first) != 2:
        raise DataError(
            f"inr2vec decoder weights do not fit: there is no {prefix}in_layer.0.weight, or no "
            f"{prefix}before_skip or {prefix}after_skip"
        )
    entries = _decoder_entries(first, len(before), len(after))
    return load(state_dict, entries, prefix, "inr2vec decoder")


def decoder_to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `decoder_from_torch`."""
    params = variables["params"]
    first = params["in_layer"]["kernel"].shape[::-1]
    before, after = (len(_numbered(params, name)) for name in ("before", "after"))
    return save(variables, _decoder_entries(first, before, after), prefix)


def classifier_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a ClassificationHead, inr2vec's. Raises DataError as
    `encoder_from_torch`.
    """
    shapes = _shapes(state_dict, prefix, r"net\.(\d+)\.weight", _is_matrix)
    return load(state_dict, _classifier_entries(shapes), prefix, "inr2vec classifier")


def classifier_to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `classifier_from_torch`."""
    params = variables["params"]
    shapes = [params[name]["kernel"].shape[::-1] for name in _numbered(params, "linear")]
    return save(variables, _classifier_entries(shapes), prefix)


def grid_encoder_from_torch(
    state_dict: Mapping[str, np.ndarray], prefix: str = ""
) -> dict[str, Any]:
    """{"params"} of a GridEncoder from a sequence of numbered layers. Raises DataError as
    `encoder_from_torch`.
    """
    shapes = _shapes(state_dict, prefix, r"(\d+)\.weight", lambda s: len(s) in (2, 5))
    return load(state_dict, _grid_entries(shapes), prefix, "Conv3D encoder")


def grid_encoder_to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `grid_encoder_from_torch`."""
    params = variables["params"]
    kernels = [params[name]["kernel"].shape for name in _numbered(params, "conv")]
    shapes = [(*shape[:2:-1], *shape[:3]) for shape in kernels]
    return save(variables, _grid_entries([*shapes, params["final"]["kernel"].shape[::-1]]), prefix)


def _encoder_entries(shapes: list[Shape], final: bool = True) -> list[Entry]:
    table = []
    hidden, last = (shapes[:-1], shapes[-1:]) if final else (shapes, [])
    for i, shape in enumerate(hidden):
        table += dense(f"layers.{3 * i}", (f"linear{i}",), shape)
        table += norm(f"layers.{3 * i + 1}", (f"norm{i}",), shape[0], running=True)
    for shape in last:
        table += dense(f"layers.{3 * len(hidden)}", ("final",), shape)
    return table


def _decoder_entries(first: Shape, before: int, after: int) -> list[Entry]:
    hidden = first[0]
    table = dense("in_layer.0", ("in_layer",), first) + dense("skip_proj.0", ("skip_proj",), first)
    for part, count in (("before", before), ("after", after)):
        for i in range(count):
            table += dense(f"{part}_skip.{i}.0", (f"{part}{i}",), (hidden, hidden))
    return table + dense(f"after_skip.{after}", ("out",), (1, hidden))


def _classifier_entries(shapes: list[Shape]) -> list[Entry]:
    table = []
    for i, shape in enumerate(shapes):
        table += dense(f"net.{4 * i}", (f"linear{i}",), shape)
        if i + 1 < len(shapes):
            table += norm(f"net.{4 * i + 1}", (f"norm{i}",), shape[0], running=True)
    return table


def _grid_entries(shapes: list[Shape]) -> list[Entry]:
    table = []
    for i, shape in enumerate(shapes[:-1]):
        table += conv(f"{3 * i}", (f"conv{i}",), shape, bias=True)
        table += norm(f"{3 * i + 1}", (f"norm{i}",), shape[0])
    return table + dense(f"{3 * (len(shapes) - 1) + 1}", ("final",), shapes[-1])


def _shapes(
    state_dict: Mapping[str, np.ndarray], prefix: str, pattern: str, is_wanted: Callable[..., bool]
) -> list[Shape]:
    """The shapes of the weights whose name is `pattern`, in the order of its number."""
    found = {}
    for name, value in state_dict.items():
        match = re.fullmatch(re.escape(prefix) + pattern, name)
        if match and is_wanted(np.shape(value)):
            found[int(match[1])] = np.shape(value)
    if not found:
        named = pattern.replace(r"(\d+)", "N").replace("\\.", ".")
        raise DataError(f"weights do not fit: there is no {prefix}{named}, N a number")
    return [found[number] for number in sorted(found)]


def _is_matrix(shape: Shape) -> bool:
    return len(shape) == 2


def _numbered(params: Mapping[str, Any], stem: str) -> list[str]:
    """ "stem0", "stem1", ... as far as there are such parameters."""
    names: list[str] = []
    while f"{stem}{len(names)}" in params:
        names.append(f"{stem}{len(names)}")
    return names
