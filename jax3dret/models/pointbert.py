"""PointBERT, the point-cloud encoder of ULIP-2, and the projection into the space shared with
images and text.

A cloud becomes `num_group` overlapping groups: farthest-point samples are the centres, the
`group_size` nearest points of each, relative to it, are its members. A small PointNet turns a group
into a token, a transformer reads the tokens together with a class token, and the embedding is the
class token beside the maximum over the group tokens.

Paper: "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers & Graphics 122
(2024) 103993, section 3. The constructor's defaults are the encoder of the paper (8192 points,
21,858,816 parameters, embedding 768 wide). The later ULIP-2 release reads coloured clouds:
in_channels=6, depth=18. For two CPU cores, trans_dim=96, depth=4, num_heads=3, num_group=64,
encoder_dims=96 on 1024 points trains in minutes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.gelu import gelu
from jax3dret.models.group_encoder import GroupEncoder
from jax3dret.models.layers import Block, Dense, LayerNorm, check_rate
from jax3dret.ops.fps import farthest_point_sample
from jax3dret.ops.gather import gather
from jax3dret.ops.knn import knn


class PointBert(nn.Module):
    """Point cloud [B, N, in_channels] -> embedding float32 [B, 2 * trans_dim].

    Channels are x y z, then colour if in_channels is 6; groups are formed by position alone. A
    cloud with a value that is not finite gets an embedding of NaN.

    trans_dim, depth, num_heads: width, blocks and heads of the transformer (MLP ratio 4).
    num_group, group_size, encoder_dims: how many groups, of how many points, and the width of a
        group's vector; group_widths: the inner widths of the small PointNet that makes it.
    drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
    fps_start_train, fps_start_eval: first centre, "zero" (the first point), "random" (draws from
        the "fps" stream) or "pointnet2_ops" (the rule under which the ULIP-2 weights were trained).
        The published fine-tuning code draws at random in evaluation too; zero makes an embedding
        repeatable.
    dtype: precision of the transformer and the small PointNet; remat: recompute a block in the
        backward pass instead of keeping its activations (on a GPU or TPU; XLA for the CPU merges
        the second computation with the first).

    Random streams: "fps" where a start is random, "drop_path" in training. Raises ConfigError if
    the channels do not match or a cloud has fewer points than centres or group members.
    """

    in_channels: int = 3
    trans_dim: int = 384
    depth: int = 12
    num_heads: int = 6
    num_group: int = 512
    group_size: int = 32
    encoder_dims: int = 256
    group_widths: tuple[int, int, int] = (128, 256, 512)
    drop_path_rate: float = 0.1
    fps_start_train: str = "random"
    fps_start_eval: str = "zero"
    dtype: str = "float32"
    remat: bool = False

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding: class token and maximum."""
        return 2 * self.trans_dim

    @nn.compact
    def __call__(self, points: Float[Array, "B N C"], train: bool = False) -> Float[Array, "B D"]:
        groups, centres = self.group(points, train)
        encoder = GroupEncoder(
            self.encoder_dims, tuple(self.group_widths), self.dtype, name="encoder"
        )
        tokens = encoder(groups, train)
        self.sow("intermediates", "group_tokens", tokens)
        tokens = Dense(self.trans_dim, dtype=self.dtype, name="reduce_dim")(tokens)
        position = gelu(Dense(128, dtype=self.dtype, name="pos_embed1")(centres.astype(self.dtype)))
        position = Dense(self.trans_dim, dtype=self.dtype, name="pos_embed2")(position)
        x = self.prepend("cls_token", nn.initializers.zeros, tokens)
        position = self.prepend("cls_pos", nn.initializers.normal(1.0), position)

        check_rate(self.drop_path_rate, "PointBert: drop_path_rate")
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for i in range(self.depth):
            rate = self.drop_path_rate * i / max(self.depth - 1, 1)
            # The position goes in again before every block, not only before the first.
            x = block(self.num_heads, drop_path=rate, dtype=self.dtype, name=f"block{i}")(
                x + position, train
            )
        x = LayerNorm(name="norm")(x).astype(jnp.float32)
        embedding = jnp.concatenate([x[:, 0], x[:, 1:].max(1)], -1)
        finite = jnp.isfinite(points).all((1, 2))
        return jnp.where(finite[:, None], embedding, jnp.nan)

    def group(
        self, points: Float[Array, "B N C"], train: bool
    ) -> tuple[Float[Array, "B G K C"], Float[Array, "B G 3"]]:
        """Groups (positions relative to their centre, colour unchanged) and the positions of their
        centres.
        """
        if points.shape[-1] != self.in_channels:
            raise ConfigError(
                f"PointBert: points of shape {points.shape} do not have "
                f"in_channels={self.in_channels} channels"
            )
        if points.shape[1] < max(self.num_group, self.group_size):
            raise ConfigError(
                f"PointBert: {points.shape[1]} points are too few for num_group={self.num_group}, "
                f"group_size={self.group_size}"
            )
        start = self.fps_start_train if train else self.fps_start_eval
        key = self.make_rng("fps") if start == "random" else None
        position = jax.lax.stop_gradient(points[..., :3].astype(jnp.float32))
        chosen = farthest_point_sample(position, self.num_group, start=start, key=key)
        members, _ = knn(gather(position, chosen), position, self.group_size)
        self.sow("intermediates", "centre_index", chosen)
        self.sow("intermediates", "member_index", members)
        centres = gather(points[..., :3], chosen)
        groups = gather(points, members)
        relative = groups[..., :3] - centres[:, :, None]
        return jnp.concatenate([relative, groups[..., 3:]], -1), centres

    def prepend(self, name: str, init, tokens: Float[Array, "B G D"]) -> Float[Array, "B T D"]:
        """Puts the learned vector `name` before the tokens of every cloud."""
        first = self.param(name, init, (1, 1, self.trans_dim)).astype(tokens.dtype)
        return jnp.concatenate(
            [jnp.broadcast_to(first, (tokens.shape[0], 1, self.trans_dim)), tokens], 1
        )


class PointProjection(nn.Module):
    """Embedding -> the space shared with images and text: one matrix, no bias, initialised from
    N(0, features^-1/2).
    """

    features: int = 512

    @nn.compact
    def __call__(self, embedding: Float[Array, "B D"]) -> Float[Array, "B E"]:
        init = nn.initializers.normal(self.features**-0.5)
        return embedding @ self.param("kernel", init, (embedding.shape[-1], self.features))
