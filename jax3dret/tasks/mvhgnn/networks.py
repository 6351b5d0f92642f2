"""The networks of MV-HGNN as the functions of a Task: which of them train in which stage, what each
loss reads, what is embedded.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import rng
from jax3dret.core.types import Batch, ConfigError, Metrics, PyTree, Task
from jax3dret.data.images import Normalisation, normalise
from jax3dret.losses.alignment import semantic_alignment
from jax3dret.losses.am_softmax import am_softmax, cosines
from jax3dret.losses.quadruplet import Metric, quadruplet
from jax3dret.models.layers import Dense, uniform_fan_in
from jax3dret.tasks.mvhgnn.prototypes import Prototypes
from jax3dret.tasks.view_cnn import ViewCnn

RNGS = ("dropout", "selector", "drop_path")


class Stage(NamedTuple):
    """What one run trains, and which items its batches hold.

    anchors: "shape" or "sketch", the side that an epoch passes over. quadruplets: whether each
    anchor comes with a right and a wrong item of the other side and a wrong one of its own. trains:
    the sides that learn. untrained: sides that are as they began when it ends, whose embedding
    means nothing yet.
    """

    anchors: str
    quadruplets: bool
    trains: tuple[str, ...]
    untrained: tuple[str, ...] = ()


# The paper's two stages and its single one (sections 3.4 and 3.5), and what table 7 compares them
# with.
STAGES = {
    # Equation 13.
    "shape": Stage("shape", quadruplets=False, trains=("shape",), untrained=("sketch",)),
    # Equation 15, on the frozen shapes.
    "sketch": Stage("sketch", quadruplets=True, trains=("sketch",)),
    # Equation 16.
    "joint": Stage("sketch", quadruplets=True, trains=("shape", "sketch")),
    "sketch_alone": Stage("sketch", quadruplets=False, trains=("sketch",), untrained=("shape",)),
    "shape_to_sketch": Stage("shape", quadruplets=True, trains=("shape",)),
}
STRATEGIES = {
    "two_stage": ("shape", "sketch"),
    "one_stage": ("joint",),
    "three_d_to_sketch": ("sketch_alone", "shape_to_sketch"),
}
# Where the arrays of each side stand in a batch.
STORED = {"shape": "features", "sketch": "sketch_features"}
PICTURES = {"shape": "views", "sketch": "sketch"}
# What reads each side: in the parameters, the state, or both.
PARTS = {"shape": ("graph", "cnn"), "sketch": ("sketch", "tower_cnn")}


@dataclasses.dataclass(frozen=True)
class Networks:
    """Everything that an embedding needs; holds no arrays.

    graph reads the features of the views that `cnn` sees, whose cameras stand at `positions` [V,
    3]. tower reads drawings, or, where there is a `tower_cnn`, its features of them. Both CNNs are
    frozen and stand in the model's state.
    """

    cnn: ViewCnn
    graph: nn.Module
    positions: np.ndarray
    tower: nn.Module
    tower_cnn: ViewCnn | None
    normalisation: Normalisation
    size: int
    width: int
    share_projection: bool = False
    project: bool = False  # retrieve with the projections p instead of the features f

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


@dataclasses.dataclass(frozen=True)
class Losses:
    """Which terms are on, and their settings; equations 10 to 16 of the paper, every weight 1.

    cls_joint: whether the stage that trains both sides has the "cls" terms too; the paper's, which
    is zero-shot, has not.
    """

    cls_3d: bool = True
    cls_ske: bool = True
    cls_joint: bool = True
    sem_3d: bool = True
    sem_ske: bool = True
    quad: bool = True
    temperature: float = 0.07
    scale: float = 15.0
    margin: float = 0.3
    smoothing: float = 0.0
    quad_margin: float = 1.0
    quad_metric: str = "unit_euclidean"

    def of(self, stage: str) -> Losses:
        """With the terms that a stage has."""
        cls = self.cls_joint or stage != "joint"
        return dataclasses.replace(self, cls_3d=self.cls_3d and cls, cls_ske=self.cls_ske and cls)

    def on(self, term: str, side: str) -> bool:
        """Whether "cls" or "sem" is on for a side."""
        return bool(getattr(self, f"{term}_{'3d' if side == 'shape' else 'ske'}"))

    def check(self, stage: str) -> None:
        """Raises ConfigError for a distance that there is none, or if no term of a stage is on."""
        if self.quad_metric not in get_args(Metric):
            raise ConfigError(
                f"config.loss.quad_metric '{self.quad_metric}' is unknown; it is one of: "
                f"{', '.join(get_args(Metric))}"
            )
        of = STAGES[stage]
        terms = [
            f"{term}_{'3d' if side == 'shape' else 'ske'}"
            for side in of.trains
            for term in ("cls", "sem")
        ]
        terms += ["quad"] if of.quadruplets else []
        if not any(getattr(self, term) for term in terms):
            raise ConfigError(
                f"config.loss: every term of the stage '{stage}' is off; leave on one of "
                f"{', '.join(terms)}"
            )


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
    prototypes: Callable[[], Prototypes],
    *,
    learned_prototypes: bool,
    frozen: Callable[[PyTree], PyTree],
) -> Task:
    """The task of one stage.

    prototypes: called when a loss is traced, never for an embedding. frozen: parameters -> the same
    tree of bools; what is frozen gets no gradient.
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
        params = {
            "graph": graph.get("params", {}),
            "sketch": tower.get("params", {}),
            **{
                name: Dense(width).init(keys[name], jnp.zeros((1, width)))["params"]
                for name in heads
            },
            "classifier": uniform_fan_in(width)(keys["classifier"], (width, classes.total)),
        }
        if learned_prototypes:
            params["prototypes"] = jnp.asarray(prototypes().vectors)
        state = {
            "graph": graph.get("batch_stats", {}),
            "sketch": tower.get("batch_stats", {}),
            "cnn": networks.cnn.initial(),
        }
        if networks.tower_cnn is not None:
            state["tower_cnn"] = networks.tower_cnn.initial()
        return params, state

    def encode(
        side: str, params: PyTree, model_state: PyTree, rows: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, PyTree]:
        """f [B, width] of stored features or drawings, and the new statistics of that side."""
        name = "graph" if side == "shape" else "sketch"
        module = networks.graph if side == "shape" else networks.tower
        inputs: tuple[Any, ...] = (
            (rows, jnp.asarray(networks.positions)) if side == "shape" else (rows,)
        )
        variables = {"params": params[name], "batch_stats": model_state[name]}
        rngs = {stream: rng.stream(key, f"{name}/{stream}") for stream in RNGS}
        out: Any
        if not train:
            return module.apply(variables, *inputs, train=False, rngs=rngs), model_state[name]  # type: ignore[return-value]
        out, changed = module.apply(
            variables, *inputs, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        return out, changed.get("batch_stats", {})

    def project(side: str, params: PyTree, f: jax.Array) -> jax.Array:
        head = head_of(networks, side)
        p: Any = Dense(width).apply({"params": params[head]}, f)
        return p

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        params = jax.tree.map(
            lambda p, stop: jax.lax.stop_gradient(p) if stop else p, params, frozen(params)
        )
        found, labels, state = {}, {}, dict(model_state)
        for side, (rows, of) in _sides(networks, stage, model_state, batch).items():
            learns = side in stage.trains
            found[side], changed = encode(side, params, model_state, rows, key, train=learns)
            labels[side] = of
            if learns:
                state["graph" if side == "shape" else "sketch"] = changed
        terms: dict[str, jax.Array] = {}
        metrics: dict[str, jax.Array] = {}
        place = jnp.asarray(classes.positions())
        seen = jnp.asarray(classes.seen, jnp.int32)
        mask = batch["mask"]
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
                bank = (
                    params["prototypes"]
                    if learned_prototypes
                    else jnp.asarray(prototypes().vectors)
                )
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

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        key = jax.random.key(
            0
        )  # of a random selector alone: one key, so that an embedding is repeatable
        out: dict[str, jax.Array] = {}
        if "features" in batch or "views" in batch:
            features = networks.view_features(model_state, batch)
            variables = {"params": params["graph"], "batch_stats": model_state["graph"]}
            rngs = {stream: rng.stream(key, f"graph/{stream}") for stream in RNGS}
            seen: Any = networks.graph.apply(
                variables,
                features,
                jnp.asarray(networks.positions),
                train=False,
                rngs=rngs,
                method="outputs",
            )
            f = project("shape", params, seen.descriptor) if networks.project else seen.descriptor
            out |= {
                "shape": f.astype(jnp.float32),
                "view_scores": seen.view_scores.astype(jnp.float32),
            }
        if "sketch" in batch or "sketch_features" in batch:
            rows = networks.sketch_inputs(model_state, batch)
            f = encode("sketch", params, model_state, rows, key, train=False)[0]
            f = project("sketch", params, f) if networks.project else f
            out["sketch"] = f.astype(jnp.float32)
        if not out:
            raise ConfigError(
                f"MV-HGNN embeds rendered views and drawings; the batch holds {', '.join(batch)}"
            )
        return out

    return Task(init, loss, embed, batch_coupled=True)


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
    return {
        "params": {name: params[name] for name in names if name in params},
        "model_state": {name: model_state[name] for name in names if name in model_state},
    }


def head_of(networks: Networks, side: str) -> str:
    """The name of the projection of a side."""
    return "shape_head" if side == "shape" or networks.share_projection else "sketch_head"
