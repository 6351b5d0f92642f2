"""Shapes found by what a frozen image network says of their views, with nothing trained.

The descriptor is the mean of the network's features over the views, [F] numbers; if config.root
says so its square root, which lets no single feature outweigh the others (Arandjelovic and
Zisserman 2012, "Three things everyone should know", section 3, where it stands for SIFT). A linear
metric may be fitted to it in seconds (`tasks.calibration`), on the run's own training split or on
another data set's. A photo is read like a view, so that an index of shapes answers to photos.

    configs/frozen_views.py                            the experiments
    models/efficientnet_lite.py, mobilenet.py          the networks
    tasks/view_cnn.py, data/views.py, data/features.py the views, rendered once, and what it says of each, computed once
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections

from jax3dret.core import config as configs
from jax3dret.core.types import (
    Batch,
    ConfigError,
    DataSpec,
    Metrics,
    Model,
    OpenSource,
    PyTree,
    Recipe,
    Task,
)
from jax3dret.data.points import Keep
from jax3dret.inputs.photo import Photo
from jax3dret.inputs.views import Views
from jax3dret.tasks import affine, calibration, recipe
from jax3dret.tasks.encoder import from_variables
from jax3dret.tasks.ulip2 import finetune
from jax3dret.tasks.view_cnn import ViewCnn, graph_vertices, views_at_a_time

# Beside those of every task: the number of processes that render views.
PLACE_KEYS = ("views.jobs",)


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults; there are no steps to take."""
    config = finetune.defaults()
    config.task = "jax3dret.tasks.frozen_views"
    for key in ("objective", "model", "head", "loss"):
        del config[key]
    del config.data["augment"]
    config.train.steps = 0
    config.optim.rules = ()  # there is nothing to optimise
    config.views = {"cameras": "ring6", "size": 224, "jobs": 1}
    config.cnn = {"name": "jax3dret.models.efficientnet_lite:lite0"}
    # Imported weights or a package that holds some; empty: the network's own package.
    config.cnn_weights = ""
    config.cnn_normalisation = ""  # of the pictures; empty: the network's own
    config.root = False  # the square root of the mean; its features must not be negative
    config.calibration = calibration.defaults()
    return config


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """Network and map. A discriminant of the run's own data is as narrow as the number of classes
    says.
    """
    calibration.check(config.calibration)
    cnn = _cnn(config)
    return _model(config, cnn, _kept(config, cnn, len(class_names)))


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run. Nothing is rendered or embedded before it is asked for.

    Raises ConfigError for wrong settings, a network without weights, steps to train.
    """
    configs.check_least(config, {"views.size": 8, "views.jobs": 1})
    calibration.check(config.calibration)
    if config.train.steps:
        raise ConfigError(
            f"config.train.steps is {config.train.steps}; nothing trains here, set it to 0"
        )
    cnn = _cnn(config)
    source = open_source(config.train.split)
    views, other = graph_vertices(config.views.cameras).shape[0], config.calibration.data
    classes = len((open_source(config.calibration.split, other) if other else source).class_names)
    kept = calibration.width_of(config.calibration, cnn.width, classes)
    arrays = (("features", functools.partial(cnn.view_features, config.views.to_dict())),)
    keep, features = (Keep(("features", "label")),), ("scale",)

    def of_calibration(modality: str, split: str) -> DataSpec:
        recipe.check_modality(modality, ("shape",))
        of = config.with_values({"data.name": other}) if other else config
        return recipe.evaluation_spec(of, split, keep, features, arrays)

    made = _model(config, cnn, kept)
    fitted = config.calibration.fit
    return recipe.build(
        config,
        open_source,
        _task(config, cnn, kept),
        rows={"features": jax.ShapeDtypeStruct((views, cnn.width), jnp.float32)},
        features=features,
        training=keep,
        data=recipe.shape_data(config, keep, features, arrays),
        arrays=arrays,
        model=made,
        calibrate=calibration.calibrate(config.calibration, of_calibration, open_source, kept)
        if fitted
        else None,
        meta={
            "system": "frozen_views",
            "model": {"name": "jax3dret.tasks.frozen_views", "cnn": cnn.section},
            "views": config.views.to_dict(),
            "parameters": cnn.parameters,
            "embedding_dim": made.width,
            "root": config.root,
            "calibration": config.calibration.to_dict(),
            "up_axis": "z",
            "weights": cnn.weights,
        },
    )


def _cnn(config: configs.Config) -> ViewCnn:
    return ViewCnn(
        config.cnn.build(),
        config.cnn.to_dict(),
        weights=config.cnn_weights,
        normalisation=config.cnn_normalisation,
        is_frozen=True,
        size=config.views.size,
        seed=config.seed,
    )


def _kept(config: configs.Config, cnn: ViewCnn, classes: int) -> int:
    """Numbers of an embedding; classes: of the run's own data. The width of a map that is fitted to
    another's was checked when it was made.
    """
    settings = config.calibration
    if settings.fit == "discriminant" and settings.data:
        return int(settings.width)
    return calibration.width_of(settings, cnn.width, classes)


def _model(config: configs.Config, cnn: ViewCnn, kept: int) -> Model:
    task = _task(config, cnn, kept)

    def init(key: jax.Array) -> PyTree:
        params, state = task.init(key, {})
        return {"params": params, "model_state": state}

    return Model(
        init=init,
        embed=from_variables(task.embed),
        inputs={
            "shape": Views(config.views.cameras, config.views.size),
            "image": Photo(config.views.size),
        },
        width=kept,
        distance=config.distance,
        batch_size=views_at_a_time(len(graph_vertices(config.views.cameras))),
    )


def _task(config: configs.Config, cnn: ViewCnn, kept: int) -> Task:
    """Embeds in `kept` numbers. Batches hold "views" uint8 [B, V, S, S, 3], or their "features"
    float32 [B, V, F], or "image" uint8 [B, S, S, 3].
    """

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        del key, batch
        return {}, {"cnn": cnn.initial(), "map": {"shape": affine.identity(cnn.width, kept)}}

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del params, batch, key, step
        return jnp.float32(0), (model_state, {})

    def descriptor(model_state: PyTree, features: jax.Array) -> jax.Array:
        mean = features.mean(1)
        return affine.apply(model_state["map"]["shape"], jnp.sqrt(mean) if config.root else mean)

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        del params
        seen = {}
        if "features" in batch:
            seen["shape"] = batch["features"]
        elif "views" in batch:
            seen["shape"] = cnn.apply(model_state["cnn"], batch["views"], train=False)[0]
        if "image" in batch:
            seen["image"] = cnn.apply(model_state["cnn"], batch["image"][:, None], train=False)[0]
        return {modality: descriptor(model_state, features) for modality, features in seen.items()}

    return Task(init, loss, embed)
