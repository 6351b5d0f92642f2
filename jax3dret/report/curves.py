"""The learning curves of the report: what metrics.jsonl holds, one small chart each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax3dret.report import metric_text
from jax3dret.report.charts import Series, line_chart
from jax3dret.report.run_files import RunFiles
from jax3dret.report.sections import missing, section

# Rates say how fast, not how well: their median stands under the costs.
_RATES = ("items_per_s", "steps_per_s", "examples_per_s")
_LEARNING_RATES = ("lr", "learning_rate")


def curves(run: RunFiles) -> str:
    """Loss terms, learning rate, throughput and evaluation metrics over steps: one small chart
    each.
    """
    series = _collect(run.events)
    train = series.pop("train", {})
    panels = []
    losses = [k for k in train if k not in _RATES + _LEARNING_RATES]
    losses.sort(key=lambda k: (k != "loss", k == "accuracy"))
    for key in [*losses, *(k for k in _LEARNING_RATES if k in train)]:
        name = {"lr": "learning rate", "loss": "loss (total)"}.get(key, key.replace("_", " "))
        panels.append(line_chart(name, [Series(name, *train[key])], percent=key == "accuracy"))
    known = {evaluation.name: evaluation.about for evaluation in run.evaluations}
    for split, metrics in series.items():
        about = known.get(split, {})
        keys = [k for k in metric_text.ordered(metrics, about) if _is_share(metrics[k][1])][:6]
        if keys:
            title = f"{split.replace('_', ' ')} metrics"
            lines = [Series(metric_text.title(k, about), *metrics[k]) for k in keys]
            panels.append(line_chart(title, lines, percent=True))
    if not panels:
        body = missing(
            "metrics.jsonl holds no training step: this run evaluated given weights, so there is "
            "no curve to draw."
        )
    else:
        body = f'<div class="panels">{"".join(panels)}</div>'
        if not train:
            body = missing("No training step was logged; only evaluations are shown.") + body
    return section("curves", "Learning curves", body)


def _is_share(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite)) and bool((finite >= 0).all() and (finite <= 1).all())


def _collect(
    events: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """split -> metric -> (steps, values); of events at the same step the last one counts."""
    points: dict[str, dict[str, dict[int, float]]] = {}
    for event in events:
        for key, value in event.items():
            if (
                key not in ("step", "split", "time")
                and isinstance(value, int | float)
                and not isinstance(value, bool)
            ):
                points.setdefault(event["split"], {}).setdefault(key, {})[event["step"]] = float(
                    value
                )
    return {
        split: {
            k: (np.array(sorted(v), float), np.array([v[s] for s in sorted(v)]))
            for k, v in metrics.items()
        }
        for split, metrics in points.items()
    }
