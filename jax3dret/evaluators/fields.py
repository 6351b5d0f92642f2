"""INRs found by INRs: within a kind, across implicit functions and across architectures.

    config.evals.retrieval = {"name": "jax3dret.evaluators.fields:make", "split": "test"}

A kind of INR is "<architecture>_<function>". Every item of a split is a query against all others:
embeddings of one kind against those of each. Files, below the folder that the evaluator is given,
are those of `evaluators.retrieval`, of the first kind; result.json has "across" too: the hit rates
of all pairs of kinds, the query's own shape left out and allowed.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jax3dret.core.types import (
    ConfigError,
    DataError,
    EmbedFn,
    EvaluationData,
    Evaluator,
    OpenSource,
    Source,
)
from jax3dret.data.matching import Matched, open_spec
from jax3dret.evaluators import rank, retrieval, write
from jax3dret.evaluators.embed import Embedded, Pair, embed_side
from jax3dret.evaluators.sides import Side, Sides
from jax3dret.metrics import hit_rate, ranking
from jax3dret.metrics.metric import Metric
from jax3dret.models.field_encoders.inr_row import split_kind
from jax3dret.models.fields.field_records import FieldRecords

ACROSS = Metric(
    "hit_rate_1_across",
    "Hit rate@1, across kinds",
    "mean over all pairs of different kinds of INRs: queries of one, gallery of the other",
)
ALL = Metric(
    "hit_rate_1_all", "Hit rate@1, all pairs", "mean over all pairs of kinds of INRs, equal or not"
)
ACROSS_SAME_SHAPE = Metric(
    "hit_rate_1_across_same_shape",
    "Hit rate@1, across kinds, same shape allowed",
    "as hit_rate_1_across, and the query's own shape may be found",
)
CELL = Metric(
    "hit_rate_1_{query}_{gallery}",
    "Hit rate@1, {query} in {gallery}",
    "queries are INRs of {query}, the gallery those of {gallery}",
)
SECONDS = Metric(
    "seconds_per_query",
    "Seconds per query",
    "one INR at a time: sampling of its grid, encoding and search; median",
)
# Behind a kind: its records as they are read without what is kept beside the data, for their time.
LIVE = ":live"


class Cell(NamedTuple):
    """Values by query of the metrics of `metrics.hit_rate`, the own shape left out, and the hit
    rate at 1 with it allowed; None within a kind, where it is the query itself."""

    apart: Mapping[Metric, np.ndarray]
    same_shape: float | None


def make(
    data: EvaluationData,
    open_source: OpenSource,
    *,
    distance: ranking.Distance = "cosine",
    kinds: Sequence[str] = (),
    gallery_kinds: Sequence[str] = (),
    split: str = "test",
    query_data: str = "",
    modality: str = "inr",
    cuts: Sequence[int] = hit_rate.CUTS,
    ties: ranking.Ties = "pessimistic",
    neighbours: int = 100,
    index: Mapping[str, Any] = retrieval.INDEX,
    timed_queries: int = 8,
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> hit rates, precision, recall and F1
    (`metrics.hit_rate`): means over the pairs of equal kinds, and where there are several kinds
    hit_rate_1 of each pair, and means over those across.

    kinds: of the queries; gallery_kinds: of the gallery, empty for the same. Where no kind of the
    one is among the other, as of INRs that were distilled, all pairs count as equal.
    query_data: another data set with the queries, its shapes under the same ids; empty: the run's.
    modality: what the model calls the embedding. ties: of equal distances; by default what is wrong
    comes first. neighbours, index: of the lists that the report shows.
    timed_queries: so many are sampled, encoded and searched for one by one, and the median time of
    each stage is reported; 0: none.

    INRs that the data set lacks, which its manifest lists, are no queries and not in the gallery;
    result.json counts them.

    Raises ConfigError for a bad choice, here; when it runs, DataError for embeddings or data that
    cannot be used.
    """
    asked, there = tuple(kinds), tuple(gallery_kinds or kinds)
    if not asked:
        raise ConfigError("kinds is empty; name the kinds of INRs that are asked with")
    for kind in (*asked, *there):
        split_kind(kind)
    ranking.check_choice("ties", ties, ("index", "pessimistic", "optimistic", "average"))
    if 1 not in cuts:
        raise ConfigError(f"cuts={tuple(cuts)}; 1 must be among them, which pairs are compared by")
    if timed_queries < 0:
        raise ConfigError(f"timed_queries={timed_queries}; give 0 or more")
    gallery = {kind: open_kind(data, open_source, kind, split, modality) for kind in there}
    queries = {
        kind: gallery[kind]
        if kind in gallery and not query_data
        else open_kind(data, open_source, kind, split, modality, query_data)
        for kind in asked
    }
    search = rank.Search(distance, neighbours, ties, "exclude", index)
    for side in gallery.values():
        search.check(len(side.source))
    live = None
    if timed_queries:
        live = open_kind(data, open_source, asked[0] + LIVE, split, modality, query_data)

    def evaluate(embed_fn: EmbedFn, folder: Any) -> Mapping[str, float]:
        writing = folder is not None and jax.process_index() == 0
        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            sides = [*{id(s): s for s in (*gallery.values(), *queries.values())}.values()]
            paths = [pathlib.Path(scratch) / f"{place}.npy" for place in range(len(sides))]
            embedded = {
                id(side): embed_side(embed_fn, side, path, show=writing)
                for side, path in zip(sides, paths, strict=True)
            }
            cells = {
                (one, other): _cell(
                    (queries[one], embedded[id(queries[one])]),
                    (gallery[other], embedded[id(gallery[other])]),
                    distance=distance,
                    cuts=cuts,
                    ties=ties,
                )
                for one in asked
                for other in there
            }
            metrics, about = summarise(cells)
            first = Sides(gallery[there[0]], queries[asked[0]])
            pair = Pair(*(embedded[id(side)] for side in first))
            timing = {}
            if live is not None:
                timing = time_queries(embed_fn, live, pair.gallery.vectors, distance, timed_queries)
                metrics[SECONDS.key] = timing["query_ms"] / 1e3
                about.append(SECONDS)
            if writing:
                where = pathlib.Path(folder)
                base = retrieval.measure(pair, first, search)
                result = retrieval.result_of(
                    where, base._replace(metrics=metrics, about=about), pair, first, search
                )
                result["timing"] |= timing
                result["across"] = _matrix(cells)
                result["protocol"] |= _said(queries, gallery, ties)
                write.write_result(where, result)
        return metrics

    return evaluate


