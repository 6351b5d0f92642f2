"""The train step of a recipe, its state, and its embedding function, sharded over a mesh of
devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax3dret.core import rng, sharding
from jax3dret.core.types import (
    Batch,
    ConfigError,
    EmbedFn,
    Metrics,
    PyTree,
    Recipe,
    Task,
    TrainState,
)


def abstract_state(recipe: Recipe, seed: int) -> PyTree:
    """The TrainState of a recipe as shapes and dtypes; costs no memory."""
    return jax.eval_shape(lambda: _initial_state(recipe, rng.stream(seed, "init")))


def make_state(recipe: Recipe, mesh: Mesh, seed: int) -> tuple[TrainState, PyTree]:
    """Initial state, born sharded, and its shardings."""
    shardings = sharding.state_shardings(abstract_state(recipe, seed), recipe.sharding, mesh)
    init = jax.jit(
        lambda: _initial_state(recipe, rng.stream(seed, "init")), out_shardings=shardings
    )
    return init(), shardings


def make_step(
    recipe: Recipe, seed: int, accumulate: int = 1
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The train step, a pure function (state, global batch) -> (state, metrics), not yet jitted.

    Raises:
        ConfigError: accumulation is asked of a task whose loss couples the items of a batch.
    """
    task = recipe.task
    if accumulate > 1 and task.batch_coupled:
        raise ConfigError(
            f"config.train.accumulate={accumulate}: this task's loss couples the items of a batch "
            "(BatchNorm, VICReg, contrastive "
            "terms), so the mean over micro-batches is a different objective; use more devices, a "
            "smaller batch_size, "
            "config.model.remat=true or config.model.dtype=bfloat16"
        )

    def loss_and_grads(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Any:
        (loss, (model_state, metrics)), grads = jax.value_and_grad(task.loss, has_aux=True)(
            params, model_state, batch, key, step
        )
        return grads, model_state, {"loss": loss, **metrics}

    def accumulated(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Any:
        parts = {
            k: v.reshape(accumulate, v.shape[0] // accumulate, *v.shape[1:])
            for k, v in batch.items()
        }

        def one(carry: tuple[PyTree, PyTree], part: tuple[jax.Array, Batch]) -> Any:
            total, model_state = carry
            index, micro = part
            grads, model_state, metrics = loss_and_grads(
                params, model_state, micro, jax.random.fold_in(key, index), step
            )
            return (jax.tree.map(jnp.add, total, grads), model_state), metrics

        zeros = jax.tree.map(jnp.zeros_like, params)
        (total, model_state), metrics = jax.lax.scan(
            one, (zeros, model_state), (jnp.arange(accumulate), parts)
        )
        mean = jax.tree.map(lambda g: g / accumulate, total)
        return mean, model_state, jax.tree.map(lambda m: m.mean(0), metrics)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = rng.stream(seed, "train", state.step)
        compute = accumulated if accumulate > 1 else loss_and_grads
        grads, model_state, metrics = compute(
            state.params, state.model_state, batch, key, state.step
        )
        updates, opt_state = recipe.tx.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), state.params, updates)
        norm = jnp.sqrt(
            sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(grads))
        )
        return TrainState(state.step + 1, params, model_state, opt_state), {
            **metrics,
            "grad_norm": norm,
        }

    return step


def make_embed(task: Task, params: PyTree, model_state: PyTree, mesh: Mesh) -> EmbedFn:
    """Closes `task.embed` over a model: a host batch in, the embeddings of the whole global batch
    out as NumPy float32.

    Any number of rows will do: each process fills its own up to a multiple of its devices, and the
    filling is dropped again.
    """
    compiled = jax.jit(task.embed, out_shardings=sharding.replicated(mesh))

    def embed(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = len(next(iter(batch.values())))
        spare = -rows % len(mesh.local_devices)
        filled = {
            k: np.pad(v, [(0, spare)] + [(0, 0)] * (v.ndim - 1), mode="edge")
            for k, v in batch.items()
        }
        out = compiled(params, model_state, sharding.put_batch(filled, mesh))
        return {key: of_batch(np.asarray(value, np.float32), rows) for key, value in out.items()}

    def of_batch(values: np.ndarray, rows: int) -> np.ndarray:
        by_process = values.reshape(jax.process_count(), -1, *values.shape[1:])
        return by_process[:, :rows].reshape(-1, *values.shape[1:])

    return embed


def _initial_state(recipe: Recipe, key: jax.Array) -> TrainState:
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in recipe.example.items()}
    params, model_state = recipe.task.init(key, batch)
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, recipe.tx.init(params))
