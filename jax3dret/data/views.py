"""The view store: pictures of every record of a split, rendered once, in one file beside the
prepared data set.

    <prepared folder>/views/<split>-<cameras>-<size>-<digest>.array_record         one record of raw grey pixels per item, zstd
    <prepared folder>/views/<split>-<cameras>-<size>-<digest>.array_record.json    what they show

The digest covers the records' ids, the cameras and every setting that changes a pixel, so a file is
either of exactly this or is not found. It does not cover the renderer, which the .json names:
"embree" and "zbuffer" differ in single pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import operator
import os
import pathlib
import re
from collections.abc import Generator
from typing import Any, Literal

import numpy as np
from array_record.python import array_record_data_source, array_record_module
from jaxtyping import UInt8

from jax3dret.core import files
from jax3dret.core.logging import progress
from jax3dret.core.types import ConfigError, DataError, Source
from jax3dret.core.workers import ordered_map
from jax3dret.data.lock import exclusive
from jax3dret.geometry import views as rendering
from jax3dret.geometry.cameras import Cameras
from jax3dret.geometry.mesh import Mesh

logger = logging.getLogger("jax3dret")

# Pixels of 12 views of 224 x 224 take some 45 kB and 0.4 ms to read this way; as PNG 50 kB and 2
# ms.
_OPTIONS = "group_size:1,zstd:3"
# Records that make another process worth its start.
_PER_JOB = 32
What = Literal["shaded", "mask"]


class ViewStore:
    """The pictures of a split: `store[i]` is uint8[V, S, S, 3] of record i; of grey ones, such as
    rendered ones are, the channel is repeated.

    `grey(i)` is uint8[V, S, S] of a grey store; `meta` says what they show. Thread-safe, and
    picklable: a copy opens the file anew.
    """

    def __init__(self, path: pathlib.Path, meta: dict[str, Any]) -> None:
        self.path, self.meta = path, meta
        size, channels = int(meta["size"]), int(meta.get("channels", 1))
        self._shape = (len(meta["cameras"]["positions"]), size, size, channels)
        self._reader = array_record_data_source.ArrayRecordDataSource(os.fspath(path))

    def __len__(self) -> int:
        return len(self._reader)

    def __repr__(self) -> str:
        return f"ViewStore({self.path}, items={len(self)})"

    def __reduce__(self) -> tuple[Callable[..., ViewStore], tuple[pathlib.Path]]:
        return open_views, (self.path,)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "V S S 3"]:
        pixels = self._pixels(index)
        return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels

    def grey(self, index: int) -> UInt8[np.ndarray, "V S S"]:
        """The pictures of record `index` with one channel, not to be written to.

        Raises:
            DataError: the record cannot be read, or has colours.
        """
        pixels = self._pixels(index)
        if pixels.shape[-1] != 1:
            raise DataError(f"{self.path}: its pictures have colours")
        return pixels[..., 0]

    def _pixels(self, index: int) -> UInt8[np.ndarray, "V S S C"]:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self!r} has no item {index}")
        try:
            data = self._reader[index % len(self)]
        except Exception as error:  # whatever the reader's C++ side meets
            raise DataError(
                f"{self.path}: item {index} cannot be read ({error}); remove the file and run again"
            ) from error
        if len(data) != np.prod(self._shape):
            raise DataError(
                f"{self.path}: item {index} has {len(data)} bytes, not {self._shape}; remove the "
                "file and run again"
            )
        return np.frombuffer(data, np.uint8).reshape(self._shape)


def views_path(
    source: Source,
    cameras: Cameras,
    size: int = 224,
    *,
    what: What = "shaded",
    background: str = "white",
    supersample: int = 2,
) -> pathlib.Path:
    """Where the store of these views of a source belongs."""
    identity = _identity(source, cameras, size, what, background, supersample)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    words = "-".join(re.sub(r"\W+", "_", word).strip("_") for word in (source.split, cameras.name))
    return source.path / "views" / f"{words}-{size}-{digest}.array_record"


def build_views(
    source: Source,
    cameras: Cameras,
    *,
    out: str | os.PathLike[str] | None = None,
    size: int = 224,
    jobs: int = 1,
    what: What = "shaded",
    background: str = "white",
    supersample: int = 2,
    renderer: rendering.Renderer = "auto",
) -> pathlib.Path:
    """The file with the views of every record, in record order, rendered now if it is not there.

    A record with "vertices" and "faces" is rendered as a mesh, any other as its "points", with
    their "normals" if it has them; which, is logged and stands in the .json. Every process that
    needs the file may call this: one renders, the others wait. Nothing half-written is left behind;
    an interrupted rendering starts again.

    Args: out: the file; None: `views_path`. A file of other records or settings found there is
        rendered anew. jobs: processes; 1: this one. what: "shaded" pictures, or "mask", silhouettes
        of 255 on 0. The others as in `geometry.views.render_views`.

    Raises: DataError: a record that cannot be rendered (it is named), a disk error, a worker
        process that was ended from outside. ConfigError: a setting that does not exist.
    """
    if what not in ("shaded", "mask"):
        raise ConfigError(f"a view store holds 'shaded' or 'mask', not '{what}'")
    if jobs < 1:
        raise ConfigError(f"jobs={jobs}: at least 1 process renders")
    path = views_path(
        source, cameras, size, what=what, background=background, supersample=supersample
    )
    path = path if out is None else pathlib.Path(out)
    is_mesh = has_meshes(source)
    settings: dict[str, Any] = {"size": size, "background": background, "supersample": supersample}
    settings |= {"what": (what,), "up_axis": source.manifest.get("up_axis", "z")}
    meta = {
        **_identity(source, cameras, size, what, background, supersample),
        "rendered_from": "mesh" if is_mesh else "points",
        "renderer": rendering.choose_renderer(renderer) if is_mesh else "discs",
    }
    name = f"views of {source.name}, split '{source.split}'"
    try:
        with exclusive(path.with_name(path.name + ".lock"), name):
            if is_stored(path, meta):
                return path
            if is_mesh:
                work = _Render(
                    source.select("vertices", "faces"), cameras, {**settings, "renderer": renderer}
                )
            else:
                used = [feature for feature in ("points", "normals") if feature in source.features]
                work = _Render(source.select(*used), cameras, settings)
            shown = f"{meta['renderer']}, from the {'meshes' if is_mesh else 'points: the records have no mesh'}"
            logger.info(
                "%s: %d x %s at %d pixels (%s), kept in %s",
                name,
                len(source),
                cameras.name,
                size,
                shown,
                path,
            )
            jobs = max(1, min(jobs, len(source) // _PER_JOB))  # one takes some seconds to start
            rows = ordered_map(work, range(len(source)), jobs=jobs, name=source.ids.__getitem__)
            write_store(path, meta, rows, name)
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: {error.strerror or error} while rendering {name}"
        ) from error
    return path


def open_views(path: str | os.PathLike[str]) -> ViewStore:
    """Opens a view store.

    Raises:
        DataError: it is missing, damaged, or not what the .json beside it describes.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such view store; build_views renders one")
    meta = _meta_of(path)
    if meta is None:
        raise DataError(
            f"{path}: the .json beside it, which says what it shows, is missing or damaged; remove "
            "both and run again"
        )
    try:
        reader = array_record_module.ArrayRecordReader(os.fspath(path))
        records = reader.num_records()
        reader.close()
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read ({str(error).splitlines()[0][:200]}); remove it and run again"
        ) from error
    if records != meta["source"]["items"]:
        raise DataError(
            f"{path}: holds {records} items, its .json lists {meta['source']['items']}; remove "
            "both and run again"
        )
    return ViewStore(path, meta)


