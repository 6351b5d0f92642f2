"""The embedded data set as a TFDS builder: nothing is downloaded, every shape is made by its
class's program.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.parametric_shapes.drawings import drawing
from data_pipelines.parametric_shapes.programs import CLASS_NAMES, shape
from data_pipelines.records import shape_features
from data_pipelines.sketch_records import sketch_example, sketch_features
from jax3dret.core.types import DataError
from jax3dret.core.workers import ordered_map
from jax3dret.geometry.normalize import normalize_points
from jax3dret.geometry.sampling import sample_surface
from jax3dret.geometry.views import choose_renderer

logger = logging.getLogger("jax3dret")

# A split draws its shapes from its own range of indices: a larger configuration contains the
# smaller one's shapes split by split, and no shape that one configuration trains on is tested by
# another.
FIRST_INDEX = {"train": 0, "val": 1_000_000, "test": 2_000_000, "unseen": 3_000_000}
# Drawings are of shapes that no set of shapes holds.
FIRST_DRAWN = {
    "train": 4_000_000,
    "test": 5_000_000,
    "unseen_train": 4_000_000,
    "unseen_test": 5_000_000,
}
# A quarter of the classes, of machine parts and of household things, some like a seen class and
# some not.
UNSEEN = ("cabinet", "goblet", "hinge", "pulley", "stool", "tee", "umbrella", "washer")
# The points of a shape come from a generator of their own, so that a changed program leaves it
# alone.
_POINTS_STREAM = 1


@dataclasses.dataclass(kw_only=True)
class ParametricShapesConfig(tfds.core.BuilderConfig):
    """How many shapes per class and split, how many points on each, and the seed of all of them.

    kind: "shapes", or "sketches", drawings of shapes. unseen: the classes of the splits whose names
    begin with "unseen"; the other splits are of the other classes. by_name: class_names are sorted,
    as sets of shapes and of sketches that are compared have them.
    """

    per_class: Mapping[str, int] = dataclasses.field(default_factory=dict)
    num_points: int = 16_384
    seed: int = 0
    kind: str = "shapes"
    unseen: tuple[str, ...] = ()
    by_name: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted(CLASS_NAMES)) if self.by_name else CLASS_NAMES

    def classes(self, split: str) -> tuple[str, ...]:
        """Those that have items in a split, in the order of class_names."""
        return tuple(
            name for name in self.class_names if (name in self.unseen) == split.startswith("unseen")
        )


def _config(name: str, train: int, val: int, test: int, num_points: int) -> ParametricShapesConfig:
    return ParametricShapesConfig(
        name=name,
        description=f"{len(CLASS_NAMES)} classes, per class {train} train, {val} val, {test} test; "
        f"{num_points} points.",
        per_class={"train": train, "val": val, "test": test},
        num_points=num_points,
    )


def _sbr_config(name: str, kind: str, per_class: Mapping[str, int]) -> ParametricShapesConfig:
    """For retrieval of shapes by drawings, of seen and of unseen classes."""
    counts = ", ".join(f"{count} {split}" for split, count in per_class.items())
    return ParametricShapesConfig(
        name=name,
        description=f"{kind.capitalize()}: {len(CLASS_NAMES)} classes, {len(UNSEEN)} of them "
        f"unseen, per class {counts}.",
        per_class=per_class,
        num_points=2048,
        kind=kind,
        unseen=UNSEEN,
        by_name=True,
    )


class ParametricShapes(tfds.core.GeneratorBasedBuilder):
    """Machine parts and household objects made by programs: clouds with normals and closed meshes,
    z up; or drawings of such.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        _config("demo", 24, 8, 10, 2048),
        _config("small", 60, 10, 20, 8192),
        _config("full", 200, 25, 50, 16_384),
        _sbr_config("sbr_demo", "shapes", {"train": 24, "test": 8, "unseen": 8}),
        _sbr_config(
            "sbr_demo_sketches",
            "sketches",
            {"train": 20, "test": 8, "unseen_train": 20, "unseen_test": 8},
        ),
    ]

    def __init__(self, *, jobs: int = 1, **kwargs: Any):
        """jobs: processes that make shapes and drawings; the records do not depend on it."""
        super().__init__(**kwargs)
        self._jobs = jobs
        self.skipped: list[dict[str, str]] = []
        config = self.builder_config
        self.KIND = config.kind
        self.UP_AXIS = "z" if config.kind == "shapes" else None
        self.source: dict[str, Any] = {
            "kind": "generated",
            "seed": config.seed,
            "per_class": dict(config.per_class),
        }
        if config.kind == "shapes":
            self.source["num_points"] = config.num_points
        else:
            self.source["drawn_of"] = "other shapes of the same programs"
            self.source["renderer"] = choose_renderer()
        if config.unseen:
            self.source["unseen_classes"] = list(config.unseen)
        self.planned = {
            split: count * len(config.classes(split)) for split, count in config.per_class.items()
        }

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=sketch_features(config.class_names)
            if config.kind == "sketches"
            else shape_features(config.class_names, normals=True, mesh=True),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        self.skipped.clear()
        per_class = self.builder_config.per_class
        return {
            split: self._generate_examples(split, count)
            for split, count in per_class.items()
            if count > 0
        }

    def _generate_examples(
        self, split: str, per_class: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Class by class, in the order of ids; the key is the place in that order, as an unshuffled
        TFDS data set wants it.
        """
        config = self.builder_config
        sketches = config.kind == "sketches"
        first = (FIRST_DRAWN if sketches else FIRST_INDEX)[split]
        items = [(name, i) for name in config.classes(split) for i in range(per_class)]
        numbers = [(CLASS_NAMES.index(name), config.seed, first + i) for name, i in items]
        arguments = numbers if sketches else [(*each, config.num_points) for each in numbers]
        key = 0
        outcomes = ordered_map(
            functools.partial(_outcome, drawing if sketches else record),
            arguments,
            jobs=self._jobs,
            name=lambda numbers: f"{CLASS_NAMES[numbers[0]]} {numbers[2]}",
            ahead=8,
        )
        for (name, i), outcome in zip(items, outcomes, strict=True):
            identity = f"{name}/{split}_{i:04d}"
            if isinstance(outcome, DataError):
                self.skipped.append({"file": identity, "reason": str(outcome)})
                logger.warning("parametric_shapes: %s left out: %s", identity, outcome)
                continue
            yield (
                key,
                sketch_example(identity, name, outcome)
                if sketches
                else {"id": identity, "label": name, **outcome},
            )
            key += 1


def _outcome(function: Callable[..., Any], numbers: tuple[int, ...]) -> Any:
    """function(*numbers), or the DataError that it raised."""
    try:
        return function(*numbers)
    except DataError as error:
        return error


def record(label: int, seed: int, index: int, num_points: int) -> dict[str, np.ndarray]:
    """The arrays of one shape: points in the unit ball with normals, and the mesh in the same
    frame.

    The centroid and the scale are those of the points: vertices = (mesh - centroid) / scale.

    Raises:
        DataError: the program of the class left no valid solid.
    """
    mesh = shape(label, seed, index)
    rng = np.random.default_rng(np.random.SeedSequence([seed, label, index, _POINTS_STREAM]))
    surface, normals = sample_surface(mesh, num_points, rng)
    points, centroid, scale = normalize_points(surface)
    return {
        "points": points,
        "normals": normals.astype(np.float32),
        "vertices": ((mesh.vertices - centroid) / scale).astype(np.float32),
        "faces": mesh.faces,
        "centroid": centroid.astype(np.float32),
        "scale": np.float32(scale),
    }
