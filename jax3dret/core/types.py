"""The types every layer agrees on: batches, the train state, a task, a data specification, a
recipe.

Axis letters used in signatures: B global batch, N points, M centres, K neighbours, D embedding
width, C classes, Q queries, G gallery items.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import flax.struct
import jax
import numpy as np
import optax

if TYPE_CHECKING:
    from jax3dret.core.config import Config

Array = jax.Array
PyTree = Any

# Leading axis = global batch. "mask" is bool[B]; False marks a padding row.
Batch = Mapping[str, Array]
# Scalars, float32[].
Metrics = Mapping[str, Array]
# One decoded record on its way to a batch: arrays, plus "id" (str) and "label" (int).
Record = dict[str, Any]
# A transform draws only from the generator it is handed, so a record's randomness depends on its
# place in the run alone.
Transform = Callable[[Record, np.random.Generator], Record]

# (record key, file with a row per record, or what makes that file from the opened records).
Arrays = tuple[tuple[str, str | os.PathLike[str] | Callable[[Any], str | os.PathLike[str]]], ...]


class ConfigError(ValueError):
    """The command or the config is wrong: one line that says what is wrong and what is
    expected. Exit code 2."""


class UnknownKey(ConfigError):
    """A key that the config, or a component that it names, does not have."""


class DataError(ValueError):
    """A file, a folder or a data set cannot be used: one line that names it and the reason. Exit
    code 1.
    """


def nearest_path(key: str, candidates: Iterable[str]) -> str:
    """As `nearest`, of dotted keys: the last part counts most, so that a key is found under another
    section too."""

    def likeness(other: str) -> float:
        last = [text.rpartition(".")[2] for text in (key, other)]
        return 0.7 * _ratio(*last) + 0.3 * _ratio(key, other)

    best = max(candidates, key=likeness, default="")
    return f"; did you mean '{best}'?" if best and likeness(best) >= 0.6 else ""


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def nearest(key: str, candidates: Iterable[str]) -> str:
    """ "; did you mean 'x'?" or nothing."""
    found = difflib.get_close_matches(key, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


@flax.struct.dataclass
class TrainState:
    """Everything a step changes; arrays only, so it can be sharded, donated and saved as it is."""

    step: PyTree  # int32[], optimizer updates taken so far; of shapes or shardings where all are
    params: PyTree
    model_state: PyTree  # BatchNorm statistics and the like; {} if the model has none
    opt_state: optax.OptState


@dataclasses.dataclass(frozen=True)
class Task:
    """What one paper does, as three pure functions.

    init:  (key, batch) -> (params, model_state)
    loss:  (params, model_state, batch, key, step) -> (loss float32[], (model_state, metrics))
    embed: (params, model_state, batch) -> {"shape" | "sketch" | "image" | "text" | "inr":
    float32[B, D]}
    batch_coupled: the loss mixes the items of a batch (VICReg, InfoNCE, BatchNorm, in-batch
        mining), so that the mean over micro-batches is not the loss of the batch.
    """

    init: Callable[[Array, Batch], tuple[PyTree, PyTree]]
    loss: Callable[[PyTree, PyTree, Batch, Array, Array], tuple[Array, tuple[PyTree, Metrics]]]
    embed: Callable[[PyTree, PyTree, Batch], Mapping[str, Array]]
    batch_coupled: bool = False


# What a loaded object can be; `Input.accepts` names those that an input reads.
KINDS = ("mesh", "cloud", "image", "text", "field")
# What an input makes of one object: arrays by name, as they stand in a row of a batch.
Row = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An object in memory, read once from its file: what size, thumbnail and every input's row are
    made of.

    kind: one of KINDS. value: a geometry.mesh.Mesh, float64[N, 3] points, a decoded PIL image, a
    text, or a field. name: the path, or what else a message calls it. up_axis: "y" or "z", the axis
    that is up in `value`; empty where it is not known. unit: of its lengths; empty where it is not
    known.
    """

    kind: str
    value: Any
    name: str
    up_axis: str = ""
    unit: str = ""


