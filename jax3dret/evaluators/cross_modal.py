"""Finds an object's own picture (or text) from its point cloud: do both share a space?

config.evals.cloud_to_image = {
    "name": "jax3dret.evaluators.cross_modal:make",
    "query": "latent",
    "gallery": "image",
}
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jax3dret.core.types import ConfigError, EmbedFn, EvaluationData, Evaluator, OpenSource
from jax3dret.evaluators import write, zeros
from jax3dret.evaluators.embed import embed_side
from jax3dret.evaluators.sides import Sides, open_side
from jax3dret.metrics import instances
from jax3dret.metrics.ranking import Distance


def make(
    data: EvaluationData,
    open_source: OpenSource,
    *,
    query: str,
    gallery: str,
    distance: Distance = "cosine",
    split: str = "test",
    ties: instances.Ties = "pessimistic",
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> metrics of `metrics.instances.rank_metrics`.

    Every record of `split` is embedded as both `query` and `gallery`, by one pass over what the
    task gives for the gallery; query i's one right answer is gallery row i. With a folder, process
    0 writes `result.json` there.
    """
    side = open_side(data, open_source, gallery, split)
    joint = side._replace(modality=f"{query} and {gallery}")
    protocol = {
        "query": query,
        "gallery": gallery,
        "relevant": "the same object alone",
        "distance": distance,
        "ties": ties,
        "search": "exact",
    }

    def evaluate(embed_fn: EmbedFn, folder: Any) -> dict[str, float]:
        writing = folder is not None and jax.process_index() == 0
        widths: list[int] = []

        def embed_both(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            embedded = embed_fn(batch)
            for key in (query, gallery):
                if key not in embedded:
                    raise ConfigError(
                        f"the model embeds {', '.join(sorted(embedded))}, not '{key}'"
                    )
            widths[:] = [embedded[query].shape[1]]
            return {joint.modality: np.concatenate([embedded[query], embedded[gallery]], 1)}

        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            path = pathlib.Path(scratch) / "both.npy"
            rows = embed_side(embed_both, joint, path, show=writing).vectors
            ranks = instances.counterpart_ranks(
                rows[:, : widths[0]], rows[:, widths[0] :], distance=distance, ties=ties
            )
            metrics = instances.rank_metrics(ranks)
            lost = zeros.said(rows[:, widths[0] :], rows[:, : widths[0]], distance)
        if writing:
            where, sides = pathlib.Path(folder), Sides(side, side)
            write.write_result(
                where,
                write.describe(where.name, sides, metrics, instances.METRICS, protocol | lost),
            )
        return metrics

    return evaluate
