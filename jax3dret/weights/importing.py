"""From a file of weights to a folder that the rest of the project takes, and back; complete, or
refused. A package that installs weights stands for its file (`weights.packages`).

The folder is a workdir without a run: `checkpoints/` holds the variables, `import.json` where they
came from. A run starts from it by config.checkpoint.init_from; a point encoder's also holds what
`jax3dret index --weights` needs.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jax3dret import __version__
from jax3dret.core import checkpoint, files
from jax3dret.core.types import ConfigError, DataError, TrainState
from jax3dret.weights import packages
from jax3dret.weights.parts import Part, Recognised
from jax3dret.weights.read import Info, file_sha256, read_state_dict
from jax3dret.weights.recognise import recognise

log = logging.getLogger("jax3dret")
MARK = "import.json"
# The network of each kind of image weights, as config.cnn.name has it.
IMAGE_NETWORKS = {
    "resnet18": "jax3dret.models.resnet:ResNet",
    "vgg16": "jax3dret.models.vgg:Vgg",
    "mobilenetv2": "jax3dret.models.mobilenet:MobileNetV2",
    "efficientnet_lite0": "jax3dret.models.efficientnet_lite:lite0",
    "efficientnet_lite2": "jax3dret.models.efficientnet_lite:lite2",
}


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A file, what it is, and whether it converts completely: `problem` is empty then. package:
    that which it was installed by, if it was asked for by name.
    """

    info: Info
    found: Recognised
    problem: str
    package: packages.Found | None = None

    def report(self) -> dict[str, Any]:
        """JSON-like, with the whole list of unused tensors."""
        found = self.found
        return {
            "file": dataclasses.asdict(self.info),
            "kind": found.kind,
            "title": found.title,
            "model": _model(found.parts),
            "parameters": found.parameters,
            "embedding_dim": found.embedding_dim,
            "latent_dim": found.latent_dim,
            "classes": found.classes,
            "preprocessing": found.preprocessing,
            "rules": found.rules,
            "notes": list(found.notes),
            "parts": [
                {"name": part.name, "prefix": part.prefix, "tensors": len(part.tensors)}
                for part in found.parts
            ],
            "unused": list(found.unused),
            "imports": not self.problem,
            "problem": self.problem,
        }


@dataclasses.dataclass(frozen=True)
class Summary:
    """What an import wrote, and as what."""

    folder: pathlib.Path
    inspection: Inspection
    meta: Mapping[str, Any]


class Opened(NamedTuple):
    """Weights ready for use. meta, variables: as `load_imported` gives them. folder: where the
    files lie that go with them.
    """

    meta: dict[str, Any]
    variables: dict[str, Any]
    folder: pathlib.Path


def open_weights(where: str | os.PathLike[str]) -> Opened:
    """Weights from the folder of an import, or straight from an installed package of that name.

    Raises as `load_imported`, and DataError for a package whose file does not convert.
    """
    if packages.find(where) is None:
        return Opened(*load_imported(where), pathlib.Path(where))
    inspection, variables = _inspect(where)
    if variables is None:
        raise DataError(f"{where}: {inspection.found.title}: {inspection.problem}")
    return Opened(_meta(inspection), variables, pathlib.Path(inspection.info.path).parent)


def inspect(path: str | os.PathLike[str]) -> Inspection:
    """Reads a file, or that of the package of this name, recognises it and tries the conversion.

    Raises DataError if the file cannot be read.
    """
    return _inspect(path)[0]


