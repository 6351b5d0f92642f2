"""inr2vec's decoder: an embedding and a point in space to the value of the shape's function there.

It stands behind an encoder while that is trained, and is left behind with it.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import Dense, uniform_fan_in


def encode_coordinates(points: Float[Array, "*lead 3"], bands: int = 10) -> Float[Array, "*lead E"]:
    """[x, sin x, cos x, sin 2x, cos 2x, ..., cos 2^(bands - 1) x], three numbers each, no pi:
    [..., 3] -> [..., 3 + 6 bands] (inr2vec's published code).
    """
    parts = [points]
    for band in range(bands):
        parts += [jnp.sin(2.0**band * points), jnp.cos(2.0**band * points)]
    return jnp.concatenate(parts, axis=-1)


class ShapeDecoder(nn.Module):
    """Embeddings [..., B, D] and points [B, P, 3] -> values [..., B, P].

    inr2vec, section 3.2, and its published code: the embedding beside the encoded coordinates
    through Dense + ReLU, `before` layers of Dense + ReLU, to which a projection of the input (Dense
    + ReLU) is added, `after` layers of Dense + ReLU, and a Dense to one number. Axes in front of B
    are several embeddings of the same shapes, one of each function say.

    A layer that reads the input does so in two parts, since the embedding is the same for all
    points of a shape and the coordinates for all embeddings: the same sums, a tenth of the work.
    """

    hidden: int = 512
    before: int = 2
    after: int = 2
    bands: int = 10
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, embeddings: Float[Array, "*lead B D"], points: Float[Array, "B P 3"]
    ) -> Float[Array, "*lead B P"]:
        if embeddings.ndim < 2 or embeddings.shape[-2] != len(points):
            raise ConfigError(
                f"ShapeDecoder: embeddings {embeddings.shape} for points {points.shape}; expected "
                "[..., B, D] and [B, P, 3]"
            )
        encoded = encode_coordinates(points, self.bands)
        read = (embeddings, encoded)
        x = nn.relu(_Joint(self.hidden, self.dtype, name="in_layer")(*read))
        skip = nn.relu(_Joint(self.hidden, self.dtype, name="skip_proj")(*read))
        for i in range(self.before):
            x = nn.relu(Dense(self.hidden, dtype=self.dtype, name=f"before{i}")(x))
        x = x + skip
        for i in range(self.after):
            x = nn.relu(Dense(self.hidden, dtype=self.dtype, name=f"after{i}")(x))
        return Dense(1, dtype=self.dtype, name="out")(x)[..., 0].astype("float32")


class _Joint(nn.Module):
    """Dense over [embedding, coordinates], of its parts: [..., B, D] and [B, P, E] -> [..., B, P,
    features].
    """

    features: int
    dtype: str

    @nn.compact
    def __call__(self, embeddings: Array, encoded: Array) -> Array:
        width = embeddings.shape[-1]
        fan_in = width + encoded.shape[-1]
        init = uniform_fan_in(fan_in)
        kernel = self.param("kernel", init, (fan_in, self.features)).astype(self.dtype)
        bias = self.param("bias", init, (self.features,)).astype(self.dtype)
        of_shape = jnp.matmul(embeddings.astype(self.dtype), kernel[:width])
        shape = encoded.shape
        flat = encoded.reshape(-1, shape[-1]).astype(self.dtype)
        of_point = jnp.matmul(flat, kernel[width:]).reshape(*shape[:-1], self.features)
        lead = (1,) * (embeddings.ndim - 2)
        offset = of_shape + bias.reshape((1,) * (embeddings.ndim - 1) + bias.shape)
        total: Array = offset[..., None, :] + of_point.reshape(*lead, *of_point.shape)
        return total
