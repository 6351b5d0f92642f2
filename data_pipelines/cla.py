"""The .cla files of the Princeton Shape Benchmark and of SHREC: a tree of classes, and which model
(or sketch) is in which.

    PSB 1
    <number of classes> <number of models>

    <class> <parent, 0 for none> <number of its own models>
    <model>
    ...

Classes with models of their own are what is to be recognised, inner ones ("wheel" beside "gear
wheel") included. Line ends of any system, tabs and trailing blanks are as good as one blank.
"""

from __future__ import annotations

import pathlib
from typing import NamedTuple

from data_pipelines.raw_files import read_text
from jax3dret.core.types import DataError

_WANTED = 'a PSB classification ("PSB 1", then "<classes> <models>")'


class ClaClass(NamedTuple):
    """One class with its own models. path: names from the root, "vehicle/car/sedan"."""

    path: str
    models: tuple[str, ...]


def read_cla(path: pathlib.Path, *, items: str = "models") -> list[ClaClass]:
    """All classes of a .cla file in its order, those without models of their own left out. items:
    what errors call its entries.

    Raises: DataError: it is no such file, holds other numbers of classes or models than it
        announces (cut off), names a parent that was not defined before, or lists a model or a class
        twice.
    """
    lines = [line.split() for line in read_text(path, _WANTED).splitlines() if line.strip()]
    if (
        len(lines) < 2
        or lines[0][0] != "PSB"
        or len(lines[1]) != 2
        or not all(w.isdigit() for w in lines[1])
    ):
        raise DataError(f"{path}: does not begin as {_WANTED}")
    announced = tuple(map(int, lines[1]))
    paths: dict[str, str] = {}
    classes: list[tuple[str, list[str]]] = []
    left = 0
    for words in lines[2:]:
        if left:
            if len(words) != 1:
                raise DataError(
                    f"{path}: '{' '.join(words)}' stands where {left} more {items} of "
                    f"'{classes[-1][0]}' should"
                )
            classes[-1][1].append(words[0])
            left -= 1
            continue
        if len(words) != 3 or not words[2].isdigit():
            raise DataError(
                f"{path}: '{' '.join(words)}' is no class line; '<class> <parent> <{items}>' is "
                "needed"
            )
        name, parent, left = words[0], words[1], int(words[2])
        if parent != "0" and parent not in paths:
            raise DataError(
                f"{path}: '{name}' has the parent '{parent}', which is not defined before it"
            )
        full = name if parent == "0" else f"{paths[parent]}/{name}"
        if full in [other for other, _ in classes]:
            raise DataError(f"{path}: the class '{full}' is defined twice")
        paths[name] = full
        classes.append((full, []))
    models = [model for _, part in classes for model in part]
    if left or (len(classes), len(models)) != announced:
        raise DataError(
            f"{path}: announces {announced[0]} classes and {announced[1]} {items} but holds "
            f"{len(classes)} and {len(models)} "
            "(cut off?); copy it again"
        )
    if len(set(models)) != len(models):
        twice = next(model for model in models if models.count(model) > 1)
        raise DataError(f"{path}: lists {twice} twice among its {items}; one class each is needed")
    return [ClaClass(full, tuple(part)) for full, part in classes if part]
