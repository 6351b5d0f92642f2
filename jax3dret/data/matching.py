"""The records of one data set under the class names of another, so that drawings of one can ask for
the shapes of the other.

    queries = matched(open_source("quickdraw/simplified", "test"), shapes.class_names)
    logger.info("%s", queries.summary())

What is left out is counted, never dropped unseen: `dropped_classes`, `dropped_items` and `absent`
say what.
"""

from __future__ import annotations

import collections
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax3dret.core.types import ConfigError, DataError, DataSpec, OpenSource, Record, Source


def open_spec(spec: DataSpec, open_source: OpenSource) -> Source:
    """The records that a specification names, under its class names where it gives them.

    Raises what `open_source` and `matched` do.
    """
    source = open_source(spec.split, spec.name)
    if spec.class_names and spec.class_names != source.class_names:
        return matched(source, spec.class_names)
    return source


def folded(name: str) -> str:
    """A class name without case, blanks and punctuation: "Pipe (for smoking)" and
    "pipe_for_smoking" are one class.
    """
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def matched(
    source: Source, class_names: Sequence[str], *, renames: Mapping[str, str] | None = None
) -> Matched:
    """The records of `source` whose class is among class_names, in their order, with labels that
    count in class_names.

    A class of the same name is taken first, then one of the same `folded` name. renames: {class of
    source: class of class_names} for classes of other names; several classes may become one.

    Raises: DataError: no record is left. ConfigError: a class of source fits several of
        class_names, two of its classes fit one without renames saying so, or renames names a class
        that is not there.
    """
    exact = {name: label for label, name in enumerate(class_names)}
    alike: dict[str, list[int]] = {}
    for label, name in enumerate(class_names):
        alike.setdefault(folded(name), []).append(label)
    renames = dict(renames or {})
    for old, new in renames.items():
        if old not in source.class_names or new not in exact:
            place = source.name if old not in source.class_names else "the wanted classes"
            raise ConfigError(f"renames has '{old}': '{new}', but {place} has no such class")
    table = np.full(len(source.class_names), -1, np.int32)
    taken: dict[int, str] = {}
    for row, own in enumerate(source.class_names):
        name = renames.get(own, own)
        fitting = [exact[name]] if name in exact else alike.get(folded(name), [])
        if len(fitting) > 1:
            raise ConfigError(
                f"{source.name}: its class '{own}' could be "
                f"{' or '.join(repr(class_names[i]) for i in fitting)}; give renames"
            )
        table[row] = fitting[0] if fitting else -1
        if not fitting or own in renames:
            continue
        if (other := taken.setdefault(fitting[0], own)) != own:
            raise ConfigError(
                f"{source.name}: its classes '{other}' and '{own}' both fit "
                f"'{class_names[fitting[0]]}'; give renames if they are one"
            )
    labels = table[source.labels]
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        raise DataError(
            f"{source.name}, split '{source.split}': none of its {len(source.class_names)} classes "
            "is among the "
            f"{len(class_names)} wanted ones ({', '.join(list(class_names)[:5])}, ...); give "
            "renames if they have other names"
        )
    return Matched(source, rows, labels[rows], class_names)


class Matched:
    """Some records of a source under other labels; made by `matched`, used as the source is.

    dropped_classes: {class of the source: its records that are left out}; dropped_items: how many
    in all; absent: wanted classes without a record. name, version, path and split are the source's:
    what is computed from the records is kept beside it, under the ids.
    """

    def __init__(
        self, source: Source, rows: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
    ) -> None:
        self._source, self._rows = source, np.asarray(rows, np.int64)
        self.path, self.name, self.split, self.version = (
            source.path,
            source.name,
            source.split,
            source.version,
        )
        self.features = source.features
        self.ids: Sequence[str] = tuple(source.ids[row] for row in self._rows)
        self.labels = np.asarray(labels, np.int32)
        self.class_names = tuple(class_names)
        self.manifest: Mapping[str, Any] = {
            **source.manifest,
            "class_names": list(self.class_names),
        }
        left = np.delete(source.labels, self._rows)
        counted = collections.Counter(source.class_names[label] for label in left)
        self.dropped_classes = dict(sorted(counted.items()))
        self.dropped_items = len(left)
        there = set(self.labels.tolist())
        self.absent = tuple(
            name for label, name in enumerate(self.class_names) if label not in there
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Matched({self._source!r}, items={len(self)}, classes={len(self.class_names)})"

    def __getitem__(self, index: int) -> Record:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self!r} has no record {index}")
        index %= len(self)
        return {**self._source[int(self._rows[index])], "label": int(self.labels[index])}

    def select(self, *features: str) -> Matched:
        """The same records with only these features (and "id" and "label") decoded."""
        return Matched(self._source.select(*features), self._rows, self.labels, self.class_names)

    def summary(self) -> str:
        """One line for the log: what is kept, what is left out, which wanted classes have no
        record.
        """
        few = ", ".join(self.absent[:5]) + (", ..." if len(self.absent) > 5 else "")
        absent = f"; {len(self.absent)} wanted classes have none ({few})" if self.absent else ""
        return (
            f"{self.name}, split '{self.split}': {len(self)} of {len(self) + self.dropped_items} "
            "records are of the "
            f"{len(self.class_names)} wanted classes, {self.dropped_items} of "
            f"{len(self.dropped_classes)} other classes are left out"
            f"{absent}"
        )
