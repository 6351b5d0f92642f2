"""Prepared data sets on disk: random access to the records of a split, without TensorFlow.

A prepared data set is a folder that TFDS wrote, `DATA_DIR/NAME/VERSION/`, with ArrayRecord files
and, beside them, a `manifest.json` that lists the ids and labels of every split in record order.
Every record is checked against the manifest as it is read, because a truncated ArrayRecord file can
answer with empty records instead of an error.
"""

from __future__ import annotations

import bisect
import itertools
import json
import operator
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source, array_record_module

from jax3dret.core.types import ConfigError, DataError, Record, nearest


class Source:
    """The records of one split (or of "train+val", "test[:100]", ...), decoded on access.

    `source[i]` is a dict of "id" (str), "label" (int) and the arrays of the record. Attributes:
    name, version, split, path (the folder), manifest (the parsed manifest.json), ids (tuple of
    str), labels (int32[N]), class_names (tuple), features (names of what a record holds). Reading
    is thread-safe. Raises DataError, naming the file, for a record that cannot be read.
    """

    def __init__(
        self,
        *,
        path: pathlib.Path,
        name: str,
        split: str,
        manifest: Mapping[str, Any],
        ids: Sequence[str],
        labels: Sequence[int] | np.ndarray,
        files: Sequence[Any],
        features: tfds.features.FeaturesDict,
    ) -> None:
        self.path, self.name, self.split, self.manifest = path, name, split, manifest
        self.version = str(manifest.get("version", path.name))
        self.ids: Sequence[str] = tuple(ids)
        self.labels = np.asarray(labels, np.int32)
        self.class_names = tuple(manifest["class_names"])
        self.features = tuple(sorted(features))
        self._decoder = features
        self._files = tuple(files)
        self._ends = list(itertools.accumulate(file.take for file in self._files))
        self._reader = array_record_data_source.ArrayRecordDataSource(list(self._files))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Source({self.name}:{self.version}, split={self.split}, items={len(self)})"

    def __getitem__(self, index: int) -> Record:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self!r} has no record {index}")
        index %= len(self)
        try:
            decoded = self._decoder.deserialize_example_np(self._reader[index])
        # The reader and the decoder raise whatever their C++ side meets: RuntimeError, DecodeError,
        # KeyError, ValueError.
        except Exception as error:
            raise DataError(
                f"{self._file_of(index)}: record {index} cannot be read ({_first_line(error)})"
            ) from error
        record = {key: self._typed(key, value) for key, value in decoded.items()}
        name = record.get("id")
        if name != self.ids[index] or record.get("label") != self.labels[index]:
            raise DataError(
                f"{self._file_of(index)}: record {index} is '{name}', the manifest lists "
                f"'{self.ids[index]}' there: the file is "
                f"damaged or the manifest is of another build; prepare {self.name} again"
            )
        return record

    def select(self, *features: str) -> Source:
        """The same records with only these features (and "id" and "label") decoded: cheaper where
        meshes or normals lie unused.
        """
        unknown = sorted(set(features) - set(self.features))
        if unknown:
            raise DataError(
                f"{self.name} has no feature '{unknown[0]}'; it has {', '.join(self.features)}"
            )
        kept = {
            name: self._decoder[name]
            for name in self.features
            if name in {"id", "label", *features}
        }
        return Source(
            path=self.path,
            name=self.name,
            split=self.split,
            manifest=self.manifest,
            ids=self.ids,
            labels=self.labels,
            files=self._files,
            features=tfds.features.FeaturesDict(kept),
        )

    def _typed(self, feature: str, value: Any) -> Any:
        """Text as str, the label as int, every other number as an array of the feature's dtype."""
        if isinstance(value, bytes):
            return value.decode()
        if value is None or isinstance(value, np.ndarray):
            return value
        return (
            int(value) if feature == "label" else np.asarray(value, self._decoder[feature].np_dtype)
        )

    def _file_of(self, index: int) -> str:
        return os.fspath(self._files[bisect.bisect_right(self._ends, index)].filename)


