"""From an item to an object in memory, once a file: a mesh, a cloud, a picture, a field or a text.

Loading knows files and no model; what a model reads of the object is for an `Input` to say.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from jax3dret.core.types import DataError, Loaded
from jax3dret.data import pictures
from jax3dret.geometry import clouds, meshes
from jax3dret.geometry.mesh_formats import unread
from jax3dret.inputs.item import Item
from jax3dret.models.fields import field_file, field_store

# The extensions of each kind of object; what a .ply holds is told by its header.
EXTENSIONS = {
    "mesh": meshes.EXTENSIONS,
    "cloud": clouds.EXTENSIONS,
    "image": pictures.EXTENSIONS,
    "field": (field_file.SUFFIX,),
}


def kind_of(item: Item) -> str:
    """The kind of object that an item is, by its extension and, for a PLY, its header; empty for a
    file of no known kind.
    """
    if item.text is not None:
        return "text"
    if item.array is not None:
        return "cloud"
    if item.suffix in pictures.EXTENSIONS:
        return "image"
    if item.suffix == field_file.SUFFIX:
        return "field"
    if clouds.is_cloud(item.path):
        return "cloud"
    return "mesh" if item.suffix in meshes.EXTENSIONS else ""


def extensions_of(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The extensions of files of these kinds, sorted."""
    return tuple(sorted({suffix for kind in kinds for suffix in EXTENSIONS.get(kind, ())}))


def missing(
    sources: Sequence[str | os.PathLike[str]], kinds: tuple[str, ...]
) -> list[dict[str, str]]:
    """What folders themselves say should be in them and is not, as {"file", "path", "reason"}: of a
    store of INRs, the files that its manifest lists.

    Raises DataError for a manifest that is damaged.
    """
    folders = [each for each in sources if "field" in kinds and field_store.is_store(each)]
    return [
        {
            "file": entry.file,
            "path": str(store.folder / entry.file),
            "reason": "is missing; the manifest of its store lists it. Run `jax3dret fit` again",
        }
        for store in map(field_store.FieldStore, folders)
        for entry, _ in store.damaged()
        if not (store.folder / entry.file).exists()
    ]


def load(item: Item) -> Loaded:
    """The object of an item, with the axis that is up in it and the unit of its lengths: each as
    the item says, else as its format or the file itself does.

    Raises:
        DataError: the file cannot be used, or is of no known kind: one line, its path first.
    """
    kind, unit = kind_of(item), ""
    if item.text is not None:
        value: object = item.text
    elif item.array is not None:
        value = np.asarray(item.array, np.float64)
    elif kind == "mesh":
        value, unit = meshes.load_with_unit(item.path)
    elif kind == "cloud":
        value = clouds.load_points(item.path)
    elif kind == "image":
        value = pictures.load_picture(pathlib.Path(item.path))
    elif kind == "field":
        value = field_file.read_field(item.path)
    else:
        known = f"a file of another kind; known are {', '.join(extensions_of(tuple(EXTENSIONS)))}"
        raise DataError(f"{item.path}: {unread.reason_of(item.path) or known}")
    spatial = kind in ("mesh", "cloud")
    return Loaded(kind, value, item.name, item.axis if spatial else "", item.unit or unit)
