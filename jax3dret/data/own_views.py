"""Pictures that a user rendered, in place of the library's own: a file for each view of a record.

    FOLDER/chair/chair_0001/0.png, 1.png, ...       by the pattern {id}/{view}.png

They are read once, into a view store (`data.views`) beside the prepared data; that store is another
one where a file has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import string
from typing import Any

import numpy as np
from PIL import Image

from jax3dret.core.types import ConfigError, DataError, Source
from jax3dret.core.workers import ordered_map
from jax3dret.data.images import resize_center_crop
from jax3dret.data.lock import exclusive
from jax3dret.data.pictures import load_picture, one_line
from jax3dret.data.views import describe_cameras, describe_source, is_stored, write_store
from jax3dret.geometry.cameras import Cameras

PATTERN = "{id}/{view}.png"
# What a pattern may hold, with an example of each.
FIELDS = {"id": "chair/chair_0001", "name": "chair_0001", "view": 0, "number": 1}
VERSION = 1  # counts up where the same files give other pixels


@dataclasses.dataclass(frozen=True)
class OwnViews:
    """Where the pictures lie.

    pattern: of a path below the folder. {id}: of the record; {name}: what of it stands behind the
    last "/"; {view}: the number of the view from 0 on, {number}: from 1 on, with zeros in front as
    in {view:03d}.

    Raises ConfigError: no such folder, or a pattern that gives several pictures one path.
    """

    folder: pathlib.Path
    pattern: str = PATTERN

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ConfigError(f"config.views.folder={self.folder}: no such folder")
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(self.pattern) if field}
            if unknown := fields - set(FIELDS):
                raise ValueError(f"there is no {{{min(unknown)}}}")
            if not fields & {"id", "name"} or not fields & {"view", "number"}:
                raise ValueError("it must name the record and the view")
            self.pattern.format(**FIELDS)
        except (ValueError, IndexError, KeyError) as error:
            raise ConfigError(
                f"config.views.files={self.pattern}: {error}; give a path such as {PATTERN}, of "
                f"{', '.join(f'{{{field}}}' for field in FIELDS)}"
            ) from error

    def path(self, identity: str, view: int) -> pathlib.Path:
        """Of one picture."""
        name = identity.rpartition("/")[2]
        return self.folder / self.pattern.format(id=identity, name=name, view=view, number=view + 1)


def own_views_path(
    source: Source, own: OwnViews, cameras: Cameras, size: int = 224
) -> pathlib.Path:
    """Where the view store of these pictures belongs. Raises DataError where some are missing."""
    return _place(source, own, cameras, size)[0]


def store_own_views(
    source: Source, own: OwnViews, cameras: Cameras, *, size: int = 224, jobs: int = 1
) -> pathlib.Path:
    """The view store of the user's pictures, view i of camera i, made now if it is not there.

    Colours are kept, what is transparent becomes white, and each picture is scaled to `size` pixels
    (bicubic). Every process that needs the file may call this, as `build_views`. jobs: threads.

    Raises:
        DataError: pictures are missing, cannot be read, are not square, smaller than `size`, or not
            all of one size. The first is named, all are counted.
    """
    path, meta, paths = _place(source, own, cameras, size)
    name = f"the user's views of {source.name}, split '{source.split}'"
    with exclusive(path.with_name(path.name + ".lock"), name):
        if is_stored(path, meta):
            return path
        _check_sizes(paths, size)
        read = _Read(paths, size)
        rows = ordered_map(
            read, range(len(paths)), jobs=jobs, threads=True, name=source.ids.__getitem__
        )
        write_store(path, meta, rows, name)
    return path


def _place(
    source: Source, own: OwnViews, cameras: Cameras, size: int
) -> tuple[pathlib.Path, dict[str, Any], list[list[pathlib.Path]]]:
    """The store, its .json, and the pictures of each record."""
    views = len(cameras.positions)
    paths = [[own.path(name, view) for view in range(views)] for name in source.ids]
    meta = {
        "version": VERSION,
        "cameras": describe_cameras(cameras),
        "size": size,
        "channels": 3,
        "files": {"pattern": own.pattern, "listing_sha256": _listing(paths, source)},
        "source": describe_source(source),
    }
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:12]
    words = "-".join(re.sub(r"\W+", "_", w).strip("_") for w in (source.split, cameras.name, "own"))
    return source.path / "views" / f"{words}-{size}-{digest}.array_record", meta, paths


def _listing(paths: list[list[pathlib.Path]], source: Source) -> str:
    """A hash of the sizes and times of all files. Raises DataError where some are missing."""
    total, without = hashlib.sha256(), 0
    missing: list[pathlib.Path] = []
    for of_record in paths:
        before = len(missing)
        for path in of_record:
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                missing.append(path)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
            else:
                total.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
        without += len(missing) - before == len(of_record)
    if missing:
        count = sum(map(len, paths))
        raise DataError(
            f"{missing[0]}: no such picture; {len(missing)} of {count} are missing, and "
            f"{without} of the {len(paths)} items of {source.name}, split '{source.split}', have "
            "none at all; render them, or see config.views.files"
        )
    return total.hexdigest()


def _check_sizes(paths: list[list[pathlib.Path]], size: int) -> None:
    """Raises DataError where pictures differ in size, are too small, not square or unreadable."""
    wrong: list[str] = []
    common: tuple[int, int] | None = None
    for path in (path for of_record in paths for path in of_record):
        try:
            with one_line(str(path)), Image.open(path) as picture:
                found, mode = picture.size, picture.mode
        except DataError as error:
            wrong.append(str(error))
            continue
        width, height = found
        if mode[0] in "IF":
            wrong.append(f"{path}: more than 8 bits for a channel; save it with 8")
        elif width != height or width < size:
            wrong.append(
                f"{path}: {width} x {height} pixels; a square of at least config.views.size={size} "
                "is needed"
            )
        elif found != (common := common or found):
            wrong.append(f"{path}: {width} x {height} pixels, the ones before {common[0]} square")
    if wrong:
        raise DataError(
            f"{wrong[0]}; {len(wrong)} of {sum(map(len, paths))} pictures cannot be used"
        )


class _Read:
    """Index -> the pixels of that record."""

    def __init__(self, paths: list[list[pathlib.Path]], size: int) -> None:
        self._paths, self._size = paths, size

    def __call__(self, index: int) -> bytes:
        pictures = []
        for path in self._paths[index]:
            colours = load_picture(path).decoded().convert("RGBA")
            paper = Image.new("RGBA", colours.size, "white")
            flat = np.asarray(Image.alpha_composite(paper, colours).convert("RGB"))
            pictures.append(resize_center_crop(flat, self._size))
        return np.stack(pictures).tobytes()
