"""What a finished run left in its workdir, read once and checked, for the report."""

from __future__ import annotations

import base64
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.config_version import require_current
from jax3dret.core.files import read_json_object
from jax3dret.core.logging import read_metrics
from jax3dret.core.types import DataError
from jax3dret.report import metric_text
from jax3dret.report.published import Comparison, compare

_PNG = b"\x89PNG\r\n\x1a\n"


class Evaluation(NamedTuple):
    """One folder below evaluation/: result.json, and the embeddings and labels of queries and
    gallery where they were kept.
    """

    name: str
    folder: pathlib.Path
    result: Mapping[str, Any]
    embeddings: Float[np.ndarray, "Q D"] | None
    labels: Int[np.ndarray, " Q"] | None
    gallery_embeddings: Float[np.ndarray, "G D"] | None = None
    gallery_labels: Int[np.ndarray, " G"] | None = None

    @property
    def class_names(self) -> Sequence[str]:
        return [str(name) for name in self.result.get("class_names") or []]

    @property
    def about(self) -> metric_text.About:
        """What its metrics are, in the order to show them in."""
        return metric_text.read_about(self.result.get("about"))


class RunFiles(NamedTuple):
    """A workdir as the report sees it: files that a run may lack are empty; `evaluations` has at
    least one entry, in the order that summary.json states, others after them by name."""

    workdir: pathlib.Path
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    manifest: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Evaluation]

    @property
    def leading(self) -> Evaluation:
        return self.evaluations[0]

    @property
    def published(self) -> Comparison:
        """The paper's numbers that may stand beside those of the first evaluation."""
        return compare(
            self.summary.get("published") or {},
            config=self.config,
            manifest=self.manifest,
            result=self.leading.result,
            changed=self.summary.get("changed") or (),
        )


def read_run(workdir: pathlib.Path) -> RunFiles:
    """Reads what the report needs from a workdir.

    Raises:
        ConfigError: an earlier version wrote it.
        DataError: no folder, no evaluation in it, or a file that is not what its name says.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise DataError(f"{workdir}: no such folder; give the --workdir of a run")
    config = read_config(workdir)
    found = sorted(workdir.glob("evaluation/*/result.json"), key=lambda p: p.parent.name)
    if not found:
        raise DataError(f"{workdir}: no evaluation found; run with --mode=eval first")
    summary = _read_object(workdir / "summary.json")
    order = summary.get("evaluators") or []
    evaluations = [_read_evaluation(path) for path in found]
    evaluations.sort(key=lambda e: order.index(e.name) if e.name in order else len(order))
    log = workdir / "metrics.jsonl"
    return RunFiles(
        workdir=workdir,
        summary=summary,
        config=config,
        versions=_read_object(workdir / "versions.json"),
        manifest=_read_object(workdir / "manifest.json"),
        events=read_metrics(log) if log.is_file() else (),
        evaluations=evaluations,
    )


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The config of a workdir; empty where it has none.

    Raises ConfigError where an earlier version wrote it, DataError where it cannot be read.
    """
    config = _read_object(workdir / "config.json")
    if config:
        require_current(config, workdir)
    return config


def _read_evaluation(path: pathlib.Path) -> Evaluation:
    result = _read_object(path)
    embeddings, labels = _embeddings_of(path, result, "")
    gallery, gallery_labels = _embeddings_of(path, result, "gallery_")
    if embeddings is not None and gallery is not None and embeddings.shape[1] != gallery.shape[1]:
        raise DataError(
            f"{path.parent}: embeddings.npy is {embeddings.shape[1]} wide, gallery_embeddings.npy "
            f"{gallery.shape[1]}"
        )
    return Evaluation(
        path.parent.name, path.parent, result, embeddings, labels, gallery, gallery_labels
    )


def _embeddings_of(
    path: pathlib.Path, result: Mapping[str, Any], side: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Embeddings and labels of the queries ("") or the gallery ("gallery_")."""
    embeddings = _read_array(path.with_name(f"{side}embeddings.npy"), 2)
    labels = _read_array(path.with_name(f"{side}labels.npy"), 1)
    if embeddings is not None and labels is not None and len(labels) != len(embeddings):
        raise DataError(
            f"{path.parent}: {side}labels.npy has {len(labels)} rows, {side}embeddings.npy has "
            f"{len(embeddings)}"
        )
    if labels is None or not result.get("per_class"):
        return embeddings, None  # no class was scored: whatever numbers stand there mean nothing
    labels = labels.astype(np.int64)
    known = len(result.get("class_names") or [])
    if len(labels) and labels.max() >= known:
        raise DataError(
            f"{path.parent}: {side}labels.npy names class {labels.max()}, result.json has {known} "
            "class_names"
        )
    if not len(labels) or labels.max() < 0:
        return embeddings, None  # -1 throughout: the data set has no labels
    return embeddings, labels


def _read_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object of a file; empty where there is none."""
    return read_json_object(path) if path.is_file() else {}


def _read_array(path: pathlib.Path, ndim: int) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not readable as an array ({error})") from error
    if array.ndim != ndim or array.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: {array.dtype} of shape {array.shape}; it must be numbers in {ndim} "
            "dimension(s)"
        )
    return array


def thumbnail(evaluation: Evaluation, name: object) -> str | None:
    """A picture of thumbnails/ as a data URI; None where it is missing, no PNG, or outside the
    folder.
    """
    if not isinstance(name, str) or not name or pathlib.PurePath(name).name != name or "\\" in name:
        return None
    path = evaluation.folder / "thumbnails" / name
    if not path.is_file():
        return None
    data = path.read_bytes()
    return (
        "data:image/png;base64," + base64.b64encode(data).decode()
        if data.startswith(_PNG)
        else None
    )


def strict(value: Any) -> Any:
    """The value as strict JSON knows it: NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def protocol_of(run: RunFiles, evaluation: Evaluation) -> dict[str, Any]:
    """The conventions behind an evaluation's numbers, and what pictures the run looked at."""
    pictures = (run.summary.get("meta") or {}).get("pictures")
    stated = evaluation.result.get("protocol") or {}
    return {**stated, **({"pictures": pictures} if pictures else {})}


def metrics_json(run: RunFiles) -> dict[str, Any]:
    """report/metrics.json: the numbers for programs. "metrics" and "about" are those of the first
    evaluation, "evaluators" has the metrics of the others by name."""
    result, published = run.leading.result, run.published
    others = {e.name: e.result.get("metrics") or {} for e in run.evaluations[1:]}
    dataset, index, timing = (result.get(k) or {} for k in ("dataset", "index", "timing"))
    return strict(
        {
            "system": run.summary.get("system"),
            "config": run.summary.get("config"),
            "dataset": {
                **{k: dataset.get(k) for k in ("name", "version", "splits", "items")},
                **({"queries": result["queries"]} if result.get("queries") else {}),
            },
            "encoder": run.summary.get("meta") or {},
            "protocol": protocol_of(run, run.leading),
            "metrics": result.get("metrics") or {},
            **{k: result[k] for k in ("spread", "by_seed") if result.get(k)},
            "about": run.leading.about,
            "evaluators": others,
            "published": published.rows,
            **({"published_differs": published.differs} if published.differs else {}),
            **({"published_left_out": published.left_out} if published.left_out else {}),
            "index": {k: index.get(k) for k in ("kind", "scoring", "items", "recall_at_10")},
            "timing": {
                "train_s": run.summary.get("train_s"),
                "embed_items_per_s": timing.get("embed_items_per_s"),
                "search_ms_per_query": timing.get("search_ms_per_query"),
            },
            "run": run.summary.get("run") or {},
        }
    )
