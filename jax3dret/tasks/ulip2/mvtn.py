"""MVTN: multi-view classification that learns from where to look (Hamdi, Giancola, Ghanem, ICCV 2021).

A view-based baseline of "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers & Graphics 122 (2024) 103993,
table 2. A PointNet sees the cloud and moves the cameras, a differentiable renderer draws the shape, a CNN reads the pictures,
and what it says of them together, the maximum over the views (MVCNN) or a graph over the cameras (View-GCN), is the descriptor
that retrieval compares. The paper does not say which of the two it used, nor which cameras. What makes it up:

    models/pointnet.py, models/mvtn.py      the cloud's features, and the cameras
    ops/soft_points.py, ops/soft_meshes.py  pictures whose gradient reaches the camera angles
    data/mesh_arrays.py                     meshes of one size, where meshes are drawn rather than points
    models/resnet.py                        the CNN
    models/viewgcn.py, losses/views.py      View-GCN and its loss
    configs/mvtn_classify.py                the experiments

The published code differs in three places: it clips gradients after the step, where that has no effect; it never optimises
"learned_circular", which the rule ("mvtn/.*", {"freeze": True}) in config.optim.rules brings back; and its MVCNN gives pictures from
0 to 1 to a CNN that was trained on normalised ones, which config.cnn_normalisation="none" brings back (imported MVTN needs it).
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

from jax3dret.core import checkpoint, optim, rng
from jax3dret.core import config as configs
from jax3dret.core.types import Batch, ConfigError, Metrics, PyTree, Recipe, Task, Transform
from jax3dret.data import points
from jax3dret.data.images import IMAGENET, Normalisation
from jax3dret.data.mesh_arrays import FixedMesh
from jax3dret.models.mvtn import Mvtn, Views, base_views
from jax3dret.models.pool import max_pool
from jax3dret.ops import soft_meshes, soft_points
from jax3dret.ops.soft_render import camera_axes
from jax3dret.tasks import recipe
from jax3dret.tasks.encoder import STREAMS
from jax3dret.tasks.ulip2 import finetune
from jax3dret.weights.importing import load_imported

NETWORKS = ("mvcnn", "view_gcn")
ARRAYS = {"points": ("points",), "meshes": ("points", "vertices", "faces", "face_mask")}
NORMALISATIONS = {"imagenet": IMAGENET, "none": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}
# Azimuth 0 of the published frame, +z, is a quarter turn before +x, the renderer's.
QUARTER = 90.0


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: those of the paper's other experiments, and what this task adds."""
    config = finetune.defaults()
    del config.objective
    config.task = "jax3dret.tasks.ulip2.mvtn"
    config.network = "mvcnn"  # or "view_gcn"
    config.mvtn = {"name": "jax3dret.models.mvtn:Mvtn"}
    config.cnn = {"name": "jax3dret.models.resnet:ResNet"}
    config.cnn_weights = ""  # imported weights; empty: random
    config.cnn_normalisation = (
        "imagenet"  # or "none": pictures from 0 to 1, as the published MVCNN reads them
    )
    config.head = {"name": "jax3dret.models.mvtn:LinearHead"}  # mvcnn alone
    config.model = {"name": "jax3dret.models.viewgcn:ViewGCN"}  # view_gcn alone
    config.render = {
        "kind": "points",  # every data set has them; or "meshes", for those that have vertices and faces
        "size": 224,
        "radius": 0.006,  # of a point's disc, 1 being half the picture
        "slices": 8,  # of depth, for points
        "num_faces": 512,  # of a mesh, once it is simplified
        "light": "random",  # of meshes in training; "camera": from the camera, as in evaluation
    }
    config.optim.update(
        {
            "name": "adamw",
            "lr": 1e-3,
            "weight_decay": 0.01,
            "grad_clip_norm": 30.0,
            "rules": (("mvtn/.*", {"lr": 0.1}), (".*", {})),
        }
    )
    config.eval.batch_size = 16
    return config


