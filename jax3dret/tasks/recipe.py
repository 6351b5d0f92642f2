"""From a task and its config to the Recipe of a run that trains on a split and is scored by shape
retrieval.
"""

from __future__ import annotations

import math
import pathlib
import re
import traceback
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core import measured, optim
from jax3dret.core.types import (
    Arrays,
    Calibrate,
    ConfigError,
    DataError,
    DataSpec,
    EvaluationData,
    Evaluator,
    Model,
    OpenSource,
    PyTree,
    Recipe,
    Source,
    Task,
    Transform,
    nearest,
)
from jax3dret.evaluators import repeated
from jax3dret.inputs.describe import describe

LEAST = {"eval.batch_size": 1, "train.max_steps_per_epoch": 0}


def build(
    config: configs.Config,
    open_source: OpenSource,
    task: Task,
    *,
    rows: Mapping[str, jax.ShapeDtypeStruct],
    features: tuple[str, ...],
    training: tuple[Transform, ...],
    meta: Mapping[str, Any],
    data: EvaluationData,
    arrays: Arrays = (),
    class_names: tuple[str, ...] = (),
    anchors: Source | None = None,
    model: Model | None = None,
    calibrate: Calibrate | None = None,
) -> Recipe:
    """The recipe, with what every system says in `meta` and the evaluators that config.evals names.

    config: as `tasks.ulip2.finetune.defaults()` has it. anchors: the records to train on, unless
    they are those of the run's own data set. rows: one row of each array of a training batch beside
    "label" and "mask". model: what of the task embeds. features, training, arrays, class_names: of
    the training `DataSpec`. data: how evaluators read a modality of a split.
    meta: what the system adds; "parameters" counts those below "encoder" unless it is given.

    Raises ConfigError for values out of range and components that give no network.
    """
    configs.check_least(
        config, LEAST | ({"data.num_points": 1} if "num_points" in list(config.data) else {})
    )
    source = anchors if anchors is not None else open_source(config.train.split)
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
    parts = [f"config.{key}" for key in ("model", "head", "tower") if key in config]
    params = abstract_params(task, example, " and ".join(parts))
    optimizer = optim.make_optimizer(
        params, steps=steps, steps_per_epoch=per_epoch, **config.optim.to_dict()
    )
    counted = params.get("encoder", params)
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
        evaluators=evaluators(config, data, open_source),
        sharding=config.sharding,
        calibrate=calibrate,
        meta={
            "parameters": int(sum(np.prod(p.shape) for p in jax.tree.leaves(counted))),
            "distance": config.distance,
            "inputs": {key: describe(each) for key, each in model.inputs.items()} if model else {},
            "weights": weights_of(config, steps),
            **meta,
        },
    )


def evaluators(
    config: configs.Config, data: EvaluationData, open_source: OpenSource
) -> dict[str, Evaluator]:
    """Those of config.evals, in their order: each section names make(data, open_source,
    distance=..., **settings) -> Evaluator. With config.eval.seeds each is one for every seed.

    Raises ConfigError for a name, a module or a setting that does not exist.
    """
    given = {"data": data, "open_source": open_source, "distance": config.distance}
    seeds = configs.check_seeds(config.eval.seeds, where="config.eval.seeds")
    made = {}
    for name in config.evals:
        section = config.evals[name]
        for key in given:
            if key in section:
                right = (
                    "config.distance is that of the whole run"
                    if key == "distance"
                    else "the task gives it"
                )
                raise ConfigError(f"config.evals.{name}.{key}: no setting of an evaluator; {right}")

        def build(
            data: EvaluationData, section: configs.Config = section, name: str = name
        ) -> Evaluator:
            evaluator = section.build(**{**given, "data": data})
            return measured.checked(evaluator, where=f"config.evals.{name}")

        made[name] = repeated.make(build, data, seeds) if seeds else build(data)
    return made


def shape_data(
    config: configs.Config,
    transforms: tuple[Transform, ...],
    features: tuple[str, ...],
    arrays: Arrays = (),
) -> EvaluationData:
    """How evaluators read shapes, where they are the one modality of a task."""

    def data(modality: str, split: str) -> DataSpec:
        check_modality(modality, ("shape",))
        return evaluation_spec(config, split, transforms, features, arrays)

    return data


def check_modality(modality: str, known: tuple[str, ...]) -> None:
    """Raises ConfigError for a modality that a task has no data of."""
    if modality not in known:
        raise ConfigError(
            f"config.evals: this task gives no data of '{modality}'{nearest(modality, known)}; "
            f"it has: {', '.join(known)}"
        )


def evaluation_spec(
    config: configs.Config,
    split: str,
    transforms: tuple[Transform, ...] = (),
    features: tuple[str, ...] = (),
    arrays: Arrays = (),
) -> DataSpec:
    """The records of a split of the run's own data set as an evaluator reads them."""
    return DataSpec(
        name=config.data.name,
        split=split,
        batch_size=config.eval.batch_size,
        features=features,
        arrays=arrays,
        transforms=transforms,
        seed=config.seed,
        data_dir=config.data.data_dir or None,
        num_threads=config.data.num_threads,
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
    """How many classes there are. Raises ConfigError where the config says another number, or
    labels are needed and there is one class.
    """
    classes = len(source.class_names)
    if config.data.num_classes not in (0, classes):
        raise ConfigError(
            f"config.data.num_classes is {config.data.num_classes}, but {config.data.name} has "
            f"{classes} classes"
        )
    if needed and classes < 2:
        raise ConfigError(
            f"{config.data.name} has {classes} class; classification needs two, "
            "configs/ulip2_vicreg.py needs none"
        )
    return classes


def abstract_params(task: Task, example: Mapping[str, jax.ShapeDtypeStruct], where: str) -> PyTree:
    """The parameters as shapes; what a component raises over the values that the config gave it is
    a ConfigError. where: the sections that the components stand in.
    """
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
            f"{where} give no network: {type(error).__name__} in {raised}: {first}"
        ) from error
