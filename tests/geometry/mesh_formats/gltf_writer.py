"""Small glTF 2.0 assets made of arrays, for tests: numbers go into one buffer, JSON is the test's."""

from __future__ import annotations

import base64
import json
import pathlib
import struct
from typing import Any

import numpy as np

CODES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126, "f8": 5130}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}

# 2 x 1 x 3, one corner at the origin, turned outwards: area 22, volume 6; no two sides alike.
BOX = np.array([[x, y, z] for x in (0, 2) for y in (0, 1) for z in (0, 3)], float)
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
FACES = np.array([[q[0], q[i], q[i + 1]] for q in QUADS for i in (1, 2)])


class Asset:
    """`document` is the JSON, free to change; `numbers` adds an accessor and gives its index."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.document: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "buffers": [{}],
            "bufferViews": [],
            "accessors": [],
            "meshes": [],
            "nodes": [],
        }

    def view(self, data: bytes, **more: Any) -> int:
        self.blob += bytes(-len(self.blob) % 4)
        views = self.document["bufferViews"]
        views.append({"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data), **more})
        self.blob += data
        return len(views) - 1

    def numbers(self, values: Any, dtype: str = "f4", stride: int = 0, **more: Any) -> int:
        """stride: bytes from row to row, the gap filled with 255."""
        rows = np.asarray(values)
        rows = rows.reshape(len(rows), -1).astype(np.dtype(dtype).newbyteorder("<"))
        width, size = rows.shape[1], rows.itemsize * rows.shape[1]
        if stride:
            data = b"".join(row.tobytes() + b"\xff" * (stride - size) for row in rows)
            view = self.view(data, byteStride=stride)
        else:
            view = self.view(rows.tobytes())
        described = {
            "bufferView": view,
            "componentType": CODES[dtype],
            "count": len(rows),
            "type": KINDS[width],
            **more,
        }
        self.document["accessors"].append(described)
        return len(self.document["accessors"]) - 1

    def primitive(self, vertices: Any = BOX, faces: Any = FACES, **more: Any) -> dict[str, Any]:
        """faces: None leaves the indices out."""
        made = {"attributes": {"POSITION": self.numbers(vertices)}, **more}
        if faces is not None:
            made["indices"] = self.numbers(np.ravel(faces), "u2")
        return made

    def mesh(self, *primitives: dict[str, Any], **more: Any) -> int:
        self.document["meshes"].append({"primitives": list(primitives), **more})
        return len(self.document["meshes"]) - 1

    def node(self, **fields: Any) -> int:
        self.document["nodes"].append(fields)
        return len(self.document["nodes"]) - 1

    @property
    def text(self) -> bytes:
        return json.dumps(self.document).encode()

    def glb(self, **changes: Any) -> bytes:
        self.document["buffers"][0].setdefault("byteLength", len(self.blob))
        return pack(self.text, bytes(self.blob), **changes)

    def gltf(self, folder: pathlib.Path, name: str = "a.gltf", uri: str = "") -> pathlib.Path:
        """uri: of the buffer, which the test writes; empty for a data: URI."""
        encoded = base64.b64encode(bytes(self.blob)).decode()
        self.document["buffers"][0] = {
            "byteLength": len(self.blob),
            "uri": uri or f"data:application/octet-stream;base64,{encoded}",
        }
        path = folder / name
        path.write_bytes(self.text)
        return path


def pack(text: bytes, binary: bytes | None, *, version: int = 2, more: bytes = b"") -> bytes:
    """A .glb of its two chunks; more: bytes of further ones."""
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text
    if binary is not None:
        binary += bytes(-len(binary) % 4)
        body += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    body += more
    return struct.pack("<4sII", b"glTF", version, 12 + len(body)) + body
