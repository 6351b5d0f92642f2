"""Which axis is up in a file that does not say: the one rule for indexes, queries and data sets."""

from __future__ import annotations

import os
import pathlib

_Y_UP = (".glb", ".gltf")


def up_axis_of(path: str | os.PathLike[str]) -> str:
    """ "y" or "z": y in glTF by its specification (section 3.3), z in all other formats, as CAD
    systems and 3D printing (3MF) have it.
    """
    return "y" if pathlib.PurePath(path).suffix.lower() in _Y_UP else "z"
