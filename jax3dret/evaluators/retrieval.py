"""The retrieval evaluator: embed gallery and queries, build the index, score it, write what the report shows.

Files, below the folder that the evaluator is given: `embeddings.npy` (queries, float32[Q, D]), `labels.npy` (int32[Q]),
`thumbnails/*.png` and, last and by rename, `result.json`. Without a folder nothing is written: the cheap mode for a
look during training.
"""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jax3dret.core import files, logging
from jax3dret.core.types import (
    Arrays,
    ConfigError,
    DataError,
    DataSpec,
    EmbedFn,
    Evaluator,
    Transform,
)
from jax3dret.data.pipeline import eval_batches
from jax3dret.evaluators import examples, scoring
from jax3dret.evaluators.embed import embed_split
from jax3dret.index.index import Index, check_options
from jax3dret.metrics import classification, ranking


class Evaluated(NamedTuple):
    """What an addition to the evaluator sees: the sources, their embeddings row by row, the distance that compares them.

    outputs: further outputs of the model for the gallery, by name, those that it gave. labelled: whether the labels mean anything.
    """

    gallery_source: Any
    query_source: Any
    gallery: np.ndarray
    queries: np.ndarray
    outputs: Mapping[str, np.ndarray]
    distance: Literal["cosine", "euclidean"]
    labelled: bool


class Addition(NamedTuple):
    """What it adds: metrics, entries of the protocol and of result.json (each replaces one of the same name), and files.

    write: called with the folder before result.json appears; never where nothing is written.
    """

    metrics: Mapping[str, float]
    protocol: Mapping[str, Any]
    result: Mapping[str, Any]
    write: Callable[[pathlib.Path], None]


