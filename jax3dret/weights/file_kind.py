"""What a file of weights is, by its content; and for what holds no weights, a line that says what
is expected.
"""

from __future__ import annotations

import os
import pathlib
import re
import zipfile
from typing import Literal

from jax3dret.core.files import pointer
from jax3dret.core.types import DataError

Format = Literal["torch", "safetensors", "npz"]
_SHARDS = re.compile(r"\.data-\d{5}-of-\d{5}$")
_TABLE_END = bytes.fromhex("57fb808b247547db")
TENSORFLOW = (
    "reading it takes TensorFlow, which this project does without: where TensorFlow is installed, "
    "save its variables with "
    "tf.train.load_checkpoint and numpy.savez (one array for each variable, without Momentum and "
    "global_step), and import that .npz"
)
# First bytes, what they are, what is expected.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed with gzip", "run `gunzip` on it and give what comes out"),
    (b"BZh", "compressed with bzip2", "run `bunzip2` on it and give what comes out"),
    (b"\xfd7zXZ", "compressed with xz", "run `unxz` on it and give what comes out"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "run `unzstd` on it and give what comes out"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it and give the file of weights in it"),
    (b"Rar!", "a RAR archive", "unpack it and give the file of weights in it"),
    (
        b"\x89HDF",
        "an HDF5 file",
        "save its arrays with numpy.savez under the original names and import that .npz",
    ),
    (
        b"\x93NUMPY",
        "a single NumPy array",
        "save all arrays with numpy.savez under the original names and import that .npz",
    ),
    (b"PK\x05\x06", "an empty zip archive", "download or copy it again"),
)


def sniff(path: str | os.PathLike[str]) -> Format:
    """Which reader a file takes. Its name counts for nothing but TensorFlow's shards, which nothing
    else tells.

    Raises: DataError: not there, not a file, empty, or not a file of weights; one line says what it
        is and what would be right.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give the file of weights in it")
    if not path.is_file():
        raise DataError(f"{path}: not found" if not path.exists() else f"{path}: is not a file")
    with path.open("rb") as file:
        head = file.read(1024)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        tail = file.read(8)
    if not head:
        raise DataError(f"{path}: is empty; download or copy it again")
    if head.startswith(b"PK\x03\x04"):
        return "npz" if _is_npz(path) else "torch"
    pointed = pointer(head)
    if pointed is not None:
        raise DataError(f"{path}: is {pointed[0]}; {pointed[1]}")
    for start, what, right in _OTHERS:
        if head.startswith(start):
            raise DataError(f"{path}: is {what}; {right}")
    if head[257:262] == b"ustar":
        raise DataError(f"{path}: is a tar archive; unpack it and give the file of weights in it")
    if (
        tail == _TABLE_END
        or _SHARDS.search(path.name)
        or head.startswith(b"model_checkpoint_path:")
    ):
        raise DataError(f"{path}: is of a TensorFlow checkpoint; {TENSORFLOW}")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    if head[:1] == b"\x80":
        return "torch"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<script")):
        raise DataError(
            f"{path}: is a web page, not weights: the address gave a page to confirm or to log in; "
            "download the file itself"
        )
    if text.startswith((b"{", b"[")) and tail.rstrip().endswith((b"}", b"]")):
        raise DataError(
            f"{path}: is JSON, not weights; give the .safetensors, .pt or .npz file that it "
            "describes"
        )
    # Protocol 0 of pickles is text; one that names code begins with "c" or "(".
    if tail.endswith(b".") and head[:1] in b"c(]}l(dN":
        return "torch"
    raise DataError(
        f"{path}: is no file of weights (it begins with {_shown(head[:8])}); expected PyTorch's "
        ".pt, .pth, .ckpt or .bin, "
        ".safetensors or .npz"
    )


def _is_npz(path: pathlib.Path) -> bool:
    """Whether a zip archive holds arrays and no pickle; a broken one is left to PyTorch's reader,
    which says so.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _shown(head: bytes) -> str:
    printable = all(32 <= byte < 127 for byte in head)
    return f"'{head.decode('ascii')}'" if printable else f"bytes {head.hex(' ')}"
