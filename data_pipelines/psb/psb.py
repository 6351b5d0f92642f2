"""The Princeton Shape Benchmark as a TFDS data set: clouds with normals and meshes of 1,814 models
from the web of 2003.

Shilane, Min, Kazhdan, Funkhouser: "The Princeton Shape Benchmark", Shape Modeling International
2004. The classes of its two halves differ, so retrieval is measured inside the test half: every
test model asks all other test models.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from data_pipelines.cla import ClaClass, read_cla
from data_pipelines.mesh_records import NUM_POINTS, MeshItem, mesh_examples
from data_pipelines.raw_builder import planned_splits, raw_folder, record_info
from data_pipelines.raw_files import count_notes, missing_notes, packed, places, require_some, sizes
from data_pipelines.records import shape_features
from jax3dret.core.types import DataError

PUBLISHED_COUNTS = {"train": 907, "test": 907}


class _Layout(NamedTuple):
    root: pathlib.Path
    class_names: tuple[str, ...]
    items: dict[str, list[MeshItem]]
    missing: list[str]
    lists: list[pathlib.Path]
    classes: dict[str, int]  # in each half


class Psb(tfds.core.GeneratorBasedBuilder):
    """Princeton Shape Benchmark: 907 train and 907 test models with hierarchical classes; retrieval
    inside the test half.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(
            name="base", description="PSB, base classification: 90 train and 92 test classes"
        ),
        tfds.core.BuilderConfig(
            name="coarse1", description="PSB, classes of like meaning merged: 42 and 38 classes"
        ),
        tfds.core.BuilderConfig(
            name="coarse2", description="PSB, coarser still: a few classes such as vehicle"
        ),
        tfds.core.BuilderConfig(name="coarse3", description="PSB, coarsest: natural and manmade"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir is the unpacked psb_v1, with benchmark/db/<k>/m<N>/m<N>.off and "
        "benchmark/classification/v1/base/train.cla; "
        "it is to be had at shape.cs.princeton.edu/benchmark."
    )
    UP_AXIS = "y"  # of most models; a minority lies or has z up

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
            layout.root, [*layout.lists, *(i.path for part in layout.items.values() for i in part)]
        )
        self.source = {
            "kind": "psb",
            "manual_dir": layout.root.name,
            **count_notes(self.planned, PUBLISHED_COUNTS),
            "classes": layout.classes,
            "retrieval": "inside the test split, self excluded: the classes of the halves differ",
            "points": f"{NUM_POINTS} drawn from each surface, uniform by area",
            "up_axis_from": "looking at the models: y for most",
            **missing_notes(layout.missing),
        }

    @functools.cached_property
    def _layout(self) -> _Layout:
        return _find(raw_folder(self, self._manual_dir), self.builder_config.name)

    def _info(self) -> tfds.core.DatasetInfo:
        features = shape_features(self._layout.class_names, normals=True, mesh=True)
        return record_info(self, features, homepage="https://shape.cs.princeton.edu/benchmark")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        layout = self._layout
        listed = len(layout.missing) + sum(self.planned.values())
        return planned_splits(
            self, layout.root, published=PUBLISHED_COUNTS, missing=layout.missing, listed=listed
        )

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return mesh_examples(self._layout.items[split], skipped=self.skipped, jobs=self._jobs)


def _find(manual_dir: pathlib.Path, level: str) -> _Layout:
    roots = [
        place
        for place in places(manual_dir, depth=2)
        if (place / "classification").is_dir() and (place / "db").is_dir()
    ]
    if not roots:
        raise DataError(
            f"{manual_dir}: no Princeton Shape Benchmark there; a folder with db/ and "
            "classification/ is needed, in it or below"
            f"{packed(manual_dir)}"
        )
    root = roots[0]
    folder = root / "classification" / "v1" / level
    lists = {split: _list_file(folder, split) for split in PUBLISHED_COUNTS}
    halves: dict[str, list[ClaClass]] = {split: read_cla(path) for split, path in lists.items()}
    items: dict[str, list[MeshItem]] = {}
    missing: list[str] = []
    for split, classes in halves.items():
        items[split] = []
        for entry in classes:
            for model in entry.models:
                if not model.isdigit():
                    raise DataError(
                        f"{lists[split]}: '{model}' is no model number; numbers such as 1118 are "
                        "needed"
                    )
                path = root / "db" / str(int(model) // 100) / f"m{model}" / f"m{model}.off"
                if path.is_file():
                    items[split].append(
                        MeshItem(path, f"m{model}", entry.path, path.relative_to(root).as_posix())
                    )
                else:
                    missing.append(path.relative_to(root).as_posix())
    total = len(missing) + sum(len(part) for part in items.values())
    require_some(root, missing, total, "db/<k>/m<N>/m<N>.off is needed")
    names = sorted({entry.path for classes in halves.values() for entry in classes})
    counts = {split: len(classes) for split, classes in halves.items()}
    return _Layout(root, tuple(names), items, missing, list(lists.values()), counts)


def _list_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """train.cla, or coarse1Train.cla as the coarse levels have it."""
    found = [p for p in sorted(folder.glob("*")) if p.name.lower().endswith(f"{split}.cla")]
    if len(found) != 1:
        wanted = (
            f"{split}.cla" if folder.name == "base" else f"{folder.name}{split.capitalize()}.cla"
        )
        there = ", ".join(sorted(p.name for p in folder.parent.glob("*"))) or "nothing"
        raise DataError(f"{folder}: {wanted} is needed there; {folder.parent} holds {there}")
    return found[0]
