"""The file of one INR: its arrays as safetensors, everything else of it as JSON in the header.

Header metadata, each value JSON: "format" ("jax3dret field"), "version", "architecture" (as
`architectures.describe` says it), "function", "centre", "scale", "about". Arrays are float32 under
"grid/" and "decoder/" and int32 under "structure/", named by `parameters.named_arrays`. Equal
fields give equal bytes: nothing of the time or the machine is written.
"""

from __future__ import annotations

import functools
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import numpy as np

from jax3dret.core import files, safetensors_file
from jax3dret.core.types import ConfigError, DataError, nearest
from jax3dret.models.fields import architectures
from jax3dret.models.fields.field import FUNCTIONS, Architecture, Field
from jax3dret.models.fields.parameters import named_arrays, shapes_of, tree_of

SUFFIX = ".safetensors"
FORMAT, VERSION = "jax3dret field", 1
_KEYS = ("architecture", "function", "centre", "scale", "about")
# What an architecture raises where its description, or the structure of an INR, cannot be.
_UNUSABLE = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)


def write_field(path: str | os.PathLike[str], field: Field) -> None:
    """Writes a field whole or not at all; `read_field` gives it back bit by bit.

    Raises: DataError: a parameter, the centre or the scale is not finite, or `about` is not JSON.
        OSError: as `core.files.writing`.
    """
    path = pathlib.Path(path)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": architectures.describe(field.architecture),
        "function": field.function,
        "centre": [float(x) for x in field.centre],
        "scale": float(field.scale),
        "about": dict(field.about),
    }
    try:
        metadata = {key: _json(value) for key, value in header.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: a field whose header is not JSON ({error})") from None
    arrays = {
        name: np.asarray(leaf, _dtype_of(name))
        for name, leaf in named_arrays(field.variables).items()
    }
    _check_header(path, {key: header[key] for key in _KEYS})
    _check_finite(path, arrays)
    safetensors_file.save(path, arrays, metadata)


def read_field(path: str | os.PathLike[str]) -> Field:
    """The field of a file; its arrays are in memory and may not be written.

    Raises:
        DataError: not a field of this version, cut short, of an architecture or with parameters
        that there are not, or a number that is not finite: one line, the path first.
    """
    path = pathlib.Path(path)
    arrays, header = _read(path)
    architecture = _architecture(path, header["architecture"])
    _check_arrays(path, arrays, architecture)
    # Copied from the disk: a file that is replaced later must not change what was read.
    arrays = {name: _frozen(array) for name, array in arrays.items()}
    _check_finite(path, arrays)
    return Field(
        architecture,
        header["function"],
        tree_of(arrays),
        tuple(header["centre"]),
        float(header["scale"]),
        header["about"],
    )


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """{"architecture", "function", "centre", "scale", "about"} of a file, without its arrays.

    Raises DataError as `read_field`, but for the arrays.
    """
    path = pathlib.Path(path)
    return _read(path)[1]


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if not start:
            _refuse(path, "is empty; fit it again")
        if pointed := files.pointer(start):
            _refuse(path, f"is {pointed[0]}; {pointed[1]}")
        if start[8:9] != b"{":
            _refuse(path, "is no safetensors file, which an INR is kept in")
        arrays, metadata = safetensors_file.load(path)
    except FileNotFoundError:
        _refuse(path, "not found")
    except OSError as error:
        _refuse(path, f"cannot be read ({(error.strerror or str(error)).lower()})")
    if metadata.get("format") != _json(FORMAT):
        what = f"a safetensors file of {len(arrays)} arrays and no INR"
        _refuse(path, f"{what}; INRs are made with `jax3dret fit`")
    if metadata.get("version") != str(VERSION):
        _refuse(path, f"an INR of version {metadata.get('version')}; this one reads {VERSION}")
    header: dict[str, Any] = {}
    for key in _KEYS:
        try:
            header[key] = json.loads(metadata[key])
        except (KeyError, RecursionError, ValueError):
            _refuse(path, f"the '{key}' of its header is missing or damaged; fit it again")
    _check_header(path, header)
    return arrays, header


def _check_header(path: pathlib.Path, header: Mapping[str, Any]) -> None:
    function, centre, scale = header["function"], header["centre"], header["scale"]
    if function not in FUNCTIONS:
        hint = nearest(str(function), FUNCTIONS)
        _refuse(path, f"an INR of the function '{function}'{hint}; one of {', '.join(FUNCTIONS)}")
    if not (isinstance(centre, list) and len(centre) == 3 and all(map(_is_number, centre))):
        _refuse(path, f"its centre is {centre}; three finite numbers are needed")
    if not (_is_number(scale) and scale > 0):
        _refuse(path, f"its scale is {scale}; a finite number above 0 is needed")
    if not isinstance(header["about"], dict):
        _refuse(path, "the 'about' of its header is no JSON object")


def _architecture(path: pathlib.Path, described: Any) -> Architecture:
    if not isinstance(described, dict):
        _refuse(path, "the 'architecture' of its header is no JSON object")
    try:
        return architectures.from_description(described)
    except (ConfigError, DataError) as error:
        _refuse(path, str(error))
    except _UNUSABLE as error:
        _refuse(path, f"an architecture that cannot be ({_said(error)})")


def _check_arrays(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray], architecture: Architecture
) -> None:
    """Raises DataError for arrays that INRs of the architecture do not have."""
    for name, array in arrays.items():
        if array.dtype != _dtype_of(name):
            _refuse(path, f"'{name}' is of type {array.dtype}, not {_dtype_of(name)}")
    try:
        structure = tree_of(arrays).get("structure")
        wanted = (
            _shapes(architecture)  # type: ignore[arg-type]  # a frozen dataclass
            if structure is None
            else shapes_of(architecture, structure)
        )
    except DataError as error:
        _refuse(path, f"its arrays are not those of an INR: {error}")
    except _UNUSABLE as error:
        _refuse(path, f"its arrays are not those of a {architecture.name} ({_said(error)})")
    if missing := sorted(wanted.keys() - arrays.keys()):
        _refuse(path, f"lacks '{missing[0]}', which a {architecture.name} has")
    if more := sorted(arrays.keys() - wanted.keys()):
        _refuse(path, f"holds '{more[0]}', which a {architecture.name} has not")
    for name, leaf in wanted.items():
        if arrays[name].shape != leaf.shape:
            shape = list(arrays[name].shape)
            _refuse(path, f"'{name}' has the shape {shape}, its architecture {list(leaf.shape)}")
    if structure is not None:
        _check_tree(path, structure)


def _check_tree(path: pathlib.Path, structure: Mapping[str, np.ndarray]) -> None:
    """Raises DataError for an octree in which a node is named that there is not: a device reads
    some other one in its place.
    """
    limits = {"top": "corners", "children": "corners"}
    for name, array in structure.items():
        limit = len(structure[limits[name]]) if name in limits else None
        if array.size and (array.min() < 0 or (limit is not None and array.max() >= limit)):
            _refuse(path, f"'structure/{name}' names what is not there; fit it again")


@functools.lru_cache(maxsize=16)
def _shapes(architecture: Architecture) -> Mapping[str, jax.ShapeDtypeStruct]:
    return shapes_of(architecture)


def _check_finite(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            _refuse(path, f"'{name}' holds {count} numbers that are not finite; fit it again")


def _dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(np.int32 if name.startswith("structure/") else np.float32)


def _frozen(array: np.ndarray) -> np.ndarray:
    copied = np.array(array)
    copied.setflags(write=False)
    return copied


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _refuse(path: pathlib.Path, reason: str) -> NoReturn:
    raise DataError(f"{path}: {reason}")
