"""ShapeNetCore55 with the split of the SHREC'16 and SHREC'17 tracks as a TFDS data set of clouds
with normals and meshes.

Chang et al.: "ShapeNet: An Information-Rich 3D Model Repository", 2015; Savva et al.: "Large-Scale
3D Shape Retrieval from ShapeNet Core55", SHREC 2016. The paper "ULIP-2 PointBERT fine-tuning for
geometric object retrieval" (Computers & Graphics 122 (2024) 103993) evaluates on the aligned
("normal") and on the randomly rotated ("perturbed") models.
"""

from __future__ import annotations

import functools
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.cached_clouds import POINTS, cloud_examples
from data_pipelines.mesh_records import NUM_POINTS, mesh_examples
from data_pipelines.raw_builder import planned_splits, raw_folder, record_info
from data_pipelines.raw_files import count_notes, missing_notes, sizes
from data_pipelines.records import shape_features
from data_pipelines.shapenet.layouts import PER_CLASS, Layout, find_layout
from data_pipelines.shapenet.synsets import TEN

logger = logging.getLogger("jax3dret")

# As evaluations on the track state it (Hamdi et al., MVTN, ICCV 2021); the track's page says about
# 51,300 models.
TRACK_COUNTS = {"train": 35_764, "val": 5_133, "test": 10_265}
PUBLISHED_COUNTS = {
    "normal": TRACK_COUNTS,
    "perturbed": TRACK_COUNTS,
    "ten": {"train": PER_CLASS * len(TEN), "test": PER_CLASS * len(TEN)},
}
CLASSES = {"normal": 55, "perturbed": 55, "ten": 10}


class Shapenet(tfds.core.GeneratorBasedBuilder):
    """ShapeNetCore55: 51,162 models of 55 classes with the split of the SHREC'16 track."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(
            name="normal", description="ShapeNetCore55, aligned: 51,162 models of 55 classes"
        ),
        tfds.core.BuilderConfig(
            name="perturbed", description="ShapeNetCore55, each model turned at random"
        ),
        tfds.core.BuilderConfig(
            name="ten", description="ShapeNetCore: ten largest classes, 50 train and 50 test each"
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir holds all.csv, or train.csv, val.csv and test.csv, and the unpacked models: "
        "{train,val,test}_normal.zip and "
        "{train,val,test}_perturbed.zip of the SHREC tracks (shapenet.cs.stanford.edu/shrec17), or "
        "ShapeNetCore.v2.zip "
        "(shapenet.org); or the ULIP-2 paper's cached clouds with "
        "shapenet_{normal,perturbed}_coarse_v0.json."
    )
    UP_AXIS = "y"  # perturbed models have none

    def __init__(
        self, *, manual_dir: str | pathlib.Path | None = None, jobs: int = 1, **kwargs: Any
    ):
        """jobs: processes that read meshes; the records do not depend on it."""
        self._manual_dir = manual_dir
        self._jobs = jobs
        self.skipped: list[dict[str, str]] = []
        super().__init__(**kwargs)
        layout = self._layout
        self.planned = {split: len(items) for split, items in layout.items.items()}
        self.files = sizes(
            layout.root, [*layout.tables, *(i.path for part in layout.items.values() for i in part)]
        )
        self.source = {
            "kind": layout.kind,
            "manual_dir": layout.root.name,
            **count_notes(self.planned, PUBLISHED_COUNTS[self.builder_config.name]),
            **layout.notes,
            "points": POINTS
            if layout.kind == "npy"
            else f"{NUM_POINTS} drawn from each surface, uniform by area",
            **missing_notes(layout.missing),
        }

    @functools.cached_property
    def _layout(self) -> Layout:
        return find_layout(raw_folder(self, self._manual_dir), self.builder_config.name)

    def _info(self) -> tfds.core.DatasetInfo:
        meshes = self._layout.kind != "npy"
        features = shape_features(self._layout.class_names, normals=meshes, mesh=meshes)
        return record_info(self, features, homepage="https://shapenet.org")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        config, layout = self.builder_config.name, self._layout
        name = f"shapenet/{config}"
        published = PUBLISHED_COUNTS[config]
        splits = planned_splits(
            self, layout.root, published=published, missing=layout.missing, listed=layout.listed
        )
        if len(layout.class_names) != CLASSES[config]:
            logger.warning(
                "%s: %d classes, the data set has %d",
                name,
                len(layout.class_names),
                CLASSES[config],
            )
        if layout.notes["unknown_synsets"]:
            logger.warning(
                "%s: synsets without a name: %s", name, ", ".join(layout.notes["unknown_synsets"])
            )
        return splits

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        items = self._layout.items[split]
        if self._layout.kind == "npy":
            return cloud_examples(items, skipped=self.skipped)
        return mesh_examples(items, skipped=self.skipped, jobs=self._jobs)
