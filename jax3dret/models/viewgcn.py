"""View-GCN: the views of a shape as a graph on the sphere of cameras, coarsened twice, read into
one descriptor.

Each of three levels convolves over the nearest cameras (local), and its maximum over the views is a
third of the descriptor. Between the levels all pairs of views exchange messages (non-local), and a
selector keeps about half of the views: cameras far from each other are sampled, and around each the
most telling neighbour takes its place.

Wei, Yu, Sun, "View-GCN: View-based Graph Convolutional Network for 3D Shape Analysis", CVPR 2020;
the view-based baseline of "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers
& Graphics 122 (2024) 103993. The constructor's defaults are the published network for 20 views with
its errors put right: the selectors score the classes of the data set, not 40; their softmax runs
over the classes, not over the sampled views; an evaluation samples from view 0, not from a random
one; few views are no error. `softmax="views"`, `selector_classes=40`, `fps_start_eval="random"` and
`sampled` bring each back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int, Int32, Key

from jax3dret.core.types import ConfigError
from jax3dret.models.layers import BatchNorm, check_rate, uniform_fan_in
from jax3dret.models.pool import max_pool
from jax3dret.models.view_choice import most_telling, nearest_views, sample_cameras
from jax3dret.ops.gather import gather

# Names of the neighbour lists that a caller may give, in the order of the computation.
NEIGHBOURHOODS = ("local1", "select1", "local2", "select2", "local3")


class ViewGCNOutput(NamedTuple):
    """descriptor: [B, 3 width], what retrieval compares. logits: [B, C]. scores: of each selector,
    [B, S, k, C].
    """

    descriptor: Float[Array, "B D"]
    logits: Float[Array, "B C"]
    scores: tuple[Float[Array, "B _ K C"], ...]


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Slope 0.2 below zero, as everywhere in this network."""
    return nn.leaky_relu(x, 0.2)


def level_sizes(views: int, sampled: Sequence[int] = ()) -> tuple[int, int]:
    """Views that the two selectors keep: V // 2 and V // 4, at least one; or those given.

    Raises ConfigError if these are not two, or a level has more views than the one before.
    """
    sizes = tuple(sampled) or (max(1, views // 2), max(1, views // 4))
    if len(sizes) != 2 or not 1 <= sizes[1] <= sizes[0] <= views:
        raise ConfigError(
            f"ViewGCN: sampled={sizes} of {views} views; two numbers, none larger than the one "
            "before"
        )
    return sizes[0], sizes[1]


class Linear(nn.Module):
    """y = x W + b; W starts from Kaiming's uniform distribution (bound sqrt(6 / fan_in)), b from
    PyTorch's default.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "*lead in"]) -> Float[Array, "*lead out"]:
        kernel, bias = linear_parameters(self, x.shape[-1], self.features)
        y = x.reshape(-1, x.shape[-1]) @ kernel + bias[None]
        return y.reshape(*x.shape[:-1], self.features)


class PairLinear(nn.Module):
    """The layer over [f_i, f_j] for all pairs of views, [B, V, F] -> [B, V, V, D] (i, then j),
    without building the pairs.

    W [f_i; f_j] = W_a f_i + W_b f_j, and each product is computed once for a view instead of once
    for a pair.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "B V F"]) -> Float[Array, "B V V D"]:
        batch, views, width = x.shape
        kernel, bias = linear_parameters(self, 2 * width, self.features)
        flat = x.reshape(-1, width)
        own = (flat @ kernel[:width] + bias[None]).reshape(batch, views, 1, self.features)
        other = (flat @ kernel[width:]).reshape(batch, 1, views, self.features)
        return own + other


def linear_parameters(
    module: nn.Module, fan_in: int, features: int
) -> tuple[Array | np.ndarray, Array | np.ndarray]:
    """The parameters "kernel" [fan_in, features] and "bias" of a module."""
    bound = math.sqrt(6.0 / fan_in)

    def kaiming(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    kernel = module.param("kernel", kaiming, (fan_in, features))
    return kernel, module.param("bias", uniform_fan_in(fan_in), (features,))


class LocalGCN(nn.Module):
    """Convolution over the k nearest cameras: sum_j r(i, j) f_j -> Linear, BatchNorm, LeakyReLU.

    The weight r of a neighbour is a small network's output for [v_i, v_j, v_i - v_j, |v_i - v_j|];
    it is not normalised.
    """

    width: int

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B V F"],
        vertices: Float[Array, "B V 3"],
        neighbours: Int[Array, "B V k"],
        train: bool = False,
    ) -> Float[Array, "B V D"]:
        theirs = gather(vertices, neighbours)
        own = jnp.broadcast_to(vertices[:, :, None], theirs.shape)
        offset = own - theirs
        x = jnp.concatenate([own, theirs, offset, _length(offset)], axis=-1)
        for i in range(2):
            x = leaky_relu(Linear(x.shape[-1], name=f"edge{i}")(x))
        weight = Linear(1, name="edge2")(x)
        mixed = jnp.sum(weight * gather(features, neighbours), axis=2)
        self.sow("intermediates", "mixed", mixed)
        return leaky_relu(
            BatchNorm(not train, name="norm")(Linear(self.width, name="linear")(mixed))
        )


