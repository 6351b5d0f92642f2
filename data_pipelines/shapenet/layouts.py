"""ShapeNetCore55 on disk: the split tables of the SHREC tracks and the two forms in which the
models lie.

Tables    train.csv, val.csv, test.csv (id,synsetId,subSynsetId; test also modelId,split) or all.csv (id,synsetId,subSynsetId,
          modelId,split)
shrec     {train,val,test}_{normal,perturbed}/000001.obj (2017) or model_000001.obj, in 2016 also inside synset folders and with
          the aligned models in plain {train,val,test}/
core      <synset>/<model>/models/model_normalized.obj (ShapeNetCore.v2) or <synset>/<model>/model.obj (v1), which all.csv joins
npy       <key>.npy, the ULIP-2 paper's cached clouds, with its split file shapenet_{normal,perturbed}_coarse_v0.json; no tables
"""

from __future__ import annotations

import collections
import csv
import hashlib
import pathlib
import re
from typing import Any, NamedTuple

from data_pipelines.cached_clouds import find_cache, has_cache
from data_pipelines.mesh_records import MeshItem
from data_pipelines.raw_files import SPLITS, hidden, packed, places, read_text, require_some
from data_pipelines.shapenet.synsets import NAMES, TEN
from jax3dret.core.types import DataError

WANTED = (
    "the split tables (all.csv, or train.csv, val.csv and test.csv) and the models "
    "({train,val,test}_normal/*.obj of the SHREC "
    "tracks, or ShapeNetCore's <synset>/<model>/) are needed, in it or one level below; or the "
    "cached clouds (<key>.npy) with shapenet_{normal,perturbed}_coarse_v0.json"
)
PER_CLASS = 50
_TABLES = ("all.csv", *(f"{split}.csv" for split in SPLITS))
_TABLE = "a table with the columns id,synsetId,subSynsetId[,modelId,split]"


class Model(NamedTuple):
    """One row of the tables. number: six digits. model: ShapeNet's own id, "" where the table has
    none.
    """

    number: str
    synset: str
    model: str
    split: str


class Layout(NamedTuple):
    """items: split -> meshes in the order of synset and number, or clouds in the order of class and
    key. missing: listed files that are not there, of `listed`.
    """

    root: pathlib.Path
    kind: str
    class_names: tuple[str, ...]
    items: dict[str, list[MeshItem]]
    missing: list[str]
    listed: int
    tables: list[pathlib.Path]
    notes: dict[str, Any]


def find_layout(manual_dir: pathlib.Path, config: str) -> Layout:
    """The models of one configuration ("normal", "perturbed", "ten") with classes and splits.

    Raises:
        DataError: tables or models are not there, or the tables cannot be used.
    """
    here = places(manual_dir)
    cached = _cached(here, config)
    if cached:
        return cached
    tables = _tables(manual_dir, here)
    models = sorted(_models(tables), key=lambda row: (row.synset, row.number))
    variant = "perturbed" if config == "perturbed" else "normal"
    kind, paths, names = _paths(manual_dir, here, variant, models)
    missing = [names[row.number] for row in models if row.number not in paths]
    require_some(manual_dir, missing, len(models), WANTED)
    notes: dict[str, Any] = {"listed": dict(collections.Counter(row.split for row in models))}
    if config == "ten":
        # The tracks hold two empty files.
        models = _ten(
            [row for row in models if row.number in paths and paths[row.number].stat().st_size]
        )
        notes["selection"] = (
            "ten largest classes; the models of a class in the order of the SHA-256 of "
            f"'<synset>/<id>', the first {PER_CLASS} "
            f"train, the next {PER_CLASS} test, whatever their published split"
        )
    items: dict[str, list[MeshItem]] = {
        split: [] for split in SPLITS if any(row.split == split for row in models)
    }
    for row in models:
        if row.number in paths:
            path = paths[row.number]
            name = path.relative_to(manual_dir).as_posix()
            items[row.split].append(
                MeshItem(path, f"{row.synset}/{row.number}", _name(row.synset), name)
            )
    synsets = sorted({row.synset for row in models})
    notes["unknown_synsets"] = [synset for synset in synsets if synset not in NAMES]
    return Layout(
        manual_dir,
        kind,
        tuple(map(_name, synsets)),
        items,
        missing,
        len(missing) + len(paths),
        tables,
        notes,
    )


def _cached(here: list[pathlib.Path], config: str) -> Layout | None:
    """The paper's cache of a configuration, the nearest; a cache of other points than the models
    that lie beside it must be told apart by the user.
    """
    stem = f"shapenet_{config}_coarse"
    cache = next((find_cache(place, stem) for place in here if has_cache(place, stem)), None)
    if cache is None:
        return None
    table = next((p / n for p in here for n in _TABLES if (p / n).is_file()), None)
    if table is not None:
        raise DataError(
            f"{here[0]}: holds two forms of the data set, {table.name} with its models and "
            f"{cache.table.file.name} with its clouds; give the folder of one"
        )
    return Layout(
        cache.root,
        "npy",
        tuple(map(_name, cache.table.class_names)),
        {
            split: [item._replace(label=_name(item.label)) for item in part]
            for split, part in cache.items.items()
        },
        cache.missing,
        len(cache.table.rows),
        [cache.table.file],
        {**cache.notes, "unknown_synsets": []},
    )