def make(config: configs.Config, open_source: Callable[[str], Any]) -> Recipe:
    """The recipe of one run.

    open_source: split -> jax3dret.data.pipeline.Source of the configured data set.

    Raises:
        ConfigError: an unknown network or kind of picture, settings that contradict each other or the data, a key that a
            component does not take.
    """
    _check(config)
    source = open_source(config.train.split)
    network = _network(config, recipe.check_classes(config, source, needed=True))
    kind, num_points = config.render.kind, config.data.num_points
    num_faces = config.render.num_faces if kind == "meshes" else 0
    augment = config.data.augment.build()
    if num_faces and augment:
        raise ConfigError(
            "config.data.augment moves the points alone; config.render.kind=meshes goes without"
        )
    up_axis = recipe.up_axis(config, source)
    rows = {"points": jax.ShapeDtypeStruct((num_points, 3), jnp.float32)}
    if num_faces:
        rows["vertices"] = jax.ShapeDtypeStruct((3 * num_faces, 3), jnp.float32)
        rows["faces"] = jax.ShapeDtypeStruct((num_faces, 3), jnp.int32)
        rows["face_mask"] = jax.ShapeDtypeStruct((num_faces,), jnp.bool_)
    return recipe.build(
        config,
        open_source,
        mvtn_task(network, frozen=_frozen(config.optim.rules)),
        rows=rows,
        features=tuple(key for key in ARRAYS[kind] if key != "face_mask"),
        training=transforms(up_axis, num_points, augment, num_faces),
        evaluation=transforms(up_axis, num_points, (), num_faces),
        meta={
            "system": "ulip2",
            # The search commands hand an encoder points, and no mesh.
            "modality": "mesh" if num_faces else "shape",
            "model": network.description,
            "embedding_dim": network.embedding_dim,
            "objective": "classification",
            "num_points": num_points,
            "up_axis": "y",
            "normalization": "centroid at the origin, farthest point at distance 1",
        },
    )


def transforms(
    up_axis: str, num_points: int, augment: tuple[Transform, ...], num_faces: int = 0
) -> tuple[Transform, ...]:
    """Record -> arrays of a batch: turn y up, subsample, augment; num_faces: 0, or of the mesh that comes along."""
    meshes = (FixedMesh(num_faces),) if num_faces else ()
    keys = (*ARRAYS["meshes" if num_faces else "points"], "label")
    return (
        points.UpAxis(up_axis),
        points.Subsample(num_points),
        *augment,
        *meshes,
        points.Keep(keys),
    )


