"""The networks of MV-HGNN as the functions of a Task: which of them train in which stage, what each
loss reads, what is embedded.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import rng
from jax3dret.core.types import Batch, ConfigError, Metrics, PyTree, Task
from jax3dret.data.images import Normalisation, normalise
from jax3dret.losses.alignment import semantic_alignment
from jax3dret.losses.am_softmax import am_softmax, cosines
from jax3dret.losses.quadruplet import quadruplet
from jax3dret.losses.views import single_view
from jax3dret.models.layers import Dense, uniform_fan_in
from jax3dret.tasks import affine
from jax3dret.tasks.mvhgnn.prototypes import Prototypes
from jax3dret.tasks.mvhgnn.stages import PARTS, Losses, Stage
from jax3dret.tasks.view_cnn import ViewCnn

RNGS = ("dropout", "selector", "drop_path")
# Where the arrays of each side stand in a batch.
STORED = {"shape": "features", "sketch": "sketch_features"}
PICTURES = {"shape": "views", "sketch": "sketch"}


@dataclasses.dataclass(frozen=True)
class Networks:
    """Everything that an embedding needs; holds no arrays.

    graph reads the features of the views that `cnn` sees, whose cameras stand at `positions` [V,
    3]. tower reads drawings, or, where there is a `tower_cnn`, its features of them. Both CNNs are
    frozen and stand in the model's state. width: of the features f; projection_width: of their
    projections p, that of the prototypes. project: what is embedded are the projections p. centred:
    the embedding of each side passes an affine map, fitted after training.
    """

    cnn: ViewCnn
    graph: nn.Module
    positions: np.ndarray
    tower: nn.Module
    tower_cnn: ViewCnn | None
    normalisation: Normalisation
    size: int
    width: int
    projection_width: int
    share_projection: bool = False
    project: bool = False
    centred: bool = False

    @property
    def embedding_dim(self) -> int:
        """Width of what is embedded."""
        return self.projection_width if self.project else self.width

    def view_features(self, model_state: PyTree, batch: Batch) -> jax.Array:
        """[B, V, F], as stored or computed now."""
        if "features" in batch:
            return batch["features"]
        return self.cnn.apply(model_state["cnn"], batch["views"], train=False)[0]

    def sketch_inputs(self, model_state: PyTree, batch: Batch) -> jax.Array:
        """What the tower reads: [B, F] as stored or computed now, or the pictures [B, S, S, 3],
        normalised.
        """
        if "sketch_features" in batch:
            return batch["sketch_features"]
        pictures = jnp.repeat(batch["sketch"][..., None], 3, -1)
        if self.tower_cnn is not None:
            return self.tower_cnn.apply(model_state["tower_cnn"], pictures[:, None], train=False)[
                0
            ][:, 0]
        return normalise(pictures, self.normalisation)


class Classes(NamedTuple):
    """The classes that training knows, of `total`: labels of the others never come up, and their
    prototypes are never used.
    """

    total: int
    seen: tuple[int, ...]

    def positions(self) -> np.ndarray:
        """int32 [total]: where a label stands among the seen ones, -1 elsewhere."""
        out = np.full(self.total, -1, np.int32)
        out[list(self.seen)] = np.arange(len(self.seen))
        return out


def mvhgnn_task(
    networks: Networks,
    losses: Losses,
    stage: Stage,
    classes: Classes,
    prototypes: Prototypes,
    *,
    frozen: Callable[[PyTree], PyTree],
) -> Task:
    """The task of one stage.

    frozen: parameters -> the same tree of bools; what is frozen gets no gradient.
    """
    heads = ("shape_head",) if networks.share_projection else ("shape_head", "sketch_head")
    width = networks.width

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        del batch
        keys = {
            name: rng.stream(key, name)
            for name in ("graph", "sketch", "classifier", "prototypes", *heads)
        }
        graph: Any = networks.graph.init(
            keys["graph"], jnp.zeros((2, *_view_shape(networks))), networks.positions
        )
        tower: Any = networks.tower.init(keys["sketch"], jnp.zeros((2, *sketch_shape(networks))))
        projection = Dense(networks.projection_width)
        params = {
            "graph": graph.get("params", {}),
            "sketch": tower.get("params", {}),
            **{
                name: projection.init(keys[name], jnp.zeros((1, width)))["params"] for name in heads
            },
            "classifier": uniform_fan_in(width)(keys["classifier"], (width, classes.total)),
        }
        if prototypes.learned:
            params["prototypes"] = jnp.asarray(prototypes.vectors)
        state = {
            "graph": graph.get("batch_stats", {}),
            "sketch": tower.get("batch_stats", {}),
            "cnn": networks.cnn.initial(),
        }
        if networks.tower_cnn is not None:
            state["tower_cnn"] = networks.tower_cnn.initial()
        if networks.centred:
            state["map"] = {side: affine.identity(networks.embedding_dim) for side in PARTS}
        return params, state

    def encode(
        side: str, params: PyTree, model_state: PyTree, rows: jax.Array, key: jax.Array, train: bool
    ) -> tuple[Any, PyTree]:
        """Of stored features what the graph gives, of drawings f [B, width]; and the new statistics
        of that side.
        """
        name = "graph" if side == "shape" else "sketch"
        module = networks.graph if side == "shape" else networks.tower
        inputs: tuple[Any, ...] = (
            (rows, jnp.asarray(networks.positions)) if side == "shape" else (rows,)
        )
        variables = {"params": params[name], "batch_stats": model_state[name]}
        rngs = {stream: rng.stream(key, f"{name}/{stream}") for stream in RNGS}
        method = "outputs" if side == "shape" else None
        out: Any
        if not train:
            out = module.apply(variables, *inputs, train=False, rngs=rngs, method=method)
            return out, model_state[name]
        out, changed = module.apply(
            variables, *inputs, train=True, rngs=rngs, mutable=["batch_stats"], method=method
        )
        return out, changed.get("batch_stats", {})

    def project(side: str, params: PyTree, f: jax.Array) -> jax.Array:
        head = head_of(networks, side)
        p: Any = Dense(networks.projection_width).apply({"params": params[head]}, f)
        return p

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        params = jax.tree.map(
            lambda p, stop: jax.lax.stop_gradient(p) if stop else p, params, frozen(params)
        )
        found, labels, state = {}, {}, dict(model_state)
        terms: dict[str, jax.Array] = {}
        metrics: dict[str, jax.Array] = {}
        mask = batch["mask"]
        for side, (rows, of) in _sides(networks, stage, model_state, batch).items():
            learns = side in stage.trains
            out, changed = encode(side, params, model_state, rows, key, train=learns)
            found[side] = out.descriptor if side == "shape" else out
            labels[side] = of
            if learns:
                state["graph" if side == "shape" else "sketch"] = changed
            scores = getattr(out, "selector_scores", ()) if side == "shape" and learns else ()
            if scores:
                terms["selector"] = _selector_loss(scores, of, mask)
        place = jnp.asarray(classes.positions())
        seen = jnp.asarray(classes.seen, jnp.int32)
        for side in stage.trains:
            rows_mask = jnp.tile(mask, len(labels[side]) // len(mask))
            where = place[labels[side]]
            short = "3d" if side == "shape" else "ske"
            if losses.on("cls", side):
                similar = cosines(found[side], params["classifier"][:, seen])
                right = (similar.argmax(-1) == where) & rows_mask
                metrics[f"accuracy_{short}"] = right.sum() / jnp.maximum(rows_mask.sum(), 1).astype(
                    jnp.float32
                )
                terms[f"cls_{short}"] = am_softmax(
                    similar,
                    where,
                    scale=losses.scale,
                    margin=losses.margin,
                    smoothing=losses.smoothing,
                    mask=rows_mask,
                )
            if losses.on("sem", side):
                learned = params.get("prototypes")
                bank = jnp.asarray(prototypes.vectors) if learned is None else learned
                p = project(side, params, found[side])
                terms[f"sem_{short}"] = semantic_alignment(
                    p, where, bank[seen], temperature=losses.temperature, mask=rows_mask
                )
        if stage.quadruplets and losses.quad:
            own, across = (
                found[stage.anchors],
                found["sketch" if stage.anchors == "shape" else "shape"],
            )
            anchor, other = jnp.split(own, 2)
            positive, negative = jnp.split(across, 2)
            terms["quad"] = quadruplet(
                anchor,
                positive,
                negative,
                other,
                margin=losses.quad_margin,
                metric=losses.quad_metric,  # type: ignore[arg-type]
                mask=mask,
            )
        total = functools.reduce(jnp.add, terms.values())
        return total, (state, {**terms, **{k: v.astype(jnp.float32) for k, v in metrics.items()}})

    def embedding(side: str, params: PyTree, model_state: PyTree, f: jax.Array) -> jax.Array:
        out = (project(side, params, f) if networks.project else f).astype(jnp.float32)
        return affine.apply(model_state["map"][side], out) if networks.centred else out

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        key = jax.random.key(
            0
        )  # of a random selector alone: one key, so that an embedding is repeatable
        out: dict[str, jax.Array] = {}
        if "features" in batch or "views" in batch:
            features = networks.view_features(model_state, batch)
            seen = encode("shape", params, model_state, features, key, train=False)[0]
            out |= {
                "shape": embedding("shape", params, model_state, seen.descriptor),
                "view_scores": seen.view_scores.astype(jnp.float32),
            }
        if "sketch" in batch or "sketch_features" in batch:
            rows = networks.sketch_inputs(model_state, batch)
            f = encode("sketch", params, model_state, rows, key, train=False)[0]
            out["sketch"] = embedding("sketch", params, model_state, f)
        if not out:
            raise ConfigError(
                f"MV-HGNN embeds rendered views and drawings; the batch holds {', '.join(batch)}"
            )
        return out

    return Task(init, loss, embed, batch_coupled=True)


def _selector_loss(scores: Sequence[jax.Array], labels: jax.Array, mask: jax.Array) -> jax.Array:
    """The loss of View-GCN's selectors: cross-entropy of every candidate's scores, the mean over
    all of them alike; nothing else has a gradient for what they score with.
    """
    flat = jnp.concatenate([s.reshape(s.shape[0], -1, s.shape[-1]) for s in scores], axis=1)
    return single_view(flat, labels, mask=jnp.tile(mask, len(labels) // len(mask)))


def _view_shape(networks: Networks) -> tuple[int, int]:
    return len(networks.positions), networks.cnn.width


def sketch_shape(networks: Networks) -> tuple[int, ...]:
    """One row of what the tower reads."""
    return (
        (networks.tower_cnn.width,)
        if networks.tower_cnn is not None
        else (networks.size, networks.size, 3)
    )


def _sides(
    networks: Networks, stage: Stage, model_state: PyTree, batch: Batch
) -> Mapping[str, tuple[jax.Array, jax.Array]]:
    """By side: the rows that its network reads and their labels. With quadruplets, anchors before
    the wrong items of their own side, right items of the other side before wrong ones.
    """
    key = STORED[stage.anchors] if STORED[stage.anchors] in batch else PICTURES[stage.anchors]
    rows, labels = batch[key], batch["label"]
    sides = {stage.anchors: (rows, labels)}
    if stage.quadruplets:
        across = "sketch" if stage.anchors == "shape" else "shape"
        sides[stage.anchors] = (
            jnp.concatenate([rows, batch["other"]]),
            jnp.concatenate([labels, batch["other_label"]]),
        )
        sides[across] = (
            jnp.concatenate([batch["positive"], batch["negative"]]),
            jnp.concatenate([labels, batch["negative_label"]]),
        )
    if "sketch" in sides:
        rows, labels = sides["sketch"]
        key = "sketch" if networks.tower_cnn is None else "sketch_features"
        sides["sketch"] = (networks.sketch_inputs(model_state, {key: rows}), labels)
    return sides


def embedded_part(
    networks: Networks, params: PyTree, model_state: PyTree, sides: Sequence[str]
) -> dict[str, PyTree]:
    """Of the parameters and the state those that the embedding of these sides reads."""
    names = [name for side in sides for name in PARTS[side]]
    if networks.project:
        names += [head_of(networks, side) for side in sides]
    state = {name: model_state[name] for name in names if name in model_state}
    if networks.centred:
        state["map"] = {side: model_state["map"][side] for side in sides}
    return {
        "params": {name: params[name] for name in names if name in params},
        "model_state": state,
    }


def head_of(networks: Networks, side: str) -> str:
    """The name of the projection of a side."""
    return "shape_head" if side == "shape" or networks.share_projection else "sketch_head"
