"""Pickles that want more than plain data are refused by name, and nothing they name is ever run or
imported.
"""

import argparse
import builtins
import collections
import os
import pathlib
import pickle
import sys

import numpy as np
import pytest
from weights import torch_writer as tw

from jax3dret.core.types import DataError
from jax3dret.weights import pickles
from jax3dret.weights.pickles import Refused, Unpickler


def load(data, **options):
    return Unpickler("file.pt", {}, **options).load(memoryview(data))[0]


class Runs:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Stateful:
    def __setstate__(self, state):
        os.abort()

    def __getstate__(self):
        return {"a": 1}


class Listy(list):
    pass


def evil(tmp_path):
    touch = f"touch {tmp_path / 'touched'}"
    yield (
        "os.system by REDUCE",
        pickle.dumps(Runs(os.system, touch), 2),
        f"{os.system.__module__}.system",
    )
    yield "os.system in protocol 0", b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR.", "os.system"
    yield "eval", pickle.dumps(Runs(eval, "1+1"), 4), "builtins.eval"
    yield "getattr", b"cbuiltins\ngetattr\n(tR.", "builtins.getattr"
    yield "import", b"cbuiltins\n__import__\n(S'os'\ntR.", "builtins.__import__"
    yield "INST", b"(S'" + touch.encode() + b"'\nios\nsystem\n.", "os.system"
    yield "OBJ", b"(cos\nsystem\nS'" + touch.encode() + b"'\no.", "os.system"
    yield (
        "OBJ of an allowed name",
        b"(cargparse\nNamespace\no.",
        "wants to build an object by its class",
    )
    yield "stack global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.", "os.system"
    yield (
        "dotted name",
        b"\x80\x04\x8c\x0ctorch._utils\x8c\x24_rebuild_tensor_v2.__globals__.clear\x93)R.",
        "__globals__.clear",
    )
    yield (
        "dots in an allowed module",
        b"ccollections\nOrderedDict.fromkeys\n(tR.",
        "collections.OrderedDict.fromkeys",
    )
    yield "extension", b"\x80\x02\x82\xf0.", "extension 240"
    yield "state of one's own class", pickle.dumps(Stateful(), 2), "Stateful"
    yield "subclass of a list", pickle.dumps(Listy([1]), 2), "Listy"
    yield (
        "torch.load inside",
        b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.",
        "torch.storage._load_from_bytes",
    )
    yield "partial", b"cfunctools\npartial\n(tR.", "functools.partial"
    yield (
        "reconstructor",
        b"ccopy_reg\n_reconstructor\n(cos\nPopen\nc__builtin__\nobject\nNtR.",
        "os.Popen",
    )
    yield "calls a value", b"\x80\x02X\x01\x00\x00\x00a)R.", "wants to call a value"
    yield "calls a token", b"cbuiltins\nobject\n)R.", "builtins.object"
    yield "persistent", b"\x80\x02X\x01\x00\x00\x00aQ.", "refers to something outside"
    yield "buffers out of band", b"\x80\x05\x97.", "0x97"
    yield "state of a list", b"]}b.", "wants to set the state of a list"
    yield "keywords", b"cargparse\nNamespace\n)}(X\x01\x00\x00\x00aK\x01u\x92.", "by keywords"
    yield "objects in an array", pickle.dumps(np.array([os.system], object), 2), "numbers"


def test_nothing_that_a_file_names_is_run(tmp_path, monkeypatch):
    def forbidden(*_):
        raise AssertionError("an import while unpickling")

    cases = list(evil(tmp_path))
    before = set(sys.modules)
    monkeypatch.setattr(builtins, "__import__", forbidden)
    results = []
    for what, data, says in cases:
        try:
            load(data)
            results.append((what, "was loaded"))
        except DataError as error:
            text = str(error)
            if says not in text or not text.startswith("file.pt: ") or "\n" in text:
                results.append((what, text))
    monkeypatch.undo()
    assert results == []
    assert not (tmp_path / "touched").exists() and set(sys.modules) == before


def test_the_refusal_says_what_and_why():
    with pytest.raises(Refused) as error:
        load(b"cos\nsystem\n(S'ls'\ntR.")
    expected = "file.pt: wants to run os.system while loading; refused (a checkpoint needs only tensors and plain containers)"
    assert str(error.value) == expected
    with pytest.raises(Refused, match=r"wants to run a\\nb\.c while"):
        load(b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_reads_as_pickle_reads_it(protocol):
    shared = [1, 2]
    value = {
        "text": "snowman \u2603 'quoted' \\ \n",
        "empty": "",
        "bytes": b"\x00\xff",
        "none": None,
        "flags": (True, False),
        "numbers": [0, -1, 255, 65536, -(2**31), 2**40, -(2**70), 1.5, float("inf"), 1 + 2j],
        "nested": {"a": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))},
        "set": {1, "b"},
        "frozen": frozenset([3]),
        "shared": [shared, shared],
        7: "int key",
        ("t", 1): "tuple key",
        "many": list(range(3000)),
        "ordered": collections.OrderedDict(a=1),
        "counter": collections.Counter("aab"),
        "default": collections.defaultdict(list, a=[1]),
        "bytearray": bytearray(b"ab"),
        "no bytes": b"",
    }
    out = load(pickle.dumps(value, protocol))
    assert out == value and out["shared"][0] is out["shared"][1]


