"""Safetensors files: a JSON header with type, shape and place of each tensor, then the raw numbers."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from jax3dret.core import files
from jax3dret.core.types import DataError

# The format's own limit.
MAX_HEADER = 100_000_000
DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays by name, read-only and still on disk, and the file's own metadata.

    Raises:
        DataError: cut short, or a header that does not describe the file.
    """
    path = pathlib.Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER, size - 8):
            raise DataError(
                f"{path}: a safetensors header of {length:,} bytes in a file of {size:,}; download "
                "or copy it again"
            )
        text = file.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        entries = [
            (name, DTYPES[at["dtype"]], tuple(at["shape"]), *at["data_offsets"])
            for name, at in header.items()
        ]
    except KeyError as error:
        raise DataError(
            f"{path}: its safetensors header has an unknown type or lacks {error}"
        ) from None
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: its safetensors header cannot be read ({str(error)[:100]})"
        ) from None
    begin = 8 + length
    content = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
    arrays = {}
    for name, dtype, shape, start, end in entries:
        if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
            raise DataError(
                f"{path}: {name} has no proper shape or place in its safetensors header"
            )
        if end > size - begin:
            raise DataError(
                f"{path}: {name} ends {end - (size - begin):,} bytes behind the file; it is cut "
                "short: download or copy it again"
            )
        if math.prod(shape) * np.dtype(dtype).itemsize != end - start:
            raise DataError(
                f"{path}: {name} has {end - start:,} bytes, which is not its shape {shape}"
            )
        raw = content[begin + start : begin + end]
        arrays[name] = (raw != 0 if dtype is np.bool_ else raw.view(dtype)).reshape(shape)
    return arrays, {str(key): str(value) for key, value in metadata.items()} if isinstance(
        metadata, dict
    ) else {}


def save(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes a file that `load` reads, whole or not at all. Equal content gives equal bytes: names
    are sorted, and nothing else is written.

    Raises: KeyError: an array of a type that the format lacks. OSError: as `files.writing`.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in sorted(arrays):
        start, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": _NAMES[arrays[name].dtype],
            "shape": list(arrays[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of their size
    with files.writing(pathlib.Path(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(arrays):
            file.write(np.ascontiguousarray(arrays[name]).data)
