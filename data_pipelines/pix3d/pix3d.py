"""The meshes of Pix3D as a TFDS data set: 395 pieces of furniture and tools in nine categories.

Sun, Wu, Zhang, Zhang, Zhang, Xue, Tenenbaum, Freeman: "Pix3D: Dataset and Methods for Single-Image
3D Shape Modeling", CVPR 2018. The paper INRet retrieves its meshes with 70 % of a category for
training and the rest for the test; which ones is not published, so they are drawn here by a seed.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from data_pipelines.mesh_records import NUM_POINTS, MeshItem, mesh_examples
from data_pipelines.raw_builder import planned_splits, raw_folder, record_info
from data_pipelines.raw_files import (
    count_notes,
    missing_notes,
    packed,
    places,
    read_json,
    require_some,
    sizes,
)
from data_pipelines.records import shape_features
from jax3dret.core.types import DataError

LIST = "pix3d.json"
CLASS_NAMES = (
    "bed",
    "bookcase",
    "chair",
    "desk",
    "misc",
    "sofa",
    "table",
    "tool",
    "wardrobe",
)
PUBLISHED_MESHES = 395
# Of a category, rounded down.
TRAIN_TENTHS = 7
SEED = 0
_WANTED = "Pix3D's list, an array of objects with 'model' and 'category',"


class _Layout(NamedTuple):
    root: pathlib.Path
    class_names: tuple[str, ...]
    items: dict[str, list[MeshItem]]
    missing: list[str]
    photos: int


class Pix3d(tfds.core.GeneratorBasedBuilder):
    """Pix3D: 395 meshes of furniture and tools in 9 categories, 70 % of each for training."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir is the unpacked pix3d.zip, with pix3d.json and "
        "model/<category>/<name>/model.obj; it is to be had at pix3d.csail.mit.edu."
    )
    UP_AXIS = "y"

    def __init__(
        self, *, manual_dir: str | pathlib.Path | None = None, jobs: int = 1, **kwargs: Any
    ):
        """jobs: processes that read meshes; the records do not depend on it."""
        self._manual_dir = manual_dir
        self._jobs = jobs
        self.skipped: list[dict[str, str]] = []
        super().__init__(**kwargs)
        layout = self._layout
        self.planned = {split: len(items) for split, items in layout.items.items()}
        meshes = sum(self.planned.values())
        self.files = sizes(
            layout.root,
            [layout.root / LIST, *(i.path for part in layout.items.values() for i in part)],
        )
        self.source = {
            "kind": "pix3d",
            "manual_dir": layout.root.name,
            **count_notes({"meshes": meshes}, {"meshes": PUBLISHED_MESHES}),
            "photos": layout.photos,
            "split": f"{TRAIN_TENTHS} tenths of each category for training, rounded down, in the "
            f"order of a hash of the seed {SEED} and the id",
            "points": f"{NUM_POINTS} drawn from each surface, uniform by area",
            **missing_notes(layout.missing),
        }

    @functools.cached_property
    def _layout(self) -> _Layout:
        return _find(raw_folder(self, self._manual_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        features = shape_features(self._layout.class_names, normals=True, mesh=True)
        return record_info(self, features, homepage="http://pix3d.csail.mit.edu")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        layout = self._layout
        listed = len(layout.missing) + sum(self.planned.values())
        return planned_splits(self, layout.root, missing=layout.missing, listed=listed)

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return mesh_examples(self._layout.items[split], skipped=self.skipped, jobs=self._jobs)


def _find(manual_dir: pathlib.Path) -> _Layout:
    roots = [place for place in places(manual_dir) if (place / LIST).is_file()]
    if not roots:
        raise DataError(
            f"{manual_dir}: no {LIST} there; the unpacked pix3d.zip is needed{packed(manual_dir)}"
        )
    root = roots[0]
    rows = read_json(root / LIST, _WANTED)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{root / LIST}: holds no photos; {_WANTED} is needed")
    category_of: dict[str, str] = {}  # each mesh is shown by many photos
    for place, row in enumerate(rows):
        name, category = (
            (row.get("model"), row.get("category")) if isinstance(row, dict) else (None, None)
        )
        if not (isinstance(name, str) and isinstance(category, str) and name and category):
            raise DataError(f"{root / LIST}: entry {place} has no 'model' and 'category'")
        if not _is_inside(name):
            raise DataError(f"{root / LIST}: entry {place} names {name}, outside the folder")
        if category_of.setdefault(name, category) != category:
            raise DataError(
                f"{root / LIST}: {name} is of '{category_of[name]}' and of '{category}'"
            )
    members: dict[str, list[MeshItem]] = collections.defaultdict(list)
    missing = []
    for name, identity in _ids(sorted(category_of)).items():
        if (root / name).is_file():
            item = MeshItem(root / name, identity, category_of[name], name)
            members[category_of[name]].append(item)
        else:
            missing.append(name)
    require_some(root, missing, len(category_of), "model/<category>/<name>/model.obj is needed")
    items: dict[str, list[MeshItem]] = {"train": [], "test": []}
    for category in sorted(members):
        ranked = sorted(members[category], key=lambda item: _rank(item.identity))
        first = {item.identity for item in ranked[: len(ranked) * TRAIN_TENTHS // 10]}
        for item in members[category]:
            items["train" if item.identity in first else "test"].append(item)
    names = tuple(sorted({*CLASS_NAMES, *members}))
    return _Layout(root, names, items, missing, len(rows))


def _ids(names: list[str]) -> dict[str, str]:
    """{path in the list: id}: "bed/IKEA_MALM_2", the folder of the mesh below model/; of a folder
    with several meshes their file too.
    """
    folders = {name: pathlib.PurePosixPath(name).parent for name in names}
    several = collections.Counter(folders.values())
    found = {}
    for name, folder in folders.items():
        own = folder if several[folder] == 1 else folder / pathlib.PurePosixPath(name).stem
        found[name] = own.as_posix().removeprefix("model/")
    return found


def _rank(identity: str) -> bytes:
    return hashlib.sha256(f"{SEED}/{identity}".encode()).digest()


def _is_inside(name: str) -> bool:
    path = pathlib.PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