def import_weights(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Summary:
    """Converts a file, or that of the package of this name, into the folder `out`, which is
    complete or absent; an import that is there is replaced.

    Raises: DataError: the file cannot be read, is unknown, or does not fit, with the list of what
        does not. ConfigError: `out` is something else than an import.
    """
    folder = pathlib.Path(out)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not _is_import(folder):
        raise ConfigError(f"--out {folder}: is a folder with other things in it; give a new one")
    inspection, variables = _inspect(path)
    if variables is None:
        raise DataError(f"{path}: {inspection.found.title}: {inspection.problem}")
    meta = _meta(inspection)
    with files.writing_folder(folder) as beside:
        _write(beside, variables, meta, inspection)
    return Summary(folder, inspection, meta)


def _is_import(folder: pathlib.Path) -> bool:
    """Whether the mark of an import is there, and no other program's file of that name."""
    try:
        mark = files.read_json_object(folder / MARK)
    except DataError:
        return False
    return mark.get("system") == "imported" and "import" in mark


def load_imported(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(meta, {"params", "batch_stats"}) of an import, NumPy float32 arrays.

    meta: kind, title, model (the network as a config names it; of CLIP and SLIP {"vision",
    "text"}), import (provenance), and more. A point encoder stands at "encoder" in both trees,
    beside "projection" and "head"; View-GCN at "gcn", beside "cnn"; MVTN at "mvtn", beside "cnn"
    and "head"; CLIP and SLIP have "vision", "text" and "logit_scale"; any other network's variables
    are the trees themselves. Without running statistics batch_stats is {}.

    Raises:
        ConfigError: not an import. DataError: it cannot be read.
    """
    path = pathlib.Path(folder)
    if not (path / MARK).is_file():
        raise ConfigError(
            f"{path}: not imported weights (it has no {MARK}); make one with `jax3dret weights "
            "import FILE --out DIR`"
        )
    checkpoints = checkpoint.Checkpoints(path)
    try:
        model, meta = checkpoints.raw_model(), checkpoints.meta()
    finally:
        checkpoints.close()
    return meta, {
        "params": _numpy(model["params"]),
        "batch_stats": _numpy(model.get("model_state", {})),
    }


def export_state_dict(folder: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of an import under their original names, float32: the reverse of the import,
    without what it left unused.

    Raises as `load_imported`.
    """
    meta, variables = load_imported(folder)
    state_dict: dict[str, np.ndarray] = {}
    for entry in meta["import"]["parts"]:
        part = Part(entry["name"], entry["weights"], entry["prefix"], "", {}, ())
        own = {
            key: tree[part.name] if part.name else tree
            for key, tree in variables.items()
            if not part.name or part.name in tree
        }
        state_dict |= part.functions()[1](
            {key: tree for key, tree in own.items() if tree}, part.prefix
        )
    return state_dict


def convert(state_dict: Mapping[str, np.ndarray], found: Recognised) -> dict[str, Any]:
    """{"params", "batch_stats"} of all parts.

    Raises: DataError: a tensor is missing, superfluous, of another shape, or holds what is no
        number; the list of all such.
    """
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    problems = []
    for part in found.parts:
        bad = [name for name in part.tensors if not _is_finite(state_dict[name])]
        problems += [f"{name} has values that are not finite" for name in bad]
        try:
            own = part.functions()[0](
                {name: state_dict[name] for name in part.tensors}, part.prefix
            )
        except DataError as error:
            problems.append(str(error))
            continue
        for collection, tree in own.items():
            variables[collection] |= {part.name: tree} if part.name else tree
    if problems:
        raise DataError("; ".join(problems))
    return variables


def _inspect(path: str | os.PathLike[str]) -> tuple[Inspection, dict[str, Any] | None]:
    package = packages.find(path)
    file = pathlib.Path(path) if package is None else package.path
    state_dict, info = read_state_dict(file)
    found = recognise(state_dict, file.name)
    variables, problem = None, found.problem
    absent = [name for name in found.beside if not (file.parent / name).is_file()]
    if absent and not problem:
        problem = f"{', '.join(absent)} is not beside it, which it is of no use without"
    if found.parts and not problem:
        try:
            variables = convert(state_dict, found)
        except DataError as error:
            problem = str(error)
    differs = package.difference(info.sha256) if package is not None else ""
    if differs and problem:
        problem = f"{problem}; {differs}"
    elif differs:
        log.warning("%s; every tensor fits", differs)
        found = dataclasses.replace(found, notes=(*found.notes, f"{differs}; every tensor fits"))
    return Inspection(info, found, problem, package), variables


def _is_finite(value: np.ndarray) -> bool:
    if value.dtype.kind in "biu":
        return True
    return value.dtype.kind not in "SUc" and bool(
        np.isfinite(value.astype(np.float32, copy=False)).all()
    )


def _model(parts: tuple[Part, ...]) -> dict[str, Any]:
    """The network as a config names it; CLIP's and SLIP's two towers side by side."""
    if not parts:
        return {}
    fields = parts[0].fields
    return dict(fields) if "vision" in fields else {"name": parts[0].model, **fields}


def _meta(inspection: Inspection) -> dict[str, Any]:
    found, info = inspection.found, inspection.info
    name = pathlib.Path(info.path).name
    points = "num_points" in found.preprocessing
    package = inspection.package
    beside = {name: file_sha256(pathlib.Path(info.path).parent / name) for name in found.beside}
    meta = {
        "system": "imported",
        "kind": found.kind,
        "title": found.title,
        "modality": "shape"
        if points
        else "views"
        if found.kind in ("viewgcn", "mvtn")
        else "text"
        if found.kind == "minilm"
        else "image",
        "model": _model(found.parts),
        "parameters": found.parameters,
        "embedding_dim": found.embedding_dim,
        "latent_dim": found.latent_dim,
        "classes": found.classes,
        **found.preprocessing,
        "distance": "cosine",
        "weights": f"{found.title}, from {name}",
        "jax3dret": __version__,
        "import": {
            "file": name,
            "sha256": info.sha256,
            **({"beside": beside} if beside else {}),
            **({"package": f"{package.name} {package.version}"} if package else {}),
            "bytes": info.bytes,
            "format": info.format,
            "wrapper": list(info.wrapper),
            "name_prefix": info.prefix,
            "others": dict(info.others),
            "parts": [
                {"name": p.name, "weights": p.weights, "prefix": p.prefix} for p in found.parts
            ],
            "unused": list(found.unused),
            "not_told_by_tensors": found.rules,
            "notes": list(found.notes),
        },
    }
    return json.loads(json.dumps(meta))


def _write(
    folder: pathlib.Path, variables: Mapping[str, Any], meta: dict[str, Any], inspection: Inspection
) -> None:
    found = inspection.found
    checkpoints = checkpoint.Checkpoints(folder, keep=1)
    try:
        step: Any = np.zeros((), np.int32)
        state = TrainState(step, variables["params"], variables["batch_stats"], {})
        checkpoints.save(state, None, {**meta, "step": 0, "train_s": 0.0})
        checkpoints.wait()
    finally:
        checkpoints.close()
    if meta["modality"] == "shape":
        config = {
            "task": "jax3dret.tasks.imported",
            "model": meta["model"],
            "data": {"name": meta["import"]["file"], "num_points": meta["num_points"]},
        }
        names = [f"class {i}" for i in range(found.classes)]
        manifest = {
            "name": meta["import"]["file"],
            "version": meta["import"]["sha256"][:12],
            "up_axis": meta["up_axis"],
        }
        files.write_json(folder / "config.json", config)
        files.write_json(folder / "manifest.json", {**manifest, "class_names": names, "splits": {}})
    for name in found.beside:
        shutil.copyfile(pathlib.Path(inspection.info.path).parent / name, folder / name)
    files.write_json(folder / MARK, meta)


def _numpy(tree: Any) -> Any:
    return (
        {key: _numpy(value) for key, value in tree.items()}
        if isinstance(tree, Mapping)
        else np.asarray(tree)
    )