def test_namespaces_paths_and_numpy():
    value = {
        "args": argparse.Namespace(lr=0.1, nested=argparse.Namespace(a=1)),
        "path": pathlib.PurePosixPath("/a/b"),
        "f8": np.float64(0.1),
        "i4": np.int32(-3),
        "flag": np.bool_(True),
        "array": np.arange(6, dtype="f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
        "foreign": np.arange(3, dtype=">i4"),
        "text": np.array(["ab", "c"]),
        "scalar": np.array(5),
    }
    for protocol in (2, 3, 4, 5):
        out = load(pickle.dumps(value, protocol))
        assert (
            out["args"] == {"lr": 0.1, "nested": {"a": 1}}
            and out["path"].replace("//", "/") == "/a/b"
        )
        assert (out["f8"], out["i4"], out["flag"]) == (0.1, -3, True) and type(out["f8"]) is float
        for key in ("array", "fortran", "foreign", "text", "scalar"):
            got = out[key].array()
            np.testing.assert_array_equal(got, value[key])
            assert got.dtype.isnative and got.shape == value[key].shape


def test_depth_does_not_cost_the_stack(monkeypatch):
    depth = 300_000
    value = load(b"\x80\x02]" + b"\x85" * depth + b".")  # tuples, from the inside out
    for _ in range(depth):
        (value,) = value
    assert value == []
    monkeypatch.setattr(pickles, "MAX_STEPS", 150_000)
    with pytest.raises(DataError, match="steps; a checkpoint has far fewer"):
        load(b"\x80\x02" + b"]" * 10**6 + b"a" * 10**6 + b".")
    with pytest.raises(DataError, match="a key of a dictionary that is a tuple"):
        load(b"\x80\x02})" + b"\x85" * 1000 + b"K\x01s.")


def test_work_is_bounded_by_the_file(monkeypatch):
    monkeypatch.setattr(pickles, "MAX_COPIED", 10_000)
    copies = b"h\x00h\x01\x85R0" * 100  # the list in the memo, copied again and again
    with pytest.raises(DataError, match="copies more than a checkpoint does"):
        load(b"\x80\x02cbuiltins\nlist\nq\x00](" + b"K\x01" * 1000 + b"eq\x01" + copies + b".")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cut short"),
        (b"\x80\x02}", "cut short"),
        (b"\x80\x02X\xff\xff\xff\xffab.", "cut short"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.", "cut short"),
        (b"\x80\x02T\xff\xff\xff\xffab.", "cut short"),
        (b"cos", "cut short"),
        (b".", "broken"),
        (b"\x80\x02t.", "broken"),
        (b"\x80\x02\x86.", "broken"),
        (b"\x80\x02h\x05.", "broken"),
        (b"\x80\x02}K\x01a.", "elements of a dict"),
        (b"\x80\x02](K\x01K\x02u.", "items of a list"),
        (b"\x80\x02}](K\x01e(tu.", "broken"),
        (b"\x80\x02}]K\x01s.", "a key of a dictionary that is a list"),
        (b"\x80\x02\x8a\x00\xff.", "byte 0xff"),
        (b"I12x\n.", "broken"),
        (b"I" + b"9" * 10_000 + b"\n.", "broken"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00rot_13tR.", "unknown encoding"),
        (b"cnumpy\ndtype\n(X\x01\x00\x00\x00OI0\nI1\ntR.", "something else than numbers"),
        (b"\x80\x02}\x8a\x0a" + b"\x01" * 10 + b"Ns.", "a key of a dictionary that is a int"),
    ],
)
def test_broken_pickles_are_one_line(data, says):
    with pytest.raises(DataError) as error:
        load(data)
    assert (
        says in str(error.value)
        and str(error.value).startswith("file.pt: ")
        and "\n" not in str(error.value)
    )


def test_every_cut_and_every_flipped_byte_ends_in_a_data_error():
    whole = pickle.dumps(
        {
            "a": [1, (2.5, "x")],
            "b": argparse.Namespace(c=np.arange(3.0)),
            "d": collections.OrderedDict(e=b"f"),
        },
        2,
    )
    rng = np.random.default_rng(0)
    for cut in range(len(whole)):
        with pytest.raises(DataError):
            load(whole[:cut])
    for at in rng.integers(0, len(whole), 1000):
        changed = bytearray(whole)
        changed[at] = rng.integers(256)
        try:
            load(bytes(changed))
        except DataError as error:
            assert "\n" not in str(error)


def test_modules_of_a_script_are_inert():
    module = tw.script_module("os.system", {"weight": 3, "child": tw.script_module("x.Y", {})})
    value = load(tw.pickled(module), inert="__torch__.")
    assert value.name == "__torch__.os.system" and value.attributes["weight"] == 3
    with pytest.raises(Refused, match=r"__torch__\.os\.system"):
        load(tw.pickled(module))
