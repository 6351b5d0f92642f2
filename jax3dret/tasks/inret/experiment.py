"""One experiment of INRet, or of inr2vec: from its config to its Model and its Recipe.

config.architectures and config.functions say which INRs are read, every architecture in every
function; each such kind has an encoder of its own. One decoder trains them all where
config.loss.target names a function; where it is "own" each kind has a decoder of its own too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from jax3dret.core import config as configs
from jax3dret.core.types import (
    ConfigError,
    DataError,
    DataSpec,
    Model,
    OpenSource,
    PyTree,
    Recipe,
    nearest,
)
from jax3dret.data.points import Keep
from jax3dret.evaluators import fields as fields_evaluator
from jax3dret.inputs.field import FieldInput
from jax3dret.models.field_encoders.inr_row import InrRow, kind_of
from jax3dret.models.fields import architectures
from jax3dret.models.fields.field import FUNCTIONS
from jax3dret.models.fields.triplane import Triplane
from jax3dret.tasks import recipe
from jax3dret.tasks.encoder import from_variables
from jax3dret.tasks.inret.networks import (
    PAIRS,
    Encoder,
    Objective,
    embedder,
    inret_task,
    without_encoder,
)
from jax3dret.tasks.inret.training_data import Complete, Reader, complete_rows

EVALUATOR = "jax3dret.evaluators.fields:make"


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: the spine's, and what this task adds to them."""
    config = configs.spine()
    config.task = "jax3dret.tasks.inret.experiment"
    config.architectures = ("hashgrid",)  # of siren, hashgrid, triplane, octree
    config.functions = ("udf", "sdf", "occ")
    # As far as encoders depend on it: what the INRs of the data set are. INRet's own numbers.
    decoder = {"hidden": 128, "depth": 1}
    config.inrs = {
        "siren": {"hidden": 512, "depth": 4},
        "hashgrid": {"levels": 4, "width": 2, "reduce": "concat", "decoder": decoder},
        "triplane": {"levels": 1, "width": 8, "planes": "concat", "decoder": decoder},
        "octree": {"levels": 6, "width": 8, "reduce": "sum", "decoder": decoder},
    }
    # Points an axis of the lattice on which a grid is read: 32, 64 or 128.
    config.lattice = {"resolution": 64, "precision": "float16"}
    # How a mesh is fitted that is indexed or asked for beside INRs, as the INRs of the data were.
    config.lift = {"preset": "fast"}
    # Of INRs with a grid.
    config.model = {"name": "jax3dret.models.field_encoders.inr_encoder:InrEncoder"}
    # Of plain networks: inr2vec's.
    config.plain_model = {
        "name": "jax3dret.models.field_encoders.inr_encoder:InrEncoder",
        "mlp_hidden": (512, 512, 1024, 1024),
        "mlp_out": 1024,
        "grid_out": 0,
    }
    config.head = {"name": "jax3dret.models.field_encoders.shape_decoder:ShapeDecoder"}
    config.loss = {**dataclasses.asdict(Objective()), "pairs": dict.fromkeys(PAIRS, 1.0)}
    config.data.update(
        {
            "query_points": 10_000,  # drawn from the pool of each shape, for each step
            "num_classes": 0,  # 0: as many as the data set has
        }
    )
    config.optim.update({"lr": 1e-4, "weight_decay": 1e-2})
    config.optim.schedule = {"name": "jax3dret.core.schedules:constant"}
    config.train.max_steps_per_epoch = 0  # 0: no limit
    config.train.update({"batch_size": 16, "epochs": 300.0})
    config.eval.batch_size = 16
    config.evals.retrieval = {"name": EVALUATOR, "split": "test", "kinds": ()}
    return config


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """The encoders alone; they know no classes."""
    del class_names
    reader, encoders = _reader(config), _encoders(config)
    task = inret_task(encoders, None, Objective())
    embed = embedder(encoders)
    inrs = {name: config.inrs[name].to_dict() for name in config.architectures}

    def init(key: jax.Array) -> PyTree:
        shapes = {name: s for kind in encoders for name, s in reader.shapes(kind).items()}
        batch = {name: jnp.zeros((2, *s.shape), s.dtype) for name, s in shapes.items()}
        params, state = task.init(key, batch)
        return {"params": params, "model_state": state}

    return Model(
        init=init,
        embed=from_variables(embed),
        inputs={
            "inr": FieldInput(
                tuple(encoders),
                config.lattice.resolution,
                config.lattice.precision,
                preset=config.lift.preset,
                inrs=json.dumps(inrs, sort_keys=True),
            )
        },
        width=_width(encoders),
        distance=config.distance,
    )


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run.

    open_source: opens a split of a data set of INRs (`data_pipelines/inr_store`).

    Raises: ConfigError: an unknown architecture, function or term of the loss, encoders of two
        widths, INRs that the encoders are not for. DataError: no record to train on.
    """
    config = _resolved(config)
    configs.check_least(config, {"data.query_points": 1})
    functions, kinds = tuple(config.functions), _kinds(config)
    objective = Objective(**config.loss.to_dict())
    objective.check(kinds)
    encoders, reader = _encoders(config), _reader(config)
    source = open_source(config.train.split)
    recipe.check_classes(config, source, needed=False)
    known = "inrs" in source.manifest.get("source", {})
    targets = objective.targets(functions)
    rows = {name: shape for kind in kinds for name, shape in reader.shapes(kind).items()}
    count = config.data.query_points
    if targets:
        rows["points"] = jax.ShapeDtypeStruct((count, 3), jnp.float32)
        rows |= {target: jax.ShapeDtypeStruct((count,), jnp.float32) for target in targets}
    for kind in kinds if known else ():
        reader.records_of(source, kind)
    whole = complete_rows(source, kinds, targets) if known else None

    def data(modality: str, split: str) -> DataSpec:
        """modality: "inr", the first kind; a kind; a kind and ":live", its rows made anew."""
        kind = kinds[0] if modality == "inr" else modality.removesuffix(fields_evaluator.LIVE)
        if kind not in kinds:
            raise ConfigError(f"config.evals: {without_encoder(kind, kinds)}")
        spec = recipe.evaluation_spec(config, split)
        if modality.endswith(fields_evaluator.LIVE):
            features, transforms = reader.live(open_source(split), kind)
            return dataclasses.replace(spec, features=features, transforms=transforms)
        keep = Keep((*reader.shapes(kind), "label"))
        return dataclasses.replace(
            spec, features=("label",), arrays=reader.arrays((kind,)), transforms=(keep,)
        )

    made = model(config, source.class_names)
    built = recipe.build(
        config,
        open_source,
        inret_task(encoders, config.head.build(), objective),
        rows=rows,
        features=("points", *targets) if targets else ("label",),
        training=reader.training(count, targets, kinds),
        data=data,
        arrays=reader.arrays(kinds),
        model=made,
        meta={
            "system": "inret",
            "model": {
                "name": "jax3dret.tasks.inret.experiment",
                **{key: config[key].to_dict() for key in ("model", "plain_model")},
            },
            "kinds": list(kinds),
            "inrs": {name: config.inrs[name].to_dict() for name in config.architectures},
            "lattice": config.lattice.to_dict(),
            "loss": config.loss.to_dict(),
            "embedding_dim": made.width,
            "up_axis": "y",
            "normalization": "middle of the bounding box at the origin, farthest vertex at "
            "distance 1",
        },
    )
    if whole is None:
        return built
    if len(whole) < config.train.batch_size and built.steps:
        raise DataError(
            f"{source.name}, split '{source.split}': {len(whole)} records have all INRs but a "
            "batch "
            f"has {config.train.batch_size}; lower config.train.batch_size"
        )
    sampler = Complete(whole, config.train.batch_size)
    return dataclasses.replace(built, train=dataclasses.replace(built.train, sampler=sampler))


def _resolved(config: configs.Config) -> configs.Config:
    """The config whose evaluators of INRs know the kinds, where it does not name some."""
    changes: dict[str, Any] = {}
    for name in config.evals:
        section = config.evals[name].to_dict()
        if section["name"] == EVALUATOR and not section.get("kinds"):
            changes[f"evals.{name}"] = {**section, "kinds": _kinds(config)}
    return config.with_values(changes)


def _kinds(config: configs.Config) -> tuple[str, ...]:
    """Raises ConfigError for what is unknown or named twice, or none at all."""
    for key, known in (
        ("architectures", tuple(architectures.ARCHITECTURES)),
        ("functions", FUNCTIONS),
    ):
        values = tuple(config[key])
        for value in values:
            if value not in known:
                raise ConfigError(
                    f"config.{key}: '{value}' is unknown{nearest(str(value), known)}; there are "
                    f"{', '.join(known)}"
                )
        if not values or len({*values}) < len(values):
            raise ConfigError(f"config.{key} is {values}; give one or more, each once")
    return tuple(kind_of(a, f) for a in config.architectures for f in config.functions)


def _reader(config: configs.Config) -> Reader:
    row = InrRow(**config.lattice.to_dict())
    _kinds(config)
    return Reader(
        {
            name: architectures.by_name(name, **config.inrs[name].to_dict())
            for name in config.architectures
        },
        row,
    )


def _encoders(config: configs.Config) -> dict[str, Encoder]:
    """By kind. Raises ConfigError where they are not of one width."""
    reader, kinds = _reader(config), _kinds(config)
    encoders: dict[str, Encoder] = {}
    for name, architecture in reader.architectures.items():
        section = config.model if architecture.feature_width else config.plain_model
        if isinstance(architecture, Triplane) and architecture.levels == 1:
            encoder = Encoder(section.build(planes=architecture.planes))
        elif isinstance(architecture, Triplane):
            encoder = Encoder(section.build(), (architecture.planes, architecture.reduce))
        else:
            encoder = Encoder(section.build())
        encoders |= {kind: encoder for kind in kinds if kind.startswith(f"{name}_")}
    _width(encoders)
    return encoders


def _width(encoders: dict[str, Encoder]) -> int:
    widths = {
        kind: int(each.network.embedding_dim)  # type: ignore[attr-defined]
        for kind, each in encoders.items()
    }
    if len({*widths.values()}) > 1:
        raise ConfigError(
            "config.model and config.plain_model: embeddings of "
            f"{', '.join(f'{width} ({kind})' for kind, width in widths.items())} numbers; INRs "
            "that "
            "are compared need one width"
        )
    return next(iter(widths.values()))
