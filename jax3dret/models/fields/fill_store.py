"""Meshes fitted into a store: what is there is kept, what is missing is fitted, in batches."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from jax3dret.core.files import PARTIAL
from jax3dret.geometry.distance import Sign
from jax3dret.geometry.mesh import Mesh
from jax3dret.models.fields import fit_meshes
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.field_store import StoreWriter, file_of
from jax3dret.models.fields.fit_meshes import Job, Shape

# Faces of the meshes that are fitted together: trees over them take some 400 bytes a face.
_FACES = 2_000_000
# What a file system allows a name.
_NAME_BYTES = 255


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to fit to every shape, and all that the numbers depend on beside the shapes."""

    jobs: tuple[Job, ...]
    seed: int = 0
    sign: Sign = "auto"

    def fits(self, source: str) -> tuple[str, ...]:
        """The identity of each job's INR; source: a hash of the mesh's file and how it is read."""
        return tuple(fit_meshes.identity(job, self.seed, self.sign, source) for job in self.jobs)


class Candidate(NamedTuple):
    """A mesh, or why it cannot be read. name: of the source, unique in the store. source: as in
    `Plan.fits`. mesh: None where the store has all of its INRs. about: for the headers.
    """

    name: str
    source: str
    mesh: Mesh | None = None
    reason: str = ""
    up_axis: str = ""
    about: Mapping[str, Any] = {}


class Result(NamedTuple):
    """Of one candidate, job by job: the file of its INR, None without one, why there is none, and
    the identity of the fit, empty for a mesh that cannot be read. fitted: how many were fitted now;
    the others were there.
    """

    name: str
    files: tuple[str | None, ...]
    reasons: tuple[str, ...]
    fits: tuple[str, ...]
    fitted: int = 0


def known(store: StoreWriter) -> dict[str, str]:
    """{identity of a fit: file}, of the INRs that are there and whole."""
    return {e.fit: e.file for e in store if store.is_whole(e)}


def fill(
    store: StoreWriter,
    candidates: Iterable[Candidate],
    plan: Plan,
    *,
    at_once: int | None = None,
    failed: Mapping[str, str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Result]:
    """The INRs of all candidates, in their order; those that are missing are fitted, `at_once`
    shapes at a time (None: as memory takes), and the manifest is saved after each time.

    What was fitted to the same mesh under another name is copied, not fitted again. A store that
    was interrupted anywhere and is filled again equals one that was not. failed: by the identity of
    a fit, why it is known to fail; it is not tried again. tell: called with the progress of a
    batch.
    """
    at_once = at_once or fit_meshes.at_once(plan.jobs)
    there, refused = known(store), dict(failed or {})
    waiting: list[tuple[Candidate, list[str | None]]] = []
    unfitted: dict[str, int] = {}  # faces of the sources among those that wait

    def flush() -> Iterator[Result]:
        lacking = [c for c, files in waiting if None in files]
        refused.update(_fit_waiting(store, lacking, plan, there, refused, tell))
        unfitted.clear()
        for candidate, files in waiting:
            yield _settled(store, candidate, files, plan, there, refused)
        waiting.clear()
        store.save()

    for candidate in map(functools.partial(_named, plan=plan), candidates):
        if candidate.reason:
            files: list[str | None] = [None] * len(plan.jobs)
        else:
            files = [
                name if store.has(name, fit) else None
                for name, fit in zip(
                    _files(candidate, plan), plan.fits(candidate.source), strict=True
                )
            ]
        waiting.append((candidate, files))
        fits = plan.fits(candidate.source)
        if not candidate.reason and any(fit not in there and fit not in refused for fit in fits):
            unfitted[candidate.source] = 0 if candidate.mesh is None else len(candidate.mesh.faces)
        many = sum(unfitted.values()) >= _FACES
        if len(unfitted) == at_once or many or len(waiting) >= 64 * at_once:
            yield from flush()
    yield from flush()


def _named(candidate: Candidate, plan: Plan) -> Candidate:
    """The candidate, refused where a file system has no room for the names of its files."""
    names = (pathlib.PurePosixPath(file).name for file in _files(candidate, plan))
    if max(len(os.fsencode(name + PARTIAL)) for name in names) <= _NAME_BYTES:
        return candidate
    reason = "its name is too long for the file of an INR; give it a shorter one"
    return candidate._replace(mesh=None, reason=candidate.reason or reason)


def _files(candidate: Candidate, plan: Plan) -> list[str]:
    return [file_of(candidate.name, job.architecture.name, job.function) for job in plan.jobs]


def _fit_waiting(
    store: StoreWriter,
    candidates: list[Candidate],
    plan: Plan,
    there: dict[str, str],
    refused: Mapping[str, str],
    tell: Callable[[str], None] | None,
) -> dict[str, str]:
    """Fits what no file has yet, one candidate for each source; gives {fit: why there is none}."""
    chosen = {c.source: c for c in reversed(candidates) if c.mesh is not None}
    shapes, needed, owners = [], [], []
    for candidate in reversed(chosen.values()):
        fits = plan.fits(candidate.source)
        missing = [fit not in there and fit not in refused for fit in fits]
        if any(missing):
            assert candidate.mesh is not None
            about = {**candidate.about, "source": candidate.name}
            shapes.append(Shape(candidate.mesh, candidate.up_axis, about))
            needed.append(missing)
            owners.append(candidate)
    if not shapes:
        return {}
    found = fit_meshes.fit_meshes(
        shapes, plan.jobs, seed=plan.seed, sign=plan.sign, needed=needed, tell=tell
    )
    failed = {}
    for candidate, outcomes in zip(owners, found, strict=True):
        files, fits = _files(candidate, plan), plan.fits(candidate.source)
        for file, fit, outcome in zip(files, fits, outcomes, strict=True):
            if outcome.field is not None:
                about = {**outcome.field.about, "fit": fit}
                _put(store, file, dataclasses.replace(outcome.field, about=about), there)
            elif outcome.reason:
                failed[fit] = outcome.reason
    return failed


def _settled(
    store: StoreWriter,
    candidate: Candidate,
    files: list[str | None],
    plan: Plan,
    there: dict[str, str],
    failed: Mapping[str, str],
) -> Result:
    """What became of a candidate; an INR of the same mesh under another name is copied."""
    if candidate.reason:
        count = len(plan.jobs)
        return Result(candidate.name, (None,) * count, (candidate.reason,) * count, ("",) * count)
    found: list[str | None] = []
    reasons, fitted, told = [], 0, []
    names, fits = _files(candidate, plan), plan.fits(candidate.source)
    for name, fit, before in zip(names, fits, files, strict=True):
        reason = "" if before else failed.get(fit, "")
        replaced = before is None and not reason and fit not in there
        if replaced:
            # Its INR stood under another name, whose mesh has changed since.
            reason = "its INR was replaced meanwhile; run the command again"
        told.append("" if replaced else fit)  # that a fit failed is remembered, this is not
        if before is None and not reason:
            fitted += 1
            if there[fit] != name:
                field = store.read(there[fit])
                about = {**field.about, **candidate.about, "source": candidate.name}
                _put(store, name, dataclasses.replace(field, about=about), there)
        found.append(None if reason else name)
        reasons.append(reason)
    return Result(candidate.name, tuple(found), tuple(reasons), tuple(told), fitted)


def _put(store: StoreWriter, file: str, field: Field, there: dict[str, str]) -> None:
    """Writes an INR; what stood there before is there no more."""
    before = store.entries.get(file)
    if before is not None and there.get(before.fit) == file:
        del there[before.fit]
    store.add(file, field)
    there.setdefault(str(field.about["fit"]), file)
