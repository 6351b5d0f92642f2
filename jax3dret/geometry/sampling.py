"""Points with normals, drawn uniformly from the surface of a triangle mesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import DataError
from jax3dret.geometry.mesh import Mesh


def sample_surface(
    mesh: Mesh, num: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Draws `num` independent points, uniform by area, each with the unit normal of the face it
    lies on.

    A face is chosen with probability proportional to its area, then a point uniformly inside it
    (Turk 1990, "Generating Random Points in Triangles", the square folded at its diagonal). Nothing
    is spread out afterwards: the draw is Poisson-like and two points can come close. Normals follow
    the winding of the face, counter-clockwise seen from outside. A face without area is never
    chosen.

    Args:
        mesh: vertices float64[V, 3] in any unit and frame, faces int32[F, 3].
        num: points to draw, at least 0.
        rng: source of every draw; the same generator state gives the same points.

    Returns:
        points float64[num, 3] in the unit and frame of the vertices; unit normals float64[num, 3].

    Raises:
        DataError: the mesh has no face, no face with an area, or a face with a non-finite corner.
    """
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    faces = np.asarray(mesh.faces)
    if len(faces) == 0:
        raise DataError("surface sampling: the mesh has no faces; at least one triangle is needed")
    # One gather per corner is several times faster than vertices[faces] with its strided columns.
    origin = vertices[faces[:, 0]]
    edge_a = vertices[faces[:, 1]] - origin
    edge_b = vertices[faces[:, 2]] - origin
    extent = np.maximum(np.abs(edge_a).max(), np.abs(edge_b).max())
    if not np.isfinite(extent) or not np.isfinite(origin).all():
        raise DataError(
            "surface sampling: the mesh has a face with a NaN or infinite corner; coordinates must "
            "be finite"
        )
    if extent == 0.0:
        raise DataError(
            f"surface sampling: the total area of the mesh's {len(faces)} faces is 0; it has no "
            "surface"
        )
    # Products of relative edges neither overflow nor vanish, whatever unit the mesh is in.
    cross = np.cross(edge_a / extent, edge_b / extent)
    doubled_area = np.sqrt(np.einsum("ij,ij->i", cross, cross))
    solid = np.flatnonzero(doubled_area > 0.0)
    if len(solid) == 0:
        raise DataError(
            f"surface sampling: the total area of the mesh's {len(faces)} faces is 0; it has no "
            "surface"
        )

    cumulative = np.cumsum(doubled_area[solid])
    place = np.searchsorted(cumulative, rng.random(num) * cumulative[-1], side="right")
    chosen = solid[
        np.minimum(place, len(solid) - 1)
    ]  # the product above can round up to the total itself
    a, b = rng.random((2, num))
    outside = a + b > 1.0
    a = np.where(outside, 1.0 - a, a)[:, None]
    b = np.where(outside, 1.0 - b, b)[:, None]
    points = origin[chosen] + a * edge_a[chosen] + b * edge_b[chosen]
    normals = cross[chosen] / doubled_area[chosen, None]
    return points, normals
