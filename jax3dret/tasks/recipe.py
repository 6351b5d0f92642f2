"""From a task and its config to the Recipe of a run that trains on a split and is scored by shape retrieval."""

from __future__ import annotations

import math
import pathlib
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core import optim
from jax3dret.core.types import (
    Arrays,
    ConfigError,
    DataError,
    DataSpec,
    Evaluator,
    Model,
    PyTree,
    Recipe,
    Task,
    Transform,
)
from jax3dret.evaluators import retrieval
from jax3dret.inputs.describe import describe

LEAST = {"eval.batch_size": 1, "train.max_steps_per_epoch": 0}


def build(
    config: configs.Config,
    open_source: Callable[[str], Any],
    task: Task,
    *,
    rows: Mapping[str, jax.ShapeDtypeStruct],
    features: tuple[str, ...],
    training: tuple[Transform, ...],
    meta: Mapping[str, Any],
    evaluation: tuple[Transform, ...] = (),
    arrays: Arrays = (),
    evaluation_arrays: Arrays = (),
    evaluators: Mapping[str, Evaluator] | None = None,
    class_names: tuple[str, ...] = (),
    model: Model | None = None,
) -> Recipe:
    """The recipe, with what every system says in `meta` and, unless `evaluators` are given, the evaluator "retrieval" of shapes by
    shapes.

    config: as `tasks.ulip2.finetune.defaults()` has it. open_source: split -> the records to train on. rows: one row of each array of a training batch beside "label" and "mask".
    model: what of the task embeds. features, training, arrays, class_names: of the training `DataSpec`; evaluation and evaluation_arrays: likewise for the
    evaluator.
    meta: what the system adds; "parameters" counts those below "encoder" unless it is given.

    Raises ConfigError for values out of range and components that give no network.
    """
    configs.check_least(
        config, LEAST | ({"data.num_points": 1} if "num_points" in list(config.data) else {})
    )
    source = open_source(config.train.split)
    batch = config.train.batch_size
    example = {
        "label": jax.ShapeDtypeStruct((batch,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((batch,), jnp.bool_),
        **{key: jax.ShapeDtypeStruct((batch, *row.shape), row.dtype) for key, row in rows.items()},
    }
    per_epoch = math.ceil(len(source) / batch)
    if config.train.max_steps_per_epoch:
        per_epoch = min(per_epoch, config.train.max_steps_per_epoch)
    steps = (
        config.train.steps if config.train.steps >= 0 else round(config.train.epochs * per_epoch)
    )
    params = abstract_params(task, example)
    optimizer = optim.make_optimizer(
        params, steps=steps, steps_per_epoch=per_epoch, **config.optim.to_dict()
    )
    counted = params.get("encoder", params)
    settings = config.eval
    if evaluators is None:
        by_shape = retrieval.make(
            open_source,
            gallery_split=settings.gallery_split,
            query_split=settings.query_split,
            transforms=evaluation,
            features=features,
            arrays=evaluation_arrays,
            batch_size=settings.batch_size,
            num_threads=config.data.num_threads,
            seed=config.seed,
            distance=settings.distance,
            neighbours=settings.neighbours,
            index=settings.index.to_dict(),
        )
        evaluators = {"retrieval": by_shape}
    return Recipe(
        task=task,
        tx=optimizer.tx,
        learning_rate=optimizer.learning_rate,
        train=DataSpec(
            name=source.name,
            split=config.train.split,
            batch_size=batch,
            features=features,
            class_names=class_names,
            arrays=arrays,
            transforms=training,
            seed=config.seed,
            data_dir=config.data.data_dir or None,
            num_threads=config.data.num_threads,
        ),
        steps=steps,
        example=example,
        model=model,
        evaluators=evaluators,
        sharding=config.sharding,
        meta={
            "parameters": int(sum(np.prod(p.shape) for p in jax.tree.leaves(counted))),
            "distance": config.eval.distance,
            "inputs": {key: describe(each) for key, each in model.inputs.items()} if model else {},
            "weights": weights_of(config, steps),
            **meta,
        },
    )


def weights_of(config: configs.Config, steps: int) -> str:
    """Where the weights of a run come from, in words for `meta`."""
    begun = f"from {config.checkpoint.init_from}" if config.checkpoint.init_from else ""
    if not steps:
        return f"{begun}, not trained" if begun else "random initialisation"
    trained = f"trained on {config.data.name}:{config.train.split}"
    return f"{begun}, {trained}" if begun else trained


def up_axis(config: configs.Config, source: Any) -> str:
    """The axis that points up in the stored data: as the config says, else as the manifest does."""
    return config.data.up_axis or source.manifest["up_axis"]


def check_classes(config: configs.Config, source: Any, *, needed: bool) -> int:
    """How many classes there are. Raises ConfigError where the config says another number, or labels are needed and there is
    one class."""
    classes = len(source.class_names)
    if config.data.num_classes not in (0, classes):
        raise ConfigError(
            f"config.data.num_classes is {config.data.num_classes}, but {config.data.name} has {classes} classes"
        )
    if needed and classes < 2:
        raise ConfigError(
            f"{config.data.name} has {classes} class; classification needs two, configs/ulip2_vicreg.py needs none"
        )
    return classes


def abstract_params(task: Task, example: Mapping[str, jax.ShapeDtypeStruct]) -> PyTree:
    """The parameters as shapes; what a component raises over the values that the config gave it is a ConfigError."""
    try:
        return jax.eval_shape(task.init, jax.random.key(0), dict(example))[0]
    except (ConfigError, DataError):
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        ours = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if not re.search(r"[\\/](jax|flax)[\\/]", f.filename)
        ]
        raised = f"{pathlib.Path(ours[-1].filename).name}, line {ours[-1].lineno}"
        first = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(
            f"config.model and config.head give no network: {type(error).__name__} in {raised}: {first}"
        ) from error
