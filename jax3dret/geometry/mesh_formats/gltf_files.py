"""The files of a glTF 2.0 asset: its JSON, the chunks of a .glb, and the buffers beside it.

Buffers lie in the folder of the file or below it, or inside the file. Nothing is fetched from a
network, and no path leads out of the folder: an index of files that others made reads no others.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import pathlib
import posixpath
import re
import stat
import struct
import urllib.parse
from typing import Any

from jax3dret.core.files import pointer
from jax3dret.geometry.mesh_formats.unusable import Unusable

SUFFIXES = (".glb", ".gltf")
_MAGIC = b"glTF"
_JSON, _BIN = 0x4E4F534A, 0x004E4942
# What keeps numbers in a form of its own. Its buffers have no bytes as they stand.
COMPRESSED = (
    "KHR_draco_mesh_compression",
    "EXT_meshopt_compression",
    "KHR_meshopt_compression",
)


def unpack(data: bytes) -> tuple[dict[str, Any], bytes | None]:
    """The JSON of a .gltf or a .glb, told apart by their first bytes, and the binary chunk of a
    .glb.

    Raises:
        Unusable: cut off, another version than 2, or not glTF.
    """
    text, binary = _chunks(data) if data[:4] == _MAGIC else (data, None)
    if binary is None and not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise Unusable('begins neither with "glTF" nor as JSON; copy or export it again')
    try:
        document = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Unusable("its JSON is broken (truncated?); copy or export it again") from None
    asset = document.get("asset") if isinstance(document, dict) else None
    asset = asset if isinstance(asset, dict) else {}
    version = str(asset.get("minVersion") or asset.get("version") or "")
    if not version:
        raise Unusable('is JSON without "asset": {"version": "2.0"}, so no glTF; export it again')
    if version.split(".")[0] != "2" or asset.get("minVersion", "2.0") != "2.0":
        raise Unusable(f"is glTF {version}; convert it to glTF 2.0")
    return document, binary


def _chunks(data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON chunk and the binary chunk; specification, section 4.4."""
    if len(data) < 12:
        raise Unusable(f"has {len(data)} bytes, less than a glTF header; copy or export it again")
    version, announced = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise Unusable(f"is binary glTF {version}; convert it to glTF 2.0")
    if len(data) < announced:
        raise Unusable(
            f"has {len(data):,} of {announced:,} bytes (truncated?); copy or export it again"
        )
    found: list[tuple[int, bytes]] = []
    at = 12
    # Fewer than eight bytes hold no chunk: some writers pad the file and not its last chunk.
    while announced - at >= 8:
        length, kind = struct.unpack_from("<II", data, at)
        if at + 8 + length > announced:
            raise Unusable(
                f"chunk {len(found)} announces {length:,} bytes, {announced - at - 8:,} are left "
                "in the file; export it again"
            )
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length
    if not found or found[0][0] != _JSON:
        raise Unusable("its first chunk is not JSON; export it again")
    has_binary = len(found) > 1 and found[1][0] == _BIN
    return found[0][1], found[1][1] if has_binary else None


