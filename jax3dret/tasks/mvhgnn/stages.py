"""The stages of training: which sides learn in each, on which terms of the loss, and whether what
retrieval reads learns at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, get_args

from jax3dret.core.types import ConfigError
from jax3dret.losses.quadruplet import Metric


class Stage(NamedTuple):
    """What one run trains, and which items its batches hold.

    anchors: "shape" or "sketch", the side that an epoch passes over. quadruplets: whether each
    anchor comes with a right and a wrong item of the other side and a wrong one of its own. trains:
    the sides that learn. untrained: sides that are as they began when it ends, whose embedding
    means nothing yet.
    """

    anchors: str
    quadruplets: bool
    trains: tuple[str, ...]
    untrained: tuple[str, ...] = ()


# The paper's two stages and its single one (sections 3.4 and 3.5), and what table 7 compares them
# with.
STAGES = {
    # Equation 13.
    "shape": Stage("shape", quadruplets=False, trains=("shape",), untrained=("sketch",)),
    # Equation 15, on the frozen shapes.
    "sketch": Stage("sketch", quadruplets=True, trains=("sketch",)),
    # Equation 16.
    "joint": Stage("sketch", quadruplets=True, trains=("shape", "sketch")),
    "sketch_alone": Stage("sketch", quadruplets=False, trains=("sketch",), untrained=("shape",)),
    "shape_to_sketch": Stage("shape", quadruplets=True, trains=("shape",)),
}
STRATEGIES = {
    "two_stage": ("shape", "sketch"),
    "one_stage": ("joint",),
    "three_d_to_sketch": ("sketch_alone", "shape_to_sketch"),
}
# What reads each side: in the parameters, the state, or both.
PARTS = {"shape": ("graph", "cnn"), "sketch": ("sketch", "tower_cnn")}


@dataclasses.dataclass(frozen=True)
class Losses:
    """Which terms are on, and their settings; equations 10 to 16 of the paper, every weight 1.

    cls_joint: whether the stage that trains both sides has the "cls" terms too; the paper's, which
    is zero-shot, has not.
    """

    cls_3d: bool = True
    cls_ske: bool = True
    cls_joint: bool = True
    sem_3d: bool = True
    sem_ske: bool = True
    quad: bool = True
    temperature: float = 0.07
    scale: float = 15.0
    margin: float = 0.3
    smoothing: float = 0.0
    quad_margin: float = 1.0
    quad_metric: str = "unit_euclidean"

    def of(self, stage: str) -> Losses:
        """With the terms that a stage has."""
        cls = self.cls_joint or stage != "joint"
        return dataclasses.replace(self, cls_3d=self.cls_3d and cls, cls_ske=self.cls_ske and cls)

    def on(self, term: str, side: str) -> bool:
        """Whether "cls" or "sem" is on for a side."""
        return bool(getattr(self, f"{term}_{'3d' if side == 'shape' else 'ske'}"))

    def check(self, stage: str) -> None:
        """Raises ConfigError for a distance that there is none, or if no term of a stage is on."""
        if self.quad_metric not in get_args(Metric):
            raise ConfigError(
                f"config.loss.quad_metric '{self.quad_metric}' is unknown; it is one of: "
                f"{', '.join(get_args(Metric))}"
            )
        of = STAGES[stage]
        terms = [
            f"{term}_{'3d' if side == 'shape' else 'ske'}"
            for side in of.trains
            for term in ("cls", "sem")
        ]
        terms += ["quad"] if of.quadruplets else []
        if not any(getattr(self, term) for term in terms):
            raise ConfigError(
                f"config.loss: every term of the stage '{stage}' is off; leave on one of "
                f"{', '.join(terms)}"
            )

    def reaches(self, side: str, stage: Stage) -> bool:
        """Whether a term has a gradient for the features of a side that a stage trains."""
        own = self.on("cls", side) or self.on("sem", side)
        return own or (stage.quadruplets and self.quad)


def check_reach(
    name: str, losses: Losses, trained: Mapping[str, bool], *, read: Mapping[str, str]
) -> None:
    """Raises ConfigError where a stage would train nothing that retrieval reads, or would leave a
    part of it as it began: all that is scored then is where the training started.

    trained: by the name of each part of the parameters, whether the optimizer changes anything of
    it. read: side -> the projection that its embedding passes; empty where it passes none.
    """
    stage = STAGES[name]
    learns = [side for side in stage.trains if trained.get(PARTS[side][0], False)]
    said = {"shape": "shapes (config.model)", "sketch": "drawings (config.tower)"}
    if not learns:
        what = " and of the ".join(said[side] for side in stage.trains)
        raise ConfigError(
            f"the stage '{name}' trains nothing of what retrieval reads: every parameter of the "
            f"encoder of the {what} is frozen by config.tuning or config.optim.rules, or there is "
            "none; set config.train.steps=0 to score it as it is, or train some of it"
        )
    for side in learns:
        short = "3d" if side == "shape" else "ske"
        if not losses.reaches(side, stage):
            quad = ", config.loss.quad" if stage.quadruplets else ""
            raise ConfigError(
                f"the stage '{name}' trains the encoder of the {said[side]}, but no loss reaches "
                f"it; leave on one of config.loss.cls_{short}, config.loss.sem_{short}{quad}"
            )
    for side in stage.trains:
        if read.get(side) and trained.get(read[side]) and not losses.on("sem", side):
            short = "3d" if side == "shape" else "ske"
            raise ConfigError(
                f"config.retrieve_with=p reads a projection of the {said[side]} that no loss of "
                f"the stage '{name}' trains; leave on config.loss.sem_{short}, or retrieve with f"
            )
