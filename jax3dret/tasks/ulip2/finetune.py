"""Point encoders fine-tuned with labels (classification) or without (VICReg), section 3.2 of the
paper.

The head is dropped after training; the encoder's output is the descriptor that retrieval compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from jax3dret.core import config as configs
from jax3dret.core.types import (
    Batch,
    ConfigError,
    Metrics,
    Model,
    OpenSource,
    PyTree,
    Recipe,
    Task,
    Transform,
)
from jax3dret.data import points
from jax3dret.inputs.points import Points
from jax3dret.tasks import recipe
from jax3dret.tasks.encoder import embedder, encoder_model, initializer, train_pass

OBJECTIVES = ("classification", "two_view")


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: the spine's, and what this task adds to them."""
    config = configs.spine()
    config.task = "jax3dret.tasks.ulip2.finetune"
    config.objective = (
        "classification"  # or "two_view": two augmented views of each shape, no labels
    )
    config.model = {"name": "jax3dret.models.pointbert:PointBert"}
    config.head = {"name": "jax3dret.models.heads:ClassificationHead"}
    config.loss = {"name": "jax3dret.losses.classification:cross_entropy"}
    config.data.update(
        {
            "num_points": 1024,  # points of a cloud as the encoder sees it
            "up_axis": "",  # axis that points up in the stored data; empty: as its manifest says
            "num_classes": 0,  # 0: as many as the data set has
            "augment": {"name": "jax3dret.data.points:no_augmentations"},
        }
    )
    config.train.max_steps_per_epoch = (
        0  # the published code stops an epoch after 100 batches; 0: no limit
    )
    config.eval.batch_size = 32
    config.evals.retrieval = {
        "name": "jax3dret.evaluators.retrieval:make",
        "gallery_split": "train",
        "query_split": "test",
        "neighbours": 100,
        # Every pair is compared; "tree_ah" searches approximately, and the protocol says so.
        "index": {"kind": "auto", "scoring": "brute_force"},
    }
    return config


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """The encoder alone; it knows no classes."""
    del class_names
    return encoder_model(config.model.build(), config.data.num_points, config.distance)


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run.

    open_source: opens a split of the configured data set.

    Raises: ConfigError: an unknown objective, a class count that contradicts the data, a key that a
        component does not take.
    """
    if config.objective not in OBJECTIVES:
        raise ConfigError(
            f"config.objective '{config.objective}' is unknown; it is one of: "
            f"{', '.join(OBJECTIVES)}"
        )
    source = open_source(config.train.split)
    two_view = config.objective == "two_view"
    classes = recipe.check_classes(config, source, needed=not two_view)
    encoder = config.model.build()
    head = config.head.build() if two_view else config.head.build(num_classes=classes)
    loss_fn = configs.resolve(config.loss.name, where="config.loss.name")
    loss_kwargs = config.loss.kwargs()
    masked = () if two_view else ("mask",)
    configs.check_call(loss_fn, loss_kwargs, where="config.loss", positional=2, extra=masked)
    make_task = two_view_task if two_view else classification_task
    up_axis, num_points = recipe.up_axis(config, source), config.data.num_points
    cloud = jax.ShapeDtypeStruct((num_points, 3), jnp.float32)
    return recipe.build(
        config,
        open_source,
        make_task(encoder, head, loss_fn, loss_kwargs),
        rows=dict.fromkeys(("view_a", "view_b") if two_view else ("points",), cloud),
        features=("points",),
        training=training_transforms(
            up_axis, num_points, config.data.augment.build(), two_view=two_view
        ),
        data=recipe.shape_data(config, Points(num_points).transforms(up_axis), ("points",)),
        model=model(config, source.class_names),
        meta={**point_meta(config, encoder), "objective": config.objective},
    )


def point_meta(config: configs.Config, encoder: nn.Module) -> dict[str, Any]:
    """What an index made with a point encoder must know to prepare a query as its gallery was."""
    return {
        "system": "ulip2",
        "model": config.model.to_dict(),
        "embedding_dim": int(encoder.embedding_dim),
        "num_points": config.data.num_points,
        "up_axis": "y",
        "normalization": "centroid at the origin, farthest point at distance 1",
    }


def classification_task(
    encoder: nn.Module, head: nn.Module, loss_fn: Callable[..., Any], loss_kwargs: Mapping[str, Any]
) -> Task:
    """Cross-entropy on the head's logits (paper, section 3.2)."""

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        embedding, encoder_state = train_pass(
            encoder, params["encoder"], model_state["encoder"], batch["points"], key, "encoder"
        )
        logits, head_state = train_pass(
            head, params["head"], model_state["head"], embedding, key, "head"
        )
        value = loss_fn(logits, batch["label"], mask=batch["mask"], **loss_kwargs)
        right = (jnp.argmax(logits, -1) == batch["label"]) & batch["mask"]
        accuracy = right.sum() / jnp.maximum(batch["mask"].sum(), 1)
        return value, (
            {"encoder": encoder_state, "head": head_state},
            {"accuracy": accuracy.astype(jnp.float32)},
        )

    return Task(initializer(encoder, head, "points"), loss, embedder(encoder), batch_coupled=True)


def two_view_task(
    encoder: nn.Module, head: nn.Module, loss_fn: Callable[..., Any], loss_kwargs: Mapping[str, Any]
) -> Task:
    """A joint-embedding loss on two augmented views, VICReg in the paper (section 3.2).

    The views pass one after the other, so BatchNorm normalises each by its own statistics and
    updates twice (published code).
    """

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        embedded, projected = {}, {}
        for view in ("view_a", "view_b"):
            embedded[view], encoder_state = train_pass(
                encoder,
                params["encoder"],
                model_state["encoder"],
                batch[view],
                key,
                "encoder/" + view,
            )
            model_state = {**model_state, "encoder": encoder_state}
        for view in ("view_a", "view_b"):
            projected[view], head_state = train_pass(
                head, params["head"], model_state["head"], embedded[view], key, "head/" + view
            )
            model_state = {**model_state, "head": head_state}
        value, terms = loss_fn(projected["view_a"], projected["view_b"], **loss_kwargs)
        return value, (model_state, terms)

    return Task(initializer(encoder, head, "view_a"), loss, embedder(encoder), batch_coupled=True)


def training_transforms(
    up_axis: str, num_points: int, augment: tuple[Transform, ...], *, two_view: bool
) -> tuple[Transform, ...]:
    """Record -> arrays of a training batch: turn y up, subsample, augment, keep (published order)."""
    chain: tuple[Transform, ...] = (points.Subsample(num_points), *augment)
    if two_view:
        return (
            points.UpAxis(up_axis),
            points.TwoViews(chain),
            points.Keep(("view_a", "view_b", "label")),
        )
    return (points.UpAxis(up_axis), *chain, points.Keep(("points", "label")))
