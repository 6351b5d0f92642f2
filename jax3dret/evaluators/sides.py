"""The two sides of a retrieval: what is searched, and what it is searched with."""

from __future__ import annotations

from typing import NamedTuple

from jax3dret.core.types import ConfigError, DataSpec, EvaluationData, OpenSource, Source
from jax3dret.data.matching import open_spec


class Side(NamedTuple):
    """Records, how they are read, and the modality that the model embeds them as."""

    source: Source
    spec: DataSpec
    modality: str

    @property
    def labelled(self) -> bool:
        """Whether the labels mean anything."""
        manifest = self.source.manifest
        return bool(manifest.get("labelled", manifest.get("source", {}).get("labelled", True)))


class Sides(NamedTuple):
    """Gallery and queries; one and the same where every item of a split is asked for among the
    others."""

    gallery: Side
    queries: Side

    @property
    def same(self) -> bool:
        return self.queries is self.gallery

    @property
    def labelled(self) -> bool:
        return self.gallery.labelled and self.queries.labelled


def open_side(data: EvaluationData, open_source: OpenSource, modality: str, split: str) -> Side:
    """The records of a split as the task gives them for a modality."""
    spec = data(modality, split)
    return Side(open_spec(spec, open_source), spec, modality)


def open_sides(
    data: EvaluationData,
    open_source: OpenSource,
    *,
    gallery: tuple[str, str],
    queries: tuple[str, str],
) -> Sides:
    """gallery, queries: (modality, split) of each.

    Raises ConfigError where their lists of classes differ: no label of one would mean the other's.
    """
    searched = open_side(data, open_source, *gallery)
    asked = searched if queries == gallery else open_side(data, open_source, *queries)
    ours, theirs = asked.source.class_names, searched.source.class_names
    if ours != theirs:
        raise ConfigError(
            f"queries have the classes {_few(ours)}, the gallery {_few(theirs)}; "
            "labels can be compared only within one list of classes"
        )
    return Sides(searched, asked)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
