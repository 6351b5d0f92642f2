"""ModelNet10 and ModelNet40 as TFDS data sets: meshes with points drawn from them, or point clouds,
from any of the four forms they are passed around in.

Wu et al., "3D ShapeNets: A Deep Representation for Volumetric Shapes", CVPR 2015. The paper "ULIP-2
PointBERT fine-tuning for geometric object retrieval" (Computers & Graphics 122 (2024) 103993)
evaluates on ModelNet40 with 16,000 points drawn from each mesh.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.mesh_records import NUM_POINTS, cloud_record, mesh_examples
from data_pipelines.modelnet.layouts import ORIGIN, Layout, find_layout
from data_pipelines.raw_builder import MANUAL_FLAGS, record_info
from data_pipelines.records import shape_features
from jax3dret.core.types import ConfigError, DataError

logger = logging.getLogger("jax3dret")

OFFICIAL_COUNTS = {"10": {"train": 3991, "test": 908}, "40": {"train": 9843, "test": 2468}}


@dataclasses.dataclass(eq=False)
class ModelnetConfig(tfds.core.BuilderConfig):
    """num_points: how many points are drawn from each mesh; clouds that come as points keep theirs."""

    num_points: int = NUM_POINTS


class Modelnet(tfds.core.GeneratorBasedBuilder):
    """ModelNet: CAD shapes of everyday things with the official split."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {  # noqa: RUF012
        "1.1.0": "Records of OFF files hold their meshes.",
        "1.0.0": "First version.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012
        ModelnetConfig(
            name="10",
            description="ModelNet10: 4,899 shapes of 10 classes, official split",
        ),
        ModelnetConfig(
            name="40",
            description="ModelNet40: 12,311 shapes of 40 classes, official split",
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"manual_dir is the unpacked folder. {ORIGIN}"
    UP_AXIS = "z"  # of the meshes; an instance sets that of its source

    def __init__(
        self, *, manual_dir: str | pathlib.Path | None = None, jobs: int = 1, **kwargs: Any
    ):
        """jobs: processes that read meshes; the records do not depend on it."""
        self._manual_dir = manual_dir
        self._jobs = jobs
        self.skipped: list[dict[str, str]] = []
        super().__init__(**kwargs)
        layout = self._layout
        self.UP_AXIS = layout.up_axis
        self.files = layout.files
        self.planned = layout.counts

    @functools.cached_property
    def _layout(self) -> Layout:
        if self._manual_dir is None:
            raise ConfigError(
                f"modelnet needs manual_dir, with {MANUAL_FLAGS}. "
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        return find_layout(pathlib.Path(self._manual_dir), int(self.builder_config.name))

    @functools.cached_property
    def source(self) -> dict[str, Any]:
        """Where the records come from, for the manifest."""
        drawn = f"{self.builder_config.num_points} drawn from each surface, uniform by area"
        layout, official = self._layout, OFFICIAL_COUNTS[self.builder_config.name]
        return {
            "kind": layout.kind,
            "manual_dir": layout.root.name,
            "counts": dict(layout.counts),
            "official_counts": official,
            "complete": dict(layout.counts) == official,
            "sha256": layout.checksums(),
            **({"points": drawn} if layout.meshes else {}),
            **layout.notes,
        }

    def _info(self) -> tfds.core.DatasetInfo:
        features = shape_features(
            self._layout.class_names,
            normals=self._layout.normals,
            mesh=bool(self._layout.meshes),
        )
        return record_info(self, features, homepage="https://modelnet.cs.princeton.edu")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        counts, official = self._layout.counts, OFFICIAL_COUNTS[self.builder_config.name]
        for split in official:
            if counts.get(split, 0) != official[split]:
                logger.warning(
                    "modelnet/%s: %s has %d shapes in the split '%s', the official data set %d",
                    self.builder_config.name,
                    self._layout.root,
                    counts.get(split, 0),
                    split,
                    official[split],
                )
        return {split: self._generate_examples(split) for split in counts}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._layout.meshes:
            yield from mesh_examples(
                self._layout.meshes[split],
                skipped=self.skipped,
                num_points=self.builder_config.num_points,
                jobs=self._jobs,
            )
            return
        for identity, label, read in self._layout.clouds(split):
            try:
                points, normals = read()
                example = cloud_record(points, identity)
            except DataError as error:
                reason = str(error).removeprefix(f"{self._layout.root}/")
                self.skipped.append({"file": f"{split}: {identity}", "reason": reason})
                continue
            example["label"] = label
            if normals is not None:
                example["normals"] = np.asarray(normals, np.float32)
            yield identity, example
