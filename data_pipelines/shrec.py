"""What the SHREC sketch benchmarks have in common: shapes and sketches as two data sets over one
list of classes.

Shapes have the splits `train` and `test` (seen classes, 80 and 20 %) and `unseen`; sketches `train`
and `test` (seen classes, the halves of the track) and `unseen_train` and `unseen_test`. Labels of
both count in the classes of the model list, sorted, so that they compare. What the track published
is asserted: with other totals no number measured would be a number of that benchmark. How many
classes are unseen is a paper's count and not the track's; another number is a warning.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import logging
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import shrec_files
from data_pipelines.cla import read_cla
from data_pipelines.mesh_records import NUM_POINTS, MeshItem, mesh_examples
from data_pipelines.raw_builder import raw_folder, record_info
from data_pipelines.raw_files import not_the_file, packed, sizes
from data_pipelines.records import shape_features
from data_pipelines.shrec_splits import (
    SPLIT_SEED,
    TEST_SHARE,
    UNSEEN_MODELS,
    read_models,
    split_models,
    unseen_classes,
)
from data_pipelines.sketch_records import sketch_example, sketch_features
from jax3dret.core.files import write_text
from jax3dret.core.types import DataError
from jax3dret.core.workers import ordered_map
from jax3dret.data.matching import folded
from jax3dret.data.pictures import load_picture
from jax3dret.data.sketches import drawing_of, grey_drawing

logger = logging.getLogger("jax3dret")

_HALVES = ("train", "test")


class Totals(NamedTuple):
    """Published totals; train and test are sketches of one class."""

    classes: int
    models: int
    train: int
    test: int


@dataclasses.dataclass(eq=False)
class ShrecConfig(tfds.core.BuilderConfig):
    """One data set of a benchmark. The patterns are regular expressions over names, case ignored;
    {half} is train or test.

    kind: "shapes" or "sketches". digits: of the numbers in model file names, 0: as many as there
    are. totals: None where nothing was published. unseen: how many classes the paper counts as
    unseen, by its rule; lists of the track in circulation give another number, which is a warning.
    """

    kind: str = "shapes"
    title: str = ""
    model_list: str = ""
    model_list_example: str = ""
    sketch_list: str = ""
    sketch_folders: tuple[str, str] = ("", "")
    digits: int = 0
    totals: Totals | None = None
    unseen: int | None = None

    @property
    def form(self) -> str:
        """A model's name, to be filled with its number."""
        return f"M{{:0{self.digits}d}}" if self.digits else "m{}"


class _Sketch(NamedTuple):
    path: pathlib.Path
    identity: str
    label: str
    name: str


class _Layout(NamedTuple):
    class_names: tuple[str, ...]
    unseen: tuple[str, ...]
    models: dict[str, list[MeshItem]]
    sketches: dict[str, list[_Sketch]]
    lists: list[pathlib.Path]
    notes: dict[str, Any]
    warnings: list[str]


class Shrec(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of shapes or sketches, as its configuration says; the benchmarks' own builders are
    this with their configurations.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "First version.",
        "1.1.0": "Sketches hold the picture that they were made from too.",
    }
    HOMEPAGE = ""

    def __init__(
        self, *, manual_dir: str | pathlib.Path | None = None, jobs: int = 1, **kwargs: Any
    ):
        """jobs: processes that read meshes, or threads that read sketches; the records do not
        depend on it.
        """
        self._manual_dir = manual_dir
        self._jobs = jobs
        self.skipped: list[dict[str, str]] = []
        super().__init__(**kwargs)
        layout = self._layout
        shapes = self.builder_config.kind == "shapes"
        items: Mapping[str, list[Any]] = layout.models if shapes else layout.sketches
        self.UP_AXIS = "y" if shapes else None
        self.KIND = self.builder_config.kind
        self.planned = {split: len(part) for split, part in items.items()}
        self.files = sizes(
            self._root, [*layout.lists, *(item.path for part in items.values() for item in part)]
        )
        self.source = {
            "kind": self.name,
            "benchmark": self.builder_config.title,
            "manual_dir": self._root.name,
            "counts": dict(self.planned),
            "classes": {
                "seen": len(layout.class_names) - len(layout.unseen),
                "unseen": len(layout.unseen),
                "unseen_published": self.builder_config.unseen,
            },
            "unseen_rule": f"at most {UNSEEN_MODELS} models in the list",
            "unseen_classes": list(layout.unseen),
            **layout.notes,
        }

    @property
    def _root(self) -> pathlib.Path:
        return raw_folder(self, self._manual_dir)

    @functools.cached_property
    def _layout(self) -> _Layout:
        return _find(self._root, self.builder_config)

    def _info(self) -> tfds.core.DatasetInfo:
        names = self._layout.class_names
        shapes = self.builder_config.kind == "shapes"
        features = (
            shape_features(names, normals=True, mesh=True)
            if shapes
            else sketch_features(names, picture=True)
        )
        return record_info(self, features, homepage=self.HOMEPAGE)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        layout = self._layout
        for line in layout.warnings:
            logger.warning("%s/%s: %s", self.name, self.builder_config.name, line)
        if self.builder_config.kind == "shapes":
            _write_split(pathlib.Path(self.data_dir) / "split.csv", layout.models)
        return {split: self._generate_examples(split) for split in self.planned}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.builder_config.kind == "shapes":
            return mesh_examples(self._layout.models[split], skipped=self.skipped, jobs=self._jobs)
        return _sketch_examples(self._layout.sketches[split], self.skipped, self._jobs)


