"""Lists of runs where one starts from another, and what a command says of itself."""

import pathlib
import types

import pytest

from jax3dret import run
from jax3dret.core import config as configs
from jax3dret.core.command import Command
from jax3dret.core.types import ConfigError, Run

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "ulip2_classify.py"


def runs(*names_and_starts):
    config, _ = configs.load(str(CONFIG))
    return [Run(name, config, starts_from) for name, starts_from in names_and_starts]


def folders(*names):
    return {name: pathlib.Path("at") / name for name in names}


def test_a_run_begins_with_the_parameters_of_the_one_it_starts_from():
    listed = runs(("a", ""), ("b", "a"), ("c", "a"), ("d", "c"))
    placed = run.place(listed, folders("a", "b", "c", "d"))
    assert [p.config.checkpoint.init_from for p in placed] == ["", "at/a", "at/a", "at/c"]
    assert [p.folder for p in placed] == [pathlib.Path("at") / name for name in "abcd"]
    assert listed[1].config.checkpoint.init_from == ""  # data: it stays as it was


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ([("b", "a"), ("a", "")], "'b' starts from 'a', which does not stand before it"),
        ([("a", "a")], "'a' starts from 'a'"),
        ([("a", ""), ("a", "")], "two runs are called 'a'"),
    ],
)
def test_a_list_that_cannot_be_run_is_refused(listed, says):
    with pytest.raises(ConfigError, match=says):
        run.place(runs(*listed), folders("a", "b"))


def test_an_experiment_without_stages_is_one_run(tmp_path):
    config, _ = configs.load(str(CONFIG))
    (only,) = run.stages(config, tmp_path)
    assert only.folder == tmp_path and configs.dump(only.config) == configs.dump(config)


def command(monkeypatch, *overrides, workdir="runs/x", spec="configs/ulip2_classify.py"):
    monkeypatch.chdir(CONFIG.parents[1])
    config, name = configs.load(spec, overrides)
    return Command(spec, name, config, tuple(overrides), pathlib.Path(workdir), "eval")


@pytest.fixture
def nothing_prepared(monkeypatch):
    """Neither data nor a recipe may be asked for."""

    def never(*args, **kwargs):
        raise AssertionError("too late")

    monkeypatch.setattr(run, "prepare_data", never)
    monkeypatch.setattr(run, "_ready", never)


@pytest.mark.parametrize(
    ("spec", "overrides", "says"),
    [
        ("viewgcn_classify", {"train.batch_size": 18}, "^config.train.batch_size=18 .* 16 and 20"),
        (
            "ulip2_classify",
            {"train.accumulate": 3},
            "into config.train.accumulate=3 parts; 24 and 36",
        ),
        ("mvhgnn_shrec13", {"first.batch_size": 6}, "^stage 'first': config.train.batch_size=6 .*"),
        (
            "mvhgnn_shrec13",
            {"first.epochs": -1},
            "^stage 'first': config.train.epochs is -1.0; give",
        ),
        ("ulip2_classify", {"mesh.data": 3}, "config.mesh: data=3 x fsdp=1 does not fit 4 devices"),
    ],
)
def test_batches_are_refused_before_any_data_is_prepared(
    nothing_prepared, tmp_path, spec, overrides, says
):
    config, name = configs.load(
        f"{CONFIG.parent}/{spec}.py", [(key, str(value)) for key, value in overrides.items()]
    )
    with pytest.raises(ConfigError, match=says):
        run.start(Command(spec, name, config, (), tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_batch_that_no_step_takes_is_no_fault(monkeypatch):
    config, _ = configs.load(str(CONFIG), [("train.batch_size", "18")])
    run.check_batches(config, "eval")
    run.check_batches(config.with_values({"train.steps": 0}), "train_and_eval")
    with pytest.raises(ConfigError, match="16 and 20"):
        run.check_batches(config.with_values({"train.steps": 1}), "train")
    monkeypatch.setattr("jax3dret.core.sharding.jax.process_count", lambda: 3)
    with pytest.raises(ConfigError, match="config.eval.batch_size=32 .* 30 and 33"):
        run.check_batches(config, "eval")
    odd = config.with_values({"train.batch_size": 20})
    run.check_batches(odd, "train")  # evaluates nothing
    with pytest.raises(ConfigError, match="config.eval.batch_size"):
        run.check_batches(odd.with_values({"eval.every": 2}), "train")


def test_a_finished_run_is_evaluated_again_with_other_seeds_and_not_trained(tmp_path):
    """The workdir stays the run's own, whatever it is evaluated with."""
    config, _ = configs.load(str(CONFIG))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("")
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "config.json").write_text(configs.dump(config))
    other = config.with_values({"eval.seeds": (0, 1), "evals.retrieval.neighbours": 7})

    def ready(config, mode):
        run.check_workdir(tmp_path, config)
        recipe = types.SimpleNamespace(steps=5)
        placed = run.Placed(tmp_path, "x", config)
        return run._Ready(placed, mode, recipe, None, None, None, None, {}, 5)

    assert ready(config, "train_and_eval").is_finished
    assert not ready(other, "train_and_eval").is_finished  # evaluated again
    assert ready(other, "train").is_finished  # nothing is left to train
    assert not ready(config, "eval").is_finished
    for key, value in (("seed", 1), ("distance", "euclidean")):
        with pytest.raises(ConfigError, match=f"another config: {key}"):
            run.check_workdir(tmp_path, config.with_values({key: value}))


def test_a_command_can_be_given_again(monkeypatch):
    given = command(monkeypatch, ("train.steps", "3"), ("optim.rules", "(('.*', {}),)"))
    assert given.text() == (
        "python -m jax3dret.main --config=configs/ulip2_classify.py:demo --workdir=runs/x "
        """--config.train.steps=3 '--config.optim.rules=(('"'"'.*'"'"', {}),)'"""
    )


def test_a_command_tells_no_place_of_the_machine_that_it_does_without(monkeypatch, tmp_path):
    root = CONFIG.parents[1]
    given = command(
        monkeypatch,
        ("data.data_dir", str(tmp_path)),
        ("data.manual_dir", "RAW"),
        ("checkpoint.init_from", str(root / "runs" / "a")),
        ("checkpoint.resume", str(tmp_path)),
        workdir=tmp_path / "w",
        spec=f"{CONFIG}:modelnet10",
    )
    assert given.text() == (
        "python -m jax3dret.main --config=configs/ulip2_classify.py:modelnet10 "
        "--config.data.manual_dir=RAW --config.checkpoint.init_from=runs/a "
        f"--config.checkpoint.resume={tmp_path}"  # without it the run would be another
    )
