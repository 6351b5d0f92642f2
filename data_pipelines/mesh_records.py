"""From mesh files to records: points with normals drawn from the surface, and the mesh, in one
normalised frame.

Shared by the builders whose raw data are meshes. The points of a shape depend on its id alone, so
two builds agree bit by bit, with one process or with several.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.core.workers import ordered_map
from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.meshes import load_mesh
from jax3dret.geometry.normalize import normalize_points
from jax3dret.geometry.sampling import sample_surface

NUM_POINTS = 16_000  # paper, section 4.4: "we sampled 16K points from each mesh"
# Records under way per process: enough to hide one slow file, few enough that a hundred large
# meshes fit into memory.
_AHEAD = 8


class MeshItem(NamedTuple):
    """One mesh to read. identity: its id, which also seeds its points. name: what the list of
    skipped files calls it.
    """

    path: pathlib.Path
    identity: str
    label: str
    name: str


def mesh_record(mesh: Mesh, identity: str, num_points: int) -> dict[str, Any]:
    """The record of one mesh without its label: the features of `records.shape_features` with
    normals and mesh.

    Points and vertices are moved to the mean of the points and divided by their largest distance
    from it; the seed is the id.

    Raises:
        DataError: the mesh has no surface, or float32 cannot hold its size.
    """
    seed = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "little")
    points, normals = sample_surface(mesh, num_points, np.random.default_rng(seed))
    normalised, centroid, scale = normalize_points(points)
    return {
        "id": identity,
        "points": normalised,
        "normals": normals.astype(np.float32),
        **_source_frame(centroid, scale),
        "vertices": ((mesh.vertices - centroid) / scale).astype(np.float32),
        "faces": mesh.faces,
    }


def cloud_record(points: np.ndarray, identity: str) -> dict[str, Any]:
    """The record of one stored cloud [N, 3] without its label: all its points in their order, no
    normals, no mesh.

    Raises: DataError: no points, one that is not finite, all in one place, or a size that float32
        cannot hold.
    """
    normalised, centroid, scale = normalize_points(points)
    return {"id": identity, "points": normalised, **_source_frame(centroid, scale)}


def _source_frame(centroid: np.ndarray, scale: float) -> dict[str, Any]:
    """What leads back to the source's frame. Raises DataError where float32 cannot hold it."""
    with np.errstate(over="ignore", under="ignore"):
        middle, size = centroid.astype(np.float32), np.float32(scale)
    if not (np.isfinite(middle).all() and 0 < size < np.inf):
        raise DataError(
            f"is {scale:.3g} large, {np.abs(centroid).max():.3g} from the origin; float32 cannot "
            "hold that"
        )
    return {"centroid": middle, "scale": size}


def mesh_examples(
    items: Iterable[MeshItem],
    *,
    skipped: list[dict[str, str]],
    num_points: int | None = None,
    jobs: int = 1,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, record) of every mesh that can be used, in the order of items; the others go to
    `skipped` with their reason.

    num_points: None means NUM_POINTS. jobs: processes that read and sample; the records do not
    depend on it.

    Raises:
        DataError: a process died, as happens when memory runs out; names the files it was at.
    """
    num_points = NUM_POINTS if num_points is None else num_points
    read = functools.partial(_read, num_points=num_points)
    outcomes = ordered_map(read, items, jobs=jobs, name=operator.attrgetter("path"), ahead=_AHEAD)
    for item, outcome in outcomes:
        if isinstance(outcome, str):
            skipped.append({"file": item.name, "reason": outcome})
        else:
            yield item.identity, {**outcome, "label": item.label}


def _read(item: MeshItem, num_points: int) -> tuple[MeshItem, dict[str, Any] | str]:
    """The record, or why there is none."""
    try:
        return item, mesh_record(load_mesh(item.path), item.identity, num_points)
    except DataError as error:
        return item, str(error).removeprefix(f"{item.path}: ")
