"""`Recipe.refresh`: data made anew as the model changes; `Recipe.calibrate`: what is fitted at
last.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from core import toy
from core.toy import ToyData, make_recipe
from jax.sharding import Mesh

from jax3dret.core import checkpoint, train
from jax3dret.core.logging import MetricWriter, read_metrics
from jax3dret.core.types import ConfigError, DataError

STEPS, EVERY = 7, 3


class Cut(Exception):
    """The process ends, and nothing is saved."""


class Opener:
    """Opens the data of a run, and notes seed and shift; the batch of step `cut` is not given."""

    def __init__(self, first=0, cut=None):
        self.left = None if cut is None else cut - first
        self.opened = []

    def __call__(self, spec, arrays):
        self.opened.append((spec.seed, arrays.get("shift")))
        opener = self

        class Data(ToyData):
            def __next__(self):
                if opener.left is not None:
                    opener.left -= 1
                    if opener.left < 0:
                        raise Cut
                return super().__next__()

        return Data(spec.seed, arrays=arrays)


def run(workdir, recipe, opener=None, *, devices=4, **options):
    shape = {1: (1, 1), 4: (2, 2)}[devices]
    mesh = Mesh(np.asarray(jax.devices()[:devices]).reshape(shape), ("data", "fsdp"))
    return train.fit(
        recipe,
        workdir=workdir,
        mesh=mesh,
        open_data=opener or Opener(),
        options=train.LoopOptions(**{"checkpoint_every": 100, "log_every": 1, **options}),
        open_writer=functools.partial(MetricWriter, workdir, tensorboard=False, console=False),
    ).state


def losses(workdir):
    return {e["step"]: e["loss"] for e in read_metrics(workdir / "metrics.jsonl")}


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def recipe_of(calls, steps=STEPS, every=EVERY):
    def refresh(embed, step):
        calls.append(step)
        return toy.refresh(embed, step)

    return make_recipe(steps, refresh=refresh, refresh_every=every)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run: its folder, its last state, what it refreshed."""
    workdir, calls, opener = tmp_path_factory.mktemp("whole"), [], Opener()
    state = run(workdir, recipe_of(calls), opener, checkpoint_every=5)
    return workdir, state, calls, opener.opened


def test_the_data_is_opened_anew_with_what_each_refresh_gave(whole):
    _, _, calls, opened = whole
    assert calls == [0, 3, 6]
    seeds, shifts = zip(*opened, strict=True)
    assert seeds[0] == 0 and len(set(seeds)) == 3  # no refresh repeats the draws of another
    assert not np.array_equal(shifts[0], shifts[1]) and not np.array_equal(shifts[1], shifts[2])


# (3, 2): just after a refresh that no checkpoint has; (4, 3): just after the first step with one.
@pytest.mark.parametrize(
    ("cut", "saved_every"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (3, 2), (4, 3)]
)
def test_a_resumed_run_goes_on_bit_for_bit_wherever_it_was_cut(whole, tmp_path, cut, saved_every):
    workdir, state, _, _ = whole
    with pytest.raises(Cut):
        run(tmp_path, recipe_of([]), Opener(cut=cut), checkpoint_every=saved_every)
    at = checkpoint.Checkpoints(tmp_path).latest()
    assert at == cut - cut % saved_every
    calls = []
    same(run(tmp_path, recipe_of(calls), Opener(at)), state)
    assert calls == [step for step in (0, 3, 6) if step >= at]
    assert losses(tmp_path) == losses(workdir)


def test_the_arrays_come_back_with_every_bit(whole):
    workdir, _, _, opened = whole
    kept = checkpoint.Checkpoints(workdir).refreshed(5)
    assert kept.step == 3 and kept.arrays.keys() == {"shift", "rank"}
    np.testing.assert_array_equal(kept.arrays["shift"], opened[1][1])
    assert kept.arrays["shift"].dtype == np.float64
    np.testing.assert_array_equal(kept.arrays["rank"], np.arange(toy.RECORDS) + 2**40)
    assert kept.arrays["rank"].dtype == np.int64


def test_one_and_four_devices_give_the_same_losses(whole, tmp_path):
    run(tmp_path, recipe_of([]), devices=1)
    ours, theirs = losses(tmp_path), losses(whole[0])
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-5)


def test_without_a_cadence_there_is_one_refresh(tmp_path):
    calls, opener = [], Opener()
    run(tmp_path, recipe_of(calls, 4, every=0), opener)
    assert calls == [0] and len(opener.opened) == 1


def test_a_checkpoint_without_arrays_is_refreshed_at_once(tmp_path):
    run(tmp_path / "plain", make_recipe(2))
    assert checkpoint.Checkpoints(tmp_path / "plain").refreshed() is None
    calls = []
    run(tmp_path / "on", recipe_of(calls, 4), resume=str(tmp_path / "plain"))
    assert calls == [2, 3]


