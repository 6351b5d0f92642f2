"""The network of an INR as rows of equal width, which an encoder reads in any order and number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from jax3dret.core.types import ConfigError
from jax3dret.models.fields.field import Architecture

Layers = Sequence[Mapping[str, Any]]


def weight_rows(architecture: Architecture, layers: Layers) -> Float32[np.ndarray, "R H"]:
    """The rows of an INR's network, layers in torch's layout [{"weight" [out, in], "bias" [out]}].

    A plain network: `hidden_rows`; the network behind a grid: `decoder_rows`.
    """
    return decoder_rows(layers) if architecture.feature_width else hidden_rows(layers)


def hidden_rows(layers: Layers) -> Float32[np.ndarray, "R H"]:
    """inr2vec's: without the first layer and the last, of each layer the weights that come into
    each neuron, a row each, and its biases, one row.

    "Deep Learning on Implicit Neural Representations of Shapes", ICLR 2023, section 3.1: 3 (512 +
    1) rows of a SIREN with four layers of 512. Raises ConfigError for a network with no layer
    between two of equal width.
    """
    inner = layers[1:-1]
    widths = {np.shape(layer["weight"]) for layer in inner}
    if len(widths) != 1 or len({*next(iter(widths))}) != 1:
        raise ConfigError(
            f"hidden layers of the shapes {sorted(widths)}; rows of an INR need one or more from a "
            "width to itself"
        )
    parts = [part for layer in inner for part in (layer["weight"], np.asarray(layer["bias"])[None])]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def decoder_rows(layers: Layers) -> Float32[np.ndarray, "R H"]:
    """All layers, as wide as the hidden one: of the first layer the weights that go out of each
    input, a row each; its biases; then of each layer the weights that come into each neuron, and
    its biases, those of the output filled up with zeros.

    inr2vec's recipe leaves nothing of a network with one hidden layer; nerf2vec (Zama Ramirez et
    al. 2023) keeps all of it. INRet's one layer of 128 behind 8 features: 11 + 1 + 1 + 1 rows.

    Raises ConfigError where a layer's input is not the layer before it alone.
    """
    first, *inner, last = layers
    width = len(np.asarray(first["bias"]))
    if any(np.shape(layer["weight"])[1] != width for layer in (*inner, last)) or any(
        np.shape(layer["weight"])[0] != width for layer in inner
    ):
        raise ConfigError(
            f"a decoder with layers of {[np.shape(layer['weight']) for layer in layers]}; rows "
            f"need {width} inputs of every layer but the first (no skips)"
        )
    bias = np.asarray(last["bias"], np.float32)
    parts = [np.asarray(first["weight"], np.float32).T, first["bias"][None]]
    for layer in inner:
        parts += [layer["weight"], layer["bias"][None]]
    parts += [last["weight"], np.pad(bias, (0, max(width - len(bias), 0)))[None, :width]]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])
