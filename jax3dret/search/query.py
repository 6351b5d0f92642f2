"""An index of files asked for what is like a mesh, a point cloud or a drawing, with the encoder that it carries."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from jax3dret.core.types import ConfigError, DataError
from jax3dret.index.index import Index
from jax3dret.inputs.old_drawings import EXTENSIONS as PICTURES
from jax3dret.inputs.old_drawings import is_picture
from jax3dret.inputs.shape_inputs import Points
from jax3dret.search import encode
from jax3dret.search.encode import Encoder
from jax3dret.search.prepare import EXTENSIONS, prepare

MADE_BY = "jax3dret index"
_ENCODER = re.compile(r"encoder-[0-9a-f]{12}")


@dataclasses.dataclass(frozen=True)
class Gallery:
    """An opened index with its encoder: files in, neighbours out."""

    folder: pathlib.Path
    index: Index
    encoder: Encoder

    def query(self, files: Sequence[str | os.PathLike[str]], k: int) -> Iterator[dict[str, Any]]:
        """{"query", "results": [{"rank", "score", "id", "path"}]} of each file, nearest first; k above the size is cut to it.

        A mesh or point cloud is prepared as the gallery was. A picture is read as a drawing, by an index of a sketch model.
        Score: cosine similarity, or minus the Euclidean distance.

        Raises:
            DataError: a file cannot be used; raised before the first answer. ConfigError: k < 1; a picture asked of an index
                that knows shapes alone.
        """
        if k < 1:
            raise ConfigError(f"k={k}: ask for at least one neighbour")
        vectors = self._embed(files)
        bad = ~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
        if bad.any():
            raise DataError(
                f"{files[int(bad.argmax())]}: the model's embedding of it is zero or not finite"
            )
        rows, scores = self.index.search(vectors, k)
        for file, found, score in zip(files, rows, scores, strict=True):
            yield {
                "query": str(file),
                "results": [self._result(i, found[i], score[i]) for i in range(len(found))],
            }

    def _embed(self, files: Sequence[str | os.PathLike[str]]) -> Float32[np.ndarray, "Q D"]:
        """A row for each file: all of them are read before the first is embedded."""
        encoder, up_axis = self.encoder, self.index.meta["gallery"]["up_axis"]
        drawn = np.array([self._check(file) for file in files], bool)
        drawings: list[np.ndarray] = []
        shapes: list[np.ndarray] = []
        for file, is_drawing in zip(files, drawn, strict=True):
            if is_drawing and encoder.drawings is not None:
                drawings.append(encoder.drawings(file))
            else:
                row = prepare(file, encoder.shapes, up_axis=up_axis).row
                assert row is not None
                shapes.append(row)
        out = np.empty((len(files), encoder.width), np.float32)
        if drawings and encoder.drawings is not None:
            out[drawn] = encoder.embed_drawings(
                np.stack(drawings), _batch(drawings, encoder.drawings.batch_size)
            )
        if shapes:
            out[~drawn] = encoder.embed(np.stack(shapes), _batch(shapes, encoder.shapes.batch_size))
        return out

    def _check(self, file: str | os.PathLike[str]) -> bool:
        """Whether a query is a drawing. Raises ConfigError for one that the model does not know, DataError for another kind of file."""
        if not is_picture(file):
            suffix = pathlib.Path(file).suffix.lower()
            if (
                self.encoder.drawings is not None
                and suffix not in EXTENSIONS
                and pathlib.Path(file).is_file()
            ):
                kinds = f"a drawing is one of {', '.join(PICTURES)}, a shape one of {', '.join(EXTENSIONS)}"
                raise DataError(f"{file}: a file of another kind; {kinds}")
            return False
        if self.encoder.drawings is not None:
            return True
        if isinstance(self.encoder.shapes, Points):
            raise ConfigError(
                f"{file}: a picture, and the model in {self.folder} knows meshes and point clouds alone; for drawings, "
                f"{encode.TRAIN_SKETCH}"
            )
        raise ConfigError(
            f"{file}: a picture, and the model in {self.folder} is of the first of two stages, which has not learned drawings; "
            "index with the workdir of the second"
        )

    def path(self, row: int) -> str:
        """Where the item of a row was when it was indexed."""
        gallery = self.index.meta["gallery"]
        return str(pathlib.Path(gallery["sources"][gallery["source_of"][row]], self.index.ids[row]))

    def _result(self, place: int, row: int, score: float) -> dict[str, Any]:
        name = self.index.ids[row]
        return {
            "rank": place + 1,
            "score": round(float(score), 6),
            "id": name,
            "path": self.path(int(row)),
        }


def open_gallery(
    folder: str | os.PathLike[str], *, weights: str | os.PathLike[str] | None = None
) -> Gallery:
    """Opens an index that `gallery.build` made. weights: the workdir it was made with, for a model whose code is not this package's.

    Raises:
        DataError: not such an index, or a broken one. ConfigError: `weights` are not those of the index.
    """
    folder = pathlib.Path(folder)
    index = Index.load(folder)
    own = checked_meta(folder, index.meta, len(index))["encoder"]
    encoder = (
        encode.open_encoder(weights) if weights else encode.load_encoder(folder / own["folder"])
    )
    if encoder.identity != own["identity"]:
        given = f"--weights {weights}" if weights else f"{folder / own['folder']}"
        raise ConfigError(
            f"{given}: not the parameters that {folder} was made with; index it again, or give those"
        )
    return Gallery(folder, index, encoder)


def checked_meta(folder: pathlib.Path, meta: Mapping[str, Any], items: int) -> Mapping[str, Any]:
    """The meta of an index in `folder`. Raises DataError unless it is one of files, with a model in it."""
    gallery, own = meta.get("gallery"), meta.get("encoder")
    if (
        not isinstance(gallery, dict)
        or gallery.get("made_by") != MADE_BY
        or not isinstance(own, dict)
    ):
        raise DataError(
            f"{folder}: an index without a model in it; make one with `{MADE_BY} SOURCE... --out INDEX`"
        )
    if not len(gallery["keys"]) == len(gallery["source_of"]) == items or not _ENCODER.fullmatch(
        own["folder"]
    ):
        raise DataError(
            f"{folder / 'index.json'}: its parts do not fit; make the index anew in another folder"
        )
    return meta


def _batch(rows: Sequence[Any], most: int) -> int:
    """The size of a batch for so few rows: one query does not pay for a whole batch."""
    return min(most, 1 << (len(rows) - 1).bit_length())
