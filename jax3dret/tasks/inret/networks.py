"""The networks of INRet as a Task: an encoder for each kind of INR, and the decoder that trains
them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax3dret.core import rng
from jax3dret.core.types import Batch, ConfigError, Metrics, PyTree, Task, nearest
from jax3dret.losses import fields, unified_latent
from jax3dret.models.field_encoders import lattice
from jax3dret.models.field_encoders.inr_row import kinds_in, split_kind

# What `loss` weighs the alignment of two functions by; in this order in a config.
PAIRS = ("udf_sdf", "udf_occ", "sdf_occ")


@dataclasses.dataclass(frozen=True)
class Objective:
    """What the encoders are trained with: INRet, equation 4, each part on a switch.

    decoder: values that the decoder gives at points of the query pool are compared with the true
    ones. target: of which function, by one decoder for all kinds of INR (the unified decoder, which
    is itself a regularisation); "own": of the one that the INR is of, by the loss that the INR was
    fitted with and a decoder for each kind (inr2vec, and INRet without its unified decoder, section
    5.6).
    norm: "l1" or "l2"; empty: l2 for sdf, else l1. clamp: of distances, as in a fit; 0: none.
    alignment: embeddings of the functions (and architectures) of one shape are drawn together.
    alignment_weight: lambda. pairs: a factor for each pair of functions, PAIRS; two kinds of one
    function have 1. reduction: "mean" or "sum" over the width.
    """

    decoder: bool = True
    target: str = "udf"
    norm: str = ""
    clamp: float = 0.1
    alignment: bool = True
    alignment_weight: float = 1.0
    pairs: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(PAIRS, 1.0)
    )
    reduction: str = "mean"

    def check(self, kinds: tuple[str, ...]) -> None:
        """Raises ConfigError for what is not known, or trains nothing. kinds: of the INRs."""
        if not self.decoder and not (self.alignment and len(kinds) > 1):
            raise ConfigError(
                f"config.loss trains nothing of {', '.join(kinds)}: set config.loss.decoder=true "
                "(alignment by itself needs two kinds of INR)"
            )
        choices = (
            ("target", self.target, ("udf", "sdf", "occ", "own")),
            ("norm", self.norm, ("", "l1", "l2")),
            ("reduction", self.reduction, ("mean", "sum")),
        )
        for key, value, known in choices:
            if value not in known:
                raise ConfigError(
                    f"config.loss.{key} '{value}' is unknown{nearest(str(value), known)}; it is "
                    "one "
                    f"of: {', '.join(filter(None, known))}"
                )
        if self.decoder and self.target == "own" and self.norm:
            raise ConfigError(
                "config.loss.norm: each function has that of its fit where config.loss.target=own"
            )
        if self.clamp < 0 or self.alignment_weight < 0 or min(self.pairs.values(), default=0) < 0:
            raise ConfigError("config.loss: clamp, alignment_weight and pairs must be 0 or more")

    def targets(self, functions: tuple[str, ...]) -> tuple[str, ...]:
        """The functions whose true values are read."""
        if not self.decoder:
            return ()
        return functions if self.target == "own" else (self.target,)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Of one kind of INR. planes: how planes and levels are put together, of what reads a lattice
    where planes are given; None: it reads what there is.
    """

    network: nn.Module
    planes: tuple[str, str] | None = None

    def read(self, batch: Batch, kind: str) -> tuple[jax.Array, ...]:
        """What the network is called with."""
        rows = batch[f"{kind}/rows"]
        if f"{kind}/planes" not in batch:
            grid = batch.get(f"{kind}/lattice")
            return (rows,) if grid is None else (rows, grid)
        planes = batch[f"{kind}/planes"]
        return rows, planes if self.planes is None else lattice.expand(planes, *self.planes)


