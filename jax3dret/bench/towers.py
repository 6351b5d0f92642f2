"""EfficientNet-Lite0 and MiniLM against their PyTorch implementations, both on this machine and
with the same weights.

16 pictures of 224 pixels, features and logits; 16 texts of 32 tokens, unit vectors; float32. The
baselines are the packages efficientnet-lite-pytorch and transformers. The two sides take turns, so
that a machine that slows down slows both. PyTorch runs on the CPU with as many threads as there are
cores; so does JAX, unless it finds an accelerator, and then the ratio compares two devices.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.bench.paired_timing import compare
from jax3dret.core.types import ConfigError
from jax3dret.models.efficientnet_lite import lite0
from jax3dret.models.minilm import MiniLm
from jax3dret.weights import packages
from jax3dret.weights.importing import open_weights

BATCH, SIZE, TOKENS, CLASSES = 16, 224, 32, 1000
NEEDED = (
    "the PyTorch baseline needs PyTorch, efficientnet-lite-pytorch and transformers: pip install "
    "'jax3dret[bench]'"
)


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """One entry for each tower: name, ours, baseline, baseline_name, ratio = ours / baseline, unit.

    Times are medians of `repeats` calls after one warm-up call, in seconds for the whole batch.
    Raises ConfigError without PyTorch, or a package of weights, with the command that installs it.
    """
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    tokens = rng.integers(1000, 30000, (BATCH, TOKENS), np.int32)
    baselines = _torch_towers(pictures, tokens)
    ours = {"EfficientNet-Lite0": _lite0(pictures), "MiniLM": _minilm(tokens)}
    return [
        compare(f"{name} {BATCH}", ours[name], package, run, repeats=repeats)
        for name, (package, run) in baselines.items()
    ]


def _lite0(pictures: np.ndarray) -> Callable[[], Any]:
    model = lite0(num_classes=CLASSES)
    variables = jax.device_put(open_weights(model.package).variables)
    images = jnp.asarray(pictures)
    run = jax.jit(lambda variables, images: model.apply(variables, images, method="outputs")[1:])
    return lambda: jax.block_until_ready(run(variables, images))


def _minilm(tokens: np.ndarray) -> Callable[[], Any]:
    model = MiniLm()
    variables = jax.device_put({"params": open_weights(model.package).variables["params"]})
    ids, mask = jnp.asarray(tokens), jnp.ones(tokens.shape, bool)
    run = jax.jit(model.apply)
    return lambda: jax.block_until_ready(run(variables, ids, mask))


def _torch_towers(
    pictures: np.ndarray, tokens: np.ndarray
) -> dict[str, tuple[str, Callable[[], Any]]]:
    try:
        import torch
        from efficientnet_lite_pytorch import EfficientNet
        from transformers import BertModel
    except ImportError as error:
        raise ConfigError(NEEDED) from error
    torch.set_num_threads(os.cpu_count() or 1)
    lite, sentences = packages.find(lite0().package), packages.find(MiniLm().package)
    assert lite is not None and sentences is not None  # both are known, so find raises
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(lite.path)).eval()
    bert = BertModel.from_pretrained(str(sentences.path.parent), add_pooling_layer=False).eval()
    images = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    ids = torch.from_numpy(tokens).long()
    mask = torch.ones_like(ids)

    def see():
        with torch.no_grad():
            network(images)

    def read():
        with torch.no_grad():
            states = bert(ids, attention_mask=mask).last_hidden_state
            torch.nn.functional.normalize(states.mean(1), dim=-1)

    return {
        "EfficientNet-Lite0": ("efficientnet-lite-pytorch", see),
        "MiniLM": ("transformers", read),
    }
