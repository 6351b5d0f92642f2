"""MVTN under the names of the published PyTorch code: its cameras (PointNet and view transformer),
and what reads the views.

A published checkpoint keeps two networks side by side: "state_dict", a CNN whose features are
pooled over the views, with its classifier; and "mvtn", the cameras. The arrangement that the
cameras start from is stored as three buffers, views_azim, views_elev and views_dist; it is told
from their numbers, and they stand in "batch_stats", as PyTorch's other buffers do.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.mvtn import FIXED, LEARNED, base_views
from jax3dret.weights.mapping import Entry, Shapes, dense, load, norm, save, within

NETWORK = "MVTN"
SELECTOR = "chosen_view_selector.view_transformer."
# Below the network's own prefix: the cameras, and the PointNet that they ask.
VIEWS = "view_selector.chosen_view_selector."
TRANSFORMER = f"view_selector.{SELECTOR}"
POINTNET = "feature_extractor.fe_model."
BUFFERS = ("views_azim", "views_elev", "views_dist")
# In a file that also holds what reads the views.
CNN, HEAD = "aggregation_model.model.", "fc."


def entries(
    num_views: int, inputs: int, features: int, widths: tuple[int, ...], fc: tuple[int, ...]
) -> list[Entry]:
    """The table of names of a `Mvtn`; inputs: width that its view transformer reads, 0: fixed
    views, which have buffers alone.
    """
    table = [
        Entry(f"{VIEWS}{name}", (num_views,), ("batch_stats", "view_selector", name))
        for name in BUFFERS
    ]
    if inputs:
        transformer = within(("view_selector",), selector_entries(inputs, features, num_views))
        pointnet = within(("pointnet",), pointnet_entries(widths, fc, features))
        table += [entry._replace(name=TRANSFORMER + entry.name) for entry in transformer]
        table += [entry._replace(name=POINTNET + entry.name) for entry in pointnet]
    return table


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of Mvtn that its tensors tell: views, num_views, elevation, distance, and of
    learned views features, widths, fc and published_logits.

    Raises DataError if there is no MVTN below `prefix`, or one of another kind: cameras that move
    nearer or farther, that start from another arrangement, that ask another network than PointNet.
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    (count,) = shapes(f"{VIEWS}views_azim", 1)
    for name in BUFFERS:
        if shapes(f"{VIEWS}{name}", 1) != (count,):
            raise DataError(
                f"{NETWORK} weights do not fit: {prefix}{VIEWS}{name} is not of {count} views"
            )
    azimuth, elevation, distance = (
        np.asarray(state_dict[f"{prefix}{VIEWS}{name}"], np.float32) for name in BUFFERS
    )
    if np.ptp(distance) > 0:
        raise DataError(
            f"{NETWORK} weights do not fit: its cameras stand at several distances; expected one"
        )
    learned = f"{TRANSFORMER}1.0.weight" in shapes
    common = {"num_views": count, "distance": round(float(distance[0]), 4)}
    if not learned:
        return {**_arrangement(FIXED, azimuth, elevation), **common}
    features, inputs = shapes(f"{TRANSFORMER}0.0.weight", 2)
    rows = shapes(f"{TRANSFORMER}1.0.weight", 2)[0]
    if rows != 2 * count:
        raise DataError(
            f"{NETWORK} weights do not fit: {prefix}{TRANSFORMER}1.0.weight has {rows} rows; "
            f"expected {2 * count}, "
            f"azimuth and elevation of {count} views (cameras that change their distance are not "
            "among them)"
        )
    if f"{POINTNET}classifier.8.weight" not in shapes:
        raise DataError(
            f"{NETWORK} weights do not fit: {prefix}{POINTNET}classifier.8.weight is missing; "
            "expected a PointNet"
        )
    widths, outs = _pointnet_widths(shapes, POINTNET)
    if outs[2] != features or inputs not in (features, features + 2 * count):
        raise DataError(
            f"{NETWORK} weights do not fit: its view transformer reads {inputs} and has {features} "
            "channels, its PointNet has "
            f"{outs[2]} logits; expected {outs[2]} channels that read {outs[2]} or "
            f"{outs[2] + 2 * count}"
        )
    names = ("learned_direct",) if inputs == features else LEARNED[:2]
    own = {"features": features, "widths": widths, "fc": outs[:2], "published_logits": True}
    return {**_arrangement(names, azimuth, elevation), **common, **own}


def _arrangement(
    names: tuple[str, ...], azimuth: np.ndarray, elevation: np.ndarray
) -> dict[str, Any]:
    """The fields views and elevation of that of `names` which begins at these angles; DataError if
    none does.
    """
    height = round(float(elevation[0]), 4)
    for name in names:
        try:
            begins = base_views(name, len(azimuth), height)
        except ConfigError:  # there is none of so many views
            continue
        if all(
            np.allclose(a, b, rtol=0, atol=1e-3)
            for a, b in zip(begins, (azimuth, elevation), strict=True)
        ):
            return {"views": name, **({"elevation": height} if name.endswith("circular") else {})}
    raise DataError(
        f"{NETWORK} weights do not fit: its cameras begin at azimuths {azimuth[:3].tolist()} ..., "
        f"elevations {elevation[:3].tolist()} "
        f"...; expected those of {' or '.join(names)}"
    )


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a Mvtn from the tensors below `prefix`; of fixed views the
    buffers alone.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    fields = architecture(state_dict, prefix)
    inputs = (
        Shapes(state_dict, prefix, NETWORK)(f"{TRANSFORMER}0.0.weight", 2)[1]
        if fields["views"] in LEARNED
        else 0
    )
    sizes = (fields.get("features", 0), fields.get("widths", ()), fields.get("fc", ()))
    return load(state_dict, entries(fields["num_views"], inputs, *sizes), prefix, NETWORK)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`."""
    params = variables.get("params", {})
    (count,) = np.shape(variables["batch_stats"]["view_selector"]["views_azim"])
    if not params:
        return save(variables, entries(count, 0, 0, (), ()), prefix)
    inputs, features = np.shape(params["view_selector"]["linear0"]["kernel"])
    pointnet = params["pointnet"]

    def widths(name: str) -> tuple[int, ...]:
        numbers = sorted(
            int(key[len(name) :]) for key in pointnet if re.fullmatch(name + r"\d+", key)
        )
        return tuple(np.shape(pointnet[f"{name}{i}"]["kernel"])[1] for i in numbers)

    return save(
        variables, entries(count, inputs, features, widths("conv"), widths("fc")[:-1]), prefix
    )


