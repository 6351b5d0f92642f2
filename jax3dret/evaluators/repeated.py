"""One evaluation of the same weights for each of several seeds: means, and how far they spread.

A seed fixes how points are drawn and whatever else the transforms of evaluation data leave to
chance. It is apart from the seed of the training, so that one training has several evaluations.

    config.eval.seeds = (0, 1, 2, 3, 4)
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jax3dret.core import files
from jax3dret.core.types import DataSpec, EmbedFn, EvaluationData, Evaluator
from jax3dret.evaluators import write


def make(
    build: Callable[[EvaluationData], Evaluator], data: EvaluationData, seeds: Sequence[int]
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> the means over the seeds of the metrics that all
    of them have.

    build: an evaluator of data. The files below the folder are those of the first seed; the
    result.json there has the means, "spread" (the standard deviation of a sample, where there are
    two seeds or more) and "by_seed", a list of {"seed", "metrics"}.

    Raises what `build` raises, here, and what its evaluators raise when it runs.
    """
    evaluators = {seed: build(_seeded(data, seed)) for seed in seeds}

    def evaluate(embed_fn: EmbedFn, folder: Any) -> Mapping[str, float]:
        # The one that writes comes last: what it leaves is not taken for the whole if this is cut.
        by_seed = {
            seed: evaluators[seed](embed_fn, folder if seed == seeds[0] else None)
            for seed in reversed(seeds)
        }
        found = [by_seed[seed] for seed in seeds]
        shared = [key for key in found[0] if all(key in metrics for metrics in found)]
        values = {key: [metrics[key] for metrics in found] for key in shared}
        means = {key: statistics.fmean(each) for key, each in values.items()}
        path = None if folder is None else pathlib.Path(folder) / "result.json"
        if path is not None and jax.process_index() == 0:
            result: dict[str, Any] = {"name": path.parent.name}
            result |= files.read_json_object(path) if path.is_file() else {}
            several = len(seeds) > 1
            result |= {
                "metrics": write.finite(means),
                "spread": write.finite({k: _deviation(v) for k, v in values.items()})
                if several
                else {},
                "by_seed": [
                    {"seed": seed, "metrics": write.finite(metrics)}
                    for seed, metrics in zip(seeds, found, strict=True)
                ],
            }
            result["protocol"] = {**result.get("protocol", {}), **_said(seeds)}
            write.write_result(path.parent, result)
        return means

    return evaluate


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample; NaN where one is not finite."""
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def _seeded(data: EvaluationData, seed: int) -> EvaluationData:
    def of_seed(modality: str, split: str) -> DataSpec:
        return dataclasses.replace(data(modality, split), seed=seed)

    return of_seed


def _said(seeds: Sequence[int]) -> dict[str, Any]:
    """The entries of a protocol."""
    said: dict[str, Any] = {"evaluation_seeds": list(seeds)}
    if len(seeds) > 1:
        said["evaluations"] = (
            f"metrics are means over {len(seeds)} evaluations of the same weights; classes, "
            f"confusions, map and examples are those of seed {seeds[0]}"
        )
    return said
