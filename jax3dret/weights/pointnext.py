"""PointNeXt-S weights under their original names: the encoder, and the classifier above it.

Encoder, below "encoder." in a checkpoint of the classification network: encoder.{i}.0 is stage i,
stage 0 the stem, the last one the abstraction of all points; convs.{j} is a convolution (0) and its
BatchNorm (1), skipconv.0 projects the centres' own features. Classifier, below "prediction.head.":
positions in a sequence of (Linear, BatchNorm, ReLU) and dropout, so 0, 2, 4 for three layers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, Shapes, dense, load, norm, save

NETWORK = "PointNeXt"


def entries(width: int, stages: int, layers: int = 2) -> list[Entry]:
    """The table of names for a PointNeXt with a stem of this width and so many abstractions that
    keep a share of the points.
    """
    table = dense("encoder.0.0.convs.0.0", ("stem",), (width, 3, 1))
    reads = width
    for i in range(1, stages + 2):
        whole, out = i == stages + 1, width << min(i, stages)
        ours, theirs = "whole" if whole else f"sa{i}", f"encoder.{i}.0"
        widths = (3 + reads, *((out if whole else out // 2,) * (layers - 1)), out)
        for j, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            place = f"{theirs}.convs.{j}"
            table += dense(f"{place}.0", (ours, f"conv{j}"), (fan_out, fan_in, 1, 1), bias=False)
            table += norm(f"{place}.1", (ours, f"norm{j}"), fan_out, running=True)
        if not whole and reads != out:
            table += dense(f"{theirs}.skipconv.0", (ours, "skip"), (out, reads, 1))
        reads = out
    return table


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of PointNeXt that its tensors tell: width, layers, and how many strides.

    What no tensor depends on are the strides themselves, radii and ball sizes. Raises DataError if
    there is no PointNeXt below `prefix`, if its first layer reads more than positions, if it is no
    classification network, or if it has the residual blocks of the larger ones.
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    first = shapes("encoder.0.0.convs.0.0.weight", 3)
    if first[1] != 3:
        raise DataError(
            f"{NETWORK} weights do not fit: {prefix}encoder.0.0.convs.0.0.weight has shape "
            f"{first}; "
            "expected positions alone (3 channels)"
        )
    if shapes.count(r"encoder\.\d+\.(\d+)\.") > 1:
        raise DataError(
            f"{NETWORK} weights do not fit: {prefix}encoder.*.1 is an inverted residual block, "
            "which "
            f"{NETWORK}-B, -L and -XL have; expected {NETWORK}-S"
        )
    last = shapes.count(r"encoder\.(\d+)\.") - 1
    if f"encoder.{last}.0.skipconv.0.weight" in shapes or last < 2:
        raise DataError(
            f"{NETWORK} weights do not fit: the last stage, {prefix}encoder.{last}, keeps points, "
            "as "
            "in segmentation; expected the classification network"
        )
    layers = shapes.count(rf"encoder\.{last}\.0\.convs\.(\d+)\.")
    return {"width": first[0], "strides": (2,) * (last - 1), "layers": layers}


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a PointNeXt from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    fields = architecture(state_dict, prefix)
    table = entries(fields["width"], len(fields["strides"]), fields["layers"])
    return load(state_dict, table, prefix, NETWORK)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients: {"params": grads}."""
    params = variables["params"]
    stages = sum(name.startswith("sa") for name in params)
    layers = sum(name.startswith("conv") for name in params["whole"])
    table = entries(params["stem"]["kernel"].shape[1], stages, layers)
    return save(variables, table, prefix)


def head_entries(widths: tuple[int, ...]) -> list[Entry]:
    """The table of names for a ClassificationHead without biases in front of its BatchNorms;
    widths = input, hidden ..., classes.
    """
    last = len(widths) - 2
    table = []
    for i, (fan_in, width) in enumerate(itertools.pairwise(widths)):
        place = f"{2 * i}"
        table += dense(f"{place}.0", (f"linear{i}",), (width, fan_in), bias=i == last)
        if i < last:
            table += norm(f"{place}.1", (f"norm{i}",), width, running=True)
    return table


def head_architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of ClassificationHead that its tensors tell, and that its hidden layers have no
    bias. DataError if there is none.
    """
    widths = _head_widths(state_dict, prefix)
    return {"hidden": widths[1:-1], "num_classes": widths[-1], "hidden_bias": False}


def head_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a ClassificationHead from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    table = head_entries(_head_widths(state_dict, prefix))
    return load(state_dict, table, prefix, f"{NETWORK} classifier")


def head_to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `head_from_torch`."""
    params = variables["params"]
    count = sum(name.startswith("linear") for name in params)
    shapes = [params[f"linear{i}"]["kernel"].shape for i in range(count)]
    widths = (shapes[0][0], *(shape[1] for shape in shapes))
    return save(variables, head_entries(widths), prefix)


def _head_widths(state_dict: Mapping[str, np.ndarray], prefix: str) -> tuple[int, ...]:
    shapes = {}
    for name, value in state_dict.items():
        match = re.fullmatch(re.escape(prefix) + r"(\d+)\.0\.weight", name)
        if match and np.ndim(value) == 2:
            shapes[int(match[1])] = np.shape(value)
    if not shapes:
        raise DataError(f"{NETWORK} classifier weights do not fit: there is no {prefix}*.0.weight")
    ordered = [shapes[number] for number in sorted(shapes)]
    return (ordered[0][1], *(shape[0] for shape in ordered))
