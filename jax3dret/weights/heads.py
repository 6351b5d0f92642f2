"""Heads under their original names: the paper's classifier, the projector of VICReg's code, ULIP's
projection.

Classifier: linear{i} and norm{i}, numbered from the input, below "head." in the paper's
checkpoints. Projector: the positions in a sequence Linear, BatchNorm, ReLU, Linear, ..., so 0, 1,
3, 4, 6 for three layers. Projection into the space shared with images and text: one bare matrix.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, dense, load, norm, save


def classifier_entries(widths: tuple[int, ...]) -> list[Entry]:
    """The table of names for a ClassificationHead; widths = input, hidden ..., classes."""
    last = len(widths) - 2
    table = []
    for i, (fan_in, width) in enumerate(itertools.pairwise(widths)):
        table += dense(f"linear{i}", (f"linear{i}",), (width, fan_in))
        if i < last:
            table += norm(f"norm{i}", (f"norm{i}",), width, running=True)
    return table


def projector_entries(widths: tuple[int, ...]) -> list[Entry]:
    """The table of names for a VicregProjector; widths = input, then one for each layer."""
    last = len(widths) - 2
    table = []
    for i, (fan_in, width) in enumerate(itertools.pairwise(widths)):
        table += dense(f"{3 * i}", (f"linear{i}",), (width, fan_in), bias=i < last)
        if i < last:
            table += norm(f"{3 * i + 1}", (f"norm{i}",), width, running=True)
    return table


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of ClassificationHead that its tensors tell: hidden and num_classes. DataError if
    there is none.
    """
    widths = _widths(state_dict, prefix, r"linear(\d+)\.weight", "classification head")
    return {"hidden": widths[1:-1], "num_classes": widths[-1]}


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a ClassificationHead from the tensors below `prefix`; a linear
    probe has no statistics.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    widths = _widths(state_dict, prefix, r"linear(\d+)\.weight", "classification head")
    return load(state_dict, classifier_entries(widths), prefix, "classification head")


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients: {"params": grads}."""
    return save(variables, classifier_entries(_own_widths(variables["params"])), prefix)


def projector_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a VicregProjector from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    widths = _widths(state_dict, prefix, r"(\d+)\.weight", "VICReg projector")
    return load(state_dict, projector_entries(widths), prefix, "VICReg projector")


def projector_to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `projector_from_torch`, also for gradients: {"params": grads}."""
    return save(variables, projector_entries(_own_widths(variables["params"])), prefix)


def projection_from_torch(
    state_dict: Mapping[str, np.ndarray], name: str = "pc_projection"
) -> dict[str, Any]:
    """{"params": {"kernel": float32[embedding, shared space]}} from the bare matrix `name`;
    embedding @ kernel.

    Raises DataError if it is missing or no matrix.
    """
    if name not in state_dict or np.ndim(state_dict[name]) != 2:
        found = f"has shape {np.shape(state_dict[name])}" if name in state_dict else "is missing"
        raise DataError(
            f"projection weights do not fit: {name} {found}; expected a matrix [embedding, shared "
            "space]"
        )
    return {"params": {"kernel": np.array(state_dict[name], np.float32, order="C")}}


def projection_to_torch(
    variables: Mapping[str, Any], name: str = "pc_projection"
) -> dict[str, np.ndarray]:
    """The reverse of `projection_from_torch`."""
    return {name: np.asarray(variables["params"]["kernel"])}


def _widths(
    state_dict: Mapping[str, np.ndarray], prefix: str, pattern: str, network: str
) -> tuple[int, ...]:
    """Input width and the width of every Linear, in the order of their numbers; DataError if there
    is none.
    """
    shapes = {}
    for name, value in state_dict.items():
        match = re.fullmatch(re.escape(prefix) + pattern, name)
        if match and np.ndim(value) == 2:
            shapes[int(match[1])] = np.shape(value)
    if not shapes:
        raise DataError(
            f"{network} weights do not fit: there is no {prefix}{pattern} with two axes"
        )
    ordered = [shapes[number] for number in sorted(shapes)]
    return (ordered[0][1], *(shape[0] for shape in ordered))


def _own_widths(params: Mapping[str, Any]) -> tuple[int, ...]:
    """The same, from our own parameters."""
    shapes = [
        params[f"linear{i}"]["kernel"].shape
        for i in range(sum(name.startswith("linear") for name in params))
    ]
    return (shapes[0][0], *(shape[1] for shape in shapes))
