"""One vector from the features of all views without a graph: the baselines that MV-HGNN is measured
against.

Paper: "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
2604.18019, table 3 (average, attention and ViT pooling). It gives their names alone; what is here
is the usual form of each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import Block, LayerNorm
from jax3dret.models.view_graph import EXACT, Linear
from jax3dret.models.view_selector import check_views

POOLINGS = ("mean", "attention", "vit")


class MeanOutput(NamedTuple):
    """descriptor: [B, D]. view_scores: [B, V]."""

    descriptor: Float[Array, "B D"]
    view_scores: Float[Array, "B V"]


class AttentionPooling(nn.Module):
    """Weighted mean of the views, weights softmax_j(w tanh(U f_j)) with U [F, hidden] and w
    [hidden], no biases.
    """

    hidden: int = 256

    @nn.compact
    def __call__(
        self, features: Float[Array, "B V F"]
    ) -> tuple[Float[Array, "B F"], Float[Array, "B V"]]:
        """The mean and the weights."""
        x = jnp.tanh(Linear(self.hidden, use_bias=False, name="hidden")(features))
        weights = nn.softmax(Linear(1, use_bias=False, name="score")(x)[..., 0])
        return jnp.einsum("bv,bvf->bf", weights, features, precision=EXACT), weights


class VitPooling(nn.Module):
    """The class token of a small transformer over the views: pre-norm blocks, an embedding for each
    view, a last LayerNorm.

    MLPs are four times as wide as the features. Raises ConfigError if the width is not a multiple
    of `heads`, or for another number of views than the weights were trained with.
    """

    depth: int = 2
    heads: int = 8

    @nn.compact
    def __call__(self, features: Float[Array, "B V F"], train: bool = False) -> Float[Array, "B F"]:
        batch, views, width = features.shape
        if width % self.heads:
            raise ConfigError(
                f"MVHGNN: aggregator='vit' has {self.heads} heads, features have width {width}; "
                "expected a multiple, "
                f"width={max(1, round(width / self.heads)) * self.heads} say"
            )
        check_views(self, ("views",), 0, views, views)
        small = nn.initializers.normal(0.02)
        token = self.param("token", small, (width,))
        x = features + self.param("views", small, (views, width))[None]
        x = jnp.concatenate([jnp.broadcast_to(token, (batch, 1, width)), x], axis=1)
        for i in range(self.depth):
            x = Block(self.heads, qkv_bias=True, name=f"block{i}")(x, train)
        return LayerNorm(name="norm")(x[:, 0])


class MeanViews(nn.Module):
    """The mean of the views' features as it is, [B, V, dim] -> [B, dim]: no parameters, the row
    that training has to beat.
    """

    dim: int

    @property
    def embedding_dim(self) -> int:
        """Width of the descriptor."""
        return self.dim

    def __call__(
        self,
        features: Float[Array, "B V D"],
        positions: Float[Array, "*B V 3"] | Float[np.ndarray, "V 3"],
        train: bool = False,
    ) -> Float[Array, "B D"]:
        """The descriptor."""
        return self.outputs(features, positions, train).descriptor

    def outputs(
        self,
        features: Float[Array, "B V D"],
        positions: Float[Array, "*B V 3"] | Float[np.ndarray, "V 3"],
        train: bool = False,
    ) -> MeanOutput:
        """The descriptor; all views count alike. Raises ConfigError for features of another width."""
        del positions, train
        if features.shape[-1] != self.dim:
            raise ConfigError(
                f"MeanViews: features are {features.shape[-1]} wide; expected "
                f"dim={features.shape[-1]}"
            )
        return MeanOutput(features.mean(1), jnp.full(features.shape[:2], 1 / features.shape[1]))
