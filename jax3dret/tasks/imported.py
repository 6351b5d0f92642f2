"""Somebody else's point encoder as it came: it embeds, and nothing here trains it.

`jax3dret weights import` writes a folder whose config names this task, so that `jax3dret index --weights DIR` opens it
as it opens a run of one's own. To train from it, give the folder to a run as config.checkpoint.init_from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Array, Float

from jax3dret.core import config as configs
from jax3dret.core.types import Batch, ConfigError, DataSpec, Metrics, PyTree, Recipe, Task
from jax3dret.models.heads import ClassificationHead
from jax3dret.models.pointbert import PointProjection

# Red, green and blue of a shape without colours. Encoders that read colour saw half of their training clouds in this grey.
GREY = 0.4


def defaults() -> ml_collections.ConfigDict:
    """The spine's defaults, and what an import adds. latent_dim, classes: 0 where the file had no projection, no
    classifier."""
    config = configs.spine()
    config.task = "jax3dret.tasks.imported"
    config.model = {"name": "jax3dret.models.pointbert:PointBert"}
    config.data.num_points = 8192
    config.latent_dim = 0
    config.classes = 0
    config.hidden = ()
    return config


def make(config: configs.Config, open_source: Callable[[str], Any]) -> Recipe:
    """A recipe of no steps, whose task embeds clouds [B, N, 3]."""
    del open_source
    encoder = config.model.build()
    channels = getattr(encoder, "in_channels", 3)
    example = {"points": jax.ShapeDtypeStruct((1, config.data.num_points, 3), jnp.float32)}

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        variables = encoder.init(key, coloured(batch["points"], channels))
        params, state = (
            {"encoder": variables["params"]},
            {"encoder": variables.get("batch_stats", {})},
        )
        embedding = jnp.zeros((1, encoder.embedding_dim), jnp.float32)
        if config.latent_dim:
            params["projection"] = PointProjection(config.latent_dim).init(key, embedding)["params"]
        if config.classes:
            head = ClassificationHead(config.classes, tuple(config.hidden)).init(key, embedding)
            params["head"], state["head"] = head["params"], head.get("batch_stats", {})
        return params, state

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        raise ConfigError(
            "task jax3dret.tasks.imported does not train; give its folder to a run as config.checkpoint.init_from"
        )

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        variables = {"params": params["encoder"], "batch_stats": model_state["encoder"]}
        # Used only where evaluation starts its sampling at random; one key, so that an embedding is repeatable.
        rngs = {"fps": jax.random.key(0)}
        embedding: Any = encoder.apply(
            variables, coloured(batch["points"], channels), train=False, rngs=rngs
        )
        return {"shape": embedding.astype(jnp.float32)}

    return Recipe(
        task=Task(init, loss, embed),
        tx=optax.identity(),
        train=DataSpec(config.data.name, config.train.split, 1),
        steps=0,
        example=example,
    )


def coloured(points: Float[Array, "B N C"], channels: int) -> Float[Array, "B N D"]:
    """The cloud with as many channels as the encoder reads; what is missing of red, green and blue becomes GREY."""
    missing = channels - points.shape[-1]
    return (
        jnp.concatenate([points, jnp.full((*points.shape[:2], missing), GREY, points.dtype)], -1)
        if missing > 0
        else points
    )