@dataclasses.dataclass(frozen=True)
class Network:
    """The parts, and how they follow each other; holds no arrays.

    top: the graph network (graph True) or the head. render: (batch, views, light or None) -> pictures [B, V, S, S, 3].
    random_light: whether training draws the light. loss: (logits=..., scores=..., labels=..., mask=...), scores of a graph.
    weights: imported ones of the CNN, or empty. normalisation: of the pictures that go into it.
    """

    mvtn: Mvtn
    cnn: nn.Module
    top: nn.Module
    graph: bool
    render: Callable[[Batch, Views, jax.Array | None], jax.Array]
    random_light: bool
    loss: Callable[..., Any]
    weights: str
    normalisation: Normalisation
    description: Mapping[str, Any]

    @property
    def embedding_dim(self) -> int:
        """Width of the descriptor."""
        return int((self.top if self.graph else self.cnn).embedding_dim)  # type: ignore[attr-defined]

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Parameters and statistics by part; fixed views have none."""
        keys = jax.random.split(key, 3)
        two = {name: value[:2] for name, value in batch.items()}
        made = {"mvtn": self.mvtn.init(keys[0], two["points"])} if self.mvtn.learned else {}
        views = self.mvtn.num_views
        # The size of a picture changes no parameter.
        made["cnn"] = self._start(
            dict(self.cnn.init(keys[1], jnp.zeros((2, 32, 32, 3), jnp.float32)))
        )
        width: int = self.cnn.embedding_dim  # type: ignore[attr-defined]
        if self.graph:
            features, cameras = (
                jnp.zeros((2, views, width), jnp.float32),
                jnp.eye(views, 3)[None] + jnp.zeros((2, 1, 1)),
            )
            made["gcn"] = self.top.init(keys[2], features, cameras, method="outputs")
        else:
            made["head"] = self.top.init(keys[2], jnp.zeros((2, width), jnp.float32))
        return (
            {name: variables["params"] for name, variables in made.items()},
            {name: variables.get("batch_stats", {}) for name, variables in made.items()},
        )

    def _start(self, fresh: dict[str, PyTree]) -> dict[str, PyTree]:
        """The CNN's imported variables, if any are named. Raises ConfigError where they are another network's."""
        if not self.weights:
            return fresh
        loaded, source = (
            load_imported(pathlib.Path(self.weights))[1],
            f"config.cnn_weights={self.weights}",
        )
        return {
            key: checkpoint.match_params(wanted, loaded.get(key, {}), source=source)[0]
            for key, wanted in fresh.items()
        }

    def run(
        self,
        params: PyTree,
        state: PyTree,
        batch: Batch,
        key: jax.Array | None = None,
        *,
        frozen: bool = False,
    ) -> tuple[Any, Views, PyTree]:
        """What the last part says, the views, and the new statistics. key: of a training pass; None in evaluation.

        What the last part says is ViewGCN's output, or (descriptor, logits). frozen: no gradient to the views.
        """
        train, updated = key is not None, dict(state)

        def apply(name: str, module: nn.Module, *inputs: Any, **kwargs: Any) -> Any:
            variables = {"params": params.get(name, {}), "batch_stats": state.get(name, {})}
            # In evaluation one key: where a module draws there, an embedding is repeatable all the same.
            source = jax.random.key(0) if key is None else rng.stream(key, name)
            rngs = {stream: rng.stream(source, stream) for stream in STREAMS}
            if not train:
                return module.apply(variables, *inputs, train=False, rngs=rngs, **kwargs)
            out, changed = module.apply(
                variables, *inputs, train=True, rngs=rngs, mutable=["batch_stats"], **kwargs
            )
            if name in updated:
                updated[name] = changed.get("batch_stats", {})
            return out

        views: Views = apply("mvtn", self.mvtn, batch["points"])
        if frozen:
            views = Views(*(jax.lax.stop_gradient(value) for value in views))
        light = None
        if key is not None and self.random_light:
            light = jax.random.normal(rng.stream(key, "light"), (batch["points"].shape[0], 3))
        mean, std = (jnp.asarray(values) for values in self.normalisation)
        pictures = self.render(batch, views, light)
        pictures = (pictures - mean[None, None, None, None]) / std[None, None, None, None]
        features = apply("cnn", self.cnn, pictures.reshape(-1, *pictures.shape[2:]))
        features = features.reshape(*views.azimuth.shape, -1).astype(jnp.float32)
        if self.graph:
            return (
                apply("gcn", self.top, features, camera_positions(views), method="outputs"),
                views,
                updated,
            )
        pooled = max_pool(features)
        return (pooled, apply("head", self.top, pooled)), views, updated


def camera_positions(views: Views) -> jax.Array:
    """Where the cameras stand, [B, V, 3], in the frame of the shape, y up."""
    toward = camera_axes(views.azimuth - QUARTER, views.elevation, "y")[..., 2, :]
    return toward * views.distance[..., None]


def mvtn_task(network: Network, *, frozen: bool = False) -> Task:
    """Cross-entropy of the whole pipeline; the descriptor is the embedding. frozen: the views get no gradient."""

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        out, views, state = network.run(params, model_state, batch, key, frozen=frozen)
        labels, mask = batch["label"], batch["mask"]
        if network.graph:
            logits = out.logits
            value, metrics = network.loss(
                logits=logits, scores=out.scores, labels=labels, mask=mask
            )
        else:
            logits = out[1]
            value, metrics = network.loss(logits=logits, labels=labels, mask=mask), {}
        right = (jnp.argmax(logits, -1) == labels) & mask
        metrics = {
            **metrics,
            "accuracy": (right.sum() / jnp.maximum(mask.sum(), 1)).astype(jnp.float32),
        }
        if network.mvtn.learned:
            moved = _moved(network.mvtn, views)
            metrics |= {"azimuth_moved": moved[0], "elevation_moved": moved[1]}
        return value, (state, metrics)

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        out, _, _ = network.run(params, model_state, batch)
        return {"shape": out[0].astype(jnp.float32)}

    return Task(network.init, loss, embed, batch_coupled=True)


def _moved(mvtn: Mvtn, views: Views) -> tuple[jax.Array, jax.Array]:
    """Mean distance of azimuth and elevation from where they start, degrees."""
    start = base_views(mvtn.views, mvtn.num_views, mvtn.elevation)
    azimuth, elevation = (angles[None] for angles in start)
    return jnp.abs(views.azimuth - azimuth).mean(), jnp.abs(views.elevation - elevation).mean()


def _network(config: configs.Config, classes: int) -> Network:
    graph = config.network == "view_gcn"
    section = config.model if graph else config.head
    mvtn = config.mvtn.build()
    render, random_light = _renderer(config)
    loss_fn = configs.resolve(config.loss.name, where="config.loss.name")
    loss_kwargs = config.loss.kwargs()
    configs.check_kwargs(loss_fn, loss_kwargs, where="config.loss")
    inputs = ("logits", "scores", "labels", "mask") if graph else ("logits", "labels", "mask")
    try:
        inspect.signature(loss_fn).bind(**dict.fromkeys(inputs), **loss_kwargs)
    except TypeError as error:
        right = "losses.views:view_gcn" if graph else "losses.classification:cross_entropy"
        raise ConfigError(
            f"config.loss.name '{config.loss.name}' is no loss of {config.network}, which gives {', '.join(inputs)}; "
            f"jax3dret.{right} is one"
        ) from error
    parts = ("mvtn", "cnn", "render", "model") if graph else ("mvtn", "cnn", "render")
    return Network(
        mvtn,
        config.cnn.build(),
        section.build(num_classes=classes),
        graph,
        render,
        random_light,
        functools.partial(loss_fn, **loss_kwargs),
        config.cnn_weights,
        NORMALISATIONS[config.cnn_normalisation],
        {
            "name": config.network,
            "cnn_normalisation": config.cnn_normalisation,
            **{part: config[part].to_dict() for part in parts},
        },
    )


def _renderer(
    config: configs.Config,
) -> tuple[Callable[[Batch, Views, jax.Array | None], jax.Array], bool]:
    """What draws a batch from its views, and whether training draws the light at random."""
    settings = config.render
    size = settings.size
    if settings.kind == "meshes":

        def meshes(batch: Batch, views: Views, light: jax.Array | None) -> jax.Array:
            shape = (batch["vertices"], batch["faces"], batch["face_mask"])
            angles = (views.azimuth - QUARTER, views.elevation, views.distance)
            return soft_meshes.render_meshes(*shape, *angles, size=size, light=light)

        return meshes, settings.light == "random"
    radius, slices = settings.radius, settings.slices

    def clouds(batch: Batch, views: Views, light: jax.Array | None) -> jax.Array:
        del light
        angles = (views.azimuth - QUARTER, views.elevation, views.distance)
        return soft_points.render_points(
            batch["points"], *angles, size=size, radius=radius, slices=slices
        )

    return clouds, False


def _frozen(rules: optim.Rules) -> bool:
    """Whether the first of the rules that speaks of MVTN freezes it: then its pictures need no gradient."""
    return next(
        (bool(settings.get("freeze")) for regex, settings in rules if regex == "mvtn/.*"), False
    )


def _check(config: configs.Config) -> None:
    if config.network not in NETWORKS:
        raise ConfigError(
            f"config.network '{config.network}' is unknown; it is one of: {', '.join(NETWORKS)}"
        )
    if config.cnn_normalisation not in NORMALISATIONS:
        raise ConfigError(
            f"config.cnn_normalisation '{config.cnn_normalisation}' is unknown; it is one of: {', '.join(NORMALISATIONS)}"
        )
    if config.render.kind not in ARRAYS:
        raise ConfigError(
            f"config.render.kind '{config.render.kind}' is unknown; it is one of: {', '.join(ARRAYS)}"
        )
    if config.render.light not in ("random", "camera"):
        raise ConfigError(
            f"config.render.light '{config.render.light}' is unknown; it is random or camera"
        )
    configs.check_least(config, {"render.size": 8, "render.slices": 2, "render.num_faces": 64})
    if config.render.kind == "points" and config.render.radius * config.render.size < 1:
        raise ConfigError(
            f"config.render.radius is {config.render.radius}, less than half a pixel at config.render.size="
            f"{config.render.size}; expected {1 / config.render.size:.4f} or more"
        )
    mvtn = config.mvtn.build()
    base_views(mvtn.views, mvtn.num_views, mvtn.elevation)  # refuses what does not exist
    if not mvtn.learned and any(str(rule[0]).startswith("mvtn") for rule in config.optim.rules):
        raise ConfigError(
            "config.optim.rules names mvtn/, but fixed views have nothing to learn; give --config.optim.rules=\"(('.*', {}),)\""
        )
