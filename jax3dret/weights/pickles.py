"""A reader of pickles that builds plain data and nothing else.

A pickle is a program: whoever unpickles one runs what its author wrote. This reader imports no
module, looks up no attribute and calls nothing that a file names. A name in a file is compared, as
a whole, with a table of the few that plain data takes (`plain_data.PLAIN`); any other name ends the
reading before a value is built from it. Work and memory are bounded by the size of the file.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from typing import Any

from jax3dret.core.types import DataError
from jax3dret.weights.plain_data import (
    PLAIN,
    RENAMED,
    Attributes,
    Inert,
    Name,
    NumpyArray,
    NumpyDtype,
    checked_key,
)

# Steps of one pickle. A checkpoint of a thousand tensors, with its optimizer, takes about fifty
# thousand.
MAX_STEPS = 1_000_000
# Elements that one pickle may copy beside the bytes of the file.
MAX_COPIED = 16_000_000


class Refused(DataError):
    """The file asks for more than plain data."""


class Unpickler:
    """Reads pickles of protocol 0 to 5 out of one file.

    path: for messages. builders: what names beside PLAIN build. inert: a prefix of names whose
    objects become Inert.
    persistent: makes a value of what a file refers to outside the pickle; None: it may not.
    """

    def __init__(
        self,
        path: str,
        builders: Mapping[str, Callable[..., Any] | None],
        *,
        persistent: Callable[[Any], Any] | None = None,
        inert: str = "",
    ):
        self._path, self._persistent, self._inert = path, persistent, inert
        self._builders = {**PLAIN, **builders}

    def load(self, data: memoryview, start: int = 0) -> tuple[Any, int]:
        """The value of the pickle that begins at `start`, and where it ends.

        Raises:
            Refused: it names code, or uses what only objects of code take.
            DataError: it is broken or cut short, or takes more steps than a checkpoint does.
        """
        self._data, self._at = data, start
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._work = 0
        end = len(data)
        try:
            for _ in range(MAX_STEPS):
                if self._at >= end:
                    raise DataError(
                        f"{self._path}: its pickle is cut short; download or copy the file again"
                    )
                opcode = data[self._at]
                self._at += 1
                if opcode == _STOP:
                    return self._stack[-1], self._at
                step = _STEPS.get(opcode)
                if step is None:
                    raise ValueError(f"byte 0x{opcode:02x} at {self._at - 1} is no step of one")
                step(self)
        except DataError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
            struct.error,
        ) as error:
            raise DataError(f"{self._path}: a broken pickle: {_short(error)}") from None
        raise DataError(
            f"{self._path}: its pickle has more than {MAX_STEPS:,} steps; a checkpoint has far "
            "fewer"
        )

    # -- reading

    def _take(self, size: int) -> memoryview:
        if not 0 <= size <= len(self._data) - self._at:
            raise DataError(
                f"{self._path}: its pickle is cut short; download or copy the file again"
            )
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self, layout: str) -> int:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> bytes:
        at = self._at
        # In pieces: a search through all that follows would cost the size of the file at every
        # line.
        while at < len(self._data):
            piece = bytes(self._data[at : at + 4096])
            found = piece.find(b"\n")
            if found >= 0:
                line = bytes(self._take(at + found - self._at))
                self._at += 1
                return line
            at += len(piece)
        raise DataError(f"{self._path}: its pickle is cut short; download or copy the file again")

    def _text(self, size: int) -> str:
        return str(self._take(size), "utf-8", "surrogatepass")

    # -- the stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _push_mark(self) -> None:
        self._marks.append(len(self._stack))

    def _tuple(self, size: int) -> None:
        items = tuple(self._stack[-size:])
        if len(items) != size:
            raise IndexError("a tuple of what is not there")
        self._stack[-size:] = [items]

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise ValueError(f"items of a {type(target).__name__}")
        keys, values = items[::2], items[1::2]
        for key, value in zip(keys, values, strict=True):
            target[checked_key(key)] = value

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ValueError(f"elements of a {type(target).__name__}")
        target.extend(items)

    def _add(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, set):
            raise ValueError(f"elements of a {type(target).__name__}")
        target.update(map(checked_key, items))

    def _mapping_of_items(self) -> None:
        items = self._since_mark()
        self._push({})
        self._set_items(items)

    def _memoize(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    # -- names and what is built from them

    def _global(self, module: str, name: str) -> None:
        full = f"{RENAMED.get(module, module)}.{name}"
        if full not in self._builders and not (self._inert and full.startswith(self._inert)):
            raise self._refuse(full)
        self._push(Name(full))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("a name that is no text")
        self._global(module, name)

    def _call(self) -> None:
        arguments, name = self._stack.pop(), self._stack.pop()
        if not isinstance(name, Name) or type(arguments) is not tuple:
            raise Refused(f"{self._path}: wants to call a value while loading; refused ({_NEEDS})")
        if name.text not in self._builders:
            self._push(Inert(name.text))
            return
        builder = self._builders[name.text]
        if builder is None:
            raise self._refuse(name.text)
        # A list in the memo can be copied again and again.
        self._work += sum(len(argument) for argument in arguments if isinstance(argument, _SIZED))
        if self._work > 2 * len(self._data) + MAX_COPIED:
            raise DataError(f"{self._path}: its pickle copies more than a checkpoint does; refused")
        self._push(builder(*arguments))

    def _call_with_keywords(self) -> None:
        if self._stack.pop() != {}:
            raise Refused(f"{self._path}: wants to build an object by keywords; refused ({_NEEDS})")
        self._call()

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        # Attributes as (__dict__, __slots__).
        parts = (
            state
            if type(state) is tuple
            and len(state) == 2
            and not isinstance(target, NumpyDtype | NumpyArray)
            else (state,)
        )
        if isinstance(target, NumpyDtype | NumpyArray):
            target.fill(state)
        elif isinstance(target, Attributes | Inert):
            attributes = target.attributes if isinstance(target, Inert) else target
            for part in parts:
                if isinstance(part, dict):
                    attributes.update(
                        {key: value for key, value in part.items() if isinstance(key, str)}
                    )
        elif not isinstance(
            target, dict
        ):  # attributes of a dictionary, PyTorch's _metadata, say nothing of tensors
            raise Refused(
                f"{self._path}: wants to set the state of a {type(target).__name__}; refused "
                f"({_NEEDS})"
            )

    def _refer(self, identity: Any) -> None:
        if self._persistent is None:
            raise Refused(
                f"{self._path}: refers to something outside its pickle; refused ({_NEEDS})"
            )
        self._push(self._persistent(identity))

    def _instance(self) -> None:
        module, name = self._line().decode("ascii"), self._line().decode("ascii")
        raise self._refuse(f"{module}.{name}")

    def _object(self) -> None:
        raise Refused(
            f"{self._path}: wants to build an object by its class while loading; refused ({_NEEDS})"
        )

    def _extension(self, number: int) -> None:
        raise self._refuse(f"extension {number} of the process")

    def _refuse(self, name: str) -> Refused:
        shown = name.encode("unicode_escape").decode("ascii")[:200]
        return Refused(f"{self._path}: wants to run {shown} while loading; refused ({_NEEDS})")


_NEEDS = "a checkpoint needs only tensors and plain containers"
_STOP = ord(".")
_SIZED = (str, bytes, list, tuple, dict)


def _short(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _integer(line: bytes) -> int | bool:
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted(line: bytes) -> str:
    line = line.strip()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a text without its quotes")
    return bytes(codecs.escape_decode(line[1:-1])[0]).decode("latin1")  # type: ignore[attr-defined]


def _signed(data: memoryview) -> int:
    return int.from_bytes(data, "little", signed=True)


_STEPS: dict[int, Callable[[Unpickler], Any]] = {
    0x80: lambda u: u._take(1),  # PROTO
    0x95: lambda u: u._take(8),  # FRAME
    ord("("): Unpickler._push_mark,
    ord("0"): lambda u: u._stack.pop(),
    ord("1"): Unpickler._since_mark,
    ord("2"): lambda u: u._push(u._stack[-1]),
    # constants
    ord("N"): lambda u: u._push(None),
    0x88: lambda u: u._push(True),
    0x89: lambda u: u._push(False),
    ord("I"): lambda u: u._push(_integer(u._line())),
    ord("J"): lambda u: u._push(u._number("<i")),
    ord("K"): lambda u: u._push(u._number("<B")),
    ord("M"): lambda u: u._push(u._number("<H")),
    ord("L"): lambda u: u._push(int(u._line().rstrip(b"L"))),
    0x8A: lambda u: u._push(_signed(u._take(u._number("<B")))),
    0x8B: lambda u: u._push(_signed(u._take(u._number("<i")))),
    ord("F"): lambda u: u._push(float(u._line())),
    ord("G"): lambda u: u._push(struct.unpack(">d", u._take(8))[0]),
    ord("S"): lambda u: u._push(_quoted(u._line())),
    ord("T"): lambda u: u._push(str(u._take(u._number("<i")), "latin1")),
    ord("U"): lambda u: u._push(str(u._take(u._number("<B")), "latin1")),
    ord("V"): lambda u: u._push(u._line().decode("raw-unicode-escape")),
    ord("X"): lambda u: u._push(u._text(u._number("<I"))),
    0x8C: lambda u: u._push(u._text(u._number("<B"))),
    0x8D: lambda u: u._push(u._text(u._number("<Q"))),
    ord("B"): lambda u: u._push(bytes(u._take(u._number("<I")))),
    ord("C"): lambda u: u._push(bytes(u._take(u._number("<B")))),
    0x8E: lambda u: u._push(bytes(u._take(u._number("<Q")))),
    0x96: lambda u: u._push(bytes(u._take(u._number("<Q")))),
    # containers
    ord("]"): lambda u: u._push([]),
    ord("}"): lambda u: u._push({}),
    ord(")"): lambda u: u._push(()),
    0x8F: lambda u: u._push(set()),
    ord("l"): lambda u: u._push(u._since_mark()),
    ord("t"): lambda u: u._push(tuple(u._since_mark())),
    ord("d"): Unpickler._mapping_of_items,
    0x85: lambda u: u._tuple(1),
    0x86: lambda u: u._tuple(2),
    0x87: lambda u: u._tuple(3),
    0x91: lambda u: u._push(frozenset(map(checked_key, u._since_mark()))),
    ord("a"): lambda u: u._append([u._stack.pop()]),
    ord("e"): lambda u: u._append(u._since_mark()),
    ord("s"): lambda u: u._set_items([u._stack.pop(-2), u._stack.pop()]),
    ord("u"): lambda u: u._set_items(u._since_mark()),
    0x90: lambda u: u._add(u._since_mark()),
    # the memo
    ord("p"): lambda u: u._memoize(int(u._line())),
    ord("q"): lambda u: u._memoize(u._number("<B")),
    ord("r"): lambda u: u._memoize(u._number("<I")),
    0x94: lambda u: u._memoize(len(u._memo)),
    ord("g"): lambda u: u._push(u._memo[int(u._line())]),
    ord("h"): lambda u: u._push(u._memo[u._number("<B")]),
    ord("j"): lambda u: u._push(u._memo[u._number("<I")]),
    # names
    ord("c"): lambda u: u._global(u._line().decode("utf-8"), u._line().decode("utf-8")),
    0x93: Unpickler._stack_global,
    ord("R"): Unpickler._call,
    0x81: Unpickler._call,  # NEWOBJ: the class is a name here as well
    0x92: Unpickler._call_with_keywords,
    ord("b"): Unpickler._build,
    ord("P"): lambda u: u._refer(u._line().decode("utf-8")),
    ord("Q"): lambda u: u._refer(u._stack.pop()),
    # refused: objects of classes, and names by number
    ord("i"): Unpickler._instance,
    ord("o"): Unpickler._object,
    0x82: lambda u: u._extension(u._number("<B")),
    0x83: lambda u: u._extension(u._number("<H")),
    0x84: lambda u: u._extension(u._number("<i")),
}