def open_kind(
    data: EvaluationData,
    open_source: OpenSource,
    kind: str,
    split: str,
    modality: str,
    name: str = "",
) -> Side:
    """The records of a split that have an INR of a kind, and how they are read. name: of another
    data set than the run's. Raises DataError where none has.
    """
    spec = data(kind, split)
    spec = dataclasses.replace(spec, name=name) if name else spec
    source = open_spec(spec, open_source)
    return Side(having(source, kind.removesuffix(LIVE)), spec, modality)


def having(source: Source, kind: str) -> Source:
    """The records that have an INR of a kind, as the manifest says; all where it says nothing."""
    if "inrs" not in source.manifest.get("source", {}):
        return source
    lacking = FieldRecords.from_manifest(source.manifest).without.get(kind, frozenset())
    if lacking.isdisjoint(source.ids):
        return source
    rows = [row for row, name in enumerate(source.ids) if name not in lacking]
    if not rows:
        raise DataError(f"{source.name}, split '{source.split}': none has an INR '{kind}'")
    kept = np.asarray(rows)
    return Matched(source, kept, source.labels[kept], source.class_names)


def _cell(
    asked: tuple[Side, Embedded],
    there: tuple[Side, Embedded],
    *,
    distance: ranking.Distance,
    cuts: Sequence[int],
    ties: ranking.Ties,
) -> Cell:
    one, other = asked[0].source, there[0].source
    sides = hit_rate.Sides(one.labels, one.ids, other.labels, other.ids)
    vectors = asked[1].vectors, there[1].vectors
    apart = hit_rate.by_query(*vectors, sides, cuts=cuts, distance=distance, ties=ties)
    if asked[0] is there[0]:
        return Cell(apart, None)
    allowed = hit_rate.by_query(
        *vectors, sides, same_shape=True, cuts=(1,), distance=distance, ties=ties
    )
    return Cell(apart, float(allowed[hit_rate.HIT_RATE.at(k=1)].mean()))


