"""The encoder of a trained run, apart from its data: points in, embeddings out; and its copy inside an index.

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
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jax3dret import __version__
from jax3dret.core import checkpoint
from jax3dret.core import config as configs
from jax3dret.core.sharding import path_name
from jax3dret.core.types import ConfigError, DataError, PyTree, Recipe
from jax3dret.search.prepare import PREPARATION

BATCH_SIZE = 16
# An index may come from somebody else, and a config names code that is called: only code of this package, then.
_OWN_CODE = ("jax3dret.models.", "jax3dret.losses.", "jax3dret.data.", "jax3dret.core.", "jax3dret.tasks.")
TRAIN = "train one with `python -m jax3dret.main --config=configs/ulip2_vicreg.py --workdir=DIR` and give that DIR"


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A trained model and what it takes to use it.

    config: the resolved config, JSON-like. described: name, version, class_names, up_axis and split sizes of its training data.
    meta: the checkpoint's, among it num_points, distance, embedding_dim. arrays: by path, those that the embedding reads.
    """

    config: Mapping[str, Any]
    described: Mapping[str, Any]
    meta: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    _embed: Callable[[Float[np.ndarray, "B N 3"]], jax.Array]

    @property
    def num_points(self) -> int:
        return int(self.meta["num_points"])

    @property
    def width(self) -> int:
        """Embedding width D."""
        return int(self.meta["embedding_dim"])

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 over the preparation of points, the architecture and every array: equal where embeddings are equal."""
        how = [PREPARATION, self.meta["model"], self.num_points]
        digest = hashlib.sha256(json.dumps(how, sort_keys=True).encode())
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def embed(self, points: Float[np.ndarray, "N P 3"], batch_size: int = BATCH_SIZE) -> Float[np.ndarray, "N D"]:
        """Embeddings float32 of clouds as `search.prepare` makes them, in padded batches of one size: one compilation."""
        if points.ndim != 3 or points.shape[1:] != (self.num_points, 3):
            raise DataError(f"points have the shape {points.shape}; this encoder takes [clouds, {self.num_points}, 3]")
        rows = [np.empty((0, self.width), np.float32)]
        for start in range(0, len(points), batch_size):
            part = points[start : start + batch_size]
            padding = np.repeat(part[:1], batch_size - len(part), axis=0)
            rows.append(np.asarray(self._embed(np.concatenate([part, padding])), np.float32)[: len(part)])
        return np.concatenate(rows)

    def save(self, folder: pathlib.Path) -> None:
        """Writes the encoder into `folder`, which is complete or absent."""
        beside = folder.with_name(folder.name + ".partial")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        np.savez(beside / "model.npz", **self.arrays)  # type: ignore[arg-type]
        for name, value in (("config", self.config), ("manifest", self.described), ("meta", self.meta)):
            (beside / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)


def open_encoder(weights_dir: str | os.PathLike[str]) -> Encoder:
    """The encoder of a trained workdir, from its last checkpoint. No data set is needed.

    Raises:
        ConfigError: not a workdir, or a model that does not embed shapes, or code that no longer builds it.
        DataError: the checkpoint cannot be read.
    """
    workdir = pathlib.Path(weights_dir)
    missing = [n for n in ("config.json", "manifest.json", checkpoint.FOLDER) if not (workdir / n).exists()]
    if missing:
        raise ConfigError(f"--weights {workdir}: not a trained workdir (it has no {missing[0]}); {TRAIN}")
    config, manifest = _read_json(workdir / "config.json"), _read_json(workdir / "manifest.json")
    described: dict[str, Any] = {
        key: manifest[key] for key in ("name", "version", "class_names", "up_axis") if key in manifest
    }
    described["splits"] = {name: {"items": part["items"]} for name, part in manifest.get("splits", {}).items()}
    config["data"] = {**config["data"], "data_dir": "", "manual_dir": ""}  # places on the machine it was trained on
    recipe, abstract = _rebuild(config, described, workdir)
    checkpoints = checkpoint.Checkpoints(workdir)
    try:
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = checkpoint.abstract_like(abstract, jax.tree.map(lambda _: one, abstract))
        params, state = checkpoints.restore_model(wanted["params"], wanted["model_state"])
        meta = checkpoints.meta()
    finally:
        checkpoints.close()
    used = _used(recipe, abstract, meta, workdir)
    arrays = {name: np.asarray(leaf) for name, leaf in _named(_model(params, state)) if name in used}
    meta = {**meta, "jax3dret": __version__}
    return _encoder(config, described, meta, arrays, recipe, abstract)


def load_encoder(folder: pathlib.Path) -> Encoder:
    """The encoder that `Encoder.save` wrote.

    Raises:
        ConfigError: its config names code outside this package.
        DataError: a file is missing or broken.
    """
    config, described, meta = (_read_json(folder / f"{name}.json") for name in ("config", "manifest", "meta"))
    for key, value in configs.flatten(config):
        names_code = key == "task" or (key.endswith(".name") and ":" in str(value))
        if names_code and not str(value).startswith(_OWN_CODE):
            raise ConfigError(
                f"{folder}: its model uses {value}, code outside jax3dret, which an index does not run by itself; give "
                "--weights WORKDIR, the run that it was made with"
            )
    recipe, abstract = _rebuild(config, described, folder)
    try:
        with np.load(folder / "model.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder / 'model.npz'}: cannot be read ({error}); build the index again") from None
    used = _used(recipe, abstract, meta, folder)
    for name, leaf in _named(abstract):
        if name in used and (name not in arrays or arrays[name].shape != leaf.shape):
            found = arrays[name].shape if name in arrays else "absent"
            raise DataError(f"{folder / 'model.npz'}: {name} is {found}, not {leaf.shape}; build the index again")
    return _encoder(config, described, meta, arrays, recipe, abstract)


class _Described:
    """What a recipe may ask of its data before it runs: everything but the records."""

    def __init__(self, described: Mapping[str, Any], split: str):
        self.manifest, self.split, self.name = described, split, described["name"]
        self.version, self.class_names = described.get("version", ""), tuple(described["class_names"])
        parts = described.get("splits", {})
        asked = set(re.findall(r"\w+", split)) & parts.keys() or parts.keys()
        self._items = max(1, sum(parts[name]["items"] for name in asked))
        self.ids: tuple[str, ...] = ()
        self.labels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self._items


def _rebuild(config: Mapping[str, Any], described: Mapping[str, Any], folder: pathlib.Path) -> tuple[Recipe, PyTree]:
    """The recipe that a config describes, and its {"params", "model_state"} as shapes."""
    task: Any = configs.resolve_module(config["task"], where=f"{folder}/config.json: task")
    # A run of an earlier version lacks the keys that were added since.
    full = configs.Config(_over(task.defaults().to_dict(), config))
    try:
        recipe: Recipe = task.make(full, lambda split: _Described(described, split))
    except ConfigError as error:
        raise ConfigError(f"{folder}: this version does not build its model: {error}") from None
    batch = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in recipe.example.items()}
    return recipe, _model(*jax.eval_shape(recipe.task.init, jax.random.key(0), batch))


def _model(params: PyTree, model_state: PyTree) -> dict[str, PyTree]:
    return {"params": params, "model_state": model_state}


def _over(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, and of `defaults` the keys that it lacks; a component keeps its own keys alone."""
    out = dict(defaults)
    for key, value in values.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping) and ":" not in str(value.get("name"))
        out[key] = _over(out[key], value) if both else value
    return out


