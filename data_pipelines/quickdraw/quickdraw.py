"""Quick, Draw! as a TFDS data set of sketches: drawings of 345 categories by players of a game,
rasterised from their strokes.

Ha, Eck: "A Neural Representation of Sketch Drawings", ICLR 2018, made for which the data set was
published (CC BY 4.0, Google).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.folders import walk
from data_pipelines.quickdraw.strokes import STROKE, Line, rasterise, read_lines, require_kind
from data_pipelines.raw_builder import raw_folder, record_info
from data_pipelines.raw_files import packed, sizes
from data_pipelines.sketch_records import sketch_example, sketch_features
from jax3dret.core.types import DataError
from jax3dret.core.workers import ordered_map

CATEGORIES = 345
_TEST_OF_TEN = 2  # tenths of the drawings that are test


@dataclasses.dataclass(eq=False)
class QuickdrawConfig(tfds.core.BuilderConfig):
    """files: "simplified" or "raw". per_class: the first so many usable drawings of a category;
    None: all. recognized: only these.
    """

    files: str = "simplified"
    per_class: int | None = 1_000
    recognized: bool = True


class _Layout(NamedTuple):
    folder: pathlib.Path
    files: dict[str, pathlib.Path]  # category: file


def _config(
    name: str, files: str, per_class: int | None, *, recognized: bool = True
) -> QuickdrawConfig:
    number = "all" if per_class is None else f"the first {per_class:,}"
    which = "recognized drawings" if recognized else "drawings, recognized or not,"
    text = f"Quick, Draw!, {number} {which} of each category, {files} strokes"
    return QuickdrawConfig(
        name=name, description=text, files=files, per_class=per_class, recognized=recognized
    )


class Quickdraw(tfds.core.GeneratorBasedBuilder):
    """Quick, Draw!: sketches of up to 345 categories, train and test by their key."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        _config("simplified", "simplified", 1_000),
        _config("simplified_100", "simplified", 100),
        _config("simplified_all", "simplified", None),
        _config("simplified_any", "simplified", 1_000, recognized=False),
        _config("raw", "raw", 1_000),
        _config("raw_100", "raw", 100),
        _config("raw_any", "raw", 1_000, recognized=False),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir holds full/simplified/<category>.ndjson or full/raw/<category>.ndjson, in it "
        "or a few levels below; they are to be "
        "had at github.com/googlecreativelab/quickdraw-dataset."
    )
    UP_AXIS = None
    KIND = "sketches"

    def __init__(
        self, *, manual_dir: str | pathlib.Path | None = None, jobs: int = 1, **kwargs: Any
    ):
        """jobs: threads that rasterise; the records do not depend on it."""
        self._manual_dir = manual_dir
        self._jobs = jobs
        self.skipped: list[dict[str, str]] = []
        super().__init__(**kwargs)
        layout, config = self._layout, self.builder_config
        self.files = sizes(layout.folder, layout.files.values())
        self.source: dict[str, Any] = {
            "kind": "quickdraw",
            "manual_dir": layout.folder.name,
            "files_of": config.files,
            "categories": len(layout.files),
            "published_categories": CATEGORIES,
            "complete": len(layout.files) == CATEGORIES,
            "per_class": config.per_class,
            "recognized_only": config.recognized,
            "not_recognized_left_out": 0,
            "split": f"test: sha256(key_id) mod 10 below {_TEST_OF_TEN}",
            "stroke_width": STROKE,
        }

    @functools.cached_property
    def _layout(self) -> _Layout:
        return _find(raw_folder(self, self._manual_dir), self.builder_config.files)

    def _info(self) -> tfds.core.DatasetInfo:
        features = sketch_features(sorted(self._layout.files))
        return record_info(
            self, features, homepage="https://github.com/googlecreativelab/quickdraw-dataset"
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for category, path in sorted(self._layout.files.items()):
            lines = self._usable(category, path, split)
            drawings = ordered_map(_drawn, lines, jobs=self._jobs, threads=True)
            for line, drawing in drawings:
                identity = f"{category}/{line.key}"
                yield identity, sketch_example(identity, category, drawing)

    def _usable(self, category: str, path: pathlib.Path, split: str) -> Iterator[Line]:
        """The first `per_class` drawings of a file that can be used and are wanted, of them those
        of the split.
        """
        config = self.builder_config
        first = (
            split == "train"
        )  # each file is read once for each split; what is left out is counted in one of them
        taken = 0
        keys: set[str] = set()
        for line in read_lines(path, category):
            if taken == config.per_class:
                return
            if line.strokes is None or line.key in keys:
                if first:
                    reason = line.wrong or f"line {line.number}: key_id {line.key} comes twice"
                    self.skipped.append({"file": path.name, "reason": reason})
            elif config.recognized and not line.recognized:
                self.source["not_recognized_left_out"] += first
            else:
                taken += 1
                if _split_of(line.key) == split:
                    yield line
            keys.add(line.key)


def _drawn(line: Line) -> tuple[Line, np.ndarray]:
    return line, rasterise(line.strokes or ())


def _split_of(key: str) -> str:
    """By the drawing's key, so that a drawing is in one split in raw and simplified form and
    whatever the number taken.
    """
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    return "test" if number % 10 < _TEST_OF_TEN else "train"


def _find(manual_dir: pathlib.Path, kind: str) -> _Layout:
    """The folder `kind` with .ndjson files, at most four levels down; or manual_dir, if the files
    lie in it.
    """
    for folder, names, _ in walk(
        manual_dir, depth=4, enter=lambda _folder, _files, folders: folders
    ):
        if folder.name.lower() != kind and folder != manual_dir:
            continue
        files: dict[str, pathlib.Path] = {}
        for name in names:
            if not name.lower().endswith(".ndjson"):
                continue
            category = re.sub(rf"^full[_-]{kind}[_-]", "", pathlib.Path(name).stem)
            if category in files:
                raise DataError(
                    f"{folder}: {files[category].name} and {name} are both of '{category}'; keep "
                    "one"
                )
            files[category] = folder / name
        if files:
            require_kind(files[min(files)], kind)
            return _Layout(folder, files)
    raise DataError(
        f"{manual_dir}: no folder '{kind}' with <category>.ndjson there or four levels "
        f"below{packed(manual_dir)}"
    )
