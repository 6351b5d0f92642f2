"""Where a field is looked at while it is fitted: anywhere, near the surface and on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jax3dret.core.types import ConfigError
from jax3dret.geometry.mesh import Mesh, MeshError
from jax3dret.geometry.sampling import sample_surface

# inr2vec's pool: points of a cloud of this size on the surface, moved by a normal of each standard
# deviation, as many as beside it, and points anywhere in the domain.
INR2VEC_CLOUD = 100_000
INR2VEC_NEAR = ((0.003, 250_000), (0.01, 200_000), (0.1, 25_000))
INR2VEC_ANYWHERE = 25_000


class FieldSamples:
    """`count` points of an epoch: anywhere in [-1, 1]^3, uniform; near the surface, an
    area-weighted point of it moved by a normal of standard deviation sigma; on the surface.

    mesh: in the unit sphere. shares: of the three kinds, in this order. Nothing is held but the
    mesh: every epoch draws anew. Defaults are INRet's (section 5.1 and its source: sigma is a
    standard deviation, though its argument is called a variance). A point that leaves the domain is
    moved to its border.

    Raises:
        ConfigError: shares that are not three numbers of at least 0, all 0, or a sigma below 0.
        MeshError: a mesh that reaches out of the domain.
    """

    def __init__(
        self,
        mesh: Mesh,
        count: int = 500_000,
        shares: Sequence[float] = (1, 2, 2),
        sigma: float = 0.015,
    ):
        if len(shares) != 3 or min(shares) < 0 or not sum(shares) > 0:
            raise ConfigError(f"shares {tuple(shares)}: three numbers of at least 0, not all 0")
        if not 0 <= sigma < np.inf or count < 0:
            raise ConfigError(f"sigma={sigma}, count={count}: both are at least 0")
        _require_domain(mesh)
        self.mesh, self.count, self.sigma = mesh, count, sigma
        # Rounded down, and what is left to the largest remainders.
        exact = count * np.asarray(shares, np.float64) / sum(shares)
        counts = np.floor(exact).astype(int)
        left = count - int(counts.sum())
        counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
        self.anywhere, self.near, self.on = (int(n) for n in counts)

    def draw(self, rng: np.random.Generator) -> Float[np.ndarray, "N 3"]:
        """The points of one epoch, float32, in the order of the shares."""
        anywhere = rng.uniform(-1.0, 1.0, (self.anywhere, 3))
        surface, _ = sample_surface(self.mesh, self.near + self.on, rng)
        surface[: self.near] += self.sigma * rng.standard_normal((self.near, 3))
        return _in_domain(np.concatenate([anywhere, surface]))


def inr2vec_points(mesh: Mesh, rng: np.random.Generator) -> Float[np.ndarray, "N 3"]:
    """inr2vec's pool of 500,000 points of a mesh in the unit sphere, float32: 250,000, 200,000 and
    25,000 points of a surface cloud of 100,000, moved by normals of 0.003, 0.01 and 0.1, and 25,000
    anywhere in [-1, 1]^3 (De Luigi et al., ICLR 2023, its published code).

    Raises MeshError: a mesh that reaches out of the domain.
    """
    _require_domain(mesh)
    cloud, _ = sample_surface(mesh, INR2VEC_CLOUD, rng)
    parts = [
        cloud[np.resize(rng.permutation(len(cloud)), count)]
        + sigma * rng.standard_normal((count, 3))
        for sigma, count in INR2VEC_NEAR
    ]
    return _in_domain(np.concatenate([*parts, rng.uniform(-1.0, 1.0, (INR2VEC_ANYWHERE, 3))]))


def _require_domain(mesh: Mesh) -> None:
    vertices = np.asarray(mesh.vertices)[np.asarray(mesh.faces)]
    if vertices.size and not np.abs(vertices).max() <= 1 + 1e-6:
        raise MeshError(
            f"samples of a mesh that reaches to {np.abs(vertices).max():g}: fields live in "
            "[-1, 1]^3; bring it into the unit sphere first (geometry.unit_sphere)"
        )


def _in_domain(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return np.clip(points, -1.0, 1.0).astype(np.float32)
