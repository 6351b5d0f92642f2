"""MV-HGNN: the views of a shape as a graph that is coarsened twice, read into the descriptor that
sketches are compared with.

Each of three levels convolves over the nearest cameras (Eq. 4-5), attends to all views (Eq. 6), and
its maximum over the views is a third of what the head reads. Between the levels a selector spreads
half as many prototypes over the views (Eq. 7): 12 views, 6 nodes, 3 nodes.

Paper: "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
2604.18019. No code was published with it. Where the paper is silent the defaults are: k = 3
neighbours with the view itself (the ring of 12 has ties at 4), pooling after the attention,
attention at the last level too, a head 512-LeakyReLU-dropout-512. Every row of the paper's table 3
is one field of `MVHGNN`, and "viewgcn" brings back the corresponding part of its ancestor.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Key

from jax3dret.core.types import ConfigError
from jax3dret.models import view_selector
from jax3dret.models.layers import check_rate
from jax3dret.models.pool import max_pool
from jax3dret.models.view_choice import nearest_views, sample_cameras
from jax3dret.models.view_graph import (
    SELF_LOOPS,
    GlobalAttention,
    Linear,
    LocalGraph,
    neighbourhood,
)
from jax3dret.models.view_pooling import AttentionPooling, VitPooling
from jax3dret.models.view_selector import ClassScoreSelector, PrototypeSelector, Selection
from jax3dret.models.viewgcn import LocalGCN, NonLocalMP, leaky_relu, level_sizes

# Field -> what it may say.
CHOICES = {
    "local_graph": ("feature", "none", "viewgcn"),
    "self_loop": SELF_LOOPS,
    "global_attention": ("attention", "none", "viewgcn"),
    "selector": ("prototypes", "none", "random", "fps", "viewgcn"),
    "aggregator": ("graph", "mean", "attention", "vit"),
    "pool_from": ("global", "local"),
    "view_order": ("fixed", "random"),
    "levels_used": (1, 2, 3),
    "last_level_global": (True, False),
}


class MVHGNNOutput(NamedTuple):
    """What a pass over the views gives.

    descriptor: [B, out_dim]. view_scores: [B, V], how much each view counts: its largest weight in
    a prototype of the first selector, or its weight in attention pooling; all alike where nothing
    selects. assignments: of each selector, [B, K, V], rows sum to 1; those of the first are over
    the views as they were given. selector_scores: of View-GCN's selectors alone, [B, K, k, C], for
    a loss of their own (losses.views.single_view reads them).
    """

    descriptor: Float[Array, "B D"]
    view_scores: Float[Array, "B V"]
    assignments: tuple[Float[Array, "B _ _"], ...]
    selector_scores: tuple[Float[Array, "B _ _ C"], ...] = ()


class MVHGNN(nn.Module):
    """Features of V views [B, V, D] and their cameras [V, 3] or [B, V, 3] -> descriptor float32 [B,
    out_dim].

    width: of the graph's features; 0 takes the views' features as they are, else a Linear goes
    first.
    k: neighbours, the view itself among them; fewer where a level has fewer nodes.
    levels_used: levels that are computed and pooled; a level's selector is there if another level
    follows.
    nodes: of the second and the third level; empty: V // 2 and V // 4, at least one.
    local_graph: "feature": weights from the features (Eq. 4); "viewgcn": a network over the
    positions; "none": no convolution.
    self_loop: of "feature", see `adjacency`.
    global_attention: "attention" (Eq. 6); "viewgcn": messages between all pairs; "none".
    selector: "prototypes" (Eq. 7); "none": every level has all views; "random": views drawn anew in
        every training step; "fps": cameras far from each other; "viewgcn": its selector, whose
        scores need a loss of their own and `selector_classes`, the number of classes of the data
        set.
    aggregator: "graph", or what it is compared with: "mean", "attention" or "vit" pooling of the
    views, then the same head.
    pool_from, last_level_global: whether a level's maximum reads the global or the local output,
        and whether the last level has a global step; View-GCN: "local", False. A last global output
        that nothing reads is not computed.
    view_order: "random" gives each item's features to the cameras in a random order, in training
    and in evaluation.
    selector_hidden: of the prototypes' network and of attention pooling. head_hidden, dropout: of
    the head.

    Training draws from the streams "dropout" and "selector" (selector "random", "fps" and
    "viewgcn", view_order "random"). An evaluation draws from a constant and the item's own
    features, so that its descriptor is the same in any batch; farthest cameras then start at view
    0.

    All arithmetic is float32 whatever the type of the features. Values that are not finite make
    their own item's descriptor NaN in evaluation. Raises ConfigError if the fields, the shapes or
    the weights do not fit together, or in training with a single row (BatchNorm).
    """

    out_dim: int = 512
    width: int = 0
    k: int = 3
    levels_used: int = 3
    nodes: tuple[int, ...] = ()
    local_graph: str = "feature"
    self_loop: str = "member"
    global_attention: str = "attention"
    selector: str = "prototypes"
    aggregator: str = "graph"
    pool_from: str = "global"
    last_level_global: bool = True
    view_order: str = "fixed"
    selector_hidden: int = 256
    selector_classes: int = 0
    head_hidden: int = 512
    dropout: float = 0.5

    @property
    def embedding_dim(self) -> int:
        """Width of the descriptor."""
        return self.out_dim

    def __call__(
        self,
        features: Float[Array, "B V D"],
        positions: Float[Array, "*B V 3"] | Float[np.ndarray, "V 3"],
        train: bool = False,
    ) -> Float[Array, "B E"]:
        """The descriptor."""
        return self.outputs(features, positions, train).descriptor

    @nn.compact
    def outputs(
        self,
        features: Float[Array, "B V D"],
        positions: Float[Array, "*B V 3"] | Float[np.ndarray, "V 3"],
        train: bool = False,
    ) -> MVHGNNOutput:
        """The descriptor, and which views it comes from."""
        self._check(features, positions)
        features = jnp.asarray(features, jnp.float32)
        positions = jnp.asarray(positions, jnp.float32)
        # Cameras that all items share have one graph.
        positions = positions if positions.ndim == 3 else positions[None]
        finite = jnp.isfinite(features).all((1, 2)) & jnp.isfinite(positions).all((1, 2))
        x = Linear(self.width, name="project")(features) if self.width else features
        if self.aggregator == "graph":
            pooled, view_scores, selections = self._graph(features, x, positions, train)
        else:
            pooled, view_scores = self._pool(x, train)
            selections = []
        hidden = leaky_relu(Linear(self.head_hidden, name="head0")(pooled))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        descriptor = jnp.where(finite[:, None], Linear(self.out_dim, name="head1")(hidden), jnp.nan)
        return MVHGNNOutput(
            descriptor,
            view_scores,
            tuple(s.assignment for s in selections),
            tuple(s.scores for s in selections if s.scores is not None),
        )

    def _graph(
        self,
        features: Float[Array, "B V D"],
        x: Float[Array, "B V W"],
        positions: Float[Array, "*B V 3"],
        train: bool,
    ) -> tuple[Float[Array, "B P"], Float[Array, "B V"], list[Selection]]:
        """Maxima of the levels side by side, scores of the views, and the selections."""
        views = x.shape[1]
        sizes = (views, *level_sizes(views, self.nodes))
        order = None
        if self.view_order == "random":
            order = view_selector.random_views(self._keys(features, train, 0), views, views)
            x = jnp.take_along_axis(x, order[..., None], axis=1)
        pooled: list[Array] = []
        selections: list[Selection] = []
        for level in range(1, self.levels_used + 1):
            last = level == self.levels_used
            self.sow("intermediates", f"nodes{level}", x)
            self.sow("intermediates", f"positions{level}", positions)
            local = self._local(level, x, positions, train)
            read = not last or (self.last_level_global and self.pool_from == "global")
            x = self._global(level, local, train) if read else local
            pooled.append(max_pool(x if self.pool_from == "global" else local))
            self.sow("intermediates", f"convolved{level}", local)
            self.sow("intermediates", f"attended{level}", x)
            if last or self.selector == "none":
                continue
            positions = jnp.broadcast_to(positions, (*x.shape[:2], 3))
            selection = self._select(level, features, x, positions, sizes[level], train)
            x, positions = selection.features, selection.positions
            selections.append(selection)
        if order is not None and selections:
            given = jnp.argsort(order, axis=-1)[:, None]
            first = selections[0]
            selections[0] = first._replace(
                assignment=jnp.take_along_axis(first.assignment, given, axis=-1)
            )
        scores = selections[0].assignment.max(1) if selections else _alike(features)
        return jnp.concatenate(pooled, axis=-1), scores, selections

    def _local(
        self, level: int, x: Float[Array, "B V W"], positions: Float[Array, "*B V 3"], train: bool
    ) -> Float[Array, "B V W"]:
        if self.local_graph == "none":
            return x
        if self.local_graph == "feature":
            mask = neighbourhood(positions, self.k)
            return LocalGraph(x.shape[-1], self.self_loop, name=f"local{level}")(x, mask, train)
        positions = jnp.broadcast_to(positions, (*x.shape[:2], 3))
        near = nearest_views(positions, min(self.k, x.shape[1]))
        return LocalGCN(x.shape[-1], name=f"local{level}")(x, positions, near, train)

    def _global(self, level: int, x: Float[Array, "B V W"], train: bool) -> Float[Array, "B V W"]:
        if self.global_attention == "attention":
            return GlobalAttention(name=f"global{level}")(x)
        return (
            NonLocalMP(name=f"global{level}")(x, train) if self.global_attention == "viewgcn" else x
        )

    def _select(
        self,
        level: int,
        features: Float[Array, "B V D"],
        x: Float[Array, "B N W"],
        positions: Float[Array, "B N 3"],
        count: int,
        train: bool,
    ) -> Selection:
        """The nodes of the next level."""
        name = f"selector{level}"
        if self.selector == "prototypes":
            view_selector.check_views(self, (name, "score", "kernel"), 1, count, features.shape[1])
            return PrototypeSelector(count, self.selector_hidden, name=name)(x, positions)
        if self.selector == "random":
            chosen = view_selector.random_views(
                self._keys(features, train, level), x.shape[1], count
            )
            return view_selector.kept(x, positions, chosen)
        key = self.make_rng("selector") if train and not self.is_initializing() else None
        sampled = sample_cameras(positions, count, key)
        if self.selector == "fps":
            return view_selector.kept(x, positions, sampled)
        view_selector.check_views(
            self,
            (name, "classes", "score", "bias"),
            0,
            count * self.selector_classes,
            features.shape[1],
        )
        return ClassScoreSelector(self.selector_classes, name=name)(x, positions, sampled, self.k)

    def _keys(self, features: Float[Array, "B V D"], train: bool, salt: int) -> Key[Array, " B"]:
        """A key for each item: from the stream in training, from the item itself in evaluation."""
        if train and not self.is_initializing():
            return jax.random.split(self.make_rng("selector"), features.shape[0])
        return view_selector.content_keys(features, salt)

    def _pool(
        self, x: Float[Array, "B V W"], train: bool
    ) -> tuple[Float[Array, "B W"], Float[Array, "B V"]]:
        """One of the pooling baselines, and its scores of the views."""
        if self.aggregator == "attention":
            return AttentionPooling(self.selector_hidden, name="attention")(x)
        return VitPooling(name="vit")(x, train) if self.aggregator == "vit" else x.mean(1), _alike(
            x
        )

    def _check(self, features: Array, positions: Array | np.ndarray) -> None:
        """ConfigError unless fields and shapes fit together."""
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                shown = ", ".join(map(str, allowed))
                raise ConfigError(
                    f"MVHGNN: {field}={getattr(self, field)!r}; expected one of {shown}"
                )
        for field, least in {
            "out_dim": 1,
            "width": 0,
            "k": 1,
            "selector_hidden": 1,
            "head_hidden": 1,
        }.items():
            if getattr(self, field) < least:
                raise ConfigError(
                    f"MVHGNN: {field}={getattr(self, field)}; expected {least} or more"
                )
        if self.selector == "viewgcn" and self.selector_classes < 1:
            raise ConfigError(
                "MVHGNN: selector='viewgcn' scores classes: set selector_classes to those of the "
                "data set"
            )
        check_rate(self.dropout, "MVHGNN: dropout")
        if features.ndim != 3 or 0 in features.shape[1:]:
            raise ConfigError(f"MVHGNN: features have shape {features.shape}; expected [B, V, D]")
        batch, views = features.shape[:2]
        if self.nodes and not (
            len(self.nodes) == 2 and 1 <= self.nodes[1] <= self.nodes[0] <= views
        ):
            raise ConfigError(
                f"MVHGNN: nodes={self.nodes} of {views} views; expected two numbers, none larger "
                "than the one before"
            )
        if positions.shape in ((views, 3), (batch, views, 3)):
            return
        if positions.ndim in (2, 3) and positions.shape[-1] == 3 and positions.shape[-2] != views:
            raise ConfigError(
                f"MVHGNN: features of {views} views {features.shape}, but {positions.shape[-2]} "
                "camera positions "
                f"{positions.shape}; expected one position for each view"
            )
        raise ConfigError(
            f"MVHGNN: positions have shape {positions.shape}; expected [{views}, 3] or [{batch}, "
            f"{views}, 3]"
        )


def _alike(features: Float[Array, "B V D"]) -> Float[Array, "B V"]:
    batch, views = features.shape[:2]
    return jnp.full((batch, views), 1.0 / views, jnp.float32)
