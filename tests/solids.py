"""Small meshes with known distances, in the unit sphere: a box, a ball, a ring, and a sheet."""

from __future__ import annotations

import numpy as np

from jax3dret.geometry.mesh import Mesh

HALF = np.array([0.6, 0.4, 0.3])  # half the sides of the box
RING = (0.6, 0.25)  # radius of the ring's middle circle, and of its tube


def box(half=HALF) -> Mesh:
    """Twelve faces that turn outwards."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    sides = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array(sides, np.int32)[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    return Mesh(corners * half, faces)


def box_distance(points, half=HALF):
    """Signed, negative inside."""
    q = np.abs(points) - half
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)


def ball(radius: float = 0.8, rings: int = 24) -> Mesh:
    return _turned(lambda u, v: radius * _polar(u / 2 - np.pi / 2, v), rings, closed=False)


def ring(rings: int = 32) -> Mesh:
    large, small = RING

    def at(u, v):
        out = large + small * np.cos(u)
        return np.stack([out * np.cos(v), out * np.sin(v), small * np.sin(u)], -1)

    return _turned(at, rings, closed=True)


def ring_distance(points):
    large, small = RING
    return np.hypot(np.hypot(points[:, 0], points[:, 1]) - large, points[:, 2]) - small


def sheet(count: int = 4) -> Mesh:
    """A flat square without a volume."""
    t = np.linspace(-0.7, 0.7, count)
    x, y = np.meshgrid(t, t, indexing="ij")
    at = np.arange(count - 1)[:, None] * count + np.arange(count - 1)
    faces = [[at, at + count, at + 1], [at + 1, at + count, at + count + 1]]
    return Mesh(
        np.stack([x, y, 0.1 + 0 * x], -1).reshape(-1, 3),
        np.concatenate([np.stack(f, -1).reshape(-1, 3) for f in faces]).astype(np.int32),
    )


def inverted(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=False)]).astype(
            np.int32
        ),
    )


def _polar(latitude, longitude):
    return np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude) * np.ones_like(longitude),
        ],
        -1,
    )


def _turned(at, count: int, *, closed: bool) -> Mesh:
    """A surface of (u, v) in [0, 2 pi]^2, periodic in v, and in u too if closed (else poles, whose
    faces have no area)."""
    u = np.linspace(0, 2 * np.pi, count, endpoint=not closed)
    v = np.linspace(0, 2 * np.pi, count, endpoint=False)
    vertices = at(u[:, None] + 0 * v, v + 0 * u[:, None]).reshape(-1, 3)
    i = np.arange(count if closed else count - 1)[:, None]
    j, up = np.arange(count), (i + 1) % count
    a, b, c, d = (x.reshape(-1) for x in (
        i * count + j, i * count + (j + 1) % count, up * count + (j + 1) % count, up * count + j
    ))  # fmt: skip
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Mesh(vertices, faces.astype(np.int32))
