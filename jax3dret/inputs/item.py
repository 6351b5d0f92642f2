"""What is asked about, before it is loaded: a file, a text or an array."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import stat
from collections.abc import Iterator

import numpy as np

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry.mesh_formats import gltf_files
from jax3dret.geometry.up_axis import up_axis_of

UP_AXES = ("y", "z")
# Counts up when the same bytes are read as another object: what was made of them is made anew.
READERS = 2


@dataclasses.dataclass(frozen=True)
class Item:
    """One of a path, a text and an array (float[N, 3], a cloud), with what is known beside it.

    up_axis: "y" or "z", the axis that is up; empty: as the format has it (y in glTF by its
    specification, z elsewhere as in CAD). unit: of its lengths, such as "mm"; empty: as the file
    has it, if it has one.
    """

    path: str = ""
    text: str | None = None
    array: np.ndarray | None = None
    up_axis: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if sum((bool(self.path), self.text is not None, self.array is not None)) != 1:
            raise ConfigError("an item is a path, a text or an array; give one of them")
        if self.up_axis not in ("", *UP_AXES):
            raise ConfigError(
                f"{self.name}: up axis '{self.up_axis}'; it is one of {', '.join(UP_AXES)}"
            )

    @classmethod
    def of(cls, path: str | os.PathLike[str], up_axis: str | None = None) -> Item:
        """A file; up_axis: None or empty where its format says it. Raises ConfigError for a path
        that is empty.
        """
        if not os.fspath(path):
            raise ConfigError("a file's name is empty; give its path")
        return cls(os.fspath(path), up_axis=up_axis or "")

    @property
    def suffix(self) -> str:
        """The extension of its path in small letters; empty for what is no file."""
        return pathlib.PurePath(self.path).suffix.lower()

    @property
    def name(self) -> str:
        """What a message calls it, on one line."""
        if self.path:
            return self.path
        if self.text is None:
            return "array"
        shown = (c if c.isprintable() else ascii(c)[1:-1] for c in self.text[:60])
        return f"text '{''.join(shown)}'"

    @property
    def axis(self) -> str:
        """The axis that is up: as given, else as the format has it."""
        return self.up_axis or up_axis_of(self.path)

    def digest(self) -> str:
        """SHA-256 over the bytes, the kind, the axis that is up, the unit, the version of the
        readers, and the files that a glTF keeps its numbers in.

        Equal where the content is, wherever the file lies and whatever it is called.

        Raises:
            DataError: a path that is no file. OSError: it cannot be read.
        """
        total = hashlib.sha256(f"{self.suffix} {self.axis} {self.unit} {READERS}\n".encode())
        if self.text is not None:
            total.update(b"text\n" + self.text.encode("utf-8", "surrogatepass"))
        elif self.array is not None:
            array = np.ascontiguousarray(self.array)
            total.update(f"array {array.dtype} {array.shape}\n".encode() + array.tobytes())
        else:
            for part in self.files():
                with part.open("rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()

    def check_file(self) -> None:
        """Raises DataError for a path where there is nothing, and for one that is no file, such as
        a folder; opening a pipe would wait for a writer.
        """
        if not self.path:
            return
        try:
            status = pathlib.Path(self.path).stat()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataError(f"{self.path}: cannot be read ({reason})") from None
        if not stat.S_ISREG(status.st_mode):
            raise DataError(
                f"{self.path}: is not a file; a mesh, a point cloud or a picture is needed"
            )

    def files(self) -> Iterator[pathlib.Path]:
        """The file of a path, and those beside it that it keeps numbers in.

        Raises:
            DataError: a path that is no file.
        """
        self.check_file()
        path = pathlib.Path(self.path)
        yield path
        if self.suffix in gltf_files.SUFFIXES:
            yield from gltf_files.side_files(path)
