"""The only training loop: a sharded step, checkpoints with the data position inside, evaluation, a stop at the first NaN.

The step's randomness is `stream(seed key, "train", step)`, the data's is fixed by (seed, position), and both positions are in
the checkpoint, so an interrupted run goes on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax3dret.core import checkpoint, rng, sharding
from jax3dret.core.logging import MetricWriter, progress
from jax3dret.core.types import (
    Batch,
    ConfigError,
    DataError,
    DataSpec,
    EmbedFn,
    Metrics,
    PyTree,
    Recipe,
    Task,
    TrainState,
)

log = logging.getLogger("jax3dret")
RUN_AHEAD = 2


@runtime_checkable
class DataIterator(Protocol):
    """Host-local batches whose position can be saved."""

    def __next__(self) -> Mapping[str, np.ndarray]: ...

    def get_state(self) -> Any: ...

    def set_state(self, state: Any) -> None: ...


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


def abstract_state(recipe: Recipe, seed: int) -> PyTree:
    """The TrainState of a recipe as shapes and dtypes; costs no memory."""
    return jax.eval_shape(lambda: _initial_state(recipe, rng.stream(seed, "init")))


def make_state(recipe: Recipe, mesh: Mesh, seed: int) -> tuple[TrainState, PyTree]:
    """Initial state, born sharded, and its shardings."""
    shardings = sharding.state_shardings(abstract_state(recipe, seed), recipe.sharding, mesh)
    init = jax.jit(
        lambda: _initial_state(recipe, rng.stream(seed, "init")), out_shardings=shardings
    )
    return init(), shardings


def make_step(
    recipe: Recipe, seed: int, accumulate: int = 1
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The train step, a pure function (state, global batch) -> (state, metrics), not yet jitted.

    Raises:
        ConfigError: accumulation is asked of a task whose loss couples the items of a batch.
    """
    task = recipe.task
    if accumulate > 1 and task.batch_coupled:
        raise ConfigError(
            f"config.train.accumulate={accumulate}: this task's loss couples the items of a batch (BatchNorm, VICReg, contrastive "
            "terms), so the mean over micro-batches is a different objective; use more devices, a smaller batch_size, "
            "config.model.remat=true or config.model.dtype=bfloat16"
        )

    def loss_and_grads(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Any:
        (loss, (model_state, metrics)), grads = jax.value_and_grad(task.loss, has_aux=True)(
            params, model_state, batch, key, step
        )
        return grads, model_state, {"loss": loss, **metrics}

    def accumulated(
        params: PyTree, model_state: PyTree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> Any:
        parts = {
            k: v.reshape(accumulate, v.shape[0] // accumulate, *v.shape[1:])
            for k, v in batch.items()
        }

        def one(carry: tuple[PyTree, PyTree], part: tuple[jax.Array, Batch]) -> Any:
            total, model_state = carry
            index, micro = part
            grads, model_state, metrics = loss_and_grads(
                params, model_state, micro, jax.random.fold_in(key, index), step
            )
            return (jax.tree.map(jnp.add, total, grads), model_state), metrics

        zeros = jax.tree.map(jnp.zeros_like, params)
        (total, model_state), metrics = jax.lax.scan(
            one, (zeros, model_state), (jnp.arange(accumulate), parts)
        )
        mean = jax.tree.map(lambda g: g / accumulate, total)
        return mean, model_state, jax.tree.map(lambda m: m.mean(0), metrics)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = rng.stream(seed, "train", state.step)
        compute = accumulated if accumulate > 1 else loss_and_grads
        grads, model_state, metrics = compute(
            state.params, state.model_state, batch, key, state.step
        )
        updates, opt_state = recipe.tx.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), state.params, updates)
        norm = jnp.sqrt(
            sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(grads))
        )
        return TrainState(state.step + 1, params, model_state, opt_state), {
            **metrics,
            "grad_norm": norm,
        }

    return step