class Buffers:
    """The bytes of each buffer, read when first asked for."""

    def __init__(
        self,
        document: dict[str, Any],
        binary: bytes | None,
        folder: pathlib.Path,
        max_bytes: int,
    ):
        self._buffers = document.get("buffers", [])
        self._binary, self._folder, self._max_bytes = binary, folder, max_bytes
        self._read: dict[int, bytes] = {}
        self.stored = 0  # bytes of all that were read

    def __getitem__(self, index: int) -> bytes:
        """Raises Unusable, the buffer named: missing, short, outside the folder, or no such one."""
        if index not in self._read:
            if not (isinstance(self._buffers, list) and 0 <= index < len(self._buffers)):
                raise Unusable(f"has no buffer {index}; export it again")
            self._read[index] = self._load(index, self._buffers[index])
            self.stored += len(self._read[index])
        return self._read[index]

    def _load(self, index: int, buffer: dict[str, Any]) -> bytes:
        uri, announced = buffer.get("uri"), buffer.get("byteLength")
        if not isinstance(announced, int) or announced < 1:
            raise Unusable(f"buffer {index} has the byteLength {announced!r}; export it again")
        if uri is None:
            name, data = f"buffer {index}", self._inside(index, buffer)
        elif not isinstance(uri, str):
            raise Unusable(f"buffer {index} has a uri that is no text; export it again")
        elif uri[:5].lower() == "data:":
            name, data = f"buffer {index}", _from_data_uri(index, uri)
        else:
            name, data = f"buffer '{urllib.parse.unquote(uri)}'", self._beside(uri)
        if len(data) < announced:
            raise Unusable(
                f"{name} has {len(data):,} of {announced:,} bytes (truncated?); copy or export it "
                "again"
            )
        return data

    def _inside(self, index: int, buffer: dict[str, Any]) -> bytes:
        if index == 0 and self._binary is not None:
            return self._binary
        packed = [name for name in COMPRESSED if name in buffer.get("extensions", {})]
        if packed:
            raise Unusable(
                f"buffer {index} stands for data compressed with {packed[0]}; export it without "
                "mesh compression"
            )
        raise Unusable(f"buffer {index} has no uri and no binary chunk; export it again")

    def _beside(self, uri: str) -> bytes:
        path = locate(self._folder, uri)
        name = urllib.parse.unquote(uri)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise Unusable(f"buffer '{name}' is not a file; export it again")
            if status.st_size > self._max_bytes:
                raise Unusable(
                    f"buffer '{name}' has {status.st_size:,} bytes, more than the limit of "
                    f"{self._max_bytes:,} (max_bytes)"
                )
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise Unusable(
                f"buffer '{name}' is not there; put it beside the file, or export it as .glb"
            ) from None
        except PermissionError:
            raise Unusable(f"buffer '{name}': permission denied; make it readable") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Unusable(f"buffer '{name}' cannot be read ({reason})") from None
        if (found := pointer(data[:64])) is not None:
            raise Unusable(f"buffer '{name}' is {found[0]}; {found[1]}")
        return data


def locate(folder: pathlib.Path, uri: str) -> pathlib.Path:
    """The file that a relative URI names: percent-decoded, or as it stands where only that is there
    (some writers do not encode).

    Raises:
        Unusable: an address, an absolute path, or one that leads out of the folder.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", uri):
        scheme = uri.partition(":")[0]
        raise Unusable(
            f"buffer '{uri[:80]}' is a {scheme}: address, which is not fetched; put the file "
            "beside it, or export it as .glb"
        )
    plain = urllib.parse.unquote(uri)
    for name in (plain, uri):
        if posixpath.isabs(name) or posixpath.normpath(name).split("/")[0] == "..":
            raise Unusable(
                f"buffer '{name}' lies outside the folder of the file; put it beside it, or export "
                "it as .glb"
            )
    path, raw = folder / posixpath.normpath(plain), folder / posixpath.normpath(uri)
    return raw if raw != path and not path.exists() and raw.exists() else path


def side_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The files beside a .gltf or .glb that it keeps numbers in, as far as they are there: what
    cannot be read is for the reader to complain about.
    """
    found = []
    for uri in _uris(path):
        try:
            part = locate(path.parent, uri)
            found += [part] if part.is_file() else []
        except (Unusable, OSError, ValueError):
            continue
    return found


def has_side_files(path: str | os.PathLike[str]) -> bool:
    """Whether a file keeps numbers in others, be they there or not: by its extension and JSON."""
    path = pathlib.Path(path)
    return path.suffix.lower() in SUFFIXES and bool(_uris(path))


def _uris(path: pathlib.Path) -> list[str]:
    """Of buffers that are not inside the file; none for what is no glTF."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
            if head[:4] == _MAGIC:  # the JSON alone, not the numbers behind it
                (length,) = struct.unpack_from("<I", head, 12)
                text = file.read(length)
            else:
                text = head + file.read()
        uris = [buffer.get("uri") for buffer in json.loads(text.decode("utf-8-sig"))["buffers"]]
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError, struct.error):
        return []
    return [uri for uri in uris if isinstance(uri, str) and uri[:5].lower() != "data:"]


def _from_data_uri(index: int, uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise Unusable(f"buffer {index} has a data: URI without data; export it again")
    raw = urllib.parse.unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return raw
    raw = re.sub(rb"\s", b"", raw)
    try:  # padding may be left out, as in every browser
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except binascii.Error:
        raise Unusable(f"buffer {index} is not the base64 that it announces") from None
