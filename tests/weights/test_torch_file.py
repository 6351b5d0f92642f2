"""PyTorch's formats read without PyTorch: the same numbers as PyTorch reads, and a line for each
way to be broken.
"""

import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from weights import torch_writer as tw

from jax3dret.core.types import DataError
from jax3dret.weights import torch_file
from jax3dret.weights.pickles import Refused

DTYPES = (
    "float16",
    "float32",
    "float64",
    "bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
)


def arrays():
    out = {}
    for dtype in DTYPES:
        kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
        out[dtype] = (
            np.arange(-3, 3).reshape(2, 3) % 2
            if dtype == "bool"
            else np.arange(-3, 3).reshape(2, 3)
        ).astype(kind)
    return out


WRITERS = {"zip": tw.write_zip, "older": tw.write_older}


@pytest.mark.parametrize("form", WRITERS)
def test_every_type_and_every_kind_of_view(tmp_path, form):
    base = np.arange(24, dtype=np.float32)
    value = {
        **arrays(),
        "scalar": np.array(2.5),
        "none": np.zeros((0, 3), np.float32),
        "row": tw.View(base, 4, (3,), (1,)),
        "transposed": tw.View(base, 0, (3, 2), (1, 3)),
        "stepped": tw.View(base, 1, (2, 2), (12, 5)),
        "repeated": tw.View(base, 7, (4, 2), (0, 1)),
        "parameter": tw.call("torch._utils._rebuild_parameter", base, True, ()),
    }
    loaded = torch_file.load(WRITERS[form](tmp_path / "x.pt", value))
    assert (
        loaded.kind
        == {"zip": "PyTorch file (zip)", "older": "PyTorch file (before version 1.6)"}[form]
    )
    out = {name: tensor.array() for name, tensor in loaded.value.items() if name != "parameter"}
    for name, expected in [*arrays().items(), ("scalar", value["scalar"]), ("none", value["none"])]:
        assert out[name].dtype == expected.dtype and out[name].shape == expected.shape
        np.testing.assert_array_equal(out[name], expected)
    np.testing.assert_array_equal(out["row"], [4, 5, 6])
    np.testing.assert_array_equal(out["transposed"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(out["stepped"], [[1, 6], [13, 18]])
    np.testing.assert_array_equal(out["repeated"], [[7, 8]] * 4)
    shared = {
        id(loaded.value[name].storage) for name in ("row", "transposed", "stepped", "repeated")
    }
    assert len(shared) == 1 and not out["row"].flags.writeable


def test_big_endian_files(tmp_path):
    loaded = torch_file.load(tw.write_zip(tmp_path / "x.pt", arrays(), order="big"))
    for name, expected in arrays().items():
        np.testing.assert_array_equal(loaded.value[name].array(), expected)


def test_a_script_is_attributes_and_its_code_is_not_read(tmp_path):
    half = np.arange(6, dtype=np.float16).reshape(2, 3)
    child = tw.script_module("torch.nn.Linear", {"weight": half, "training": True})
    module = tw.script_module(
        "M", {"visual": child, "sizes": tw.call("torch.jit._pickle.build_intlist", [1, 2])}
    )
    loaded = torch_file.load(tw.write_script(tmp_path / "x.pt", module))
    assert loaded.kind == "TorchScript archive" and loaded.value.attributes["sizes"] == [1, 2]
    np.testing.assert_array_equal(
        loaded.value.attributes["visual"].attributes["weight"].array(), half
    )


def test_storages_are_read_when_asked_for(tmp_path, monkeypatch):
    path = tw.write_zip(tmp_path / "x.pt", {"a": np.ones(3), "b": np.zeros(4)})
    read = []
    original = torch_file._read_member
    monkeypatch.setattr(
        torch_file,
        "_read_member",
        lambda p, z, name, limit: read.append(name) or original(p, z, name, limit),
    )
    loaded = torch_file.load(path)
    loaded.value["b"].array(), loaded.value["b"].array()
    assert [name for name in read if "/data/" in name] == ["archive/data/1"]


def refusal(path):
    with pytest.raises(DataError) as error:
        value = torch_file.load(path).value
        [item.array() for item in value.values()]
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_code_in_either_format_is_refused(tmp_path):
    evil = tw.call("os.system", f"touch {tmp_path / 'touched'}")
    for form, write in WRITERS.items():
        path = write(
            tmp_path / f"{form}.pt", {"state_dict": {"a": np.ones(2)}, "deep": [{"x": evil}]}
        )
        with pytest.raises(Refused, match="wants to run os.system while loading"):
            torch_file.load(path)
    script = tw.write_script(tmp_path / "s.pt", tw.script_module("M", {"x": evil}))
    with pytest.raises(Refused, match=r"os\.system"):
        torch_file.load(script)
    assert not (tmp_path / "touched").exists()


def rebuilt(*arguments):
    return tw.call("torch._utils._rebuild_tensor_v2", *arguments, False, {})


def storage(key="0", count=4, kind="torch.FloatStorage", first="storage"):
    return tw.Raw(tw.encode((first, tw.name(kind), key, "cpu", count)) + b"Q")


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (
            rebuilt(storage(count=10**15), 0, (1,), (1,)),
            "storage 0 says it has 4,000,000,000,000,000 bytes, the file has",
        ),
        (rebuilt(storage(count=-1), 0, (1,), (1,)), "no storage of numbers"),
        (rebuilt(storage(key="9"), 0, (1,), (1,)), "has no archive/data/9"),
        (
            rebuilt(storage(key="../../data.pkl"), 0, (1,), (1,)),
            "has no archive/data/../../data.pkl",
        ),
        (
            rebuilt(storage(count=8), 0, (1,), (1,)),
            "a storage of 4 float32 that is also one of 8 float32",
        ),
        (rebuilt(storage(kind="torch.IntStorage"), 0, (1,), (1,)), "that is also one of 4 int32"),
        (rebuilt(storage(kind="torch.Size"), 0, (1,), (1,)), "no storage of numbers"),
        (rebuilt(storage(first="module"), 0, (1,), (1,)), "no storage of numbers"),
        (rebuilt(storage(), 0, (5,), (1,)), "reaches beyond its storage"),
        (rebuilt(storage(), 4, (1,), (1,)), "reaches beyond its storage"),
        (rebuilt(storage(), 0, (2, 2), (3, 1)), "reaches beyond its storage"),
        (rebuilt(storage(), -1, (1,), (1,)), "without a proper shape"),
        (rebuilt(storage(), 0, (1,), (-1,)), "without a proper shape"),
        (rebuilt(storage(), 0, (1, 1), (1,)), "without a proper shape"),
        (rebuilt(storage(), 0, (1.0,), (1,)), "without a proper shape"),
        (
            rebuilt(storage(), 0, (10**12,), (0,)),
            "a tensor of 4,000,000,000,000 bytes in a file of",
        ),
        (rebuilt("text", 0, (1,), (1,)), "no view of a storage"),
        (tw.call("torch._utils._rebuild_tensor_v2"), "broken pickle"),
        (tw.call("torch._utils._rebuild_parameter", "text", True), "a parameter that is no tensor"),
        (
            tw.call("torch._utils._rebuild_sparse_tensor", 1),
            "wants to run torch._utils._rebuild_sparse_tensor",
        ),
        (
            tw.call("torch._tensor._rebuild_from_type_v2", tw.name("torch.Size"), 1, (), 1),
            "unknown class",
        ),
        (tw.name("torch.load"), "wants to run torch.load"),
    ],
)
def test_tensors_that_are_none(tmp_path, tensor, says):
    path = tw.write_zip(tmp_path / "x.pt", {"good": np.ones(4, np.float32), "bad": tensor})
    assert says in refusal(path)


