"""ScanObjectNN as a TFDS data set: clouds of objects cut from scans of real rooms, in the h5 files
of its authors.

Uy, Pham, Hua, Nguyen, Yeung: "Revisiting Point Cloud Classification: A New Benchmark Dataset and
Classification Model on Real-World Data", ICCV 2019. The paper "ULIP-2 PointBERT fine-tuning for
geometric object retrieval" (Computers & Graphics 122 (2024) 103993) evaluates on the objects
without background.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.cached_clouds import POINTS, Cache, cloud_examples, find_cache, has_cache
from data_pipelines.mesh_records import cloud_record
from data_pipelines.raw_builder import planned_splits, raw_folder, record_info
from data_pipelines.raw_files import count_notes, open_hdf5, packed, places, sizes
from data_pipelines.records import shape_features
from data_pipelines.split_table import SplitTable, find_split_table
from jax3dret.core.types import DataError

logger = logging.getLogger("jax3dret")

# In the order of the labels in the files.
CLASS_NAMES = (
    "bag",
    "bin",
    "box",
    "cabinet",
    "chair",
    "desk",
    "display",
    "door",
    "shelf",
    "table",
    "bed",
    "pillow",
    "sink",
    "sofa",
    "toilet",
)
_STEM, _FOLDER = "scanobjectnn", "main_split_nobg"
_PREFIX = {"train": "training", "test": "test"}


@dataclasses.dataclass(eq=False)
class ScanobjectnnConfig(tfds.core.BuilderConfig):
    """folder and ending of the two files, "<folder>/{training,test}_<ending>", and how many clouds
    were published in them.
    """

    folder: str = ""
    ending: str = "objectdataset.h5"
    counts: tuple[int, int] = (2309, 581)


class _Rows(NamedTuple):
    """One split. rows: (row in the file, id, label)."""

    file: pathlib.Path
    rows: list[tuple[int, str, int]]


class Scanobjectnn(tfds.core.GeneratorBasedBuilder):
    """ScanObjectNN: 2,890 scanned objects of 15 classes, main split, 2,048 points each."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        ScanobjectnnConfig(
            name="obj_only",
            description="ScanObjectNN, objects alone: 2,890 clouds of 15 classes",
            folder=_FOLDER,
        ),
        ScanobjectnnConfig(
            name="obj_bg",
            description="ScanObjectNN, objects with background: 2,890 clouds",
            folder="main_split",
        ),
        ScanobjectnnConfig(
            name="hardest",
            description="ScanObjectNN, moved, turned and scaled boxes (PB_T50_RS): 14,298 clouds",
            folder="main_split",
            ending="objectdataset_augmentedrot_scale75.h5",
            counts=(11_416, 2_882),
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir is the unpacked h5_files.zip, with main_split_nobg/training_objectdataset.h5 "
        "and main_split/; it is to be had "
        "at hkust-vgd.github.io/scanobjectnn. For obj_only also the ULIP-2 paper's cached clouds "
        "with "
        "scanobjectnn_v0.json."
    )
    UP_AXIS = "y"

    def __init__(self, *, manual_dir: str | pathlib.Path | None = None, **kwargs: Any):
        self._manual_dir = manual_dir
        self.skipped: list[dict[str, str]] = []
        super().__init__(**kwargs)
        if self._cache:
            items = self._cache.items
            self.planned = {split: len(part) for split, part in items.items()}
            paths = [item.path for part in items.values() for item in part]
            self.files = sizes(self._cache.root, [self._cache.table.file, *paths])
            return
        splits = self._splits
        self.planned = {split: len(part.rows) for split, part in splits.items()}
        paths = [part.file for part in splits.values()] + (
            [self._table.file] if self._table else []
        )
        self.files = sizes(self._root, paths)

    @functools.cached_property
    def _root(self) -> pathlib.Path:
        return raw_folder(self, self._manual_dir)

    @functools.cached_property
    def _table(self) -> SplitTable | None:
        """The published split numbers the rows of the files with and without background; PB_T50_RS
        has others.
        """
        return (
            None if self.builder_config.name == "hardest" else find_split_table(self._root, _STEM)
        )

    @functools.cached_property
    def _cache(self) -> Cache | None:
        """The paper's cached clouds of the objects without background, where the h5 files are not
        there.
        """
        here = places(self._root, depth=2)
        if self.builder_config.name != "obj_only" or any(p.name == _FOLDER for p in here):
            return None
        found = (find_cache(p, _STEM) for p in places(self._root) if has_cache(p, _STEM))
        return next(found, None)

    @functools.cached_property
    def _splits(self) -> dict[str, _Rows]:
        folder = _folder(self._root, self.builder_config)
        splits = {}
        for split, prefix in _PREFIX.items():
            path = folder / f"{prefix}_{self.builder_config.ending}"
            labels = _labels(path)
            rows = [(row, f"{split}_{row}", int(label)) for row, label in enumerate(labels)]
            splits[split] = _Rows(path, rows)
        return _honoured(splits, self._table) if self._table else splits

    @functools.cached_property
    def source(self) -> dict[str, Any]:
        """Where the clouds come from, for the manifest."""
        published = dict(zip(_PREFIX, self.builder_config.counts, strict=True))
        if self._cache:
            counts = count_notes(self.planned, published)
            return {
                "kind": "npy",
                "manual_dir": self._cache.root.name,
                **counts,
                "points": POINTS,
                **self._cache.notes,
            }
        return {
            "kind": "scanobjectnn_h5",
            "manual_dir": self._root.name,
            **count_notes(self.planned, published),
            "split_file": self._table.file.name if self._table else None,
            "sha256": {part.file.name: _sha256(part.file) for part in self._splits.values()},
        }

    def _info(self) -> tfds.core.DatasetInfo:
        table = self._cache.table if self._cache else self._table
        names = table.class_names if table else CLASS_NAMES
        features = shape_features(names, normals=False, mesh=False)
        return record_info(self, features, homepage="https://hkust-vgd.github.io/scanobjectnn")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        published = dict(zip(_PREFIX, self.builder_config.counts, strict=True))
        cache = self._cache
        return planned_splits(
            self,
            self._root,
            published=published,
            missing=cache.missing if cache else (),
            listed=len(cache.table.rows) if cache else 0,
        )

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._cache:
            yield from cloud_examples(self._cache.items[split], skipped=self.skipped)
            return
        path, rows = self._splits[split]
        with open_hdf5(path) as file:
            clouds = np.asarray(file["data"])
        names = self.info.features["label"].names
        for row, identity, label in rows:
            try:
                example = cloud_record(clouds[row], identity)
            except DataError as error:
                self.skipped.append({"file": f"{path.name}: row {row}", "reason": str(error)})
                continue
            yield identity, {**example, "label": names[label]}