def _encoder(
    config: Mapping[str, Any],
    described: Mapping[str, Any],
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    recipe: Recipe,
    abstract: PyTree,
) -> Encoder:
    def place(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        # The head is not in `arrays`: the embedding does not read it, so it costs no memory to speak of.
        name = path_name(path)
        return jnp.asarray(arrays[name]) if name in arrays else jnp.zeros(leaf.shape, leaf.dtype)

    model = jax.tree_util.tree_map_with_path(place, abstract)
    compiled = jax.jit(lambda model, points: _embedding(recipe, model, points))
    return Encoder(config, described, meta, arrays, lambda points: compiled(model, points))


def _embedding(recipe: Recipe, model: Mapping[str, PyTree], points: jax.Array) -> jax.Array:
    return recipe.task.embed(model["params"], model["model_state"], {"points": points})["shape"]


def _used(recipe: Recipe, abstract: PyTree, meta: Mapping[str, Any], folder: pathlib.Path) -> set[str]:
    """Paths of the arrays that the embedding reads. Raises ConfigError for a model that embeds something else than clouds."""
    if meta.get("modality") != "shape" or meta.get("up_axis") != "y":
        raise ConfigError(f"{folder}: a model of {meta.get('modality')}, not of shapes with y up; {TRAIN}")
    points = jax.ShapeDtypeStruct((1, int(meta["num_points"]), 3), jnp.float32)
    traced = jax.make_jaxpr(lambda model, points: _embedding(recipe, model, points))(abstract, points).jaxpr
    read = {id(variable) for equation in traced.eqns for variable in equation.invars}
    names = [name for name, _ in _named(abstract)]
    return {name for name, variable in zip(names, traced.invars, strict=False) if id(variable) in read}


def _named(tree: PyTree) -> Iterator[tuple[str, Any]]:
    return ((path_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0])


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object")
    return value
