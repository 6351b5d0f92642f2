"""PointNet++ (single-scale grouping) weights under their original names, as ULIP and the PyTorch
PointNet++ hold them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, dense, load, norm, save


def entries(
    mlp: tuple[tuple[int, ...], ...], fc: tuple[int, ...], in_channels: int = 3
) -> list[Entry]:
    """The table of names for a PointNet2 of these widths; in_channels is what the first layer
    reads.
    """
    table = []
    width = in_channels - 3
    for i, widths in enumerate(mlp, start=1):
        width += 3
        for j, out in enumerate(widths):
            table += dense(f"sa{i}.mlp_convs.{j}", (f"sa{i}", f"conv{j}"), (out, width, 1, 1))
            table += norm(f"sa{i}.mlp_bns.{j}", (f"sa{i}", f"norm{j}"), out, running=True)
            width = out
    for i, out in enumerate(fc, start=1):
        table += dense(f"fc{i}", (f"fc{i}",), (out, width))
        table += norm(f"bn{i}", (f"bn{i}",), out, running=True)
        width = out
    return table


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of PointNet2 that its tensors tell: mlp and fc.

    Centres, radii and ball sizes are not among them: no tensor depends on those. Raises DataError
    if there is no PointNet++ below `prefix`, if it does not have three levels, or if its first
    layer reads more than positions.
    """
    shapes: dict[tuple[int, int], tuple[int, ...]] = {}
    fc: dict[int, int] = {}
    for name, value in state_dict.items():
        if match := re.fullmatch(re.escape(prefix) + r"sa(\d+)\.mlp_convs\.(\d+)\.weight", name):
            shapes[int(match[1]), int(match[2])] = np.shape(value)
        elif match := re.fullmatch(re.escape(prefix) + r"fc(\d+)\.weight", name):
            fc[int(match[1])] = np.shape(value)[0]
    levels = sorted({level for level, _ in shapes})
    if levels != [1, 2, 3]:
        raise DataError(
            f"PointNet++ weights do not fit: levels {levels} of {prefix}sa*.mlp_convs; expected 1, "
            "2, 3"
        )
    first = shapes.get((1, 0), ())
    if first[1:2] != (3,):
        raise DataError(
            f"PointNet++ weights do not fit: {prefix}sa1.mlp_convs.0.weight has shape {first}; "
            "expected positions alone (3 channels)"
        )
    mlp = tuple(
        tuple(shapes[key][0] for key in sorted(shapes) if key[0] == level) for level in levels
    )
    return {"mlp": mlp, "fc": tuple(fc[i] for i in sorted(fc))}


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a PointNet2 from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous (the classifier fc3 of other
    releases, say) or of another shape.
    """
    return load(state_dict, entries(**architecture(state_dict, prefix)), prefix, "PointNet++")


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients: {"params": grads}."""
    params = variables["params"]

    def widths(tree: Mapping[str, Any], name: str, first: int) -> tuple[int, ...]:
        count = sum(key.startswith(name) for key in tree)
        return tuple(tree[f"{name}{i}"]["kernel"].shape[1] for i in range(first, first + count))

    mlp = tuple(widths(params[f"sa{i}"], "conv", 0) for i in (1, 2, 3))
    return save(variables, entries(mlp, widths(params, "fc", 1)), prefix)