@runtime_checkable
class Input(Protocol):
    """What a model reads of an object: a frozen dataclass whose fields, with its name and version,
    say all that a row depends on.

    Two methods are optional. bucket(row): rows of one bucket go into one batch; without it, rows of
    equal shapes do. lift(loaded objects) -> loaded objects, or a DataError in the place of one that
    cannot be lifted: run in batches in the process that holds the device, before `row`, such as
    fitting a field to a mesh.
    """

    @property
    def accepts(self) -> tuple[str, ...]:
        """The kinds of loaded objects that it reads."""

    @property
    def version(self) -> int:
        """Counts up when the same object gives another row."""

    def row(self, loaded: Loaded, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Host only; sizes may differ from row to row. rng: a constant stream of the input, the
        same for every object.

        Raises DataError for an object that cannot be used: one line, its name first.
        """

    def batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Rows of one bucket as the model takes them, stacked or padded."""


@dataclasses.dataclass(frozen=True)
class Model:
    """Enough to embed and to search: no optimizer and no data set.

    init: key -> {"params", "model_state"}, only what `embed` reads, under the names that a
        checkpoint has: it is restored by subset, so that heads and projectors stay behind.
    embed: (variables, batch) -> {modality: float32[B, width]}, of the modalities whose rows the
    batch holds.
    inputs: by modality ("shape", "sketch", "image", "text", "inr"), those alone that the weights
        were trained for. The first is what an index is made of unless another is asked for.
    distance: "cosine" or "euclidean". batch_size: rows that are embedded at a time.
    """

    init: Callable[[Array], PyTree]
    embed: Callable[[PyTree, Batch], Mapping[str, Array]]
    inputs: Mapping[str, Input]
    width: int
    distance: Literal["cosine", "euclidean"]
    batch_size: int = 16


@runtime_checkable
class Source(Protocol):
    """The records of one split of a prepared data set, in a fixed order, as
    `data.source.open_source` opens them.
    """

    name: str
    version: str
    split: str
    path: Any  # folder of the prepared data set, pathlib.Path
    manifest: Mapping[str, Any]
    class_names: tuple[str, ...]
    ids: Sequence[str]
    labels: np.ndarray  # int32[N]
    features: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...

    def select(self, *features: str) -> Any:
        """The same records with only these features (and "id" and "label") decoded."""


@runtime_checkable
class OpenSource(Protocol):
    """Opens a split of a data set; without a name, of the run's own. Prepared on first use, opened
    once.
    """

    def __call__(self, split: str, name: str | None = None, /) -> Source: ...


# A host batch in, the rows of the whole global batch out (NumPy, float32, the same on every
# process).
EmbedFn = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
# Named metrics out; anything larger (embeddings, neighbour lists) is written below the folder it is
# given.
Evaluator = Callable[[EmbedFn, Any], Mapping[str, float]]
# (modality, split) -> how the records of a split are read for it: what a task gives to evaluators.
EvaluationData = Callable[[str, str], "DataSpec"]
# (group of each record int[N], seed, epoch) -> rows of each batch of the epoch, int[batches,
# batch_size].
Sampler = Callable[[np.ndarray, int, int], np.ndarray]
# (embed, step) -> arrays with one row per training record, the same on every process; they join the
# records.
Refresh = Callable[[EmbedFn, int], Mapping[str, np.ndarray]]
# embed, which gives embeddings before the map, float32[B, D] -> {modality: {"matrix": float32[D,
# E], "offset": float32[E]}}, fitted after training: `model_state["map"]`.
Calibrate = Callable[[EmbedFn], PyTree]


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Which records, in which order, through which transforms, in batches of what size.

    name: prepared data set, "builder" or "builder/config", as TFDS names it.
    split: a TFDS split of it, "train" or "train+val".
    batch_size: rows of the global batch.
    features: those that are decoded beside id and label; none named means all.
    class_names: where given, records of other classes are left out and labels are positions in this
        list: data sets are joined by the names of their classes.
    arrays: (record key, path) of files with one row per record of the split, in record order: what
        was computed once from the records, such as rendered views or the features of a frozen
        network. Row i joins record i before the transforms. In place of a path, a function of the
        opened records that makes the file and returns its path, called when first read.
    transforms: applied in order to each record; the last one leaves arrays only.
    seed: fixes the order of the records and every random draw of the transforms.
    data_dir: where prepared data sets lie; None means $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    num_threads: reader threads.
    sampler: the rows of each batch of an epoch from the records' labels; None shuffles every epoch
    anew.
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
    sampler: Sampler | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A whole experiment, as `core.train.fit` takes it.

    model: what of it embeds; an index is made with this alone. tx: the optimizer. steps: optimizer
    updates in all.
    example: a global training batch as shapes and dtypes. learning_rate: step -> value, for the
    log.
    evaluators: by name, run at the evaluation cadence; the first gives the run's metrics.
    sharding: (regex over the parameter path, PartitionSpec axes), first match wins; unmatched means
    replicated.
    refresh: re-mining, at step 0 and every `refresh_every` steps (0: at step 0 alone). The batches
        are a function of its arrays; they stand in the checkpoint, and the data position restarts
        with them.
    calibrate: what is fitted after training, an affine map of each modality's embedding, which may
        narrow it. It sees the embeddings before the map.
    meta: JSON-like; travels with every checkpoint and on into an index: network, inputs,
    preprocessing, provenance.
    """

    task: Task
    tx: optax.GradientTransformation
    train: DataSpec
    steps: int
    example: Mapping[str, jax.ShapeDtypeStruct]
    model: Model | None = None
    learning_rate: Callable[[int], Any] | None = None
    evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
    sharding: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    refresh: Refresh | None = None
    refresh_every: int = 0
    calibrate: Calibrate | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Run:
    """One of several runs that belong together: a stage of an experiment, or what a row of a table
    runs.

    name: of its folder. config: resolved. starts_from: the name of an earlier run of the list,
    whose parameters it begins with.
    """

    name: str
    config: Config
    starts_from: str = ""
