"""The index: float32 vectors with ids, searched by cosine or Euclidean distance, saved to a folder
that can be moved.

    index = Index.build(vectors, ids, distance="cosine")
    rows, scores = index.search(queries, k=10)          # best first; index.ids[row] is the id
    index.save("gallery.index"); index = Index.load("gallery.index")

Vectors are stored as they are given; what is done to them for the comparison stands in `meta` and
in `searcher`, which finds the neighbours: best first, ties by row, scores that do not depend on the
backend.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from jax3dret.core.types import ConfigError, DataError
from jax3dret.index import backends, storage
from jax3dret.index.searcher import Distance, Scoring, Searcher
from jax3dret.metrics import ranking

Kind = Literal["auto", "scann", "exact"]


def check_options(
    items: int,
    *,
    distance: str = "cosine",
    kind: str = "auto",
    scoring: str = "auto",
    target_recall: float = 0.98,
) -> Literal["scann", "exact"]:
    """The kind of index that `Index.build` makes of so many items; ConfigError for a choice that
    cannot be. Whatever a config holds may be given.
    """
    ranking.check_choice("distance", distance, ("cosine", "euclidean"))
    ranking.check_choice("kind", kind, ("auto", "scann", "exact"))
    ranking.check_choice("scoring", scoring, ("auto", "brute_force", "tree_ah"))
    if not 0 < target_recall <= 1:
        raise ConfigError(f"target_recall={target_recall}: it lies in (0, 1]")
    if kind == "scann" and not backends.scann_available():
        raise ConfigError(
            "kind='scann': the package scann is not installed (wheels for Linux only); use "
            "kind='exact'"
        )
    if kind == "auto":
        kind = "scann" if backends.scann_available() else "exact"
    if scoring == "tree_ah" and kind == "exact":
        raise ConfigError(
            "scoring='tree_ah' needs ScaNN, which is not installed or not chosen; use 'brute_force'"
        )
    if scoring == "tree_ah" and items < backends.MIN_TREE_ITEMS:
        raise ConfigError(
            f"scoring='tree_ah' needs at least {backends.MIN_TREE_ITEMS} items, not {items}; use "
            "'brute_force'"
        )
    return "scann" if kind == "scann" else "exact"


class Index:
    """Vectors, ids and a searcher over them. Make one with `Index.build` or `Index.load`."""

    def __init__(
        self, vectors, ids, *, distance, kind, scoring, meta, target_recall, tree=None, recall=None
    ):
        self.vectors: Float32[np.ndarray, "N D"] = vectors
        self.ids: list[str] = ids
        self.distance: Distance = distance
        self.kind: Literal["scann", "exact"] = kind
        self._requested: Scoring = scoring
        self._target_recall = target_recall
        self._meta = meta
        self._searcher = Searcher(
            vectors,
            distance=distance,
            kind=kind,
            scoring=scoring,
            target_recall=target_recall,
            tree=tree,
            recall=recall,
        )

    @classmethod
    def build(
        cls,
        vectors: Float32[np.ndarray, "N D"],
        ids: Sequence[str],
        *,
        distance: Distance = "cosine",
        kind: Kind = "auto",
        scoring: Scoring = "auto",
        meta: Mapping[str, Any] | None = None,
        target_recall: float = 0.98,
    ) -> Index:
        """Index of float32 `vectors` (an array or a memory map, kept and not copied), one unique id
        for each.

        kind: "scann", "exact" (JAX) or "auto", ScaNN where it can be imported. scoring:
        "brute_force", "tree_ah" or "auto", for serving: a tree from 20,000 items on where ScaNN is
        there, so that answers are approximate. A tree searches as many leaves as recall@10 of
        `target_recall` takes on a sample. meta: JSON-like, saved with the index; how its vectors
        were made. Two builds from the same arguments answer alike. Raises ConfigError (a choice
        that cannot be) and DataError (shapes, dtype, NaN, infinity, no vectors, duplicate ids).

        A row of zeros has no direction: under cosine it stands behind all others of any list, with
        the score -2; `report` counts such rows.
        """
        _check_vectors(vectors, "vectors")
        kind = check_options(
            len(vectors), distance=distance, kind=kind, scoring=scoring, target_recall=target_recall
        )
        ids = _check_ids(ids, len(vectors))
        meta = dict(meta or {})
        try:
            json.dumps(meta, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"meta cannot be written as JSON: {error}") from None
        return cls(
            vectors,
            ids,
            distance=distance,
            kind=kind,
            scoring=scoring,
            meta=meta,
            target_recall=target_recall,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """Embedding width D."""
        return self.vectors.shape[1]

    @property
    def scoring(self) -> Literal["brute_force", "tree_ah"]:
        return "brute_force" if self._searcher.tree is None else "tree_ah"

    @property
    def meta(self) -> dict[str, Any]:
        """The caller's meta, with "distance" and, in words, what the comparison does to a vector."""
        words = "rows and queries scaled to unit length" if self.distance == "cosine" else "none"
        return {**self._meta, "distance": self.distance, "index_normalisation": words}

    def report(self) -> dict[str, Any]:
        """{"kind", "scoring", "items", "width", "distance", "without_direction", "recall_at_10",
        "build_s"}, and "leaves", "leaves_searched" of a tree. without_direction: rows of zeros
        under cosine, which rank last. recall_at_10: against an exhaustive float64 search, over a
        sample of the stored vectors, each without itself.
        """
        return {
            "kind": self.kind,
            "scoring": self.scoring,
            "items": len(self),
            "width": self.width,
            "distance": self.distance,
            "without_direction": self._searcher.without_direction,
            "recall_at_10": self._searcher.recall,
            "build_s": self._searcher.build_s,
            **backends.tree_settings(self._searcher.backend),
        }

    # Search

    def search(
        self, queries: Float32[np.ndarray, "Q D"], k: int
    ) -> tuple[Int32[np.ndarray, "Q k"], Float32[np.ndarray, "Q k"]]:
        """The k nearest rows of each query and their scores, best first.

        Score: cosine similarity, or minus the Euclidean distance; higher is nearer. Where the query
        or the row is all zeros, its cosine counts as -2: such rows come last, and to such a query
        all rows are as far, in row order. k above the number of items is cut to it. No queries give
        empty arrays. Raises DataError for queries that are not finite float32 [Q, D], ConfigError
        for k < 1.
        """
        rows, d2 = self.search_squared(queries, k)
        scores = 1.0 - d2 / 2.0 if self.distance == "cosine" else -np.sqrt(d2)
        return rows.astype(np.int32), scores.astype(np.float32)

    def search_squared(
        self, queries: Float32[np.ndarray, "Q D"], k: int
    ) -> tuple[Int64[np.ndarray, "Q k"], Float64[np.ndarray, "Q k"]]:
        """Like `search`, with squared Euclidean distances in float64 (between unit vectors under
        cosine) for scores.

        Equal vectors have exactly equal distances: what a tie policy needs.
        """
        if k < 1:
            raise ConfigError(f"k={k}: ask for at least one neighbour")
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise DataError(
                f"queries have shape {queries.shape}; this index takes [queries, {self.width}]"
            )
        k = min(k, len(self))
        if not len(queries):
            return np.empty((0, k), np.int64), np.empty((0, k))
        _check_vectors(queries, "queries")
        return self._searcher.nearest(queries, k)

    # Changing

    def add(
        self, vectors: Float32[np.ndarray, "M D"], ids: Sequence[str], *, replace: bool = False
    ) -> None:
        """Appends items and builds the searcher again, so that the index is the one a fresh build
        would give.

        replace: an id that is already there keeps its row and gets the new vector; otherwise that
        is a DataError. On any error the index is left as it was.
        """
        _check_vectors(vectors, "vectors")
        if vectors.shape[1] != self.width:
            raise DataError(
                f"new vectors have width {vectors.shape[1]}; this index holds width {self.width}"
            )
        ids = _check_ids(ids, len(vectors))
        place = {name: row for row, name in enumerate(self.ids)}
        known = [name for name in ids if name in place]
        if known and not replace:
            raise DataError(
                f"id {known[0]!r} is already in the index ({len(known)} such); remove it, or pass "
                "replace=True"
            )
        new = np.array([name not in place for name in ids])
        merged = np.concatenate([self.vectors, vectors[new]])
        merged[[place[name] for name in known]] = vectors[~new]
        self._rebuild(
            merged, self.ids + [name for name, fresh in zip(ids, new, strict=True) if fresh]
        )

    def remove(self, ids: Sequence[str]) -> None:
        """Takes items out and builds the searcher again; the rows after them move up. Unknown ids
        are a DataError.
        """
        gone = set(ids)
        if unknown := sorted(gone.difference(self.ids)):
            raise DataError(f"id {unknown[0]!r} is not in the index ({len(unknown)} such)")
        if len(gone) == len(self):
            raise DataError("removing every item would leave an empty index")
        if gone:
            keep = [row for row, name in enumerate(self.ids) if name not in gone]
            self._rebuild(np.asarray(self.vectors[keep]), [self.ids[row] for row in keep])

    def _rebuild(self, vectors: np.ndarray, ids: list[str]) -> None:
        fresh = Index(
            vectors,
            ids,
            distance=self.distance,
            kind=self.kind,
            scoring=self._requested,
            meta=self._meta,
            target_recall=self._target_recall,
        )
        self.__dict__.update(fresh.__dict__)

    # Files

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the index to `folder` (made where missing), in place of an index there; other
        files are left alone.

        All new files are written first; the rename of `index.json`, which names them, makes them
        the index. The folder can be moved. It holds JSON, .npy and, for a tree, ScaNN's own files;
        nothing in it is a pickle.
        """
        tree = self._searcher.tree
        entry = {
            "distance": self.distance,
            "kind": self.kind,
            "scoring": self.scoring,
            "requested_scoring": self._requested,
            "target_recall": self._target_recall,
            "items": len(self),
            "width": self.width,
            "recall_at_10": self._searcher.recall,
            "build_s": self._searcher.build_s,
            "tree": dict(backends.tree_settings(tree)),
            "meta": self._meta,
        }
        storage.write(
            pathlib.Path(folder),
            entry,
            self.vectors,
            self.ids,
            tree.save if tree is not None else None,
        )

    @classmethod
    def load(cls, folder: str | pathlib.Path, *, kind: Kind = "auto") -> Index:
        """Reads what `save` wrote; the vectors stay on disk as a memory map.

        kind: "auto" takes ScaNN where it can be imported, else the exact search, which every saved
        index allows. Raises DataError naming the file that is missing, cut short or not an index.
        """
        ranking.check_choice("kind", kind, ("auto", "scann", "exact"))
        entry, vectors, ids, tree_folder = storage.read(pathlib.Path(folder))
        _check_vectors(vectors, f"{folder}: vectors")
        ids = _check_ids(ids, len(vectors))
        if kind == "auto":
            kind = "scann" if backends.scann_available() else "exact"
        tree = None
        if kind == "scann" and entry["scoring"] == "tree_ah":
            tree = backends.ScannTree.load(
                tree_folder, entry["tree"]["leaves"], entry["tree"]["leaves_searched"]
            )
        same = (kind == entry["kind"]) and (tree is not None or entry["scoring"] == "brute_force")
        scoring = entry["requested_scoring"]
        index = cls(
            vectors,
            ids,
            distance=entry["distance"],
            kind=kind,
            scoring="brute_force" if kind == "exact" else scoring,
            meta=entry["meta"],
            target_recall=entry["target_recall"],
            tree=tree,
            recall=entry["recall_at_10"] if same else None,
        )
        index._requested = scoring
        if same:
            index._searcher.build_s = entry["build_s"]
        return index


def _check_vectors(vectors: np.ndarray, name: str) -> None:
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32:
        raise DataError(
            f"{name}: {getattr(vectors, 'dtype', type(vectors).__name__)}; they must be a float32 "
            "array"
        )
    ranking.check_vectors(vectors, name)


def _check_ids(ids: Sequence[str], num: int) -> list[str]:
    if isinstance(ids, str):
        raise DataError("ids: one string; give a sequence of strings, one for each vector")
    ids = list(ids)
    if len(ids) != num:
        raise DataError(f"{len(ids)} ids for {num} vectors; one each")
    seen: set[str] = set()
    for row, name in enumerate(ids):
        if not isinstance(name, str):
            raise DataError(f"id of row {row} is {type(name).__name__}; ids are strings")
        if name in seen:
            raise DataError(f"id {name!r} occurs more than once; ids must be unique")
        seen.add(name)
    return ids
