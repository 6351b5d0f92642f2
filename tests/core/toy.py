"""A small problem for the loop: regression with BatchNorm-like coupling or without, and data whose
position is a number.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax3dret.core.types import DataSpec, Recipe, Task
from jax3dret.tasks import affine

WIDTH, BATCH, RECORDS = 6, 8, 20


class ToyData:
    """Batch `n` is a function of (seed, n, arrays) alone; `poison` turns one into NaN.

    arrays: of a refresh: "shift" float64[RECORDS] is added to what is to be learned.
    """

    def __init__(self, seed=0, poison=-1, end=10**9, arrays=None):
        self.seed, self.poison, self.end, self.position = seed, poison, end, 0
        self.shift = (arrays or {}).get("shift", np.zeros(RECORDS))

    def __next__(self):
        if self.position >= self.end:
            raise StopIteration
        rng = np.random.default_rng([self.seed, self.position])
        x = rng.normal(size=(BATCH, WIDTH)).astype(np.float32)
        y = x.sum(1, keepdims=True) + 0.1 * rng.normal(size=(BATCH, 1)).astype(np.float32)
        rows = (self.position * BATCH + np.arange(BATCH)) % RECORDS
        y += self.shift[rows, None].astype(np.float32)
        if self.position == self.poison:
            x[0, 0] = np.nan
        self.position += 1
        return {"x": x, "y": y, "mask": np.ones(BATCH, bool)}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def refresh(embed, step):
    """What the model makes of fixed records, and integers that need 64 bits."""
    x = np.random.default_rng(1).normal(size=(RECORDS, WIDTH)).astype(np.float32)
    embedded = embed({"x": x})["shape"].astype(np.float64)
    return {"shift": embedded.mean(1) + 1e-12, "rank": np.arange(RECORDS) + 2**40}


def calibrate(embed):
    """The offset that centres the embeddings of fixed records, doubled by the matrix."""
    x = np.random.default_rng(2).normal(size=(RECORDS, WIDTH)).astype(np.float32)
    embedded = embed({"x": x})["shape"]
    width = embedded.shape[1]
    return {"shape": {"matrix": 2 * np.eye(width), "offset": -2 * embedded.mean(0)}}


def make_recipe(
    steps=12, *, coupled=True, width=8, evaluators=None, calibrates=False, kept=None, **more
):
    def init(key, batch):
        k1, k2 = jax.random.split(key)
        params = {
            "a": {"kernel": 0.3 * jax.random.normal(k1, (WIDTH, width))},
            "b": {"kernel": 0.3 * jax.random.normal(k2, (width, 1))},
        }
        fitted = {"map": {"shape": affine.identity(width, kept)}} if calibrates else {}
        return params, {"mean": jnp.zeros(width), **fitted}

    def hidden(params, batch):
        return jnp.tanh(batch["x"] @ params["a"]["kernel"])

    def loss(params, model_state, batch, key, step):
        h = hidden(params, batch)
        mean = h.mean(0)
        h = h - mean[None] if coupled else h
        h = h * jax.random.bernoulli(key, 0.9, h.shape) if coupled else h
        error = h @ params["b"]["kernel"] - batch["y"]
        value = jnp.mean(error**2)
        mean = 0.9 * model_state["mean"] + 0.1 * mean
        return value, ({**model_state, "mean": mean}, {"mse": value})

    def embed(params, model_state, batch):
        h = hidden(params, batch)
        return {"shape": affine.apply(model_state["map"]["shape"], h) if calibrates else h}

    spec = lambda *shape, dtype=jnp.float32: jax.ShapeDtypeStruct(shape, dtype)  # noqa: E731
    example = {"x": spec(BATCH, WIDTH), "y": spec(BATCH, 1), "mask": spec(BATCH, dtype=jnp.bool_)}
    return Recipe(
        task=Task(init, loss, embed, batch_coupled=coupled),
        tx=optax.adamw(1e-2),
        train=DataSpec("toy", "train", BATCH),
        steps=steps,
        example=example,
        evaluators=evaluators or {},
        sharding=((r"a/kernel", (None, "fsdp")),),
        meta={"system": "toy"},
        calibrate=calibrate if calibrates else None,
        **more,
    )
