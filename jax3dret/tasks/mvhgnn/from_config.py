"""What a config says of the networks, the losses, the prototypes and the optimizer of one stage."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core import optim
from jax3dret.core.sharding import path_name
from jax3dret.core.types import Batch, ConfigError, PyTree, Task
from jax3dret.models.mvhgnn import MVHGNN
from jax3dret.models.sketch_tower import BARE, Rules, check_tuning, tuning_rules
from jax3dret.tasks.mvhgnn import published
from jax3dret.tasks.mvhgnn.networks import Networks, head_of
from jax3dret.tasks.mvhgnn.prototypes import Prototypes, learned
from jax3dret.tasks.mvhgnn.stages import Losses, Stage, check_reach
from jax3dret.tasks.towers import NORMALISATIONS
from jax3dret.tasks.view_cnn import ViewCnn, graph_vertices
from jax3dret.weights.importing import MARK

# Where the parameters of a side stand, beside those of its head.
SIDES = {"shape": "graph", "sketch": "sketch"}


def check_tower_weights(config: configs.Config, tower: Any) -> None:
    """Raises ConfigError for weights of a tower that takes none, which would be left unused, and
    for what is no import.
    """
    weights = config.tower_weights
    if weights and not getattr(tower, "takes_clip", False):
        raise ConfigError(
            f"config.tower_weights={weights}: the tower {type(tower).__name__} takes no weights of "
            "CLIP; "
            "jax3dret.models.sketch_tower:PromptedVisionTower does"
        )
    if (
        weights
        and config.checkpoint.init_from == weights
        and not (pathlib.Path(weights) / MARK).is_file()
    ):
        raise ConfigError(
            f"config.tower_weights={weights}: no imported weights (jax3dret weights import FILE "
            "--out DIR)"
        )


def optimizer_rules(config: configs.Config, stage: Stage, *, is_second: bool) -> Rules:
    """What a stage trains: its sides, and with them the classifier and learned prototypes, unless a
    first stage has made these.
    """
    idle = [side for side in SIDES if side not in stage.trains]
    frozen = [f"{SIDES[side]}/.*" for side in idle]
    if not config.share_projection:
        frozen += [f"{side}_head/.*" for side in idle]
    elif is_second:
        frozen.append("shape_head/.*")
    losses = losses_of(config)
    if is_second or not any(losses.on("cls", side) for side in stage.trains):
        frozen.append("classifier")
    if has_learned_prototypes(config) and (
        is_second or not any(losses.on("sem", side) for side in stage.trains)
    ):
        frozen.append("prototypes")
    tuned: Rules = ()
    if config.tuning != "all":
        rules = tuning_rules(config.tuning, SIDES["sketch"], layernorm_lr=config.layernorm_lr)
        tuned = rules if "sketch" in stage.trains else ()
    return (*((pattern, {"freeze": True}) for pattern in frozen), *tuned)


def losses_of(config: configs.Config) -> Losses:
    """Those of config.stage."""
    return Losses(**config.loss.to_dict()).of(config.stage)


def frozen_tree(rules: Rules, params: PyTree) -> PyTree:
    """The tree of parameters, True where the optimizer leaves it alone."""
    is_frozen = {row.path: row.frozen for row in optim.describe(params, rules)}
    return jax.tree_util.tree_map_with_path(lambda path, _: is_frozen[path_name(path)], params)


def checked_init(config: configs.Config, networks: Networks, task: Task) -> Task:
    """The task, whose init refuses a stage that would train nothing of what retrieval reads, or
    would leave a part of it as it began. One that takes no step may.
    """
    if not config.train.steps or (config.train.steps < 0 and not config.train.epochs):
        return task

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        params, state = task.init(key, batch)
        frozen = frozen_tree(config.optim.rules, params)
        trained = {name: not all(jax.tree.leaves(part)) for name, part in frozen.items()}
        read = {side: head_of(networks, side) for side in SIDES} if networks.project else {}
        check_reach(config.stage, losses_of(config), trained, read=read)
        return params, state

    return dataclasses.replace(task, init=init)


def has_learned_prototypes(config: configs.Config) -> bool:
    return configs.resolve(config.prototypes.name, where="config.prototypes.name") is learned


def prototypes_of(
    config: configs.Config, class_names: tuple[str, ...], width: int, *, known: bool
) -> Prototypes:
    """The prototypes, as wide as their source is; those that are made, config.prototype_dim wide
    or, without it, `width`.

    known: False where the data is only described: then nothing is trained, and no file is read.

    Raises ConfigError where config.prototype_dim is given and the source has another width.
    """
    make = configs.resolve(config.prototypes.name, where="config.prototypes.name")
    settings = config.prototypes.kwargs()
    configs.check_call(make, settings, where="config.prototypes", positional=3)
    dim = config.prototype_dim or width
    if not known:
        nothing = np.zeros((len(class_names), dim), np.float32)
        return Prototypes(nothing, has_learned_prototypes(config), config.prototypes.name)
    made: Prototypes = make(class_names, dim, config.seed, **settings)
    if config.prototype_dim and made.vectors.shape[1] != dim:
        raise ConfigError(
            f"config.prototype_dim is {dim}, the prototypes ({made.name}) have "
            f"{made.vectors.shape[1]} numbers; set it to {made.vectors.shape[1]} or 0"
        )
    return made


def networks_of(config: configs.Config, classes: int) -> Networks:
    """classes: of the data set, which View-GCN's selector scores. The projections are as wide as
    config.prototype_dim says, else as the descriptor.

    Raises ConfigError for components that do not fit together.
    """
    if config.tower_normalisation not in NORMALISATIONS:
        raise ConfigError(
            f"config.tower_normalisation '{config.tower_normalisation}' is unknown; it is one of "
            f"{', '.join(NORMALISATIONS)}"
        )
    if config.retrieve_with not in ("f", "p"):
        raise ConfigError(
            f"config.retrieve_with '{config.retrieve_with}' is unknown; it is 'f' or 'p'"
        )
    size = config.sketches.size
    graph, tower = _with_classes(config.model.build(), classes), config.tower.build()
    if graph.embedding_dim != tower.embedding_dim:
        raise ConfigError(
            f"shapes are embedded in {graph.embedding_dim} numbers (config.model), drawings in "
            f"{tower.embedding_dim} (config.tower); "
            "they must be equal"
        )
    if getattr(tower, "image_size", size) != size:
        raise ConfigError(
            f"config.sketches.size is {size}, the tower takes {tower.image_size} pixels; set "
            f"config.sketches.size={tower.image_size}"
        )
    check_tuning(
        config.tuning, getattr(tower, "num_prompts", 0), bool(getattr(tower, "linear", False))
    )
    check_tower_weights(config, tower)
    reads_features = getattr(tower, "reads_features", False)
    if reads_features != bool(config.tower_cnn.to_dict()):
        raise ConfigError(
            "config.tower_cnn: FeatureTower and StoredFeatures read the features of the frozen CNN "
            "that it names, other towers pictures"
        )
    return Networks(
        cnn=_cnn(config, "cnn", config.views.size),
        graph=graph,
        positions=graph_vertices(config.views.cameras),
        tower=tower,
        tower_cnn=_cnn(config, "tower_cnn", size) if reads_features else None,
        normalisation=NORMALISATIONS[config.tower_normalisation],
        size=size,
        width=graph.embedding_dim,
        projection_width=config.prototype_dim or graph.embedding_dim,
        share_projection=config.share_projection,
        project=config.retrieve_with == "p",
        centred=config.centred,
    )


def changes_of(config: configs.Config) -> dict[str, Any]:
    """What makes a run another than the paper's full model of its setting: key -> what it says."""
    graph, full = config.model.build(), MVHGNN()
    if type(graph) is not MVHGNN:
        return {"model.name": config.model.name}
    changes = {
        f"model.{field.name}": getattr(graph, field.name)
        for field in dataclasses.fields(graph)
        if field.name not in ("parent", "name")
        and getattr(graph, field.name) != getattr(full, field.name)
    }
    losses = {**dataclasses.asdict(Losses()), "cls_joint": config.setting == "category"}
    changes |= {f"loss.{k}": v for k, v in config.loss.to_dict().items() if v != losses[k]}
    bare = config.tuning in BARE
    tower = {"num_prompts": 0 if bare else 3, "linear": config.tuning == "frozen"}
    wanted: dict[str, Any] = {
        **published.FULL_MODEL,
        "strategy": published.FULL_STRATEGY[config.setting],
        "tower": {"name": "jax3dret.models.sketch_tower:PromptedVisionTower", **tower},
    }
    found: dict[str, Any] = {
        key: functools.reduce(lambda c, k: c[k], key.split("."), config) for key in wanted
    }
    found["tower"] = {**tower, **config.tower.to_dict()}
    return changes | {key: found[key] for key in wanted if found[key] != wanted[key]}


def _with_classes(graph: Any, classes: int) -> Any:
    """A graph with View-GCN's selector scores the classes of the data set, unless it is told to.

    Raises ConfigError where it is told another number.
    """
    if getattr(graph, "selector", "") != "viewgcn":
        return graph
    if graph.selector_classes not in (0, classes):
        raise ConfigError(
            f"config.model.selector_classes is {graph.selector_classes}, the data set has "
            f"{classes} classes; leave it out"
        )
    return graph.clone(selector_classes=classes)


def _cnn(config: configs.Config, key: str, size: int) -> ViewCnn:
    return ViewCnn(
        config[key].build(),
        config[key].to_dict(),
        weights=config[f"{key}_weights"],
        normalisation=config[f"{key}_normalisation"],
        is_frozen=True,
        size=size,
        seed=config.seed,
        key=key,
    )
