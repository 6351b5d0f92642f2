"""MVTN: multi-view classification that learns from where to look (Hamdi, Giancola, Ghanem, ICCV 2021).

A view-based baseline of "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers & Graphics 122 (2024) 103993,
table 2. A PointNet sees the cloud and moves the cameras, a differentiable renderer draws the shape, a CNN reads the pictures,
and what it says of them together, the maximum over the views (MVCNN) or a graph over the cameras (View-GCN), is the descriptor
that retrieval compares. The paper does not say which of the two it used, nor which cameras. What makes it up:

    models/pointnet.py, models/mvtn.py      the cloud's features, and the cameras
    ops/soft_render.py                      pictures whose gradient reaches the camera angles
    data/mesh_arrays.py                     meshes of one size, where meshes are drawn rather than points
    models/resnet.py                        the CNN
    models/viewgcn.py, losses/views.py      View-GCN and its loss
    configs/mvtn_classify.py                the experiments

The published code differs in two places, both corrected here: it clips gradients after the step, where that has no effect, and
it never optimises "learned_circular". The latter comes back with the rule ("mvtn/.*", {"freeze": True}) in config.optim.rules.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core import optim, rng
from jax3dret.core.types import Batch, ConfigError, DataError, DataSpec, Metrics, PyTree, Recipe, Task, Transform
from jax3dret.data import points
from jax3dret.data.mesh_arrays import FixedMesh
from jax3dret.evaluators import retrieval
from jax3dret.models.mvtn import Mvtn, Views, base_views
from jax3dret.models.pool import max_pool
from jax3dret.ops import soft_render

NETWORKS = ("mvcnn", "view_gcn")
ARRAYS = {"points": ("points",), "meshes": ("points", "vertices", "faces", "face_mask")}
# Azimuth 0 of the published frame, +z, is a quarter turn behind +x, the renderer's.
QUARTER = 90.0
STREAMS = ("dropout", "fps")


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: the spine's, and what this task adds to them."""
    config = configs.spine()
    config.task = "jax3dret.tasks.mvtn"
    config.network = "mvcnn"  # or "view_gcn"
    config.mvtn = {"name": "jax3dret.models.mvtn:Mvtn"}
    config.cnn = {"name": "jax3dret.models.resnet:ResNet"}
    config.gcn = {"name": "jax3dret.models.viewgcn:ViewGCN"}  # read where the network is view_gcn
    config.head = {"name": "jax3dret.models.mvtn:LinearHead"}  # read where the network is mvcnn
    config.loss = {"name": "jax3dret.losses.classification:cross_entropy"}
    config.render = {
        "kind": "points",  # every data set has them; or "meshes", for those that have vertices and faces
        "size": 224,
        "radius": 0.006,  # of a point's disc, 1 being half the picture
        "slices": 8,  # of depth, for points
        "num_faces": 512,  # of a mesh, once it is simplified
        "light": "random",  # of meshes in training; "camera": from the camera, as in evaluation
    }
    config.data.update(
        {
            "num_points": 1024,
            "up_axis": "",  # axis that points up in the stored data; empty: as its manifest says
            "num_classes": 0,  # 0: as many as the data set has
            "augment": {"name": "jax3dret.data.points:no_augmentations"},
        }
    )
    config.optim.update(
        {
            "name": "adamw",
            "lr": 1e-3,
            "weight_decay": 0.01,
            "grad_clip_norm": 30.0,
            "rules": (("mvtn/.*", {"lr": 0.1}), (".*", {})),
        }
    )
    config.eval.update(
        {
            "batch_size": 16,
            "gallery_split": "train",
            "query_split": "test",
            "distance": "cosine",
            "neighbours": 100,
            "index": {"kind": "auto", "scoring": "auto"},
        }
    )
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
    classes = len(source.class_names)
    if config.data.num_classes not in (0, classes) or classes < 2:
        raise ConfigError(
            f"{config.data.name} has {classes} classes, config.data.num_classes is {config.data.num_classes}; "
            "2 or more are needed, and the number, if given, must be theirs"
        )
    network = _network(config, classes)
    kind, batch, num_points = config.render.kind, config.train.batch_size, config.data.num_points
    num_faces = config.render.num_faces if kind == "meshes" else 0
    up_axis = config.data.up_axis or source.manifest["up_axis"]
    example = {
        "label": jax.ShapeDtypeStruct((batch,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((batch,), jnp.bool_),
        "points": jax.ShapeDtypeStruct((batch, num_points, 3), jnp.float32),
    }
    if kind == "meshes":
        example["vertices"] = jax.ShapeDtypeStruct((batch, 3 * num_faces, 3), jnp.float32)
        example["faces"] = jax.ShapeDtypeStruct((batch, num_faces, 3), jnp.int32)
        example["face_mask"] = jax.ShapeDtypeStruct((batch, num_faces), jnp.bool_)
    per_epoch = math.ceil(len(source) / batch)
    steps = config.train.steps if config.train.steps >= 0 else round(config.train.epochs * per_epoch)
    params = _abstract_params(network, example)
    optimizer = optim.make_optimizer(params, steps=steps, steps_per_epoch=per_epoch, **config.optim.to_dict())
    rows = optim.describe(params, config.optim.rules)
    frozen = all(row.frozen for row in rows if row.path.startswith("mvtn/"))
    augment = config.data.augment.build()
    if kind == "meshes" and augment:
        raise ConfigError("config.data.augment moves the points alone; config.render.kind='meshes' goes without")
    features = tuple(key for key in ARRAYS[kind] if key != "face_mask")
    return Recipe(
        task=mvtn_task(network, frozen=frozen),
        tx=optimizer.tx,
        learning_rate=optimizer.learning_rate,
        train=DataSpec(
            name=config.data.name,
            split=config.train.split,
            batch_size=batch,
            features=features,
            transforms=transforms(up_axis, num_points, augment, num_faces),
            seed=config.seed,
            data_dir=config.data.data_dir or None,
            num_threads=config.data.num_threads,
        ),
        steps=steps,
        example=example,
        evaluators={
            "retrieval": retrieval.make(
                open_source,
                gallery_split=config.eval.gallery_split,
                query_split=config.eval.query_split,
                transforms=transforms(up_axis, num_points, (), num_faces),
                features=features,
                batch_size=config.eval.batch_size,
                num_threads=config.data.num_threads,
                seed=config.seed,
                distance=config.eval.distance,
                neighbours=config.eval.neighbours,
                index=config.eval.index.to_dict(),
            )
        },
        sharding=config.sharding,
        meta={
            "system": "ulip2",
            # A mesh alone, with no points sampled on it, is not what the search commands hand to an encoder.
            "modality": "shape" if kind == "points" else "mesh",
            "model": {"name": "jax3dret.tasks.mvtn", **network.description},
            "embedding_dim": network.embedding_dim,
            "parameters": int(
                sum(np.prod(p.shape) for name, tree in params.items() for p in jax.tree.leaves(tree) if name != "head")
            ),
            "objective": "classification",
            "num_points": num_points,
            "up_axis": "y",
            "normalization": "centroid at the origin, farthest point at distance 1",
            "distance": config.eval.distance,
            "weights": "random initialisation" if steps == 0 else f"trained on {config.data.name}:{config.train.split}",
        },
    )


def transforms(
    up_axis: str, num_points: int, augment: tuple[Transform, ...], num_faces: int = 0
) -> tuple[Transform, ...]:
    """Record -> arrays of a batch: turn y up, subsample, augment; num_faces: 0, or of the mesh that comes along."""
    meshes = (FixedMesh(num_faces),) if num_faces else ()
    keys = (*ARRAYS["meshes" if num_faces else "points"], "label")
    return (points.UpAxis(up_axis), points.Subsample(num_points), *augment, *meshes, points.Keep(keys))


class Network:
    """The parts of the pipeline, and how they are run one after the other; holds no arrays.

    render: draws [B, V, S, S, 3] from a batch, its views and the light. loss: of the head's or the graph's outputs.
    """

    def __init__(
        self,
        mvtn: Mvtn,
        cnn: nn.Module,
        top: nn.Module,
        graph: bool,
        render: Callable[[Batch, Views, jax.Array | None], jax.Array],
        random_light: bool,
        loss: Callable[..., Any],
        description: dict[str, Any],
    ):
        self.mvtn, self.cnn, self.top, self.graph = mvtn, cnn, top, graph
        self.render, self.random_light, self.loss, self.description = render, random_light, loss, description

    @property
    def top_name(self) -> str:
        return "gcn" if self.graph else "head"

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
        made["cnn"] = self.cnn.init(keys[1], jnp.zeros((2, 32, 32, 3), jnp.float32))
        width: int = self.cnn.embedding_dim  # type: ignore[attr-defined]
        if self.graph:
            features, cameras = jnp.zeros((2, views, width), jnp.float32), jnp.eye(views, 3) + jnp.zeros((2, 1, 1))
            made["gcn"] = self.top.init(keys[2], features, cameras, method="outputs")
        else:
            made["head"] = self.top.init(keys[2], jnp.zeros((2, width), jnp.float32))
        return (
            {name: variables["params"] for name, variables in made.items()},
            {name: variables.get("batch_stats", {}) for name, variables in made.items()},
        )

    def run(
        self, params: PyTree, state: PyTree, batch: Batch, key: jax.Array | None = None, *, frozen: bool = False
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
            out, changed = module.apply(variables, *inputs, train=True, rngs=rngs, mutable=["batch_stats"], **kwargs)
            if name in updated:
                updated[name] = changed.get("batch_stats", {})
            return out

        views: Views = apply("mvtn", self.mvtn, batch["points"])
        if frozen:
            views = Views(*(jax.lax.stop_gradient(value) for value in views))
        light = None
        if key is not None and self.random_light:
            light = jax.random.normal(rng.stream(key, "light"), (batch["points"].shape[0], 3))
        pictures = self.render(batch, views, light)
        features = apply("cnn", self.cnn, pictures.reshape(-1, *pictures.shape[2:]))
        features = features.reshape(*views.azimuth.shape, -1).astype(jnp.float32)
        if self.graph:
            return apply("gcn", self.top, features, camera_positions(views), method="outputs"), views, updated
        pooled = max_pool(features)
        return (pooled, apply("head", self.top, pooled)), views, updated


def camera_positions(views: Views) -> jax.Array:
    """Where the cameras stand, [B, V, 3], in the frame of the shape, y up."""
    toward = soft_render.camera_axes(views.azimuth - QUARTER, views.elevation, "y")[..., 2, :]
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
            value, metrics = network.loss(logits=logits, scores=out.scores, labels=labels, mask=mask)
        else:
            logits = out[1]
            value, metrics = network.loss(logits=logits, labels=labels, mask=mask), {}
        right = (jnp.argmax(logits, -1) == labels) & mask
        metrics = {**metrics, "accuracy": (right.sum() / jnp.maximum(mask.sum(), 1)).astype(jnp.float32)}
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
    azimuth, elevation = base_views(mvtn.views, mvtn.num_views, mvtn.elevation)
    return jnp.abs(views.azimuth - azimuth).mean(), jnp.abs(views.elevation - elevation).mean()


def _network(config: configs.Config, classes: int) -> Network:
    graph = config.network == "view_gcn"
    section = config.gcn if graph else config.head
    mvtn = config.mvtn.build()
    render, random_light = _renderer(config, mvtn)
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
    description = {name: config[name].to_dict() for name in ("mvtn", "cnn", "render")}
    if graph:
        description["gcn"] = config.gcn.to_dict()
    return Network(
        mvtn,
        config.cnn.build(),
        section.build(num_classes=classes),
        graph,
        render,
        random_light,
        functools.partial(loss_fn, **loss_kwargs),
        {"network": config.network, **description},
    )


def _renderer(config: configs.Config, mvtn: Mvtn) -> tuple[Callable[[Batch, Views, jax.Array | None], jax.Array], bool]:
    """What draws a batch from its views, and whether training draws the light at random."""
    settings = config.render
    base_views(mvtn.views, mvtn.num_views, mvtn.elevation)  # refuses what does not exist
    size = settings.size
    if settings.kind == "meshes":

        def meshes(batch: Batch, views: Views, light: jax.Array | None) -> jax.Array:
            shape = (batch["vertices"], batch["faces"], batch["face_mask"])
            angles = (views.azimuth - QUARTER, views.elevation, views.distance)
            return soft_render.render_meshes(*shape, *angles, size=size, light=light)

        return meshes, settings.light == "random"
    radius, slices = settings.radius, settings.slices

    def clouds(batch: Batch, views: Views, light: jax.Array | None) -> jax.Array:
        del light
        angles = (views.azimuth - QUARTER, views.elevation, views.distance)
        return soft_render.render_points(batch["points"], *angles, size=size, radius=radius, slices=slices)

    return clouds, False


def _check(config: configs.Config) -> None:
    if config.network not in NETWORKS:
        raise ConfigError(f"config.network '{config.network}' is unknown; it is one of: {', '.join(NETWORKS)}")
    if config.render.kind not in ARRAYS:
        raise ConfigError(f"config.render.kind '{config.render.kind}' is unknown; it is one of: {', '.join(ARRAYS)}")
    if config.render.light not in ("random", "camera"):
        raise ConfigError(f"config.render.light '{config.render.light}' is unknown; it is random or camera")
    least = {"data.num_points": 1, "eval.batch_size": 1, "render.size": 8, "render.slices": 2, "render.num_faces": 64}
    configs.check_least(config, least)
    if not config.mvtn.build().learned and any(str(rule[0]).startswith("mvtn") for rule in config.optim.rules):
        raise ConfigError(
            "config.optim.rules names mvtn/, but fixed views have nothing to learn; give --config.optim.rules=\"(('.*', {}),)\""
        )


def _abstract_params(network: Network, example: Batch | dict[str, jax.ShapeDtypeStruct]) -> PyTree:
    """The parameters as shapes; tracing the whole pass too, so that what does not fit together is a ConfigError now."""

    def trace(key: jax.Array, batch: Batch) -> PyTree:
        params, state = network.init(key, batch)
        network.run(params, state, batch)
        return params

    try:
        return jax.eval_shape(trace, jax.random.key(0), dict(example))
    except (ConfigError, DataError):
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(
            f"config.mvtn, cnn, gcn, head and render give no network: {type(error).__name__}: {first}"
        ) from error
