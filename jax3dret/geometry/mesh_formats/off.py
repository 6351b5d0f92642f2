"""Object File Format: a stream of numbers."""

from __future__ import annotations

import re

import numpy as np

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats.unusable import Unusable


def parse(data: bytes) -> Mesh:
    """OFF, COFF, NOFF ...: one vertex or one face a line; counts may be glued to the magic word
    ("OFF3 1 0").
    """
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    lines = [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]
    magic = re.match(r"(?:ST)?C?N?OFF(?![A-Za-z])", lines[0]) if lines else None
    if magic is None:
        raise Unusable('does not begin with "OFF"; export it again as ASCII OFF')
    rest = lines[0][magic.end() :].strip()
    if rest.upper().startswith("BINARY"):
        raise Unusable("is binary OFF; export it as ASCII OFF")
    lines = [rest, *lines[1:]] if rest else lines[1:]
    try:
        num_vertices, num_faces = (int(word) for word in lines[0].split()[:2])
    except (IndexError, ValueError):
        raise Unusable('has no "vertices faces edges" counts after OFF; export it again') from None
    if num_vertices < 0 or num_faces < 0:
        raise Unusable(
            f"announces {num_vertices} vertices and {num_faces} faces; counts cannot be negative"
        )
    rows = lines[1 : 1 + num_vertices + num_faces]
    if len(rows) < num_vertices + num_faces:
        raise Unusable(
            f"announces {num_vertices} vertices and {num_faces} faces but holds {len(rows)} of "
            "their "
            f"{num_vertices + num_faces} lines (truncated?); copy or export it again"
        )
    try:
        vertices = np.array([row.split()[:3] for row in rows[:num_vertices]], np.float64).reshape(
            -1, 3
        )
    except ValueError:
        raise Unusable("has a vertex line that is not three numbers; export it again") from None
    words = [row.split() for row in rows[num_vertices:]]
    try:
        sizes = [int(word[0]) for word in words]
        polygons = [word[1 : size + 1] for word, size in zip(words, sizes, strict=True)]
        if any(
            size < 1 or len(polygon) < size for size, polygon in zip(sizes, polygons, strict=True)
        ):
            raise ValueError
        if all(size == 3 for size in sizes):
            faces = np.array(polygons, np.int64).reshape(-1, 3)
        else:  # polygons of one or two corners are points and lines: no surface
            fans = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
            faces = np.array(fans, np.int64).reshape(-1, 3)
    except ValueError:
        raise Unusable(
            "has a face line without its vertex numbers (truncated?); copy or export it again"
        ) from None
    return Mesh(vertices, faces)
