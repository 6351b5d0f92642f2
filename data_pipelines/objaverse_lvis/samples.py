"""Which samples of Objaverse-LVIS belong to Objaverse Easy, and where their files are.

With the published split file (objaverse_easy_v<number>.json or .tsv) samples, classes and splits
are those of the file. Without it they come from lvis-annotations.json, {category: [uid, ...]}: the
categories with at least 100 uids, split here by a hash of the uid.
"""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any, NamedTuple

from data_pipelines.cached_clouds import cloud_file, named_files, without_cloud
from data_pipelines.mesh_records import MeshItem
from data_pipelines.raw_files import SPLITS, missing_notes, packed, places, read_json, require_some
from data_pipelines.split_table import find_split_table
from jax3dret.core.types import DataError

MIN_SAMPLES = 100
FRACTIONS = {"test": 0.13, "val": 0.10}  # of each class, close to the published 12.7 % and 10.4 %
WANTED = (
    "the models (hf-objaverse-v1/glbs/*/<uid>.glb) or cached clouds (<uid>.npy), and the published "
    "split file or "
    "lvis-annotations.json are needed"
)
_ANNOTATIONS = "lvis-annotations.json, {category: [uid, ...]},"


class Sample(NamedTuple):
    """One object and where it belongs. cloud: the name of its cached array."""

    uid: str
    label: str
    split: str
    cloud: str


class Layout(NamedTuple):
    """kind: "glb" or "npy". items: split -> files in the order of class and uid. missing: uids
    without a file, of `listed`.
    """

    kind: str
    class_names: tuple[str, ...]
    items: dict[str, list[MeshItem]]
    missing: list[str]
    listed: int
    lists: list[pathlib.Path]
    notes: dict[str, Any]


def find_layout(manual_dir: pathlib.Path) -> Layout:
    """Samples and files below manual_dir.

    Raises:
        DataError: no list of samples, no file of any, or a list that cannot be used.
    """
    table = find_split_table(manual_dir, "objaverse_easy")
    if table:
        source, names, samples, twice = (
            table.file,
            table.class_names,
            [Sample(r.key, r.label, r.split, cloud_file(r)) for r in table.rows],
            0,
        )
    else:
        source = _annotations_file(manual_dir)
        samples, twice = easy(read_json(source, _ANNOTATIONS), source)
        names = tuple(sorted({sample.label for sample in samples}))
    order = {name: i for i, name in enumerate(names)}
    samples.sort(key=lambda sample: (order[sample.label], sample.uid))
    kind, paths = _files(manual_dir, samples)
    missing = [
        f"{sample.uid}.glb" if kind == "glb" else sample.cloud
        for sample in samples
        if sample.uid not in paths
    ]
    require_some(manual_dir, missing, len(samples), WANTED)
    items: dict[str, list[MeshItem]] = {split: [] for split in SPLITS}
    for sample in samples:
        if sample.uid in paths:
            path = paths[sample.uid]
            items[sample.split].append(
                MeshItem(path, sample.uid, sample.label, path.relative_to(manual_dir).as_posix())
            )
    listed = {split: sum(sample.split == split for sample in samples) for split in SPLITS}
    notes = {
        "kind": kind,
        "split": source.name
        if table
        else f"by SHA-256 of the uid, per class {FRACTIONS['test']:.0%} test and "
        f"{FRACTIONS['val']:.0%} val; not the published split",
        "published_split": table is not None,
        "listed": listed,
        "without_published_cloud": without_cloud(table) if table else dict.fromkeys(SPLITS, 0),
        "uids_in_several_classes": twice,
        **missing_notes(missing),
    }
    return Layout(kind, names, items, missing, len(samples), [source], notes)


def easy(annotations: Any, path: pathlib.Path) -> tuple[list[Sample], int]:
    """Samples of the categories with at least MIN_SAMPLES uids, each class split by the order of
    the SHA-256 of its uids.

    A uid in several of them stays in the alphabetically first; the second value returned counts
    such uids.

    Raises:
        DataError: path holds something else, or no category is that large.
    """
    if not isinstance(annotations, dict) or not all(
        isinstance(uids, list) for uids in annotations.values()
    ):
        raise DataError(f"{path}: {_ANNOTATIONS} is needed")
    seen: set[str] = set()
    samples, twice = [], 0
    for label in sorted(annotations):
        uids = sorted(set(map(str, annotations[label])))
        if len(uids) < MIN_SAMPLES:
            continue
        twice += sum(uid in seen for uid in uids)
        uids = [uid for uid in uids if uid not in seen]
        seen.update(uids)
        uids.sort(key=lambda uid: hashlib.sha256(uid.encode()).digest())
        tests, vals = round(FRACTIONS["test"] * len(uids)), round(FRACTIONS["val"] * len(uids))
        for rank, uid in enumerate(uids):
            split = "test" if rank < tests else "val" if rank < tests + vals else "train"
            samples.append(Sample(uid, label, split, f"{uid}.npy"))
    if not samples:
        largest = max((len(uids) for uids in annotations.values()), default=0)
        raise DataError(
            f"{path}: no category has {MIN_SAMPLES} uids (the largest {largest}); {_ANNOTATIONS} "
            "is needed"
        )
    return samples, twice


def _annotations_file(manual_dir: pathlib.Path) -> pathlib.Path:
    for place in places(manual_dir, depth=2):
        for name in ("lvis-annotations.json", "lvis-annotations.json.gz"):
            if (place / name).is_file():
                return place / name
    raise DataError(
        f"{manual_dir}: no split file (objaverse_easy_v0.json) and no lvis-annotations.json there; "
        f"{WANTED}"
    )


def _files(manual_dir: pathlib.Path, samples: list[Sample]) -> tuple[str, dict[str, pathlib.Path]]:
    """The files of the samples, by uid: the models if there are any, else the clouds."""
    names = {"glb": [f"{s.uid}.glb" for s in samples], "npy": [s.cloud for s in samples]}
    found = named_files(manual_dir, {name for of_kind in names.values() for name in of_kind})
    for kind, of_kind in names.items():
        paths = {s.uid: found[n][0] for s, n in zip(samples, of_kind, strict=True) if n in found}
        if paths:
            return kind, paths
    raise DataError(
        f"{manual_dir}: not one file of the {len(samples)} samples is there; "
        f"{WANTED}{packed(manual_dir)}"
    )
