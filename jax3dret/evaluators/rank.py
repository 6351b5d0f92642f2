"""The nearest gallery items of every query, by the index."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jax3dret.core.types import ConfigError, DataError
from jax3dret.evaluators.embed import Pair
from jax3dret.evaluators.sides import Sides
from jax3dret.index.index import Index, check_options
from jax3dret.metrics import ranking

# A full ranking of more pairs than this takes minutes; beyond it average precision stops at the n
# nearest.
FULL_RANKING_PAIRS = 500_000_000
CUTS = (1, 5, 10)
OPTIONS = ("kind", "scoring", "target_recall")
# An evaluation compares every pair, whatever the size of the gallery, unless it is told otherwise.
SCORING = "brute_force"


@dataclasses.dataclass(frozen=True)
class Search:
    """How gallery and queries are compared.

    neighbours: n, the length of the ranked lists; a smaller gallery cuts it. ties: of every metric
    but mean average precision, see `ranking.resolve_ties`. self_match: "exclude" leaves out the
    gallery item with the query's own id, "include" keeps it.
    index: of OPTIONS, as `Index.build` takes them, but for scoring: "brute_force" (if it is not
    given), which is exact, or "tree_ah", which the protocol then names.
    """

    distance: ranking.Distance = "cosine"
    neighbours: int = 100
    ties: ranking.Ties = "index"
    self_match: Literal["exclude", "include"] = "exclude"
    index: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    full_ranking_pairs: int = FULL_RANKING_PAIRS

    def check(self, items: int) -> None:
        """Raises ConfigError for a choice that cannot be with a gallery of so many items."""
        ranking.check_choice("distance", self.distance, ("cosine", "euclidean"))
        ranking.check_choice("ties", self.ties, ("index", "pessimistic", "optimistic", "average"))
        ranking.check_choice("self_match", self.self_match, ("exclude", "include"))
        if self.neighbours < 1:
            raise ConfigError(f"neighbours={self.neighbours}: a ranked list has at least one entry")
        if unknown := sorted(set(self.index) - set(OPTIONS)):
            raise ConfigError(
                f"index.{unknown[0]}: not an option of the index; it takes {', '.join(OPTIONS)}"
            )
        ranking.check_choice("index.scoring", self.options["scoring"], (SCORING, "tree_ah"))
        check_options(items, distance=self.distance, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """Of the index, with the scoring that it has."""
        return {"scoring": SCORING, **self.index}


class Neighbours(NamedTuple):
    """rows: gallery rows, nearest first, the query itself left out. squared: their squared
    distances, float64.
    own: each query's own gallery row, -1 for none. cut: whether the end of the list cuts a run of
    equal distances.
    ms: search time for one query."""

    rows: Int[np.ndarray, "Q K"]
    squared: Float[np.ndarray, "Q K"]
    own: Int[np.ndarray, " Q"]
    cut: Bool[np.ndarray, " Q"]
    ms: float

    def scores(self, distance: str) -> Float[np.ndarray, "Q K"]:
        """Cosine similarity, or minus the Euclidean distance, as `Index.search` gives them."""
        return 1 - self.squared / 2 if distance == "cosine" else -np.sqrt(self.squared)

    def first(self, n: int) -> Neighbours:
        """The same with lists of n at most."""
        return self._replace(rows=self.rows[:, :n], squared=self.squared[:, :n])


@dataclasses.dataclass(frozen=True)
class Ranked:
    """The gallery's index, the queries, and the lists of both lengths: `found` serves every cut,
    `lists` are n long."""

    index: Index
    queries: np.ndarray
    found: Neighbours
    lists: Neighbours


def rank(pair: Pair, sides: Sides, search: Search) -> Ranked:
    """Builds the index of the gallery and asks it for every query.

    Raises DataError for embeddings that cannot be compared, or a gallery that holds the query
    alone.
    """
    index = Index.build(
        pair.gallery.vectors, sides.gallery.source.ids, distance=search.distance, **search.options
    )
    queries = pair.queries.vectors
    # Lists of ten at least, for recall and precision at 10.
    longest = max(search.neighbours, *CUTS)
    found = nearest(index, queries, sides.queries.source.ids, longest, self_match=search.self_match)
    return Ranked(index, queries, found, found.first(search.neighbours))


def nearest(
    index: Index,
    queries: Float[np.ndarray, "Q D"],
    query_ids: Sequence[str],
    n: int,
    *,
    self_match: str = "exclude",
) -> Neighbours:
    """The n nearest gallery items of each query, or as many as there are.

    self_match: "exclude" leaves out the gallery item with the query's own id, "include" keeps it.
    """
    ranking.check_choice("self_match", self_match, ("exclude", "include"))
    own = np.full(len(queries), -1, np.int64)
    if self_match == "exclude":
        own = ranking.self_rows(query_ids, index.ids)
    some = bool((own >= 0).any())
    n = min(n, len(index) - some)
    if n < 1:
        raise DataError("the gallery holds one item, the query itself: nothing to retrieve")
    more = min(n + 1 + some, len(index))
    index.search_squared(queries[:1], more)  # compiles and warms up
    start = time.perf_counter()
    rows, squared = index.search_squared(queries, more)
    ms = 1e3 * (time.perf_counter() - start) / max(len(queries), 1)
    if some:
        rows, squared = ranking.drop_self(rows, squared, own)
    cut = squared[:, n - 1] == squared[:, n] if rows.shape[1] > n else np.zeros(len(rows), bool)
    return Neighbours(rows[:, :n], squared[:, :n], own, cut, ms)