def _find(root: pathlib.Path, config: ShrecConfig) -> _Layout:
    found = shrec_files.survey(root)
    path = shrec_files.the_list(
        found, config.model_list, f"model list ({config.model_list_example})"
    )
    models = read_models(path)
    unseen = unseen_classes(models)
    if config.totals is not None:
        numbers = {"classes": len(models), "models": sum(map(len, models.values()))}
        published = {"classes": config.totals.classes, "models": config.totals.models}
        _require_published(path, config.title, published, numbers)
    part = _models if config.kind == "shapes" else _sketches
    layout = part(root, config, found, models, unseen)
    warnings = list(layout.warnings)
    if config.unseen not in (None, len(unseen)):
        warnings.append(
            f"{len(unseen)} classes have at most {UNSEEN_MODELS} models and are unseen; the paper "
            f"counts {config.unseen}: its numbers are of other galleries"
        )
    return layout._replace(
        warnings=warnings,
        lists=[path, *layout.lists],
        notes={"model_list": path.relative_to(root).as_posix(), **layout.notes},
    )


def _models(
    root: pathlib.Path,
    config: ShrecConfig,
    found: shrec_files.Survey,
    models: dict[str, tuple[int, ...]],
    unseen: tuple[str, ...],
) -> _Layout:
    there = shrec_files.model_files(
        found, (n for part in models.values() for n in part), digits=config.digits
    )
    total = sum(map(len, models.values()))
    warnings = []
    missing = shrec_files.runs(there.missing, config.form)
    if there.folder is None:
        raise DataError(
            f"{root}: not one of the {total} models is there; files such as "
            f"{config.form.format(models[min(models)][0])}.off, or "
            f"db/<k>/m<N>/m<N>.off of the Princeton Shape Benchmark, are needed{packed(root)}"
        )
    if missing:
        line = (
            f"{len(there.missing)} of the {total} models are missing in {there.folder}: {missing}"
        )
        if config.totals is not None:
            raise DataError(f"{line}; {config.title} is measured with all of them")
        warnings.append(line)
    splits = {
        split: [
            MeshItem(path, path.stem, name, path.relative_to(root).as_posix())
            for name, number in part
            if (path := there.files.get(number)) is not None
        ]
        for split, part in split_models(models).items()
    }
    notes = {
        "models_from": there.folder.relative_to(root).as_posix(),
        "split": {"test_share": TEST_SHARE, "seed": SPLIT_SEED, "file": "split.csv"},
        "points": f"{NUM_POINTS} drawn from each surface, uniform by area",
        "up_axis_from": "most models stand with y up; not all do",
        "missing": len(there.missing),
        "missing_models": missing,
    }
    return _Layout(tuple(models), unseen, splits, {}, [], notes, warnings)


def _sketches(
    root: pathlib.Path,
    config: ShrecConfig,
    found: shrec_files.Survey,
    models: dict[str, tuple[int, ...]],
    unseen: tuple[str, ...],
) -> _Layout:
    names = {folded(name): name for name in models}
    splits: dict[str, list[_Sketch]] = {
        "train": [],
        "test": [],
        "unseen_train": [],
        "unseen_test": [],
    }
    counts = {half: dict.fromkeys(models, 0) for half in _HALVES}
    shapeless: dict[str, int] = {}
    lists, folders, warnings, missing = [], {}, [], []
    for half, pattern in zip(_HALVES, config.sketch_folders, strict=True):
        example = pattern.replace("(20)?", "").upper()
        folder = shrec_files.sketch_folder(found, pattern, f"{example} with <class>/{half}/<n>.png")
        folders[half] = folder.relative_to(root).as_posix()
        stems: dict[str, set[str]] = {}
        for own_name, paths in sorted(shrec_files.sketch_files(folder, half).items()):
            label = names.get(folded(own_name))
            if label is None:
                shapeless[own_name] = shapeless.get(own_name, 0) + len(paths)
                continue
            split = f"unseen_{half}" if label in unseen else half
            items = [
                _Sketch(p, f"{label}/{half}/{p.stem}", label, p.relative_to(root).as_posix())
                for p in paths
            ]
            splits[split] += items
            counts[half][label] = len(items)
            stems[label] = {path.stem for path in paths}
        path = shrec_files.optional_list(found, config.sketch_list.format(half=half))
        if path is not None:
            lists.append(path)
            absent, note = _unlisted(path, stems, names)
            missing += [f"{name}/{half}/{stem}.png" for name, stem in absent]
            warnings += note
    sketchless = [name for name in models if not any(counts[half][name] for half in _HALVES)]
    if not any(splits.values()):
        raise DataError(
            f"{root}: not one sketch is in {' or '.join(folders.values())}; <class>/train/<n>.png "
            "is needed"
        )
    if config.totals is not None:
        _require_sketches(root, config.title, config.totals, counts, shapeless, missing)
    if missing:
        warnings.append(
            f"{len(missing)} sketches that the lists name are missing: {', '.join(missing)}"
        )
    if shapeless:
        warnings.append(
            f"{sum(shapeless.values())} sketches of {len(shapeless)} classes without shapes are "
            f"left out: {_counted(shapeless)}"
        )
    if sketchless:
        warnings.append(
            f"{len(sketchless)} classes have shapes but no sketches: {', '.join(sketchless)}"
        )
    notes = {
        "sketches_from": folders,
        "sketch_lists": [path.relative_to(root).as_posix() for path in lists],
        "missing_sketches": missing,
        "classes_without_sketches": sketchless,
        "sketches_without_shapes": shapeless,
    }
    return _Layout(tuple(models), unseen, {}, splits, lists, notes, warnings)


