"""INRs as a store of INRs of another architecture: what `jax3dret fit` does with files of INRs.

Each source is asked for values (`models.fields.distillation`), so its own architecture may be any
that can be read. Run again, the command distils what is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from jax3dret.core.logging import progress
from jax3dret.core.types import ConfigError, DataError
from jax3dret.fit.fit_folder import Summary
from jax3dret.inputs import loading
from jax3dret.models.fields import architectures, devices
from jax3dret.models.fields.distillation import Oracle, distil
from jax3dret.models.fields.field_file import SUFFIX, read_field
from jax3dret.models.fields.field_store import StoreWriter, check_out, file_of, is_store, writing
from jax3dret.models.fields.fit_meshes import Job, at_once
from jax3dret.search.scan import File, check_sources, scan

# Counts up whenever the same source, job and seed give other numbers.
VERSION = 2


def are_fields(sources: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether the sources are files of INRs, or stores of them, and no meshes. Raises ConfigError
    for some of both.
    """
    kinds = {os.fspath(source): _is_field(pathlib.Path(source)) for source in sources}
    if len({*kinds.values()}) > 1:
        first = {kind: name for name, kind in reversed(kinds.items())}
        raise ConfigError(
            f"{first[True]} holds INRs, {first[False]} does not; fit meshes and distil INRs in two "
            "commands"
        )
    return True in kinds.values()


def distil_folder(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    job: Job,
    *,
    seed: int = 0,
) -> Summary:
    """Distils every INR of `sources` into the store `out`; what is there already is kept. INRs that
    cannot be are listed, with reasons, in `out`/failed.json.

    Raises: ConfigError: a source that does not exist, `out` is something else. DataError: no INR,
        or none that could be distilled.
    """
    if not os.fspath(out):
        raise ConfigError("--out is empty; give a folder")
    devices.one_for_each_core()
    check_sources(sources)
    out = pathlib.Path(out)
    check_out(out)
    found = scan(sources, extensions=(SUFFIX,), exclude=out)
    lost = loading.missing(sources, ("field",))
    if not found.files:
        raise DataError(f"{', '.join(map(str, sources))}: no INRs; they are {SUFFIX} files")
    with writing(out) as store:
        failed = [dict(entry) for entry in found.skipped] + lost
        fitted = kept = 0
        step = at_once((job,))
        with progress(len(found.files), "distil") as show:
            for first in range(0, len(found.files), step):
                part = found.files[first : first + step]
                reasons, there = _distil_part(store, part, job, seed)
                failed += [
                    {"file": file.id, "path": file.path, "reason": reasons[file.id]}
                    for file in part
                    if file.id in reasons
                ]
                kept += there
                fitted += len(part) - len(reasons) - there
                store.save()
                show(first + len(part), f"{fitted} fitted, {kept} kept, {len(failed)} failed")
        store.save(failed)
        if not fitted and not kept:
            raise DataError(
                f"none of {len(found.files)} INRs could be distilled, the first is "
                f"{failed[0]['path']}: {failed[0]['reason']}; all are listed in "
                f"{store.folder / 'failed.json'}"
            )
    return Summary(fitted, kept, failed, {})


def _distil_part(
    store: StoreWriter, files: Sequence[File], job: Job, seed: int
) -> tuple[dict[str, str], int]:
    """By file, why it could not be distilled; and how many were there already."""
    reasons: dict[str, str] = {}
    there = 0
    waiting: list[tuple[str, str, str, Oracle]] = []
    for file in files:
        name = file.id.removesuffix(SUFFIX)
        path = file_of(name, job.architecture.name, job.function)
        try:
            content = hashlib.sha256(pathlib.Path(file.path).read_bytes()).hexdigest()
            fit = _identity(job, seed, content)
            if store.has(path, fit):
                there += 1
                continue
            field = read_field(file.path)
        except OSError as error:
            reasons[file.id] = f"cannot be read ({(error.strerror or str(error)).lower()})"
        except DataError as error:
            reasons[file.id] = str(error).removeprefix(f"{file.path}: ")
        else:
            waiting.append((file.id, path, fit, Oracle.of(field, name)))
    oracles = [oracle for *_, oracle in waiting]
    found = distil(oracles, job.architecture, job.function, job.spec, seed=seed)
    for (identity, path, fit, oracle), each in zip(waiting, found, strict=True):
        if each.field is None:
            reasons[identity] = each.reason
            continue
        about: dict[str, Any] = {**each.field.about, "preset": job.preset, "fit": fit}
        about["source"] = oracle.name
        store.add(path, dataclasses.replace(each.field, about=about))
    return reasons, there


def _identity(job: Job, seed: int, content: str) -> str:
    """A hash of all that the numbers of an INR depend on."""
    described = {
        "distilled": VERSION,
        "architecture": architectures.describe(job.architecture),
        "function": job.function,
        "spec": dataclasses.asdict(job.spec),
        "seed": seed,
        "source": content,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def _is_field(path: pathlib.Path) -> bool:
    return is_store(path) if path.is_dir() else path.name.endswith(SUFFIX)
