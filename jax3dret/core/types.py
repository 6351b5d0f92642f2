"""The types every layer agrees on: batches, the train state, a task, a data specification, a recipe.

Axis letters used in signatures: B global batch, N points, M centres, K neighbours, D embedding width,
C classes, Q queries, G gallery items.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.struct
import jax
import numpy as np
import optax

Array = jax.Array
PyTree = Any

# Leading axis = global batch. "mask" is bool[B]; False marks a padding row.
Batch = Mapping[str, Array]
# Scalars, float32[].
Metrics = Mapping[str, Array]
# One decoded record on its way to a batch: arrays, plus "id" (str) and "label" (int).
Record = dict[str, Any]
# A transform draws only from the generator it is handed, so a record's randomness depends on its place in the run alone.
Transform = Callable[[Record, np.random.Generator], Record]

# (record key, file with a row per record, or what makes that file from the opened records).
Arrays = tuple[tuple[str, str | os.PathLike[str] | Callable[[Any], str | os.PathLike[str]]], ...]


class ConfigError(ValueError):
    """The command or the config is wrong: one line that says what is wrong and what is
    expected. Exit code 2."""


class DataError(ValueError):
    """A file, a folder or a data set cannot be used: one line that names it and the reason. Exit code 1."""


def nearest(key: str, candidates: Iterable[str]) -> str:
    """ "; did you mean 'x'?" or nothing."""
    found = difflib.get_close_matches(key, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


@flax.struct.dataclass
class TrainState:
    """Everything a step changes; arrays only, so it can be sharded, donated and saved as it is."""

    step: Array  # int32[], optimizer updates taken so far
    params: PyTree
    model_state: PyTree  # BatchNorm statistics and the like; {} if the model has none
    opt_state: optax.OptState


@dataclasses.dataclass(frozen=True)
class Task:
    """What one paper does, as three pure functions.

    init:  (key, batch) -> (params, model_state)
    loss:  (params, model_state, batch, key, step) -> (loss float32[], (model_state, metrics))
    embed: (params, model_state, batch) -> {"shape" | "sketch" | "image" | "text" | "inr": float32[B, D]}
    batch_coupled: the loss mixes the items of a batch (VICReg, InfoNCE, BatchNorm, in-batch mining), so that
        the mean over micro-batches is not the loss of the batch.
    """

    init: Callable[[Array, Batch], tuple[PyTree, PyTree]]
    loss: Callable[[PyTree, PyTree, Batch, Array, Array], tuple[Array, tuple[PyTree, Metrics]]]
    embed: Callable[[PyTree, PyTree, Batch], Mapping[str, Array]]
    batch_coupled: bool = False


# A host batch in, the rows of the whole global batch out (NumPy, float32, the same on every process).
EmbedFn = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
# Named metrics out; anything larger (embeddings, neighbour lists) is written below the folder it is given.
Evaluator = Callable[[EmbedFn, Any], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Which records, in which order, through which transforms, in batches of what size.

    name: prepared data set, "builder" or "builder/config", as TFDS names it.
    split: a TFDS split of it, "train" or "train+val".
    batch_size: rows of the global batch.
    features: those that are decoded beside id and label; none named means all.
    class_names: where given, records of other classes are left out and labels are positions in this list: data sets are joined
        by the names of their classes.
    arrays: (record key, path) of files with one row per record of the split, in record order: what was computed once from
        the records, such as rendered views or the features of a frozen network. Row i joins record i before the transforms.
        In place of a path, a function of the opened records that makes the file and returns its path, called when first read.
    transforms: applied in order to each record; the last one leaves arrays only.
    seed: fixes the order of the records and every random draw of the transforms.
    data_dir: where prepared data sets lie; None means $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    num_threads: reader threads.
    """

    name: str
    split: str
    batch_size: int
    features: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    arrays: Arrays = ()
    transforms: tuple[Transform, ...] = ()
    seed: int = 0
    data_dir: str | None = None
    num_threads: int = 2


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A whole experiment, as `core.train.fit` takes it.

    tx: the optimizer. steps: optimizer updates in all. example: a global training batch as shapes and dtypes.
    learning_rate: step -> value, for the log. evaluators: by name, run at the evaluation cadence.
    sharding: (regex over the parameter path, PartitionSpec axes), first match wins; unmatched means replicated.
    refresh: optional re-mining, (embed_fn, step) -> the next DataSpec.
    meta: JSON-like; travels with every checkpoint and on into an index: network, preprocessing, provenance.
    """

    task: Task
    tx: optax.GradientTransformation
    train: DataSpec
    steps: int
    example: Mapping[str, jax.ShapeDtypeStruct]
    learning_rate: Callable[[int], Any] | None = None
    evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
    sharding: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    refresh: Callable[[EmbedFn, int], DataSpec] | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
