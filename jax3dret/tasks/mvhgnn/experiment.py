"""One experiment of MV-HGNN: from its config to the stages that it trains and the Recipe of each.

Training has one or two stages. With two, `python -m jax3dret.main` runs the first in WORKDIR/first
and the second in WORKDIR, which starts from what the first has learned; config.checkpoint.init_from
names another run to start from instead, and config.stage runs one stage alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core.types import (
    ConfigError,
    DataError,
    DataSpec,
    Input,
    Model,
    OpenSource,
    PyTree,
    Recipe,
    Run,
)
from jax3dret.data.sketches import check_prepare
from jax3dret.inputs.drawing import Drawing
from jax3dret.inputs.views import Views
from jax3dret.models.sketch_tower import BARE
from jax3dret.tasks import recipe
from jax3dret.tasks.encoder import from_variables
from jax3dret.tasks.mvhgnn import published
from jax3dret.tasks.mvhgnn.centring import side_means
from jax3dret.tasks.mvhgnn.from_config import (
    SIDES,
    changes_of,
    checked_init,
    frozen_tree,
    losses_of,
    networks_of,
    optimizer_rules,
    prototypes_of,
)
from jax3dret.tasks.mvhgnn.networks import Classes, Networks, embedded_part, mvhgnn_task
from jax3dret.tasks.mvhgnn.prototypes import Prototypes
from jax3dret.tasks.mvhgnn.stages import STAGES, STRATEGIES, Losses
from jax3dret.tasks.mvhgnn.training_data import Inputs, open_sketches, unseen_note
from jax3dret.tasks.view_cnn import views_at_a_time

# Splits of gallery and queries. Both settings train on the seen classes; "zeroshot" asks for
# classes that training never saw.
SETTINGS = {"category": ("test", "test"), "zeroshot": ("unseen", "unseen_test")}

# The table that has the full model on a data set.
PAPERS = {"shrec13": 1, "shrec14": 2}

# Beside those of every task: the number of processes that render views.
PLACE_KEYS = ("views.jobs",)


def defaults() -> ml_collections.ConfigDict:
    """Typed defaults: the spine's, and what this task adds to them."""
    config = configs.spine()
    config.task = "jax3dret.tasks.mvhgnn.experiment"
    config.setting = "category"
    # How many unseen classes the data must have; 0: any. Other than the paper's is a warning.
    config.unseen_classes = 0
    # "shrec13" or "shrec14": the paper's numbers of the very run that this is stand beside it.
    config.paper = ""
    config.strategy = "two_stage"  # or "one_stage", "three_d_to_sketch" (table 7)
    # One of tasks.mvhgnn.stages.STAGES, to run it alone; empty: those of the strategy, in order.
    config.stage = ""
    config.first = {"epochs": 100.0, "batch_size": 32, "lr": 1e-4}  # of the first of two stages
    config.sketches = {
        "name": "",  # prepared data set of drawings, with the class names of config.data.name
        "size": 224,
        # "strokes": cropped to their ink, centred, thickened where thin, resampled by area;
        # "plain": resized as CLIP does it, bicubic, and nothing else (the paper's).
        "prepare": "strokes",
        "copies": 0,  # distorted copies of each that a frozen CNN reads beside the drawing itself
        # Of the copies, which are kept beside the data: runs of other seeds find them there.
        "seed": 0,
        # Distort what a tower reads in training: mirrored, turned by up to 15 degrees.
        "augment": False,
    }
    config.views = {"cameras": "ring12", "size": 224, "jobs": 1}
    config.cnn = {"name": "jax3dret.models.resnet:ResNet"}
    # Imported weights; empty: of the network's own package, where it has one, else random.
    config.cnn_weights = ""
    config.cnn_normalisation = ""  # empty: the network's own, else ImageNet's
    config.model = {"name": "jax3dret.models.mvhgnn:MVHGNN"}
    config.tower = {"name": "jax3dret.models.sketch_tower:PromptedVisionTower"}
    config.tower_weights = ""  # imported CLIP, for PromptedVisionTower
    config.tower_normalisation = "clip"
    # A frozen CNN before the tower, which then reads its features; empty: none.
    config.tower_cnn = {}
    config.tower_cnn_weights = ""
    config.tower_cnn_normalisation = ""
    # Of PromptedVisionTower: "vpt", "layernorm", "prompt_only", "frozen" (table 5). It has prompts
    # where they are trained, unless config.tower.num_prompts says otherwise; behind a frozen one
    # stands a linear layer, which is trained.
    config.tuning = "all"
    config.layernorm_lr = (
        1.0  # factor of the learning rate of the layer norms that "vpt" and "layernorm" train
    )
    config.prototypes = {"name": "jax3dret.tasks.mvhgnn.prototypes:orthogonal"}
    # Width of the prototypes and of the projections p; 0: as their table or text tower has it,
    # and that of the descriptor where they are made. Needed where retrieve_with is "p" and it
    # differs from the descriptor's.
    config.prototype_dim = 0
    config.loss = dataclasses.asdict(Losses())
    config.share_projection = False
    config.retrieve_with = (
        "f"  # the features; "p": their projections into the space of the prototypes
    )
    # After training, the mean of each side over the training split is taken off its embeddings.
    config.centred = False
    config.train.max_steps_per_epoch = (
        0  # 16 is the paper's other reading: 512 quadruplets in an epoch
    )
    config.eval.batch_size = 32
    config.evals.retrieval = {
        "name": "jax3dret.evaluators.shrec:make",
        "gallery_split": "",  # empty: as the setting has it
        "query_split": "",
        "neighbours": 100,
        # Every pair is compared; "tree_ah" searches approximately, and the protocol says so.
        "index": {"kind": "auto", "scoring": "brute_force"},
        "show_views": True,
        "rank_lists": False,  # write them as the SHREC tracks exchange them
    }
    return config


