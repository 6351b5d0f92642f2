"""EfficientNet-Lite under the names of its PyTorch port, with its classifier `_fc` or without it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.models.efficientnet_lite import STAGES
from jax3dret.weights.mapping import Entry, Shapes, conv, dense, load, norm, save

NETWORK = "EfficientNet-Lite"


def entries(widths: Sequence[int], repeats: Sequence[int], num_classes: int) -> list[Entry]:
    """The table of names for a network of these fields; num_classes 0: no classifier."""

    def layer(
        name: str, bn: str, path: tuple[str, ...], shape: tuple[int, int, int, int]
    ) -> list[Entry]:
        *above, own = path
        return [
            *conv(name, path, shape),
            *norm(bn, (*above, f"{own}_norm"), shape[0], running=True),
        ]

    stem, *stages, last = widths
    table = layer("_conv_stem", "_bn0", ("stem",), (stem, 3, 3, 3))
    channels, number = stem, 0
    for out, count, (expansion, size, _) in zip(stages, repeats, STAGES, strict=True):
        for _ in range(count):
            name, block, wide = f"_blocks.{number}", f"block{number}", expansion * channels
            if expansion != 1:
                shape = (wide, channels, 1, 1)
                table += layer(f"{name}._expand_conv", f"{name}._bn0", (block, "expand"), shape)
            shape = (wide, 1, size, size)
            table += layer(f"{name}._depthwise_conv", f"{name}._bn1", (block, "depthwise"), shape)
            shape = (out, wide, 1, 1)
            table += layer(f"{name}._project_conv", f"{name}._bn2", (block, "project"), shape)
            channels, number = out, number + 1
    table += layer("_conv_head", "_bn1", ("last",), (last, channels, 1, 1))
    return table + (dense("_fc", ("fc",), (num_classes, last)) if num_classes else [])


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of EfficientNetLite that its tensors tell: widths, repeats, num_classes (0 without
    a classifier).

    A stage begins where the number of channels changes. Raises DataError if there is no
    EfficientNet-Lite below `prefix`, or one with squeeze-and-excitation.
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    stem, last = (shapes(f"{name}.weight", 4)[0] for name in ("_conv_stem", "_conv_head"))
    if "_blocks.0._se_reduce.weight" in shapes:
        raise DataError(
            f"{NETWORK} weights do not fit: {prefix}_blocks.0._se_reduce.weight belongs to "
            "squeeze-and-excitation; expected EfficientNet-Lite, which has none"
        )
    projected = [
        shapes(f"_blocks.{i}._project_conv.weight", 4)[0]
        for i in range(shapes.count(r"_blocks\.(\d+)\."))
    ]
    stages = _stages(projected)
    if len(stages) != len(STAGES):
        raise DataError(
            f"{NETWORK} weights do not fit: its blocks are {len(stages)} stages of one width each; "
            f"expected {len(STAGES)}"
        )
    return {
        "widths": (stem, *(width for width, _ in stages), last),
        "repeats": tuple(count for _, count in stages),
        "num_classes": shapes("_fc.weight", 2)[0] if "_fc.weight" in shapes else 0,
    }


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of an EfficientNetLite from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    return load(state_dict, entries(**architecture(state_dict, prefix)), prefix, NETWORK)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients: {"params": grads}."""
    params = variables["params"]
    count = sum(name.startswith("block") for name in params)
    stages = _stages(params[f"block{i}"]["project"]["kernel"].shape[3] for i in range(count))
    stem, last = (params[name]["kernel"].shape[3] for name in ("stem", "last"))
    table = entries(
        (stem, *(width for width, _ in stages), last),
        [count for _, count in stages],
        params["fc"]["kernel"].shape[1] if "fc" in params else 0,
    )
    return save(variables, table, prefix)


def _stages(widths: Iterable[int]) -> list[tuple[int, int]]:
    """(channels, blocks) of each stage, from the channels that each block ends with."""
    return [(width, len(list(group))) for width, group in itertools.groupby(widths)]
