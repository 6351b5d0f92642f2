"""The only training loop: a sharded step, checkpoints with the data position inside, evaluation, a
stop at the first NaN.

The step's randomness is `stream(seed key, "train", step)`, the data's is fixed by (seed, position),
and both positions are in the checkpoint, so an interrupted run goes on as if nothing had happened.
Where the data is a function of what the model made of it (`Recipe.refresh`), so are these arrays.
What is fitted after the last step (`Recipe.calibrate`) is saved with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jax3dret.core import checkpoint, measured, sharding
from jax3dret.core.batches import Batches, DataIterator, OpenData
from jax3dret.core.logging import MetricWriter, progress
from jax3dret.core.step import abstract_state, make_embed, make_state, make_step
from jax3dret.core.types import (
    ConfigError,
    DataError,
    EmbedFn,
    Metrics,
    PyTree,
    Recipe,
    TrainState,
)

__all__ = [
    "DataIterator",
    "LoopOptions",
    "Outcome",
    "abstract_state",
    "check_start",
    "check_workdirs",
    "evaluate",
    "fit",
    "make_embed",
    "make_state",
    "make_step",
    "start",
]

log = logging.getLogger("jax3dret")
RUN_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class LoopOptions:
    """How often, and from where; see `core.config.spine`."""

    seed: int = 0
    accumulate: int = 1
    log_every: int = 50
    eval_every: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    resume: str = ""
    init_from: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    fresh: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: its last state, and the signal that cut it short (None: it is done)."""

    state: TrainState
    interrupted: str | None = None


class Start(NamedTuple):
    """What a run begins with.

    position: in the data; None: its beginning. rows: the table of an `init_from`.
    """

    state: TrainState
    shardings: PyTree
    position: Any = None
    refreshed: checkpoint.Refreshed | None = None
    rows: Sequence[checkpoint.MatchRow] = ()


def start(
    recipe: Recipe, checkpoints: checkpoint.Checkpoints, mesh: Mesh, options: LoopOptions
) -> Start:
    """The state a run begins with, by the fixed order of precedence, and what goes with it.

    The map of a recipe that calibrates is the initial one, unless this run is finished: another
    run's, or that of a shorter training, is none of the weights that this one will have.
    """
    state, shardings = make_state(recipe, mesh, options.seed)
    initial_map = _map_of(recipe, state)
    done = checkpoints.latest()
    begun = _begun(recipe, checkpoints, state, shardings, options)
    if recipe.calibrate is not None and (done is None or done < recipe.steps):
        begun = begun._replace(state=_with_map(begun.state, initial_map))
    return begun


def check_start(recipe: Recipe, options: LoopOptions) -> None:
    """Refuses what `start` would refuse of the run that `options` names, by the shapes in its
    checkpoint alone; for a workdir that has no checkpoint of its own.

    Raises:
        ConfigError: it is no workdir, or of another architecture or optimizer.
        DataError: it holds no checkpoint, or one that cannot be read.
    """
    if not (options.resume or options.init_from):
        return
    key = "resume" if options.resume else "init_from"
    other = checkpoint.Checkpoints(_workdir_of(options.resume or options.init_from, key))
    try:
        abstract = abstract_state(recipe, options.seed)
        if options.resume:
            other.check(abstract)
            return
        checkpoint.match_params(
            abstract.params,
            other.model_shapes()["params"],
            rename=options.rename,
            fresh=options.fresh,
            source=options.init_from,
        )
    finally:
        other.close()


def _begun(
    recipe: Recipe,
    checkpoints: checkpoint.Checkpoints,
    state: TrainState,
    shardings: PyTree,
    options: LoopOptions,
) -> Start:
    abstract = checkpoint.abstract_like(state, shardings)
    if checkpoints.latest() is not None:
        state, position = checkpoints.restore(abstract)
        log.info("resumed from step %d of this workdir", int(state.step))
        return Start(state, shardings, position, checkpoints.refreshed())
    if options.resume:
        other = checkpoint.Checkpoints(_workdir_of(options.resume, "resume"))
        state, position = other.restore(abstract)
        refreshed = other.refreshed()
        other.close()
        log.info("resumed from step %d of %s", int(state.step), options.resume)
        return Start(state, shardings, position, refreshed)
    if not options.init_from:
        return Start(state, shardings)
    other = checkpoint.Checkpoints(_workdir_of(options.init_from, "init_from"))
    source = other.raw_model()
    weights = other.meta().get("weights", "")
    other.close()
    label = f"{options.init_from} ({weights})" if weights else options.init_from
    params, rows = checkpoint.match_params(
        state.params, source["params"], rename=options.rename, fresh=options.fresh, source=label
    )
    # Statistics such as BatchNorm's belong to the weights: they come along where they fit and start
    # anew where they do not.
    model_state, state_rows = checkpoint.match_params(
        state.model_state,
        source["model_state"],
        rename=options.rename,
        fresh=(".*",),
        source=label,
    )
    state = dataclasses.replace(
        state,
        params=_place(params, shardings.params),
        model_state=_place(model_state, shardings.model_state),
    )
    return Start(state, shardings, rows=(*rows, *state_rows))