def stages(config: configs.Config) -> tuple[Run, ...]:
    """The runs of an experiment, in order.

    Raises ConfigError for an unknown strategy, setting or stage.
    """
    names = _stage_names(config)
    if len(names) == 1 or config.checkpoint.init_from:
        return (Run(names[-1], _resolved(config)),)
    first = config.with_values(
        {
            "stage": names[0],
            "train.epochs": config.first.epochs,
            "train.steps": -1,
            "train.batch_size": config.first.batch_size,
            "optim.lr": config.first.lr,
        }
    )
    last = _resolved(config.with_values({"stage": names[1]}), begins=False)
    return Run("first", _resolved(first)), Run(names[1], last, starts_from="first")


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """Of a stage that leaves one side as it began: the other one alone."""
    config = _resolved(config)
    return _model(config, networks_of(config, len(class_names)))


def _model(config: configs.Config, networks: Networks) -> Model:
    sides = [side for side in SIDES if side not in STAGES[config.stage].untrained]
    classes = Classes(1, (0,))
    task = mvhgnn_task(
        networks,
        losses_of(config),
        STAGES[config.stage],
        classes,
        Prototypes(np.zeros((1, networks.projection_width), np.float32), False, ""),
        frozen=lambda params: params,
    )

    def init(key: jax.Array) -> PyTree:
        return embedded_part(networks, *task.init(key, {}), sides)

    reads: dict[str, Input] = {
        "shape": Views(config.views.cameras, config.views.size),
        "sketch": Drawing(config.sketches.size, config.sketches.prepare),
    }
    return Model(
        init=init,
        embed=from_variables(task.embed),
        inputs={side: reads[side] for side in sides},
        width=networks.embedding_dim,
        distance=config.distance,
        batch_size=views_at_a_time(len(networks.positions)),
    )


def make(config: configs.Config, open_source: OpenSource) -> Recipe:
    """The recipe of one stage: config.stage, or the last one of the strategy.

    open_source: opens a split of the shapes or, by their name, of the drawings.

    Raises: ConfigError: an unknown setting, settings that contradict each other or the data, a key
        that a component does not take. DataError: a class with drawings but no shapes to train
        with.
    """
    config = _resolved(config)
    configs.check_least(
        config, {"views.size": 8, "views.jobs": 1, "sketches.size": 8, "sketches.copies": 0}
    )
    check_prepare(config.sketches.prepare, "config.sketches.prepare")
    stage, losses = STAGES[config.stage], losses_of(config)
    losses.check(config.stage)
    shapes = open_source(config.train.split)
    class_names = tuple(shapes.class_names)
    note = unseen_note(config, shapes)
    sketches = open_sketches(config, open_source, class_names)
    _check_batch(config, shapes if stage.anchors == "shape" else sketches)
    networks = networks_of(config, len(class_names))
    prototypes = prototypes_of(config, class_names, networks.width, known=bool(len(shapes.labels)))
    networks = _as_wide(networks, prototypes)
    reader = Inputs(networks, config.views.to_dict(), config.sketches.to_dict())
    if len(sketches.labels):
        reader.check(sketches)
    task = mvhgnn_task(
        networks,
        losses,
        stage,
        Classes(
            len(class_names),
            tuple(np.unique(shapes.labels).tolist()) or tuple(range(len(class_names))),
        ),
        prototypes,
        frozen=functools.partial(frozen_tree, config.optim.rules),
    )
    task = checked_init(config, networks, task)

    def data(modality: str, split: str) -> DataSpec:
        recipe.check_modality(modality, ("shape", "sketch", "views"))
        gallery, queries = SETTINGS[config.setting]
        of_sketches = modality == "sketch"
        spec = recipe.evaluation_spec(config, split or (queries if of_sketches else gallery))
        spec = dataclasses.replace(spec, **reader.evaluation(modality))
        if not of_sketches:
            return spec
        return dataclasses.replace(spec, name=config.sketches.name, class_names=class_names)

    made = recipe.build(
        config,
        open_source,
        task,
        rows=reader.rows(stage),
        features=reader.features(stage.anchors),
        arrays=reader.arrays(stage.anchors),
        class_names=class_names if stage.anchors == "sketch" else (),
        training=reader.training(stage, shapes, sketches),
        anchors=shapes if stage.anchors == "shape" else sketches,
        data=data,
        model=_model(config, networks),
        meta={
            "system": "mvhgnn",
            "model": {
                "name": "jax3dret.tasks.mvhgnn.experiment",
                **{key: config[key].to_dict() for key in ("model", "cnn", "tower", "tower_cnn")},
            },
            "views": {"cameras": config.views.cameras, "size": config.views.size},
            "up_axis": "z",
            "sketches": config.sketches.name,
            "sketch_size": config.sketches.size,
            "sketch_prepare": config.sketches.prepare,
            "embedding_dim": networks.embedding_dim,
            "retrieve_with": config.retrieve_with,
            "setting": config.setting,
            "strategy": config.strategy,
            "stage": config.stage,
            "tuning": config.tuning,
            "prototypes": prototypes.name,
            "prototype_dim": networks.projection_width,
            "centred": config.centred,
            "published_note": " ".join(filter(None, (published.NOTE, note))),
        },
    )
    if not config.centred:
        return made
    sides = [side for side in SIDES if side not in stage.untrained]
    fit = functools.partial(
        side_means, data, open_source, config.train.split, networks.embedding_dim, sides
    )
    return dataclasses.replace(made, calibrate=fit)


