"""A folder of meshes and point clouds as an index that carries its own encoder, kept up to date by
running it again.

What is in INDEX: `index.json` and `data-*/` (see `storage`), the encoder in `encoder-*/`,
`skipped.json`, and `hashes.json`, which saves reading files whose size and time have not changed.
`index.json` is written last and by rename, so whoever opens INDEX finds the old gallery or the new
one. An embedding belongs to the content of a file: what is only moved or renamed, or was embedded
by a run that was cut short, is not embedded again.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax3dret.core import files
from jax3dret.core.logging import progress
from jax3dret.core.types import ConfigError, DataError, Row
from jax3dret.geometry.mesh_formats import unread
from jax3dret.index import storage
from jax3dret.index.index import Index
from jax3dret.inputs.item import Item
from jax3dret.inputs.loading import extensions_of, missing
from jax3dret.search import encode
from jax3dret.search.encode import Encoder
from jax3dret.search.hashes import Hashes
from jax3dret.search.journal import Journal
from jax3dret.search.prepare import log_remarks, prepare_all
from jax3dret.search.query import ENCODER, MADE_BY, Damaged, checked_meta
from jax3dret.search.scan import File, Scan, check_sources, scan

log = logging.getLogger("jax3dret")
_ROWS = "rows.partial.npy"
# What an indexing that was cut short, or found nothing to index, leaves in a folder without an
# index.json; and files that a system or an editor hides there.
_OURS = re.compile(
    r"\.|(embedded\.partial\.(jsonl|f32)|rows\.partial\.npy"
    r"|(skipped|hashes|index)\.json(\.partial)?|data-\d{6}|encoder-[0-9a-f]{12}(\.partial|\.old)?)$"
)
# Files that cannot be used which the log names, where there is no list of them.
_LOGGED = 9


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run of `build` did: counts of items, and of files that were embedded or skipped."""

    items: int
    added: int
    changed: int
    dropped: int
    embedded: int
    skipped: int


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is made where, with what."""

    out: pathlib.Path
    encoder: Encoder
    modality: str
    up_axis: str | None
    jobs: int

    def is_stored_by(self, old: _Old | None) -> bool:
        """Whether the rows of an index are what this would make of the same files."""
        return (
            old is not None
            and old.meta["encoder"]["identity"] == self.encoder.identity
            and old.meta["gallery"]["modality"] == self.modality
        )


@dataclasses.dataclass(frozen=True)
class _Old:
    """The gallery that is there already."""

    meta: Mapping[str, Any]
    vectors: np.ndarray
    ids: list[str]


def build(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    up_axis: str | None = None,
    modality: str | None = None,
) -> Summary:
    """Makes the index `out` hold exactly what is in `sources`: adds what is new, drops what is
    gone, leaves the rest.

    weights: a trained workdir; up_axis: "y" or "z" in all files (None: y in glTF, z elsewhere). An
    index that is there keeps its own where they are not given. modality: which of the model's
    inputs reads the files; None: the first. jobs: processes that read files. Files that cannot be
    used are listed, with reasons, in `out`/skipped.json.

    Raises: ConfigError: no weights and no index to take them from, a source that does not exist,
        `out` is something else. DataError: nothing could be indexed; then the old index stays.
    """
    for flag, given in (("--out", out), ("--weights", weights)):
        if given is not None and not os.fspath(given):
            raise ConfigError(f"{flag} is empty; give a folder")
    out = pathlib.Path(out)
    if jobs < 1:
        raise ConfigError(f"--jobs={jobs}: give 1 or more")
    _check_out(out)
    check_sources(sources)
    old = _read_old(out, replaced=weights is not None)
    if weights is not None:
        encoder = encode.open_encoder(weights)
    elif old is not None:
        encoder = encode.load_encoder(out / old.meta["encoder"]["folder"])
    else:
        raise ConfigError(f"a new index needs --weights WORKDIR, a trained run; {encode.TRAIN}")
    if modality is None and old is not None and weights is None:
        modality = old.meta["gallery"]["modality"]
        if modality not in encoder.inputs:
            raise DataError(
                f"{out / 'index.json'}: meta.gallery.modality is '{modality}', which its model "
                f"does not read; {storage.AGAIN}"
            )
    modality = encoder.modality(modality)
    kinds = encoder.inputs[modality].accepts
    extensions = extensions_of(kinds)
    spatial = not {"mesh", "cloud"}.isdisjoint(kinds)  # what reads photos misses no CAD file
    found = scan(
        sources, extensions=extensions, exclude=out, unread=unread.REASONS if spatial else {}
    )
    found.skipped.extend(missing(sources, tuple(kinds)))
    if found.others:
        counts = ", ".join(f"{count} {kind}" for kind, count in found.others.items())
        log.info("files of other kinds are not read: %s", counts)
    suffixes = (pathlib.PurePath(entry["file"]).suffix.lower() for entry in found.skipped)
    if foreign := collections.Counter(kind for kind in suffixes if kind in unread.REASONS):
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(foreign.items()))
        log.info("3D formats that are not read, listed in skipped.json: %s", counts)
    if not found.files:
        first = next((f"{s['file']}: {s['reason']}" for s in found.skipped), "")
        raise DataError(
            f"{', '.join(map(str, sources))}: no files that the model reads; supported are "
            f"{', '.join(extensions)}"
            + (f"; {len(found.skipped)} others, the first is {first}" if first else "")
        )
    up_axis = up_axis or (old.meta["gallery"]["up_axis"] if old is not None else None)
    work = _Work(out, encoder, modality, up_axis, jobs)
    header = {"encoder": encoder.identity, "modality": modality, "width": encoder.width}
    with Journal(out, header, encoder.width) as journal:
        try:
            summary = _update(found, work, journal, old)
        finally:
            (out / _ROWS).unlink(missing_ok=True)
        journal.remove()
    return summary


def _update(found: Scan, work: _Work, journal: Journal, old: _Old | None) -> Summary:
    out, encoder = work.out, work.encoder
    before: dict[str, str] = {}
    stored: dict[str, int] = {}
    if old is not None:
        before = dict(zip(old.ids, old.meta["gallery"]["keys"], strict=True))
        if work.is_stored_by(old):
            stored = {key: row for row, key in enumerate(old.meta["gallery"]["keys"])}
        else:
            log.info("%s was made with other weights: everything is embedded again", out)
    hashes = Hashes(out / "hashes.json", work.up_axis)
    keys, unusable, embedded = _embed_new(found, work, journal, stored, hashes)
    items = [file for file in found.files if file.path in keys]
    if not items:
        raise _nothing(found.skipped + unusable, unusable[0], len(found.files), out, old)
    gallery: dict[str, Any] = {
        "made_by": MADE_BY,
        "modality": work.modality,
        "up_axis": work.up_axis,
        "sources": found.sources,
        "source_of": [file.source for file in items],
        "keys": [keys[file.path] for file in items],
    }
    ids = [file.id for file in items]
    own = {"folder": f"encoder-{encoder.identity[:12]}", "identity": encoder.identity}
    meta = {"model": dict(encoder.meta), "encoder": own, "gallery": gallery}
    if not encoder.is_saved(out / own["folder"]):  # new, or damaged: then --weights repairs it
        encoder.save(out / own["folder"])
    if old is None or ids != old.ids or meta != {key: old.meta.get(key) for key in meta}:
        vectors = _assemble(out / _ROWS, gallery["keys"], stored, old, journal)
        index = Index.build(vectors, ids, distance=encoder.model.distance, meta=meta)
        if lost := index.report()["without_direction"]:
            log.warning(
                "embeddings of all zeros: %d of %d; they have no direction and rank last in every "
                "answer",
                lost,
                len(ids),
            )
        index.save(out)
        for path in out.iterdir():
            if ENCODER.fullmatch(path.name) and path.name != own["folder"]:
                shutil.rmtree(path, ignore_errors=True)
    files.write_json(out / "skipped.json", found.skipped + unusable)
    hashes.save(keys)
    after = dict(zip(ids, gallery["keys"], strict=True))
    return Summary(
        items=len(items),
        added=len(after.keys() - before.keys()),
        changed=sum(before[name] != key for name, key in after.items() if name in before),
        dropped=len(before.keys() - after.keys()),
        embedded=embedded,
        skipped=len(found.skipped) + len(unusable),
    )


def _nothing(
    skipped: list[dict[str, str]],
    first: Mapping[str, str],
    files_read: int,
    out: pathlib.Path,
    old: _Old | None,
) -> DataError:
    """The error for files of which none can be indexed. What is in `out` is as it was: without an
    index, skipped.json lists them; with one it is the index's, and the log says the next few.
    """
    said = (
        f"none of the {files_read} files could be indexed, the first is {first['path']}: "
        f"{first['reason']}"
    )
    if old is None:
        files.write_json(out / "skipped.json", skipped)
        return DataError(f"{said}; all are listed in {out / 'skipped.json'}")
    for entry in [each for each in skipped if each is not first][:_LOGGED]:
        log.warning("%s: %s", entry["path"], entry["reason"])
    return DataError(f"{said}; the index is left as it was")


def _embed_new(
    found: Scan, work: _Work, journal: Journal, stored: Mapping[str, int], hashes: Hashes
) -> tuple[dict[str, str], list[dict[str, str]], int]:
    """({path: key} of what can be indexed, what cannot, how many were embedded); new embeddings go
    to the journal.
    """
    reads = work.encoder.inputs[work.modality]
    keys: dict[str, str] = {}
    unread: list[File] = []
    for file in found.files:
        key = hashes.get(file.path)
        if key is not None and (key in stored or key in journal.place):
            keys[file.path] = key
        else:
            unread.append(file)
    reasons: dict[str, str] = {}  # path -> why not
    refused: dict[str, str] = {}  # key -> why not
    pending: dict[str, Row] = {}
    kinds: collections.Counter[str] = collections.Counter()
    embedded = 0

    def flush() -> None:
        nonlocal embedded
        if not pending:
            return
        rows = work.encoder.embed(list(pending.values()), work.modality)
        good = np.isfinite(rows).all(axis=1)
        names = list(pending)
        why = "the model's embedding of it is not finite"
        refused.update({names[row]: why for row in np.flatnonzero(~good)})
        journal.append([names[row] for row in np.flatnonzero(good)], rows[good])
        embedded += int(good.sum())
        pending.clear()

    done = len(found.files) - len(unread)
    prepared_files = prepare_all(
        [Item.of(file.path, work.up_axis) for file in unread],
        reads,
        known=frozenset(stored) | frozenset(journal.place),
        jobs=work.jobs,
    )
    with contextlib.closing(prepared_files), progress(len(found.files), "index", done=done) as show:
        for file, prepared in zip(unread, prepared_files, strict=True):
            done += 1
            kinds[prepared.kind] += 1
            if prepared.reason:
                reasons[file.path] = prepared.reason
            else:
                keys[file.path] = prepared.key
                fresh = prepared.key not in journal.place and prepared.key not in refused
                if prepared.row is not None and fresh:
                    pending[prepared.key] = prepared.row
            if len(pending) == work.encoder.model.batch_size or done == len(found.files):
                flush()
            show(done)
    log_remarks(reads, kinds.elements())
    unusable = []
    for file in found.files:
        reason = reasons.get(file.path) or refused.get(keys.get(file.path, ""))
        if reason:
            keys.pop(file.path, None)
            unusable.append({"file": file.id, "path": file.path, "reason": reason})
    return keys, unusable, embedded


def _assemble(
    path: pathlib.Path,
    keys: Sequence[str],
    stored: Mapping[str, int],
    old: _Old | None,
    journal: Journal,
) -> np.ndarray:
    """The rows of `keys`, in order, from the old index and the journal; on disk, as a memory map."""
    new = journal.rows()
    out = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=(len(keys), new.shape[1])
    )
    for row, key in enumerate(keys):
        out[row] = (
            old.vectors[stored[key]]
            if old is not None and key in stored
            else new[journal.place[key]]
        )
    out.flush()
    return out


def _check_out(out: pathlib.Path) -> None:
    """Raises ConfigError for a folder that holds anything else than an index, or the beginnings of
    one.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; give a folder")
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    if "index.json" in names:
        storage.check_replaceable(out)
        return
    others = sorted(name for name in names if not _OURS.match(name))
    begun = [name for name in names if name == "skipped.json" or name.startswith("embedded.")]
    if not begun:
        others += sorted(name for name in names if not name.startswith("."))
    if others:
        raise ConfigError(
            f"--out {out}: is a folder with other things in it, such as {others[0]}; give a new "
            "one, or one that holds an index"
        )


def _read_old(out: pathlib.Path, *, replaced: bool) -> _Old | None:
    """The gallery that is there. replaced: a damaged one is made anew, and counts as none.

    Raises DataError for a damaged one otherwise, and for an index of something else.
    """
    if not (out / "index.json").is_file():
        return None
    try:
        try:
            entry, vectors, ids, _ = storage.read(out)
        except DataError as error:
            raise Damaged(str(error)) from None
        return _Old(checked_meta(out, entry["meta"], len(ids)), vectors, ids)
    except Damaged as error:
        if not replaced:
            raise
        log.warning("%s: the index is made anew", str(error).removesuffix(f"; {storage.AGAIN}"))
        return None
