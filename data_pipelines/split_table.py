"""Published split files: which samples are train, val and test, and what they are.

The published code of ULIP-2 fine-tuning for geometric object retrieval (Computers & Graphics 122
(2024) 103993) keeps its splits as JSON: {"n_classes", "label_to_id": {label: id}, "samples": {key:
{"label", "label_id", "split", "cache_path", "path"}}}. The same as a table of tab-separated columns
is read too: the key first (whatever it is called), then label_id, label, split and, where there are
such, mesh_path and has_cloud. Builders look for `<stem>_v<number>.json` or `.tsv` in the raw folder
or its folder "splits".
"""

from __future__ import annotations

import collections
import csv
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_pipelines.raw_files import SPLITS, read_json, read_text
from jax3dret.core.types import DataError

_WANTED = "a split file (JSON with 'samples', or a table with key, label_id, label, split)"


class Row(NamedTuple):
    """One sample. path: its raw file as the table gives it, None if it does not. cache: its file in
    the published cache of clouds as the table gives it, "" if it does not, None where the cache has
    none.
    """

    key: str
    label: str
    split: str
    path: str | None
    cache: str | None


class SplitTable(NamedTuple):
    """Rows in the file's order; class_names in the order of the published label ids."""

    file: pathlib.Path
    class_names: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Samples per split."""
        found = collections.Counter(row.split for row in self.rows)
        return {split: found[split] for split in SPLITS if found[split]}


def find_split_table(manual_dir: pathlib.Path, stem: str) -> SplitTable | None:
    """The split file `<stem>_v*.json` or `.tsv` of a raw folder, read; None if there is none.

    Raises:
        DataError: there are several, or the one there is cannot be used.
    """
    folders = (manual_dir, manual_dir / "splits")
    found = [
        p
        for folder in folders
        for kind in ("json", "tsv")
        for p in sorted(folder.glob(f"{stem}_v*.{kind}"))
    ]
    if len(found) > 1:
        names = ", ".join(path.relative_to(manual_dir).as_posix() for path in found)
        raise DataError(f"{manual_dir}: holds {len(found)} split files: {names}; keep one")
    return read_split_table(found[0]) if found else None


def read_split_table(path: pathlib.Path) -> SplitTable:
    """Reads one split file.

    Raises: DataError: it is no such file, a key comes twice, a split has another name than train,
        val or test, or the label ids do not number the labels from 0.
    """
    parse = _from_json if path.suffix.lower() == ".json" else _from_table
    rows, ids = [], dict[int, str]()
    keys: set[str] = set()
    for row, number in parse(path):
        if row.split not in SPLITS:
            raise DataError(
                f"{path}: '{row.key}' is in the split '{row.split}'; one of {', '.join(SPLITS)} is "
                "needed"
            )
        if row.key in keys:
            raise DataError(f"{path}: the key '{row.key}' comes twice; keys must be unique")
        if ids.setdefault(number, row.label) != row.label:
            raise DataError(
                f"{path}: label id {number} is '{ids[number]}' and '{row.label}'; one label each "
                "is needed"
            )
        keys.add(row.key)
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: lists no samples; {_WANTED} is needed")
    if sorted(ids) != list(range(len(ids))) or len(set(ids.values())) != len(ids):
        raise DataError(
            f"{path}: label ids must number the {len(set(ids.values()))} labels from 0, one each"
        )
    return SplitTable(path, tuple(ids[i] for i in range(len(ids))), tuple(rows))


def _from_json(path: pathlib.Path) -> Iterator[tuple[Row, int]]:
    value = read_json(path, _WANTED)
    samples = value.get("samples") if isinstance(value, dict) else None
    if not isinstance(samples, dict):
        raise DataError(f"{path}: has no 'samples'; {_WANTED} is needed")
    for key, sample in samples.items():
        try:
            number = int(sample["label_id"])
            row = Row(
                key,
                str(sample["label"]),
                str(sample["split"]),
                sample.get("path"),
                sample.get("cache_path") or None,
            )
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{path}: sample '{key}' must have 'label', 'label_id' and 'split'"
            ) from None
        yield row, number


def _from_table(path: pathlib.Path) -> Iterator[tuple[Row, int]]:
    reader = csv.DictReader(
        read_text(path, _WANTED).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    columns = list(reader.fieldnames or [])
    lacking = sorted({"label_id", "label", "split"} - set(columns))
    if lacking or columns[0] in ("label_id", "label", "split"):
        raise DataError(
            f"{path}: has no column '{lacking[0] if lacking else 'key'}'; {_WANTED} is needed"
        )
    for line, cells in enumerate(reader, start=2):
        values: dict[str, Any] = cells
        try:
            number = int(values["label_id"])
        except (TypeError, ValueError):
            raise DataError(
                f"{path}: line {line} has the label id {values['label_id']!r}; a number is needed"
            ) from None
        cache = None if values.get("has_cloud", "1") == "0" else ""
        yield (
            Row(
                values[columns[0]],
                values["label"],
                str(values["split"]),
                values.get("mesh_path"),
                cache,
            ),
            number,
        )
