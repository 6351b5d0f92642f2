"""ULIP-2 PointBERT fine-tuning for geometric object retrieval (Computers & Graphics 122, 2024, 103993).

A point encoder is trained with labels (classification) or without (VICReg over two augmented views); the head is dropped, and
the encoder's output is the descriptor that retrieval compares. What makes up the paper:

    models/pointbert.py, models/pointnet2.py    the encoders (section 3.1; PointNet++ is its baseline)
    models/heads.py                             classification head and VICReg projector
    losses/classification.py, losses/vicreg.py  the objectives
    data/points.py                              augmentations, the paper's list and the published code's per data set
    core/schedules.py                           warm-up + cosine (paper), one-cycle per epoch (published code)
    metrics/retrieval.py                        1-NN accuracy, macro F1, NDCG in both readings
    configs/ulip2_*.py, configs/pointnet2_*.py  the experiments
"""

from __future__ import annotations

import math
import pathlib
import re
import traceback
from collections.abc import Callable, Mapping
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
from jax3dret.evaluators import retrieval

OBJECTIVES = ("classification", "two_view")


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: the spine's, and what this task adds to them."""
    config = configs.spine()
    config.task = "jax3dret.tasks.ulip"
    config.objective = "classification"  # or "two_view": two augmented views of each shape, no labels
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
    config.train.max_steps_per_epoch = 0  # the published code stops an epoch after 100 batches; 0: no limit
    config.eval.update(
        {
            "batch_size": 32,
            "gallery_split": "train",
            "query_split": "test",
            "distance": "cosine",  # the paper; the published code used "euclidean"
            "neighbours": 100,
            "index": {"kind": "auto", "scoring": "auto"},
        }
    )
    return config