class _Render:
    """Index -> the pixels of that record; callable in another process."""

    def __init__(self, source: Source, cameras: Cameras, settings: dict[str, Any]) -> None:
        self._source, self._cameras, self._settings = source, cameras, settings

    def __call__(self, index: int) -> bytes:
        record = self._source[index]
        try:
            if "faces" in record:
                mesh = Mesh(record["vertices"], record["faces"])
                views = rendering.render_views(mesh, self._cameras, **self._settings)
            else:
                normals = record.get("normals")
                views = rendering.render_point_views(
                    record["points"], self._cameras, normals=normals, **self._settings
                )
        except DataError as error:
            raise DataError(
                f"{self._source.name}: record '{record['id']}' cannot be rendered: {error}"
            ) from error
        pixels = (
            views.shaded
            if views.shaded is not None
            else np.uint8(255) * np.asarray(views.mask, np.uint8)
        )
        return pixels.tobytes()


def _identity(
    source: Source, cameras: Cameras, size: int, what: str, background: str, supersample: int
) -> dict[str, Any]:
    """Everything that the pictures depend on."""
    return {
        "version": rendering.VERSION,
        "cameras": describe_cameras(cameras),
        "size": size,
        "what": what,
        "background": background if what == "shaded" else None,
        "supersample": supersample if what == "shaded" else None,
        "up_axis": source.manifest.get("up_axis", "z"),
        "source": describe_source(source),
    }


def describe_cameras(cameras: Cameras) -> dict[str, Any]:
    """Of the .json of a store."""
    positions = np.asarray(cameras.positions).round(12).tolist()
    return {**cameras._asdict(), "positions": positions}


def describe_source(source: Source) -> dict[str, Any]:
    """Of the .json of a store: whose pictures they are."""
    return {
        "name": source.name,
        "version": source.version,
        "split": source.split,
        "items": len(source),
        "ids_sha256": hashlib.sha256("\n".join(source.ids).encode()).hexdigest(),
    }


def has_meshes(source: Source) -> bool:
    """Whether views are rendered from meshes; otherwise from points."""
    return {"vertices", "faces"} <= set(source.features)


def is_stored(path: pathlib.Path, meta: dict[str, Any]) -> bool:
    """Whether a store is there and is what its .json should say."""
    return path.is_file() and _same(_meta_of(path), meta)


def _meta_of(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        meta = files.read_json_object(_beside(path))
    except DataError:
        return None
    return meta if {"cameras", "size", "source"} <= set(meta) else None


def _beside(path: pathlib.Path) -> pathlib.Path:
    """The file that says what a store shows."""
    return path.with_name(path.name + ".json")


def _same(found: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    """Whether a store is what is wanted; either renderer will do."""
    return found is not None and {**found, "renderer": ""} == {**wanted, "renderer": ""}


def write_store(
    path: pathlib.Path, meta: dict[str, Any], rows: Generator[bytes, None, None], name: str
) -> None:
    """A store of these rows of pixels. meta: its .json, which takes its place first, for the other
    file makes the store. name: for progress.
    """
    path.unlink(missing_ok=True)
    try:
        with files.replacing(path) as partial:
            partial.unlink(missing_ok=True)
            writer = array_record_module.ArrayRecordWriter(os.fspath(partial), _OPTIONS)
            try:
                with contextlib.closing(rows), progress(meta["source"]["items"], name) as update:
                    for done, row in enumerate(rows, start=1):
                        writer.write(row)
                        update(done)
            finally:
                writer.close()
            files.write_json(_beside(path), meta)
    except RuntimeError as error:  # what the ArrayRecord writer makes of a full disk
        raise DataError(
            f"{path}: cannot be written ({str(error).splitlines()[0][:200]})"
        ) from error
