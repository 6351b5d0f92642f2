"""From the files of shapes to what an encoder reads of each, with a key for what a file holds, and in worker processes.

What is made of a file is for `inputs.shape_inputs` to say. Every draw is seeded by the content of the file, so a file gives the
same wherever it lies and whatever it is called.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Generator, Iterable, Set
from typing import NamedTuple

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.core.workers import ordered_map
from jax3dret.geometry import clouds, meshes
from jax3dret.inputs.shape_inputs import Points, Views

EXTENSIONS = tuple(sorted({*meshes.EXTENSIONS, *clouds.EXTENSIONS}))


class Prepared(NamedTuple):
    """One file. key: what it holds and how it was turned, hexadecimal; row: what the encoder reads of it, or None where the key
    was known already; reason: why it cannot be used, or empty."""

    key: str
    row: np.ndarray | None
    reason: str = ""


def up_axis_of(path: str | os.PathLike[str], up_axis: str | None) -> str:
    """The axis that is up in a file: `up_axis` if given, else y in glTF (its specification) and z elsewhere (as in CAD)."""
    return up_axis or ("y" if pathlib.Path(path).suffix.lower() in (".glb", ".gltf") else "z")


def content_key(path: str | os.PathLike[str], up_axis: str | None) -> str:
    """SHA-256 over the file, its kind, the axis that is up, and the files that a glTF keeps its vertices in."""
    path = pathlib.Path(path)
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
        raise DataError(f"{path}: is not a file; a mesh or a point cloud is needed")
    digest = hashlib.sha256(f"{path.suffix.lower()} {up_axis_of(path, up_axis)}\n".encode())
    for part in (path, *_gltf_buffers(path)):
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def prepare(
    path: str | os.PathLike[str],
    inputs: Points | Views,
    *,
    up_axis: str | None,
    key: str | None = None,
) -> Prepared:
    """What `inputs` makes of a mesh or point cloud.

    up_axis: "y" or "z" in the file; None: as its format has it. key: its `content_key`, if that is known.

    Raises:
        DataError: the file cannot be used: one line, path first.
    """
    try:
        key = key or content_key(path, up_axis)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({(error.strerror or str(error)).lower()})"
        ) from None
    rng = np.random.default_rng(int(key[:16], 16))
    return Prepared(key, inputs(path, up_axis_of(path, up_axis), rng))


def prepare_all(
    paths: Iterable[str], inputs: Points | Views, *, up_axis: str | None, known: Set[str], jobs: int
) -> Generator[Prepared, None, None]:
    """`prepare` of each path, in order, by `jobs` processes (1: in this one); what cannot be used comes with a reason.

    known: keys whose rows are not needed. Only a window of files is under way at a time, so memory
    does not grow with their number.

    Raises:
        DataError: a worker process was ended from outside; names the files that were under way.
    """
    work = functools.partial(_attempt, inputs=inputs, up_axis=up_axis, known=known)
    return ordered_map(work, paths, jobs=jobs)


def _attempt(path: str, inputs: Points | Views, up_axis: str | None, known: Set[str]) -> Prepared:
    try:
        before = _stamp(path)
        key = content_key(path, up_axis)
        if key in known:
            return Prepared(key, None)
        prepared = prepare(path, inputs, up_axis=up_axis, key=key)
        if _stamp(path) != before:
            return Prepared("", None, "changed while it was read; index it again")
        return prepared
    except DataError as error:
        return Prepared("", None, str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return Prepared("", None, f"cannot be read ({(error.strerror or str(error)).lower()})")


def _stamp(path: str) -> tuple[int, int]:
    status = pathlib.Path(path).stat()
    return status.st_size, status.st_mtime_ns


def _gltf_buffers(path: pathlib.Path) -> list[pathlib.Path]:
    """Files beside a .gltf that it keeps numbers in; what cannot be read here is for the mesh loader to complain about."""
    if path.suffix.lower() != ".gltf":
        return []
    try:
        uris = [
            buffer.get("uri", "data:")
            for buffer in json.loads(path.read_bytes()).get("buffers", [])
        ]
    except (ValueError, AttributeError):
        return []
    parts = [path.parent / uri for uri in uris if not uri.startswith("data:")]
    return [part for part in parts if part.is_file()]
