"""Prepares data sets: finds a builder by its folder, runs it once, and leaves a finished data set
or nothing.

    build("modelnet/10", manual_dir="ModelNet10")    prepares, or returns what is prepared
    find("modelnet/10")                              the prepared folder, or None
    available()                                      every builder, with what it needs

A builder is a TFDS `GeneratorBasedBuilder` in data_pipelines/<name>/<name>.py; there is no table of
them. Beyond TFDS it has

    UP_AXIS       "y" or "z": the gravity axis of the records (an instance may set its own); None: they have none, as drawings
    KIND          what a record is, "shapes" (if it is not given) or "sketches"
    skipped       list of {"file", "reason"}, filled while it generates
    source        dict, the provenance that goes into the manifest
    planned       optional {split: number of records to come}, for progress
    jobs          optional argument of its constructor: the number of processes that may read raw files
    made_from     optional classmethod (config name) -> the data set whose records it reads. That one is built first, from the
                  user's raw files where it needs some; the constructor takes data_root, where it lies, and work_dir, a folder
                  below it that outlives an interrupted build
    config_named  optional classmethod (config name) -> the configuration that a name beside BUILDER_CONFIGS spells out, or None
and, where the raw data is the user's own to bring, MANUAL_DOWNLOAD_INSTRUCTIONS (where it is to be had), a constructor
that takes manual_dir, and
    files         {relative path: bytes} of the raw files it will read, so that changed raw data is noticed
    config_of     optional classmethod (manual_dir) -> config name, for builders whose configuration is the folder

Everything is written below <data_dir>/.preparing/ under a lock and renamed into place with its
manifest: a data set without manifest.json was not finished. A process that dies leaves a folder
there, which the next build removes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import inspect
import json
import logging
import os
import pathlib
import shutil
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from data_pipelines.raw_builder import MANUAL_FLAGS
from data_pipelines.records import (
    manifest_digest,
    read_manifest,
    write_manifest,
    write_splits,
)
from jax3dret.core.config import nearest
from jax3dret.core.files import check_readable
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.lock import exclusive
from jax3dret.data.source import data_root, find_prepared

logger = logging.getLogger("jax3dret")

_PREPARING = ".preparing"
# In the root too, by data set: what a builder keeps for the next build of the same.
_WORK = ".work"


class Available(NamedTuple):
    """One data set that can be built. manual: where its raw files are to be had; None if it needs
    none.
    """

    name: str
    description: str
    manual: str | None


def available() -> list[Available]:
    """Every data set that can be built, in the order of names."""
    found = []
    for folder in _builder_names():
        cls = _load(folder)
        described = [
            (f"{folder}/{config.name}", config.description) for config in cls.BUILDER_CONFIGS
        ]
        for name, description in described or [(folder, None)]:
            found.append(
                Available(
                    name, description or _first_line(cls.__doc__), cls.MANUAL_DOWNLOAD_INSTRUCTIONS
                )
            )
    return found


def build(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    jobs: int = 1,
) -> pathlib.Path:
    """The folder of the prepared data set `name` ("builder" or "builder/config"), built first if it
    is not there.

    data_dir: where prepared data sets lie; None means $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    manual_dir: folder of the raw files, for builders that need one. Given for a data set that is
        already prepared, it is compared by file names and sizes with what was read then.
    jobs: processes that read meshes, for builders that share the work; the records are the same
    with any number.

    Raises: ConfigError: no such builder or configuration, or a needed manual_dir was not given or
        is no folder; jobs below 1. DataError: manual_dir lacks files, holds nothing usable or has
        changed since; the disk is full or not writable.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs={jobs}: give 1 or more")
    cls, config = _resolve(name)
    root = data_root(data_dir).absolute()
    made_from = ""
    if hasattr(cls, "made_from"):
        prepared = find(name, data_dir)
        if prepared is not None and manual_dir is None:
            return prepared
        made_from = cls.made_from(config)
        origin = build(made_from, data_dir=data_dir, manual_dir=manual_dir, jobs=jobs)
        _require_same_origin(prepared, origin)
        manual_dir = None
    manual = _manual_folder(cls, name, manual_dir)
    if cls.MANUAL_DOWNLOAD_INSTRUCTIONS and manual is None:
        prepared = find(name, data_dir)
        if prepared is None:
            wanted = " ".join(cls.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
            raise ConfigError(
                f"{name} is not prepared in {root} and needs its raw files: give manual_dir, with "
                f"{MANUAL_FLAGS}. {wanted}"
            )
        return prepared
    config = _config_of(cls, name, config, manual)
    full_name = f"{cls.name}/{config}" if config else cls.name
    target = root / full_name / str(cls.VERSION)
    arguments: dict[str, Any] = {"config": _named(cls, config) or config} if config else {}
    if manual is not None:
        arguments["manual_dir"] = manual
    if shares_work(name):
        arguments["jobs"] = jobs
    if made_from:
        arguments |= {"data_root": root, "work_dir": root / _WORK / full_name.replace("/", "-")}
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (
            exclusive(root / _PREPARING / f"{full_name.replace('/', '-')}.lock", full_name),
            _quiet_tfds(),
        ):
            staging = root / _PREPARING / full_name.replace("/", "-")
            if staging.exists():
                logger.warning("%s: removing what an interrupted build left", full_name)
                shutil.rmtree(staging)
            if not arguments.get("manual_dir") and read_manifest(target) is not None:
                return target
            try:
                builder = cls(data_dir=str(staging), **arguments)
                if target.exists():
                    _require_same_source(builder, target, manual)
                    return target
                _prepare(builder, full_name, manual)
                target.parent.mkdir(parents=True, exist_ok=True)
                pathlib.Path(builder.data_dir).rename(target)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except (
        OSError,
        RuntimeError,
    ) as error:  # the ArrayRecord writer turns a failed write into RuntimeError
        explained = _disk_error(error, root, full_name)
        if explained is None:
            raise
        raise explained from None
    return target


def kind_of(name: str) -> str:
    """What a data set holds, "shapes" or "sketches", known before it is built; empty for one of a
    builder that lives elsewhere.

    Raises ConfigError: no such configuration.
    """
    if name.partition("/")[0] not in _builder_names():
        return ""
    cls, config = _resolve(name)
    chosen = [c for c in cls.BUILDER_CONFIGS if c.name == config] or cls.BUILDER_CONFIGS[:1]
    fixed = getattr(cls, "KIND", "shapes")
    return str(getattr(chosen[0] if chosen else cls, "kind", fixed))


def shares_work(name: str) -> bool:
    """Whether the builder of a data set reads meshes in several processes, where jobs says so.

    Raises ConfigError: no such builder or configuration.
    """
    return "jobs" in inspect.signature(_resolve(name)[0]).parameters


def find(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    manual_dir: str | os.PathLike[str] | None = None,
) -> pathlib.Path | None:
    """The folder of a finished data set, or None.

    A builder whose configuration is its folder ("mesh_folder") is found by manual_dir, by its full
    name ("mesh_folder/parts-1a2b3c4d"), or by its bare name while only one is prepared.

    Raises: ConfigError: no such builder or configuration, or the bare name fits several prepared
        data sets.
    """
    if name.partition("/")[0] not in _builder_names():
        folder = find_prepared(name, data_dir)  # made by a builder that lives elsewhere
        if folder is not None and read_manifest(folder) is not None:
            return folder
    cls, config = _resolve(name)
    root = data_root(data_dir)
    if hasattr(cls, "config_of") and manual_dir is None and config is None:
        candidates = sorted(root.glob(f"{cls.name}/*/{cls.VERSION}/manifest.json"))
        if len(candidates) > 1:
            names = ", ".join(f"{cls.name}/{path.parent.parent.name}" for path in candidates)
            raise ConfigError(
                f"'{name}' fits {len(candidates)} prepared data sets in {root}: {names}; give one "
                "of them"
            )
        return candidates[0].parent if candidates and read_manifest(candidates[0].parent) else None
    config = _config_of(
        cls, name, config, pathlib.Path(manual_dir).expanduser() if manual_dir else None
    )
    folder = root / cls.name / (config or "") / str(cls.VERSION)
    return folder if read_manifest(folder) is not None else None


def _prepare(builder: Any, full_name: str, manual: pathlib.Path | None) -> None:
    """Writes records and manifest into builder.data_dir."""
    start = time.monotonic()
    manager = tfds.download.DownloadManager(
        download_dir=str(pathlib.Path(builder.data_dir_root) / "downloads"),
        manual_dir=None if manual is None else str(manual),
        dataset_name=builder.name,
    )
    splits = write_splits(builder, manager, name=full_name)
    skipped = list(getattr(builder, "skipped", []))
    source = dict(builder.source)
    if manual is not None:
        source.update(_listing(builder.files))
    manifest = {
        "name": full_name,
        "version": str(builder.version),
        "source": source,
        "kind": getattr(builder, "KIND", "shapes"),
        **({} if builder.UP_AXIS is None else {"up_axis": builder.UP_AXIS}),
        "splits": splits,
        "class_names": list(builder.info.features["label"].names),
        "skipped": skipped,
    }
    write_manifest(pathlib.Path(builder.data_dir), manifest)
    counts = ", ".join(f"{split} {part['items']}" for split, part in splits.items())
    logger.info(
        "%s: %s, %d classes, %.1f s",
        full_name,
        counts,
        len(manifest["class_names"]),
        time.monotonic() - start,
    )
    if skipped:
        first = f"{skipped[0]['file']}: {skipped[0]['reason']}"
        logger.warning(
            "%s: %d files skipped (listed in manifest.json), the first: %s",
            full_name,
            len(skipped),
            first,
        )


def _listing(files: dict[str, int]) -> dict[str, Any]:
    rows = sorted(files.items())
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    few = {"files": dict(rows)} if len(rows) <= 64 else {}
    return {
        "num_files": len(rows),
        "num_bytes": sum(files.values()),
        "listing_sha256": digest,
        **few,
    }


def _require_same_source(builder: Any, target: pathlib.Path, manual: pathlib.Path | None) -> None:
    """A prepared data set stands for the raw files it was made from; other files are an error, not
    a silent reuse.
    """
    manifest = read_manifest(target)
    if manifest is None:
        raise DataError(
            f"{target}: has no manifest.json, so it was not prepared here; remove the folder and "
            "build again"
        )
    before, now = manifest.get("source", {}), _listing(builder.files)
    if before.get("listing_sha256") != now["listing_sha256"]:
        raise DataError(
            f"{target}: was prepared from {before.get('num_files')} files "
            f"({before.get('num_bytes', 0):,} bytes) of "
            f"'{before.get('manual_dir')}', but {manual} now holds {now['num_files']} "
            f"({now['num_bytes']:,} bytes); "
            "remove the prepared folder to build it from the new files, or give another data_dir"
        )
    logger.info("%s: already prepared", target)


def _require_same_origin(prepared: pathlib.Path | None, origin: pathlib.Path) -> None:
    """Raises DataError for a data set that was made from another build of its source."""
    manifest = None if prepared is None else read_manifest(prepared)
    if manifest is None:
        return
    made_from = manifest.get("source", {}).get("made_from", {})
    if made_from.get("manifest_sha256") != manifest_digest(origin):
        raise DataError(
            f"{prepared}: was made from another build of {made_from.get('name')}; remove the "
            "folder to make it anew"
        )


def _named(cls: Any, config: str | None) -> Any:
    """The configuration that a name spells out, of a builder that has such names."""
    listed = [entry.name for entry in cls.BUILDER_CONFIGS]
    if config is None or config in listed or not hasattr(cls, "config_named"):
        return None
    return cls.config_named(config)


def _builder_names() -> list[str]:
    here = pathlib.Path(__file__).parent
    return sorted(path.name for path in here.iterdir() if (path / f"{path.name}.py").is_file())


def _load(folder: str) -> Any:
    module = importlib.import_module(f"data_pipelines.{folder}.{folder}")
    for value in vars(module).values():
        is_builder = isinstance(value, type) and issubclass(value, tfds.core.GeneratorBasedBuilder)
        if is_builder and value.__module__ == module.__name__:
            return value
    raise DataError(
        f"{module.__file__}: defines no TFDS GeneratorBasedBuilder; a builder folder needs one"
    )


def _resolve(name: str) -> tuple[Any, str | None]:
    """Builder class and the configuration that the name gives, "modelnet" or "modelnet/10"."""
    folder, _, config = name.partition("/")
    if folder not in _builder_names():
        names = [entry.name for entry in available()]
        hint = nearest(name, names) or nearest(folder, _builder_names())
        raise ConfigError(f"unknown data set '{name}'{hint or '; one of ' + ', '.join(names)}")
    cls = _load(folder)
    configs = [entry.name for entry in cls.BUILDER_CONFIGS]
    known = config in configs or _named(cls, config or None) is not None
    if config and not hasattr(cls, "config_of") and not known:
        full = [f"{folder}/{entry}" for entry in configs]
        raise ConfigError(
            f"unknown data set '{name}'{nearest(name, full)}; '{folder}' has "
            f"{', '.join(full) or folder}"
        )
    return cls, config or None


def _config_of(cls: Any, name: str, config: str | None, manual: pathlib.Path | None) -> str | None:
    if hasattr(cls, "config_of"):
        own = cls.config_of(manual) if manual is not None else config
        if config is not None and own != config:
            raise ConfigError(
                f"'{name}' is the data set of another folder; {manual} is '{cls.name}/{own}'"
            )
        return own
    if config is None and cls.BUILDER_CONFIGS:
        return cls.default_builder_config.name
    return config


def _manual_folder(
    cls: Any, name: str, manual_dir: str | os.PathLike[str] | None
) -> pathlib.Path | None:
    if manual_dir is None:
        return None
    if not cls.MANUAL_DOWNLOAD_INSTRUCTIONS:
        logger.warning("%s needs no raw files: manual_dir %s is not read", name, manual_dir)
        return None
    if not os.fspath(manual_dir):
        raise ConfigError(f"manual_dir is empty; give a folder, with {MANUAL_FLAGS}")
    manual = pathlib.Path(manual_dir).expanduser().absolute()
    if not manual.is_dir():
        kind = "is a file, not a folder" if manual.exists() else "no such folder"
        wanted = " ".join(cls.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise ConfigError(
            f"{manual}: {kind}; manual_dir must be the folder of {name}'s raw files. {wanted}"
        )
    check_readable(manual)
    return manual


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """TFDS announces each custom configuration as a warning."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _disk_error(error: Exception, root: pathlib.Path, name: str) -> DataError | None:
    """The one line for a disk that is full or refuses to be written; None for any other error."""
    code = getattr(error, "errno", None)
    text = str(error)
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(root).free
        if (
            code in (errno.ENOSPC, errno.EDQUOT)
            or "No space left" in text
            or (code is None and free < 1 << 20)
        ):
            return DataError(
                f"{root}: the disk is full ({free >> 20} MiB free) while preparing {name}; free "
                "some space"
            )
    if isinstance(error, OSError):
        return DataError(
            f"{error.filename or root}: {error.strerror or error} while preparing {name}"
        )
    return None


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
