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
    ConfigError,
    Metrics,
    PyTree,
    Task,
)
from jax3dret.data.images import Normalisation
from jax3dret.models.mvtn import Mvtn, Views, base_views
from jax3dret.models.pool import max_pool
from jax3dret.ops.soft_render import camera_axes
from jax3dret.tasks.encoder import STREAMS
from jax3dret.weights.importing import MARK, load_imported

# Azimuth 0 of the published frame, +z, is a quarter turn before +x, the renderer's.
QUARTER = 90.0


@dataclasses.dataclass(frozen=True)
class Network:
    """The parts, and how they follow each other; holds no arrays.

    top: the graph network (graph True) or the head; single: of every view for itself. render:
    (batch, views, light or None) -> pictures [B, V, S, S, 3].
    random_light: whether training draws the light. loss: (logits=..., scores=..., labels=...,
    mask=...), scores of a graph.
    weights: imported ones of the CNN, or empty. normalisation: of the pictures that go into it.
    pointnet: a folder of weights that the cameras' PointNet begins with, or empty.
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
    single: bool = False
    pointnet: str = ""

    @property
    def embedding_dim(self) -> int:
        """Width of the descriptor."""
        return int((self.top if self.graph else self.cnn).embedding_dim)  # type: ignore[attr-defined]

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Parameters and statistics by part; fixed views have none."""
        keys = jax.random.split(key, 3)
        two = {name: value[:2] for name, value in batch.items()}
        made: dict[str, Any] = {}
        if self.mvtn.learned:
            made["mvtn"] = self._start_pointnet(dict(self.mvtn.init(keys[0], two["points"])))
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

    def _start_pointnet(self, fresh: dict[str, PyTree]) -> dict[str, PyTree]:
        """The cameras' variables with the PointNet that was given, if any is named."""
        if not self.pointnet:
            return fresh
        loaded, source = load_pointnet(self.pointnet), f"config.pointnet_weights={self.pointnet}"
        return {
            key: {
                **wanted,
                "pointnet": checkpoint.match_params(
                    wanted["pointnet"], loaded.get(key, {}), source=source
                )[0],
            }
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

        What the last part says is ViewGCN's output, or (descriptor, logits), logits [B, V, C] of
        single views. frozen: no gradient to the views.
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
        logits = None
        if "head" in params:
            seen = features.reshape(-1, features.shape[-1]) if self.single else pooled
            logits = apply("head", self.top, seen)
            logits = logits.reshape(*features.shape[:2], -1) if self.single else logits
        return (pooled, logits), views, updated


def load_pointnet(folder: str) -> dict[str, PyTree]:
    """{"params", "batch_stats"} of the PointNet of imported MVTN, or of a run that trained one.

    Raises ConfigError where there is none.
    """
    path = pathlib.Path(folder)
    if (path / MARK).is_file():
        found = load_imported(path)[1]
    elif (path / checkpoint.FOLDER).is_dir():
        checkpoints = checkpoint.Checkpoints(path)
        try:
            model = checkpoints.raw_model()
        finally:
            checkpoints.close()
        found = {"params": model["params"], "batch_stats": model["model_state"]}
    else:
        raise ConfigError(
            f"config.pointnet_weights={folder}: neither imported weights (jax3dret weights import "
            "FILE --out DIR) nor the workdir of a run"
        )
    pointnet = {key: tree.get("mvtn", {}).get("pointnet") for key, tree in found.items()}
    if not pointnet.get("params"):
        raise ConfigError(
            f"config.pointnet_weights={folder}: holds no PointNet of learned MVTN cameras"
        )
    return pointnet


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
        right = jnp.argmax(logits, -1) == (labels[:, None] if network.single else labels)
        share = right.mean(1) if network.single else right
        accuracy = jnp.where(mask, share, 0).sum() / jnp.maximum(mask.sum(), 1)
        metrics = {**metrics, "accuracy": accuracy.astype(jnp.float32)}
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
