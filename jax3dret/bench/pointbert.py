"""PointBERT at the size of ULIP-2 against the same network in plain PyTorch, both on this machine.

8 clouds of 8192 points, float32. `forward` is an embedding in evaluation, with the grouping;
`forward_backward` a training step without the optimizer: encoder, classification head,
cross-entropy, gradients of all parameters. The two sides take turns, so that a machine that slows
down slows both. PyTorch runs on the CPU with as many threads as there are cores; so does JAX,
unless it finds an accelerator, and then the ratio compares two devices.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.bench.paired_timing import compare
from jax3dret.losses.classification import cross_entropy
from jax3dret.models.heads import ClassificationHead
from jax3dret.models.pointbert import PointBert

CLOUDS, POINTS, CLASSES = 8, 8192, 40


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """One entry for `forward` and `forward_backward`: name, ours, baseline, baseline_name, ratio =
    ours / baseline, unit.

    Times are medians of `repeats` calls after one warm-up call, in seconds for all clouds. Raises
    ConfigError without PyTorch.
    """
    rng = np.random.default_rng(0)
    points = rng.normal(size=(CLOUDS, POINTS, 3))
    points *= rng.random((CLOUDS, POINTS, 1)) ** (1 / 3) / np.linalg.norm(
        points, axis=-1, keepdims=True
    )
    points, labels = points.astype(np.float32), np.arange(CLOUDS) % CLASSES
    baseline = _torch_steps(points, labels)
    return [
        compare(f"{name} {CLOUDS}x{POINTS}", step, "PyTorch", baseline[name], repeats=repeats)
        for name, step in _jax_steps(points, labels).items()
    ]


def _jax_steps(points: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    encoder, head = PointBert(), ClassificationHead(CLASSES)
    batch, targets = jnp.asarray(points), jnp.asarray(labels)
    # All of these are arguments of the compiled functions: a captured array would be a constant to
    # the compiler.
    keys = {name: jax.random.key(i) for i, name in enumerate(("fps", "drop_path", "dropout"))}
    variables = jax.jit(lambda key: encoder.init(key, batch))(jax.random.key(3))
    head_variables = head.init(jax.random.key(4), jnp.zeros((CLOUDS, encoder.embedding_dim)))
    params = (variables["params"], head_variables["params"])
    stats = (variables["batch_stats"], head_variables["batch_stats"])

    def loss(params, stats, batch, targets, keys):
        apply = {"train": True, "rngs": keys, "mutable": ["batch_stats"]}
        embedding, state = encoder.apply(
            {"params": params[0], "batch_stats": stats[0]}, batch, **apply
        )
        logits, head_state = head.apply(
            {"params": params[1], "batch_stats": stats[1]}, embedding, **apply
        )
        return cross_entropy(logits, targets), (state, head_state)

    embed = jax.jit(encoder.apply)
    gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return {
        "forward": lambda: jax.block_until_ready(embed(variables, batch)),
        "forward_backward": lambda: jax.block_until_ready(
            gradients(params, stats, batch, targets, keys)
        ),
    }


def _torch_steps(points: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    from jax3dret.bench.torch_pointbert import TorchClassifier, TorchPointBert, functional, torch

    torch.set_num_threads(os.cpu_count() or 1)
    model = TorchClassifier(TorchPointBert(), 768, CLASSES)
    batch, targets = torch.from_numpy(points), torch.from_numpy(labels)

    def forward():
        model.eval()
        with torch.no_grad():
            model.encoder(batch)

    def forward_backward():
        model.train()
        model.zero_grad()
        functional.cross_entropy(model(batch), targets).backward()

    return {"forward": forward, "forward_backward": forward_backward}
