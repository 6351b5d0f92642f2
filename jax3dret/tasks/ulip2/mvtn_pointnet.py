"""The PointNet that moves MVTN's cameras, trained beforehand to name what it sees.

MVTN as published (Hamdi, Giancola, Ghanem, ICCV 2021) begins with a PointNet that has learned
ModelNet40's 40 classes, whatever data it is then trained on. A run of this task is given to one of
`tasks.ulip2.mvtn` as config.pointnet_weights; its parameters stand where a whole MVTN has them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

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
    Task,
)
from jax3dret.inputs.points import Points
from jax3dret.models.mvtn import Mvtn
from jax3dret.models.pointnet import PointNet
from jax3dret.tasks import recipe
from jax3dret.tasks.encoder import from_variables
from jax3dret.tasks.ulip2 import finetune


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: those of the paper's other experiments, and the cameras it is for."""
    config = finetune.defaults()
    for key in ("objective", "model", "head"):
        del config[key]
    config.task = "jax3dret.tasks.ulip2.mvtn_pointnet"
    config.mvtn = {"name": "jax3dret.models.mvtn:Mvtn"}
    return config


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """The feature before the classifier, the maximum over the points."""
    del class_names
    pointnet = of_cameras(config.mvtn.build())
    task = pointnet_task(pointnet, None)

    def init(key: jax.Array) -> PyTree:
        params, state = task.init(key, {"points": jnp.zeros((2, config.data.num_points, 3))})
        return {"params": params, "model_state": state}

    return Model(
        init=init,
        embed=from_variables(task.embed),
        inputs={"shape": Points(config.data.num_points)},
        width=pointnet.widths[-1],
        distance=config.distance,
    )


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run.

    Raises: ConfigError: cameras that ask no PointNet, or one of another number of logits than there
        are classes; a key that a component does not take.
    """
    source = open_source(config.train.split)
    cameras: Mvtn = config.mvtn.build()
    classes = recipe.check_classes(config, source, needed=True)
    if not cameras.learned or cameras.features != classes:
        asked = f"a PointNet of {cameras.features} logits" if cameras.learned else "no PointNet"
        raise ConfigError(
            f"config.mvtn: its cameras ({cameras.views}) ask {asked}, {source.name} has {classes} "
            "classes; give learned views and config.mvtn.features"
        )
    loss_fn = configs.resolve(config.loss.name, where="config.loss.name")
    loss_kwargs = config.loss.kwargs()
    configs.check_kwargs(loss_fn, loss_kwargs, where="config.loss")
    pointnet = of_cameras(cameras)
    up_axis, num_points = recipe.up_axis(config, source), config.data.num_points
    return recipe.build(
        config,
        open_source,
        pointnet_task(pointnet, functools.partial(loss_fn, **loss_kwargs)),
        rows={"points": jax.ShapeDtypeStruct((num_points, 3), jnp.float32)},
        features=("points",),
        training=finetune.training_transforms(
            up_axis, num_points, config.data.augment.build(), two_view=False
        ),
        data=recipe.shape_data(config, Points(num_points).transforms(up_axis), ("points",)),
        model=model(config, source.class_names),
        meta={
            "system": "ulip2",
            "model": config.mvtn.to_dict(),
            "embedding_dim": pointnet.widths[-1],
            "objective": "classification",
            "num_points": num_points,
            "up_axis": "y",
            "normalization": "centroid at the origin, farthest point at distance 1",
        },
    )


def of_cameras(mvtn: Mvtn) -> PointNet:
    """The PointNet that these cameras ask."""
    return PointNet(
        mvtn.features,
        mvtn.widths,
        mvtn.fc,
        published_logits=mvtn.published_logits,
        dropout=mvtn.dropout,
    )


def pointnet_task(pointnet: PointNet, loss_fn: Callable[..., Any] | None) -> Task:
    """Classification by its logits; the feature is the embedding. loss_fn: (logits, labels, mask=),
    None where nothing is trained.
    """

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        made = pointnet.init(key, batch["points"][:2])
        return _at_cameras(made["params"]), _at_cameras(made["batch_stats"])

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        assert loss_fn is not None
        out: Any
        out, changed = pointnet.apply(
            _of_cameras(params, model_state),
            batch["points"],
            True,
            rngs={"dropout": rng.stream(key, "pointnet/dropout")},
            mutable=["batch_stats"],
        )
        labels, mask = batch["label"], batch["mask"]
        right = (jnp.argmax(out.logits, -1) == labels) & mask
        accuracy = right.sum() / jnp.maximum(mask.sum(), 1)
        return loss_fn(out.logits, labels, mask=mask), (
            _at_cameras(changed["batch_stats"]),
            {"accuracy": accuracy.astype(jnp.float32)},
        )

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        out: Any = pointnet.apply(_of_cameras(params, model_state), batch["points"])
        return {"shape": out.feature}

    return Task(init, loss, embed, batch_coupled=True)


def _at_cameras(tree: PyTree) -> PyTree:
    return {"mvtn": {"pointnet": tree}}


def _of_cameras(params: PyTree, model_state: PyTree) -> dict[str, PyTree]:
    return {
        "params": params["mvtn"]["pointnet"],
        "batch_stats": model_state["mvtn"]["pointnet"],
    }
