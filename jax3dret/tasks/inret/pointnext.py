"""PointNeXt-S on clouds converted from INRs: the point-based baseline of INRet (section 7.4).

Clouds of 2048 points are made of every INR once and kept (`tasks.inret.conversion`); the network
learns the classes of the training shapes, and what stands before its classifier, 512 numbers, is
what retrieval compares. With several kinds of INR a training cloud is of one of them, drawn anew
each time, and every one of them is embedded by the same network.

    models/pointnext.py             the network
    tasks/ulip2/finetune.py         classification of clouds: its task
    configs/inret_baselines.py      the experiments
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core.types import (
    Arrays,
    ConfigError,
    DataSpec,
    EvaluationData,
    Model,
    OpenSource,
    Recipe,
    Record,
    Source,
    Task,
)
from jax3dret.data import points
from jax3dret.models.field_encoders.inr_row import split_kind
from jax3dret.models.fields.field_records import FieldRecords
from jax3dret.tasks import recipe
from jax3dret.tasks.encoder import encoder_model
from jax3dret.tasks.inret.conversion import CloudNow, cloud_file, read_kind
from jax3dret.tasks.inret.training_data import Complete, complete_rows
from jax3dret.tasks.ulip2 import finetune

EVALUATOR = "jax3dret.evaluators.fields:make"
# Of the record itself nothing else is used.
UNUSED = ("label",)


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: those of classification by a point encoder, and which INRs are read."""
    config = finetune.defaults()
    config.task = "jax3dret.tasks.inret.pointnext"
    for section, key in ((config, "objective"), (config.data, "up_axis")):
        del section[key]
    config.fields = field_defaults()
    config.model = {"name": "jax3dret.models.pointnext:PointNeXt"}
    config.head = {
        "name": "jax3dret.models.heads:ClassificationHead",
        "hidden": (512, 256),
        "dropout": 0.5,
        "hidden_bias": False,
    }
    config.data.num_points = 2048
    config.data.augment = {"name": "jax3dret.data.points:pointnext_augmentations"}
    config.evals.retrieval = evaluator_defaults()
    return config


def evaluator_defaults() -> dict[str, Any]:
    """The evaluator of a baseline; without kinds, of those that training sees."""
    return {"name": EVALUATOR, "split": "test", "kinds": ()}


