"""The retrieval evaluator: embed gallery and queries, build the index, rank, score, write what the
report shows.

    config.evals.retrieval = {
        "name": "jax3dret.evaluators.retrieval:make",
        "gallery_split": "train",
        "query_split": "test",
    }

Files, below the folder that the evaluator is given: `embeddings.npy` (queries, float32[Q, D]),
`labels.npy` (int32[Q]), `thumbnails/*.png` and, last and by rename, `result.json`. Without a folder
nothing is written: the cheap mode for a look during training.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax

from jax3dret.core.types import EmbedFn, EvaluationData, Evaluator, OpenSource
from jax3dret.evaluators import rank, score, write
from jax3dret.evaluators.embed import Pair, embed_sides
from jax3dret.evaluators.sides import Sides, open_sides
from jax3dret.metrics import ranking
from jax3dret.metrics.metric import Metric

INDEX = MappingProxyType({"kind": "auto", "scoring": rank.SCORING})


class Measured(NamedTuple):
    """Ranked lists and what they score. scores: None where there are no labels; then the index
    alone is measured."""

    ranked: rank.Ranked
    scores: score.Scores | None
    metrics: Mapping[str, float]
    about: list[Metric]


def make(
    data: EvaluationData,
    open_source: OpenSource,
    *,
    distance: ranking.Distance = "cosine",
    gallery_split: str = "train",
    query_split: str = "test",
    gallery: str = "shape",
    query: str = "shape",
    neighbours: int = 100,
    ties: ranking.Ties = "index",
    self_match: Literal["exclude", "include"] = "exclude",
    index: Mapping[str, Any] = INDEX,
    full_ranking_pairs: int = rank.FULL_RANKING_PAIRS,
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> the metrics of `score.score`.

    Every process calls it, embeds, and gets the same metrics; process 0 alone writes. A data set
    whose manifest says "labelled": false has only `index_recall_at_10`.

    gallery, query: modalities. Where they and the splits are equal, every item is a query against
    all others. The other settings are those of `rank.Search`: the search is exact, unless
    index.scoring asks for a tree.

    Raises ConfigError for a bad choice, here; when it runs, DataError for embeddings or data that
    cannot be used.
    """
    sides = open_sides(
        data, open_source, gallery=(gallery, gallery_split), queries=(query, query_split)
    )
    search = rank.Search(distance, neighbours, ties, self_match, index, full_ranking_pairs)
    search.check(len(sides.gallery.source))  # now, not after the training

    def evaluate(embed_fn: EmbedFn, folder: Any) -> Mapping[str, float]:
        writing = folder is not None and jax.process_index() == 0
        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            pair = embed_sides(embed_fn, sides, pathlib.Path(scratch), show=writing)
            found = measure(pair, sides, search)
            if writing:
                where = pathlib.Path(folder)
                write.write_result(where, result_of(where, found, pair, sides, search))
        return found.metrics

    return evaluate


def measure(pair: Pair, sides: Sides, search: rank.Search) -> Measured:
    """Ranks the gallery for every query and scores the lists."""
    ranked = rank.rank(pair, sides, search)
    if not sides.labelled:
        recall = {score.INDEX_RECALL.key: ranked.index.report()["recall_at_10"]}
        return Measured(ranked, None, recall, [score.INDEX_RECALL])
    labels = score.Labels(sides.queries.source.labels, sides.gallery.source.labels)
    scores = score.score(ranked, labels, search)
    return Measured(ranked, scores, scores.metrics, scores.about)


def result_of(
    folder: pathlib.Path, found: Measured, pair: Pair, sides: Sides, search: rank.Search
) -> dict[str, Any]:
    """Writes the files of ranked lists and returns what result.json says of them."""
    said = write.protocol(found.ranked, sides, search, found.scores)
    return {
        **write.describe(folder.name, sides, found.metrics, found.about, said),
        **write.ranking_result(found.ranked, pair, sides, found.scores),
        **write.write_lists(folder, found.ranked, pair, sides, found.scores),
    }
