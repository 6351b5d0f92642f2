"""View-GCN: shapes retrieved by their rendered views (Wei, Yu, Sun, CVPR 2020).

The view-based baseline of "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers & Graphics 122 (2024) 103993,
table 2. A CNN reads every view, a graph network over the cameras reads what it says, and its pooled features, 1536 numbers, are
the descriptor that retrieval compares. What makes it up:

    geometry/cameras.py, geometry/views.py, data/views.py    the views, rendered once and kept beside the prepared data
    models/resnet.py, models/mobilenet.py                    the CNN
    data/features.py                                         what a frozen CNN says of every view, computed once
    models/viewgcn.py                                        the graph network, with the published code's errors as options
    losses/views.py                                          its loss, and that of the single views
    core/schedules.py                                        step_decay, view_gcn: the published schedules of both stages
    configs/viewgcn_classify.py                              the experiments

Training has two stages as published: the CNN with a classifier on single views (objective "single_view"), then CNN and graph
together (objective "view_gcn", with config.checkpoint.init_from naming the first run). With config.cnn_frozen there is one.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jax3dret.core import checkpoint, rng
from jax3dret.core import config as configs
from jax3dret.core.types import Batch, ConfigError, Metrics, PyTree, Recipe, Record, Task, Transform
from jax3dret.data.features import digest, frozen_features
from jax3dret.data.images import normalise
from jax3dret.data.points import Keep
from jax3dret.data.rows import open_rows
from jax3dret.data.views import build_views
from jax3dret.geometry import cameras
from jax3dret.models.frozen import frozen
from jax3dret.models.pool import max_pool
from jax3dret.tasks import recipe, ulip
from jax3dret.tasks.passes import STREAMS, train_pass
from jax3dret.tasks.towers import NORMALISATIONS
from jax3dret.weights.importing import MARK, load_imported

OBJECTIVES = ("view_gcn", "single_view")


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: those of the paper's other experiments, and what this task adds."""
    config = ulip.defaults()
    config.task = "jax3dret.tasks.viewgcn"
    config.objective = "view_gcn"  # or "single_view": the CNN alone, every view with its shape's label
    config.views = {"cameras": "dodecahedron20", "size": 224, "jobs": 1}  # the cameras by name, see geometry.cameras
    config.cnn = {"name": "jax3dret.models.resnet:ResNet"}
    config.cnn_weights = ""  # imported weights, or the workdir of a single_view run; empty: random
    config.cnn_normalisation = "imagenet"  # or "mobilenet", "clip": of the pictures that go into it
    config.cnn_frozen = False
    config.flip = 0.0  # share of the views that are mirrored in training; single_view alone
    config.model = {"name": "jax3dret.models.viewgcn:ViewGCN"}
    config.head = {"name": "jax3dret.models.heads:ClassificationHead", "hidden": ()}  # single_view alone
    config.loss = {"name": "jax3dret.losses.views:view_gcn"}
    return config


def make(config: configs.Config, open_source: Callable[[str], Any]) -> Recipe:
    """The recipe of one run. Nothing is rendered or embedded before the first batch is asked for.

    open_source: split -> jax3dret.data.pipeline.Source of the configured data set.

    Raises:
        ConfigError: an unknown objective, camera set or normalisation, settings that contradict each other or the data, a key
            that a component does not take.
    """
    if config.objective not in OBJECTIVES:
        raise ConfigError(f"config.objective '{config.objective}' is unknown; it is one of: {', '.join(OBJECTIVES)}")
    configs.check_least(config, {"views.size": 8, "views.jobs": 1, "flip": 0})
    graph = config.objective == "view_gcn"
    classes = recipe.check_classes(config, open_source(config.train.split), needed=True)
    network = _network(config, classes)
    views, size = len(network.vertices), config.views.size
    key = "features" if network.cnn.frozen else "views"
    row = (views, network.cnn.width) if network.cnn.frozen else (views, size, size, 3)
    arrays = (
        (key, functools.partial(network.cnn.feature_file if network.cnn.frozen else view_file, config.views.to_dict())),
    )
    mirror: tuple[Transform, ...] = () if graph else _mirror(config.flip, network.cnn.frozen)
    return recipe.build(
        config,
        open_source,
        viewgcn_task(network),
        rows={key: jax.ShapeDtypeStruct(row, jnp.float32 if network.cnn.frozen else jnp.uint8)},
        features=("scale",),  # of the record itself nothing is used, and its scale is the least there is to read
        training=(*mirror, Keep((key, "label"))),
        evaluation=(Keep((key, "label")),),
        arrays=arrays,
        evaluation_arrays=arrays,
        meta={
            "system": "ulip2",
            "modality": "views",
            "model": {**network.description, "objective": config.objective},
            "views": config.views.to_dict(),
            "embedding_dim": network.embedding_dim,
            "objective": config.objective,
            "up_axis": "z",
        },
    )


