"""MVTN: multi-view classification that learns from where to look (Hamdi, Giancola, Ghanem, ICCV
2021).

A view-based baseline of "ULIP-2 PointBERT fine-tuning for geometric object retrieval", Computers &
Graphics 122 (2024) 103993, table 2. A PointNet sees the cloud and moves the cameras, a
differentiable renderer draws the shape, a CNN reads the pictures, and what it says of them
together, the maximum over the views (MVCNN) or a graph over the cameras (View-GCN), is the
descriptor that retrieval compares. The paper does not say which of the two it used, nor which
cameras. What makes it up:

    models/pointnet.py, models/mvtn.py      the cloud's features, and the cameras
    ops/soft_points.py, ops/soft_meshes.py  pictures whose gradient reaches the camera angles
    data/mesh_arrays.py                     meshes of one size, where meshes are drawn rather than points
    models/resnet.py                        the CNN
    mvtn_network.py                         how these follow each other, and what is trained
    models/viewgcn.py, losses/views.py      View-GCN and its loss
    configs/mvtn_classify.py                the experiments

Training with View-GCN has two stages as published: the CNN on single views from cameras that stay
where they are (network "single_view"), then all together (network "view_gcn", with
config.checkpoint.init_from naming the first run). The published PointNet is trained on ModelNet40
beforehand: config.pointnet_weights.

The published code differs in three places: it clips gradients after the step, where that has no
effect; it never optimises "learned_circular", which the rule ("mvtn/.*", {"freeze": True}) in
config.optim.rules brings back; and its MVCNN gives pictures from 0 to 1 to a CNN that was trained
on normalised ones, which config.cnn_normalisation="none" brings back (imported MVTN needs it).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections

from jax3dret.core import config as configs
from jax3dret.core import optim
from jax3dret.core.types import (
    Batch,
    ConfigError,
    Model,
    OpenSource,
    PyTree,
    Recipe,
    Transform,
)
from jax3dret.data import points
from jax3dret.data.images import IMAGENET, Normalisation
from jax3dret.data.mesh_arrays import FixedMesh
from jax3dret.data.views import has_meshes
from jax3dret.inputs.mesh import SampledMesh
from jax3dret.inputs.points import Points
from jax3dret.models.mvtn import Mvtn, Views, base_views
from jax3dret.ops import soft_meshes, soft_points
from jax3dret.tasks import recipe
from jax3dret.tasks.encoder import from_variables
from jax3dret.tasks.ulip2 import finetune
from jax3dret.tasks.ulip2.mvtn_network import QUARTER, Network, mvtn_task
from jax3dret.tasks.view_cnn import views_at_a_time

NETWORKS = ("mvcnn", "view_gcn", "single_view")
# The loss of each, below jax3dret.
LOSSES = (
    "losses.classification:cross_entropy",
    "losses.views:view_gcn",
    "losses.views:single_view",
)
ARRAYS = {"points": ("points",), "meshes": ("points", "vertices", "faces", "face_mask")}
NORMALISATIONS = {"imagenet": IMAGENET, "none": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: those of the paper's other experiments, and what this task adds."""
    config = finetune.defaults()
    del config.objective
    config.task = "jax3dret.tasks.ulip2.mvtn"
    # Or "view_gcn"; or "single_view", the CNN with a classifier of every view for itself, with
    # which the published training of View-GCN begins.
    config.network = "mvcnn"
    config.mvtn = {"name": "jax3dret.models.mvtn:Mvtn"}
    # What the cameras' PointNet begins with: imported MVTN, or the workdir of a run; empty: random.
    config.pointnet_weights = ""
    config.cnn = {"name": "jax3dret.models.resnet:ResNet"}
    config.cnn_weights = ""  # imported weights; empty: random
    config.cnn_normalisation = (
        "imagenet"  # or "none": pictures from 0 to 1, as the published MVCNN reads them
    )
    config.head = {"name": "jax3dret.models.mvtn:LinearHead"}  # mvcnn and single_view
    config.model = {"name": "jax3dret.models.viewgcn:ViewGCN"}  # view_gcn alone
    config.render = {
        # Every data set has them; or "meshes", for those that have vertices and faces.
        "kind": "points",
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


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """Cameras, CNN and what reads its features; the graph selects its views by what it says of the
    classes.
    """
    _check(config)
    return _model(config, _network(config, len(class_names)))


def _model(config: configs.Config, network: Network) -> Model:
    reads = _reads(config)

    def init(key: jax.Array) -> PyTree:
        params, state = network.init(key, {"points": jnp.zeros((2, config.data.num_points, 3))})
        parts = [part for part in params if part != "head"]
        return {
            "params": {part: params[part] for part in parts},
            "model_state": {part: state[part] for part in parts},
        }

    return Model(
        init=init,
        embed=from_variables(mvtn_task(network).embed),
        inputs={"shape": reads},
        width=network.embedding_dim,
        distance=config.distance,
        batch_size=views_at_a_time(network.mvtn.num_views),
    )


def _reads(config: configs.Config) -> Points | SampledMesh:
    if config.render.kind == "meshes":
        return SampledMesh(config.data.num_points, config.render.num_faces)
    return Points(config.data.num_points)


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run.

    open_source: opens a split of the configured data set.

    Raises: ConfigError: an unknown network or kind of picture, settings that contradict each other
        or the data, a key that a component does not take.
    """
    _check(config)
    source = open_source(config.train.split)
    if config.render.kind == "meshes" and not has_meshes(source):
        raise ConfigError(
            f"config.render.kind=meshes: the records of {source.name} hold no meshes; "
            "--config.render.kind=points --config.mvtn.distance=1.0 draws their points"
        )
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
    features = tuple(key for key in ARRAYS[kind] if key != "face_mask")
    return recipe.build(
        config,
        open_source,
        mvtn_task(network, frozen=_frozen(config.optim.rules)),
        rows=rows,
        features=features,
        training=transforms(up_axis, num_points, augment, num_faces),
        data=recipe.shape_data(config, _reads(config).transforms(up_axis), features),
        model=_model(config, network),
        meta={
            "system": "ulip2",
            "model": network.description,
            "pictures": _pictures(config, network.mvtn),
            "embedding_dim": network.embedding_dim,
            "objective": "classification",
            "num_points": num_points,
            "up_axis": "y",
            "normalization": "centroid at the origin, farthest point at distance 1",
        },
    )


def _pictures(config: configs.Config, mvtn: Mvtn) -> str:
    """What the pictures are, for the protocol."""
    drawn = (
        f"meshes of at most {config.render.num_faces:,} faces"
        if config.render.kind == "meshes"
        else f"discs at {config.data.num_points:,} points"
    )
    views = f"{mvtn.num_views} views ({mvtn.views}) of {config.render.size} pixels"
    return f"{drawn}, drawn in every step: {views}"


def transforms(
    up_axis: str, num_points: int, augment: tuple[Transform, ...], num_faces: int = 0
) -> tuple[Transform, ...]:
    """Record -> arrays of a batch: turn y up, subsample, augment; num_faces: 0, or of the mesh that
    comes along.
    """
    meshes = (FixedMesh(num_faces),) if num_faces else ()
    keys = (*ARRAYS["meshes" if num_faces else "points"], "label")
    return (
        points.UpAxis(up_axis),
        points.Subsample(num_points),
        *augment,
        *meshes,
        points.Keep(keys),
    )


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
        right = LOSSES[NETWORKS.index(config.network)]
        raise ConfigError(
            f"config.loss.name '{config.loss.name}' is no loss of {config.network}, which gives "
            f"{', '.join(inputs)}; "
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
        single=config.network == "single_view",
        pointnet=config.pointnet_weights,
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
    """Whether the first of the rules that speaks of MVTN freezes it: then its pictures need no
    gradient.
    """
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
            f"config.cnn_normalisation '{config.cnn_normalisation}' is unknown; it is one of: "
            f"{', '.join(NORMALISATIONS)}"
        )
    if config.render.kind not in ARRAYS:
        raise ConfigError(
            f"config.render.kind '{config.render.kind}' is unknown; it is one of: "
            f"{', '.join(ARRAYS)}"
        )
    if config.render.light not in ("random", "camera"):
        raise ConfigError(
            f"config.render.light '{config.render.light}' is unknown; it is random or camera"
        )
    configs.check_least(config, {"render.size": 8, "render.slices": 2, "render.num_faces": 64})
    if config.render.kind == "points" and config.render.radius * config.render.size < 1:
        raise ConfigError(
            f"config.render.radius is {config.render.radius}, less than half a pixel at "
            "config.render.size="
            f"{config.render.size}; expected {1 / config.render.size:.4f} or more"
        )
    mvtn = config.mvtn.build()
    if config.pointnet_weights and not mvtn.learned:
        raise ConfigError(
            f"config.pointnet_weights: views that are fixed ({mvtn.views}) ask no PointNet"
        )
    base_views(mvtn.views, mvtn.num_views, mvtn.elevation)  # refuses what does not exist
    if not mvtn.learned and any(str(rule[0]).startswith("mvtn") for rule in config.optim.rules):
        raise ConfigError(
            "config.optim.rules names mvtn/, but fixed views have nothing to learn; give "
            "--config.optim.rules=\"(('.*', {}),)\""
        )
