"""Retrieval by INRs whose architecture has no encoder: they are distilled into one that has.

    config.evals.distilled = {"name": "jax3dret.tasks.inret.distillation:make",
                              "source": "siren_sdf", "kind": "hashgrid_sdf"}

INRet, section 5.3: a query is, say, a plain network; what it says of points is fitted by a hash
grid (`models.fields.distillation`), which is embedded and compared with the hash grids that were
fitted to meshes. The INRs that come out are kept beside the prepared data, one file each:

    <prepared folder>/features/<split>-<digest>/<record>.safetensors
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jax3dret.core.logging import progress
from jax3dret.core.types import (
    ConfigError,
    DataError,
    DataSpec,
    EmbedFn,
    EvaluationData,
    Evaluator,
    OpenSource,
    Source,
)
from jax3dret.data.features import features_path
from jax3dret.data.lock import exclusive
from jax3dret.evaluators import write
from jax3dret.evaluators.embed import embed_side
from jax3dret.evaluators.fields import LIVE, SECONDS, having, open_kind
from jax3dret.evaluators.sides import Side, Sides
from jax3dret.metrics import hit_rate, ranking
from jax3dret.models.field_encoders.inr_row import split_kind
from jax3dret.models.fields.distillation import Oracle, distil
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.field_file import SUFFIX, read_field, write_field
from jax3dret.models.fields.field_records import FieldRecords, feature_of
from jax3dret.models.fields.presets import preset as preset_of
from jax3dret.tasks.inret.conversion import Fields

log = logging.getLogger("jax3dret")
# Counts up when the same source gives another INR.
VERSION = 1
DISTIL_S = SECONDS._replace(
    key="distil_s",
    title="Seconds of distillation",
    meaning="of one INR, fitted beside others; mean",
)


def make(
    data: EvaluationData,
    open_source: OpenSource,
    *,
    distance: ranking.Distance = "cosine",
    source: str = "siren_sdf",
    kind: str = "hashgrid_sdf",
    split: str = "test",
    preset: str = "paper",
    at_once: int = 8,
    seed: int = 0,
    modality: str = "inr",
    cuts: Sequence[int] = hit_rate.CUTS,
    ties: ranking.Ties = "pessimistic",
) -> Evaluator:
    """An evaluator (embed_fn, folder or None) -> the metrics of `metrics.hit_rate`, queries being
    INRs of the kind `source` distilled into the kind of the gallery; seconds of a query.

    preset: how they are fitted, see `models.fields.presets`; the architecture is that of the data
    set's INRs. at_once: INRs that are fitted together. Those that cannot be distilled are no
    queries; the log and result.json count them, the first with its reason.

    Raises ConfigError for a bad choice, here; when it runs, DataError where nothing can be
    distilled.
    """
    (_, of_source), (architecture, function) = split_kind(source), split_kind(kind)
    preset_of(preset, architecture)
    if at_once < 1:
        raise ConfigError(f"distilled: at_once={at_once}; give 1 or more")
    if of_source not in (function, "sdf"):
        raise ConfigError(
            f"distilled: INRs of {source} do not tell {function}; give a source of {function}"
        )
    gallery = open_kind(data, open_source, kind, split, modality)
    spec = data(kind + LIVE, split)

    def evaluate(embed_fn: EmbedFn, folder: Any) -> Mapping[str, float]:
        asked = having(having(open_source(split), source), kind)
        fields, reasons = distilled_fields(
            asked, source, kind, preset=preset, at_once=at_once, seed=seed
        )
        rows = sorted(fields)
        records = FieldRecords.from_manifest(asked.manifest)
        began = time.perf_counter()
        queries = _embedded(embed_fn, spec, modality, asked, rows, fields, records)
        encode_s = (time.perf_counter() - began) / len(rows)
        with tempfile.TemporaryDirectory(prefix="jax3dret-") as scratch:
            there = np.array(embed_side(embed_fn, gallery, pathlib.Path(scratch) / "g.npy")[0])
        of = gallery.source
        labels, ids = np.asarray(asked.labels)[rows], [asked.ids[row] for row in rows]
        sides = hit_rate.Sides(labels, ids, np.asarray(of.labels), of.ids)
        found = hit_rate.by_query(queries, there, sides, cuts=cuts, distance=distance, ties=ties)
        metrics = {metric.key: float(values.mean()) for metric, values in found.items()}
        distil_s = float(np.mean([fields[row].about["distil_s"] for row in rows]))
        metrics |= {DISTIL_S.key: distil_s, SECONDS.key: distil_s + encode_s}
        if folder is not None and jax.process_index() == 0:
            said = {
                "queries": f"INRs {source}, distilled into {kind} (preset {preset})",
                "not_distilled": {"count": len(reasons), "first": next(iter(reasons), "")},
                "ties": ties,
            }
            result = write.describe(
                pathlib.Path(folder).name,
                Sides(gallery, Side(asked, spec, modality)),
                metrics,
                [*found, DISTIL_S, SECONDS],
                said,
            )
            write.write_result(pathlib.Path(folder), result)
        return metrics

    return evaluate


def distilled_fields(
    source: Source, source_kind: str, kind: str, *, preset: str, at_once: int, seed: int
) -> tuple[dict[int, Field], list[str]]:
    """By record of a split, its INR of the kind `source_kind` distilled into `kind`; and why those
    that are not there are not. What was distilled before is read again.

    Raises DataError where none is there in the end.
    """
    architecture_name, function = split_kind(kind)
    records = FieldRecords.from_manifest(source.manifest)
    architecture = records.architectures[architecture_name]
    spec = preset_of(preset, architecture_name)[1]
    sources = Fields(source, source_kind)
    provenance = {
        "what": "distilled",
        "version": VERSION,
        "into": kind,
        "fit": dataclasses.asdict(spec),
        "seed": seed,
        **sources.described(),
    }
    folder = features_path(source, provenance).with_suffix("")
    paths = [folder / f"{row}{SUFFIX}" for row in range(len(source))]
    reasons: list[str] = []
    what = f"{source_kind} of {source.name} distilled into {kind}"
    with exclusive(folder.with_suffix(".lock"), what):
        todo = [row for row, path in enumerate(paths) if not path.is_file()]
        if todo:
            folder.mkdir(parents=True, exist_ok=True)
            log.info("%s, split '%s': %d INRs, kept in %s", what, source.split, len(todo), folder)
        with progress(len(todo), f"distil {source.split}", active=bool(todo)) as update:
            for first in range(0, len(todo), at_once):
                part = todo[first : first + at_once]
                oracles = []
                for row in part:
                    field = sources[row]
                    assert field is not None  # those without were left out
                    oracles.append(Oracle.of(field, source.ids[row]))
                began = time.perf_counter()
                found = distil(oracles, architecture, function, spec, seed=seed)
                seconds = (time.perf_counter() - began) / len(part)
                for row, each in zip(part, found, strict=True):
                    if each.field is None:
                        reasons.append(f"{source.ids[row]}: {each.reason}")
                        continue
                    about = {**each.field.about, "distil_s": seconds}
                    write_field(paths[row], dataclasses.replace(each.field, about=about))
                update(first + len(part))
    if reasons:
        log.warning("%s: %d could not be; the first: %s", what, len(reasons), reasons[0])
    there = {row: read_field(path) for row, path in enumerate(paths) if path.is_file()}
    if not there:
        raise DataError(f"{what}: none could be; the first: {reasons[0]}")
    return there, reasons


def _embedded(
    embed_fn: EmbedFn,
    spec: DataSpec,
    modality: str,
    source: Source,
    rows: Sequence[int],
    fields: Mapping[int, Field],
    records: FieldRecords,
) -> Float[np.ndarray, "Q D"]:
    """Embeddings of the distilled INRs, each read as a record of the data set is."""
    generator = np.random.default_rng(spec.seed)
    found = []
    for first in range(0, len(rows), spec.batch_size):
        part = list(rows[first : first + spec.batch_size])
        made = []
        for row in part:
            record = _record(fields[row], source, row, records)
            for transform in spec.transforms:
                record = dict(transform(record, generator))
            made.append({k: v for k, v in record.items() if k not in ("id", "label")})
        made += [made[-1]] * (spec.batch_size - len(part))
        batch = {key: np.stack([each[key] for each in made]) for key in made[0]}
        # Of several processes each gives the same rows; the first copy is as good as the others.
        found.append(np.asarray(embed_fn(batch)[modality], np.float32)[: len(part)])
    return np.concatenate(found)


def _record(field: Field, source: Source, row: int, records: FieldRecords) -> dict[str, Any]:
    name = field.architecture.name
    flat = records.layouts[name].flatten(field.variables)
    record = {
        "id": source.ids[row],
        "label": int(source.labels[row]),
        feature_of(name, field.function): flat["parameters"],
    }
    more = {f"{name}_{key}": flat[key] for key in ("structure", "shapes") if key in flat}
    return record | more