class NonLocalMP(nn.Module):
    """Messages between all pairs of views: [f_i, f_j] through three layers, summed over j; [f_i,
    sum] -> Linear, BN, LeakyReLU.

    A view sends a message to itself as well. The width stays.
    """

    @nn.compact
    def __call__(
        self, features: Float[Array, "B V F"], train: bool = False
    ) -> Float[Array, "B V F"]:
        width = features.shape[-1]
        x = leaky_relu(PairLinear(width, name="relation0")(features))
        for i in (1, 2):
            x = leaky_relu(Linear(width, name=f"relation{i}")(x))
        x = Linear(width, name="fusion")(jnp.concatenate([features, x.sum(2)], axis=-1))
        return leaky_relu(BatchNorm(not train, name="norm")(x))


class ViewSelector(nn.Module):
    """Keeps S of V views: around each of S sampled cameras, the most telling of its k nearest.

    One network scores the classes for the j-th nearest candidates of all S cameras together. Of a
    candidate counts its best class, softmax over the classes taken first (softmax="classes"), and
    the best candidate is kept; a view can be kept twice. The gradient of the selected features goes
    to those features alone: the scores learn from a loss of their own.

    softmax="views" is the published code's: over the S cameras, so that a candidate is compared
    with those of other cameras.
    """

    num_classes: int
    softmax: str = "classes"

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B V F"],
        vertices: Float[Array, "B V 3"],
        candidates: Int[Array, "B S k"],
    ) -> tuple[Float[Array, "B S F"], Float[Array, "B S k C"], Float[Array, "B S 3"]]:
        """Selected features, scores before the softmax, selected vertices. candidates: of each
        sampled camera, nearest first.
        """
        if self.softmax not in ("classes", "views"):
            raise ConfigError(
                f"ViewSelector: softmax='{self.softmax}'; expected 'classes' or 'views'"
            )
        batch, sampled, k = candidates.shape
        width = features.shape[-1]
        values = gather(features, candidates)
        x = values.swapaxes(1, 2).reshape(batch, k, sampled * width)
        x = leaky_relu(Linear(width // 2 * sampled, name="hidden")(x))
        x = Linear(self.num_classes * sampled, name="score")(x)
        scores = x.reshape(batch, k, sampled, self.num_classes).swapaxes(1, 2)
        axis = -1 if self.softmax == "classes" else 1
        best = most_telling(lax.stop_gradient(scores), axis)
        chosen = jnp.take_along_axis(candidates, best[..., None], axis=-1)[..., 0]
        return gather(features, chosen), scores, gather(vertices, chosen)


class ViewGCN(nn.Module):
    """Features of V views [B, V, F] and their cameras [V, 3] or [B, V, 3] -> descriptor float32 [B,
    3 width].

    num_classes: of the classifier. width: of the graph's features, 512 in the published network.
    sampled: views that the selectors keep; empty: V // 2 and V // 4. The published code keeps 10
        and 5 of 20; a published variant for 12 views keeps 6 and 4.
    k: neighbours, the view itself among them; fewer where a level has fewer views.
    softmax, selector_classes: see `ViewSelector`; 0 classes means num_classes, the published code
    had 40 whatever the data.
    fps_start_train, fps_start_eval: first sampled camera, "zero" or "random" (draws from the "fps"
        stream). The published code draws at random in evaluation too; zero makes an embedding
        repeatable.
    dropout: of the classifier; draws from the "dropout" stream.

    Cameras may have any scale and carry gradients. Values that are not finite make their own item's
    descriptor NaN. Raises ConfigError if the fields and the shapes do not fit together, or in
    training with a single row (BatchNorm).
    """

    num_classes: int
    width: int = 512
    sampled: tuple[int, ...] = ()
    k: int = 4
    softmax: str = "classes"
    selector_classes: int = 0
    dropout: float = 0.5
    fps_start_train: str = "random"
    fps_start_eval: str = "zero"

    @property
    def embedding_dim(self) -> int:
        """Width of the descriptor."""
        return 3 * self.width

    def __call__(
        self,
        features: Float[Array, "B V F"],
        vertices: Float[Array, "*B V 3"],
        train: bool = False,
        *,
        fps_indices: Sequence[Int[Array, "B _"]] | None = None,
        knn_indices: Mapping[str, Int[Array, "B _ _"]] | None = None,
    ) -> Float[Array, "B D"]:
        """The descriptor: maxima over the views of the three local convolutions, side by side."""
        return self.outputs(
            features, vertices, train, fps_indices=fps_indices, knn_indices=knn_indices
        ).descriptor

    @nn.compact
    def outputs(
        self,
        features: Float[Array, "B V F"],
        vertices: Float[Array, "*B V 3"],
        train: bool = False,
        *,
        fps_indices: Sequence[Int[Array, "B _"]] | None = None,
        knn_indices: Mapping[str, Int[Array, "B _ _"]] | None = None,
    ) -> ViewGCNOutput:
        """Descriptor, logits and the selectors' scores.

        fps_indices: sampled cameras of the two levels; knn_indices: neighbours, nearest first,
        under names of NEIGHBOURHOODS ("local*" of every view of a level, "select*" of its sampled
        ones). What is given is not computed.
        """
        check_rate(self.dropout, "ViewGCN: dropout")
        vertices = self._cameras(features, vertices)
        sizes = level_sizes(features.shape[1], self.sampled)
        given = dict(knn_indices or {})
        if unknown := sorted(set(given) - set(NEIGHBOURHOODS)):
            raise ConfigError(
                f"ViewGCN: knn_indices['{unknown[0]}']; the names are {', '.join(NEIGHBOURHOODS)}"
            )
        x = features.astype(jnp.float32)
        finite = jnp.isfinite(x).all((1, 2)) & jnp.isfinite(vertices).all((1, 2))
        pooled, scores = [], []
        for level in (1, 2, 3):
            near = nearest_views(vertices, min(self.k, x.shape[1]))
            x = LocalGCN(self.width, name=f"local{level}")(
                x, vertices, jnp.asarray(given.get(f"local{level}", near)), train
            )
            self.sow("intermediates", f"convolved{level}", x)
            pooled.append(max_pool(x))
            if level == 3:
                break
            x = NonLocalMP(name=f"nonlocal{level}")(x, train)
            self.sow("intermediates", f"exchanged{level}", x)
            sampled = (
                fps_indices[level - 1]
                if fps_indices
                else self._sample(vertices, sizes[level - 1], train)
            )
            candidates = jnp.asarray(
                given.get(f"select{level}", gather(near, jnp.asarray(sampled)))
            )
            selector = ViewSelector(
                self.selector_classes or self.num_classes, self.softmax, name=f"selector{level}"
            )
            x, score, vertices = selector(x, vertices, candidates)
            scores.append(score)
            for name, value in (
                ("fps", sampled),
                ("select", candidates),
                ("features", x),
                ("vertices", vertices),
            ):
                self.sow("intermediates", f"{name}{level}", value)
        descriptor = jnp.concatenate(pooled, axis=-1)
        descriptor = jnp.where(finite[:, None], descriptor, jnp.nan)
        x = leaky_relu(Linear(self.width, name="head0")(descriptor))
        x = nn.Dropout(self.dropout, deterministic=not train)(Linear(self.width, name="head1")(x))
        return ViewGCNOutput(
            descriptor, Linear(self.num_classes, name="head2")(leaky_relu(x)), tuple(scores)
        )

    def _cameras(self, features: Array, vertices: Array) -> Float[Array, "B V 3"]:
        """The cameras of every item; ConfigError unless the shapes fit together."""
        shape = features.shape
        if len(shape) != 3 or vertices.shape not in ((shape[1], 3), (shape[0], shape[1], 3)):
            raise ConfigError(
                f"ViewGCN: features {shape} and vertices {vertices.shape}; expected [B, V, F] and "
                "[V, 3] or [B, V, 3]"
            )
        if min(self.num_classes, self.width, self.k) < 1 or self.selector_classes < 0:
            raise ConfigError(
                f"ViewGCN: num_classes={self.num_classes}, width={self.width}, k={self.k}, "
                f"selector_classes={self.selector_classes}; a size is too small"
            )
        return jnp.broadcast_to(jnp.asarray(vertices, jnp.float32), (*shape[:2], 3))

    def _sample(
        self, vertices: Float[Array, "B V 3"], count: int, train: bool
    ) -> Int32[Array, "B S"]:
        start = self.fps_start_train if train else self.fps_start_eval
        if start not in ("zero", "random"):
            raise ConfigError(
                f"ViewGCN: first sampled camera '{start}'; expected 'zero' or 'random'"
            )
        drawn = start == "random" and not self.is_initializing()
        key = self.make_rng("fps") if drawn else None
        return sample_cameras(vertices, count, key)


def _length(offset: Float[Array, "*lead 3"]) -> Float[Array, "*lead 1"]:
    """Euclidean length, with the gradient 0 at 0."""
    square = jnp.sum(jnp.square(offset), axis=-1, keepdims=True)
    there = square > 0
    return jnp.where(
        there, jnp.sqrt(jnp.where(there, square, 1.0)), jnp.where(square == 0, 0.0, jnp.nan)
    )
