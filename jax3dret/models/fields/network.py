"""Plain networks of fields: linear layers in torch's layout, and the decoder of a grid."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jax3dret.core import rng
from jax3dret.core.types import ConfigError

# {"layers": [{"weight": [out, in], "bias": [out]}, ...]}
Network = Mapping[str, Sequence[Mapping[str, jax.Array]]]
# One network for all shapes and functions of an architecture, for ever: rows of the weights of
# different shapes then speak of the same neurons (INRet, section 3).
SEED = 0
# No network of a field is larger: a header of a file that says so is damaged.
MOST_HIDDEN, MOST_DEPTH = 16_384, 64


def draw(
    architecture: str, widths: Sequence[int], weight_bounds: Sequence[float]
) -> dict[str, list[dict[str, jax.Array]]]:
    """Layers of `widths`, input first: weights U(-bound, bound), biases U(-1/sqrt(in), 1/sqrt(in)).

    The numbers depend on the name of the architecture and the widths alone. weight_bounds: one for
    each layer.
    """
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        generator = rng.host_generator(SEED, f"fields/{architecture}", i, fan_in, fan_out)
        weight = generator.uniform(-weight_bounds[i], weight_bounds[i], (fan_out, fan_in))
        bias = generator.uniform(-1, 1, fan_out) / np.sqrt(fan_in)
        layers.append(
            {
                "weight": jnp.asarray(weight, jnp.float32),
                "bias": jnp.asarray(bias, jnp.float32),
            }
        )
    return {"layers": layers}


def linear(
    layer: Mapping[str, jax.Array],
    x: Float[jax.Array, "P I"],
    precision: jax.lax.PrecisionLike = "highest",
) -> Float[jax.Array, "P O"]:
    """x weight^T + bias."""
    return jnp.matmul(x, layer["weight"].T, precision=precision) + layer["bias"][None]


def fourier(
    points: Float[jax.Array, "P 3"], bands: int, coordinates: bool = True
) -> Float[jax.Array, "P E"]:
    """[x, sin(2^k x), cos(2^k x)]: the coordinates, then all sines, then all cosines, the band k =
    0 .. bands - 1 slower than the coordinate; no factor pi (Kaolin Wisp's positional embedder).

    coordinates: whether x itself comes first.
    """
    scaled = points[:, None] * (2.0 ** jnp.arange(bands))[None, :, None]
    flat = scaled.reshape(len(points), 3 * bands)
    parts = [points] * coordinates + [jnp.sin(flat), jnp.cos(flat)] * (bands > 0)
    return jnp.concatenate(parts, axis=-1)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The network behind a grid: coordinates and features -> one value (Kaolin Wisp's decoder).

    hidden: width of each of `depth` layers with ReLU; the output is linear. skip: hidden layers,
    counted from 0, behind which the input stands before the layer's output. bands: Fourier bands of
    the coordinates, 0 for none; coordinates: whether the three raw ones are read. INRet's own: one
    layer of 128, raw coordinates.

    Raises ConfigError for numbers that make no network.
    """

    hidden: int = 128
    depth: int = 1
    skip: tuple[int, ...] = ()
    bands: int = 0
    coordinates: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "skip", tuple(self.skip))
        sizes = 1 <= self.hidden <= MOST_HIDDEN and 1 <= self.depth <= MOST_DEPTH
        if not sizes or not 0 <= self.bands <= MOST_DEPTH:
            raise ConfigError(
                f"decoder: hidden={self.hidden}, depth={self.depth}, bands={self.bands}; expected "
                f"1 to {MOST_HIDDEN}, 1 to {MOST_DEPTH} and 0 to {MOST_DEPTH}"
            )
        if any(not 0 <= i < self.depth for i in self.skip):
            raise ConfigError(
                f"decoder: skip={self.skip} of {self.depth} hidden layers; they count from 0"
            )

    def input_width(self, features: int) -> int:
        """Of the first layer, for so many features of the grid."""
        return 3 * self.coordinates + 6 * self.bands + features

    def init(self, architecture: str, features: int) -> dict[str, list[dict[str, jax.Array]]]:
        """The weights that every shape of the architecture starts from: torch's default,
        U(-1/sqrt(in), 1/sqrt(in)) for weights and biases."""
        first = self.input_width(features)
        inputs = [first] + [self.hidden + first * (i in self.skip) for i in range(self.depth)]
        layers = []
        for i, width in enumerate(inputs):
            out = self.hidden if i < self.depth else 1
            layers += draw(f"{architecture}/{i}", (width, out), (width**-0.5,))["layers"]
        return {"layers": layers}

    def apply(
        self,
        variables: Network,
        points: Float[jax.Array, "P 3"],
        features: Float[jax.Array, "P F"],
        precision: jax.lax.PrecisionLike = "highest",
    ) -> Float[jax.Array, " P"]:
        """The value at each point."""
        *hidden, last = variables["layers"]
        places = fourier(points, self.bands, self.coordinates)
        x = h = jnp.concatenate([places, features], axis=-1)
        for i, layer in enumerate(hidden):
            h = jnp.maximum(linear(layer, h, precision), 0.0)
            if i in self.skip:
                h = jnp.concatenate([x, h], axis=-1)
        return linear(last, h, precision)[:, 0]