@dataclasses.dataclass(frozen=True)
class MirrorViews:
    """record["views"] [V, S, S, 3]: each view mirrored left to right with this probability, on its own."""

    probability: float = 0.5

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        views = np.array(record["views"])
        chosen = rng.random(len(views)) < self.probability
        views[chosen] = views[chosen][:, :, ::-1]
        return {**record, "views": views}


def graph_vertices(name: str) -> np.ndarray:
    """float32 [V, 3], where the graph network is told that the cameras of a set stand: View-GCN's own coordinates for its
    two sets (and the dodecahedron, which is one of them), directions of unit length for others. z is up."""
    if (published := name.removesuffix("-parallel")) in ("viewgcn12", "viewgcn20", "dodecahedron20"):
        return cameras.viewgcn_vertices(12 if published == "viewgcn12" else 20)
    positions = np.asarray(cameras.by_name(name).positions, np.float64)
    return (positions / np.linalg.norm(positions, axis=1, keepdims=True)).astype(np.float32)


def view_file(views: Mapping[str, Any], source: Any) -> pathlib.Path:
    """The store of the configured views of a split, rendered now if it is not there."""
    return build_views(source, cameras.by_name(views["cameras"]), size=views["size"], jobs=views["jobs"])


class ViewCnn:
    """The network that reads one view: uint8 pictures in, features out; with what a frozen one needs to be kept on disk.

    weights: imported weights or a workdir, read here; empty: random, from the seed.
    """

    def __init__(
        self,
        module: nn.Module,
        section: dict[str, Any],
        *,
        weights: str,
        normalisation: str,
        is_frozen: bool,
        size: int,
        seed: int,
    ) -> None:
        if normalisation not in NORMALISATIONS:
            raise ConfigError(
                f"config.cnn_normalisation '{normalisation}' is unknown; it is one of {', '.join(NORMALISATIONS)}"
            )
        self.module, self.section, self.frozen = module, section, is_frozen
        self._weights, self._loaded = weights, _load_cnn(weights) if weights else None
        self._normalisation, self._size, self._seed = normalisation, size, seed
        # Networks that are only ever frozen here, such as MobileNetV2, know no training.
        self._trains = "train" in inspect.signature(type(module).__call__).parameters

    @property
    def width(self) -> int:
        """Width of the features of a view."""
        return int(self.module.embedding_dim)  # type: ignore[attr-defined]

    def initial(self) -> dict[str, PyTree]:
        """{"params", "batch_stats"}: the imported ones, else random ones; may be called under a trace.

        Raises ConfigError where the weights are of another network.
        """
        picture = jnp.zeros((1, self._size, self._size, 3))
        init = functools.partial(self.module.init, rng.stream(self._seed, "view cnn"), picture)
        if self._loaded is None:
            variables = init()
        else:
            source, fresh = f"config.cnn_weights={self._weights}", jax.eval_shape(init)
            variables = {
                key: checkpoint.match_params(wanted, self._loaded.get(key, {}), source=source)[0]
                for key, wanted in fresh.items()
            }
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    @functools.cached_property
    def _frozen_variables(self) -> dict[str, PyTree]:
        return jax.tree.map(np.asarray, self.initial() if self._loaded else jax.jit(self.initial)())

    @functools.cached_property
    def _embed(self) -> Callable[[Any], jax.Array]:
        return frozen(self.module, self._frozen_variables, NORMALISATIONS[self._normalisation])

    def feature_file(self, views: Mapping[str, Any], source: Any) -> pathlib.Path:
        """What the frozen network says of every view of a split, float32 [N, V, F], computed now if it is not there."""
        stored = view_file(views, source)
        making = {
            "model": self.section,
            "weights": digest(self._frozen_variables),
            "normalisation": self._normalisation,
            "views": stored.name,
        }
        return frozen_features(source, open_rows(stored), self._embed, making=making, what="view features")

    def apply(self, variables: Mapping[str, PyTree], pictures: jax.Array, train: bool) -> tuple[jax.Array, PyTree]:
        """uint8 [B, V, S, S, 3] -> float32 [B, V, F], and the new statistics."""
        flat = normalise(pictures.reshape(-1, *pictures.shape[2:]), NORMALISATIONS[self._normalisation])
        state = variables["batch_stats"]
        out: Any
        if train and self._trains:
            out, updated = self.module.apply(variables, flat, train=True, mutable=["batch_stats"])
            state = updated.get("batch_stats", {})
        else:
            out = self.module.apply(variables, flat)
        return out.reshape(*pictures.shape[:2], -1).astype(jnp.float32), state