def make(
    open_source: Callable[[str], Any],
    *,
    gallery_split: str,
    query_split: str,
    transforms: tuple[Transform, ...],
    batch_size: int = 32,
    features: tuple[str, ...] = (),
    arrays: Arrays = (),
    num_threads: int = 2,
    seed: int = 0,
    gallery_key: str = "shape",
    query_key: str = "shape",
    open_query_source: Callable[[str], Any] | None = None,
    query_transforms: tuple[Transform, ...] | None = None,
    query_features: tuple[str, ...] | None = None,
    query_arrays: Arrays | None = None,
    distance: Literal["cosine", "euclidean"] = "cosine",
    neighbours: int = 100,
    ties: ranking.Ties = "index",
    self_match: Literal["exclude", "include"] = "exclude",
    index: Mapping[str, Any] | None = None,
    picture: examples.Picture = examples.picture,
    full_ranking_pairs: int = scoring.FULL_RANKING_PAIRS,
    gallery_outputs: tuple[str, ...] = (),
    add: Callable[[Evaluated], Addition] | None = None,
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> metrics.

    Every process calls it, embeds, and gets the same metrics; process 0 alone writes.

    open_source: split -> data.pipeline.Source of the gallery; `open_query_source` that of the queries where it is another
    data set, as with sketches; likewise query_transforms, query_features, query_arrays and the keys of the model's embeddings.
    gallery_split and query_split may be equal: then every item is a query against all others. Any gallery item with the
    query's own id is left out of its list (self_match="exclude").
    transforms, features, batch_size, num_threads, seed: as in `DataSpec`; transforms draw from (seed, row), so an
    evaluation repeats.
    arrays: as in `DataSpec`, for the gallery, and for the queries unless query_arrays are given; so functions of the source, not
    paths, where the two differ.
    neighbours: n, the length of the ranked lists; a smaller gallery cuts it, and the metrics are named after the cut n.
    index: keyword arguments of `Index.build`, kind and scoring above all.
    gallery_outputs: names of what the model may give for the gallery beside its embedding, [B, ...] each, kept for `add`.
    add: what another evaluator wants to say about the same embeddings; it runs on every process.
    For the metrics see `scoring.score`. A data set whose manifest says "labelled": false has only `index_recall_at_10`.

    Raises ConfigError for a bad choice, here; when it runs, DataError for embeddings or data that cannot be used.
    """
    ranking.check_choice("distance", distance, ("cosine", "euclidean"))
    ranking.check_choice("ties", ties, ("index", "pessimistic", "optimistic", "average"))
    ranking.check_choice("self_match", self_match, ("exclude", "include"))
    if neighbours < 1:
        raise ConfigError(f"neighbours={neighbours}: a ranked list has at least one entry")
    options = dict(index or {})
    if unknown := sorted(set(options) - {"kind", "scoring", "target_recall"}):
        raise ConfigError(
            f"index.{unknown[0]}: not an option of the index; it takes kind, scoring, target_recall"
        )
    gallery_source = open_source(gallery_split)
    check_options(len(gallery_source), distance=distance, **options)  # now, not after the training
    same = open_query_source is None and query_split == gallery_split and query_key == gallery_key
    same = same and query_transforms is None and query_arrays is None
    query_source = gallery_source if same else (open_query_source or open_source)(query_split)
    if query_source.class_names != gallery_source.class_names:
        raise ConfigError(
            f"queries have the classes {_few(query_source.class_names)}, the gallery {_few(gallery_source.class_names)}; "
            "labels can be compared only within one list of classes"
        )
    labelled = _labelled(gallery_source) and _labelled(query_source)

    def spec(
        source: Any, chain: tuple[Transform, ...], kept: tuple[str, ...], joined: Arrays
    ) -> DataSpec:
        return DataSpec(
            name=source.name,
            split=source.split,
            batch_size=batch_size,
            features=kept,
            arrays=joined,
            transforms=chain,
            seed=seed,
            num_threads=num_threads,
        )

    gallery_spec = spec(gallery_source, transforms, features, arrays)
    query_spec = spec(
        query_source,
        transforms if query_transforms is None else query_transforms,
        features if query_features is None else query_features,
        arrays if query_arrays is None else query_arrays,
    )

    def evaluate(embed_fn: EmbedFn, folder: Any) -> dict[str, float]:
        writing = folder is not None and jax.process_index() == 0
        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            path = pathlib.Path(scratch)
            kept: dict[str, list[np.ndarray]] = {}
            gallery, rate = _embed(
                _keeping(embed_fn, gallery_outputs, kept),
                gallery_source,
                gallery_spec,
                gallery_key,
                path / "gallery.npy",
                writing,
            )
            queries = gallery
            if not same:
                queries, _ = _embed(
                    embed_fn, query_source, query_spec, query_key, path / "queries.npy", writing
                )
            if gallery.shape[1] != queries.shape[1]:
                raise DataError(
                    f"gallery embeddings are {gallery.shape[1]} wide, query embeddings {queries.shape[1]}; "
                    "they must be of one space"
                )
            searched = Index.build(gallery, gallery_source.ids, distance=distance, **options)
            # Lists of ten at least, for recall and precision at 10.
            found = scoring.nearest(
                searched,
                queries,
                query_source.ids,
                max(neighbours, *scoring.CUTS),
                self_match=self_match,
            )
            lists = found._replace(
                rows=found.rows[:, :neighbours], squared=found.squared[:, :neighbours]
            )
            metrics: dict[str, float] = {"index_recall_at_10": searched.report()["recall_at_10"]}
            scores = None
            if labelled:
                scores = scoring.score(
                    searched,
                    queries,
                    query_source.labels,
                    gallery_source.labels,
                    found,
                    n=neighbours,
                    ties=ties,
                    full_ranking_pairs=full_ranking_pairs,
                )
                metrics = scores.metrics
            added = Addition({}, {}, {}, lambda folder: None)
            if add is not None:
                outputs = {
                    name: np.concatenate(rows)[: len(gallery)] for name, rows in kept.items()
                }
                added = add(
                    Evaluated(
                        gallery_source,
                        query_source,
                        gallery,
                        queries,
                        outputs,
                        searched.distance,
                        labelled,
                    )
                )
                metrics = {**metrics, **added.metrics}
            if writing:
                protocol = _protocol(
                    searched, lists, neighbours, ties, self_match, same, labelled, scores
                )
                result = {
                    "name": pathlib.Path(folder).name,
                    "metrics": metrics,
                    "protocol": {**protocol, **added.protocol},
                    "dataset": {
                        "name": gallery_source.name,
                        "version": gallery_source.version,
                        "splits": {"gallery": gallery_source.split, "query": query_source.split},
                        "items": {"gallery": len(gallery_source), "query": len(query_source)},
                    },
                    "index": searched.report(),
                    "timing": {"embed_items_per_s": rate, "search_ms_per_query": found.ms},
                    "class_names": list(gallery_source.class_names),
                    **added.result,
                }
                _write(
                    pathlib.Path(folder),
                    result,
                    query_source,
                    gallery_source,
                    path,
                    same,
                    lists,
                    distance,
                    scores,
                    picture,
                    added.write,
                )
        return metrics

    return evaluate


def _keeping(
    embed_fn: EmbedFn, names: tuple[str, ...], kept: dict[str, list[np.ndarray]]
) -> EmbedFn:
    """The same function; of what it gives, the arrays of these names are appended to `kept`. Padding rows stand at the very end."""

    def embed(batch: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        embedded = embed_fn(batch)
        for name in names:
            if name in embedded:
                kept.setdefault(name, []).append(np.asarray(embedded[name], np.float32))
        return embedded

    return embed


def _embed(
    embed_fn: EmbedFn, source: Any, spec: DataSpec, key: str, path: pathlib.Path, show: bool
) -> tuple[np.memmap, float]:
    """Embeddings of a source and items per second, the first batch (which compiles) left out where there are more."""
    marks = [(0, time.perf_counter())]
    batches = eval_batches(
        source, spec, process_index=jax.process_index(), process_count=jax.process_count()
    )
    with logging.progress(len(source), f"embed {source.split}", active=show) as update:

        def note(done: int) -> None:
            marks.append((done, time.perf_counter()))
            update(done)

        vectors = embed_split(
            embed_fn, batches, items=len(source), key=key, path=path, ids=source.ids, progress=note
        )
    first = marks[1] if len(marks) > 2 else marks[0]
    return vectors, (marks[-1][0] - first[0]) / max(marks[-1][1] - first[1], 1e-9)


def _protocol(
    index: Index,
    found: scoring.Neighbours,
    neighbours: int,
    ties: str,
    self_match: str,
    same: bool,
    labelled: bool,
    scores: scoring.Scores | None,
) -> dict[str, Any]:
    """The conventions behind the numbers, for a reader."""
    n = found.rows.shape[1]
    protocol: dict[str, Any] = {
        "distance": index.distance,
        "self_match": "excluded by id" if self_match == "exclude" else "included",
        "ties": {"index": "lowest gallery row first"}.get(ties, ties),
        "queries_against": "all other items" if same else "the gallery split",
        "search": "exact" if index.scoring == "brute_force" else "approximate",
        "n": n,
    }
    if n < neighbours:
        protocol["n_note"] = (
            f"{neighbours} neighbours were asked for; the gallery has {n}, so lists and metric names stop at {n}"
        )
    if scores is not None:
        protocol |= {
            "nn_f1": "macro F1 of the 1-NN classifier over the classes in truth or prediction, undefined = 0",
            "ndcg": f"gain 1 for the query's class, discount 1/log2(rank + 1), ideal = min({n}, relevant items)",
            "ndcg_published_code": "p + (1 - p) c(C), p = precision at n: no rank discount; not comparable with ndcg",
            "recall": "fraction of the relevant items among the k nearest",
            "hit_rate": "at least one relevant item among the k nearest",
            "queries_with_nothing_relevant": "wrong in nn_acc, nn_f1, hit_rate, precision; left out of ndcg, map, recall",
            **scores.notes,
        }
    if not labelled:
        protocol["labels"] = "none: the data set is not labelled, so there are no label metrics"
    return protocol


def _write(
    folder: pathlib.Path,
    result: dict[str, Any],
    query_source: Any,
    gallery_source: Any,
    scratch: pathlib.Path,
    same: bool,
    found: scoring.Neighbours,
    distance: str,
    scores: scoring.Scores | None,
    picture: examples.Picture,
    more: Callable[[pathlib.Path], None],
) -> None:
    """Embeddings, labels, thumbnails and more; then result.json, which says that they are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    shutil.copyfile(scratch / ("gallery.npy" if same else "queries.npy"), folder / "embeddings.npy")
    labels = np.asarray(query_source.labels, np.int32)
    np.save(folder / "labels.npy", labels)
    correct = None if scores is None else scores.predicted == labels
    result["per_class"], result["confusion"] = [], None
    if scores is not None:
        names = list(gallery_source.class_names)
        result["per_class"] = classification.per_class_table(
            labels, scores.predicted, names, average_precision=scores.average_precision
        )
        counts = classification.confusion(labels, scores.predicted, len(names))
        result["confusion"] = {"classes": names, "counts": counts.tolist()}
    result["examples"] = examples.write(
        folder / "thumbnails",
        examples.choose(correct, labels),
        query_source,
        gallery_source,
        found.rows,
        found.scores(distance),
        correct,
        labelled=scores is not None,
        show=picture,
    )
    more(folder)
    files.write_json(folder / "result.json", result, allow_nan=False)


def _labelled(source: Any) -> bool:
    manifest = source.manifest
    return bool(manifest.get("labelled", manifest.get("source", {}).get("labelled", True)))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