def field_defaults() -> dict[str, Any]:
    """The `fields` section of a baseline's config."""
    return {
        "kinds": ("hashgrid_sdf",),  # of INRs, ARCHITECTURE_FUNCTION, that training sees
        "seed": 0,  # of the points that are drawn on their surfaces
    }


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """The encoder alone, for clouds and meshes; it knows no classes."""
    del class_names
    return encoder_model(config.model.build(), config.data.num_points, config.distance)


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run. Nothing is converted before the first batch is asked for.

    Raises: ConfigError: kinds of INR that cannot be, settings that contradict the data, a key that
        a component does not take.
    """
    kinds = checked_kinds(config)
    config = with_kinds(config, kinds)
    source = open_source(config.train.split)
    classes = recipe.check_classes(config, source, needed=True)
    encoder, head = config.model.build(), config.head.build(num_classes=classes)
    loss_fn = configs.resolve(config.loss.name, where="config.loss.name")
    loss_kwargs = config.loss.kwargs()
    configs.check_call(loss_fn, loss_kwargs, where="config.loss", positional=2, extra=("mask",))
    task = finetune.classification_task(encoder, head, loss_fn, loss_kwargs)
    num_points = config.data.num_points
    arrays = tuple((f"{kind}/cloud", _clouds(config, kind)) for kind in kinds)
    training = (
        OneOf(tuple(key for key, _ in arrays), "points"),
        points.Normalize(),
        points.Subsample(num_points),  # in another order each time
        *config.data.augment.build(),
        points.Keep(("points", "label")),
    )
    built = recipe.build(
        config,
        open_source,
        as_inrs(task),
        rows={"points": jax.ShapeDtypeStruct((num_points, 3), jnp.float32)},
        features=UNUSED,
        training=training,
        data=_data(config, open_source),
        arrays=arrays,
        model=model(config, source.class_names),
        meta={
            **finetune.point_meta(config, encoder),
            "system": "inret",
            "objective": "classification",
            "converted_from": {**config.fields.to_dict(), "kinds": list(kinds)},
        },
    )
    return of_complete_records(built, source, kinds)


@dataclasses.dataclass(frozen=True)
class OneOf:
    """record[key] is one of these entries, each drawn alike."""

    entries: tuple[str, ...]
    key: str

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        chosen = self.entries[int(rng.integers(len(self.entries)))]
        rest = {name: value for name, value in record.items() if name not in self.entries}
        return {**rest, self.key: record[chosen]}


def checked_kinds(config: configs.Config) -> tuple[str, ...]:
    """config.fields.kinds. Raises ConfigError for none, one twice, or what is no kind."""
    kinds = tuple(config.fields.kinds)
    if not kinds or len(set(kinds)) < len(kinds):
        raise ConfigError(f"config.fields.kinds is {kinds}; give some, each once")
    for kind in kinds:
        split_kind(kind)
    return kinds


def with_kinds(config: configs.Config, kinds: tuple[str, ...]) -> configs.Config:
    """The config whose evaluators of INRs know the kinds, where it does not name some."""
    changes: dict[str, Any] = {}
    for name in config.evals:
        section = config.evals[name].to_dict()
        if section["name"] == EVALUATOR and not section.get("kinds"):
            changes[f"evals.{name}"] = {**section, "kinds": kinds}
    return config.with_values(changes)


def of_complete_records(built: Recipe, source: Source, kinds: tuple[str, ...]) -> Recipe:
    """The recipe, whose training leaves out records that lack an INR of these kinds; how many, is
    logged. Raises DataError where none has all.
    """
    rows = complete_rows(source, kinds, ())
    if rows is None:
        return built
    sampler = Complete(rows, built.train.batch_size)
    return dataclasses.replace(built, train=dataclasses.replace(built.train, sampler=sampler))


def as_inrs(task: Task) -> Task:
    """The task, whose embedding stands under "inr" too: one network reads all kinds."""

    def embed(params: Any, model_state: Any, batch: Any) -> dict[str, jax.Array]:
        return dict.fromkeys(("shape", "inr"), task.embed(params, model_state, batch)["shape"])

    return dataclasses.replace(task, embed=embed)


def _data(config: configs.Config, open_source: OpenSource) -> EvaluationData:
    """INRs of a kind as clouds; behind evaluators.fields.LIVE, converted when they are read."""
    num_points = config.data.num_points
    transforms = (
        OneOf(("cloud",), "points"),
        points.Normalize(),
        points.Subsample(num_points),
        points.Keep(("points", "label")),
    )

    def data(modality: str, split: str) -> DataSpec:
        kind, now = read_kind(modality)
        records = records_of(open_source(split))
        if now and records is not None:
            made = (CloudNow(records, kind, num_points), *transforms)
            return recipe.evaluation_spec(config, split, made, records.features(*split_kind(kind)))
        arrays: Arrays = (("cloud", _clouds(config, kind)),)
        return recipe.evaluation_spec(config, split, transforms, UNUSED, arrays)

    return data


def records_of(source: Source) -> FieldRecords | None:
    """What the INRs of a data set are; None where its manifest says nothing of INRs, which a
    conversion then refuses.
    """
    if "inrs" not in source.manifest.get("source", {}):
        return None
    return FieldRecords.from_manifest(source.manifest)


def _clouds(config: configs.Config, kind: str) -> Any:
    return functools.partial(_cloud_file, kind, config.data.num_points, config.fields.seed)


def _cloud_file(kind: str, num_points: int, seed: int, source: Source) -> pathlib.Path:
    return cloud_file(source, kind, points=num_points, seed=seed)