def _name(synset: str) -> str:
    return NAMES.get(synset, synset)


def _tables(manual_dir: pathlib.Path, here: list[pathlib.Path]) -> list[pathlib.Path]:
    """all.csv, else the three tables; as many of them as there are."""
    for names in (("all.csv",), tuple(f"{split}.csv" for split in SPLITS)):
        found = [
            next((place / name for place in here if (place / name).is_file()), None)
            for name in names
        ]
        if any(found):
            lacking = [name for name, path in zip(names, found, strict=True) if path is None]
            if lacking:
                raise DataError(
                    f"{manual_dir}: {lacking[0]} is missing beside {next(p for p in found if p)}; "
                    f"{WANTED}"
                )
            return [path for path in found if path]
    raise DataError(f"{manual_dir}: no split table there; {WANTED}{packed(manual_dir)}")


def _models(tables: list[pathlib.Path]) -> list[Model]:
    models: dict[str, Model] = {}
    for path in tables:
        rows = csv.DictReader(read_text(path, _TABLE).splitlines(), skipinitialspace=True)
        lacking = sorted({"id", "synsetId"} - set(rows.fieldnames or []))
        whole = path.stem == "all"
        if whole:
            lacking += sorted({"split"} - set(rows.fieldnames or []))
        if lacking:
            raise DataError(f"{path}: has no column '{lacking[0]}'; {_TABLE} is needed")
        for line, cells in enumerate(rows, start=2):
            number, synset = (cells["id"] or "").strip(), (cells["synsetId"] or "").strip()
            split = (cells.get("split") or "").strip() or path.stem
            if not (number.isdigit() and synset.isdigit() and split in SPLITS):
                raise DataError(
                    f"{path}: line {line} has id '{number}', synsetId '{synset}', split '{split}'; "
                    f"{_TABLE} is needed"
                )
            # Spreadsheets drop leading zeros.
            row = Model(
                number.zfill(6), synset.zfill(8), (cells.get("modelId") or "").strip(), split
            )
            if row.number in models:
                raise DataError(
                    f"{path}: line {line}: the id {row.number} comes twice; ids must be unique"
                )
            models[row.number] = row
    if not models:
        raise DataError(f"{tables[0]}: lists no models; {_TABLE} is needed")
    return list(models.values())


def _paths(
    manual_dir: pathlib.Path, here: list[pathlib.Path], variant: str, models: list[Model]
) -> tuple[str, dict[str, pathlib.Path], dict[str, str]]:
    """(form, {number: path} of what is there, {number: name} of what should be)."""
    for place in here:
        folders = {split: place / f"{split}_{variant}" for split in SPLITS}
        if variant == "normal" and not any(folder.is_dir() for folder in folders.values()):
            folders = {split: place / split for split in SPLITS}
        if any(folder.is_dir() for folder in folders.values()):
            names = {row.number: f"{folders[row.split].name}/{row.number}.obj" for row in models}
            return "shrec", _numbered(folders, models), names
    if variant == "perturbed":
        raise DataError(
            f"{manual_dir}: no {{train,val,test}}_perturbed/*.obj there; the perturbed models are "
            "those of the SHREC tracks "
            f"(train_perturbed.zip, ...){packed(manual_dir)}"
        )
    core = next(
        (place for place in here if any(re.fullmatch(r"\d{8}", p.name) for p in place.iterdir())),
        None,
    )
    if core is None:
        raise DataError(
            f"{manual_dir}: split tables but no models there; {WANTED}{packed(manual_dir)}"
        )
    if not any(row.model for row in models):
        raise DataError(
            f"{manual_dir}: ShapeNetCore's folders are joined by modelId, which only all.csv has; "
            "put it there"
        )
    paths = {}
    for row in models:
        folder = core / row.synset / row.model
        for path in (folder / "models" / "model_normalized.obj", folder / "model.obj"):
            if row.model and path.is_file():
                paths[row.number] = path
                break
    return "core", paths, {row.number: f"{row.synset}/{row.model}" for row in models}


def _numbered(folders: dict[str, pathlib.Path], models: list[Model]) -> dict[str, pathlib.Path]:
    """{number: path} of the files whose folder is that of their split in the table."""
    split_of = {row.number: row.split for row in models}
    paths = {}
    for split, folder in folders.items():
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            match = re.fullmatch(r"(?:model_)?(\d{6})\.obj", path.name)
            if match and split_of.get(match[1]) == split and not hidden(path, folder):
                paths[match[1]] = path
    return paths


def _ten(models: list[Model]) -> list[Model]:
    """The ten classes of INRet's ShapeNet10, 50 train and 50 test each; its list is not published,
    this one is ours.
    """
    chosen = []
    for synset in TEN:
        rows = [row for row in models if row.synset == synset]
        rows.sort(key=lambda row: hashlib.sha256(f"{row.synset}/{row.number}".encode()).digest())
        chosen += [row._replace(split="train") for row in rows[:PER_CLASS]]
        chosen += [row._replace(split="test") for row in rows[PER_CLASS : 2 * PER_CLASS]]
    if not chosen:
        raise DataError(
            f"none of the ten classes {', '.join(NAMES[synset] for synset in TEN)} has a model; "
            f"{WANTED}"
        )
    return sorted(chosen, key=lambda row: (row.synset, row.number))
