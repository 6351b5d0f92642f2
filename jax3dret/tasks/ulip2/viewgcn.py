"""View-GCN: shapes retrieved by their rendered views (Wei, Yu, Sun, CVPR 2020).

The view-based baseline of "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers
& Graphics 122 (2024) 103993, table 2. A CNN reads every view, a graph network over the cameras
reads what it says, and its pooled features, 1536 numbers, are the descriptor that retrieval
compares. What makes it up:

    geometry/cameras.py, geometry/views.py, data/views.py    the views, rendered once and kept beside the prepared data
    tasks/pictures.py, data/own_views.py                     or those that the user rendered
    models/resnet.py, mobilenet.py, efficientnet_lite.py     the CNN
    tasks/view_cnn.py, data/features.py                      what a frozen CNN says of every view, computed once
    models/viewgcn.py                                        the graph network, with the published code's errors as options
    losses/views.py                                          its loss, and that of the single views
    core/schedules.py                                        step_decay, view_gcn: the published schedules of both stages
    configs/viewgcn_classify.py                              the experiments

Training has two stages as published: the CNN with a classifier on single views (objective
"single_view"), then CNN and graph together (objective "view_gcn", with config.checkpoint.init_from
naming the first run). With config.cnn_frozen there is one.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core import rng
from jax3dret.core.types import (
    Batch,
    ConfigError,
    Metrics,
    Model,
    OpenSource,
    PyTree,
    Recipe,
    Record,
    Task,
    Transform,
)
from jax3dret.data.points import Keep
from jax3dret.inputs.views import Views
from jax3dret.models.pool import max_pool
from jax3dret.tasks import pictures, recipe
from jax3dret.tasks.encoder import STREAMS, from_variables, train_pass
from jax3dret.tasks.ulip2 import finetune
from jax3dret.tasks.view_cnn import RANDOM, ViewCnn, graph_vertices, views_at_a_time

log = logging.getLogger("jax3dret")
OBJECTIVES = ("view_gcn", "single_view")


# Beside those of every task: the number of processes that render views.
PLACE_KEYS = ("views.jobs",)
LEAST = {"views.size": 8, "views.jobs": 1, "flip": 0}


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: those of the paper's other experiments, and what this task adds."""
    config = finetune.defaults()
    config.task = "jax3dret.tasks.ulip2.viewgcn"
    config.objective = (
        "view_gcn"  # or "single_view": the CNN alone, every view with its shape's label
    )
    config.views = pictures.defaults("dodecahedron20")
    config.cnn = {"name": "jax3dret.models.resnet:ResNet"}
    # Imported weights, or the workdir of a single_view run; empty: of the network's own package,
    # where it has one, else random; "random".
    config.cnn_weights = ""
    config.cnn_normalisation = ""  # of the pictures: "imagenet", "clip"; empty: the network's own
    config.cnn_frozen = False
    config.flip = 0.0  # share of the views that are mirrored in training; single_view alone
    config.model = {"name": "jax3dret.models.viewgcn:ViewGCN"}
    config.head = {
        "name": "jax3dret.models.heads:ClassificationHead",
        "hidden": (),
    }  # single_view alone
    config.loss = {"name": "jax3dret.losses.views:view_gcn"}
    return config


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """CNN and graph, which selects its views by what it says of the classes; the CNN alone for
    single views.
    """
    return model_of(config, network_of(config, len(class_names)))