def make_embed(task: Task, params: PyTree, model_state: PyTree, mesh: Mesh) -> EmbedFn:
    """Closes `task.embed` over a model: a host batch in, the embeddings of the whole global batch out as NumPy float32.

    Any number of rows will do: each process fills its own up to a multiple of its devices, and the filling is dropped again.
    """
    compiled = jax.jit(task.embed, out_shardings=sharding.replicated(mesh))

    def embed(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = len(next(iter(batch.values())))
        spare = -rows % len(mesh.local_devices)
        filled = {
            k: np.pad(v, [(0, spare)] + [(0, 0)] * (v.ndim - 1), mode="edge")
            for k, v in batch.items()
        }
        out = compiled(params, model_state, sharding.put_batch(filled, mesh))
        return {key: of_batch(np.asarray(value, np.float32), rows) for key, value in out.items()}

    def of_batch(values: np.ndarray, rows: int) -> np.ndarray:
        by_process = values.reshape(jax.process_count(), -1, *values.shape[1:])
        return by_process[:, :rows].reshape(-1, *values.shape[1:])

    return embed


def start(
    recipe: Recipe, checkpoints: checkpoint.Checkpoints, mesh: Mesh, options: LoopOptions
) -> tuple[TrainState, PyTree, Any, list[checkpoint.MatchRow]]:
    """The state a run begins with, by the fixed order of precedence; its shardings; the data position (None: the beginning);
    and the table of an `init_from`."""
    state, shardings = make_state(recipe, mesh, options.seed)
    abstract = checkpoint.abstract_like(state, shardings)
    if checkpoints.latest() is not None:
        state, data = checkpoints.restore(abstract)
        log.info("resumed from step %d of this workdir", int(state.step))
        return state, shardings, data, []
    if options.resume:
        other = checkpoint.Checkpoints(_workdir_of(options.resume, "resume"))
        state, data = other.restore(abstract)
        other.close()
        log.info("resumed from step %d of %s", int(state.step), options.resume)
        return state, shardings, data, []
    if options.init_from:
        other = checkpoint.Checkpoints(_workdir_of(options.init_from, "init_from"))
        source = other.raw_model()
        weights = other.meta().get("weights", "")
        other.close()
        label = f"{options.init_from} ({weights})" if weights else options.init_from
        params, rows = checkpoint.match_params(
            state.params, source["params"], rename=options.rename, fresh=options.fresh, source=label
        )
        # Statistics such as BatchNorm's belong to the weights: they come along where they fit and start anew where they do not.
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
        return state, shardings, None, rows + state_rows
    return state, shardings, None, []


def fit(
    recipe: Recipe,
    *,
    workdir: pathlib.Path,
    mesh: Mesh,
    open_data: Callable[[DataSpec], DataIterator],
    options: LoopOptions,
    open_writer: Callable[..., MetricWriter],
) -> Outcome:
    """Trains `recipe` in `workdir` until its last step, or until a signal asks to stop.

    open_writer: (resume_step) -> MetricWriter; it is opened once it is known from which step the run goes on.

    Raises:
        DataError: a metric is not finite; names the step and the metric. The last good checkpoint stays.
        ConfigError: from the step, the shardings or the checkpoint.
    """
    checkpoints = checkpoint.Checkpoints(workdir, keep=options.keep)
    state, shardings, position, rows = start(recipe, checkpoints, mesh, options)
    if rows:
        log.info("parameters taken from %s\n%s", options.init_from, checkpoint.format_matches(rows))
    first = int(state.step)
    earlier_s = (
        float(checkpoints.meta().get("train_s", 0.0)) if checkpoints.latest() is not None else 0.0
    )
    began = time.perf_counter()
    batch_size = recipe.train.batch_size
    step_fn = jax.jit(
        make_step(recipe, options.seed, options.accumulate),
        donate_argnums=0,
        out_shardings=(shardings, sharding.replicated(mesh)),
    )
    data = open_data(recipe.train) if first < recipe.steps else None
    if data is not None and position is not None:
        data.set_state(position)
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
        """For the log; a schedule's Python numbers go to the device unasked, so that is allowed here."""
        assert recipe.learning_rate is not None
        with jax.transfer_guard("allow"):
            return float(recipe.learning_rate(index))

    def save() -> None:
        settle()
        train_s = earlier_s + time.perf_counter() - began
        checkpoints.save(
            state, position, {**recipe.meta, "step": int(state.step), "train_s": round(train_s, 1)}
        )

    try:
        with (
            _stop_signals() as stop,
            open_writer(resume_step=first if first else -1) as writer,
            progress(
                recipe.steps, "train", done=first, lines_every=None, active=jax.process_index() == 0
            ) as show,
        ):

            def evaluate_at(step: int) -> None:
                settle()
                evaluate(
                    recipe,
                    make_embed(recipe.task, state.params, state.model_state, mesh),
                    step,
                    writer,
                )

            due = (
                options.eval_every
                and first
                and first % options.eval_every == 0
                and first < recipe.steps
            )
            if due and not all(writer.recorded(first, name) for name in recipe.evaluators):
                evaluate_at(
                    first
                )  # the run was cut between this step's checkpoint and its evaluation
            for index in range(first, recipe.steps):
                assert data is not None
                try:
                    batch = next(data)
                except StopIteration:
                    raise DataError(
                        f"step {index}: the data '{recipe.train.name}' ended before the last step {recipe.steps}"
                    ) from None
                position = data.get_state()
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
                if done % options.checkpoint_every == 0 or last or interrupted:
                    save()
                if interrupted:
                    checkpoints.wait()
                    return Outcome(state, interrupted)
                if options.eval_every and done % options.eval_every == 0 and not last:
                    before = time.perf_counter()
                    evaluate_at(done)
                    last_log = (last_log[0] + time.perf_counter() - before, last_log[1])
            if first >= recipe.steps:
                save()
            checkpoints.wait()
            return Outcome(
                state, stop.get("signal")
            )  # a signal after the last step still asks for no evaluation
    finally:
        # Reader threads must not outlive the loop, and a failed save must not hide the error that ended it.
        with contextlib.suppress(DataError):
            checkpoints.close()
        if data is not None and hasattr(data, "close"):
            data.close()


def evaluate(
    recipe: Recipe,
    embed: EmbedFn,
    step: int,
    writer: MetricWriter | None,
    out_dir: pathlib.Path | None = None,
) -> dict[str, Mapping[str, float]]:
    """Runs every evaluator and logs its metrics under its name; an evaluator's files go below out_dir/name if out_dir is given."""
    results = {}
    for name, evaluator in recipe.evaluators.items():
        results[name] = evaluator(embed, None if out_dir is None else out_dir / name)
        if writer is not None and not writer.recorded(step, name):
            writer.write(step, name, results[name])
    return results


def _initial_state(recipe: Recipe, key: jax.Array) -> TrainState:
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in recipe.example.items()}
    params, model_state = recipe.task.init(key, batch)
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, recipe.tx.init(params))


def _place(tree: PyTree, shardings: PyTree) -> PyTree:
    return jax.tree.map(lambda x, s: jax.device_put(np.asarray(x), s), tree, shardings)


def _workdir_of(path: str, key: str) -> pathlib.Path:
    workdir = pathlib.Path(path)
    if not (workdir / checkpoint.FOLDER).is_dir():
        raise ConfigError(
            f"config.checkpoint.{key}={path}: not a workdir (it has no {checkpoint.FOLDER}/)"
        )
    return workdir


@contextlib.contextmanager
def _stop_signals() -> Iterator[dict[str, str]]:
    """Notes SIGTERM and the first Ctrl-C, so that the loop can finish its step and save; a second Ctrl-C stops at once."""
    caught: dict[str, str] = {}
    # Several processes must stop at the same step: for SIGTERM the runtime sees to that, Ctrl-C stops each of them at once.
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
