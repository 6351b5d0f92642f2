"""The embedded data set as a TFDS builder: nothing is downloaded, every shape is made by its class's program."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.parametric_shapes.programs import CLASS_NAMES, shape
from data_pipelines.records import shape_features
from jax3dret.core.types import DataError
from jax3dret.geometry.meshes import normalize_points
from jax3dret.geometry.sampling import sample_surface

logger = logging.getLogger("jax3dret")

# A split draws its shapes from its own range of indices: a larger configuration contains the smaller one's shapes split by split, and no
# shape that one configuration trains on is tested by another.
FIRST_INDEX = {"train": 0, "val": 1_000_000, "test": 2_000_000}
_POINTS_STREAM = (
    1  # the points of a shape come from a generator of their own, so that a changed program leaves it alone
)


@dataclasses.dataclass(kw_only=True)
class ParametricShapesConfig(tfds.core.BuilderConfig):
    """How many shapes per class and split, how many points on each, and the seed of all of them."""

    per_class: Mapping[str, int] = dataclasses.field(default_factory=dict)
    num_points: int = 16_384
    seed: int = 0


def _config(name: str, train: int, val: int, test: int, num_points: int) -> ParametricShapesConfig:
    return ParametricShapesConfig(
        name=name,
        description=f"{len(CLASS_NAMES)} classes, per class {train} train, {val} val, {test} test; {num_points} points.",
        per_class={"train": train, "val": val, "test": test},
        num_points=num_points,
    )


class ParametricShapes(tfds.core.GeneratorBasedBuilder):
    """Machine parts and household objects made by programs: clouds with normals and closed meshes, z up."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        _config("demo", 24, 8, 10, 2048),
        _config("small", 60, 10, 20, 8192),
        _config("full", 200, 25, 50, 16_384),
    ]
    UP_AXIS = "z"

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.skipped: list[dict[str, str]] = []
        config = self.builder_config
        self.source = {
            "kind": "generated",
            "seed": config.seed,
            "per_class": dict(config.per_class),
            "num_points": config.num_points,
        }
        self.planned = {split: count * len(CLASS_NAMES) for split, count in config.per_class.items()}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=shape_features(CLASS_NAMES, normals=True, mesh=True),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        self.skipped.clear()
        per_class = self.builder_config.per_class
        return {split: self._generate_examples(split, count) for split, count in per_class.items() if count > 0}

    def _generate_examples(self, split: str, per_class: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Class by class, in the order of ids; the key is the place in that order, as an unshuffled TFDS data set wants it."""
        key = 0
        for label, name in enumerate(CLASS_NAMES):
            for i in range(per_class):
                identity = f"{name}/{split}_{i:04d}"
                try:
                    example = record(
                        label, self.builder_config.seed, FIRST_INDEX[split] + i, self.builder_config.num_points
                    )
                except DataError as error:
                    self.skipped.append({"file": identity, "reason": str(error)})
                    logger.warning("parametric_shapes: %s left out: %s", identity, error)
                    continue
                yield key, {"id": identity, "label": name, **example}
                key += 1


def record(label: int, seed: int, index: int, num_points: int) -> dict[str, np.ndarray]:
    """The arrays of one shape: points in the unit ball with normals, and the mesh in the same frame.

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
