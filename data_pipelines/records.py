"""Writes what a builder yields as ArrayRecord shards in the order it is yielded, reads them back,
and makes the manifest.

TFDS's own writer sorts records by a hash of their key, keeps a split in memory up to 1 GB and
beyond that needs TensorFlow's file system. Here one record at a time goes to the open shard, so
that a split of any size is written in the builder's order with the memory of one record. The result
is a TFDS data set: `tfds.builder_from_directory` opens it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import naming
from tensorflow_datasets.core import splits as tfds_splits

from jax3dret.core.files import write_text
from jax3dret.core.types import DataError

logger = logging.getLogger("jax3dret")

# Small enough to copy and to spread over readers, large enough that ModelNet40 with normals has 15
# files, not 10,000.
SHARD_BYTES = 256 << 20
LOG_SECONDS = 10.0
# One record a chunk gives random access; coordinates barely compress (8 %) and decompression costs
# five times the read.
_WRITER_OPTIONS = "group_size:1,uncompressed"


def shape_features(
    class_names: Sequence[str], *, normals: bool, mesh: bool
) -> tfds.features.FeaturesDict:
    """The record of one shape: points in the unit ball with the centroid and scale that give back
    the source's frame.

    points, normals [N, 3] and vertices [V, 3] are float32, faces [F, 3] int32; arrays are stored as
    their bytes, which serialises 80 times faster than protobuf's lists of numbers.
    """

    def rows(dtype: Any) -> tfds.features.Tensor:
        return tfds.features.Tensor(
            shape=(None, 3), dtype=dtype, encoding=tfds.features.Encoding.BYTES
        )

    features: dict[str, Any] = {
        "id": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=list(class_names)),
        "points": rows(np.float32),
        "centroid": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "scale": tfds.features.Scalar(dtype=np.float32),
    }
    if normals:
        features["normals"] = rows(np.float32)
    if mesh:
        features["vertices"], features["faces"] = rows(np.float32), rows(np.int32)
    return tfds.features.FeaturesDict(features)


def write_splits(
    builder: Any, dl_manager: Any, *, name: str, shard_bytes: int = SHARD_BYTES
) -> dict[str, Any]:
    """Writes every split of `builder` into builder.data_dir and returns the manifest's "splits" as
    read back from disk, and of clouds the "points" of the smallest and of the largest.

    builder: a tfds GeneratorBasedBuilder whose examples hold "id" and "label". Splits that yield
    nothing are left out.

    Raises: DataError: no split yields a record, two records have one id, or what is read back is
        not what was written.
    """
    folder = pathlib.Path(builder.data_dir)
    folder.mkdir(parents=True)
    builder.info.set_file_format("array_record", override=True)
    planned = getattr(builder, "planned", {})
    infos: list[tfds_splits.SplitInfo] = []
    written: dict[str, list[tuple[str, int]]] = {}
    points: dict[str, list[int]] = {}
    for split, examples in builder._split_generators(dl_manager).items():
        split = str(split)
        template = naming.ShardedFileTemplate(
            data_dir=folder, dataset_name=builder.name, split=split, filetype_suffix="array_record"
        )
        with _progress(f"{name} {split}", planned.get(split)) as advance:
            seen: list[tuple[str, int]] = []
            sizes: list[int] = []
            shards = _write_shards(
                folder,
                _measured(examples, sizes),
                builder.info.features,
                seen,
                advance,
                shard_bytes,
            )
        if not seen:
            logger.warning("%s: the split '%s' has no records and is left out", name, split)
            continue
        lengths, num_bytes = [length for _, length, _ in shards], sum(size for _, _, size in shards)
        for index, (path, _, _) in enumerate(shards):
            path.rename(str(template.sharded_filepath(shard_index=index, num_shards=len(shards))))
        infos.append(
            tfds_splits.SplitInfo(
                name=split, shard_lengths=lengths, num_bytes=num_bytes, filename_template=template
            )
        )
        written[split] = seen
        if sizes:
            points[split] = [min(sizes), max(sizes)]
    if not infos:
        raise DataError(f"{name}: not one usable record{_why(getattr(builder, 'skipped', []))}")
    _require_unique(written, name)
    builder.info.set_splits(tfds_splits.SplitDict(infos))
    builder.info.write_to_directory(folder)
    found = _read_back(folder, written, name)
    return {k: {**v, **({"points": points[k]} if k in points else {})} for k, v in found.items()}


def write_manifest(folder: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Writes manifest.json beside the records."""
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))