def _as_wide(networks: Networks, prototypes: Prototypes) -> Networks:
    """The networks with projections as wide as the prototypes.

    Raises ConfigError where the projections are what is embedded, and the config, which is all that
    a trained model is opened with, does not say their width.
    """
    width = prototypes.vectors.shape[1]
    if networks.project and width != networks.projection_width:
        raise ConfigError(
            f"config.retrieve_with=p embeds in the {width} numbers of the prototypes "
            f"({prototypes.name}); set config.prototype_dim={width}"
        )
    return dataclasses.replace(networks, projection_width=width)


def _stage_names(config: configs.Config) -> tuple[str, ...]:
    for key, known in (("setting", SETTINGS), ("strategy", STRATEGIES)):
        if config[key] not in known:
            raise ConfigError(
                f"config.{key} '{config[key]}' is unknown; it is one of: {', '.join(known)}"
            )
    if config.stage and config.stage not in STAGES:
        raise ConfigError(
            f"config.stage '{config.stage}' is unknown; it is one of: {', '.join(STAGES)}"
        )
    return (config.stage,) if config.stage else STRATEGIES[config.strategy]


def _resolved(config: configs.Config, *, begins: bool = True) -> configs.Config:
    """The config of one stage: its name, what it freezes as optimizer rules, a tower without
    prompts where the tuning is of such a one, and CLIP's weights as its start if it `begins` and no
    run stands before it.
    """
    name = _stage_names(config)[-1]
    config = config.with_values({"stage": name})
    changes: dict[str, Any] = {}
    tower = config.tower.to_dict()
    network = configs.resolve(tower["name"], where="config.tower.name")
    if config.tuning in BARE and hasattr(network, "num_prompts"):
        tower = {"num_prompts": 0, **tower}
    if config.tuning == "frozen" and hasattr(network, "linear"):
        tower = {"linear": True, **tower}
    changes["tower"] = tower
    if config.paper:
        changes["published"] = _published(config)
    rules = (
        *optimizer_rules(config, STAGES[name], is_second=name in ("sketch", "shape_to_sketch")),
        (".*", {}),
    )
    if config.optim.rules == ((".*", {}),):
        changes["optim.rules"] = rules
    if begins and config.tower_weights and not config.checkpoint.init_from:
        changes |= {
            "checkpoint.init_from": config.tower_weights,
            "checkpoint.rename": (("^vision/", "sketch/tower/"),),
            "checkpoint.fresh": (
                "(graph|shape_head|sketch_head)/.*",
                "sketch/(?!tower/).*",
                "classifier",
                "prototypes",
            ),
        }
    return config.with_values(changes)


def _published(config: configs.Config) -> dict[str, dict[str, float]]:
    if config.paper not in PAPERS:
        raise ConfigError(
            f"config.paper '{config.paper}' is unknown; it is one of: {', '.join(PAPERS)}, or empty"
        )
    return published.of_run(PAPERS[config.paper], config.setting, changes_of(config))


def _check_batch(config: configs.Config, anchors: Any) -> None:
    """Raises DataError for a batch larger than an epoch, which the second of two stages would
    otherwise meet after the first.
    """
    if len(anchors.labels) and config.train.steps and config.train.batch_size > len(anchors):
        raise DataError(
            f"{anchors.name}, split '{anchors.split}': {len(anchors)} items but a batch of "
            f"{config.train.batch_size}; lower "
            "config.train.batch_size, or config.first.batch_size in the first of two stages"
        )
