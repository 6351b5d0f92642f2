"""The four forms in which ModelNet is passed around: meshes, and three of clouds.

    off               <class>/{train,test}/<class>_0001.off           the original meshes; z up
    pointnet_hdf5     ply_data_train0.h5, train_files.txt, ...        clouds of PointNet (2017); 40 classes: y up
    normal_resampled  <class>/<class>_0001.txt, modelnet40_train.txt  clouds with normals of PointNet++ (2017); y up
    cached_clouds     <key>.npy, m40_v0.json                          the ULIP-2 paper's clouds of the meshes

A layout is found by its files, never by the folder's name. Every list file must find what it names;
a mesh or a cloud that cannot be used is left to the caller to count.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from data_pipelines.cached_clouds import POINTS, find_cache, has_cache, read_cloud
from data_pipelines.mesh_records import MeshItem
from data_pipelines.raw_files import warn_missing
from jax3dret.core.types import DataError

ORIGIN = (
    "ModelNet10 and ModelNet40 (OFF meshes) are at modelnet.cs.princeton.edu; the point clouds go "
    "by the names "
    "modelnet40_ply_hdf5_2048 (PointNet) and modelnet40_normal_resampled (PointNet++)."
)
SPLITS = ("train", "test")

# One cloud: (id, label, read), where read() gives (points, normals or None) or raises DataError.
Cloud = tuple[str, int, Callable[[], tuple[np.ndarray, np.ndarray | None]]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """One form of the data set, found on disk.

    files: {path relative to root: bytes} of everything that will be read. counts: shapes per split.
    meshes: of every split, in the order of their names; empty where the files hold clouds. clouds:
    split -> its clouds in the source's order, labels indexing class_names. normals: whether the
    clouds have them; those that are drawn from meshes always do. checksums: sha256 of lists and
    HDF5 files.
    """

    kind: str
    root: pathlib.Path
    up_axis: str
    class_names: tuple[str, ...]
    normals: bool
    files: dict[str, int]
    counts: dict[str, int]
    checksums: Callable[[], dict[str, str]] = dict
    clouds: Callable[[str], Iterator[Cloud]] = lambda split: iter(())
    meshes: dict[str, list[MeshItem]] = dataclasses.field(default_factory=dict)
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)


def find_layout(manual_dir: pathlib.Path, num_classes: int) -> Layout:
    """The one layout in manual_dir or directly below it.

    Raises: DataError: none or several are there, a listed file is missing, or it holds another
        number of classes.
    """
    places = [manual_dir, *sorted(p for p in manual_dir.iterdir() if p.is_dir() and not _hidden(p))]
    found = [(kind, place) for place in places for kind in _kinds(place, num_classes)]
    if len(found) > 1:  # ModelNet10 and ModelNet40 side by side in one folder
        named = [
            (kind, place) for kind, place in found if f"modelnet{num_classes}" in place.name.lower()
        ]
        found = named if len(named) == 1 else found
    if not found:
        raise DataError(
            f"{manual_dir}: no ModelNet{num_classes} there; one of these is needed, in it or one "
            "level below: "
            "<class>/train/*.off with <class>/test/*.off, or train_files.txt with test_files.txt "
            "and their .h5 files, or "
            f"modelnet{num_classes}_train.txt with <class>/*.txt, or m{num_classes}_v0.json with "
            "its "
            f"<key>.npy. {ORIGIN}"
        )
    if len(found) > 1:
        places_found = ", ".join(f"{place} ({kind})" for kind, place in found)
        raise DataError(
            f"{manual_dir}: holds {len(found)} forms of the data set: {places_found}; give one as "
            "manual_dir"
        )
    ((kind, place),) = found
    layout = {
        "off": lambda: _off(place),
        "pointnet_hdf5": lambda: _hdf5(place, num_classes),
        "normal_resampled": lambda: _resampled(place, num_classes),
        "cached_clouds": lambda: _cached(place, num_classes),
    }[kind]()
    names = len(layout.class_names)
    if names > num_classes or (kind != "off" and names != num_classes):
        raise DataError(
            f"{place}: holds {names} classes, ModelNet{num_classes} has {num_classes}; build "
            f"modelnet/{names}"
        )
    return layout


def _kinds(place: pathlib.Path, num_classes: int) -> list[str]:
    kinds = []
    if any((place / f"{split}_files.txt").is_file() for split in SPLITS) or any(
        place.glob("ply_data_*.h5")
    ):
        kinds.append("pointnet_hdf5")
    if any((place / f"modelnet{num_classes}_{split}.txt").is_file() for split in SPLITS):
        kinds.append("normal_resampled")
    if any(next((place).glob(f"*/{split}/*.[oO][fF][fF]"), None) for split in SPLITS):
        kinds.append("off")
    if has_cache(place, f"m{num_classes}"):
        kinds.append("cached_clouds")
    return kinds


def _off(root: pathlib.Path) -> Layout:
    """Meshes; the classes are their folders."""
    paths = {
        split: sorted(
            path
            for path in root.glob(f"*/{split}/*")
            if path.suffix.lower() == ".off" and not _hidden(path, root)
        )
        for split in SPLITS
    }

    def item(path: pathlib.Path) -> MeshItem:
        name = path.relative_to(root).parts[0]
        return MeshItem(path, f"{name}/{path.stem}", name, path.relative_to(root).as_posix())

    meshes = {split: [item(path) for path in part] for split, part in paths.items()}
    return Layout(
        kind="off",
        root=root,
        up_axis="z",
        class_names=tuple(sorted({item.label for part in meshes.values() for item in part})),
        normals=True,
        files=_sizes(root, [path for part in paths.values() for path in part]),
        counts={split: len(part) for split, part in paths.items()},
        meshes=meshes,
    )


def _hdf5(root: pathlib.Path, num_classes: int) -> Layout:
    """PointNet's files. Lines of the lists carry the folder they were made in; only the base name
    counts.
    """
    lists = [root / "shape_names.txt", *(root / f"{split}_files.txt" for split in SPLITS)]
    _require(root, lists)
    names = tuple(_lines(lists[0]))
    files = {
        split: [
            root / pathlib.PurePosixPath(line).name for line in _lines(root / f"{split}_files.txt")
        ]
        for split in SPLITS
    }
    _require(root, [path for part in files.values() for path in part])
    counts = dict.fromkeys(SPLITS, 0)
    normals = set()
    for split, paths in files.items():
        for path in paths:
            with _open_hdf5(path) as file:
                counts[split] += _check_hdf5(path, file, len(names))
                normals.add("normal" in file)
    if len(normals) > 1:
        raise DataError(
            f"{root}: some of the .h5 files have 'normal' and some have not; all or none must"
        )
    repeated = {"repeated_ids": 0}

    def clouds(split: str) -> Iterator[Cloud]:
        seen: dict[str, int] = {}
        for path in files[split]:
            with _open_hdf5(path) as file:
                labels = np.asarray(file["label"]).reshape(-1).astype(int)
                identities = _identities(path, len(labels), split)
                # Whole arrays: the files are chunked and compressed over many clouds, so single
                # rows cost a chunk each.
                points, normal = (
                    np.asarray(file["data"]),
                    np.asarray(file["normal"]) if "normal" in file else None,
                )
            for row, (identity, label) in enumerate(zip(identities, labels, strict=True)):
                seen[identity] = seen.get(identity, 0) + 1
                if seen[identity] > 1:  # the same shape twice: kept, as the published files have it
                    repeated["repeated_ids"] += 1
                    identity = f"{identity}#{seen[identity]}"
                cloud = points[row], None if normal is None else normal[row]
                yield identity, int(label), functools.partial(_usable, *cloud)

    every = [*lists, *(path for part in files.values() for path in part)]
    return Layout(
        kind="pointnet_hdf5",
        root=root,
        # The published 40-class files are y up. ModelNet10 was not published in this form; its
        # conversions keep the meshes' z up.
        up_axis="y" if num_classes == 40 else "z",
        class_names=names,
        normals=normals == {True},
        files=_sizes(root, every),
        counts=counts,
        clouds=clouds,
        checksums=lambda: {path.name: _sha256(path) for path in every},
        notes=repeated,
    )


def _resampled(root: pathlib.Path, num_classes: int) -> Layout:
    """PointNet++'s text clouds: a line is x,y,z,nx,ny,nz; the lists hold ids such as
    night_stand_0001.
    """
    prefix = f"modelnet{num_classes}"
    lists = [
        root / f"{prefix}_shape_names.txt",
        *(root / f"{prefix}_{split}.txt" for split in SPLITS),
    ]
    _require(root, lists)
    names = tuple(_lines(lists[0]))
    stems = {split: _lines(root / f"{prefix}_{split}.txt") for split in SPLITS}
    for split, part in stems.items():
        for stem in part:
            if stem.rpartition("_")[0] not in names:
                raise DataError(
                    f"{root / f'{prefix}_{split}.txt'}: '{stem}' is of no class in {lists[0].name}"
                )
    paths = {
        split: [root / stem.rpartition("_")[0] / f"{stem}.txt" for stem in part]
        for split, part in stems.items()
    }
    _require(root, [path for part in paths.values() for path in part])

    def clouds(split: str) -> Iterator[Cloud]:
        for path in paths[split]:
            name = path.parent.name
            yield f"{name}/{path.stem}", names.index(name), functools.partial(_read_text, path)

    return Layout(
        kind="normal_resampled",
        root=root,
        up_axis="y",
        class_names=names,
        normals=True,
        files=_sizes(root, [*lists, *(path for part in paths.values() for path in part)]),
        counts={split: len(part) for split, part in paths.items()},
        clouds=clouds,
        checksums=lambda: {path.name: _sha256(path) for path in lists},
    )


def _cached(root: pathlib.Path, num_classes: int) -> Layout:
    """The published cache. An id is that of the mesh, where the split file names it."""
    cache = find_cache(root, f"m{num_classes}")
    assert cache is not None  # _kinds has seen it
    warn_missing(f"modelnet/{num_classes}", cache.missing, len(cache.table.rows))
    names = cache.table.class_names
    meshes = {row.key: pathlib.PurePosixPath(row.path or row.key) for row in cache.table.rows}

    def clouds(split: str) -> Iterator[Cloud]:
        for item in cache.items[split]:
            mesh = meshes[item.identity]
            identity = f"{item.label}/{mesh.stem}" if mesh.suffix else item.identity
            yield identity, names.index(item.label), functools.partial(_read_cached, item.path)

    paths = [item.path for part in cache.items.values() for item in part]
    return Layout(
        kind="cached_clouds",
        root=root,
        up_axis="z",
        class_names=names,
        normals=False,
        files=_sizes(root, [cache.table.file, *paths]),
        counts={split: len(part) for split, part in cache.items.items()},
        clouds=clouds,
        checksums=lambda: {cache.table.file.name: _sha256(cache.table.file)},
        notes={
            "points": POINTS,
            "up_axis_from": "assumed to be that of the meshes; the cache does not say",
            **cache.notes,
        },
    )


def _read_cached(path: pathlib.Path) -> tuple[np.ndarray, None]:
    return read_cloud(path), None


def _read_text(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline()
        if not line.strip():
            raise ValueError("no points in it")
        separator = "," if "," in line else None
        rows = np.loadtxt(path, delimiter=separator, ndmin=2)
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{path}: cannot be read ({first}); each line must be x,y,z,nx,ny,nz"
        ) from None
    if rows.shape[1] != 6:
        raise DataError(f"{path}: has {rows.shape[1]} columns; each line must be x,y,z,nx,ny,nz")
    points, normals = _usable(rows[:, :3], rows[:, 3:])
    assert normals is not None
    return points, normals


def _usable(points: np.ndarray, normals: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    if normals is not None and not np.isfinite(normals).all():
        raise DataError("a normal is not finite")
    return points, normals  # the points themselves are checked when they are normalised


def _open_hdf5(path: pathlib.Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: not a readable HDF5 file ({str(error).partition(chr(10))[0]}); copy it again"
        ) from None


def _check_hdf5(path: pathlib.Path, file: h5py.File, num_names: int) -> int:
    shapes = {key: file[key].shape for key in ("data", "label", "normal") if key in file}
    if "data" not in shapes or "label" not in shapes:
        raise DataError(
            f"{path}: has {', '.join(file) or 'nothing'}; 'data' [n, points, 3] and 'label' [n, 1] "
            "are needed"
        )
    rows = shapes["data"][0]
    if (
        len(shapes["data"]) != 3
        or shapes["data"][2] != 3
        or shapes.get("normal", shapes["data"]) != shapes["data"]
    ):
        raise DataError(f"{path}: shapes {shapes}; 'data' and 'normal' must be [n, points, 3]")
    labels = np.asarray(file["label"]).reshape(-1)
    if len(labels) != rows:
        raise DataError(f"{path}: {len(labels)} labels for {rows} clouds; one each is needed")
    if rows and (labels.min() < 0 or labels.max() >= num_names):
        raise DataError(
            f"{path}: label {int(labels.max())} is beyond the {num_names} names of shape_names.txt"
        )
    return rows


def _identities(path: pathlib.Path, rows: int, split: str) -> list[str]:
    """Names from ply_data_train_0_id2file.json beside ply_data_train0.h5, else file and row."""
    match = re.fullmatch(r"(.*?)_?(\d+)", path.stem)
    table = path.with_name(f"{match[1]}_{match[2]}_id2file.json") if match else path
    if match is None or not table.is_file():
        return [f"{split}/{path.stem}_{row:04d}" for row in range(rows)]
    try:
        names = json.loads(table.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{table}: not JSON ({error}); a list of {rows} names is needed") from None
    if not isinstance(names, list) or len(names) != rows:
        held = len(names) if isinstance(names, list) else "no list of"
        raise DataError(
            f"{table}: holds {held} names for the {rows} clouds of {path.name}; one each is needed"
        )
    return [str(pathlib.PurePosixPath(name).with_suffix("")) for name in names]


def _require(root: pathlib.Path, paths: list[pathlib.Path]) -> None:
    missing = sorted({str(path.relative_to(root)) for path in paths if not path.is_file()})
    if missing:
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        raise DataError(
            f"{root}: {len(missing)} files are missing: {', '.join(missing[:20])}{more}. {ORIGIN}"
        )


def _lines(path: pathlib.Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _sizes(root: pathlib.Path, paths: list[pathlib.Path]) -> dict[str, int]:
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in paths}


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hidden(path: pathlib.Path, root: pathlib.Path | None = None) -> bool:
    """Folders and files that archivers and desktops leave behind."""
    parts = path.relative_to(root).parts if root else (path.name,)
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)
