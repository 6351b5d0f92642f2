"""Where the parts of a sketch-based retrieval benchmark lie below a folder: lists, models,
sketches, each found by its name.

The parts are to be had as several archives, which unpack with or without a folder of their own, and
the models of SHREC'13 may come as the Princeton Shape Benchmark has them. So no one tree is asked
for; a few levels are looked through, and never a folder of class folders or of models.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_pipelines.folders import entries, walk
from data_pipelines.raw_files import packed
from jax3dret.core.types import DataError
from jax3dret.data.matching import folded

_DEPTH = 4  # levels below the given folder
_MODEL = re.compile(r"m(\d+)\.off", re.IGNORECASE)
_SKETCHES = re.compile(r"shrec.*sketches", re.IGNORECASE)


class Survey(NamedTuple):
    """What lies below root, nearest first. lists: .cla files. models: folders of m<N>.off, or db/
    of the Princeton Shape Benchmark.

    sketches: folders named "SHREC...SKETCHES", the inner one where two of a name are nested.
    """

    root: pathlib.Path
    lists: tuple[pathlib.Path, ...]
    models: tuple[pathlib.Path, ...]
    sketches: tuple[pathlib.Path, ...]


def survey(root: pathlib.Path) -> Survey:
    """Looks through root, four levels deep.

    Raises:
        DataError: there are more folders than a benchmark has.
    """
    lists: list[pathlib.Path] = []
    models: list[pathlib.Path] = []
    sketches: list[pathlib.Path] = []

    def enter(folder: pathlib.Path, files: list[str], folders: list[str]) -> list[str]:
        return (
            []
            if _holds_models(folder, files, folders)
            else [n for n in folders if not _SKETCHES.fullmatch(n)]
        )

    for folder, files, folders in walk(root, depth=_DEPTH, enter=enter):
        lists += [folder / name for name in files if name.lower().endswith(".cla")]
        if _holds_models(folder, files, folders):
            models.append(folder)
            continue
        for name in filter(_SKETCHES.fullmatch, folders):
            nested = [child for child in entries(folder / name)[1] if child.lower() == name.lower()]
            sketches.append(folder / name / nested[0] if nested else folder / name)
    return Survey(root, tuple(lists), tuple(models), tuple(sketches))


def the_list(found: Survey, pattern: str, wanted: str) -> pathlib.Path:
    """The one .cla file whose name fits the pattern; copies of it may lie about. DataError if there
    is none, or they differ.
    """
    fitting = _named(found.lists, pattern)
    if not fitting:
        others = ", ".join(sorted({path.name for path in found.lists})[:8])
        raise DataError(
            f"{found.root}: no {wanted} there or {_DEPTH} levels below"
            f"{f'; the lists there are {others}' if others else ''}{packed(found.root)}"
        )
    _require_one(found.root, fitting, [path.read_bytes() for path in fitting])
    return fitting[0]


def optional_list(found: Survey, pattern: str) -> pathlib.Path | None:
    """As `the_list`, but None if there is none."""
    return the_list(found, pattern, "") if _named(found.lists, pattern) else None


def sketch_folder(found: Survey, pattern: str, wanted: str) -> pathlib.Path:
    """The one folder of sketches whose name fits the pattern; DataError if there is none or there
    are several.
    """
    fitting = _named(found.sketches, pattern)
    if not fitting:
        raise DataError(
            f"{found.root}: no folder {wanted} there or {_DEPTH} levels below{packed(found.root)}"
        )
    _require_one(found.root, fitting, range(len(fitting)))
    return fitting[0]


class ModelFiles(NamedTuple):
    """files: {number: file} of the models that are there; missing: the numbers of the others, in
    order. folder: None if no place has one.
    """

    folder: pathlib.Path | None
    files: dict[int, pathlib.Path]
    missing: tuple[int, ...]


def model_files(found: Survey, numbers: Iterable[int], *, digits: int) -> ModelFiles:
    """The files of the models, all from one place: that which has most of them, the nearest of
    equals.

    digits: to how many digits the numbers in file names are filled up ("M000012.off"); 0: not at
    all ("m12.off"), so that the models of another benchmark in the same place are not taken for
    these.
    """
    wanted = sorted(numbers)
    best = ModelFiles(None, {}, tuple(wanted))
    for folder in found.models:
        names, inner = entries(folder)
        if _is_benchmark(folder, inner):
            paths = (
                {n: folder / str(n // 100) / f"m{n}" / f"m{n}.off" for n in wanted}
                if not digits
                else {}
            )
            files = {n: path for n, path in paths.items() if path.is_file()}
        else:
            stems = {match[1]: name for name in names if (match := _MODEL.fullmatch(name))}
            files = {
                n: folder / stems[text] for n in wanted if (text := str(n).zfill(digits)) in stems
            }
        if len(files) > len(best.files):
            best = ModelFiles(folder, files, tuple(n for n in wanted if n not in files))
    return best


def sketch_files(folder: pathlib.Path, half: str) -> dict[str, list[pathlib.Path]]:
    """{class folder: its sketches <class>/<half>/<n>.png by number} of every class folder, an empty
    list where there is none.

    Raises:
        DataError: two class folders are one class by their names.
    """
    classes: dict[str, list[pathlib.Path]] = {}
    names: dict[str, str] = {}
    for name in entries(folder)[1]:
        if names.setdefault(folded(name), name) != name:
            raise DataError(
                f"{folder}: the folders '{names[folded(name)]}' and '{name}' are one class by "
                "their names"
            )
        inside = folder / name / half
        pngs = (
            [p for p in entries(inside)[0] if p.lower().endswith(".png")] if inside.is_dir() else []
        )
        classes[name] = [inside / png for png in sorted(pngs, key=_by_number)]
    return classes


def runs(numbers: Iterable[int], form: str) -> str:
    """Exactly which, in few words: {3, 4, 5, 9} with the form "m{}" is "m3-m5, m9"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(
        form.format(a) if a == b else f"{form.format(a)}-{form.format(b)}" for a, b in spans
    )


def _holds_models(folder: pathlib.Path, files: Iterable[str], folders: Iterable[str]) -> bool:
    return any(_MODEL.fullmatch(name) for name in files) or _is_benchmark(folder, folders)


def _is_benchmark(folder: pathlib.Path, folders: Iterable[str]) -> bool:
    """db/<k>/m<N>/m<N>.off"""
    return folder.name.lower() == "db" and any(name.isdigit() for name in folders)


def _named(paths: Iterable[pathlib.Path], pattern: str) -> list[pathlib.Path]:
    return [path for path in paths if re.fullmatch(pattern, path.name, re.IGNORECASE)]


def _require_one(
    root: pathlib.Path, fitting: Sequence[pathlib.Path], contents: Iterable[object]
) -> None:
    if len(set(contents)) > 1:
        places = ", ".join(path.relative_to(root).as_posix() for path in fitting)
        raise DataError(
            f"{root}: {len(fitting)} of a kind that are not the same: {places}; give the folder of "
            "one"
        )


def _by_number(name: str) -> tuple[int, str]:
    digits = re.search(r"\d+", name)
    return (int(digits[0]) if digits else -1, name)