def fit(
    recipe: Recipe,
    *,
    workdir: pathlib.Path,
    mesh: Mesh,
    open_data: OpenData,
    options: LoopOptions,
    open_writer: Callable[..., MetricWriter],
) -> Outcome:
    """Trains `recipe` in `workdir` until its last step, or until a signal asks to stop.

    open_data: (spec, arrays of the last refresh; {} without one) -> batches from the first on.
    open_writer: (resume_step) -> MetricWriter; it is opened once it is known from which step the
    run goes on.

    Raises:
        DataError: a metric is not finite; names the step and the metric. The last good checkpoint
        stays.
        ConfigError: from the step, the shardings or the checkpoint.
    """
    checkpoints = checkpoint.Checkpoints(workdir, keep=options.keep)
    state, shardings, position, refreshed, rows = start(recipe, checkpoints, mesh, options)
    if rows:
        log.info("parameters taken from %s\n%s", options.init_from, checkpoint.format_matches(rows))
    first = int(state.step)
    goes_on = checkpoints.latest() is not None
    earlier_s = float(checkpoints.meta().get("train_s", 0.0)) if goes_on else 0.0
    began = time.perf_counter()
    batch_size = recipe.train.batch_size
    step_fn = jax.jit(
        make_step(recipe, options.seed, options.accumulate),
        donate_argnums=0,
        out_shardings=(shardings, sharding.replicated(mesh)),
    )
    data = Batches(recipe, open_data, first, position=position, refreshed=refreshed)
    pending: list[tuple[int, Metrics]] = []  # metrics not yet looked at
    last_log = (time.perf_counter(), first)

    def settle() -> None:
        """Looks at the pending metrics; nothing is saved or evaluated before it has passed."""
        for at, metrics in jax.device_get(pending):
            bad = next((name for name, value in metrics.items() if not np.isfinite(value)), None)
            if bad is not None:
                good = checkpoints.latest()
                kept = (
                    f"the last good checkpoint, step {good}, is kept"
                    if good is not None
                    else "no checkpoint had been saved yet"
                )
                raise DataError(f"step {at}: {bad} is {float(metrics[bad])}; stopped, {kept}")
        pending.clear()

    def learning_rate(index: int) -> float:
        """For the log; a schedule's Python numbers go to the device unasked, so that is allowed
        here.
        """
        assert recipe.learning_rate is not None
        with jax.transfer_guard("allow"):
            return float(recipe.learning_rate(index))

    def save() -> None:
        settle()
        train_s = earlier_s + time.perf_counter() - began
        meta = {**recipe.meta, "step": int(state.step), "train_s": round(train_s, 1)}
        checkpoints.save(state, data.position, meta, data.refreshed)

    def embed(*, mapped: bool = True) -> EmbedFn:
        settle()
        model_state = state.model_state if mapped else _before_map(state.model_state, mesh)
        return make_embed(recipe.task, state.params, model_state, mesh)

    try:
        with (
            _stop_signals() as stop,
            open_writer(resume_step=first if first else -1) as writer,
            progress(
                recipe.steps, "train", done=first, lines_every=None, active=jax.process_index() == 0
            ) as show,
        ):

            @contextlib.contextmanager
            def uncounted() -> Iterator[None]:
                """Outside of the time that `items_per_s` is of."""
                nonlocal last_log
                before = time.perf_counter()
                yield
                last_log = (last_log[0] + time.perf_counter() - before, last_log[1])

            due = (
                options.eval_every
                and first
                and first % options.eval_every == 0
                and first < recipe.steps
            )
            if due and not all(writer.recorded(first, name) for name in recipe.evaluators):
                # The run was cut between this step's checkpoint and its evaluation.
                evaluate(recipe, embed(), first, writer)
            for index in range(first, recipe.steps):
                if data.is_due(index):
                    with uncounted():
                        names = data.refresh(index, embed())
                    log.info("step %d: refreshed %s", index, ", ".join(names))
                batch = data.next(index)
                state, metrics = step_fn(state, sharding.put_batch(batch, mesh))
                done = index + 1
                pending.append((done, metrics))
                if (
                    len(pending) > RUN_AHEAD
                ):  # else the host queues batches faster than devices consume them
                    jax.block_until_ready(pending[-RUN_AHEAD][1])
                show(done)
                last = done == recipe.steps
                if done % options.log_every == 0 or last or done == 1:
                    latest = jax.device_get(metrics)
                    settle()
                    now = time.perf_counter()
                    rate = (done - last_log[1]) * batch_size / max(now - last_log[0], 1e-9)
                    extra = {
                        "items_per_s": rate,
                        **({"lr": learning_rate(index)} if recipe.learning_rate else {}),
                    }
                    writer.write(
                        done, "train", {**{k: float(v) for k, v in latest.items()}, **extra}
                    )
                    last_log = (now, done)
                interrupted = stop.get("signal")
                if jax.process_count() > 1 and checkpoints.reached_preemption(done):
                    interrupted = "SIGTERM"
                if last and recipe.calibrate is not None:
                    state = _calibrated(recipe, state, shardings, embed(mapped=False))
                if done % options.checkpoint_every == 0 or last or interrupted:
                    save()
                if interrupted:
                    checkpoints.wait()
                    return Outcome(state, interrupted)
                if options.eval_every and done % options.eval_every == 0 and not last:
                    with uncounted():
                        evaluate(recipe, embed(), done, writer)
            if first >= recipe.steps and not goes_on:
                if recipe.calibrate is not None:
                    state = _calibrated(recipe, state, shardings, embed(mapped=False))
                save()
            checkpoints.wait()
            return Outcome(
                state, stop.get("signal")
            )  # a signal after the last step still asks for no evaluation
    finally:
        # Reader threads must not outlive the loop, and a failed save must not hide the error that
        # ended it.
        with contextlib.suppress(DataError):
            checkpoints.close()
        data.close()


