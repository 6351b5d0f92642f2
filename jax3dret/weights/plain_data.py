"""What a pickle may build: plain containers, numbers and text, and stand-ins for everything else.

The table `PLAIN` says for each name that a file of plain data may mention which function here makes
the value. Nothing in it runs code that a file brings, and none of the functions looks inside a
value deeper than one level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jax3dret.core.types import DataError

SCALARS = (str, bytes, int, float, complex, bool, type(None))


class Name:
    """A class or function that a file refers to, by its full name alone."""

    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text = text


class Inert:
    """What stands for an object whose class is not built: the class's name and the object's
    attributes.
    """

    __slots__ = ("attributes", "name")

    def __init__(self, name: str):
        self.name = name
        self.attributes: dict[str, Any] = {}


class Attributes(dict[str, Any]):
    """A namespace as a dictionary."""


class NumpyDtype:
    """numpy.dtype of plain numbers or strings."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *flags: Any):
        del flags  # whether to align and to copy
        if isinstance(code, bytes):
            code = code.decode("ascii")
        if (
            not isinstance(code, str)
            or not code[:1]
            or code[0] not in "biufcSU"
            or not code[1:].isdigit()
        ):
            raise ValueError("an array of something else than numbers")
        self.dtype = np.dtype(code)

    def fill(self, state: Any) -> None:
        order = state[1]
        if state[2:5] != (None, None, None) or order not in ("<", ">", "|", "="):
            raise ValueError("an array of records, not of numbers")
        # "|" is what NumPy writes for one byte and for text in bytes; there is nothing to swap.
        self.dtype = self.dtype.newbyteorder(order)


class NumpyArray:
    """numpy.ndarray of plain numbers or strings; `array()` once it is filled."""

    __slots__ = ("_array",)

    def __init__(self, *arguments: Any):
        del arguments  # the class, an empty shape and a type, all of which the state gives again
        self._array: np.ndarray | None = None

    def fill(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, NumpyDtype) or not isinstance(data, bytes | bytearray):
            raise ValueError("an array of objects, not of numbers")
        self._array = numpy_array(data, dtype, shape, "F" if fortran else "C")

    def array(self) -> np.ndarray:
        if self._array is None:
            raise DataError("an array without content")
        return self._array


def numpy_array(data: Any, dtype: NumpyDtype, shape: Any, order: str) -> np.ndarray:
    """The array over these bytes, in native byte order where it is foreign."""
    array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, NumpyDtype) or not isinstance(data, bytes):
        raise ValueError("a scalar of objects, not of numbers")
    return np.frombuffer(data, dtype.dtype, 1)[0].item()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> NumpyArray:
    filled = NumpyArray()
    filled.fill((1, shape, dtype, order == "F", data))
    return filled


def _mapping(content: Any = ()) -> dict[Any, Any]:
    if isinstance(content, dict):
        return content
    return {checked_key(key): value for key, value in content}


def _default_mapping(factory: Any = None, content: Any = ()) -> dict[Any, Any]:
    return _mapping(content)


def _sequence(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    def build(content: Any = ()) -> Any:
        if not isinstance(content, list | tuple):
            raise ValueError("a collection of something that is not a list")
        return (
            kind(content)
            if kind is list or kind is tuple
            else kind(checked_key(item) for item in content)
        )

    return build


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


def _bytes(content: Any = b"", encoding: Any = None) -> bytes:
    if isinstance(content, str):
        return _encode(content, "latin1" if encoding == "latin-1" else encoding)
    if not isinstance(content, bytes):
        raise ValueError("bytes of something that is no text")
    return content


def _complex(real: Any, imaginary: Any) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise ValueError("a complex number of something that is no number")
    return complex(real, imaginary)


def _reconstruct(kind: Any, base: Any, state: Any) -> Attributes:
    if not (
        isinstance(kind, Name)
        and kind.text in NAMESPACES
        and isinstance(base, Name)
        and state is None
    ):
        raise ValueError("an object of a class that is not built")
    return Attributes()


def _path(*parts: Any) -> str:
    return "/".join(str(part) for part in parts if isinstance(part, str))


NAMESPACES = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "easydict.EasyDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
# What plain data may name. None: a mere token, which cannot be called.
PLAIN: dict[str, Callable[..., Any] | None] = {
    **{name: lambda *_: Attributes() for name in NAMESPACES},
    **{f"builtins.{name}": None for name in ("object", "int", "float", "bool", "str")},
    "builtins.complex": _complex,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.dict": _mapping,
    "builtins.list": _sequence(list),
    "builtins.tuple": _sequence(tuple),
    "builtins.set": _sequence(set),
    "builtins.frozenset": _sequence(frozenset),
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _default_mapping,
    "copyreg._reconstructor": _reconstruct,
    "_codecs.encode": _encode,
    **{
        f"pathlib.{name}": _path
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
    "numpy.dtype": NumpyDtype,
    "numpy.ndarray": None,
    "numpy._core.multiarray._reconstruct": NumpyArray,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "numpy._core.numeric._frombuffer": _from_buffer,
}
# Python 2's and NumPy 1's names of the same modules.
RENAMED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}


def checked_key(key: Any) -> Any:
    """The key of a dictionary or element of a set, if hashing it is cheap; else ValueError."""
    plain = isinstance(key, SCALARS) or (
        isinstance(key, tuple) and len(key) <= 16 and all(isinstance(k, SCALARS) for k in key)
    )
    # Integers beyond 64 bits can be chosen to collide.
    if not plain or (isinstance(key, int) and not -(1 << 63) <= key < 1 << 63):
        raise ValueError(f"a key of a dictionary that is a {type(key).__name__}")
    return key
