"""Which classes of a benchmark are unseen, and which of its models train and which test: by rule
and seed, from the list alone.

Paper: "Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
2604.18019, section on data sets. Its seeds are not published; the permutation here is one of many.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from data_pipelines.cla import read_cla
from jax3dret.core.types import DataError
from jax3dret.data.matching import folded

UNSEEN_MODELS = 5  # paper: classes with at most so many shapes are unseen
TEST_SHARE = 0.2  # paper: 80 % of the shapes of seen classes train, 20 % test
SPLIT_SEED = 0


def read_models(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """{class: numbers of its models, ascending} of a model list, classes sorted by name.

    Numbers may stand with or without the letter of their files and with or without leading zeros. A
    class below another has its own name, not the path.

    Raises: DataError: what `read_cla` refuses; an entry that is no model number; a number or a
        class twice.
    """
    classes: dict[str, tuple[int, ...]] = {}
    places: dict[int, str] = {}
    for entry in read_cla(path):
        name = entry.path.rpartition("/")[2]
        if any(folded(name) == folded(other) for other in classes):
            raise DataError(
                f"{path}: the class '{name}' stands there twice; class names must differ"
            )
        numbers = []
        for model in entry.models:
            match = re.fullmatch(r"[mM]?(\d+)", model)
            if match is None:
                raise DataError(
                    f"{path}: '{model}' in the class '{name}' is no model number; 1118 or m1118 is "
                    "needed"
                )
            number = int(match[1])
            if places.setdefault(number, name) != name or number in numbers:
                raise DataError(
                    f"{path}: model {number} stands there twice ({places[number]} and {name}); one "
                    "class each is needed"
                )
            numbers.append(number)
        classes[name] = tuple(sorted(numbers))
    return dict(sorted(classes.items()))


def unseen_classes(models: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """The classes with at most 5 models, sorted."""
    return tuple(sorted(name for name, numbers in models.items() if len(numbers) <= UNSEEN_MODELS))


def split_models(
    models: Mapping[str, Sequence[int]], *, seed: int = SPLIT_SEED
) -> dict[str, list[tuple[str, int]]]:
    """{"train", "test", "unseen": [(class, number)]}, ordered by class and number.

    Of a seen class with n models max(1, round(0.2 n)) are test: the first of a permutation of its
    sorted numbers, whose generator depends on seed and class name alone, so that no class changes
    the split of another.
    """
    unseen = set(unseen_classes(models))
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "test": [], "unseen": []}
    for name in sorted(models):
        numbers = sorted(models[name])
        if name in unseen:
            splits["unseen"] += [(name, number) for number in numbers]
            continue
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        order = np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(
            len(numbers)
        )
        test = set(order[: max(1, round(TEST_SHARE * len(numbers)))].tolist())
        for place, number in enumerate(numbers):
            splits["test" if place in test else "train"].append((name, number))
    return splits