def test_a_model_that_is_not_finite_is_not_refreshed_with(tmp_path):
    def poisoned(spec, arrays):
        return ToyData(spec.seed, poison=2, arrays=arrays)

    calls = []
    with pytest.raises(DataError, match="step 3: .* is nan"):
        run(tmp_path, recipe_of(calls), poisoned, log_every=100)
    assert calls == [0]


def test_the_map_is_fitted_once_saved_and_used(tmp_path):
    calls = []

    def calibrate(embed):
        calls.append(embed)
        return toy.calibrate(embed)

    recipe = dataclasses.replace(make_recipe(4, calibrates=True), calibrate=calibrate)
    state = run(tmp_path / "a", recipe, checkpoint_every=3)
    assert len(calls) == 1
    before = checkpoint.Checkpoints(tmp_path / "a").raw_model(3)["model_state"]["map"]["shape"]
    np.testing.assert_array_equal(before["matrix"], np.eye(8))
    kept = checkpoint.Checkpoints(tmp_path / "a").raw_model(4)["model_state"]["map"]["shape"]
    np.testing.assert_array_equal(kept["matrix"], 2 * np.eye(8))
    mesh = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"))
    x = np.random.default_rng(2).normal(size=(toy.RECORDS, toy.WIDTH)).astype(np.float32)
    centred = train.make_embed(
        recipe.task, *jax.device_get((state.params, state.model_state)), mesh
    )({"x": x})["shape"]
    np.testing.assert_allclose(centred.mean(0), 0, atol=1e-6)
    hidden = np.tanh(x @ np.asarray(state.params["a"]["kernel"]))
    np.testing.assert_allclose(centred, 2 * (hidden - hidden.mean(0)), atol=1e-5)

    same(run(tmp_path / "a", recipe), state)
    assert len(calls) == 1  # finished: nothing is fitted again
    longer = make_recipe(4, calibrates=True)
    on = run(tmp_path / "b", longer, init_from=str(tmp_path / "a"), checkpoint_every=2)
    first = checkpoint.Checkpoints(tmp_path / "b").raw_model(2)["model_state"]["map"]["shape"]
    np.testing.assert_array_equal(
        first["matrix"], np.eye(8)
    )  # the map of other weights is not taken over
    np.testing.assert_array_equal(on.model_state["map"]["shape"]["matrix"], 2 * np.eye(8))


def test_weights_that_are_not_trained_are_calibrated_too(tmp_path):
    state = run(tmp_path, make_recipe(0, calibrates=True))
    np.testing.assert_array_equal(state.model_state["map"]["shape"]["matrix"], 2 * np.eye(8))
    same(run(tmp_path, make_recipe(0, calibrates=True)), state)


def test_a_map_that_narrows_is_fitted_to_whole_embeddings(tmp_path):
    seen = []

    def calibrate(embed):
        seen.append(embed({"x": np.ones((3, toy.WIDTH), np.float32)})["shape"])
        return {"shape": {"matrix": np.full((8, 2), 3.0), "offset": np.ones(2)}}

    recipe = make_recipe(0, calibrates=True, kept=2)
    state = run(tmp_path, dataclasses.replace(recipe, calibrate=calibrate))
    whole = np.tanh(np.ones((3, toy.WIDTH)) @ np.asarray(state.params["a"]["kernel"]))
    np.testing.assert_allclose(seen[0], whole, rtol=1e-5)
    batch = {"x": np.ones((3, toy.WIDTH), np.float32)}
    mapped = recipe.task.embed(*jax.device_get((state.params, state.model_state)), batch)["shape"]
    np.testing.assert_allclose(mapped, 3 * whole.sum(1, keepdims=True).repeat(2, 1) + 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        ({"shape": {"matrix": np.eye(7), "offset": np.zeros(7)}}, ConfigError, "make them equal"),
        ({"sketch": {"matrix": np.eye(8), "offset": np.zeros(8)}}, ConfigError, "make them equal"),
        ({"shape": {"matrix": np.eye(8), "offset": np.full(8, np.nan)}}, DataError, "not finite"),
    ],
)
def test_a_map_that_cannot_be_used_is_refused(tmp_path, made, error, says):
    recipe = dataclasses.replace(make_recipe(2, calibrates=True), calibrate=lambda embed: made)
    with pytest.raises(error, match=says):
        run(tmp_path, recipe, checkpoint_every=1)
    assert checkpoint.Checkpoints(tmp_path).latest() == 1


def test_a_recipe_that_calibrates_needs_a_place_for_the_map(tmp_path):
    recipe = dataclasses.replace(make_recipe(2), calibrate=toy.calibrate)
    with pytest.raises(ConfigError, match="identity map"):
        run(tmp_path, recipe)
