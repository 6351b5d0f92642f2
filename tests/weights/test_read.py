"""Tensors by name out of any file of weights; for other files, a line that says what they are and
what is expected.
"""

import gzip
import json
import struct
import tarfile
import zipfile

import ml_dtypes
import numpy as np
import pytest
from weights import torch_writer as tw

from jax3dret.core.types import DataError
from jax3dret.weights.read import read_state_dict

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(3, dtype=np.float32)
STATE = {"x.weight": A, "x.bias": B}


def same(found, expected=STATE):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def safetensors(path, header, content=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


@pytest.mark.parametrize(
    ("value", "wrapper", "prefix", "others"),
    [
        (STATE, (), "", {}),
        (
            {"state_dict": STATE, "epoch": 7, "optimizer": {"state": {0: {"exp_avg": B}}}},
            ("state_dict",),
            "",
            {"epoch": "7", "optimizer": "mapping of 1"},
        ),
        (
            {"model": {"state_dict": STATE}, "loss": B},
            ("model", "state_dict"),
            "",
            {"loss": "tensor (3,)"},
        ),
        (
            {"base_model": {f"module.{k}": v for k, v in STATE.items()}},
            ("base_model",),
            "module.",
            {},
        ),
        (
            {
                "model_state_dict": STATE,
                "args": tw.build(tw.Raw(tw.name("argparse.Namespace") + b")\x81"), {"lr": 0.1}),
            },
            ("model_state_dict",),
            "",
            {"args": "mapping of 1"},
        ),
        ({"mine": STATE, "name": "a\nb"}, ("mine",), "", {"name": "a b"}),
        (
            {"module": {f"module.module.{k}": v for k, v in STATE.items()}},
            ("module",),
            "module.module.",
            {},
        ),
        ({**STATE, "version": 3}, (), "", {"version": "3"}),
        ({"state_dict": tw.build(STATE, {"_metadata": {}})}, ("state_dict",), "", {}),
    ],
)
@pytest.mark.parametrize("write", [tw.write_zip, tw.write_older])
def test_wrappers_are_taken_off_and_named(tmp_path, write, value, wrapper, prefix, others):
    path = write(tmp_path / "any.name", value)
    found, info = read_state_dict(path)
    same(found)
    assert (info.wrapper, info.prefix, dict(info.others)) == (wrapper, prefix, others)
    assert info.bytes == path.stat().st_size and len(info.sha256) == 64


def test_safetensors_and_npz_by_content(tmp_path):
    half, brain = A.astype(np.float16), B.astype(ml_dtypes.bfloat16)
    header = {
        "__metadata__": {"format": "pt"},
        "h": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [12, 18]},
        "t": {"dtype": "BOOL", "shape": [2], "data_offsets": [18, 20]},
        "s": {"dtype": "I64", "shape": [], "data_offsets": [20, 28]},
        "e": {"dtype": "F32", "shape": [0, 2], "data_offsets": [28, 28]},
    }
    content = half.tobytes() + brain.tobytes() + b"\x01\x00" + struct.pack("<q", -5)
    found, info = read_state_dict(safetensors(tmp_path / "named.pt", header, content))
    same(
        found,
        {
            "h": half,
            "b": brain,
            "t": np.array([True, False]),
            "s": np.array(-5),
            "e": np.zeros((0, 2), np.float32),
        },
    )
    assert info.format == "safetensors" and info.others == (("format", "pt"),)
    np.savez_compressed(tmp_path / "x.npz", **STATE)
    (tmp_path / "x.npz").rename(tmp_path / "x.bin")
    found, info = read_state_dict(tmp_path / "x.bin")
    same(found)
    assert info.format == "NumPy archive (npz)"


