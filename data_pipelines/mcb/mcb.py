"""The Mechanical Components Benchmark as a TFDS data set: clouds with normals and meshes of machine
parts.

Kim, Chi, Hu, Huang, Ramani: "A Large-scale Annotated Mechanical Components Benchmark for
Classification and Retrieval Tasks with Deep Neural Networks", ECCV 2020. The paper "ULIP-2
PointBERT fine-tuning for geometric object retrieval" (Computers & Graphics 122 (2024) 103993)
evaluates on its part A.
"""

from __future__ import annotations

import functools
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.cached_clouds import POINTS, cloud_examples
from data_pipelines.mcb.scan import Scan, scan
from data_pipelines.mesh_records import NUM_POINTS, mesh_examples
from data_pipelines.raw_builder import planned_splits, raw_folder, record_info
from data_pipelines.records import shape_features

logger = logging.getLogger("jax3dret")


class Mcb(tfds.core.GeneratorBasedBuilder):
    """Mechanical Components Benchmark (part A: 58,696 parts of 68 classes), or your own parts in
    its layout.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir is the unpacked part A (or B) of the Mechanical Components Benchmark, with "
        "train/<class>/<id>.obj and "
        "test/<class>/<id>.obj; it is to be had at mechanical-components.herokuapp.com. Or the "
        "ULIP-2 "
        "paper's cached clouds with mcb_v0.json."
    )
    # Nothing in the data set says which way is up, and not all parts have one; OBJ is mostly
    # written with y up.
    UP_AXIS = "y"

    def __init__(
        self, *, manual_dir: str | pathlib.Path | None = None, jobs: int = 1, **kwargs: Any
    ):
        """jobs: processes that read meshes; the records do not depend on it."""
        self._manual_dir = manual_dir
        self._jobs = jobs
        self.skipped: list[dict[str, str]] = []
        super().__init__(**kwargs)
        self.files = self._scan.files
        self.planned = {split: len(items) for split, items in self._scan.items.items()}
        self.source = {
            **self._scan.notes,
            "points": f"{NUM_POINTS} drawn from each surface, uniform by area"
            if self._meshes
            else POINTS,
            "up_axis_from": "assumed",
        }

    @functools.cached_property
    def _scan(self) -> Scan:
        return scan(raw_folder(self, self._manual_dir))

    @property
    def _meshes(self) -> bool:
        return bool(self._scan.notes["kind"] != "npy")

    def _info(self) -> tfds.core.DatasetInfo:
        meshes = self._meshes
        features = shape_features(self._scan.class_names, normals=meshes, mesh=meshes)
        return record_info(self, features, homepage="https://mechanical-components.herokuapp.com")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        found = self._scan
        if found.remark:
            logger.warning("mcb: %s %s", found.root, found.remark)
        return planned_splits(self, found.root, missing=found.missing, listed=found.listed)

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        items = self._scan.items[split]
        if not self._meshes:
            return cloud_examples(items, skipped=self.skipped)
        return mesh_examples(items, skipped=self.skipped, jobs=self._jobs)
