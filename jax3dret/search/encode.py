"""The encoder of a trained run, apart from its data: files' inputs in, embeddings out; and its copy inside an index.

Every encoder embeds shapes, from their points or from pictures of them; that of a sketch model embeds drawings too, near the shapes
they show. What it reads of a file is said by its `shapes` and `drawings`.

A trained workdir is enough to open one: config.json says how the task is built, manifest.json what it was trained on,
`checkpoints/` holds the parameters. `save` keeps what the embedding needs (parameters as .npz without pickles, both files, the
checkpoint's meta) in a folder that `load_encoder` opens on any machine.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from jax3dret import __version__
from jax3dret.core import checkpoint, files
from jax3dret.core import config as configs
from jax3dret.core.files import read_json_object
from jax3dret.core.sharding import path_name
from jax3dret.core.types import ConfigError, DataError, PyTree, Recipe
from jax3dret.inputs.old_drawings import Drawings
from jax3dret.inputs.shape_inputs import POINTS_VERSION, Points, Views
from jax3dret.search.rebuild import portable, rebuild

Inputs = Points | Views | Drawings
# An index may come from somebody else, and a config names code that is called: only code of this package, then.
_OWN_CODE = (
    "jax3dret.models.",
    "jax3dret.losses.",
    "jax3dret.data.",
    "jax3dret.core.",
    "jax3dret.tasks.",
)
TRAIN = (
    "train one with `python -m jax3dret.main --config=CONFIG --workdir=DIR`, CONFIG being configs/ulip2_vicreg.py or, to search "
    "with drawings, configs/mvhgnn_shrec13.py, and give that DIR"
)
TRAIN_SKETCH = (
    "train one with `python -m jax3dret.main --config=configs/mvhgnn_shrec13.py --workdir=DIR` and give that DIR to "
    "`jax3dret index --weights`"
)
# Of a run of two stages the first leaves one side as it began: by its stage, the key of the embedding that means nothing yet.
_UNTRAINED = {"shape": "sketch", "sketch_alone": "shape"}
# What reading a damaged .npz raises.
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A trained model and what it takes to use it.

    config: the resolved config, JSON-like. described: name, version, class_names, up_axis and split sizes of its training data.
    meta: the checkpoint's, among it distance, embedding_dim. arrays: by path, those that the embeddings read. shapes: what it
    reads of the file of a shape. drawings: what it reads of a drawing; None: it knows shapes alone.
    """

    config: Mapping[str, Any]
    described: Mapping[str, Any]
    meta: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    shapes: Points | Views
    drawings: Drawings | None
    _embed: Mapping[str, Callable[[np.ndarray], jax.Array]]

    @property
    def num_points(self) -> int:
        """Points of a cloud, for an encoder of points."""
        return int(self.meta["num_points"])

    @property
    def width(self) -> int:
        """Embedding width D."""
        return int(self.meta["embedding_dim"])

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 over the preparation of every input, the architecture and every array: equal where embeddings are equal."""
        how: list[Any]
        if isinstance(self.shapes, Points):
            how = [POINTS_VERSION, self.meta["model"], self.num_points]
        else:
            own = {key: value for key, value in self.config.items() if key not in configs.spine()}
            sides = [
                None if inputs is None else inputs.identity()
                for inputs in (self.shapes, self.drawings)
            ]
            how = [self.meta["model"], own, *sides]
        digest = hashlib.sha256(json.dumps(how, sort_keys=True).encode())
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def embed(
        self, rows: Shaped[np.ndarray, "N ..."], batch_size: int | None = None
    ) -> Float[np.ndarray, "N D"]:
        """Embeddings float32 of shapes, of rows as `shapes` makes them, in padded batches of one size: one compilation."""
        return self._in_batches(self.shapes, rows, batch_size)

    def embed_drawings(
        self, rows: UInt8[np.ndarray, "N S S"], batch_size: int | None = None
    ) -> Float[np.ndarray, "N D"]:
        """Likewise of drawings, of rows as `drawings` makes them. Raises ConfigError if there are no such."""
        if self.drawings is None:
            raise ConfigError(f"a model of shapes alone; for drawings, {TRAIN_SKETCH}")
        return self._in_batches(self.drawings, rows, batch_size)

    def _in_batches(self, inputs: Inputs, rows: np.ndarray, batch_size: int | None) -> np.ndarray:
        if rows.shape[1:] != inputs.shape or rows.dtype != inputs.dtype:
            wanted = f"{np.dtype(inputs.dtype)} [items, {', '.join(map(str, inputs.shape))}]"
            raise DataError(
                f"{inputs.name}: {rows.dtype} {list(rows.shape)}; this encoder takes {wanted}"
            )
        size = batch_size or inputs.batch_size
        out = [np.empty((0, self.width), np.float32)]
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            padding = np.repeat(part[:1], size - len(part), axis=0)
            out.append(
                np.asarray(self._embed[inputs.name](np.concatenate([part, padding])), np.float32)[
                    : len(part)
                ]
            )
        return np.concatenate(out)

    def save(self, folder: pathlib.Path) -> None:
        """Writes the encoder into `folder`, which is complete or absent."""
        described = {"config": self.config, "manifest": self.described, "meta": self.meta}
        with files.writing_folder(folder) as beside:
            np.savez(beside / "model.npz", **self.arrays)  # type: ignore[arg-type]
            for name, value in described.items():
                files.write_json(beside / f"{name}.json", value)

    def is_saved(self, folder: pathlib.Path) -> bool:
        """Whether `folder` holds what `save` writes, with all arrays as they are here."""
        try:
            for name in ("config", "manifest", "meta"):
                read_json_object(folder / f"{name}.json")
            with np.load(folder / "model.npz", allow_pickle=False) as stored:
                return all(
                    name in stored and np.array_equal(stored[name], leaf)
                    for name, leaf in self.arrays.items()
                )
        except (DataError, *_UNREADABLE):
            return False


def open_encoder(weights_dir: str | os.PathLike[str]) -> Encoder:
    """The encoder of a trained workdir, from its last checkpoint. No data set is needed.

    Raises:
        ConfigError: not a workdir, or a model that does not embed shapes, or code that no longer builds it.
        DataError: the checkpoint cannot be read.
    """
    workdir = pathlib.Path(weights_dir)
    missing = [
        n for n in ("config.json", "manifest.json", checkpoint.FOLDER) if not (workdir / n).exists()
    ]
    if missing:
        raise ConfigError(
            f"--weights {workdir}: not a trained workdir (it has no {missing[0]}); {TRAIN}"
        )
    config, manifest = (
        read_json_object(workdir / "config.json"),
        read_json_object(workdir / "manifest.json"),
    )
    described: dict[str, Any] = {
        key: manifest[key]
        for key in ("name", "version", "class_names", "up_axis")
        if key in manifest
    }
    described["splits"] = {
        name: {"items": part["items"]} for name, part in manifest.get("splits", {}).items()
    }
    config = portable(config)
    recipe, abstract = rebuild(config, described, workdir)
    checkpoints = checkpoint.Checkpoints(workdir)
    try:
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = checkpoint.abstract_like(abstract, jax.tree.map(lambda _: one, abstract))
        params, state = checkpoints.restore_model(wanted["params"], wanted["model_state"])
        meta = checkpoints.meta()
    finally:
        checkpoints.close()
    used = _used(recipe, abstract, meta, workdir)
    model = {"params": params, "model_state": state}
    arrays = {name: np.asarray(leaf) for name, leaf in _named(model) if name in used}
    meta = {**meta, "jax3dret": __version__}
    return _encoder(config, described, meta, arrays, recipe, abstract, workdir)


def load_encoder(folder: pathlib.Path) -> Encoder:
    """The encoder that `Encoder.save` wrote.

    Raises:
        ConfigError: its config names code outside this package.
        DataError: a file is missing or broken.
    """
    config, described, meta = (
        read_json_object(folder / f"{name}.json") for name in ("config", "manifest", "meta")
    )
    for key, value in configs.flatten(config):
        names_code = key == "task" or (key.endswith(".name") and ":" in str(value))
        if names_code and not str(value).startswith(_OWN_CODE):
            raise ConfigError(
                f"{folder}: its model uses {value}, code outside jax3dret, which an index does not run by itself; give "
                "--weights WORKDIR, the run that it was made with"
            )
    recipe, abstract = rebuild(config, described, folder)
    try:
        with np.load(folder / "model.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except _UNREADABLE as error:
        raise DataError(
            f"{folder / 'model.npz'}: cannot be read ({error}); build the index again"
        ) from None
    used = _used(recipe, abstract, meta, folder)
    for name, leaf in _named(abstract):
        if name in used and (name not in arrays or arrays[name].shape != leaf.shape):
            found = arrays[name].shape if name in arrays else "absent"
            raise DataError(
                f"{folder / 'model.npz'}: {name} is {found}, not {leaf.shape}; build the index again"
            )
    return _encoder(config, described, meta, arrays, recipe, abstract, folder)


def _encoder(
    config: Mapping[str, Any],
    described: Mapping[str, Any],
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    recipe: Recipe,
    abstract: PyTree,
    folder: pathlib.Path,
) -> Encoder:
    def place(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        # A head is not in `arrays`: no embedding reads it, so it costs no memory to speak of.
        name = path_name(path)
        return jnp.asarray(arrays[name]) if name in arrays else jnp.zeros(leaf.shape, leaf.dtype)

    model = jax.tree_util.tree_map_with_path(place, abstract)
    shapes, drawings = _inputs(meta, folder)
    embed = {
        inputs.name: functools.partial(
            jax.jit(functools.partial(_embedding, recipe, inputs)), model
        )
        for inputs in (shapes, drawings)
        if inputs is not None
    }
    return Encoder(config, described, meta, arrays, shapes, drawings, embed)


def _inputs(
    meta: Mapping[str, Any], folder: pathlib.Path
) -> tuple[Points | Views, Drawings | None]:
    """What a model reads of shapes and of drawings, from its meta. Raises ConfigError for one that embeds no files of shapes."""
    modality, up_axis = meta.get("modality"), meta.get("up_axis")
    if (modality, up_axis) == ("shape", "y"):
        return Points(int(meta["num_points"])), None
    if (modality, up_axis) != ("sketch", "z"):
        raise ConfigError(
            f"{folder}: a model of {modality}, not of shapes with y up or of drawings; {TRAIN}"
        )
    untrained = _UNTRAINED.get(meta.get("stage", ""))
    if untrained == "shape":
        raise ConfigError(
            f"{folder}: the first of two stages, which has trained on drawings alone; give the workdir of the second"
        )
    shapes = Views(str(meta["views"]["cameras"]), int(meta["views"]["size"]))
    return shapes, None if untrained == "sketch" else Drawings(int(meta["sketch_size"]))


def _embedding(
    recipe: Recipe, inputs: Inputs, model: Mapping[str, PyTree], rows: jax.Array
) -> jax.Array:
    found = recipe.task.embed(model["params"], model["model_state"], inputs.batch(rows))
    return found["sketch" if isinstance(inputs, Drawings) else "shape"]


def _used(
    recipe: Recipe, abstract: PyTree, meta: Mapping[str, Any], folder: pathlib.Path
) -> set[str]:
    """Paths of the arrays that the embeddings read."""
    names = [name for name, _ in _named(abstract)]
    used: set[str] = set()
    for inputs in _inputs(meta, folder):
        if inputs is None:
            continue
        rows = jax.ShapeDtypeStruct((1, *inputs.shape), inputs.dtype)
        traced = jax.make_jaxpr(functools.partial(_embedding, recipe, inputs))(abstract, rows).jaxpr
        read = {id(variable) for equation in traced.eqns for variable in equation.invars}
        used |= {
            name
            for name, variable in zip(names, traced.invars, strict=False)
            if id(variable) in read
        }
    return used


def _named(tree: PyTree) -> Iterator[tuple[str, Any]]:
    return ((path_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0])