def model_of(config: configs.Config, network: Network) -> Model:
    """What of a network embeds."""
    task = viewgcn_task(network)

    def init(key: jax.Array) -> PyTree:
        params, state = task.init(key, {})
        if not network.graph:  # what classifies single views is no part of the embedding
            params, state = (
                {key: params[key] for key in ("cnn",) if key in params},
                {"cnn": state["cnn"]},
            )
        return {"params": params, "model_state": state}

    return Model(
        init=init,
        embed=from_variables(task.embed),
        inputs={"shape": Views(config.views.cameras, config.views.size)},
        width=network.embedding_dim,
        distance=config.distance,
        batch_size=views_at_a_time(len(network.vertices)),
    )


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run. Nothing is rendered or embedded before the first batch is asked for.

    open_source: opens a split of the configured data set.

    Raises: ConfigError: an unknown objective, camera set or normalisation, settings that contradict
        each other or the data, a key that a component does not take.
    """
    check(config)
    graph = config.objective == "view_gcn"
    source = open_source(config.train.split)
    classes = recipe.check_classes(config, source, needed=True)
    if pictures.own_views(config.views.to_dict()):
        log.warning(
            "config.views.folder: this model trains on your own pictures, and an index made with "
            "it draws its own; the two look alike only where yours are grey and lit as its are"
        )
    network = network_of(config, classes)
    views, size = len(network.vertices), config.views.size
    key = "features" if network.cnn.frozen else "views"
    row = (views, network.cnn.width) if network.cnn.frozen else (views, size, size, 3)
    arrays = (
        (
            key,
            functools.partial(
                network.cnn.view_features if network.cnn.frozen else pictures.view_file,
                config.views.to_dict(),
            ),
        ),
    )
    # Of the record itself nothing is used, and its scale is the least there is to read.
    features = ("scale",)
    flipped: tuple[Transform, ...] = () if graph else mirror(config.flip, network.cnn.frozen)
    return recipe.build(
        config,
        open_source,
        viewgcn_task(network),
        rows={key: jax.ShapeDtypeStruct(row, jnp.float32 if network.cnn.frozen else jnp.uint8)},
        features=features,
        training=(*flipped, Keep((key, "label"))),
        data=recipe.shape_data(config, (Keep((key, "label")),), features, arrays),
        arrays=arrays,
        model=model_of(config, network),
        meta={
            "system": "ulip2",
            "model": {**network.description, "objective": config.objective},
            "views": {"cameras": config.views.cameras, "size": config.views.size},
            "pictures": pictures.said(config.views.to_dict(), source),
            "embedding_dim": network.embedding_dim,
            "objective": config.objective,
            "up_axis": "z",
        },
    )


def check(config: configs.Config) -> None:
    """Raises ConfigError for an unknown objective or a number out of range."""
    if config.objective not in OBJECTIVES:
        raise ConfigError(
            f"config.objective '{config.objective}' is unknown; it is one of: "
            f"{', '.join(OBJECTIVES)}"
        )
    configs.check_least(config, LEAST)


@dataclasses.dataclass(frozen=True)
class MirrorViews:
    """record["views"] [V, S, S, 3]: each view mirrored left to right with this probability, on its
    own.
    """

    probability: float = 0.5

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        views = np.array(record["views"])
        chosen = rng.random(len(views)) < self.probability
        views[chosen] = views[chosen][:, :, ::-1]
        return {**record, "views": views}


@dataclasses.dataclass(frozen=True)
class Network:
    """CNN and what stands on it: the graph network (objective view_gcn) or a classifier of single
    views; holds no arrays.

    loss: (logits=..., scores=..., labels=..., mask=...) of the graph network; without scores of the
    classifier.
    """

    cnn: ViewCnn
    top: nn.Module
    graph: bool
    vertices: np.ndarray
    loss: Callable[..., Any]
    description: Mapping[str, Any]

    @property
    def top_name(self) -> str:
        return "gcn" if self.graph else "head"

    @property
    def embedding_dim(self) -> int:
        """Width of the descriptor; without a graph that is the maximum of the features over the
        views.
        """
        return int(self.top.embedding_dim) if self.graph else self.cnn.width  # type: ignore[attr-defined]

    def features(
        self, params: PyTree, model_state: PyTree, batch: Batch, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        """The features of every view, [B, V, F], as stored or computed now; and the new state of
        the CNN.
        """
        state = model_state["cnn"]
        if "features" in batch:
            return batch["features"], state
        if "views" not in batch:
            raise ConfigError(f"View-GCN reads rendered views; the batch holds {', '.join(batch)}")
        if self.cnn.frozen:
            return self.cnn.apply(state, batch["views"], train=False)[0], state
        return self.cnn.apply(
            {"params": params["cnn"], "batch_stats": state}, batch["views"], train
        )


def viewgcn_task(network: Network) -> Task:
    """Classification of shapes by their views; the descriptor before the classifier is the
    embedding.

    Batches hold "views" uint8 [B, V, S, S, 3] or, of a frozen CNN, its "features" float32 [B, V,
    F]. A frozen CNN stands in the model's state, so that it is saved with the rest and no optimizer
    sees it.
    """
    name, top = network.top_name, network.top

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        del batch
        cnn = network.cnn.initial()
        features = jnp.zeros((2, len(network.vertices), network.cnn.width))
        made = (
            top.init(key, *_inputs(network, features))
            if network.graph
            else top.init(key, features[:, 0])
        )
        params, state = {name: made["params"]}, {name: made.get("batch_stats", {})}
        if network.cnn.frozen:
            return params, {**state, "cnn": cnn}
        return {**params, "cnn": cnn["params"]}, {**state, "cnn": cnn["batch_stats"]}

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        labels, mask = batch["label"], batch["mask"]
        features, cnn_state = network.features(params, model_state, batch, train=True)
        metrics: dict[str, jax.Array] = {}
        if network.graph:
            rngs = {stream: rng.stream(key, f"gcn/{stream}") for stream in STREAMS}
            out: Any
            out, changed = top.apply(
                {"params": params[name], "batch_stats": model_state[name]},
                *_inputs(network, features),
                train=True,
                method="outputs",
                rngs=rngs,
                mutable=["batch_stats"],
            )
            state, logits = changed["batch_stats"], out.logits
            value, metrics = network.loss(
                logits=logits, scores=out.scores, labels=labels, mask=mask
            )
            right = jnp.argmax(logits, -1) == labels
        else:
            flat = features.reshape(-1, features.shape[-1])
            logits, state = train_pass(top, params[name], model_state[name], flat, key, "head")
            logits = logits.reshape(*features.shape[:2], -1)
            value = network.loss(logits=logits, labels=labels, mask=mask)
            right = (jnp.argmax(logits, -1) == labels[:, None]).mean(
                1
            )  # share of the views that are right
        accuracy = jnp.where(mask, right, 0).sum() / jnp.maximum(mask.sum(), 1)
        return value, (
            {name: state, "cnn": cnn_state},
            {**metrics, "accuracy": accuracy.astype(jnp.float32)},
        )

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        features, _ = network.features(params, model_state, batch)
        if not network.graph:
            return {"shape": max_pool(features)}
        variables = {"params": params[name], "batch_stats": model_state[name]}
        # Used only where evaluation starts its sampling at random; one key, so that an embedding is
        # repeatable.
        rngs = {"fps": jax.random.key(0)}
        descriptor: Any = top.apply(variables, *_inputs(network, features), train=False, rngs=rngs)
        return {"shape": descriptor}

    return Task(init, loss, embed, batch_coupled=True)


def _inputs(network: Network, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    return features, jnp.asarray(network.vertices)


def network_of(config: configs.Config, classes: int) -> Network:
    """The networks of a config. Raises ConfigError for a loss that does not go with its objective,
    and as the components do.
    """
    graph = config.objective == "view_gcn"
    loss_fn = configs.resolve(config.loss.name, where="config.loss.name")
    loss_kwargs = config.loss.kwargs()
    configs.check_kwargs(loss_fn, loss_kwargs, where="config.loss")
    inputs = ("logits", "scores", "labels", "mask") if graph else ("logits", "labels", "mask")
    try:
        inspect.signature(loss_fn).bind(**dict.fromkeys(inputs), **loss_kwargs)
    except TypeError as error:
        raise ConfigError(
            f"config.loss.name '{config.loss.name}' is no loss of the objective "
            f"{config.objective}, which gives {', '.join(inputs)}; "
            f"jax3dret.losses.views:{config.objective} is one"
        ) from error
    cnn = ViewCnn(
        config.cnn.build(),
        config.cnn.to_dict(),
        weights=config.cnn_weights,
        normalisation=config.cnn_normalisation,
        is_frozen=config.cnn_frozen,
        size=config.views.size,
        seed=config.seed,
    )
    if cnn.frozen and cnn.weights == RANDOM:
        log.warning(
            "the view CNN is frozen at random weights; --config.cnn_weights=DIR gives it imported "
            "ones"
        )
    section = config.model if graph else config.head
    return Network(
        cnn,
        section.build(num_classes=classes),
        graph,
        graph_vertices(config.views.cameras),
        functools.partial(loss_fn, **loss_kwargs),
        {
            "name": "jax3dret.tasks.ulip2.viewgcn",
            "cnn": cnn.section,
            "graph" if graph else "head": section.to_dict(),
        },
    )


def mirror(probability: float, is_frozen: bool) -> tuple[Transform, ...]:
    """The transform that mirrors views, if any are to be."""
    if not probability:
        return ()
    if probability > 1 or is_frozen:
        raise ConfigError(
            f"config.flip={probability}: a share of at most 1, and with config.cnn_frozen 0, for "
            "then the views are read once"
        )
    return (MirrorViews(probability),)