def test_archives_that_lie_about_their_size(tmp_path):
    short = tw.write_zip(
        tmp_path / "short.pt",
        {"a": rebuilt(storage(count=8), 0, (1,), (1,))},
        extra=[("data/0", b"1234" * 4)],
    )
    assert "archive/data/0 has 16 bytes, not 32" in refusal(short)
    zeros = {"a": np.zeros(10**6, np.float32)}
    bomb = tw.write_zip(tmp_path / "bomb.pt", zeros, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000 and "is compressed, which PyTorch never does" in refusal(
        bomb
    )
    declared = tw.write_zip(tmp_path / "declared.pt", {"a": np.zeros(4, np.float32)})
    content = bytearray(declared.read_bytes())
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"archive/data/0"))
    content[at + 24 : at + 28] = struct.pack("<I", 0x7FFFFFFF)  # uncompressed size in the directory
    declared.write_bytes(content)
    assert "says it has 2,147,483,647 bytes" in refusal(declared)
    crossed = tw.write_older(tmp_path / "crossed.pt", {"a": np.zeros(4, np.float32)}, count=10**12)
    assert "cut short or damaged at storage 0" in refusal(crossed)


@pytest.mark.parametrize("form", WRITERS)
def test_every_cut_is_one_line(tmp_path, form):
    path = WRITERS[form](tmp_path / "x.pt", {"a": np.ones((3, 2), np.float32), "n": 5})
    whole = path.read_bytes()
    for size in (1, 2, 5, 20, 60, len(whole) // 2, len(whole) - 60, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "again" in refusal(path)


def test_a_damaged_storage_is_found_by_its_checksum(tmp_path):
    path = tw.write_zip(tmp_path / "x.pt", {"a": np.full(8, 7.0)})
    content = path.read_bytes()
    path.write_bytes(content.replace(np.full(8, 7.0).tobytes(), np.full(8, 9.0).tobytes()))
    assert "archive/data/0 is damaged (Bad CRC-32" in refusal(path)


def test_archives_of_something_else(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "no data.pkl, so no PyTorch file (it holds readme.txt)" in refusal(path)


def test_reads_what_torch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    import argparse
    import collections

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    whole = torch.arange(20.0)
    value = {
        "state_dict": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=1e-3, gpu=[0]),
        "epoch": 3,
        "best": np.float64(0.5),
        "array": np.arange(4),
        "half": torch.ones(2).half(),
        "bf": torch.randn(3).bfloat16(),
        "view": whole[4:10].reshape(2, 3).t(),
        "whole": whole,
        "bool": torch.tensor([True, False]),
        "u16": torch.arange(3).to(torch.uint16),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "default": collections.defaultdict(list, {"a": [1]}),
        "complex": torch.randn(2, dtype=torch.complex64),
    }
    for new in (True, False):
        path = tmp_path / f"{new}.pt"
        held = {k: v for k, v in value.items() if new or k != "u16"}
        torch.save(held, path, _use_new_zipfile_serialization=new)
        out = torch_file.load(path).value
        assert (out["args"], out["epoch"], out["best"]) == ({"lr": 1e-3, "gpu": [0]}, 3, 0.5)
        assert (out["size"], out["device"], out["default"]) == ((1, 2), "cpu", {"a": [1]})
        tensors = {
            **value["state_dict"],
            **{k: v for k, v in held.items() if isinstance(v, torch.Tensor) and k != "bf"},
        }
        for name, expected in tensors.items():
            got = (out["state_dict"] if name in out["state_dict"] else out)[name].array()
            np.testing.assert_array_equal(got, expected.detach().numpy())
        np.testing.assert_array_equal(
            out["bf"].array().astype(np.float32), value["bf"].float().numpy()
        )
        moment = out["optimizer"]["state"][0]["exp_avg"].array()
        np.testing.assert_array_equal(moment, optimizer.state_dict()["state"][0]["exp_avg"].numpy())
    script = torch.jit.script(module.eval())
    script.save(str(tmp_path / "s.pt"))
    out = torch_file.load(tmp_path / "s.pt").value
    np.testing.assert_array_equal(
        out.attributes["0"].attributes["weight"].array(), module[0].weight.detach().numpy()
    )
    torch.save(module, tmp_path / "module.pt")
    with pytest.raises(Refused, match=r"wants to run torch\.nn\.modules\.container\.Sequential"):
        torch_file.load(tmp_path / "module.pt")
