"""The encoder of a trained run, apart from its data: rows of an input in, embeddings out; and its
copy inside an index.

What a model reads of a file is said by its inputs, by modality; nothing here knows which there are.
A trained workdir is enough to open one: config.json says how the model is built, manifest.json what
it was trained on, `checkpoints/` holds the parameters. `save` keeps what the embedding needs
(parameters as .npz without pickles, both files, the checkpoint's meta) in a folder that
`load_encoder` opens on any machine.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError
from jaxtyping import Float32

from jax3dret import __version__
from jax3dret.core import checkpoint, files
from jax3dret.core import config as configs
from jax3dret.core.sharding import path_name
from jax3dret.core.types import ConfigError, DataError, Input, Model, PyTree, Row
from jax3dret.index.storage import AGAIN
from jax3dret.inputs import choose, describe
from jax3dret.inputs.batching import batches
from jax3dret.search.run_model import build_model, portable
from jax3dret.weights import importing

TRAIN = (
    "train one with `python -m jax3dret.main --config=CONFIG --workdir=DIR`, CONFIG being "
    "configs/ulip2_vicreg.py or, to search "
    "with drawings, configs/mvhgnn_shrec13.py, or, without training, configs/frozen_views.py, and "
    "give that DIR"
)
# What reading a damaged .npz raises.
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)
# What a network is not built for, of values that cannot be what was written.
_DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, FlaxError)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A trained model and what it takes to use it.

    config: the resolved config, JSON-like. described: name, version, class_names, up_axis and split
    sizes of its training data. meta: the checkpoint's, with "inputs". arrays: by path, those that
    the embeddings read. model: its inputs are those of the meta.
    """

    config: Mapping[str, Any]
    described: Mapping[str, Any]
    meta: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = dataclasses.field(repr=False)
    model: Model
    _embed: Mapping[str, Callable[[Mapping[str, Any]], jax.Array]] = dataclasses.field(repr=False)

    @property
    def width(self) -> int:
        """Embedding width D."""
        return self.model.width

    @property
    def inputs(self) -> Mapping[str, Input]:
        """By modality."""
        return self.model.inputs

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 over the inputs, the architecture and every array: equal where embeddings are
        equal.
        """
        own = {key: value for key, value in self.config.items() if key not in configs.spine()}
        how = [self.meta["inputs"], self.meta.get("model"), own]
        digest = hashlib.sha256(json.dumps(how, sort_keys=True).encode())
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def modality(self, asked: str | None = None) -> str:
        """What an index is made of: as asked for, else the first of the inputs. Raises ConfigError
        for one that there is not.
        """
        if asked is not None and asked not in self.inputs:
            choose.choose(self.inputs, "", name="", modality=asked)
        return asked or next(iter(self.inputs))

    def embed(self, rows: Sequence[Row], modality: str) -> Float32[np.ndarray, "N D"]:
        """Embeddings of rows as `inputs[modality]` makes them, in batches of few sizes: few
        compilations.

        Raises DataError for rows that the model does not take.
        """
        out = np.empty((len(rows), self.width), np.float32)
        for group in batches(self.inputs[modality], rows, self.model.batch_size):
            try:
                embedded = np.asarray(self._embed[modality](group.batch), np.float32)
            except (TypeError, ValueError, FlaxError) as error:
                shapes = ", ".join(f"{k} {v.dtype}{list(v.shape)}" for k, v in group.batch.items())
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise DataError(
                    f"{modality}: rows with {shapes} do not fit the model ({reason})"
                ) from error
            out[group.places] = embedded[: len(group.places)]
        return out

    def save(self, folder: pathlib.Path) -> None:
        """Writes the encoder into `folder`, which is complete or absent."""
        with files.writing_folder(folder) as partial:
            np.savez(partial / "model.npz", **self.arrays)  # type: ignore[arg-type]
            for name, value in self._described().items():
                files.write_json(partial / f"{name}.json", value)

    def is_saved(self, folder: pathlib.Path) -> bool:
        """Whether `folder` holds what `save` writes, all of it as it is here."""
        try:
            for name, value in self._described().items():
                if files.read_json_object(folder / f"{name}.json") != json.loads(json.dumps(value)):
                    return False
            with np.load(folder / "model.npz", allow_pickle=False) as stored:
                return all(
                    name in stored and np.array_equal(stored[name], leaf)
                    for name, leaf in self.arrays.items()
                )
        except (DataError, *_UNREADABLE):
            return False

    def _described(self) -> dict[str, Mapping[str, Any]]:
        return {"config": self.config, "manifest": self.described, "meta": self.meta}


def open_encoder(weights_dir: str | os.PathLike[str]) -> Encoder:
    """The encoder of a trained workdir, from its last checkpoint. No data set is needed.

    Raises:
        ConfigError: not a workdir, or one of an earlier version, or code that no longer builds it.
        DataError: the checkpoint cannot be read.
    """
    workdir = pathlib.Path(weights_dir)
    needed = ("config.json", "manifest.json", checkpoint.FOLDER)
    missing = [name for name in needed if not (workdir / name).exists()]
    if missing and (workdir / importing.MARK).is_file():
        kind = files.read_json_object(workdir / importing.MARK).get("title", "a network")
        raise ConfigError(
            f"--weights {workdir}: imported weights of {kind}, which reads no shapes by itself; "
            "give the workdir of a run that names them in its config, such as "
            "configs/frozen_views.py with --config.cnn_weights"
        )
    if missing:
        raise ConfigError(
            f"--weights {workdir}: not a trained workdir (it has no {missing[0]}); {TRAIN}"
        )
    config = portable(files.read_json_object(workdir / "config.json"))
    manifest = files.read_json_object(workdir / "manifest.json")
    described: dict[str, Any] = {
        key: manifest[key]
        for key in ("name", "version", "class_names", "up_axis")
        if key in manifest
    }
    splits = manifest.get("splits", {})
    try:
        described["splits"] = {name: {"items": part["items"]} for name, part in splits.items()}
        class_names = _class_names(described)
    except (AttributeError, LookupError, TypeError):
        raise DataError(
            f"{workdir / 'manifest.json'}: its splits or class_names are damaged; take it from the "
            "prepared data set, or train again"
        ) from None
    # An import holds no code of the user's own: it is a file of weights, whoever it is from.
    is_import = (workdir / importing.MARK).is_file()
    model = build_model(config, class_names, workdir, own=is_import)
    checkpoints = checkpoint.Checkpoints(workdir)
    try:
        found = checkpoints.restore_subset(_abstract(model))
        meta = checkpoints.meta()
    finally:
        checkpoints.close()
    arrays = {name: np.asarray(leaf) for name, leaf in _named(found)}
    meta = {
        **meta,
        "inputs": {key: describe.describe(each) for key, each in model.inputs.items()},
        "jax3dret": __version__,
    }
    return _encoder(config, described, meta, arrays, model)


def load_encoder(folder: pathlib.Path) -> Encoder:
    """The encoder that `Encoder.save` wrote.

    Raises:
        ConfigError: it names code outside this package, or what is no network or input of it, or
            another version wrote it.
        DataError: a file is missing or broken.
    """
    try:
        return _load(folder)
    except (ConfigError, DataError) as error:
        if "--weights" in str(error):
            raise
        named = "" if str(folder) in str(error) else f"{folder}: "
        raise type(error)(f"{named}{error}; {AGAIN}") from error
    except _DAMAGED as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder}: config.json, manifest.json or meta.json is damaged, no model comes of them "
            f"({type(error).__name__}: {said}); {AGAIN}"
        ) from error


def _load(folder: pathlib.Path) -> Encoder:
    config, described, meta = (
        files.read_json_object(folder / f"{name}.json") for name in ("config", "manifest", "meta")
    )
    if not isinstance(meta.get("inputs"), dict) or not meta["inputs"]:
        raise ConfigError(
            f"{folder}: an index that an earlier version wrote; make it anew with `jax3dret index "
            "--weights WORKDIR`"
        )
    inputs = {
        modality: describe.restore(each, where=str(folder))
        for modality, each in meta["inputs"].items()
    }
    made = build_model(portable(config), _class_names(described), folder, own=True)
    model = dataclasses.replace(made, inputs=inputs)
    try:
        with np.load(folder / "model.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except _UNREADABLE as error:
        reason = str(error) if isinstance(error, OSError | EOFError) else "it is damaged"
        raise DataError(f"{folder / 'model.npz'}: cannot be read ({reason})") from None
    for name, leaf in _named(_abstract(model)):
        if name not in arrays or arrays[name].shape != leaf.shape:
            found = arrays[name].shape if name in arrays else "absent"
            raise DataError(
                f"{folder / 'model.npz'}: {name} is {found}, not {leaf.shape}: an earlier version "
                "wrote the index, or it is damaged"
            )
    return _encoder(config, described, meta, arrays, model)


def _encoder(
    config: Mapping[str, Any],
    described: Mapping[str, Any],
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    model: Model,
) -> Encoder:
    variables = jax.tree_util.tree_map_with_path(
        lambda path, _: jnp.asarray(arrays[path_name(path)]), _abstract(model)
    )

    def of(modality: str) -> Callable[[Mapping[str, Any]], jax.Array]:
        compiled = jax.jit(lambda variables, batch: model.embed(variables, batch)[modality])
        return functools.partial(compiled, variables)

    return Encoder(config, described, meta, arrays, model, {key: of(key) for key in model.inputs})


def _abstract(model: Model) -> PyTree:
    return jax.eval_shape(model.init, jax.random.key(0))


def _class_names(described: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(described.get("class_names", ()))


def _named(tree: PyTree) -> Iterator[tuple[str, Any]]:
    return ((path_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0])
