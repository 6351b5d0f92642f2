"""How MV-HGNN gets from the views of one level to the fewer nodes of the next.

Paper: "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
2604.18019, Eq. 7: a small network spreads K prototypes over the views, and each prototype is the
mean of features and positions under its weights. The others are what it is compared with: views
drawn at random, farthest cameras, and the selector of View-GCN.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int32, Key, UInt32

from jax3dret.core.types import ConfigError
from jax3dret.models.view_choice import most_telling, nearest_views
from jax3dret.models.view_graph import EXACT, Linear
from jax3dret.models.viewgcn import ViewSelector, leaky_relu
from jax3dret.ops.gather import gather

SELECTORS = ("prototypes", "random", "fps", "viewgcn")
# Of all draws of an evaluation.
SEED = 2604


class Selection(NamedTuple):
    """The nodes of the next level. assignment: [B, K, V], rows sum to 1. scores: [B, K, k, C] of
    View-GCN's selector, or None.
    """

    features: Float[Array, "B K D"]
    positions: Float[Array, "B K 3"]
    assignment: Float[Array, "B K V"]
    scores: Float[Array, "B K k C"] | None = None


class PrototypeSelector(nn.Module):
    """K soft prototypes of V views: A = softmax over the views of MLP(f_j), then A F and A v.

    The MLP is Linear, LeakyReLU, Linear to K numbers for each view, the same for every view, so
    that an order of the views does not matter. The mean of positions is not put back onto the
    sphere. At the start the rows of A are nearly uniform and the prototypes nearly one; training
    parts them.
    """

    count: int
    hidden: int = 256

    @nn.compact
    def __call__(
        self, features: Float[Array, "B V D"], positions: Float[Array, "B V 3"]
    ) -> Selection:
        hidden = leaky_relu(Linear(self.hidden, name="hidden")(features))
        scores = Linear(self.count, name="score")(hidden)
        assignment = nn.softmax(scores.swapaxes(1, 2))
        return weighted(features, positions, assignment)


def weighted(
    features: Float[Array, "B V D"],
    positions: Float[Array, "B V 3"],
    assignment: Float[Array, "B K V"],
) -> Selection:
    """Means of features and positions under the rows of `assignment`."""
    return Selection(
        jnp.einsum("bkv,bvd->bkd", assignment, features, precision=EXACT),
        jnp.einsum("bkv,bvd->bkd", assignment, positions, precision=EXACT),
        assignment,
    )


def kept(
    features: Float[Array, "B V D"], positions: Float[Array, "B V 3"], chosen: Int32[Array, "B K"]
) -> Selection:
    """These views as they are; their rows of the assignment are 1 at one view."""
    return Selection(
        gather(features, chosen), gather(positions, chosen), _one_hot(chosen, features.shape[1])
    )


def random_views(keys: Key[Array, " B"], views: int, count: int) -> Int32[Array, "B count"]:
    """`count` different views of each item, uniformly. count = views: a random order."""
    draws = jax.vmap(lambda key: jax.random.uniform(key, (views,)))(keys)
    return jnp.argsort(draws, axis=-1)[:, :count].astype(jnp.int32)


def content_keys(features: Float[Array, "B V F"], salt: int | Int32[Array, ""]) -> Key[Array, " B"]:
    """A key for each item that depends on the item alone, so that an evaluation's draw is the same
    in any batch.

    Made of the number of the largest channel of every view, which the last bits of a feature do not
    change.
    """
    strongest = jnp.argmax(features, axis=-1).astype(jnp.uint32)

    def mix(
        total: UInt32[Array, " B"], channel: UInt32[Array, " B"]
    ) -> tuple[UInt32[Array, " B"], None]:
        return total * jnp.uint32(0x01000193) ^ channel, None

    start = jnp.full(features.shape[:1], 0x811C9DC5, jnp.uint32)
    hashed, _ = lax.scan(mix, start, strongest.T)
    key = jax.random.fold_in(jax.random.key(SEED), salt)
    return jax.vmap(lambda value: jax.random.fold_in(key, value))(hashed)


class ClassScoreSelector(nn.Module):
    """View-GCN's selector: around each of K sampled cameras, the view that looks most like one of
    the classes.

    Its scores have no other gradient than that of a loss of their own, see losses.views.
    """

    num_classes: int

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B V D"],
        positions: Float[Array, "B V 3"],
        sampled: Int32[Array, "B K"],
        k: int,
    ) -> Selection:
        candidates = gather(nearest_views(positions, min(k, features.shape[1])), sampled)
        selected, scores, where = ViewSelector(self.num_classes, name="classes")(
            features, positions, candidates
        )
        best = most_telling(lax.stop_gradient(scores), -1)
        chosen = jnp.take_along_axis(candidates, best[..., None], axis=-1)[..., 0]
        return Selection(selected, where, _one_hot(chosen, features.shape[1]), scores)


def check_views(
    module: nn.Module, path: tuple[str, ...], axis: int, needed: int, views: int
) -> None:
    """Raises ConfigError where the parameter at `path` of a trained module was made for another
    number of views.

    needed: the length of its `axis` that `views` views ask for.
    """
    node: Any = module.variables.get("params", {})
    for name in path:
        if name not in node:
            return
        node = node[name]
    if node.shape[axis] != needed:
        raise ConfigError(
            f"MVHGNN: these weights were trained with another number of views than {views}: "
            f"{'/'.join(path)} has length "
            f"{node.shape[axis]} where {views} views need {needed}; give as many views as in "
            "training"
        )


def _one_hot(chosen: Int32[Array, "B K"], views: int) -> Float[Array, "B K V"]:
    return jax.nn.one_hot(chosen, views, dtype=jnp.float32)
