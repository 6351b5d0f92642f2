"""MVTN: the places from which a shape is looked at, fixed or learned for each shape.

A PointNet reads the cloud, a small network turns its logits into an offset for every view, and a
differentiable renderer (`ops.soft_points`, `ops.soft_meshes`) draws the shape from there, so that
the gradient of the classification moves the cameras. Hamdi, Giancola, Ghanem, "MVTN: Multi-View
Transformation Network for 3D Shape Recognition", ICCV 2021; a view-based baseline of "ULIP-2
PointBERT fine-tuning for geometric object retrieval", Computers & Graphics 122 (2024) 103993 (12
views).

Angles are degrees in the published frame: y up, azimuth from +z towards +x. `azimuth - 90` is the
azimuth of `geometry.cameras` and of the renderer.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.core.types import ConfigError
from jax3dret.geometry import cameras
from jax3dret.models.layers import BatchNorm, Dense, LayerNorm, check_rate
from jax3dret.models.pointnet import PointNet

FIXED = ("circular", "spherical")
LEARNED = ("learned_circular", "learned_spherical", "learned_direct")


class Views(NamedTuple):
    """Where the cameras of each shape stand: degrees in the published frame, and the distance from
    the origin.
    """

    azimuth: Float[Array, "B V"]
    elevation: Float[Array, "B V"]
    distance: Float[Array, "B V"]


def base_views(
    views: str, num_views: int, elevation: float = 30.0
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Azimuth and elevation that an arrangement starts from, float32.

    "circular" is a ring at `elevation`; "learned_circular" starts from the same ring a quarter turn
    on, from -180; "spherical" and "learned_spherical" from equal-area rings, but with 4 views from
    the circular ones (published code); "learned_direct" from azimuth 0 and elevation 0.

    Raises ConfigError for another name, and where there is no such arrangement of `num_views`.
    """
    if views not in FIXED + LEARNED:
        raise ConfigError(f"MVTN: views='{views}'; expected one of {', '.join(FIXED + LEARNED)}")
    if num_views < 1:
        raise ConfigError(f"MVTN: num_views={num_views}; expected 1 or more")
    if views.endswith("spherical") and num_views != 4:
        azimuth, height = cameras.spherical_angles(num_views)
    elif views == "learned_direct":
        azimuth, height = np.zeros(num_views), np.zeros(num_views)
    else:
        azimuth, height = cameras.circular_angles(num_views, elevation)
        azimuth = azimuth + (90.0 if views in LEARNED else 0.0)
    return azimuth.astype(np.float32), height.astype(np.float32)


class ViewSelector(nn.Module):
    """Feature of a shape [B, F] -> its views. For fixed arrangements the feature's batch size is
    all that is read.

    Learned ones add an offset to the base: tanh of a network (Linear, BatchNorm, ReLU, dropout:
    widths F, F, 5 V, 2 V; then Linear 2 V) times 180 / V degrees of azimuth and 90 of elevation,
    for "learned_direct" 180 and 89.9. All but "learned_direct" read the base angles, in degrees,
    beside the feature. An elevation may pass beyond the pole.

    views, num_views, elevation: see `base_views`. distance: of every camera.
    dropout: draws from the "dropout" stream in training.

    Raises ConfigError as `base_views`, and in training with a single row (BatchNorm).
    """

    views: str = "learned_spherical"
    num_views: int = 12
    elevation: float = 30.0
    distance: float = 2.2
    dropout: float = 0.5

    @nn.compact
    def __call__(self, features: Float[Array, "B F"], train: bool = False) -> Views:
        check_rate(self.dropout, "MVTN: dropout")
        count = self.num_views
        shape = (features.shape[0], count)
        base = base_views(self.views, count, self.elevation)
        azimuth, elevation = (jnp.broadcast_to(jnp.asarray(angle), shape) for angle in base)
        distance = jnp.full(shape, self.distance, jnp.float32)
        if self.views in FIXED:
            return Views(azimuth, elevation, distance)
        direct = self.views == "learned_direct"
        width = features.shape[-1]
        x = features if direct else jnp.concatenate([features, azimuth, elevation], -1)
        for i, out in enumerate((width, width, 5 * count, 2 * count)):
            x = nn.relu(BatchNorm(not train, name=f"norm{i}")(Dense(out, name=f"linear{i}")(x)))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        offset = jnp.tanh(Dense(2 * count, name="linear4")(x))
        reach = (180.0, 89.9) if direct else (180.0 / count, 90.0)
        return Views(
            azimuth + reach[0] * offset[:, :count],
            elevation + reach[1] * offset[:, count:],
            distance,
        )


class Mvtn(nn.Module):
    """Clouds [B, N, 3], y up -> their views. Fixed arrangements have no parameters, and read the
    batch size alone.

    views, num_views, elevation, distance: see `ViewSelector`. features: how many logits its
    PointNet has.
    widths, fc, published_logits: see `PointNet`. dropout: of both.
    """

    views: str = "learned_spherical"
    num_views: int = 12
    elevation: float = 30.0
    distance: float = 2.2
    dropout: float = 0.5
    features: int = 40
    widths: tuple[int, ...] = (64, 128, 1024)
    fc: tuple[int, ...] = (512, 256)
    published_logits: bool = False

    @property
    def learned(self) -> bool:
        """Whether there is anything to learn."""
        return self.views in LEARNED

    @nn.compact
    def __call__(self, points: Float[Array, "B N 3"], train: bool = False) -> Views:
        if self.learned:
            pointnet = PointNet(
                self.features,
                self.widths,
                self.fc,
                published_logits=self.published_logits,
                dropout=self.dropout,
                name="pointnet",
            )
            features = pointnet(points, train).logits
        else:
            features = jnp.zeros((points.shape[0], 0), jnp.float32)
        return ViewSelector(
            self.views,
            self.num_views,
            self.elevation,
            self.distance,
            self.dropout,
            name="view_selector",
        )(features, train)


class LinearHead(nn.Module):
    """Descriptor [B, D] -> logits float32 [B, num_classes]: LayerNorm, then Dense (published code)."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B D"], train: bool = False) -> Float[Array, "B C"]:
        del train
        return Dense(self.num_classes, name="linear")(LayerNorm(name="norm")(x.astype("float32")))
