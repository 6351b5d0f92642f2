"""An index of files asked for what is like an item, with the encoder that it carries."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from jax3dret.core.types import ConfigError, DataError
from jax3dret.index import storage
from jax3dret.index.index import Index
from jax3dret.inputs import choose, loading
from jax3dret.inputs.item import UP_AXES, Item
from jax3dret.metrics import ranking
from jax3dret.search import encode
from jax3dret.search.encode import Encoder
from jax3dret.search.prepare import log_remarks, prepare

log = logging.getLogger("jax3dret")
MADE_BY = "jax3dret index"
# The folders of encoders in an index.
ENCODER = re.compile(r"encoder-[0-9a-f]{12}")


class Damaged(DataError):
    """An index that this version wrote, and that is not as it was written."""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """An opened index with its encoder: items in, neighbours out."""

    folder: pathlib.Path
    index: Index
    encoder: Encoder

    def query(
        self, items: Sequence[Item], k: int, *, modality: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """{"query", "results": [{"rank", "score", "id", "path"}]} of each item, nearest first; k
        above the size is cut to it.

        modality: which of the model's inputs reads them; None: the one that accepts the kind of
        each. An axis that is not given is as in the gallery. Score: cosine similarity (-2 where one
        of the two embeddings is all zeros), or minus the Euclidean distance.

        Raises: DataError: an item cannot be used; raised before the first answer. ConfigError: k <
            1; an item of a kind that the model does not read, or reads in two ways.
        """
        if k < 1:
            raise ConfigError(f"k={k}: ask for at least one neighbour")
        up_axis = self.index.meta["gallery"]["up_axis"] or ""
        items = [dataclasses.replace(item, up_axis=item.up_axis or up_axis) for item in items]
        vectors = self._embed(items, modality)
        bad = ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            name = items[int(bad.argmax())].name
            raise DataError(f"{name}: the model's embedding of it is not finite")
        lost = ranking.without_direction(vectors, self.index.distance)
        for i in np.flatnonzero(lost):
            log.warning(
                "%s: the model's embedding of it is all zeros and has no direction: all items are "
                "equally far from it, and stand in the order of the index",
                items[i].name,
            )
        rows, scores = self.index.search(vectors, k)
        for item, found, score in zip(items, rows, scores, strict=True):
            results = [self._result(i, int(found[i]), float(score[i])) for i in range(len(found))]
            yield {"query": item.text if item.text is not None else item.name, "results": results}

    def _embed(self, items: Sequence[Item], modality: str | None) -> Float32[np.ndarray, "Q D"]:
        """A row for each item: all of them are read before the first is embedded."""
        inputs = self.encoder.inputs
        for item in items:
            item.check_file()
        chosen = [
            choose.choose(inputs, loading.kind_of(item), name=item.name, modality=modality)
            for item in items
        ]
        prepared = [prepare(item, inputs[key]) for item, key in zip(items, chosen, strict=True)]
        rows = [each.row for each in prepared]
        out = np.empty((len(items), self.encoder.width), np.float32)
        for key in dict.fromkeys(chosen):
            places = [i for i, other in enumerate(chosen) if other == key]
            log_remarks(inputs[key], [prepared[i].kind for i in places])
            out[places] = self.encoder.embed([rows[i] for i in places], key)  # type: ignore[misc]
        return out

    def path(self, row: int) -> str:
        """Where the item of a row was when it was indexed."""
        gallery = self.index.meta["gallery"]
        return str(pathlib.Path(gallery["sources"][gallery["source_of"][row]], self.index.ids[row]))

    def _result(self, place: int, row: int, score: float) -> dict[str, Any]:
        name = self.index.ids[row]
        return {
            "rank": place + 1,
            "score": round(score, 6),
            "id": name,
            "path": self.path(row),
        }


def open_gallery(
    folder: str | os.PathLike[str], *, weights: str | os.PathLike[str] | None = None
) -> Gallery:
    """Opens an index that `gallery.build` made. weights: the workdir it was made with, for a model
    whose code is not this package's.

    Raises: DataError: not such an index, or a broken one. ConfigError: `weights` are not those of
        the index.
    """
    for flag, given in (("INDEX", folder), ("--weights", weights)):
        if given is not None and not os.fspath(given):
            raise ConfigError(f"{flag} is empty; give a folder")
    folder = pathlib.Path(folder)
    index = Index.load(folder)
    own = checked_meta(folder, index.meta, len(index))["encoder"]
    encoder = (
        encode.open_encoder(weights)
        if weights is not None
        else encode.load_encoder(folder / own["folder"])
    )
    if encoder.identity != own["identity"]:
        given = f"--weights {weights}" if weights is not None else f"{folder / own['folder']}"
        raise ConfigError(
            f"{given}: not the parameters that {folder} was made with; give those, or "
            f"{storage.AGAIN}"
        )
    if index.distance != encoder.model.distance:
        raise DataError(
            f"{folder / 'index.json'}: its distance is {index.distance}, its model's "
            f"{encoder.model.distance}; {storage.AGAIN}"
        )
    return Gallery(folder, index, encoder)


def checked_meta(folder: pathlib.Path, meta: Mapping[str, Any], items: int) -> Mapping[str, Any]:
    """The meta of an index in `folder`.

    Raises: DataError: it is not one of files with a model in it. Damaged, a DataError: a part of it
        is missing, or cannot be what was written there.
    """
    gallery, own = meta.get("gallery"), meta.get("encoder")
    if not isinstance(gallery, dict) or gallery.get("made_by") != MADE_BY:
        raise DataError(
            f"{folder}: an index without a model in it; make one with `{MADE_BY} SOURCE... --out "
            "INDEX`"
        )
    if "modality" not in gallery:
        raise ConfigError(
            f"{folder}: an index that an earlier version wrote; make it anew in another folder"
        )
    own = own if isinstance(own, dict) else {}
    sources = gallery.get("sources")
    right = {
        "model": isinstance(meta.get("model"), dict),
        "encoder.folder": bool(ENCODER.fullmatch(str(own.get("folder")))),
        "encoder.identity": isinstance(own.get("identity"), str),
        "gallery.modality": isinstance(gallery["modality"], str),
        "gallery.up_axis": gallery.get("up_axis", "x") in (None, *UP_AXES),
        "gallery.sources": _is_list(sources, str, None),
        "gallery.source_of": _is_list(gallery.get("source_of"), int, items)
        and isinstance(sources, list)
        and all(0 <= place < len(sources) for place in gallery["source_of"]),
        "gallery.keys": _is_list(gallery.get("keys"), str, items),
    }
    if wrong := [key for key, is_right in right.items() if not is_right]:
        raise Damaged(
            f"{folder / 'index.json'}: meta.{wrong[0]} is missing or damaged; {storage.AGAIN}"
        )
    return meta


def _is_list(value: Any, kind: type, length: int | None) -> bool:
    """A list of this kind, and of this length where one is given."""
    is_one = isinstance(value, list) and all(type(each) is kind for each in value)
    return is_one and length in (None, len(value))
