import contextlib
import dataclasses
import functools
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from core.toy import BATCH, ToyData, make_recipe
from jax.sharding import Mesh

from jax3dret.core import checkpoint, sharding, train
from jax3dret.core.logging import MetricWriter
from jax3dret.core.types import ConfigError, DataError


def run(workdir, recipe=None, *, devices=4, data=None, **options):
    recipe = recipe or make_recipe()
    shape = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[devices]
    mesh = Mesh(np.asarray(jax.devices()[:devices]).reshape(shape), ("data", "fsdp"))
    options = train.LoopOptions(**{"checkpoint_every": 5, "log_every": 1, **options})
    writer = functools.partial(MetricWriter, workdir, tensorboard=False, console=False)
    open_data = lambda spec, arrays: data if data is not None else ToyData()  # noqa: E731
    return train.fit(
        recipe, workdir=workdir, mesh=mesh, open_data=open_data, options=options, open_writer=writer
    )


def losses(workdir, split="train"):
    events = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {e["step"]: e["loss"] for e in events if e["split"] == split}


def test_same_losses_on_one_and_four_devices(tmp_path):
    one, four = tmp_path / "1", tmp_path / "4"
    run(one, devices=1)
    run(four, devices=4)
    a, b = losses(one), losses(four)
    assert list(a) == list(b) == list(range(1, 13)) and len(set(a.values())) == 12
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)


def test_another_seed_gives_another_run(tmp_path):
    run(tmp_path / "a", seed=0)
    run(tmp_path / "b", seed=1)
    assert losses(tmp_path / "a")[1] != losses(tmp_path / "b")[1]


def test_a_run_in_two_pieces_equals_one_in_one_piece(tmp_path):
    whole = run(tmp_path / "whole").state
    # The second piece goes on with two steps that the first had taken after its last checkpoint.
    run(tmp_path / "parts", data=Interrupted(after=7))
    assert checkpoint.Checkpoints(tmp_path / "parts").latest() == 7
    parts = run(tmp_path / "parts").state
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(parts))
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


class Interrupted(ToyData):
    """Sends this process a signal while a batch is read, as a user or a scheduler would."""

    def __init__(self, after, number=signal.SIGTERM):
        super().__init__()
        self.after, self.number = after, number

    def __next__(self):
        if self.position == self.after - 1:
            os.kill(os.getpid(), self.number)
        return super().__next__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_in_hand(tmp_path, number):
    before = signal.getsignal(signal.SIGINT)
    outcome = run(tmp_path, data=Interrupted(3, number))
    assert outcome.interrupted == signal.Signals(number).name and int(outcome.state.step) == 3
    assert checkpoint.Checkpoints(tmp_path).latest() == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_while_the_last_checkpoint_is_written_is_not_lost(tmp_path, monkeypatch):
    wait, sent = checkpoint.Checkpoints.wait, []

    def wait_and_press(self):
        if not sent:  # a second Ctrl-C would stop at once
            sent.append(os.kill(os.getpid(), signal.SIGINT))
        wait(self)

    monkeypatch.setattr(checkpoint.Checkpoints, "wait", wait_and_press)
    outcome = run(tmp_path, checkpoint_every=100)  # the only save is the last
    assert outcome.interrupted == "SIGINT" and int(outcome.state.step) == 12


