"""MobileNetV2 with its batch normalisation folded in, under Keras' layer names, as exported for
integer arithmetic.

For each of the 52 layers L, separated by "/": L/kernel_int8 with L/scale, one factor for each
output channel (the kernel is kernel_int8 * scale), or the float kernel itself as L/kernel; and
L/bias. Kernels are [height, width, in, out] as here, those of the depthwise layers [height, width,
1, channels]. An entry "order", the list of the layers, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.mapping import Entry, Shapes, left_out, load, save

NETWORK = "MobileNetV2"
IGNORED = "order"
# Blocks of each of the seven stages, and by how much all their blocks widen their input.
REPEATS = (1, 2, 3, 4, 3, 3, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)


def entries(widths: tuple[int, ...]) -> list[Entry]:
    """The table of names for a MobileNetV2; widths: of the first layer, the seven stages, the last
    layer.
    """

    def layer(name: str, path: tuple[str, ...], shape: tuple[int, int, int, int]) -> list[Entry]:
        return [
            _AsIs(f"{name}/kernel", shape, ("params", *path, "kernel")),
            Entry(f"{name}/bias", shape[3:], ("params", *path, "bias")),
        ]

    stem, *stages, last = widths
    table = layer("Conv1", ("stem",), (3, 3, 3, stem))
    channels, number = stem, 0
    for out, repeats, expansion in zip(stages, REPEATS, EXPANSIONS, strict=True):
        for _ in range(repeats):
            name, block = f"block_{number}" if number else "expanded_conv", f"block{number}"
            wide = expansion * channels
            if expansion != 1:
                table += layer(f"{name}_expand", (block, "expand"), (1, 1, channels, wide))
            table += layer(f"{name}_depthwise", (block, "depthwise"), (3, 3, 1, wide))
            table += layer(f"{name}_project", (block, "project"), (1, 1, wide, out))
            channels, number = out, number + 1
    return table + layer("Conv_1", ("last",), (1, 1, channels, last))


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The field of MobileNetV2 that its tensors tell: widths. Raises DataError if there is no
    MobileNetV2 below `prefix`.
    """
    shapes = Shapes(state_dict, prefix, NETWORK)
    first_of_stage = np.cumsum((0, *REPEATS[:-1])).tolist()
    names = [
        f"block_{number}_project" if number else "expanded_conv_project"
        for number in first_of_stage
    ]
    return {"widths": tuple(shapes(f"{name}/bias", 1)[0] for name in ("Conv1", *names, "Conv_1"))}


def ignored(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Names that `from_torch` leaves out on purpose."""
    return left_out(state_dict, IGNORED, prefix)


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params"} of a MobileNetV2 from the arrays below `prefix` (the name is that of the other
    networks' functions).

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    table = entries(**architecture(state_dict, prefix))
    return load(dequantise(state_dict, prefix), table, prefix, NETWORK, IGNORED)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Float kernels and biases under the original names; `from_torch` reads them back exactly."""
    params = variables["params"]
    first_of_stage = np.cumsum((0, *REPEATS[:-1])).tolist()
    layers = [
        params["stem"],
        *(params[f"block{number}"]["project"] for number in first_of_stage),
        params["last"],
    ]
    return save(variables, entries(tuple(layer["bias"].shape[0] for layer in layers)), prefix)


def dequantise(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays below `prefix` with L/kernel = L/kernel_int8 * L/scale in place of the two; others
    as they are.

    Raises DataError where a scale is missing or is not one number for each output channel.
    """
    out = {}
    for name, value in state_dict.items():
        layer, _, part = name.rpartition("/")
        if not name.startswith(prefix) or (
            part == "scale" and f"{layer}/kernel_int8" in state_dict
        ):
            continue
        if part == "kernel_int8":
            scale = state_dict.get(f"{layer}/scale")
            if scale is None or np.shape(scale) != np.shape(value)[-1:]:
                found = "is missing" if scale is None else f"has shape {np.shape(scale)}"
                raise DataError(
                    f"{NETWORK} weights do not fit: {layer}/scale {found}; expected one factor for "
                    f"each of the {np.shape(value)[-1:]} channels of {name}"
                )
            out[f"{layer}/kernel"] = np.asarray(value, np.float32) * np.asarray(scale, np.float32)
        else:
            out[name] = value
    return out


class _AsIs(Entry):
    """A kernel that is stored in our layout."""

    __slots__ = ()

    def ours(self, value: np.ndarray) -> np.ndarray:
        return value

    def original(self, value: np.ndarray) -> np.ndarray:
        return value