def test_safetensors_of_the_package(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    package.save_file(STATE, tmp_path / "x.safetensors")
    same(read_state_dict(tmp_path / "x.safetensors")[0])


def test_a_script_by_the_paths_of_its_tensors(tmp_path):
    shared = tw.script_module("L", {"weight": A, "bias": None, "training": False})
    module = tw.script_module("M", {"x": shared, "input_resolution": np.array(224)})
    found, info = read_state_dict(tw.write_script(tmp_path / "s.pt", module))
    same(found, {"x.weight": A, "input_resolution": np.array(224)})
    assert info.format == "TorchScript archive"


def refusal(path):
    with pytest.raises(DataError) as error:
        read_state_dict(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (
            b"\n <!DOCTYPE html><html>Google Drive - Virus scan warning</html>",
            "is a web page, not weights",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 87\n",
            "a Git LFS pointer, not the file it stands for; run `git lfs pull`",
        ),
        (gzip.compress(b"x" * 100, mtime=0), "is compressed with gzip; run `gunzip`"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "is an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a single NumPy array"),
        (b'{"metadata": {}, "weight_map": {}}\n', "is JSON, not weights"),
        (
            b"model_checkpoint_path: 'model.ckpt-400000'\n",
            "is of a TensorFlow checkpoint; reading it takes TensorFlow",
        ),
        (b"\0" * 60 + bytes.fromhex("57fb808b247547db"), "numpy.savez"),
        (b"PK\x05\x06" + b"\0" * 18, "an empty zip archive"),
        (b"PK\x03\x04" + b"\0" * 60, "cut short or damaged"),
        (b"hello, this is a text file.\n", "is no file of weights (it begins with 'hello, t')"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07", "begins with bytes 00 01 02"),
        (b"(dp0\nS'a'\np1\nI1\ns.", "which tensors are meant cannot be told"),
        (b"cos\nsystem\n(S'ls'\ntR.", "wants to run os.system while loading; refused"),
        (b"\x80\x02]K\x01a.", "holds a list of 1, not a state_dict"),
        (
            b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s.",
            "which tensors are meant cannot be told",
        ),
        (b"\x80\x02]" + b"\x85" * 100_000 + b".", "holds a tuple of 1, not a state_dict"),
    ],
)
def test_other_files_are_named(tmp_path, content, says):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    assert says in refusal(path)


def test_other_places(tmp_path):
    assert refusal(tmp_path / "no.pt").endswith("not found")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "model.ckpt-1.data-00000-of-00001").write_bytes(b"\x01" * 50)
    assert "TensorFlow checkpoint" in refusal(tmp_path / "model.ckpt-1.data-00000-of-00001")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "model.ckpt-1.data-00000-of-00001", "sys_info")
    assert "is a tar archive" in refusal(tmp_path / "x.tar")


def test_a_mapping_that_holds_itself(tmp_path):
    path = tmp_path / "x.pt"
    # {"model": itself, "x": tensor}: the wrapper never ends
    tw.write_zip(
        path, tw.Sequence(tw.Raw(b"}q\x00("), "model", tw.Raw(b"h\x00"), "x", A, tw.Raw(b"u"))
    )
    assert "wraps its tensors 8 times" in refusal(path)


def test_sets_of_tensors_of_which_none_is_meant(tmp_path):
    path = tw.write_zip(tmp_path / "x.pt", {"one": STATE, "two": {"x": A * 1}})
    assert "holds one, two and no entry named state_dict" in refusal(path)
    assert "a single tensor without a name" in refusal(tw.write_zip(tmp_path / "y.pt", A))
    assert "a single tensor" not in refusal(tw.write_zip(tmp_path / "z.pt", {}))


def test_views_that_multiply_are_bounded(tmp_path):
    base = np.zeros(10**6, np.float32)
    path = tw.write_zip(
        tmp_path / "x.pt", {f"v{i}": tw.View(base, 0, (10**6,), (1,)) for i in range(50)}
    )
    assert "its tensors would take 200,000,000 bytes" in refusal(path)


@pytest.mark.parametrize(
    ("entry", "content", "says"),
    [
        (
            {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            b"\0" * 4,
            "ends 4 bytes behind the file",
        ),
        (
            {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
            b"\0" * 8,
            "which is not its shape (3,)",
        ),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}, b"\0" * 8, "no proper shape"),
        ({"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}, b"\0" * 8, "no proper shape"),
        (
            {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]},
            b"\0" * 8,
            "unknown type or lacks 'X9'",
        ),
        ({"shape": [2]}, b"", "unknown type or lacks 'dtype'"),
        ([1], b"", "cannot be read"),
    ],
)
def test_broken_safetensors(tmp_path, entry, content, says):
    assert says in refusal(safetensors(tmp_path / "x.safetensors", {"w": entry}, content))


def test_safetensors_headers_that_lie(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 10**8) + b"{}")
    assert "a safetensors header of 100,000,000 bytes in a file of 10" in refusal(path)
    deep = b'{"a":' + b"[" * 100_000
    path.write_bytes(struct.pack("<Q", len(deep)) + deep)
    assert "cannot be read" in refusal(path)


def test_npz_that_lie(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{"x": 1}], object))
    assert "an array of Python objects, which only unpickling reads; refused" in refusal(path)
    np.savez_compressed(path, a=np.zeros(5 * 10**6, np.float32))
    assert "bytes that unpack to 20,000," in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': 1}   \n")
    assert "cannot be read as .npz" in refusal(path)