def test_a_checkpoint_of_four_devices_goes_on_with_one(tmp_path):
    run(tmp_path / "four", make_recipe(), data=Interrupted(6))
    whole = run(tmp_path / "whole", devices=1)
    state = run(tmp_path / "four", devices=1).state
    assert len(state.params["a"]["kernel"].devices()) == 1
    for a, b in zip(
        jax.tree.leaves(whole.state.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_nan_stops_names_the_metric_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(
        DataError,
        match=r"step 8: (loss|mse|grad_norm) is nan; stopped, the last good checkpoint, step 5, is "
        r"kept",
    ):
        run(tmp_path, data=ToyData(poison=7), log_every=12)
    checkpoints = checkpoint.Checkpoints(tmp_path)
    assert checkpoints.latest() == 5
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(checkpoints.raw_model()))


def test_nan_before_the_first_checkpoint(tmp_path):
    with pytest.raises(DataError, match="no checkpoint had been saved yet"):
        run(tmp_path, data=ToyData(poison=1))


def test_data_that_ends_early_is_an_error(tmp_path):
    with pytest.raises(DataError, match="step 4: the data 'toy' ended before the last step 12"):
        run(tmp_path, data=ToyData(end=4))


def test_accumulation_equals_the_big_batch_where_items_are_independent():
    recipe = make_recipe(coupled=False)
    mesh = sharding.make_mesh()
    state, _ = train.make_state(recipe, mesh, 0)
    batch = sharding.put_batch(next(ToyData()), mesh)
    big, big_metrics = jax.jit(train.make_step(recipe, 0))(state, batch)
    small, small_metrics = jax.jit(train.make_step(recipe, 0, accumulate=4))(state, batch)
    np.testing.assert_allclose(big_metrics["loss"], small_metrics["loss"], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(big.params), jax.tree.leaves(small.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_accumulation_is_refused_where_the_batch_is_coupled():
    with pytest.raises(ConfigError, match="accumulate=4.*different objective"):
        train.make_step(make_recipe(coupled=True), 0, accumulate=4)


def test_zero_steps_leave_the_initial_weights_and_a_checkpoint(tmp_path):
    state = run(tmp_path, make_recipe(0)).state
    assert int(state.step) == 0 and checkpoint.Checkpoints(tmp_path).latest() == 0


def test_evaluation_sees_the_whole_batch_in_order(tmp_path):
    seen = []

    def evaluator(embed, out_dir):
        batch = next(ToyData(seed=5))
        seen.append((embed(batch)["shape"].shape, out_dir))
        return {"one": 1.0}

    run(tmp_path, make_recipe(evaluators={"toy": evaluator}), eval_every=4)
    assert seen == [((BATCH, 8), None)] * 2  # not after the last step: that one is the caller's
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["split"] == "toy"] == [4, 8]


class Guarded(ToyData):
    """From its third batch on, when the step is compiled, a transfer that nobody asked for is an
    error.
    """

    def __init__(self):
        super().__init__()
        self.guard = contextlib.ExitStack()

    def __next__(self):
        if self.position == 2:
            self.guard.enter_context(jax.transfer_guard("disallow"))
            with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
                jnp.sin(np.ones(3, np.float32))
        return super().__next__()

    def close(self):
        self.guard.close()


def test_steady_steps_transfer_what_is_asked_for_and_nothing_else(tmp_path):
    def evaluator(embed, out_dir):
        return {"sum": float(embed(next(ToyData(seed=5)))["shape"].sum())}

    recipe = make_recipe(evaluators={"toy": evaluator})
    recipe = dataclasses.replace(recipe, learning_rate=optax.cosine_decay_schedule(1e-2, 12))
    assert int(run(tmp_path, recipe, data=Guarded(), eval_every=4).state.step) == 12
    assert list(losses(tmp_path)) == list(range(1, 13))


def test_finished_runs_take_no_further_step(tmp_path):
    before = run(tmp_path).state
    after = run(tmp_path, data=ToyData(poison=0)).state
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(before), jax.device_get(after))


def test_start_precedence_own_then_resume_then_init_from(tmp_path):
    run(tmp_path / "a", make_recipe(5))
    run(tmp_path / "b", make_recipe(10), seed=3)
    a = checkpoint.Checkpoints(tmp_path / "a").raw_model()["params"]["a"]["kernel"]

    resumed = run(
        tmp_path / "resumed",
        make_recipe(5),
        resume=str(tmp_path / "a"),
        init_from=str(tmp_path / "b"),
    ).state
    assert int(resumed.step) == 5
    np.testing.assert_array_equal(resumed.params["a"]["kernel"], a)

    warm = run(tmp_path / "warm", make_recipe(0), init_from=str(tmp_path / "a")).state
    assert int(warm.step) == 0  # never another run's step
    np.testing.assert_array_equal(warm.params["a"]["kernel"], a)
    np.testing.assert_array_equal(jax.tree.leaves(warm.opt_state[0].mu)[0], 0)

    own = run(
        tmp_path / "b",
        make_recipe(10),
        seed=3,
        resume=str(tmp_path / "a"),
        init_from=str(tmp_path / "a"),
    ).state
    assert int(own.step) == 10
    with pytest.raises(ConfigError, match="init_from.*not a workdir"):
        run(tmp_path / "c", init_from=str(tmp_path / "nowhere"))
    # Whether it will do is known from the shapes, before anything is opened or written.
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    wide = make_recipe(5, width=9)
    sgd = dataclasses.replace(make_recipe(5), tx=optax.sgd(1e-2))
    for recipe, key, folder, says in (
        (make_recipe(5), "init_from", "a", ""),
        (make_recipe(5), "resume", "a", ""),
        (sgd, "init_from", "a", ""),
        (wide, "init_from", "a", r"2 parameters do not fit: a/kernel \(6, 9\) is \(6, 8\) there"),
        (wide, "resume", "a", "another architecture"),
        (sgd, "resume", "a", "another optimizer"),
        (wide, "init_from", "empty", "holds no checkpoint"),
        (wide, "resume", "nowhere", "resume=.*nowhere: not a workdir"),
    ):
        options = train.LoopOptions(**{key: str(tmp_path / folder)})
        if not says:
            train.check_start(recipe, options)
            continue
        with pytest.raises((ConfigError, DataError), match=says):
            train.check_start(recipe, options)
    train.check_start(wide, train.LoopOptions())


@pytest.mark.parametrize("rows", [1, 6, 8])
def test_an_embedding_batch_need_not_divide_by_the_devices(rows):
    recipe = make_recipe()
    params, model_state = recipe.task.init(jax.random.key(0), {})
    batch = {k: v[:rows] for k, v in next(ToyData()).items()}
    mesh = Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"))
    out = train.make_embed(recipe.task, params, model_state, mesh)(batch)["shape"]
    np.testing.assert_allclose(
        out, recipe.task.embed(params, model_state, batch)["shape"], rtol=1e-6
    )
