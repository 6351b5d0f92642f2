"""ResNets of basic blocks (ResNet-18, ResNet-34) under torchvision's names, with their classifier
`fc` or without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, Shapes, conv, dense, load, norm, save

NETWORK = "ResNet"


def entries(width: int, stage_sizes: tuple[int, ...], num_classes: int) -> list[Entry]:
    """The table of names for a ResNet of this size; num_classes 0: no classifier."""
    table = [
        *conv("conv1", ("conv1",), (width, 3, 7, 7)),
        *norm("bn1", ("norm1",), width, running=True),
    ]
    channels = width
    for stage, count in enumerate(stage_sizes):
        out = width << stage
        for i in range(count):
            name, block = f"layer{stage + 1}.{i}", f"layer{stage + 1}_{i}"
            table += [
                *conv(f"{name}.conv1", (block, "conv1"), (out, channels, 3, 3)),
                *norm(f"{name}.bn1", (block, "norm1"), out, running=True),
                *conv(f"{name}.conv2", (block, "conv2"), (out, out, 3, 3)),
                *norm(f"{name}.bn2", (block, "norm2"), out, running=True),
            ]
            if channels != out:
                table += conv(f"{name}.downsample.0", (block, "conv_skip"), (out, channels, 1, 1))
                table += norm(f"{name}.downsample.1", (block, "norm_skip"), out, running=True)
            channels = out
    return table + (dense("fc", ("fc",), (num_classes, channels)) if num_classes else [])


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of ResNet that its tensors tell: width, stage_sizes, num_classes (0 without a
    classifier).

    Raises DataError if there is no ResNet below `prefix`, or one of bottleneck blocks (ResNet-50
    and larger).
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    if "layer1.0.conv3.weight" in shapes:
        raise DataError(
            f"{NETWORK} weights do not fit: {prefix}layer1.0.conv3.weight belongs to a bottleneck "
            "block; expected basic blocks (ResNet-18, ResNet-34)"
        )
    stages = shapes.count(r"layer(\d+)\.")
    return {
        "width": shapes("conv1.weight", 4)[0],
        "stage_sizes": tuple(shapes.count(rf"layer{stage}\.(\d+)\.") for stage in range(1, stages)),
        "num_classes": shapes("fc.weight", 2)[0] if "fc.weight" in shapes else 0,
    }


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a ResNet from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    return load(state_dict, entries(**architecture(state_dict, prefix)), prefix, NETWORK)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients: {"params": grads}."""
    params = variables["params"]
    blocks = [
        tuple(map(int, name[len("layer") :].split("_")))
        for name in params
        if name.startswith("layer")
    ]
    stages = max((stage for stage, _ in blocks), default=0)
    table = entries(
        width=params["conv1"]["kernel"].shape[3],
        stage_sizes=tuple(sum(stage == s for stage, _ in blocks) for s in range(1, stages + 1)),
        num_classes=params["fc"]["kernel"].shape[1] if "fc" in params else 0,
    )
    return save(variables, table, prefix)
