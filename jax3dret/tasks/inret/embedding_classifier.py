"""The classifier of frozen embeddings that Category-Chamfer asks for a query's class.

INRet, section 11.3, with the settings of inr2vec's own classifier: two hidden layers with
BatchNorm and dropout, AdamW under a one-cycle schedule, the batch doubled by E-Stitchup, and the
weights of the epoch that does best on held-out embeddings. A few hundred steps over embeddings that
are in memory: one compiled program.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Float, Int

from jax3dret.core import rng
from jax3dret.core.optim import make_optimizer
from jax3dret.core.types import ConfigError, DataError, PyTree
from jax3dret.data.stitchup import stitchup
from jax3dret.losses.classification import cross_entropy
from jax3dret.models.heads import ClassificationHead

Logits = Callable[[Float[np.ndarray, "B D"]], Float[np.ndarray, "B C"]]


@dataclasses.dataclass(frozen=True)
class ClassifierSpec:
    """How the classifier is trained; the defaults are inr2vec's.

    batch: at most so many embeddings a step, before E-Stitchup. stitched: whether the batch is
    doubled by it. held_out: share of each class, at least one of it, that chooses the epoch; 0: the
    last epoch's weights.
    """

    hidden: tuple[int, ...] = (512, 256)
    dropout: float = 0.5
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    epochs: int = 150
    batch: int = 256
    stitched: bool = True
    held_out: float = 0.1


def train_classifier(
    embeddings: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    classes: int,
    *,
    spec: ClassifierSpec | None = None,
    seed: int = 0,
) -> Logits:
    """A function of embeddings that gives their logits, trained on these.

    The N embeddings are dealt anew each epoch into batches of equal size; the few that are left
    over, fewer than there are batches, sit the epoch out. A class of one embedding is never held
    out.

    Raises: ConfigError: a setting out of range. DataError: fewer than two classes or four
        embeddings, a label outside 0..classes-1, or a value that is not finite.
    """
    spec = spec or ClassifierSpec()
    _check(spec, embeddings, labels, classes)
    held = _held_out(labels, spec.held_out, seed)
    head = ClassificationHead(classes, spec.hidden, spec.dropout)
    train = _trained(
        head,
        spec,
        jnp.asarray(embeddings[~held], jnp.float32),
        jnp.asarray(labels[~held], jnp.int32),
        # Without any that are held out no epoch is better than another, and the last one wins.
        jnp.asarray(embeddings[held], jnp.float32),
        jnp.asarray(labels[held], jnp.int32),
        rng.stream(seed, "embedding classifier"),
    )
    apply = jax.jit(lambda x: head.apply(train, x))
    return lambda x: np.asarray(apply(jnp.asarray(x, jnp.float32)))


def _held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool[N]: of each class that share, rounded, at least one; none of a class of one."""
    held = np.zeros(len(labels), bool)
    generator = rng.host_generator(seed, "embedding classifier, held out")
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if share and len(rows) > 1:
            count = min(max(1, round(share * len(rows))), len(rows) - 1)
            held[generator.permutation(rows)[:count]] = True
    return held


def _check(spec: ClassifierSpec, embeddings: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if min(spec.epochs, spec.batch - 1) < 1 or not 0 <= spec.held_out < 1:
        raise ConfigError(
            f"embedding classifier: epochs={spec.epochs}, batch={spec.batch}, held_out="
            f"{spec.held_out}; expected at least 1, at least 2, and a share below 1"
        )
    if len(labels) < 4 or len(np.unique(labels)) < 2:
        raise DataError(
            f"embedding classifier: {len(labels)} embeddings of {len(np.unique(labels))} classes; "
            "at least four of two are needed"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"embedding classifier: a label is outside of the {classes} classes")
    if (bad := ~np.isfinite(embeddings).all(1)).any():
        raise DataError(f"embedding classifier: embedding {int(bad.argmax())} is not finite")


@functools.partial(jax.jit, static_argnames=("head", "spec"))
def _trained(
    head: ClassificationHead,
    spec: ClassifierSpec,
    x: jax.Array,
    labels: jax.Array,
    held_x: jax.Array,
    held_labels: jax.Array,
    key: jax.Array,
) -> PyTree:
    """The variables after the best epoch."""
    number = math.ceil(len(x) / spec.batch)
    size = len(x) // number
    variables = head.init(rng.stream(key, "init"), x[:2])
    steps = spec.epochs * number
    optimizer = make_optimizer(
        variables["params"],
        steps=steps,
        steps_per_epoch=1,
        name="adamw",
        lr=spec.learning_rate,
        schedule="one_cycle",
        weight_decay=spec.weight_decay,
        beta1_cycle=True,
    )

    def step(carry: Any, at: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        params, statistics, state, number = carry
        rows, order = at
        own = rng.stream(key, "step", order)
        batch, of_batch = x[rows], labels[rows]
        counts = jnp.ones(of_batch.shape, bool)
        if spec.stitched:
            batch, of_batch, counts = stitchup(rng.stream(own, "stitchup"), batch, of_batch)

        def loss(params: PyTree) -> tuple[jax.Array, PyTree]:
            logits, changed = head.apply(
                {"params": params, "batch_stats": statistics},
                batch,
                train=True,
                rngs={"dropout": rng.stream(own, "dropout")},
                mutable=["batch_stats"],
            )
            return cross_entropy(logits, of_batch, mask=counts), changed.get("batch_stats", {})

        gradients, changed = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.tx.update(gradients, state, params)
        return (optax.apply_updates(params, updates), changed, state, number + 1), None

    def epoch(carry: Any, at: jax.Array) -> tuple[Any, None]:
        state, best, best_right = carry
        order = jax.random.permutation(rng.stream(key, "order", at), len(x))
        rows = order[: number * size].reshape(number, size)
        state, _ = lax.scan(step, state, (rows, at * number + jnp.arange(number)))
        now = {"params": state[0], "batch_stats": state[1]}
        logits: Any = head.apply(now, held_x)
        right = (jnp.argmax(logits, -1) == held_labels).sum()
        better = right > best_right if len(held_x) else jnp.bool_(True)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), now, best)
        return (state, best, jnp.maximum(right, best_right)), None

    made = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    start = (made["params"], made["batch_stats"], optimizer.tx.init(made["params"]), 0)
    (_, best, _), _ = lax.scan(epoch, (start, made, jnp.int32(-1)), jnp.arange(spec.epochs))
    return best