def make(config: configs.Config, open_source: Callable[[str], Any]) -> Recipe:
    """The recipe of one run.

    open_source: split -> jax3dret.data.pipeline.Source of the configured data set.

    Raises:
        ConfigError: an unknown objective, a class count that contradicts the data, a key that a component does not take.
    """
    if config.objective not in OBJECTIVES:
        raise ConfigError(f"config.objective '{config.objective}' is unknown; it is one of: {', '.join(OBJECTIVES)}")
    configs.check_least(config, {"data.num_points": 1, "eval.batch_size": 1, "train.max_steps_per_epoch": 0})
    source = open_source(config.train.split)
    two_view = config.objective == "two_view"
    classes = len(source.class_names)
    if config.data.num_classes not in (0, classes):
        raise ConfigError(
            f"config.data.num_classes is {config.data.num_classes}, but {config.data.name} has {classes} classes"
        )
    if not two_view and classes < 2:
        raise ConfigError(
            f"{config.data.name} has {classes} class; classification needs two, configs/ulip2_vicreg.py needs none"
        )

    encoder = config.model.build()
    head = config.head.build() if two_view else config.head.build(num_classes=classes)
    loss_fn = configs.resolve(config.loss.name, where="config.loss.name")
    loss_kwargs = config.loss.kwargs()
    configs.check_kwargs(loss_fn, loss_kwargs, where="config.loss")
    task = (
        two_view_task(encoder, head, loss_fn, loss_kwargs)
        if two_view
        else classification_task(encoder, head, loss_fn, loss_kwargs)
    )

    up_axis = config.data.up_axis or source.manifest["up_axis"]
    batch, num_points = config.train.batch_size, config.data.num_points
    example: dict[str, jax.ShapeDtypeStruct] = {
        "label": jax.ShapeDtypeStruct((batch,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((batch,), jnp.bool_),
    }
    for key in ("view_a", "view_b") if two_view else ("points",):
        example[key] = jax.ShapeDtypeStruct((batch, num_points, 3), jnp.float32)
    per_epoch = math.ceil(len(source) / batch)
    if config.train.max_steps_per_epoch:
        per_epoch = min(per_epoch, config.train.max_steps_per_epoch)
    steps = config.train.steps if config.train.steps >= 0 else round(config.train.epochs * per_epoch)
    params = _abstract_params(task, example)
    optimizer = optim.make_optimizer(params, steps=steps, steps_per_epoch=per_epoch, **config.optim.to_dict())
    augment = config.data.augment.build()
    return Recipe(
        task=task,
        tx=optimizer.tx,
        learning_rate=optimizer.learning_rate,
        train=DataSpec(
            name=config.data.name,
            split=config.train.split,
            batch_size=batch,
            features=("points",),
            transforms=training_transforms(up_axis, num_points, augment, two_view=two_view),
            seed=config.seed,
            data_dir=config.data.data_dir or None,
            num_threads=config.data.num_threads,
        ),
        steps=steps,
        example=example,
        evaluators=_evaluators(config, open_source, up_axis),
        sharding=config.sharding,
        meta={
            "system": "ulip2",
            "modality": "shape",
            "model": config.model.to_dict(),
            "embedding_dim": int(encoder.embedding_dim),
            "parameters": int(sum(np.prod(p.shape) for p in jax.tree.leaves(params["encoder"]))),
            "objective": config.objective,
            "num_points": num_points,
            "up_axis": "y",
            "normalization": "centroid at the origin, farthest point at distance 1",
            "distance": config.eval.distance,
            "weights": "random initialisation" if steps == 0 else f"trained on {config.data.name}:{config.train.split}",
        },
    )


def _abstract_params(task: Task, example: Mapping[str, jax.ShapeDtypeStruct]) -> PyTree:
    """The parameters as shapes; what a component raises over the values that the config gave it is a ConfigError."""
    try:
        return jax.eval_shape(task.init, jax.random.key(0), dict(example))[0]
    except (ConfigError, DataError):
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        ours = [
            f for f in traceback.extract_tb(error.__traceback__) if not re.search(r"[\\/](jax|flax)[\\/]", f.filename)
        ]
        raised = f"{pathlib.Path(ours[-1].filename).name}, line {ours[-1].lineno}"
        first = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(
            f"config.model and config.head give no network: {type(error).__name__} in {raised}: {first}"
        ) from error


def classification_task(
    encoder: nn.Module, head: nn.Module, loss_fn: Callable[..., Any], loss_kwargs: Mapping[str, Any]
) -> Task:
    """Cross-entropy on the head's logits (paper, section 3.2)."""

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        embedding, encoder_state = _run(
            encoder, params["encoder"], model_state["encoder"], batch["points"], key, "encoder"
        )
        logits, head_state = _run(head, params["head"], model_state["head"], embedding, key, "head")
        value = loss_fn(logits, batch["label"], mask=batch["mask"], **loss_kwargs)
        right = (jnp.argmax(logits, -1) == batch["label"]) & batch["mask"]
        accuracy = right.sum() / jnp.maximum(batch["mask"].sum(), 1)
        return value, ({"encoder": encoder_state, "head": head_state}, {"accuracy": accuracy.astype(jnp.float32)})

    return Task(_initializer(encoder, head, "points"), loss, _embedder(encoder), batch_coupled=True)


def two_view_task(
    encoder: nn.Module, head: nn.Module, loss_fn: Callable[..., Any], loss_kwargs: Mapping[str, Any]
) -> Task:
    """A joint-embedding loss on two augmented views, VICReg in the paper (section 3.2).

    The views pass one after the other, so BatchNorm normalises each by its own statistics and updates twice (published code).
    """

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        embedded, projected = {}, {}
        for view in ("view_a", "view_b"):
            embedded[view], encoder_state = _run(
                encoder, params["encoder"], model_state["encoder"], batch[view], key, "encoder/" + view
            )
            model_state = {**model_state, "encoder": encoder_state}
        for view in ("view_a", "view_b"):
            projected[view], head_state = _run(
                head, params["head"], model_state["head"], embedded[view], key, "head/" + view
            )
            model_state = {**model_state, "head": head_state}
        value, terms = loss_fn(projected["view_a"], projected["view_b"], **loss_kwargs)
        return value, (model_state, terms)

    return Task(_initializer(encoder, head, "view_a"), loss, _embedder(encoder), batch_coupled=True)


def training_transforms(
    up_axis: str, num_points: int, augment: tuple[Transform, ...], *, two_view: bool
) -> tuple[Transform, ...]:
    """Record -> arrays of a training batch: turn y up, subsample, augment, keep (published order)."""
    chain: tuple[Transform, ...] = (points.Subsample(num_points), *augment)
    if two_view:
        return (points.UpAxis(up_axis), points.TwoViews(chain), points.Keep(("view_a", "view_b", "label")))
    return (points.UpAxis(up_axis), *chain, points.Keep(("points", "label")))


def evaluation_transforms(up_axis: str, num_points: int) -> tuple[Transform, ...]:
    return (points.UpAxis(up_axis), points.Subsample(num_points), points.Keep(("points", "label")))


def _evaluators(config: configs.Config, open_source: Callable[[str], Any], up_axis: str) -> dict[str, Any]:
    settings = config.eval
    return {
        "retrieval": retrieval.make(
            open_source,
            gallery_split=settings.gallery_split,
            query_split=settings.query_split,
            transforms=evaluation_transforms(up_axis, config.data.num_points),
            features=("points",),
            batch_size=settings.batch_size,
            num_threads=config.data.num_threads,
            seed=config.seed,
            distance=settings.distance,
            neighbours=settings.neighbours,
            index=settings.index.to_dict(),
        )
    }


def _run(
    module: nn.Module, params: PyTree, state: PyTree, inputs: jax.Array, key: jax.Array, name: str
) -> tuple[jax.Array, PyTree]:
    """One training pass; the random streams are the module's own, under the name of the pass."""
    rngs = {stream: rng.stream(key, f"{name}/{stream}") for stream in ("fps", "drop_path", "dropout")}
    out: Any
    out, updated = module.apply(
        {"params": params, "batch_stats": state}, inputs, train=True, rngs=rngs, mutable=["batch_stats"]
    )
    return out, updated.get("batch_stats", {})


def _initializer(
    encoder: nn.Module, head: nn.Module, key_of_points: str
) -> Callable[[jax.Array, Batch], tuple[PyTree, PyTree]]:
    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        first, second = jax.random.split(key)
        sample = batch[key_of_points][:2]
        variables = encoder.init(first, sample)
        embedding = jnp.zeros((sample.shape[0], encoder.embedding_dim), jnp.float32)
        head_variables = head.init(second, embedding)
        params = {"encoder": variables["params"], "head": head_variables["params"]}
        return params, {"encoder": variables.get("batch_stats", {}), "head": head_variables.get("batch_stats", {})}

    return init


def _embedder(encoder: nn.Module) -> Callable[[PyTree, PyTree, Batch], dict[str, jax.Array]]:
    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        variables = {"params": params["encoder"], "batch_stats": model_state["encoder"]}
        # Used only where evaluation starts its sampling at random; one key, so that an embedding is repeatable.
        rngs = {"fps": jax.random.key(0)}
        embedding: Any = encoder.apply(variables, batch["points"], train=False, rngs=rngs)
        return {"shape": embedding.astype(jnp.float32)}

    return embed
