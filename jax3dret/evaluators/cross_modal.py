"""Finds an object's own picture (or text) from its point cloud: do the two modalities share a space?"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jax3dret.core import files, logging
from jax3dret.core.types import Arrays, ConfigError, DataSpec, EmbedFn, Evaluator, Transform
from jax3dret.data.pipeline import eval_batches
from jax3dret.evaluators.embed import embed_split
from jax3dret.metrics.instances import Ties, counterpart_ranks, rank_metrics
from jax3dret.metrics.ranking import Distance


def make(
    open_source: Callable[[str], Any],
    *,
    split: str,
    transforms: tuple[Transform, ...],
    features: tuple[str, ...] = (),
    arrays: Arrays = (),
    query_key: str,
    gallery_key: str,
    batch_size: int = 32,
    num_threads: int = 2,
    seed: int = 0,
    distance: Distance = "cosine",
    ties: Ties = "pessimistic",
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> metrics of `metrics.instances.rank_metrics`.

    Every record of `split` is embedded under both keys; query i's one right answer is gallery row i. The other arguments are
    those of `evaluators.retrieval.make`. With a folder, process 0 writes `result.json` there.
    """
    source = open_source(split)
    spec = DataSpec(
        name=source.name,
        split=split,
        batch_size=batch_size,
        features=features,
        arrays=arrays,
        transforms=transforms,
        seed=seed,
        num_threads=num_threads,
    )

    def evaluate(embed_fn: EmbedFn, folder: Any) -> dict[str, float]:
        writing = folder is not None and jax.process_index() == 0
        widths: list[int] = []

        def both(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            embedded = embed_fn(batch)
            for key in (query_key, gallery_key):
                if key not in embedded:
                    raise ConfigError(
                        f"the model embeds {', '.join(sorted(embedded))}, not '{key}'"
                    )
            widths[:] = [embedded[query_key].shape[1]]
            return {"both": np.concatenate([embedded[query_key], embedded[gallery_key]], 1)}

        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            batches = eval_batches(
                source, spec, process_index=jax.process_index(), process_count=jax.process_count()
            )
            with logging.progress(len(source), f"embed {split}", active=writing) as update:
                rows = embed_split(
                    both,
                    batches,
                    items=len(source),
                    key="both",
                    path=pathlib.Path(scratch) / "both.npy",
                    ids=source.ids,
                    progress=update,
                )
            queries, gallery = rows[:, : widths[0]], rows[:, widths[0] :]
            metrics = rank_metrics(
                counterpart_ranks(queries, gallery, distance=distance, ties=ties)
            )
        if writing:
            _write(pathlib.Path(folder), source, metrics, query_key, gallery_key, distance, ties)
        return metrics

    return evaluate


def _write(
    folder: pathlib.Path,
    source: Any,
    metrics: Mapping[str, float],
    query_key: str,
    gallery_key: str,
    distance: str,
    ties: str,
) -> None:
    result = {
        "name": folder.name,
        "metrics": metrics,
        "protocol": {
            "query": query_key,
            "gallery": gallery_key,
            "relevant": "the same object alone",
            "distance": distance,
            "ties": ties,
            "search": "exact",
        },
        "dataset": {
            "name": source.name,
            "version": source.version,
            "splits": {"gallery": source.split, "query": source.split},
            "items": {"gallery": len(source), "query": len(source)},
        },
    }
    files.write_json(folder / "result.json", result, allow_nan=False)
