"""Rendered views: ray casting against the z-buffer and, where it is installed, pyrender (OpenGL,
offscreen).

One mesh of 20,000 faces is rendered from the 12 views of the ring at 224 x 224 pixels, its
preparation included, as a view store does for every record. Times are per view, in one process.
Sides take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from jax3dret.bench.paired_timing import compare
from jax3dret.core.types import ConfigError
from jax3dret.geometry import raycast
from jax3dret.geometry.cameras import Cameras, camera, ring
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.views import render_views

SIZE = 224


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """One entry for each pair of sides: name, ours, baseline, baseline_name, ratio = ours /
    baseline, unit.

    Times are medians of `repeats` meshes after a warm-up, in milliseconds per view. Raises
    ConfigError if embreex is not installed.
    """
    if not raycast.available():
        raise ConfigError("bench needs embreex: pip install embreex")
    mesh, cameras = bumpy_sphere(), ring(12)
    ours = {
        n: functools.partial(
            render_views, mesh, cameras, size=SIZE, supersample=n, renderer="embree"
        )
        for n in (1, 2)
    }
    theirs = {
        n: functools.partial(
            render_views, mesh, cameras, size=SIZE, supersample=n, renderer="zbuffer"
        )
        for n in (1, 2)
    }
    name = f"{len(mesh.faces)} faces, {SIZE}x{SIZE}"
    plan: list[tuple[str, Callable[[], Any], str, Callable[[], Any]]] = [
        (f"{name}, one sample", ours[1], "z-buffer in NumPy", theirs[1]),
        (f"{name}, smooth edges", ours[2], "z-buffer in NumPy", theirs[2]),
    ]
    if _has_pyrender():
        plan.append(
            (f"{name}, smooth edges", ours[2], "pyrender, multisampled", _pyrender(mesh, cameras))
        )
    per_view = 1e3 / len(cameras.positions)
    return [compare(*entry, repeats=repeats, scale=per_view, unit="ms/view") for entry in plan]


def bumpy_sphere(rows: int = 100, columns: int = 100) -> Mesh:
    """2 * rows * columns faces round the origin."""
    v, u = np.meshgrid(
        np.linspace(0, np.pi, rows + 1), np.arange(columns) * 2 * np.pi / columns, indexing="ij"
    )
    radius = 1 + 0.1 * np.sin(9 * u) * np.sin(7 * v)
    points = radius[..., None] * np.stack(
        [np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1
    )
    i, j = (axis.reshape(-1) for axis in np.indices((rows, columns)))
    k = (j + 1) % columns
    a, b, c, d = i * columns + j, i * columns + k, (i + 1) * columns + k, (i + 1) * columns + j
    return Mesh(
        points.reshape(-1, 3),
        np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)]).astype(np.int32),
    )


def _has_pyrender() -> bool:
    return importlib.util.find_spec("pyrender") is not None


def _pyrender(mesh: Mesh, cameras: Cameras) -> Callable[[], list[np.ndarray]]:
    """The same views by OpenGL: upload, draw, read back."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")  # no display is needed
    import pyrender

    try:
        renderer = pyrender.OffscreenRenderer(SIZE, SIZE)
    except Exception as error:  # whatever the OpenGL of this machine lacks
        raise ConfigError(
            f"pyrender is installed but cannot draw here ({error}); remove it to bench without it"
        ) from error
    vertices = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1).max()
    corners = vertices[mesh.faces].reshape(-1, 3)
    normal = np.cross(corners[1::3] - corners[::3], corners[2::3] - corners[::3])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)

    grey = pyrender.MetallicRoughnessMaterial(
        baseColorFactor=[0.7, 0.7, 0.7, 1.0], metallicFactor=0.0, doubleSided=True
    )

    def draw() -> list[np.ndarray]:
        scene = pyrender.Scene(bg_color=[1.0, 1.0, 1.0], ambient_light=[0.3, 0.3, 0.3])
        shape = pyrender.Primitive(corners, normals=np.repeat(normal, 3, 0), mode=4, material=grey)
        scene.add(pyrender.Mesh([shape]))
        eye = scene.add(pyrender.PerspectiveCamera(yfov=np.deg2rad(cameras.fov)))
        light = scene.add(pyrender.DirectionalLight(intensity=3.0))
        pictures = []
        for index in range(len(cameras.positions)):
            view = camera(cameras, index)
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = view.axes.T, view.position
            scene.set_pose(eye, pose)
            scene.set_pose(light, pose)
            pictures.append(renderer.render(scene)[0])
        return pictures

    return draw
