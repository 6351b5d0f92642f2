"""PyTorch's files without PyTorch: zip archives, the older stream of pickles, TorchScript archives.

All three are a pickle whose tensors refer to storages, blocks of raw numbers that lie beside it.
Nothing is run: the pickle is read by `weights.pickles`, the code of a TorchScript archive is not
looked at, its modules become inert holders of attributes. A storage is read when a tensor of it is
asked for, so the optimizer of a training checkpoint costs nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights.pickles import Refused, Unpickler
from jax3dret.weights.plain_data import Name

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
SCRIPT = "__torch__."
DTYPES: dict[str, Any] = {
    **{
        name: np.dtype(name)
        for name in ("float16", "float32", "float64", "complex64", "complex128", "bool")
    },
    **{
        name: np.dtype(name)
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
STORAGES = {
    "HalfStorage": "float16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_ALIASES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "long": "int64",
}
_DTYPE_OF = {f"torch.{name}": dtype for name, dtype in DTYPES.items()} | {
    f"torch.{alias}": DTYPES[name] for alias, name in _ALIASES.items()
}
_STORAGE_OF = {
    f"{module}.{name}": DTYPES[dtype]
    for module in ("torch", "torch.cuda", "torch.storage")
    for name, dtype in STORAGES.items()
}


class Loaded(NamedTuple):
    """value: plain containers, `Tensor`s and NumpyArrays. kind: which of PyTorch's formats, in
    words.
    """

    value: Any
    kind: str


@dataclasses.dataclass(eq=False)
class Storage:
    """A block of raw numbers. read: its bytes; itemsize and count as the pickle states them."""

    dtype: np.dtype
    count: int
    read: Callable[[], np.ndarray]
    swapped: bool = False

    @functools.cached_property
    def raw(self) -> np.ndarray:
        return self.read()

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize

    def values(self, dtype: np.dtype, start: int) -> np.ndarray:
        """From byte `start` on, as numbers of `dtype`."""
        size = dtype.itemsize
        raw = self.raw[start : start + (self.nbytes - start) // size * size]
        if self.swapped and size > 1:
            half = size // 2 if dtype.kind == "c" else size
            raw = raw.reshape(-1, half)[:, ::-1].reshape(-1)
        # Other bytes than 0 and 1 are no truth values for NumPy.
        return raw != 0 if dtype == np.bool_ else raw.view(dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage. start: bytes; stride: numbers."""

    storage: Storage
    dtype: np.dtype
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self) -> np.ndarray:
        """The numbers, read-only. Raises DataError if the storage cannot be read."""
        values = self.storage.values(self.dtype, self.start)
        if math.prod(self.shape) == 0:
            return np.zeros(self.shape, self.dtype)
        strides = tuple(step * self.dtype.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(values, self.shape, strides, writeable=False)


def load(path: str | os.PathLike[str]) -> Loaded:
    """What a PyTorch file holds.

    Raises: Refused: it wants to run code, or refers to what a checkpoint does not hold. DataError:
        it is no PyTorch file, or broken, or cut short; one line says what it is and what is
        expected.
    """
    path = pathlib.Path(path)
    with path.open("rb") as file:
        head = file.read(4)
    return _load_zip(path) if head == b"PK\x03\x04" else _load_stream(path)


# -- zip archives


def _load_zip(path: pathlib.Path) -> Loaded:
    try:
        with zipfile.ZipFile(path) as archive:
            return _load_archive(path, archive)
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{path}: begins as a zip archive and does not end as one ({error}); it is cut short "
            "or damaged: "
            "download or copy it again"
        ) from None


def _load_archive(path: pathlib.Path, archive: zipfile.ZipFile) -> Loaded:
    names = archive.namelist()
    roots = [
        n.removesuffix("data.pkl") for n in names if n == "data.pkl" or n.endswith("/data.pkl")
    ]
    if len(roots) != 1:
        raise DataError(
            f"{path}: a zip archive with {'several' if roots else 'no'} data.pkl, so no PyTorch "
            "file "
            f"(it holds {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}); unzip it and "
            "give the file of weights"
        )
    (root,) = roots
    size = path.stat().st_size
    present = set(names)
    order = f"{root}byteorder"
    swapped = order in present and _read_member(path, archive, order, 16) == b"big"

    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        dtype, key, count = _storage_of(path, identity, size)
        if key not in storages:
            name = f"{root}data/{key}"
            if name not in present:
                raise DataError(
                    f"{path}: has no {name}, a storage that its tensors take; download or copy the "
                    "file again"
                )
            held = archive.getinfo(name).file_size
            if held < count * dtype.itemsize:
                raise DataError(
                    f"{path}: {name} has {held:,} bytes, not {count * dtype.itemsize:,}; the file "
                    "is damaged"
                )
            read = functools.partial(_read_storage, path, name, size)
            storages[key] = Storage(dtype, count, read, swapped)
        return _same(storages[key], dtype, count)

    script = (
        any(name.startswith(f"{root}code/") for name in names) or f"{root}constants.pkl" in present
    )
    data = memoryview(_read_member(path, archive, f"{root}data.pkl", size))
    reader = Unpickler(
        str(path), _builders(size), persistent=persistent, inert=SCRIPT if script else ""
    )
    value, _ = reader.load(data)
    return Loaded(value, "TorchScript archive" if script else "PyTorch file (zip)")