def head_architecture(state_dict: Mapping[str, np.ndarray], prefix: str = HEAD) -> dict[str, Any]:
    """The field of LinearHead that its tensors tell, num_classes. Raises DataError if there is none
    below `prefix`.
    """
    return {"num_classes": Shapes(state_dict, prefix, NETWORK)("1.weight", 2)[0]}


def head_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = HEAD) -> dict[str, Any]:
    """{"params"} of a LinearHead from the tensors below `prefix`; raises DataError with what does
    not fit.
    """
    return load(
        state_dict,
        _head_entries(*Shapes(state_dict, prefix, NETWORK)("1.weight", 2)),
        prefix,
        NETWORK,
    )


def head_to_torch(variables: Mapping[str, Any], prefix: str = HEAD) -> dict[str, np.ndarray]:
    """The reverse of `head_from_torch`."""
    width, classes = np.shape(variables["params"]["linear"]["kernel"])
    return save(variables, _head_entries(classes, width), prefix)


def _head_entries(classes: int, width: int) -> list[Entry]:
    return norm("0", ("norm",), width) + dense("1", ("linear",), (classes, width))


def selector_entries(inputs: int, features: int, num_views: int) -> list[Entry]:
    """The table of names of a learned `ViewSelector`; inputs: width that its first layer reads."""
    table, width = [], inputs
    for i, out in enumerate((features, features, 5 * num_views, 2 * num_views)):
        table += dense(f"0.{4 * i}", (f"linear{i}",), (out, width))
        table += norm(f"0.{4 * i + 1}", (f"norm{i}",), out, running=True)
        width = out
    return table + dense("1.0", ("linear4",), (width, width))


def selector_from_torch(
    state_dict: Mapping[str, np.ndarray], prefix: str = SELECTOR
) -> dict[str, Any]:
    """{"params", "batch_stats"} of a learned `ViewSelector` from the tensors below `prefix`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    shapes = Shapes(state_dict, prefix, "MVTN")
    features, inputs = shapes("0.0.weight", 2)
    doubled = shapes("1.0.weight", 2)[0]
    if doubled % 2:
        raise DataError(
            f"MVTN weights do not fit: {prefix}1.0.weight has {doubled} rows; expected two for "
            "each view"
        )
    return load(state_dict, selector_entries(inputs, features, doubled // 2), prefix, "MVTN")


def pointnet_entries(widths: tuple[int, ...], fc: tuple[int, ...], num_classes: int) -> list[Entry]:
    """The table of names of a `PointNet` with `align` and `published_logits`."""
    table = dense("conv1.0", ("conv0",), (widths[0], 3, 1)) + norm(
        "conv1.1", ("norm0",), widths[0], running=True
    )
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
    widths, outs = _pointnet_widths(Shapes(state_dict, prefix, "PointNet"))
    return load(state_dict, pointnet_entries(widths, outs[:2], outs[2]), prefix, "PointNet")


def _pointnet_widths(shapes: Shapes, prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths of the network of a point, and of the classifier's three layers."""
    convolutions = ("conv1.0", "conv2s.0", "conv2s.3")
    widths = tuple(shapes(f"{prefix}{name}.weight", 3)[0] for name in convolutions)
    return widths, tuple(shapes(f"{prefix}classifier.{4 * i}.weight", 2)[0] for i in range(3))
