"""A frozen image tower as a function of raw pixels: uint8[B, S, S, 3] -> float32[B, D]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from jax3dret.data.images import Normalisation, normalise


def frozen(
    model: nn.Module, variables: Mapping[str, Any], normalisation: Normalisation
) -> Callable[[UInt8[Array, "B S S 3"]], Float[Array, "B D"]]:
    """The model in evaluation, preceded by its normalisation, as one compiled function.

    model: any image network here (CLIP's or SLIP's VisionTower, ResNet, Vgg, MobileNetV2). The
    variables are placed on the device once. The function compiles anew for each batch size; it
    raises what the model raises for a wrong image size.
    """
    placed = jax.device_put(variables)

    @jax.jit
    def run(variables, images):
        return model.apply(variables, normalise(images, normalisation))

    return lambda images: run(placed, images)