def _read_storage(path: pathlib.Path, name: str, size: int) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        return np.frombuffer(_read_member(path, archive, name, size), np.uint8)


def _read_member(path: pathlib.Path, archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """The bytes of one member, checked against its checksum."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise DataError(
            f"{path}: {name} is compressed, which PyTorch never does; unzip the archive, or save "
            "the weights again"
        )
    if info.file_size > limit:
        raise DataError(
            f"{path}: {name} says it has {info.file_size:,} bytes, the file has {limit:,}; refused"
        )
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:
        raise DataError(
            f"{path}: {name} is damaged ({error}); download or copy the file again"
        ) from None


# -- the older stream: magic number, protocol, machine, object, keys of storages, storages


def _load_stream(path: pathlib.Path) -> Loaded:
    size = path.stat().st_size
    if not size:
        raise DataError(f"{path}: is empty")
    data = np.memmap(path, np.uint8, "r").data
    storages: dict[str, Storage] = {}
    begins: dict[str, int] = {}

    def read(key: str, offset: int, nbytes: int) -> np.ndarray:
        start = begins[key] + offset
        return np.frombuffer(data[start : start + nbytes], np.uint8).copy()

    def persistent(identity: Any) -> Storage:
        dtype, key, count = _storage_of(path, identity, size)
        if key not in storages:
            storages[key] = Storage(
                dtype, count, functools.partial(read, key, 0, count * dtype.itemsize)
            )
        _same(storages[key], dtype, count)
        view = identity[5] if len(identity) > 5 else None
        if view is None:
            return storages[key]
        _, offset, part = view
        if not _whole(offset) or not _whole(part) or offset + part > count:
            raise DataError(
                f"{path}: a view of storage {key} reaches beyond it; the file is damaged"
            )
        name = f"{key}/{offset}/{part}"
        if name not in storages:
            begin, nbytes = offset * dtype.itemsize, part * dtype.itemsize
            storages[name] = Storage(dtype, part, functools.partial(read, key, begin, nbytes))
        return storages[name]

    reader = Unpickler(str(path), _builders(size), persistent=persistent)
    magic, at = reader.load(data)
    if type(magic) is not int or magic != MAGIC:
        return Loaded(magic, "pickle")
    protocol, at = reader.load(data, at)
    if type(protocol) is not int or protocol != PROTOCOL:
        raise DataError(
            f"{path}: another protocol of PyTorch's than {PROTOCOL}; save the weights again with "
            "torch.save"
        )
    machine, at = reader.load(data, at)
    swapped = isinstance(machine, dict) and machine.get("little_endian") is False
    value, at = reader.load(data, at)
    keys, at = reader.load(data, at)
    if not isinstance(keys, list):
        raise DataError(f"{path}: has no list of its storages; the file is damaged")
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise DataError(f"{path}: lists a storage that no tensor takes; the file is damaged")
        count = int.from_bytes(data[at : at + 8], "big" if swapped else "little")
        begins[key] = at + 8
        at += 8 + storage.nbytes
        if count != storage.count or at > size:
            raise DataError(
                f"{path}: is cut short or damaged at storage {key}; download or copy the file again"
            )
    missing = {name.partition("/")[0] for name in storages} - begins.keys()
    if missing:
        raise DataError(
            f"{path}: storage {min(missing)} is not in it; download or copy the file again"
        )
    for storage in storages.values():
        storage.swapped = swapped
    return Loaded(value, "PyTorch file (before version 1.6)")


# -- tensors


def _storage_of(path: pathlib.Path, identity: Any, size: int) -> tuple[np.dtype, str, int]:
    """Type, key and number of elements from what a pickle refers to."""
    well_formed = (
        type(identity) is tuple
        and len(identity) in (5, 6)
        and identity[0] in ("storage", b"storage")
        and isinstance(identity[1], Name)
        and isinstance(identity[2], str)
        and _whole(identity[4])
    )
    if not well_formed or identity[1].text not in _STORAGE_OF:
        raise Refused(
            f"{path}: refers to something outside its pickle that is no storage of numbers; refused"
        )
    dtype, key, count = _STORAGE_OF[identity[1].text], identity[2], identity[4]
    if count * dtype.itemsize > size:
        raise DataError(
            f"{path}: storage {key[:40]} says it has {count * dtype.itemsize:,} bytes, the file "
            f"has {size:,}; refused"
        )
    return dtype, key, count


def _same(storage: Storage, dtype: np.dtype, count: int) -> Storage:
    """The storage, if it is described again as it was at first; else ValueError."""
    if storage.dtype != dtype or storage.count != count:
        raise ValueError(
            f"a storage of {storage.count} {storage.dtype} that is also one of {count} {dtype}"
        )
    return storage


def _builders(size: int) -> Mapping[str, Callable[..., Any] | None]:
    """What a PyTorch file of `size` bytes may name beside plain data."""

    def tensor(
        storage: Any,
        offset: Any,
        shape: Any,
        stride: Any,
        *rest: Any,
        dtype: np.dtype | None = None,
    ) -> Tensor:
        del rest  # whether it takes gradients, hooks, metadata
        if (
            not isinstance(storage, Storage)
            or type(shape) is not tuple
            or type(stride) is not tuple
        ):
            raise ValueError("a tensor that is no view of a storage")
        kind = storage.dtype if dtype is None else dtype
        if (
            len(shape) != len(stride)
            or len(shape) > 32
            or not all(map(_whole, (offset, *shape, *stride)))
        ):
            raise ValueError("a tensor without a proper shape")
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        elements = math.prod(shape)
        if elements and (last + 1) * kind.itemsize > storage.nbytes:
            raise ValueError("a tensor that reaches beyond its storage")
        if elements * kind.itemsize > max(size, 1 << 20):  # repeated by a stride of zero
            raise ValueError(
                f"a tensor of {elements * kind.itemsize:,} bytes in a file of {size:,}"
            )
        return Tensor(storage, kind, offset * kind.itemsize, shape, stride)

    def of_dtype(*arguments: Any) -> Tensor:
        storage, offset, shape, stride, gradient, hooks, dtype, *_ = arguments
        if not isinstance(dtype, Name) or dtype.text not in _DTYPE_OF:
            raise ValueError("a tensor of an unknown type")
        return tensor(storage, offset, shape, stride, gradient, hooks, dtype=_DTYPE_OF[dtype.text])

    def first(value: Any, *rest: Any) -> Any:
        del rest
        if not isinstance(value, Tensor):
            raise ValueError("a parameter that is no tensor")
        return value

    def of_class(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
        del kind, state
        build = tensors.get(function.text) if isinstance(function, Name) else None
        if build is None or type(arguments) is not tuple:
            raise ValueError("a tensor of an unknown class")
        return build(*arguments)

    def dimensions(value: Any = ()) -> tuple[int, ...]:
        if not isinstance(value, tuple | list) or not all(map(_whole, value)):
            raise ValueError("a size that is not one of whole numbers")
        return tuple(value)

    def device(kind: Any, index: Any = 0) -> str:
        if not isinstance(kind, str) or not _whole(index):
            raise ValueError("a device without a name")
        return f"{kind}:{index}" if index else kind

    def as_is(value: Any, *rest: Any) -> Any:
        del rest
        return value

    tensors: dict[str, Callable[..., Any] | None] = {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": of_dtype,
        "torch._utils._rebuild_parameter": first,
        "torch._utils._rebuild_parameter_with_state": first,
    }
    return {
        **tensors,
        "torch._tensor._rebuild_from_type_v2": of_class,
        "torch.Size": dimensions,
        "torch.device": device,
        "torch.serialization._get_layout": as_is,
        **{
            f"torch.jit._pickle.build_{kind}list": as_is
            for kind in ("int", "double", "bool", "tensor")
        },
        "torch.jit._pickle.restore_type_tag": as_is,
        **dict.fromkeys((*_STORAGE_OF, *_DTYPE_OF), None),
        **dict.fromkeys(
            ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"), None
        ),
    }


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62