def inret_task(
    encoders: Mapping[str, Encoder], decoder: nn.Module | None, objective: Objective
) -> Task:
    """Batches hold the arrays of `models.field_encoders.inr_row` of one kind or several and, in
    training, "points" float32 [B, P, 3] with the true values [B, P] of objective.targets.

    decoder: None in a task that is only asked for embeddings.
    """

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        params, state = {}, {}
        alike: dict[tuple[Any, ...], list[str]] = {}
        for kind, encoder in encoders.items():
            sizes = tuple(array.shape for array in encoder.read(batch, kind))
            alike.setdefault((encoder.network, sizes), []).append(kind)
        # Encoders of one form are drawn together: a third of the random numbers' programs.
        for (network, _), kinds in alike.items():
            sample = [array[:2] for array in encoders[kinds[0]].read(batch, kinds[0])]
            keys = jnp.stack([rng.stream(key, kind) for kind in kinds])
            drawn = jax.vmap(functools.partial(_init, network, sample))(keys)
            for i, kind in enumerate(kinds):
                variables = jax.tree.map(lambda leaf, i=i: leaf[i], drawn)
                params[kind], state[kind] = variables["params"], variables.get("batch_stats", {})
        params, state = ({kind: tree[kind] for kind in encoders} for tree in (params, state))
        if decoder is None:
            return {"encoder": params}, {"encoder": state}
        width = next(iter(encoders.values())).network.embedding_dim  # type: ignore[attr-defined]
        asked = jnp.zeros((2, width)), jnp.zeros((2, 1, 3))
        if objective.target != "own":
            head = decoder.init(rng.stream(key, "head"), *asked)["params"]
            return {"encoder": params, "head": head}, {"encoder": state}
        keys = jnp.stack([rng.stream(key, f"head/{kind}") for kind in encoders])
        heads = jax.vmap(lambda each: decoder.init(each, *asked)["params"])(keys)
        by_kind = {
            kind: jax.tree.map(lambda leaf, i=i: leaf[i], heads) for i, kind in enumerate(encoders)
        }
        return {"encoder": params, "head": by_kind}, {"encoder": state}

    reduction: Any = objective.reduction

    def loss(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        del key, step
        embeddings, state = {}, {}
        for kind, encoder in encoders.items():
            variables = {
                "params": params["encoder"][kind],
                "batch_stats": model_state["encoder"][kind],
            }
            made: Any = encoder.network.apply(
                variables, *encoder.read(batch, kind), train=True, mutable=["batch_stats"]
            )
            embeddings[kind], updated = made
            state[kind] = updated.get("batch_stats", {})
        terms: dict[str, jax.Array] = {}
        if objective.decoder:
            assert decoder is not None
            stacked = jnp.stack(list(embeddings.values()))
            head, points = params["head"], batch["points"]
            values: Any
            if objective.target == "own":
                heads = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(head.get, embeddings))
                values = jax.vmap(
                    lambda own, embedding: decoder.apply({"params": own}, embedding, points)
                )(heads, stacked)
            else:
                values = decoder.apply({"params": head}, stacked, points)
            terms["reconstruction"] = _reconstruction(values, batch, list(embeddings), objective)
        total = terms.get("reconstruction", jnp.zeros(()))
        if objective.alignment and len(embeddings) > 1:
            terms["alignment"] = unified_latent.alignment(
                embeddings,
                weights=_weights(list(embeddings), objective),
                reduction=reduction,
            )
            total = total + objective.alignment_weight * terms["alignment"]
        return total, ({"encoder": state}, terms)

    return Task(init, loss, embedder(encoders), batch_coupled=True)


def _init(network: nn.Module, sample: list[jax.Array], key: jax.Array) -> PyTree:
    return network.init(key, *sample)


def embedder(
    encoders: Mapping[str, Encoder],
) -> Callable[[PyTree, PyTree, Batch], dict[str, jax.Array]]:
    """embed: (params, model_state, batch) -> {"inr": float32 [B, D]}. The names of the batch's
    arrays say which encoder is theirs; of several kinds, "inr" is the first and each has its own
    name too.

    Raises ConfigError for a kind that no encoder was trained for, and where there is none.
    """

    def embed(params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        kinds = kinds_in(batch)
        if not kinds:
            raise ConfigError(f"a batch of {', '.join(sorted(batch))}; no row of an INR is there")
        found = {}
        for kind in kinds:
            if kind not in encoders:
                raise ConfigError(without_encoder(kind, tuple(encoders)))
            variables = {
                "params": params["encoder"][kind],
                "batch_stats": model_state["encoder"][kind],
            }
            encoder = encoders[kind]
            embedding: Any = encoder.network.apply(
                variables, *encoder.read(batch, kind), train=False
            )
            found[kind] = embedding.astype(jnp.float32)
        first = {"inr": found[kinds[0]]}
        return first if len(kinds) == 1 else {**first, **found}

    return embed


def without_encoder(kind: str, known: tuple[str, ...]) -> str:
    """What is said of a kind of INR that a model does not embed."""
    return (
        f"no encoder for INRs of the kind '{kind}'{nearest(kind, known)}; there are encoders for "
        f"{', '.join(known)}. Distil such INRs into one of these "
        "(jax3dret.models.fields.distillation)"
    )


def _reconstruction(
    values: jax.Array, batch: Batch, kinds: list[str], objective: Objective
) -> jax.Array:
    """The sum over the kinds of the mean over shapes and points."""
    clamp = objective.clamp or None
    if objective.target == "own":
        return sum(
            (
                fields.loss(function, values[i], batch[function], clamp).mean()
                for i, function in enumerate(split_kind(kind)[1] for kind in kinds)
            ),
            start=jnp.zeros(()),
        )
    norm: Any = objective.norm or ("l2" if objective.target == "sdf" else "l1")
    by_shape = unified_latent.reconstruction(
        values,
        batch[objective.target],
        norm=norm,
        clamp=clamp if objective.target == "udf" else None,
    )
    return by_shape.mean(-1).sum()


def _weights(kinds: list[str], objective: Objective) -> dict[tuple[str, str], float]:
    """Of each pair of kinds, by their functions."""
    weights = {}
    for i, one in enumerate(kinds):
        for other in kinds[i + 1 :]:
            functions = {split_kind(one)[1], split_kind(other)[1]}
            named = [pair for pair in PAIRS if {*pair.split("_")} == functions]
            weights[one, other] = objective.pairs.get(named[0], 1.0) if named else 1.0
    return weights
