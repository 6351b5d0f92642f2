"""Objaverse Easy as a TFDS data set: the classes of Objaverse-LVIS with at least 100 samples.

Deitke et al.: "Objaverse: A Universe of Annotated 3D Objects", CVPR 2023. The selection is that of
the paper "ULIP-2 PointBERT fine-tuning for geometric object retrieval" (Computers & Graphics 122
(2024) 103993), section 4.2.
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
from data_pipelines.objaverse_lvis.samples import Layout, find_layout
from data_pipelines.raw_builder import planned_splits, raw_folder, record_info
from data_pipelines.raw_files import count_notes, sizes
from data_pipelines.records import shape_features

logger = logging.getLogger("jax3dret")

PUBLISHED_COUNTS = {"train": 6142, "val": 833, "test": 1018}
CLASSES = 76


class ObjaverseLvis(tfds.core.GeneratorBasedBuilder):
    """Objaverse Easy: 7,993 objects of the 76 LVIS classes with at least 100 samples."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(
            name="easy",
            description="Objaverse-LVIS, 76 classes with 100 samples or more: 7,993 objects",
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir holds hf-objaverse-v1/glbs/*/<uid>.glb (or cached clouds <uid>.npy) and the "
        "published split file "
        "objaverse_easy_v0.json, or lvis-annotations.json; objects and annotations are to be had "
        "at objaverse.allenai.org."
    )
    UP_AXIS = "y"  # glTF's specification

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
            self._root, [*layout.lists, *(i.path for part in layout.items.values() for i in part)]
        )
        drawn = (
            f"{NUM_POINTS} drawn from each surface, uniform by area"
            if layout.kind == "glb"
            else POINTS
        )
        self.source = {
            "manual_dir": self._root.name,
            **layout.notes,
            **count_notes(self.planned, PUBLISHED_COUNTS),
            "points": drawn,
        }

    @property
    def _root(self) -> pathlib.Path:
        return raw_folder(self, self._manual_dir)

    @functools.cached_property
    def _layout(self) -> Layout:
        return find_layout(self._root)

    def _info(self) -> tfds.core.DatasetInfo:
        meshes = self._layout.kind == "glb"
        features = shape_features(self._layout.class_names, normals=meshes, mesh=meshes)
        return record_info(self, features, homepage="https://objaverse.allenai.org")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        layout, published = self._layout, PUBLISHED_COUNTS
        splits = planned_splits(
            self, self._root, published=published, missing=layout.missing, listed=layout.listed
        )
        if len(layout.class_names) != CLASSES:
            name = f"objaverse_lvis/{self.builder_config.name}"
            logger.warning(
                "%s: %d classes, Objaverse Easy has %d", name, len(layout.class_names), CLASSES
            )
        return splits

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        items = self._layout.items[split]
        if self._layout.kind == "glb":
            yield from mesh_examples(items, skipped=self.skipped, jobs=self._jobs)
            return
        yield from cloud_examples(items, skipped=self.skipped)
