"""PointNet++ with single-scale grouping, the hierarchical point-cloud encoder: the paper's
baseline.

Two levels of set abstraction: farthest-point samples are the centres, a ball query collects the
neighbours of each, a small shared network reads them relative to their centre, and the maximum over
the ball is the centre's feature. A third level reads all that is left, in absolute coordinates,
into one vector.

Paper: "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers & Graphics 122
(2024) 103993, section 4 (2048 points); Qi, Yi, Su, Guibas, "PointNet++", NeurIPS 2017. The
constructor's defaults are the network as ULIP has it: positions only, 1,465,408 parameters,
embedding 256 wide.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import BatchNorm, Dense, check_rate, uniform_fan_in
from jax3dret.ops.ball_query import ball_query
from jax3dret.ops.fps import farthest_point_sample
from jax3dret.ops.gather import gather


class GroupDense(nn.Module):
    """Dense over [relative position, neighbour's feature] for every member of every ball, without
    building that array.

    The layer is linear, so W [x; f] = W_x x + W_f f, and W_f f is computed once for each point
    instead of once for each ball that the point lies in.
    """

    features: int
    dtype: str = "float32"
    use_bias: bool = True

    @nn.compact
    def __call__(
        self,
        relative: Float[Array, "B S K 3"],
        values: Float[Array, "B N C"] | None,
        members: Int[Array, "B S K"],
    ) -> Float[Array, "B S K D"]:
        fan_in = 3 + (0 if values is None else values.shape[-1])
        kernel = self.param("kernel", uniform_fan_in(fan_in), (fan_in, self.features)).astype(
            self.dtype
        )
        y = (relative.reshape(-1, 3).astype(self.dtype) @ kernel[:3]).reshape(
            *members.shape, self.features
        )
        if self.use_bias:
            bias = self.param("bias", uniform_fan_in(fan_in), (self.features,)).astype(self.dtype)
            y = y + bias[None, None, None]
        if values is None:
            return y
        of_point = (values.reshape(-1, fan_in - 3) @ kernel[3:]).reshape(
            *values.shape[:2], self.features
        )
        # One ball with all points takes each as it comes: nothing to gather.
        whole = members.shape[1] == 1 and members.shape[2] == values.shape[1]
        return y + (of_point[:, None] if whole else gather(of_point, members))


@jax.custom_vjp
def max_over_members(x: Float[Array, "*lead K D"]) -> Float[Array, "*lead D"]:
    """Maximum over the last axis but one; the gradient goes to the first of equal maxima.

    The rule for equal maxima is PyTorch's (JAX would share the gradient out), and it costs a third
    of JAX's on a CPU.
    """
    return x.max(-2)


def _max_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    y = x.max(-2)
    return y, (x, y)


def _max_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    x, y = kept
    member = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 2)
    first = jnp.min(jnp.where(x == y[..., None, :], member, x.shape[-2]), axis=-2)
    return (jnp.where(member == first[..., None, :], gradient[..., None, :], 0),)


max_over_members.defvjp(_max_forward, _max_backward)


class SetAbstraction(nn.Module):
    """Cloud with features -> fewer points with features: sample centres, collect balls, shared
    network, maximum.

    npoint None means one ball with all points, in absolute coordinates: [B, N, 3] -> [B, 1, 3] (the
    origin), [B, 1, D].
    """

    npoint: int | None
    radius: float
    nsample: int
    mlp: tuple[int, ...]
    fps_start: str = "zero"
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, position: Float[Array, "B N 3"], values: Float[Array, "B N C"] | None, train: bool
    ) -> tuple[Float[Array, "B S 3"], Float[Array, "B S D"]]:
        if self.npoint is None:
            centres = jnp.zeros_like(position[:, :1])
            members = jnp.broadcast_to(
                jnp.arange(position.shape[1]), (position.shape[0], 1, position.shape[1])
            )
            relative = position[:, None]
        else:
            key = self.make_rng("fps") if self.fps_start == "random" else None
            chosen = farthest_point_sample(position, self.npoint, start=self.fps_start, key=key)
            centres = gather(position, chosen)
            members = ball_query(centres, position, self.radius, self.nsample)
            relative = gather(position, members) - centres[:, :, None]
            self.sow("intermediates", "centre_index", chosen)
            self.sow("intermediates", "member_index", members)
        x = GroupDense(self.mlp[0], self.dtype, name="conv0")(relative, values, members)
        x = nn.relu(BatchNorm(not train, name="norm0")(x))
        for j, width in enumerate(self.mlp[1:], start=1):
            x = Dense(width, dtype=self.dtype, name=f"conv{j}")(x)
            x = nn.relu(BatchNorm(not train, name=f"norm{j}")(x))
        return centres, max_over_members(x)


class PointNet2(nn.Module):
    """Point cloud [B, N, 3] -> embedding float32 [B, fc[-1]], or [B, mlp[-1][-1]] with
    feature="global".

    A cloud with a value that is not finite gets an embedding of NaN.

    npoint, radius, nsample: centres, ball radius and ball size of the first two levels; clouds are
    of unit radius.
    mlp: layer widths of the shared networks of the three levels.
    fc: widths of the layers after the global feature, each with BatchNorm, ReLU and dropout; the
    last is the embedding.
    feature: "fc", what ULIP aligns with text and images, or "global", the maximum of the third
        level, with no fc layers. The paper does not say which of them it searches with.
    fps_start_train, fps_start_eval: first centre of a level, "zero", "random" (draws from the "fps"
        stream) or "pointnet2_ops". The published code draws at random in evaluation too; zero makes
        an embedding repeatable.
    dtype: precision of the shared networks; remat: recompute a level in the backward pass instead
    of keeping its activations.

    Random streams: "fps" where a start is random, "dropout" in training. Raises ConfigError if the
    fields do not fit together, the points are not [B, N, 3] or are fewer than the centres, or, in
    training, if the batch is a single cloud (BatchNorm).
    """

    npoint: tuple[int, int] = (512, 128)
    radius: tuple[float, float] = (0.2, 0.4)
    nsample: tuple[int, int] = (32, 64)
    mlp: tuple[tuple[int, ...], ...] = ((64, 64, 128), (128, 128, 256), (256, 512, 1024))
    fc: tuple[int, ...] = (512, 256)
    dropout: float = 0.4
    feature: str = "fc"
    fps_start_train: str = "random"
    fps_start_eval: str = "zero"
    dtype: str = "float32"
    remat: bool = False

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.mlp[-1][-1] if self.feature == "global" else self.fc[-1]

    @nn.compact
    def __call__(self, points: Float[Array, "B N 3"], train: bool = False) -> Float[Array, "B D"]:
        self.check(points.shape)
        level = nn.remat(SetAbstraction, static_argnums=(3,)) if self.remat else SetAbstraction
        start = self.fps_start_train if train else self.fps_start_eval
        check_rate(self.dropout, "PointNet2: dropout")
        position, values = points.astype(jnp.float32), None
        for i in range(2):
            position, values = level(
                self.npoint[i],
                self.radius[i],
                self.nsample[i],
                self.mlp[i],
                start,
                self.dtype,
                name=f"sa{i + 1}",
            )(position, values, train)
            self.sow("intermediates", f"position{i + 1}", position)
            self.sow("intermediates", f"values{i + 1}", values)
        _, values = level(None, 0.0, 0, self.mlp[2], dtype=self.dtype, name="sa3")(
            position, values, train
        )
        x = values[:, 0]
        self.sow("intermediates", "values3", x)
        if self.feature == "fc":
            for i, width in enumerate(self.fc, start=1):
                x = Dense(width, dtype=self.dtype, name=f"fc{i}")(x)
                x = nn.relu(BatchNorm(not train, name=f"bn{i}")(x))
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        finite = jnp.isfinite(points).all((1, 2))
        return jnp.where(finite[:, None], x.astype(jnp.float32), jnp.nan)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ConfigError unless the fields and the shape of the points fit together."""
        if self.feature not in ("fc", "global"):
            raise ConfigError(f"PointNet2: feature={self.feature!r}; expected 'fc' or 'global'")
        if (
            any(len(field) != 2 for field in (self.npoint, self.radius, self.nsample))
            or len(self.mlp) != 3
        ):
            raise ConfigError(
                "PointNet2: npoint, radius and nsample need two entries each and mlp three"
            )
        if not all(self.mlp) or (self.feature == "fc" and not self.fc):
            raise ConfigError(f"PointNet2: mlp={self.mlp}, fc={self.fc}; a list of widths is empty")
        if len(shape) != 3 or shape[-1] != 3:
            raise ConfigError(f"PointNet2: points of shape {shape}; expected [B, N, 3]")
        if not shape[1] >= self.npoint[0] >= self.npoint[1]:
            raise ConfigError(
                f"PointNet2: npoint={self.npoint} centres of {shape[1]} points; each level needs "
                "no more than the one before"
            )