def _unlisted(
    path: pathlib.Path, stems: Mapping[str, set[str]], names: Mapping[str, str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """(class, number) of every sketch that a list names and that is not there; and what else is to
    be said of the list.
    """
    listed: dict[str, set[str]] = {}
    for entry in read_cla(path, items="sketches"):
        name = names.get(folded(entry.path.rpartition("/")[2]))
        if name is not None:
            listed[name] = {sketch.lstrip("0") for sketch in entry.models}
    there = {name: {stem.lstrip("0"): stem for stem in part} for name, part in stems.items()}
    total, met = (
        sum(map(len, listed.values())),
        sum(len(listed[n] & there.get(n, {}).keys()) for n in listed),
    )
    if not met:
        return [], [f"{path.name} names none of the sketches by their files; it was not used"]
    extra = sum(map(len, there.values())) - met
    absent = [
        (n, s)
        for n in sorted(listed)
        for s in sorted(listed[n] - there.get(n, {}).keys(), key=_by_number)
    ]
    note = (
        [f"{extra} sketches are not among the {total} of {path.name}; they are used"]
        if extra
        else []
    )
    return absent, note


def _require_sketches(
    root: pathlib.Path,
    title: str,
    totals: Totals,
    counts: Mapping[str, Mapping[str, int]],
    shapeless: Mapping[str, int],
    missing: list[str],
) -> None:
    if shapeless:
        raise DataError(
            f"{root}: sketches of classes that the model list does not have: "
            f"{_counted(shapeless)}; {title} has shapes of "
            "every class"
        )
    odd = [
        f"{name}/{half} {number} of {wanted}"
        for half, wanted in zip(_HALVES, (totals.train, totals.test), strict=True)
        for name, number in counts[half].items()
        if number != wanted
    ]
    if odd:
        expected = totals.classes * (totals.train + totals.test)
        number = sum(sum(part.values()) for part in counts.values())
        which = f"; missing by the lists: {', '.join(missing)}" if missing else ""
        raise DataError(
            f"{root}: {title} has {expected:,} sketches, {totals.train} train and {totals.test} "
            "test of "
            f"every class; found {number:,}, other numbers in {', '.join(odd)}{which}"
        )


def _require_published(
    path: pathlib.Path, title: str, published: Mapping[str, int], numbers: Mapping[str, int]
) -> None:
    if dict(numbers) != dict(published):
        expected = ", ".join(f"{number:,} {what}" for what, number in published.items())
        found = ", ".join(f"{number:,} {what}" for what, number in numbers.items())
        raise DataError(
            f"{path}: {title} has {expected}; found {found}; the list of the track itself is needed"
        )


def _sketch_examples(
    items: Iterable[_Sketch], skipped: list[dict[str, str]], jobs: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    for item, read in ordered_map(_read, items, jobs=jobs, threads=True):
        if isinstance(read, str):
            skipped.append({"file": item.name, "reason": read})
        else:
            yield item.identity, sketch_example(item.identity, item.label, *read)


def _read(item: _Sketch) -> tuple[_Sketch, tuple[np.ndarray, np.ndarray] | str]:
    """The drawing and the picture that it was made from, or why there is none."""
    try:
        picture = load_picture(item.path)
        return item, (drawing_of(picture), grey_drawing(picture))
    except DataError as error:
        return item, not_the_file(item.path) or str(error).removeprefix(f"{item.path}: ")


def _write_split(path: pathlib.Path, splits: Mapping[str, Iterable[MeshItem]]) -> None:
    """id, class, split of every model, also of those that then cannot be read."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("id", "class", "split"))
    table.writerows(
        (item.identity, item.label, split) for split, part in splits.items() for item in part
    )
    write_text(path, text.getvalue())


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({number})" for name, number in sorted(numbers.items()))


def _by_number(text: str) -> tuple[int, str]:
    return (int(text) if text.isdigit() else -1, text)
