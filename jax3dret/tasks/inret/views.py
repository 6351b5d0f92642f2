"""View-GCN on pictures converted from INRs: the view-based baseline of INRet (section 7.4).

Twelve pictures are made of every INR once and kept (`tasks.inret.conversion`); a CNN reads each, a
graph network over the cameras reads what it says, and its descriptor, 1536 numbers, is what
retrieval compares. Training has the stages of `tasks.ulip2.viewgcn`, whose networks these are. With
several kinds of INR a training shape is seen as one of them, drawn anew each time.

    geometry/field_views.py                  pictures of a field
    geometry/cameras.py                      inret12, where they are taken from
    models/viewgcn.py, tasks/view_cnn.py     the networks
    configs/inret_baselines.py               the experiments
"""

from __future__ import annotations

import functools
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from jax3dret.core import config as configs
from jax3dret.core.types import (
    Arrays,
    DataSpec,
    EvaluationData,
    Model,
    OpenSource,
    Recipe,
    Source,
    Transform,
)
from jax3dret.data.points import Keep
from jax3dret.data.rows import open_rows
from jax3dret.models.field_encoders.inr_row import split_kind
from jax3dret.tasks import recipe
from jax3dret.tasks.inret.conversion import ViewsNow, read_kind, view_file
from jax3dret.tasks.inret.pointnext import (
    UNUSED,
    OneOf,
    as_inrs,
    checked_kinds,
    evaluator_defaults,
    field_defaults,
    of_complete_records,
    records_of,
    with_kinds,
)
from jax3dret.tasks.ulip2 import viewgcn
from jax3dret.tasks.view_cnn import ViewCnn

log = logging.getLogger("jax3dret")
PLACE_KEYS = viewgcn.PLACE_KEYS


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: View-GCN's, and which INRs are read."""
    config = viewgcn.defaults()
    config.task = "jax3dret.tasks.inret.views"
    config.fields = field_defaults()
    del config.fields["seed"]
    config.views = {
        "cameras": "inret12",  # by name, see geometry.cameras
        "size": 224,  # pixels
        "by": "auto",  # "tracing" rays, or the mesh of "marching" cubes; see geometry.field_views
        "jobs": 1,  # processes that render
    }
    config.evals.retrieval = evaluator_defaults()
    return config


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """CNN and graph, for pictures of meshes from the same cameras."""
    return viewgcn.model(config, class_names)


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one run. Nothing is converted before the first batch is asked for.

    Raises: ConfigError: as `viewgcn.make`, and for kinds of INR that cannot be.
    """
    viewgcn.check(config)
    kinds = checked_kinds(config)
    config = with_kinds(config, kinds)
    source = open_source(config.train.split)
    classes = recipe.check_classes(config, source, needed=True)
    network = viewgcn.network_of(config, classes)
    views, size, cnn = len(network.vertices), config.views.size, network.cnn
    key = "features" if cnn.frozen else "views"
    row = (views, cnn.width) if cnn.frozen else (views, size, size, 3)
    arrays = tuple((f"{kind}/{key}", _rows(config, cnn, kind)) for kind in kinds)
    flipped: tuple[Transform, ...] = ()
    if config.objective == "single_view":
        flipped = viewgcn.mirror(config.flip, cnn.frozen)
    built = recipe.build(
        config,
        open_source,
        as_inrs(viewgcn.viewgcn_task(network)),
        rows={key: jax.ShapeDtypeStruct(row, jnp.float32 if cnn.frozen else jnp.uint8)},
        features=UNUSED,
        training=(OneOf(tuple(k for k, _ in arrays), key), *flipped, Keep((key, "label"))),
        data=_data(config, open_source, cnn, key),
        arrays=arrays,
        model=viewgcn.model_of(config, network),
        meta={
            "system": "inret",
            "model": {**network.description, "objective": config.objective},
            "views": {"cameras": config.views.cameras, "size": size},
            "pictures": _said(config, views),
            "embedding_dim": network.embedding_dim,
            "objective": config.objective,
            "up_axis": "y",
            "converted_from": {"kinds": list(kinds)},
        },
    )
    return of_complete_records(built, source, kinds)


def _data(
    config: configs.Config, open_source: OpenSource, cnn: ViewCnn, key: str
) -> EvaluationData:
    """INRs of a kind as pictures or their features; behind evaluators.fields.LIVE, as pictures made
    when they are read.
    """
    views = config.views

    def data(modality: str, split: str) -> DataSpec:
        kind, now = read_kind(modality)
        records = records_of(open_source(split))
        if now and records is not None:
            made = ViewsNow(records, kind, views.cameras, views.size, views.by)
            transforms = (made, Keep(("views", "label")))
            return recipe.evaluation_spec(
                config, split, transforms, records.features(*split_kind(kind))
            )
        arrays: Arrays = ((key, _rows(config, cnn, kind)),)
        return recipe.evaluation_spec(config, split, (Keep((key, "label")),), UNUSED, arrays)

    return data


def _rows(config: configs.Config, cnn: ViewCnn, kind: str) -> Any:
    return functools.partial(_row_file, config.views.to_dict(), cnn if cnn.frozen else None, kind)


def _row_file(
    views: dict[str, Any], cnn: ViewCnn | None, kind: str, source: Source
) -> pathlib.Path:
    """The pictures of a split, or what the frozen network says of them."""
    stored = view_file(source, kind, **views)
    if cnn is None:
        return stored
    return cnn.features(
        source, open_rows(stored), {"views": stored.name}, what=f"view features of {kind}"
    )


def _said(config: configs.Config, views: int) -> str:
    how = {"auto": "rays, of occupancies the mesh", "marching": "the mesh of marching cubes"}
    by = how.get(config.views.by, "rays")
    return f"INRs, by {by}: {views} views ({config.views.cameras}) of {config.views.size} pixels"
