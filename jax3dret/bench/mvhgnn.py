"""MV-HGNN's graph encoder against the same network in plain PyTorch, both on this machine.

64 shapes, the positives and the other negatives of a step of 32 quadruplets, of 12 cached views
with 512 features each, float32. `forward` is an embedding in evaluation; `forward_backward` a
training step of the encoder without the optimizer: statistics of BatchNorm, dropout, the gradients
of all parameters for a fixed cotangent of the descriptor. The two sides take turns, so that a
machine that slows down slows both; but beside other work PyTorch's threads wait for each other far
longer than JAX's, so the machine should be quiet. PyTorch runs on the CPU with as many threads as
there are cores; so does JAX, unless it finds an accelerator, and then the ratio compares two
devices.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.bench.paired_timing import compare
from jax3dret.models.mvhgnn import MVHGNN

SHAPES, VIEWS, WIDTH = 64, 12, 512
# Calls that make one measurement: one alone is too short for a steady clock.
CALLS = 5


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """One entry for `forward` and `forward_backward`: name, ours, baseline, baseline_name, ratio =
    ours / baseline, unit.

    Times are medians of `repeats` measurements after a warm-up, in seconds for all shapes. Raises
    ConfigError without PyTorch.
    """
    rng = np.random.default_rng(0)
    # As a CNN's last layer gives them: not negative, many of them zero.
    features = np.maximum(rng.normal(size=(SHAPES, VIEWS, WIDTH)), 0).astype(np.float32)
    cotangent = rng.normal(size=(SHAPES, WIDTH)).astype(np.float32)
    azimuth = np.arange(VIEWS) * (2 * np.pi / VIEWS)
    ring = np.stack(
        [np.cos(azimuth), np.sin(azimuth), np.full(VIEWS, np.tan(np.pi / 6))], axis=-1
    ) * np.cos(np.pi / 6)
    baseline = _torch_steps(features, ring.astype(np.float32), cotangent)
    return [
        compare(
            f"{name} {SHAPES}x{VIEWS}x{WIDTH}",
            step,
            "PyTorch",
            baseline[name],
            repeats=repeats,
            calls=CALLS,
        )
        for name, step in _jax_steps(features, ring.astype(np.float32), cotangent).items()
    ]


def _jax_steps(
    features: np.ndarray, positions: np.ndarray, cotangent: np.ndarray
) -> dict[str, Callable[[], Any]]:
    model = MVHGNN()
    # All of these are arguments of the compiled functions: a captured array would be a constant to
    # the compiler.
    batch, cameras, target = jnp.asarray(features), jnp.asarray(positions), jnp.asarray(cotangent)
    variables = jax.jit(model.init)(jax.random.key(0), batch, cameras)
    key = jax.random.key(1)

    def loss(params, stats, batch, cameras, target, key):
        descriptor, state = model.apply(
            {"params": params, "batch_stats": stats},
            batch,
            cameras,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return jnp.sum(descriptor * target), state

    embed = jax.jit(model.apply)
    gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))
    params, stats = variables["params"], variables["batch_stats"]
    return {
        "forward": lambda: jax.block_until_ready(embed(variables, batch, cameras)),
        "forward_backward": lambda: jax.block_until_ready(
            gradients(params, stats, batch, cameras, target, key)
        ),
    }


def _torch_steps(
    features: np.ndarray, positions: np.ndarray, cotangent: np.ndarray
) -> dict[str, Callable[[], Any]]:
    from jax3dret.bench.torch_mvhgnn import TorchMVHGNN, torch

    torch.set_num_threads(os.cpu_count() or 1)
    model = TorchMVHGNN(WIDTH, VIEWS)
    batch, target = torch.from_numpy(features), torch.from_numpy(cotangent)
    cameras = torch.from_numpy(positions).expand(SHAPES, -1, -1)

    def forward():
        model.eval()
        with torch.no_grad():
            model(batch, cameras)

    def forward_backward():
        model.train()
        model.zero_grad()
        (model(batch, cameras) * target).sum().backward()

    return {"forward": forward, "forward_backward": forward_backward}
