"""From mesh files to records: points with normals drawn from the surface, and the mesh, in one normalised frame.

Shared by the builders whose raw data are meshes. The points of a shape depend on its id alone, so two builds agree bit by bit,
with one process or with several.
"""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import multiprocessing
import pathlib
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.geometry.meshes import Mesh, load_mesh, normalize_points
from jax3dret.geometry.sampling import sample_surface

NUM_POINTS = 16_000  # paper, section 4.4: "we sampled 16K points from each mesh"
# Records under way per process: enough to hide one slow file, few enough that a hundred large meshes fit into memory.
_AHEAD = 8


class MeshItem(NamedTuple):
    """One mesh to read. identity: its id, which also seeds its points. name: what the list of skipped files calls it."""

    path: pathlib.Path
    identity: str
    label: str
    name: str


def mesh_record(mesh: Mesh, identity: str, num_points: int) -> dict[str, Any]:
    """The record of one mesh without its label: the features of `records.shape_features` with normals and mesh.

    Points and vertices are moved to the mean of the points and divided by their largest distance from it; the seed is the id.

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
    """The record of one stored cloud [N, 3] without its label: all its points in their order, no normals, no mesh.

    Raises:
        DataError: no points, one that is not finite, all in one place, or a size that float32 cannot hold.
    """
    normalised, centroid, scale = normalize_points(points)
    return {"id": identity, "points": normalised, **_source_frame(centroid, scale)}


def _source_frame(centroid: np.ndarray, scale: float) -> dict[str, Any]:
    """What leads back to the source's frame. Raises DataError where float32 cannot hold it."""
    with np.errstate(over="ignore", under="ignore"):
        middle, size = centroid.astype(np.float32), np.float32(scale)
    if not (np.isfinite(middle).all() and 0 < size < np.inf):
        raise DataError(
            f"is {scale:.3g} large, {np.abs(centroid).max():.3g} from the origin; float32 cannot hold that"
        )
    return {"centroid": middle, "scale": size}


def mesh_examples(
    items: Iterable[MeshItem],
    *,
    skipped: list[dict[str, str]],
    num_points: int | None = None,
    jobs: int = 1,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, record) of every mesh that can be used, in the order of items; the others go to `skipped` with their reason.

    num_points: None means NUM_POINTS. jobs: processes that read and sample; the records do not depend on it.

    Raises:
        DataError: a process died, as happens when memory runs out.
    """
    num_points = NUM_POINTS if num_points is None else num_points
    for item, outcome in _outcomes(items, num_points, jobs):
        if isinstance(outcome, str):
            skipped.append({"file": item.name, "reason": outcome})
        else:
            yield item.identity, {**outcome, "label": item.label}


def _outcomes(
    items: Iterable[MeshItem], num_points: int, jobs: int
) -> Iterator[tuple[MeshItem, dict[str, Any] | str]]:
    if jobs <= 1:
        for item in items:
            yield item, _read(item, num_points)
        return
    waiting: collections.deque[tuple[MeshItem, concurrent.futures.Future[dict[str, Any] | str]]] = (
        collections.deque()
    )
    # Spawned, not forked: the parent may have threads of JAX and of the record writer.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(_read, item, num_points)))
                if len(waiting) >= _AHEAD * jobs:
                    yield _taken(waiting)
            while waiting:
                yield _taken(waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _taken(
    waiting: collections.deque[tuple[MeshItem, concurrent.futures.Future[dict[str, Any] | str]]],
) -> tuple[MeshItem, dict[str, Any] | str]:
    item, future = waiting.popleft()
    try:
        return item, future.result()
    except BrokenProcessPool:
        raise DataError(
            f"{item.path}: a process died while reading it or a file near it (out of memory?); use fewer jobs"
        ) from None


def _read(item: MeshItem, num_points: int) -> dict[str, Any] | str:
    """The record, or why there is none."""
    try:
        return mesh_record(load_mesh(item.path), item.identity, num_points)
    except DataError as error:
        return str(error).removeprefix(f"{item.path}: ")