def read_manifest(folder: pathlib.Path) -> dict[str, Any] | None:
    """The manifest of a prepared data set; None if there is none, which means that it was never
    finished.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # what may not be read now is no reason to remove anything
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{folder / 'manifest.json'}: cannot be read ({reason})") from None
    except ValueError as error:
        raise DataError(
            f"{folder / 'manifest.json'}: cannot be read ({error}); remove {folder} and build again"
        ) from None
    missing = sorted(
        {"name", "version", "splits", "class_names"}
        - set(manifest if isinstance(manifest, dict) else ())
    )
    if missing:
        raise DataError(
            f"{folder / 'manifest.json'}: has no '{missing[0]}'; remove {folder} and build again"
        )
    return manifest


def manifest_digest(folder: pathlib.Path) -> str:
    """SHA-256 of the manifest of a prepared data set: of its records' ids, classes and origin."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def _write_shards(
    folder: pathlib.Path,
    examples: Iterable[tuple[Any, dict[str, Any]]],
    features: Any,
    seen: list[tuple[str, int]],
    advance: Any,
    shard_bytes: int,
) -> list[tuple[pathlib.Path, int, int]]:
    """Fills `seen` with (id, label) and returns (path, records, bytes) of every shard."""
    shards: list[tuple[pathlib.Path, int, int]] = []
    writer, path, count, size = None, folder, 0, 0
    label_of = features["label"].encode_example
    try:
        for _, example in examples:
            if writer is None:
                path = folder / f"shard-{len(shards):05d}.part"
                writer, count, size = (
                    array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS),
                    0,
                    0,
                )
            serialized = features.serialize_example(example)
            writer.write(serialized)
            seen.append((str(example["id"]), int(label_of(example["label"]))))
            count, size = count + 1, size + len(serialized)
            advance()
            if size >= shard_bytes:
                writer.close()
                writer = None
                shards.append((path, count, size))
        if writer is not None:
            writer.close()
            writer = None
            shards.append((path, count, size))
    finally:
        if writer is not None:  # on the way out with another error, which is the one to show
            with contextlib.suppress(Exception):
                writer.close()
    return shards


def _measured(
    examples: Iterable[tuple[Any, dict[str, Any]]], sizes: list[int]
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The examples; `sizes` gets the number of points of each that has some."""
    for key, example in examples:
        if "points" in example:
            sizes.append(len(example["points"]))
        yield key, example


def _require_unique(written: dict[str, list[tuple[str, int]]], name: str) -> None:
    ids: set[str] = set()
    for rows in written.values():
        for identity, _ in rows:
            if identity in ids:
                raise DataError(
                    f"{name}: two records have the id '{identity}'; ids must be unique over all "
                    "splits"
                )
            ids.add(identity)


def _read_back(
    folder: pathlib.Path, written: dict[str, list[tuple[str, int]]], name: str
) -> dict[str, Any]:
    builder = tfds.builder_from_directory(folder)
    found: dict[str, Any] = {}
    features = builder.info.features
    decoder = tfds.features.FeaturesDict({"id": features["id"], "label": features["label"]})
    for split, rows in written.items():
        raw = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        records = [decoder.deserialize_example_np(raw[i]) for i in range(len(raw))]
        ids, labels = [r["id"].decode() for r in records], [int(r["label"]) for r in records]
        if list(zip(ids, labels, strict=True)) != rows:
            raise DataError(
                f"{name}: the split '{split}' reads back otherwise than it was written; check the "
                "disk"
            )
        found[split] = {"items": len(ids), "ids": ids, "labels": labels}
    return found


def _why(skipped: list[dict[str, str]]) -> str:
    if not skipped:
        return ""
    return f"; {len(skipped)} files were skipped, the first: {skipped[0]['file']}: {skipped[0]['reason']}"


@contextlib.contextmanager
def _progress(what: str, total: int | None) -> Iterator[Any]:
    """Yields a function to call once a record: a bar on a terminal, else a log line every
    LOG_SECONDS and at the end.
    """
    start = last = time.monotonic()
    done = 0

    def line(now: float) -> None:
        of = f" of {total}" if total else ""
        logger.info("%s: %d%s items, %.0f/s", what, done, of, done / max(now - start, 1e-9))

    bar = contextlib.ExitStack()
    step = None
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
        progress = bar.enter_context(
            Progress(*columns, console=Console(stderr=True), transient=True)
        )
        task = progress.add_task(what, total=total)
        step = lambda: progress.advance(task)  # noqa: E731

    def advance() -> None:
        nonlocal done, last
        done += 1
        if step is not None:
            step()
        elif (now := time.monotonic()) - last >= LOG_SECONDS:
            last = now
            line(now)

    with bar:
        yield advance
    line(time.monotonic())