def _load_cnn(weights: str) -> dict[str, PyTree]:
    """{"params", "batch_stats"} of imported weights, or of the CNN that a run trained."""
    folder = pathlib.Path(weights)
    if (folder / MARK).is_file():
        return load_imported(folder)[1]
    if not (folder / checkpoint.FOLDER).is_dir():
        raise ConfigError(
            f"config.cnn_weights={folder}: neither imported weights (jax3dret weights import FILE --out DIR) nor the workdir of a "
            "run with config.objective=single_view"
        )
    checkpoints = checkpoint.Checkpoints(folder)
    try:
        model = checkpoints.raw_model()
    finally:
        checkpoints.close()
    if "cnn" not in model["params"]:
        raise ConfigError(f"config.cnn_weights={folder}: a run without a CNN that was trained on views")
    return {"params": model["params"]["cnn"], "batch_stats": model["model_state"].get("cnn", {})}


@dataclasses.dataclass(frozen=True)
class Network:
    """CNN and what stands on it: the graph network (objective view_gcn) or a classifier of single views; holds no arrays.

    loss: (logits=..., scores=..., labels=..., mask=...) of the graph network; without scores of the classifier.
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
        """Width of the descriptor; without a graph that is the maximum of the features over the views."""
        return int(self.top.embedding_dim) if self.graph else self.cnn.width  # type: ignore[attr-defined]

    def features(
        self, params: PyTree, model_state: PyTree, batch: Batch, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        """The features of every view, [B, V, F], as stored or computed now; and the new state of the CNN."""
        state = model_state["cnn"]
        if "features" in batch:
            return batch["features"], state
        if "views" not in batch:
            raise ConfigError(f"View-GCN reads rendered views; the batch holds {', '.join(batch)}")
        if self.cnn.frozen:
            return self.cnn.apply(state, batch["views"], train=False)[0], state
        return self.cnn.apply({"params": params["cnn"], "batch_stats": state}, batch["views"], train)


def viewgcn_task(network: Network) -> Task:
    """Classification of shapes by their views; the descriptor before the classifier is the embedding.

    Batches hold "views" uint8 [B, V, S, S, 3] or, of a frozen CNN, its "features" float32 [B, V, F]. A frozen CNN stands in the
    model's state, so that it is saved with the rest and no optimizer sees it.
    """
    name, top = network.top_name, network.top

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        del batch
        cnn = network.cnn.initial()
        features = jnp.zeros((2, len(network.vertices), network.cnn.width))
        made = top.init(key, *_inputs(network, features)) if network.graph else top.init(key, features[:, 0])
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
            value, metrics = network.loss(logits=logits, scores=out.scores, labels=labels, mask=mask)
            right = jnp.argmax(logits, -1) == labels
        else:
            flat = features.reshape(-1, features.shape[-1])
            logits, state = train_pass(top, params[name], model_state[name], flat, key, "head")
            logits = logits.reshape(*features.shape[:2], -1)
            value = network.loss(logits=logits, labels=labels, mask=mask)
            right = (jnp.argmax(logits, -1) == labels[:, None]).mean(1)  # share of the views that are right
        accuracy = jnp.where(mask, right, 0).sum() / jnp.maximum(mask.sum(), 1)
        return value, ({name: state, "cnn": cnn_state}, {**metrics, "accuracy": accuracy.astype(jnp.float32)})

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        features, _ = network.features(params, model_state, batch)
        if not network.graph:
            return {"shape": max_pool(features)}
        variables = {"params": params[name], "batch_stats": model_state[name]}
        # Used only where evaluation starts its sampling at random; one key, so that an embedding is repeatable.
        rngs = {"fps": jax.random.key(0)}
        descriptor: Any = top.apply(variables, *_inputs(network, features), train=False, rngs=rngs)
        return {"shape": descriptor}

    return Task(init, loss, embed, batch_coupled=True)


def _inputs(network: Network, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    return features, jnp.asarray(network.vertices)


def _network(config: configs.Config, classes: int) -> Network:
    graph = config.objective == "view_gcn"
    loss_fn = configs.resolve(config.loss.name, where="config.loss.name")
    loss_kwargs = config.loss.kwargs()
    configs.check_kwargs(loss_fn, loss_kwargs, where="config.loss")
    inputs = ("logits", "scores", "labels", "mask") if graph else ("logits", "labels", "mask")
    try:
        inspect.signature(loss_fn).bind(**dict.fromkeys(inputs), **loss_kwargs)
    except TypeError as error:
        raise ConfigError(
            f"config.loss.name '{config.loss.name}' is no loss of the objective {config.objective}, which gives {', '.join(inputs)}; "
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
    section = config.model if graph else config.head
    return Network(
        cnn,
        section.build(num_classes=classes),
        graph,
        graph_vertices(config.views.cameras),
        functools.partial(loss_fn, **loss_kwargs),
        {"name": "jax3dret.tasks.viewgcn", "cnn": cnn.section, "graph" if graph else "head": section.to_dict()},
    )


def _mirror(probability: float, is_frozen: bool) -> tuple[Transform, ...]:
    """The transform that mirrors views, if any are to be."""
    if not probability:
        return ()
    if probability > 1 or is_frozen:
        raise ConfigError(
            f"config.flip={probability}: a share of at most 1, and with config.cnn_frozen 0, for then the views are read once"
        )
    return (MirrorViews(probability),)
