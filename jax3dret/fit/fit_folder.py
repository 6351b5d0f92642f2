"""Folders of meshes as a store of INRs: what `jax3dret fit` does.

Meshes are read by worker processes, fitted in this one, in batches. Run again, the command fits
what is missing: an INR belongs to the content of a file and to how it is fitted.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jax3dret.core import files, rng
from jax3dret.core.logging import progress
from jax3dret.core.types import ConfigError, DataError
from jax3dret.core.workers import ordered_map
from jax3dret.geometry import meshes
from jax3dret.geometry.mesh_formats import unread
from jax3dret.geometry.unit_sphere import to_unit_sphere
from jax3dret.inputs import choose, loading
from jax3dret.inputs.item import Item
from jax3dret.metrics import reconstruction
from jax3dret.models.fields import devices, fill_store
from jax3dret.models.fields.field_store import EVALUATED, FAILED, StoreWriter, check_out, writing
from jax3dret.models.fields.fill_store import Candidate, Plan
from jax3dret.models.fields.fit_meshes import Job, y_up
from jax3dret.search.scan import File, Scan, check_sources, scan

log = logging.getLogger("jax3dret")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Counts of meshes. failed: with reasons, as failed.json holds them. means: of the evaluation,
    by metric; empty without one.
    """

    fitted: int
    kept: int
    failed: list[dict[str, str]]
    means: dict[str, float]


def fit_folder(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    job: Job,
    *,
    jobs: int = 1,
    seed: int = 0,
    up_axis: str | None = None,
    evaluate: bool = False,
) -> Summary:
    """Fits an INR to every mesh of `sources` into the store `out`; what is there already is kept.

    jobs: processes that read files. up_axis: "y" or "z" in all files (None: y in glTF, z
    elsewhere). evaluate: the Chamfer distance and gIoU of each INR to its mesh, in
    `out`/evaluated.json. Meshes that cannot be fitted are listed, with reasons, in
    `out`/failed.json.

    Raises: ConfigError: a source that does not exist, `out` is something else. DataError: no mesh,
        or none that could be fitted.
    """
    if not os.fspath(out):
        raise ConfigError("--out is empty; give a folder")
    if jobs < 1:
        raise ConfigError(f"--jobs={jobs}: give 1 or more")
    devices.one_for_each_core()
    check_sources(sources)
    out = pathlib.Path(out)
    check_out(out)
    found = scan(sources, extensions=meshes.EXTENSIONS, exclude=out, unread=unread.REASONS)
    if not found.files:
        first = next((f"; the first is {s['path']}: {s['reason']}" for s in found.skipped), "")
        raise DataError(
            f"{', '.join(map(str, sources))}: no meshes; supported are "
            f"{', '.join(meshes.EXTENSIONS)}{first}"
        )
    with writing(out) as store:
        return _fit(store, found, Plan((job,), seed), jobs, up_axis, evaluate)


def _fit(
    store: StoreWriter, found: Scan, plan: Plan, jobs: int, up_axis: str | None, evaluate: bool
) -> Summary:
    failed = [dict(entry) for entry in found.skipped]
    scores: dict[str, dict[str, float]] = {}
    fitted = kept = 0
    failed_before = _failed_before(store)
    known = {*fill_store.known(store), *failed_before}
    read = functools.partial(
        _read, plan=plan, up_axis=up_axis, known=frozenset() if evaluate else frozenset(known)
    )
    read_files = ordered_map(read, found.files, jobs=jobs, name=lambda file: file.path)
    held: dict[str, Candidate] = {}  # meshes to evaluate

    def candidates() -> Iterator[Candidate]:
        for candidate in read_files:
            if evaluate:
                held[candidate.name] = candidate
            yield candidate

    with progress(len(found.files), "fit") as show:
        done = 0
        results = fill_store.fill(
            store,
            candidates(),
            plan,
            failed=failed_before,
            tell=lambda text: show(done, text),
        )
        for done, (file, result) in enumerate(zip(found.files, results, strict=True), start=1):
            (name,), (reason,) = result.files, result.reasons
            if name is None:
                entry = {"file": file.id, "path": file.path, "reason": reason}
                failed.append({**entry, **({"fit": result.fits[0]} if result.fits[0] else {})})
            else:
                fitted += result.fitted
                kept += not result.fitted
                if evaluate:
                    scores[name] = _evaluate(store, name, held.pop(result.name), plan)
            held.pop(result.name, None)
            show(done, f"{fitted} fitted, {kept} kept, {len(failed)} failed")
    store.save(failed)
    if not fitted and not kept:
        raise DataError(
            f"none of {len(found.files)} meshes could be fitted, the first is "
            f"{failed[0]['path']}: {failed[0]['reason']}; all are listed in "
            f"{store.folder / 'failed.json'}"
        )
    means: dict[str, float] = {}
    if evaluate:
        files.write_json(store.folder / EVALUATED, scores, allow_nan=False, sort_keys=True)
        for key in ("chamfer", "giou"):
            values = [score[key] for score in scores.values() if key in score]
            if values:
                means[key] = sum(values) / len(values)
    return Summary(fitted, kept, failed, means)


def _failed_before(store: StoreWriter) -> dict[str, str]:
    """{identity of a fit: why it failed}, of an earlier run: the same fit fails again."""
    try:
        entries = files.read_json_object(store.folder / FAILED)["failed"]
        return {str(each["fit"]): str(each["reason"]) for each in entries if "fit" in each}
    except (DataError, LookupError, TypeError):
        return {}


def _read(file: File, *, plan: Plan, up_axis: str | None, known: frozenset[str]) -> Candidate:
    """In a worker: the mesh of a file, without it where all of its INRs are known."""
    item = Item.of(file.path, up_axis)
    try:
        kind = loading.kind_of(item)
        if kind != "mesh":
            return Candidate(file.id, "", reason=f"is {choose.a(kind)}; a mesh is needed")
        digest = item.digest()
        with pathlib.Path(file.path).open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        about = {"source_sha256": content, "up_axis": item.axis}
        if set(plan.fits(digest)) <= known:
            return Candidate(file.id, digest, up_axis=item.axis, about=about)
        mesh = loading.load(item).value
    except DataError as error:
        return Candidate(file.id, "", reason=str(error).removeprefix(f"{file.path}: "))
    except OSError as error:
        reason = f"cannot be read ({(error.strerror or str(error)).lower()})"
        return Candidate(file.id, "", reason=reason)
    return Candidate(file.id, digest, mesh, up_axis=item.axis, about=about)


def _evaluate(store: StoreWriter, name: str, candidate: Candidate, plan: Plan) -> dict[str, float]:
    """Chamfer distance and, where the function has a sign, gIoU. An INR without a surface has
    neither; that is logged.
    """
    assert candidate.mesh is not None
    field = store.read(name)
    unit = to_unit_sphere(y_up(candidate.mesh, candidate.up_axis)).mesh
    draws = rng.host_generator(plan.seed, "fields/evaluate", int(str(field.about["fit"])[:16], 16))
    try:
        scores: Mapping[str, Any] = reconstruction.reconstruction(
            field, field.function, unit, reconstruction.COUNT, draws
        )
    except DataError as error:
        log.warning("%s: cannot be evaluated: %s", name, error)
        return {}
    return {key: float(value) for key, value in scores.items() if value == value}
