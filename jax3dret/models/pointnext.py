"""PointNeXt-S, PointNet++ as it is built today: the point-cloud baseline of retrieval of implicit
fields.

A stem gives every point features. Four set abstractions each keep half of the points: the farthest
ones are the centres, a ball query collects 32 neighbours of each, a network of two layers reads
their position relative to the centre, in units of the ball's radius, beside their features, and the
maximum over the ball is added to what the centre itself had before. A last one reads all points
that are left, in absolute coordinates, into one vector.

Paper: Qian et al., "PointNeXt: Revisiting PointNet++ with Improved Training and Scaling
Strategies", NeurIPS 2022, section 3, in the configuration of its code for ModelNet40; as a baseline
"INRet", section 4 (2048 points, embedding 512). The constructor's defaults are that network:
968,480 parameters, and with its classifier of 40 classes 1,373,512, published as 1.374 M.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import BatchNorm, Dense
from jax3dret.models.pointnet2 import GroupDense, max_over_members
from jax3dret.ops.ball_query import ball_query
from jax3dret.ops.fps import farthest_point_sample
from jax3dret.ops.gather import gather


class ResidualAbstraction(nn.Module):
    """Cloud with features -> 1 / stride of its points with features of this width.

    Layers of half the width but for the last, each with BatchNorm, and ReLU but for the last; the
    maximum over the ball; plus the centre's own features, projected where their width differs;
    ReLU.
    """

    width: int
    stride: int
    radius: float
    nsample: int
    layers: int = 2
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, position: Float[Array, "B N 3"], values: Float[Array, "B N C"], train: bool
    ) -> tuple[Float[Array, "B S 3"], Float[Array, "B S D"]]:
        chosen = farthest_point_sample(position, position.shape[1] // self.stride)
        centres = gather(position, chosen)
        own = gather(values, chosen)
        members = ball_query(centres, position, self.radius, self.nsample)
        self.sow("intermediates", "centre_index", chosen)
        self.sow("intermediates", "member_index", members)
        relative = (gather(position, members) - centres[:, :, None]) / self.radius
        widths = (*(self.width // 2,) * (self.layers - 1), self.width)
        x = GroupDense(widths[0], self.dtype, use_bias=False, name="conv0")(
            relative, values, members
        )
        x = BatchNorm(not train, name="norm0")(x)
        for j, width in enumerate(widths[1:], start=1):
            x = Dense(width, use_bias=False, dtype=self.dtype, name=f"conv{j}")(nn.relu(x))
            x = BatchNorm(not train, name=f"norm{j}")(x)
        if own.shape[-1] != self.width:
            own = Dense(self.width, dtype=self.dtype, name="skip")(own)
        return centres, nn.relu(max_over_members(x) + own)


class GlobalAbstraction(nn.Module):
    """Cloud with features -> one vector: layers of this width, each with BatchNorm and ReLU, over
    position and features of every point, and the maximum over the points.
    """

    width: int
    layers: int = 2
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, position: Float[Array, "B N 3"], values: Float[Array, "B N C"], train: bool
    ) -> Float[Array, "B D"]:
        x = jnp.concatenate([position.astype(values.dtype), values], axis=-1)
        for j in range(self.layers):
            x = Dense(self.width, use_bias=False, dtype=self.dtype, name=f"conv{j}")(x)
            x = nn.relu(BatchNorm(not train, name=f"norm{j}")(x))
        return max_over_members(x)


class PointNeXt(nn.Module):
    """Point cloud [B, N, 3] -> embedding float32 [B, D]; with the defaults PointNeXt-S, D = 512.

    A cloud with a value that is not finite gets an embedding of NaN. The points' own coordinates
    are their first features, as in the published configuration.

    width: of the stem; every abstraction doubles it. strides: of the abstractions, N / stride
    points are kept, rounded down. radius: of the first balls; each abstraction's are
    radius_scaling times those before. nsample: points of a ball. layers: of the network of each
    abstraction.
    dtype: precision of the shared networks; remat: recompute an abstraction in the backward pass
    instead of keeping its activations.

    Sampling starts from the first point, in training as in evaluation, so nothing is drawn. Raises
    ConfigError if the fields do not fit together, the points are not [B, N, 3] or too few, or, in
    training, if the batch is a single cloud (BatchNorm).
    """

    width: int = 32
    strides: tuple[int, ...] = (2, 2, 2, 2)
    radius: float = 0.15
    radius_scaling: float = 1.5
    nsample: int = 32
    layers: int = 2
    dtype: str = "float32"
    remat: bool = False

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.width << len(self.strides)

    @nn.compact
    def __call__(self, points: Float[Array, "B N 3"], train: bool = False) -> Float[Array, "B D"]:
        self.check(points.shape)
        local, whole = ResidualAbstraction, GlobalAbstraction
        if self.remat:
            local = nn.remat(local, static_argnums=(3,))
            whole = nn.remat(whole, static_argnums=(3,))
        position = points.astype(jnp.float32)
        values = Dense(self.width, dtype=self.dtype, name="stem")(position)
        for i, stride in enumerate(self.strides, start=1):
            position, values = local(
                self.width << i,
                stride,
                self.radius * self.radius_scaling ** (i - 1),
                self.nsample,
                self.layers,
                self.dtype,
                name=f"sa{i}",
            )(position, values, train)
            self.sow("intermediates", f"position{i}", position)
            self.sow("intermediates", f"values{i}", values)
        x = whole(self.embedding_dim, self.layers, self.dtype, name="whole")(
            position, values, train
        )
        finite = jnp.isfinite(points).all((1, 2))
        return jnp.where(finite[:, None], x.astype(jnp.float32), jnp.nan)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ConfigError unless the fields and the shape of the points fit together."""
        sizes = (self.width, self.nsample, self.layers, *self.strides)
        if not self.strides or min(sizes) < 1 or min(self.radius, self.radius_scaling) <= 0:
            raise ConfigError(
                f"PointNeXt: width={self.width}, strides={self.strides}, radius={self.radius}, "
                f"radius_scaling={self.radius_scaling}, nsample={self.nsample}, "
                f"layers={self.layers}; a size is too small"
            )
        if len(shape) != 3 or shape[-1] != 3:
            raise ConfigError(f"PointNeXt: points of shape {shape}; expected [B, N, 3]")
        kept = shape[1]
        for stride in self.strides:
            kept //= stride
        if kept < 1:
            raise ConfigError(
                f"PointNeXt: clouds of {shape[1]} points; strides={self.strides} leave none of them"
            )
