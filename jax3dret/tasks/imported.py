"""Somebody else's point encoder as it came: it embeds, and nothing here trains it.

`jax3dret weights import` writes a folder whose config names this task, so that `jax3dret index
--weights DIR` opens it as it opens a run of one's own. To train from it, give the folder to a run
as config.checkpoint.init_from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Float

from jax3dret.core import config as configs
from jax3dret.core.types import Batch, Model, PyTree
from jax3dret.tasks.encoder import embedder, encoder_model

# Red, green and blue of a shape without colours. Encoders that read colour saw half of their
# training clouds in this grey.
GREY = 0.4
DISTANCE = "cosine"


def defaults() -> ml_collections.ConfigDict:
    """The spine's defaults, and what an import adds."""
    config = configs.spine()
    config.task = "jax3dret.tasks.imported"
    config.model = {"name": "jax3dret.models.pointbert:PointBert"}
    config.data.num_points = 8192
    return config


def model(config: configs.Config, class_names: Sequence[str]) -> Model:
    """The encoder alone, of clouds [B, N, 3] whatever it reads beside; a projection or head of the
    file stays behind.
    """
    del class_names
    encoder = config.model.build()
    channels = max(getattr(encoder, "in_channels", 3), 3)
    plain = embedder(encoder)

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> Mapping[str, jax.Array]:
        return plain(params, model_state, {"points": coloured(batch["points"], channels)})

    num_points = config.data.num_points
    return encoder_model(encoder, num_points, DISTANCE, embed=embed, channels=channels)


def coloured(points: Float[Array, "B N C"], channels: int) -> Float[Array, "B N D"]:
    """The cloud with as many channels as the encoder reads; what is missing of red, green and blue
    becomes GREY.
    """
    missing = channels - points.shape[-1]
    if missing <= 0:
        return points
    grey = jnp.full((*points.shape[:2], missing), GREY, points.dtype)
    return jnp.concatenate([points, grey], -1)
