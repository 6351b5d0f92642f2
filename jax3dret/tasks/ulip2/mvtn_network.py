"""MVTN's parts as one network: cameras from the cloud, pictures from the cameras, a descriptor from
the pictures.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax3dret.core import checkpoint, rng
from jax3dret.core.types import (
    Batch,
    Metrics,
    PyTree,
    Task,
)
from jax3dret.data.images import Normalisation
from jax3dret.models.mvtn import Mvtn, Views, base_views
from jax3dret.models.pool import max_pool
from jax3dret.ops.soft_render import camera_axes
from jax3dret.tasks.encoder import STREAMS
from jax3dret.weights.importing import load_imported

# Azimuth 0 of the published frame, +z, is a quarter turn before +x, the renderer's.
QUARTER = 90.0


@dataclasses.dataclass(frozen=True)
class Network:
    """The parts, and how they follow each other; holds no arrays.

    top: the graph network (graph True) or the head. render: (batch, views, light or None) ->
    pictures [B, V, S, S, 3].
    random_light: whether training draws the light. loss: (logits=..., scores=..., labels=...,
    mask=...), scores of a graph.
    weights: imported ones of the CNN, or empty. normalisation: of the pictures that go into it.
    """

    mvtn: Mvtn
    cnn: nn.Module
    top: nn.Module
    graph: bool
    render: Callable[[Batch, Views, jax.Array | None], jax.Array]
    random_light: bool
    loss: Callable[..., Any]
    weights: str
    normalisation: Normalisation
    description: Mapping[str, Any]

    @property
    def embedding_dim(self) -> int:
        """Width of the descriptor."""
        return int((self.top if self.graph else self.cnn).embedding_dim)  # type: ignore[attr-defined]

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Parameters and statistics by part; fixed views have none."""
        keys = jax.random.split(key, 3)
        two = {name: value[:2] for name, value in batch.items()}
        made = {"mvtn": self.mvtn.init(keys[0], two["points"])} if self.mvtn.learned else {}
        views = self.mvtn.num_views
        # The size of a picture changes no parameter.
        made["cnn"] = self._start(
            dict(self.cnn.init(keys[1], jnp.zeros((2, 32, 32, 3), jnp.float32)))
        )
        width: int = self.cnn.embedding_dim  # type: ignore[attr-defined]
        if self.graph:
            features, cameras = (
                jnp.zeros((2, views, width), jnp.float32),
                jnp.eye(views, 3)[None] + jnp.zeros((2, 1, 1)),
            )
            made["gcn"] = self.top.init(keys[2], features, cameras, method="outputs")
        else:
            made["head"] = self.top.init(keys[2], jnp.zeros((2, width), jnp.float32))
        return (
            {name: variables["params"] for name, variables in made.items()},
            {name: variables.get("batch_stats", {}) for name, variables in made.items()},
        )

    def _start(self, fresh: dict[str, PyTree]) -> dict[str, PyTree]:
        """The CNN's imported variables, if any are named. Raises ConfigError where they are another
        network's.
        """
        if not self.weights:
            return fresh
        loaded, source = (
            load_imported(pathlib.Path(self.weights))[1],
            f"config.cnn_weights={self.weights}",
        )
        return {
            key: checkpoint.match_params(wanted, loaded.get(key, {}), source=source)[0]
            for key, wanted in fresh.items()
        }

    def run(
        self,
        params: PyTree,
        state: PyTree,
        batch: Batch,
        key: jax.Array | None = None,
        *,
        frozen: bool = False,
    ) -> tuple[Any, Views, PyTree]:
        """What the last part says, the views, and the new statistics. key: of a training pass; None
        in evaluation.

        What the last part says is ViewGCN's output, or (descriptor, logits). frozen: no gradient to
        the views.
        """
        train, updated = key is not None, dict(state)

        def apply(name: str, module: nn.Module, *inputs: Any, **kwargs: Any) -> Any:
            variables = {"params": params.get(name, {}), "batch_stats": state.get(name, {})}
            # In evaluation one key: where a module draws there, an embedding is repeatable all the
            # same.
            source = jax.random.key(0) if key is None else rng.stream(key, name)
            rngs = {stream: rng.stream(source, stream) for stream in STREAMS}
            if not train:
                return module.apply(variables, *inputs, train=False, rngs=rngs, **kwargs)
            out, changed = module.apply(
                variables, *inputs, train=True, rngs=rngs, mutable=["batch_stats"], **kwargs
            )
            if name in updated:
                updated[name] = changed.get("batch_stats", {})
            return out

        views: Views = apply("mvtn", self.mvtn, batch["points"])
        if frozen:
            views = Views(*(jax.lax.stop_gradient(value) for value in views))
        light = None
        if key is not None and self.random_light:
            light = jax.random.normal(rng.stream(key, "light"), (batch["points"].shape[0], 3))
        mean, std = (jnp.asarray(values) for values in self.normalisation)
        pictures = self.render(batch, views, light)
        pictures = (pictures - mean[None, None, None, None]) / std[None, None, None, None]
        features = apply("cnn", self.cnn, pictures.reshape(-1, *pictures.shape[2:]))
        features = features.reshape(*views.azimuth.shape, -1).astype(jnp.float32)
        if self.graph:
            return (
                apply("gcn", self.top, features, camera_positions(views), method="outputs"),
                views,
                updated,
            )
        pooled = max_pool(features)
        # An embedding needs no head, and a model that only embeds has none.
        logits = apply("head", self.top, pooled) if "head" in params else None
        return (pooled, logits), views, updated


def camera_positions(views: Views) -> jax.Array:
    """Where the cameras stand, [B, V, 3], in the frame of the shape, y up."""
    toward = camera_axes(views.azimuth - QUARTER, views.elevation, "y")[..., 2, :]
    return toward * views.distance[..., None]


def mvtn_task(network: Network, *, frozen: bool = False) -> Task:
    """Cross-entropy of the whole pipeline; the descriptor is the embedding. frozen: the views get
    no gradient.
    """

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del step
        out, views, state = network.run(params, model_state, batch, key, frozen=frozen)
        labels, mask = batch["label"], batch["mask"]
        if network.graph:
            logits = out.logits
            value, metrics = network.loss(
                logits=logits, scores=out.scores, labels=labels, mask=mask
            )
        else:
            logits = out[1]
            value, metrics = network.loss(logits=logits, labels=labels, mask=mask), {}
        right = (jnp.argmax(logits, -1) == labels) & mask
        metrics = {
            **metrics,
            "accuracy": (right.sum() / jnp.maximum(mask.sum(), 1)).astype(jnp.float32),
        }
        if network.mvtn.learned:
            moved = _moved(network.mvtn, views)
            metrics |= {"azimuth_moved": moved[0], "elevation_moved": moved[1]}
        return value, (state, metrics)

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        out, _, _ = network.run(params, model_state, batch)
        return {"shape": out[0].astype(jnp.float32)}

    return Task(network.init, loss, embed, batch_coupled=True)


def _moved(mvtn: Mvtn, views: Views) -> tuple[jax.Array, jax.Array]:
    """Mean distance of azimuth and elevation from where they start, degrees."""
    start = base_views(mvtn.views, mvtn.num_views, mvtn.elevation)
    azimuth, elevation = (angles[None] for angles in start)
    return jnp.abs(views.azimuth - azimuth).mean(), jnp.abs(views.elevation - elevation).mean()
