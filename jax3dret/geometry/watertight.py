"""A closed surface around any triangles: the Manifold remesh of point-cloud-utils, an optional
package.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from jax3dret.core.types import ConfigError
from jax3dret.geometry.mesh import Mesh

# Leaves of the octree that the surface is put together of; the package's own default. A leaf of a
# shape in the unit sphere is about a hundredth wide.
RESOLUTION = 20_000


def available() -> bool:
    """Whether point-cloud-utils is installed."""
    return importlib.util.find_spec("point_cloud_utils") is not None


def watertight(mesh: Mesh, *, resolution: int = RESOLUTION) -> Mesh:
    """A closed, oriented surface around the triangles: what can be reached from outside stays
    outside (Huang et al., "Robust Watertight Manifold Surface Generation", 2018). A sheet becomes a
    plate about two leaves thick. The same input gives the same mesh.

    Raises ConfigError: point-cloud-utils is not installed.
    """
    try:
        import point_cloud_utils
    except ImportError as error:
        raise ConfigError(
            f"a watertight remesh needs point-cloud-utils ({error}): pip install "
            "'jax3dret[watertight]', or take sign='winding'"
        ) from None
    vertices, faces = point_cloud_utils.make_mesh_watertight(
        np.ascontiguousarray(mesh.vertices, np.float64),
        np.ascontiguousarray(mesh.faces, np.int32),
        resolution,
        seed=0,
    )
    return Mesh(np.asarray(vertices, np.float64), np.asarray(faces, np.int32))
