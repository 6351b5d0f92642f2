"""MVTN's view transformer and its PointNet under the names of the published PyTorch code."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, Shapes, dense, load, norm, within

SELECTOR = "chosen_view_selector.view_transformer."


def selector_entries(inputs: int, features: int, num_views: int) -> list[Entry]:
    """The table of names of a learned `ViewSelector`; inputs: width that its first layer reads."""
    table, width = [], inputs
    for i, out in enumerate((features, features, 5 * num_views, 2 * num_views)):
        table += dense(f"0.{4 * i}", (f"linear{i}",), (out, width))
        table += norm(f"0.{4 * i + 1}", (f"norm{i}",), out, running=True)
        width = out
    return table + dense("1.0", ("linear4",), (width, width))


def selector_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = SELECTOR) -> dict[str, Any]:
    """{"params", "batch_stats"} of a learned `ViewSelector` from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    shapes = Shapes(state_dict, prefix, "MVTN")
    features, inputs = shapes("0.0.weight", 2)
    doubled = shapes("1.0.weight", 2)[0]
    if doubled % 2:
        raise DataError(
            f"MVTN weights do not fit: {prefix}1.0.weight has {doubled} rows; two for each view would be right"
        )
    return load(state_dict, selector_entries(inputs, features, doubled // 2), prefix, "MVTN")


def pointnet_entries(widths: tuple[int, ...], fc: tuple[int, ...], num_classes: int) -> list[Entry]:
    """The table of names of a `PointNet` with `align` and `published_logits`."""
    table = dense("conv1.0", ("conv0",), (widths[0], 3, 1)) + norm("conv1.1", ("norm0",), widths[0], running=True)
    for i, (width, out) in enumerate(itertools.pairwise(widths)):
        table += dense(f"conv2s.{3 * i}", (f"conv{i + 1}",), (out, width, 1))
        table += norm(f"conv2s.{3 * i + 1}", (f"norm{i + 1}",), out, running=True)
    for i, (width, out) in enumerate(zip((widths[-1], *fc), (*fc, num_classes), strict=True)):
        table += dense(f"classifier.{4 * i}", (f"fc{i}",), (out, width))
        table += norm(f"classifier.{4 * i + 1}", (f"fc_norm{i}",), out, running=True)
    for name, k in (("input_transform", 3), ("feature_transform", widths[0])):
        inner: list[Entry] = []
        for part, of_ours, of_norm, sizes in (
            ("convs", "conv", "norm", (k, *widths)),
            ("fcs", "fc", "fc_norm", (widths[-1], *fc, k * k)),
        ):
            for i, (width, out) in enumerate(itertools.pairwise(sizes)):
                inner += dense(f"{name}.{part}.{i}.0", (f"{of_ours}{i}",), (out, width, 1))
                if i < len(sizes) - 2:
                    inner += norm(f"{name}.{part}.{i}.1", (f"{of_norm}{i}",), out, running=True)
        table += within((name,), inner)
    return table


def pointnet_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of PointNet(published_logits=True) from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    shapes = Shapes(state_dict, prefix, "PointNet")
    first = shapes("conv1.0.weight", 3)[0]
    widths = (first, *(shapes(f"conv2s.{3 * i}.weight", 3)[0] for i in range(2)))
    outs = [shapes(f"classifier.{4 * i}.weight", 2)[0] for i in range(3)]
    return load(state_dict, pointnet_entries(widths, tuple(outs[:2]), outs[2]), prefix, "PointNet")