def summarise(
    cells: Mapping[tuple[str, str], Cell],
) -> tuple[dict[str, float], list[Metric]]:
    """Metrics of all pairs (kind of the queries, of the gallery) of kinds, and what they are."""
    equal = [pair for pair in cells if pair[0] == pair[1]] or list(cells)
    metrics, about = {}, []

    def add(metric: Metric, value: Any) -> None:
        metrics[metric.key] = float(value)
        about.append(metric)

    for metric in cells[equal[0]].apart:
        shared = [cells[pair].apart[metric] for pair in equal if metric in cells[pair].apart]
        add(metric, np.mean([values.mean() for values in shared]))
    if len(cells) == 1:
        return metrics, about
    rate = {
        pair: float(cell.apart[hit_rate.HIT_RATE.at(k=1)].mean()) for pair, cell in cells.items()
    }
    others = [pair for pair in cells if pair not in equal]
    allowed = [cells[pair].same_shape for pair in others]
    if others:
        add(ACROSS, np.mean([rate[pair] for pair in others]))
        add(ALL, np.mean(list(rate.values())))
        add(ACROSS_SAME_SHAPE, np.mean([value for value in allowed if value is not None]))
    names = short_names(cells)
    for (one, other), value in rate.items():
        cell = CELL.at(query=names[one], gallery=names[other])
        add(cell, value)
    for pair in others:
        cell = CELL.at(query=names[pair[0]], gallery=names[pair[1]])
        same = cells[pair].same_shape
        if same is not None:
            title = f"{cell.title}, same shape allowed"
            meaning = f"{cell.meaning}; the query's own shape may be found"
            add(Metric(f"{cell.key}_same_shape", title, meaning), same)
    return metrics, about


def short_names(cells: Mapping[tuple[str, str], Cell]) -> dict[str, str]:
    """What kinds are called in metrics: by their function alone, where that tells them apart."""
    kinds = list(dict.fromkeys(kind for pair in cells for kind in pair))
    functions: dict[str, str] = {kind: split_kind(kind)[1] for kind in kinds}
    return functions if len({*functions.values()}) == len(kinds) else {kind: kind for kind in kinds}


def time_queries(
    embed_fn: EmbedFn,
    side: Side,
    gallery: np.ndarray,
    distance: ranking.Distance,
    count: int,
) -> dict[str, float]:
    """Milliseconds of a query, medians: "sampling_ms" (from the INR's parameters to what the
    encoder reads), "encoding_ms", "comparing_ms" (with the whole gallery, exactly) and "query_ms".

    side: its records are read one by one and transformed here. The first is not counted: it
    compiles.
    """
    spec = side.spec
    raw = side.source.select(*spec.features) if spec.features else side.source
    stages: dict[str, list[float]] = {}
    generator = np.random.default_rng(spec.seed)
    for place in range(-1, min(count, len(raw))):
        record = raw[max(place, 0)]
        marks = [time.perf_counter()]
        for transform in spec.transforms:
            record = transform(record, generator)
        marks.append(time.perf_counter())
        batch = {
            key: np.asarray(value)[None]
            for key, value in record.items()
            if key not in ("id", "label")
        }
        # With one row a process each would embed its own: all give the same one.
        vectors = np.asarray(embed_fn(batch)[side.modality], np.float32)[:1]
        marks.append(time.perf_counter())
        next(iter(ranking.rank(vectors, gallery, k=1, distance=distance)))
        marks.append(time.perf_counter())
        if place >= 0:
            names = ("sampling_ms", "encoding_ms", "comparing_ms")
            for name, start, end in zip(names, marks[:-1], marks[1:], strict=True):
                stages.setdefault(name, []).append(1e3 * (end - start))
            stages.setdefault("query_ms", []).append(1e3 * (marks[-1] - marks[0]))
    return {name: statistics.median(values) for name, values in stages.items()}


def _matrix(cells: Mapping[tuple[str, str], Cell]) -> dict[str, Any]:
    """hit_rate_1 of all pairs, rows the queries; same_shape: null within a kind."""
    rows = list(dict.fromkeys(one for one, _ in cells))
    columns = list(dict.fromkeys(other for _, other in cells))
    rate = hit_rate.HIT_RATE.at(k=1)
    return {
        "queries": rows,
        "gallery": columns,
        "hit_rate_1": [
            [float(cells[one, other].apart[rate].mean()) for other in columns] for one in rows
        ],
        "same_shape": [[cells[one, other].same_shape for other in columns] for one in rows],
    }


def _said(queries: Mapping[str, Side], gallery: Mapping[str, Side], ties: str) -> dict[str, Any]:
    """Entries of a protocol."""
    sides = {**gallery, **queries}
    left = {
        kind: side.source.dropped_items
        for kind, side in sides.items()
        if isinstance(side.source, Matched)
    }
    said: dict[str, Any] = {
        "ties": ties,
        "kinds": {"queries": list(queries), "gallery": list(gallery)},
        "queries_with_nothing_relevant": "0 in every metric",
        "n_in_recall": "recall is over the smaller of k and all relevant items",
    }
    return said | ({"without_an_inr": left} if left else {})