def open_source(name: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> Source:
    """Opens a prepared data set.

    name: "builder" or "builder/config", optionally with ":version" (else the newest one there is).
    split: any TFDS split expression, "train", "train+val", "test[:100]".
    data_dir: where prepared data sets lie; None means $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises DataError if the data set is not prepared there, or a file of it is missing, truncated or
    does not fit its manifest; ConfigError for a split that it does not have.
    """
    path = find_prepared(name, data_dir)
    if path is None:
        root = data_root(data_dir)
        configs = sorted(p.parent.parent.name for p in (root / name).glob("*/*/dataset_info.json"))
        if configs:
            choices = ", ".join(f"{name}/{config}" for config in dict.fromkeys(configs))
            raise ConfigError(f"'{name}' names no configuration; prepared in {root}: {choices}")
        raise DataError(
            f"{name} is not prepared in {root}; run: jax3dret data build {name} --manual-dir RAW"
        )
    manifest = _read_manifest(path, name)
    try:
        builder = tfds.builder_from_directory(path)
    except Exception as error:
        raise DataError(
            f"{path}: cannot be opened as a prepared data set ({_first_line(error)})"
        ) from error
    infos = dict(builder.info.splits)
    try:
        ranges = [
            (
                part.splitname,
                part.from_ or 0,
                infos[part.splitname].num_examples if part.to is None else part.to,
            )
            for part in tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
        ]
        files = builder.info.splits[split].file_instructions
    except (ValueError, KeyError, AssertionError) as error:
        raise ConfigError(
            f"split '{split}': {name} has {', '.join(sorted(infos))}{nearest(split, infos)}"
        ) from error
    if not files:
        raise DataError(f"{name}: the split '{split}' holds no records")
    ids: list[str] = []
    labels: list[int] = []
    for part, start, stop in ranges:
        listed = manifest["splits"].get(part, {"ids": (), "labels": ()})
        if not len(listed["ids"]) == len(listed["labels"]) == infos[part].num_examples:
            raise DataError(
                f"{path / 'manifest.json'}: lists {len(listed['ids'])} ids and "
                f"{len(listed['labels'])} labels of the split "
                f"'{part}', which has {infos[part].num_examples} records; prepare {name} again"
            )
        ids += listed["ids"][start:stop]
        labels += listed["labels"][start:stop]
    _check_files(files)
    return Source(
        path=path,
        name=name.split(":")[0],
        split=split,
        manifest=manifest,
        ids=ids,
        labels=labels,
        files=files,
        features=builder.info.features,
    )


def data_root(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """The folder of the prepared data sets: `data_dir`, else $TFDS_DATA_DIR, else
    ~/tensorflow_datasets.
    """
    return pathlib.Path(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    ).expanduser()


def find_prepared(name: str, data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path | None:
    """The version folder of a prepared data set, the newest if the name gives no version; None if
    there is none.
    """
    name, _, version = name.partition(":")
    found = [
        p.parent for p in (data_root(data_dir) / name).glob(f"{version or '*'}/dataset_info.json")
    ]
    numbered = [p for p in found if all(part.isdigit() for part in p.name.split("."))]
    return max(numbered, key=lambda p: tuple(map(int, p.name.split("."))), default=None)


def _read_manifest(path: pathlib.Path, name: str) -> dict[str, Any]:
    file = path / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{file} is missing: the data set was not finished; prepare {name} again"
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{file}: cannot be read ({reason})") from error
    except ValueError as error:
        raise DataError(
            f"{file}: cannot be read ({_first_line(error)}); prepare {name} again"
        ) from error
    missing = {"splits", "class_names"} - set(manifest if isinstance(manifest, dict) else ())
    if missing:
        raise DataError(f"{file}: has no '{min(missing)}'; prepare {name} again")
    return manifest


def _check_files(files: Sequence[Any]) -> None:
    for file in files:
        try:
            reader = array_record_module.ArrayRecordReader(os.fspath(file.filename))
            records = reader.num_records()
            reader.close()
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"{os.fspath(file.filename)}: cannot be read ({_first_line(error)})"
            ) from error
        if records != file.examples_in_shard:
            raise DataError(
                f"{os.fspath(file.filename)}: holds {records} records where dataset_info.json "
                f"lists {file.examples_in_shard}: "
                "the file is truncated"
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
