"""Which records of a data set are fitted, into which split: all, or a seeded choice by class."""

from __future__ import annotations

import collections
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jax3dret.core.types import ConfigError, DataError

logger = logging.getLogger("jax3dret")


class Place(NamedTuple):
    """A record: its split in the source, its number there, its id and its class."""

    split: str
    row: int
    identity: str
    label: str


def read_places(manifest: Mapping[str, object]) -> list[Place]:
    """The records of a prepared data set, in their order."""
    splits: Mapping[str, Mapping[str, Sequence[object]]] = manifest["splits"]  # type: ignore[assignment]
    names: Sequence[str] = manifest["class_names"]  # type: ignore[assignment]
    return [
        Place(split, i, str(identity), names[int(label)])  # type: ignore[call-overload]
        for split, part in splits.items()
        for i, (identity, label) in enumerate(zip(part["ids"], part["labels"], strict=True))
    ]


def choose(
    places: Sequence[Place],
    *,
    per_class: Mapping[str, int],
    classes: int | Sequence[str] = 0,
    seed: int = 0,
) -> dict[str, list[Place]]:
    """{split: its records}, in the source's order.

    per_class: how many of each class go into which split, pooled over the source's own; without,
    those splits are kept whole. classes: names, or how many, of those with enough records; 0: all.
    What is chosen comes first in the order of a hash of the seed and the name, so that it depends
    on names alone.

    Raises: ConfigError: a class that there is not. DataError: fewer classes have enough records, or
        one that is asked for has not.
    """
    members: dict[str, list[Place]] = collections.defaultdict(list)
    for place in places:
        members[place.label].append(place)
    needed = sum(per_class.values())
    enough = [name for name, part in members.items() if len(part) >= max(needed, 1)]
    if isinstance(classes, int):
        if classes > len(enough):
            raise DataError(
                f"{classes} classes of {needed} records or more are needed; {len(enough)} of "
                f"{len(members)} have so many"
            )
        chosen = sorted(enough, key=lambda name: _rank(seed, name))[: classes or None]
        if not classes and len(enough) < len(members):
            logger.warning(
                "%d of %d classes have fewer than %d records and are left out",
                len(members) - len(enough),
                len(members),
                needed,
            )
    else:
        chosen = list(classes)
        for name in chosen:
            if name not in members:
                raise ConfigError(f"there is no class '{name}'; {', '.join(sorted(members))}")
            if len(members[name]) < needed:
                raise DataError(
                    f"the class '{name}' has {len(members[name])} records, {needed} are needed"
                )
    kept = set(chosen)
    if not per_class:
        splits = dict.fromkeys(place.split for place in places)
        return {s: [p for p in places if p.split == s and p.label in kept] for s in splits}
    split_of: dict[str, str] = {}
    for name in chosen:
        ranked = sorted(members[name], key=lambda place: _rank(seed, place.identity))
        start = 0
        for split, count in per_class.items():
            split_of |= {place.identity: split for place in ranked[start : start + count]}
            start += count
    return {s: [p for p in places if split_of.get(p.identity) == s] for s in per_class}


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
