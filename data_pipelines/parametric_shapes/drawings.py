"""Drawings of the embedded shapes, as people might make them: the lines of a shape from a view that
shows it, by an unsteady hand.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial import ConvexHull

from data_pipelines.parametric_shapes.programs import shape
from jax3dret.data.sketches import prepare_drawing
from jax3dret.geometry.cameras import MARGIN, Camera, Cameras, camera, directions, project, ring
from jax3dret.geometry.line_drawing import line_drawing
from jax3dret.geometry.strokes import draw_by_hand

_STREAM = 2  # a drawing's generator is apart from those that make the shape and its points
_CANDIDATES = 3
_FLAT = 0.3  # height by width: what is lower is drawn from above


def drawing(label: int, seed: int, index: int) -> UInt8[np.ndarray, "S S"]:
    """The drawing of shape number `index` of a class; it depends on the three numbers alone.

    Raises:
        DataError: the program of the class left no valid solid, or nothing of it is drawn.
    """
    mesh = shape(label, seed, index)
    rng = np.random.default_rng(np.random.SeedSequence([seed, label, index, _STREAM]))
    eye = chosen_view(mesh.vertices, rng)
    return prepare_drawing(draw_by_hand(line_drawing(mesh, eye), rng))


def chosen_view(vertices: Float[np.ndarray, "V 3"], rng: np.random.Generator) -> Camera:
    """A view of an object with z up: of a few random ones the one in which the object is largest
    (its convex hull).

    Half of them face one of its four sides, within some degrees; they look slightly down, on flat
    things more steeply; half of the drawings have no perspective.
    """
    extent = np.ptp(vertices, axis=0)
    flat = extent[2] < _FLAT * extent[:2].max()
    side = 90.0 * rng.integers(4, size=_CANDIDATES) + rng.normal(0, 7, _CANDIDATES)
    azimuth = np.where(rng.random(_CANDIDATES) < 0.5, side, rng.uniform(0, 360, _CANDIDATES))
    level = np.abs(rng.normal(14, 12, _CANDIDATES)).clip(0, 50)
    elevation = np.where(flat, rng.uniform(35, 80, _CANDIDATES), level)
    distance = float(np.linalg.norm(ring(1).positions[0]))
    views = Cameras("drawn", distance * directions(azimuth, elevation))
    if rng.random() < 0.5:
        views = views._replace(fov=0.0, height=2 * MARGIN)
    middle = (vertices - vertices.min(0) - extent / 2) / np.linalg.norm(extent / 2)
    eyes = [camera(views, i) for i in range(_CANDIDATES)]
    areas = [
        ConvexHull(project(eye, middle, 1)[:, :2]).volume for eye in eyes
    ]  # of a plane hull, the area
    return eyes[int(np.argmax(areas))]