def _folder(root: pathlib.Path, config: ScanobjectnnConfig) -> pathlib.Path:
    wanted = [f"{prefix}_{config.ending}" for prefix in _PREFIX.values()]
    found = [place for place in places(root, depth=2) if place.name == config.folder]
    if not found:
        raise DataError(
            f"{root}: no folder {config.folder} in it or below; {config.folder}/{wanted[0]} and "
            f"{wanted[1]} are needed{packed(root)}"
        )
    lacking = [name for name in wanted if not (found[0] / name).is_file()]
    if lacking:
        there = ", ".join(sorted(path.name for path in found[0].iterdir())) or "nothing"
        raise DataError(
            f"{found[0]}: {' and '.join(lacking)} missing; it holds {there}{packed(found[0])}"
        )
    return found[0]


def _labels(path: pathlib.Path) -> np.ndarray:
    with open_hdf5(path) as file:
        shapes = {key: file[key].shape for key in ("data", "label") if key in file}
        if len(shapes) < 2:
            raise DataError(
                f"{path}: has {', '.join(file) or 'nothing'}; 'data' [n, points, 3] and 'label' "
                "[n] are needed"
            )
        labels = np.asarray(file["label"]).reshape(-1)
    if len(shapes["data"]) != 3 or shapes["data"][2] != 3:
        raise DataError(f"{path}: 'data' has the shape {shapes['data']}; [n, points, 3] is needed")
    if len(labels) != shapes["data"][0]:
        raise DataError(
            f"{path}: {len(labels)} labels for {shapes['data'][0]} clouds; one each is needed"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= len(CLASS_NAMES)):
        worst = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise DataError(f"{path}: label {worst}; labels are 0 to {len(CLASS_NAMES) - 1}")
    return labels


def _honoured(splits: dict[str, _Rows], table: SplitTable) -> dict[str, _Rows]:
    """The rows that the published split lists, in its splits and with its labels, which must be
    those of the files.
    """
    at = {
        identity: (split, row, label)
        for split, part in splits.items()
        for row, identity, label in part.rows
    }
    kept: dict[str, list[tuple[int, str, int]]] = {split: [] for split in splits}
    for sample in table.rows:
        if sample.key not in at:
            numbers = ", ".join(f"{part.file.name} {len(part.rows)}" for part in splits.values())
            raise DataError(
                f"{table.file}: lists '{sample.key}', but the files have fewer rows ({numbers}); "
                "not its h5 files"
            )
        split, row, label = at[sample.key]
        if CLASS_NAMES[label] != sample.label or split != sample.split:
            raise DataError(
                f"{table.file}: '{sample.key}' is {sample.split} and '{sample.label}', but row "
                f"{row} of {splits[split].file.name} is "
                f"'{CLASS_NAMES[label]}'; the split is of other h5 files"
            )
        kept[split].append((row, sample.key, table.class_names.index(sample.label)))
    return {split: _Rows(splits[split].file, sorted(rows)) for split, rows in kept.items()}


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
