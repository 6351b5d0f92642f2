"""STL, binary and ASCII: triangles without shared corners.

Source: 3D Systems, "StereoLithography Interface Specification", 1989. Which of the two a file is,
its length says first: many binary files begin with the word "solid" too.
"""

from __future__ import annotations

import struct

import numpy as np

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import stl_text
from jax3dret.geometry.mesh_formats.polygons import triangulate
from jax3dret.geometry.mesh_formats.unusable import Unusable

_HEADER = 84
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def parse(data: bytes) -> Mesh:
    """The triangles of all solids in a file, in file order; corners with equal coordinates are one
    vertex.

    Raises:
        Unusable: neither kind of STL, cut off, or triangles other than it announces.
    """
    if _is_binary(data):
        corners = _binary(data)
        sizes = np.full(len(corners) // 3, 3)
    else:
        corners, sizes = stl_text.parse(data)
    vertices, numbers = _shared(corners)
    return Mesh(vertices, triangulate(vertices, numbers, sizes))


def _is_binary(data: bytes) -> bool:
    if len(data) >= _HEADER:
        (count,) = struct.unpack_from("<I", data, 80)
        if len(data) == _HEADER + _TRIANGLE.itemsize * count:
            return True
    head = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return False
    letters = head[:32].replace(b"\0", b"")  # UTF-16 too is text, to be refused as such
    if letters[:5].lower() == b"solid" and (b"\0" not in head or head[1:2] == b"\0"):
        return False
    # Whatever else is text has no count of triangles in its 81st byte.
    return len(data) < _HEADER or b"\0" in data[:4096] or not data[:4096].isascii()


def _binary(data: bytes) -> np.ndarray:
    """Corners of a binary file, three a triangle: float64[3 F, 3]."""
    if len(data) < _HEADER:
        raise Unusable(
            f"has {len(data)} bytes, fewer than the header of an STL file; copy or export it again"
        )
    (count,) = struct.unpack_from("<I", data, 80)
    room = (len(data) - _HEADER) // _TRIANGLE.itemsize
    if room < count:
        raise Unusable(
            f"holds {room} of the {count} triangles that its header announces (truncated?); copy "
            "or export it again"
        )
    if count == 0 and room:
        raise Unusable(
            f"announces 0 triangles, but {len(data) - _HEADER:,} bytes follow, room for {room} (an "
            "export that was broken off?); export it again"
        )
    triangles = np.frombuffer(data, _TRIANGLE, count, _HEADER)
    _check_rest(data[_HEADER + count * _TRIANGLE.itemsize :], triangles)
    return triangles["corners"].astype(np.float64).reshape(-1, 3)


def _check_rest(rest: bytes, triangles: np.ndarray) -> None:
    """Bytes behind the last triangle are no surface and are let be, unless they are triangles: as
    many of them as fit, finite and of the size of the others, or behind a header of their own.
    """
    if len(rest) >= _HEADER + _TRIANGLE.itemsize:
        (count,) = struct.unpack_from("<I", rest, 80)
        if len(rest) == _HEADER + count * _TRIANGLE.itemsize:
            raise Unusable(
                f"holds a second STL of {count} triangles behind its own {len(triangles)}; save "
                "them as files of their own"
            )
    if not rest or len(rest) % _TRIANGLE.itemsize or not rest.strip(b"\0"):
        return
    more = np.frombuffer(rest, _TRIANGLE)
    with np.errstate(all="ignore"):
        size = np.abs(triangles["corners"]).max() if len(triangles) else 0.0
        alike = np.abs(more["corners"]) <= 1e3 * size
        upright = np.abs(more["normal"]) <= 1.5
    if alike.all() and upright.all():
        raise Unusable(
            f"announces {len(triangles)} triangles, but {len(more)} more follow; export it again"
        )


def _shared(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of float64[N, 3], in file order, and which of them each row is."""
    if not len(corners):
        return corners, np.zeros(0, np.int64)
    bits = (corners + 0.0).view(np.uint64)  # with one zero, not two
    key = np.zeros(len(corners), np.uint64)
    for axis in range(3):  # sorted by a hash of 64 bits: one column instead of three
        key = (key ^ bits[:, axis]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    order = np.argsort(key, kind="stable")
    key = key[order]
    begins = np.concatenate([[True], key[1:] != key[:-1]])
    group = np.cumsum(begins) - 1
    first = order[begins]
    if not np.array_equal(bits[order], bits[first[group]]):  # two points of one hash
        _, first, group = np.unique(bits, axis=0, return_index=True, return_inverse=True)
        group, order = group.reshape(-1), np.arange(len(corners))
    by_place = np.argsort(first, kind="stable")
    rank = np.empty_like(by_place)
    rank[by_place] = np.arange(len(by_place))
    numbers = np.empty(len(corners), np.int64)
    numbers[order] = rank[group]
    return corners[first[by_place]], numbers
