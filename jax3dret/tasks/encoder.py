"""An encoder and its head as the functions of a Task: initial values, a training pass, the
embedding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax3dret.core import rng
from jax3dret.core.types import Array, Batch, Model, PyTree
from jax3dret.inputs.points import Points

STREAMS = ("fps", "drop_path", "dropout")


def initializer(
    encoder: nn.Module, head: nn.Module, inputs: str
) -> Callable[[jax.Array, Batch], tuple[PyTree, PyTree]]:
    """init: (key, batch) -> (params, model_state), each {"encoder", "head"}, from two rows of
    batch[inputs].
    """

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        first, second = jax.random.split(key)
        sample = batch[inputs][:2]
        variables = encoder.init(first, sample)
        embedding = jnp.zeros((sample.shape[0], encoder.embedding_dim), jnp.float32)
        head_variables = head.init(second, embedding)
        params = {"encoder": variables["params"], "head": head_variables["params"]}
        return params, {
            "encoder": variables.get("batch_stats", {}),
            "head": head_variables.get("batch_stats", {}),
        }

    return init


def train_pass(
    module: nn.Module, params: PyTree, state: PyTree, inputs: Any, key: jax.Array, name: str
) -> tuple[Any, PyTree]:
    """The module's output in training and its updated statistics; the random streams are its own,
    under the name of the pass.
    """
    rngs = {stream: rng.stream(key, f"{name}/{stream}") for stream in STREAMS}
    out: Any
    out, updated = module.apply(
        {"params": params, "batch_stats": state},
        inputs,
        train=True,
        rngs=rngs,
        mutable=["batch_stats"],
    )
    return out, updated.get("batch_stats", {})


def embedder(
    encoder: nn.Module, inputs: str = "points"
) -> Callable[[PyTree, PyTree, Batch], dict[str, jax.Array]]:
    """embed: (params, model_state, batch) -> {"shape": the encoder's output, float32 [B, D]}; the
    head is left out.
    """

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        variables = {"params": params["encoder"], "batch_stats": model_state["encoder"]}
        # Used only where evaluation starts its sampling at random; one key, so that an embedding is
        # repeatable.
        rngs = {"fps": jax.random.key(0)}
        embedding: Any = encoder.apply(variables, batch[inputs], train=False, rngs=rngs)
        return {"shape": embedding.astype(jnp.float32)}

    return embed


def encoder_model(
    encoder: nn.Module,
    num_points: int,
    distance: Any,
    embed: Callable[[PyTree, PyTree, Batch], Mapping[str, Array]] | None = None,
    channels: int = 3,
) -> Model:
    """What embeds clouds with an encoder alone, whatever it was trained with. embed: other than
    `embedder`'s; channels: of the clouds that the encoder itself reads.
    """

    def init(key: jax.Array) -> PyTree:
        variables = encoder.init(key, jnp.zeros((2, num_points, channels)))
        return {
            "params": {"encoder": variables["params"]},
            "model_state": {"encoder": variables.get("batch_stats", {})},
        }

    return Model(
        init=init,
        embed=from_variables(embed or embedder(encoder)),
        inputs={"shape": Points(num_points)},
        width=int(encoder.embedding_dim),  # type: ignore[attr-defined]
        distance=distance,
    )


def from_variables(task_embed: Callable[[PyTree, PyTree, Batch], Mapping[str, Array]]) -> Any:
    """The embedding of a task as a model has it: (variables, batch) instead of (params,
    model_state, batch).
    """
    return functools.partial(_of_variables, task_embed)


def _of_variables(
    embed: Callable[[PyTree, PyTree, Batch], Mapping[str, Array]], variables: PyTree, batch: Batch
) -> Mapping[str, Array]:
    return embed(variables["params"], variables["model_state"], batch)
