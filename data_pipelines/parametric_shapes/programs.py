"""The classes in order, and the one function that makes a shape of a class.

A class is a plain function `(rng) -> Manifold`; its name is the name of the class. A new class is a
new function at the end of a theme's `PROGRAMS`. The place in the list is the label and part of the
seed, so that classes after a new one change their shapes.
"""

from __future__ import annotations

import numpy as np
from manifold3d import Error, Manifold

from data_pipelines.parametric_shapes import (
    household_furniture,
    household_seats,
    household_things,
    household_vessels,
    machine_parts_fasteners,
    machine_parts_pipes,
    machine_parts_rotary,
)
from jax3dret.core.types import DataError
from jax3dret.geometry.mesh import Mesh

PROGRAMS = (
    *machine_parts_rotary.PROGRAMS,
    *machine_parts_fasteners.PROGRAMS,
    *machine_parts_pipes.PROGRAMS,
    *household_seats.PROGRAMS,
    *household_furniture.PROGRAMS,
    *household_vessels.PROGRAMS,
    *household_things.PROGRAMS,
)
CLASS_NAMES = tuple(program.__name__ for program in PROGRAMS)


def shape(class_index: int, seed: int, index: int) -> Mesh:
    """Shape number `index` of a class: a closed, oriented triangle mesh that stands on z = 0, z up.

    It depends on the three numbers alone, not on which or how many other shapes are made.

    Returns: vertices float64[V, 3] (millimetres or centimetres, as the theme says), no two in the
        same place; faces int32[F, 3], counter-clockwise seen from outside, every edge in exactly
        two of them.

    Raises:
        DataError: the program left no valid solid.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, class_index, index]))
    name = f"{CLASS_NAMES[class_index]} (seed {seed}, index {index})"
    solid = PROGRAMS[class_index](rng)
    # manifold3d reports trouble by status, never by exception.
    if solid.status() != Error.NoError or solid.is_empty():
        raise DataError(
            f"{name}: status {solid.status()}, {solid.num_tri()} faces; a valid solid is needed"
        )
    mesh = _weld(solid)
    edges = np.sort(
        np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]),
        axis=1,
    )
    _, uses = np.unique(edges, axis=0, return_counts=True)
    if not (uses == 2).all():
        raise DataError(
            f"{name}: {np.count_nonzero(uses != 2)} edges not shared by exactly two faces; a "
            "closed mesh is needed"
        )
    return mesh


def _weld(solid: Manifold) -> Mesh:
    """The triangles of a solid with corners that agree to a millionth of its size made one, lifted
    or lowered to z = 0.

    Booleans of aligned parts leave corners some 1e-9 apart with slivers between them. The mesh is
    closed only by its indices then, and falls apart in a program that joins corners by position, as
    every reader of STL does.
    """
    mesh = solid.to_mesh64()
    vertices = np.array(mesh.vert_properties[:, :3], dtype=np.float64)
    faces = np.array(mesh.tri_verts, dtype=np.int64)
    grid = np.linalg.norm(np.ptp(vertices, axis=0)) * 1e-6
    _, kept, joined = np.unique(
        np.round(vertices / grid).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    faces = joined.reshape(-1)[faces]
    faces = faces[
        (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    ]

    # What is left of a sliver can be a face and its mirror image back to back: they cancel.
    corner = faces.argmin(axis=1)
    turned = np.stack([faces[np.arange(len(faces)), (corner + i) % 3] for i in range(3)], axis=1)
    side = np.where(turned[:, 1] < turned[:, 2], 1, -1)
    triples, same = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    net = np.bincount(same.reshape(-1), weights=side, minlength=len(triples))
    faces = faces[net[same.reshape(-1)] != 0]

    used, faces = np.unique(faces, return_inverse=True)
    vertices = vertices[kept][used]
    return Mesh(vertices - [0.0, 0.0, vertices[:, 2].min()], faces.reshape(-1, 3).astype(np.int32))
