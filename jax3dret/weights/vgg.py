"""VGG networks without batch normalisation (VGG-16, ...) under torchvision's names, with their
classifier or without it.

torchvision numbers the layers of a sequence: a convolution and its ReLU take two numbers, a maximum
pool one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.weights.mapping import Entry, Shapes, conv, dense, load, save

NETWORK = "VGG"
POOLED = 7


def entries(stages: tuple[tuple[int, int], ...], hidden: int, num_classes: int) -> list[Entry]:
    """The table of names for a Vgg of these stages (width, convolutions); num_classes 0: no
    classifier.
    """
    table = []
    channels, number = 3, 0
    for stage, (width, count) in enumerate(stages, start=1):
        for i in range(1, count + 1):
            table += conv(
                f"features.{number}", (f"conv{stage}_{i}",), (width, channels, 3, 3), bias=True
            )
            channels, number = width, number + 2
        number += 1
    if num_classes:
        table += dense("classifier.0", ("fc1",), (hidden, channels * POOLED * POOLED))
        table += dense("classifier.3", ("fc2",), (hidden, hidden))
        table += dense("classifier.6", ("fc3",), (num_classes, hidden))
    return table


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of Vgg that its tensors tell: stages, hidden, num_classes (both 0 without a
    classifier).

    Raises DataError if there is no VGG below `prefix`.
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    stages: list[tuple[int, int]] = []
    shapes("features.0.weight", 4)
    last, following = shapes.count(r"features\.(\d+)\.weight"), 0
    for number in range(last):
        name = f"features.{number}.weight"
        if name not in shapes:
            continue
        width = shapes(name, 4)[0]
        if stages and number == following:
            stages[-1] = (stages[-1][0], stages[-1][1] + 1)
        else:
            stages.append((width, 1))
        following = number + 2
    classifier = "classifier.6.weight" in shapes
    num_classes, hidden = shapes("classifier.6.weight", 2) if classifier else (0, 0)
    return {"stages": tuple(stages), "hidden": hidden, "num_classes": num_classes}


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params"} of a Vgg from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous (batch normalisation, say) or of
    another shape.
    """
    return load(state_dict, entries(**architecture(state_dict, prefix)), prefix, NETWORK)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients."""
    params = variables["params"]
    counts: dict[int, int] = {}
    for name in params:
        if name.startswith("conv"):
            stage = int(name[len("conv") :].split("_")[0])
            counts[stage] = counts.get(stage, 0) + 1
    stages = tuple((params[f"conv{s}_1"]["kernel"].shape[3], counts[s]) for s in sorted(counts))
    hidden, num_classes = params["fc3"]["kernel"].shape if "fc3" in params else (0, 0)
    return save(variables, entries(stages, hidden, num_classes), prefix)