def evaluate(
    recipe: Recipe,
    embed: EmbedFn,
    step: int,
    writer: MetricWriter | None,
    out_dir: pathlib.Path | None = None,
) -> dict[str, Mapping[str, float]]:
    """Runs every evaluator and logs its metrics under its name; an evaluator's files go below
    out_dir/name if out_dir is given.

    Raises ConfigError for an evaluator that gives no numbers by name.
    """
    results: dict[str, Mapping[str, float]] = {}
    for name, evaluator in recipe.evaluators.items():
        given = evaluator(embed, None if out_dir is None else out_dir / name)
        results[name] = measured.numbers(given, where=f"config.evals.{name}")
        if writer is not None and not writer.recorded(step, name):
            writer.write(step, name, results[name])
    return results


def _calibrated(recipe: Recipe, state: TrainState, shardings: PyTree, embed: EmbedFn) -> TrainState:
    """The state with the map that the recipe fits to its embeddings, as `embed` gives them before
    it.

    Raises ConfigError for a map of another form than the initial one, DataError for one that is not
    finite.
    """
    assert recipe.calibrate is not None
    initial, fitted = _map_of(recipe, state), recipe.calibrate(embed)
    forms = [
        {sharding.path_name(p): np.shape(x) for p, x in jax.tree_util.tree_flatten_with_path(m)[0]}
        for m in (fitted, initial)
    ]
    if forms[0] != forms[1]:
        raise ConfigError(
            f"the recipe's calibrate gives the arrays {forms[0]}, its model_state['map'] holds "
            f"{forms[1]}; make them equal"
        )
    for name, values in fitted.items():
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(values)):
            raise DataError(f"step {int(state.step)}: the map fitted to '{name}' is not finite")
    fitted = jax.tree.map(lambda new, old: np.asarray(new, old.dtype), fitted, initial)
    return _with_map(state, _place(fitted, shardings.model_state["map"]))


def _map_of(recipe: Recipe, state: TrainState) -> PyTree:
    """Raises ConfigError where a recipe that calibrates has no map to put the result in."""
    if recipe.calibrate is None:
        return None
    if "map" not in state.model_state:
        raise ConfigError(
            "the recipe has calibrate, so its task's init must put an identity map into "
            "model_state['map']"
        )
    return state.model_state["map"]


def _before_map(model_state: PyTree, mesh: Mesh) -> PyTree:
    """The state with which embed gives what the map is applied to: each [D, E] map in it replaced
    by the identity of D numbers, which changes none of them.
    """
    whole = {}
    for side, fitted in model_state["map"].items():
        width = fitted["matrix"].shape[0]
        identity = {
            "matrix": np.eye(width, dtype=np.float32),
            "offset": np.zeros(width, np.float32),
        }
        whole[side] = jax.tree.map(
            lambda array: jax.device_put(array, sharding.replicated(mesh)), identity
        )
    return {**model_state, "map": whole}


def _with_map(state: TrainState, fitted: PyTree) -> TrainState:
    return dataclasses.replace(state, model_state={**state.model_state, "map": fitted})


def _place(tree: PyTree, shardings: PyTree) -> PyTree:
    return jax.tree.map(lambda x, s: jax.device_put(np.asarray(x), s), tree, shardings)


def check_workdirs(options: LoopOptions) -> None:
    """Raises ConfigError where `options` names a run to begin from that is no workdir."""
    for key in ("resume", "init_from"):
        if path := getattr(options, key):
            _workdir_of(path, key)


def _workdir_of(path: str, key: str) -> pathlib.Path:
    workdir = pathlib.Path(path)
    if not (workdir / checkpoint.FOLDER).is_dir():
        raise ConfigError(
            f"config.checkpoint.{key}={path}: not a workdir (it has no {checkpoint.FOLDER}/)"
        )
    return workdir


@contextlib.contextmanager
def _stop_signals() -> Iterator[dict[str, str]]:
    """Notes SIGTERM and the first Ctrl-C, so that the loop can finish its step and save; a second
    Ctrl-C stops at once.
    """
    caught: dict[str, str] = {}
    # Several processes must stop at the same step: for SIGTERM the runtime sees to that, Ctrl-C
    # stops each of them at once.
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield caught
        return

    def note(number: int, frame: Any) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught["signal"] = signal.Signals(number).name

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
