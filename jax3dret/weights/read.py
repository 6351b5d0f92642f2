"""Tensors by name out of any file of weights, and what lay around them.

PyTorch files (zip, the older stream, TorchScript), safetensors and .npz; which of them a file is,
its content says. None runs code from the file. A training checkpoint wraps its tensors
("state_dict", "model", ...) and their names ("module."): both are taken off and reported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jax3dret.core import safetensors_file
from jax3dret.core.types import DataError
from jax3dret.weights import torch_file
from jax3dret.weights.file_kind import sniff
from jax3dret.weights.plain_data import Inert, NumpyArray

# Where checkpoints keep their tensors, in the order of preference where one has several.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "base_model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "mvtn",
)
# A second network that a published checkpoint keeps beside the first: its tensors come along under
# names that begin with this.
COMPANIONS = ("mvtn",)
# Parallel training and compilation put these before every name.
NAME_PREFIXES = ("module.", "_orig_mod.")
MAX_DEPTH = 8
_TENSORS = torch_file.Tensor | NumpyArray
# An archive of arrays may be larger than its file by this factor: a bound on what it unpacks to.
MAX_RATIO = 50


@dataclasses.dataclass(frozen=True)
class Info:
    """Where the tensors came from. wrapper: the entries they lay in; prefix: what was taken off
    each of their names;
    others: what else the file holds, by name, in words.
    """

    path: str
    format: str
    bytes: int
    sha256: str
    wrapper: tuple[str, ...] = ()
    prefix: str = ""
    others: tuple[tuple[str, str], ...] = ()


def read_state_dict(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Info]:
    """Tensors by name as NumPy arrays in the file's own precision (bfloat16 by ml_dtypes), and
    where they came from.

    Raises: DataError: it cannot be read, holds no tensors, or holds several sets of them none of
        which is meant; or it wants to run code (its subclass Refused). One line says what it is and
        what is expected.
    """
    path = pathlib.Path(path)
    kind = sniff(path)
    wrapper: tuple[str, ...] = ()
    others: list[tuple[str, str]] = []
    try:
        if kind == "safetensors":
            arrays, metadata = safetensors_file.load(path)
            found, others, form = arrays, list(metadata.items()), "safetensors"
        elif kind == "npz":
            found, form = _read_npz(path), "NumPy archive (npz)"
        else:
            value, form = torch_file.load(path)
            tensors, wrapper, others = _unwrap(value, path)
            found = _arrays(tensors, path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({(error.strerror or str(error)).lower()})"
        ) from None
    if not found:
        raise DataError(f"{path}: a {form} without a single tensor")
    prefix = ""
    while any(
        step := [p for p in NAME_PREFIXES if all(name.startswith(prefix + p) for name in found)]
    ):
        prefix += step[0]
    found = {name[len(prefix) :]: array for name, array in found.items()}
    return found, Info(
        str(path), form, path.stat().st_size, file_sha256(path), wrapper, prefix, tuple(others)
    )


def _unwrap(
    value: Any, path: pathlib.Path
) -> tuple[dict[str, Any], tuple[str, ...], list[tuple[str, str]]]:
    """The innermost set of tensors, the entries it lay in, and what lay beside."""
    wrapper: list[str] = []
    others: list[tuple[str, str]] = []
    companions: dict[str, Any] = {}
    if isinstance(value, Inert):
        return dict(_script_tensors(value)), (), []
    if isinstance(value, _TENSORS):
        raise DataError(
            f"{path}: a single tensor without a name; expected a state_dict (names and tensors)"
        )
    for _ in range(MAX_DEPTH):
        if not isinstance(value, dict):
            raise DataError(
                f"{path}: holds a {_described(value)}, not a state_dict (names and tensors); save "
                "model.state_dict() instead"
            )
        inner = {
            key: item
            for key, item in value.items()
            if isinstance(key, str) and _holds_tensors(item)
        }
        chosen = next((name for name in WRAPPERS if name in inner), None)
        tensors = {key: item for key, item in value.items() if isinstance(item, _TENSORS)}
        candidates = [name for name in inner if not name.startswith("optim")]
        if chosen is None and not tensors and len(candidates) == 1:
            chosen = candidates[0]
        beside = {
            key: item
            for key, item in value.items()
            if key != chosen and (chosen or key not in tensors)
        }
        for key in COMPANIONS:
            if chosen not in (None, key) and key in inner:
                own = beside.pop(key).items()
                companions |= {
                    f"{key}.{name}": item for name, item in own if isinstance(item, _TENSORS)
                }
        others += [
            ("/".join((*wrapper, str(key)))[:200], _described(item)) for key, item in beside.items()
        ]
        if chosen is not None:
            wrapper.append(chosen)
            value = inner[chosen]
            continue
        if tensors and all(isinstance(name, str) for name in tensors):
            return {**tensors, **companions}, tuple(wrapper), others
        held = ", ".join(str(key)[:40] for key in list(value)[:8]) or "nothing"
        raise DataError(
            f"{path}: holds {held} and no entry named {', '.join(WRAPPERS[:3])} or the like, so "
            "which tensors are meant cannot be "
            "told; save the state_dict of the model alone"
        )
    raise DataError(
        f"{path}: wraps its tensors {MAX_DEPTH} times; save the state_dict of the model alone"
    )


def _holds_tensors(value: Any) -> bool:
    """Whether this is a mapping with tensors under names that are text, itself or a few levels
    below.
    """
    level, seen = [value], {id(value)}
    for _ in range(4):
        below = []
        for mapping in level:
            for key, item in mapping.items() if isinstance(mapping, dict) else ():
                if isinstance(key, str) and isinstance(item, _TENSORS):
                    return True
                if isinstance(item, dict) and id(item) not in seen:
                    seen.add(id(item))
                    below.append(item)
        level = below
    return False


def _script_tensors(module: Inert) -> Iterator[tuple[str, Any]]:
    """The tensors of a TorchScript module by the path of attributes that leads to each; no module
    is entered twice.
    """
    waiting, seen = [("", module)], {id(module)}
    while waiting:
        path, holder = waiting.pop()
        for name, item in holder.attributes.items():
            if isinstance(item, torch_file.Tensor):
                yield path + name, item
            elif isinstance(item, Inert) and id(item) not in seen:
                seen.add(id(item))
                waiting.append((f"{path}{name}.", item))


def _arrays(tensors: Mapping[str, Any], path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors. Views of one storage may repeat it; how often is bounded."""
    total = sum(item.nbytes for item in tensors.values() if isinstance(item, torch_file.Tensor))
    size = path.stat().st_size
    if total > 4 * size + (1 << 20):
        raise DataError(
            f"{path}: its tensors would take {total:,} bytes, the file has {size:,}; refused"
        )
    return {name: item.array() for name, item in tensors.items()}


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        size = path.stat().st_size
        if unpacked > MAX_RATIO * size + (1 << 20):
            raise DataError(f"{path}: {size:,} bytes that unpack to {unpacked:,}; refused")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except (
        EOFError,
        MemoryError,
        RuntimeError,
        SyntaxError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path}: holds an array of Python objects, which only unpickling reads; refused "
                "(save plain numbers)"
            ) from None
        raise DataError(
            f"{path}: cannot be read as .npz ({str(error)[:100]}); download or copy it again"
        ) from None


def _described(value: Any) -> str:
    """A value in words; short, and never by its own text if that could be long."""
    if isinstance(value, str):
        return re.sub(r"\s+", " ", value[:60])
    if isinstance(value, bool | int | float | None) and not (
        isinstance(value, int) and value.bit_length() > 64
    ):
        return str(value)
    if isinstance(value, torch_file.Tensor):
        return f"tensor {value.shape}"
    if isinstance(value, dict | list | tuple | set | frozenset):
        kind = {dict: "mapping", list: "list", tuple: "tuple"}.get(
            type(value), "mapping" if isinstance(value, dict) else "set"
        )
        return f"{kind} of {len(value)}"
    return "array" if isinstance(value, NumpyArray) else type(value).__name__


def file_sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
