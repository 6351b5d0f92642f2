"""What the commands answer to wrong input, in this process: exit code, one line, and what is left
behind.

tests/test_entry.py runs some of it as a user does, in a process of its own.
"""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from test_configs import described

from jax3dret import cli, entry, main, run
from jax3dret.core import config as configs
from jax3dret.core import lock
from jax3dret.core.types import ConfigError, DataError
from jax3dret.tasks.ulip2 import finetune

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "configs/ulip2_vicreg.py"


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    """No data set is built here: a recipe sees a fake one."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(run, "prepare_data", lambda config, name="": "fake")
    monkeypatch.setattr(run.pipeline, "open_source", lambda name, split, data_dir: described(10))


def command(capsys, workdir, *flags, config=CONFIG):
    code = main.main([f"--config={config}", f"--workdir={workdir}", *flags])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ")
    return code, said[0]


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--config.train.epochs=3", "--config.train.epochs was given, but nothing reads it"),
        ("--config.task=json", "config.task: json has no 'make'"),
        ("--config.mesh.fsdp=0", "config.mesh: data=-1 x fsdp=0 does not fit"),
        ("--config.evals.retrieval.index.kind=tree", "kind='tree': choose one of"),
        (
            "--config.evals.retrieval.name=jax3dret.evaluators.retreival:make",
            "did you mean 'jax3dret.evaluators.retrieval'",
        ),
        ("--mode=eval", "holds no checkpoint to evaluate"),
        (
            "--config.evals.mine.name=jax3dret.evaluators.cross_modal:make",
            "config.evals.mine: make needs 'query', 'gallery'; give config.evals.mine.query and "
            "config.evals.mine.gallery",
        ),
        (
            "--config.evals.mine.name=jax3dret.losses.vicreg:vicreg",
            "config.evals.mine: vicreg takes no 'data', which it is given; it takes: ",
        ),
        (
            "--config.evals.mine.name=jax3dret.evaluators.retrieval:__doc__",
            "config.evals.mine.name: 'jax3dret.evaluators.retrieval:__doc__' is a str; give a "
            "function or a class",
        ),
        (
            "--config.objective=classification",
            "takes no 'num_classes', which it is given; it takes: ",
        ),
        (
            "--config.optim.schedule.name=test_bad_input:of_a_rate",
            "config.optim.schedule: of_a_rate needs 'floor'; give config.optim.schedule.floor",
        ),
        ("--config.task=broken_plug_in", "ZeroDivisionError: division by zero (/"),
        (
            "--coordinator=localhost --num_processes=2 --process_id=0",
            "--coordinator=localhost: give HOST:PORT",
        ),
        (
            "--coordinator=h:1 --num_processes=2 --process_id=2",
            "--process_id=2 of --num_processes=2: processes count",
        ),
    ],
)
def test_a_refused_command_leaves_nothing_behind(capsys, tmp_path, flag, says):
    code, line = command(capsys, tmp_path / "run", "--config.train.steps=1", *flag.split())
    assert code == 2 and says in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--config.checkpoint.init_from=nowhere", "init_from=nowhere: not a workdir"),
        ("--config.checkpoint.resume=nowhere", "resume=nowhere: not a workdir"),
        ("--config.seed=-1", "config.seed is -1; give 0 or more"),
        ("--config.train.steps=-7", "config.train.steps is -7; give -1 or more"),
    ],
)
def test_where_a_run_begins_is_looked_at_before_its_data(capsys, tmp_path, monkeypatch, flag, says):
    monkeypatch.setattr(run, "_ready", lambda *args: pytest.fail("too late"))
    code, line = command(capsys, tmp_path / "run", flag)
    assert code == 2 and says in line and not (tmp_path / "run").exists()


def of_a_rate(peak, floor):
    """A schedule."""


def test_a_task_that_makes_nothing_is_one_line(capsys, tmp_path, monkeypatch):
    for made, says in (
        ({"stages": lambda config: ()}, "finetune:stages gives (); give a Run or several"),
        ({"stages": lambda config: None}, "finetune:stages gives None; give a Run"),
        ({"make": lambda config, open_source: None}, "finetune:make gives NoneType; give a Recipe"),
    ):
        with monkeypatch.context() as patch:
            for name, function in made.items():
                patch.setattr(finetune, name, function, raising=False)
            code, line = command(capsys, tmp_path / "run")
        assert code == 2 and says in line and not (tmp_path / "run").exists()


SKETCH = (
    "configs/mvhgnn_shrec13.py",
    "--config.cnn.stage_sizes=(1,)",
    "--config.tower.stage_sizes=(1,)",
)
OFF = tuple(f"--config.loss.{term}=false" for term in ("cls_ske", "sem_ske", "quad"))


def test_what_the_second_stage_refuses_is_said_before_the_first_begins(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(run, "_carry_out", lambda *args: pytest.fail("a stage has begun"))
    code, line = command(capsys, tmp_path / "run", *SKETCH[1:], *OFF, config=SKETCH[0])
    assert (
        code == 2
        and "every term of the stage 'sketch' is off" in line
        and not (tmp_path / "run").exists()
    )
    other, _ = configs.load(SKETCH[0], [("model.k", "2")])
    (tmp_path / "config.json").write_text(configs.dump(other))
    (tmp_path / "checkpoints" / "200").mkdir(parents=True)
    code, line = command(capsys, tmp_path, *SKETCH[1:], config=SKETCH[0])
    assert code == 2 and f"{tmp_path} was written by another config" in line


def test_a_second_command_in_one_workdir_is_refused(capsys, tmp_path, monkeypatch):
    """Before it prepares anything, and where both began at once, before it writes anything."""
    with lock.held(tmp_path), monkeypatch.context() as patch:
        patch.setattr(run, "_ready", lambda *args: pytest.fail("too late"))
        code, line = command(capsys, tmp_path)
        assert code == 1 and f"{tmp_path}: another command is writing there" in line
    monkeypatch.setattr(run, "_carry_out", lambda *args: pytest.fail("it has begun"))
    monkeypatch.setattr(run.lock, "refuse_busy", lambda folder: None)
    with lock.held(tmp_path):
        code, line = command(capsys, tmp_path)
        assert code == 1 and f"{tmp_path}: another command is writing there" in line
    assert list(tmp_path.iterdir()) == []


def test_drawings_are_no_shapes(capsys, tmp_path, monkeypatch):
    drawings = described(10)
    drawings.manifest = {"kind": "sketches"}
    monkeypatch.setattr(run.pipeline, "open_source", lambda name, split, data_dir: drawings)
    code, line = command(capsys, tmp_path / "run")
    assert (
        code == 2
        and "holds drawings; a data set of shapes is needed" in line
        and not (tmp_path / "run").exists()
    )


def test_a_run_without_a_result_does_not_hold_its_workdir(tmp_path):
    config, _ = configs.load(CONFIG)
    wrong, _ = configs.load(CONFIG, [("train.batch_size", "4096")])
    (tmp_path / "config.json").write_text(configs.dump(wrong))
    (tmp_path / "metrics.jsonl").touch()
    run.check_workdir(tmp_path, config)
    (tmp_path / "metrics.jsonl").write_text("{}")
    with pytest.raises(
        ConfigError, match="was written by another config: train.batch_size: 4096 there, 64 here"
    ):
        run.check_workdir(tmp_path, config)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "checkpoints" / "200").mkdir(parents=True)
    with pytest.raises(ConfigError, match="was written by another config"):
        run.check_workdir(tmp_path, config)


def old_workdir(tmp_path, **changes):
    """A finished run whose config.json has other values; None: lacks the key."""
    values = json.loads(configs.dump(configs.load(CONFIG)[0]))
    values = {k: v for k, v in {**values, **changes}.items() if v is not None}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "checkpoints" / "200").mkdir(parents=True)
    (tmp_path / "evaluation" / "retrieval").mkdir(parents=True)
    (tmp_path / "evaluation" / "retrieval" / "result.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "jax3dret.tasks.gone"}, "config.task names jax3dret.tasks.gone, which is gone"),
        (
            {"task": "jax3dret.tasks.ulip2", "objective": None},
            "config.task names jax3dret.tasks.ulip2, which is no task",
        ),
        (
            {"model": {"name": "jax3dret.models.older:PointBert"}},
            "config.model.name names jax3dret.models.older, which is gone",
        ),
        ({"eval": None}, "config.eval is not there"),
        ({"evaluation": {}}, "config.evaluation is no key any more"),
    ],
)
def test_a_workdir_of_an_earlier_version_says_so(capsys, tmp_path, changes, says):
    workdir = old_workdir(tmp_path, **changes)
    wanted = f"error: {workdir} was written by an earlier version: {says}; run it again in another"
    code, line = command(capsys, workdir)
    assert code == 2 and line.startswith(wanted)
    assert cli.main(["report", str(workdir)]) == 2
    assert capsys.readouterr().err.startswith(wanted)


def test_a_module_of_somebody_else_is_no_matter_of_versions(capsys, tmp_path):
    workdir = old_workdir(tmp_path, task="somebody.elses")
    code, line = command(capsys, workdir)
    assert code == 2 and "was written by another config: task" in line
    assert cli.main(["report", str(workdir)]) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not readable as JSON"),
        ("[1]", "holds a list; it must be a JSON object"),
        ("{}", "not the config of a run"),
    ],
)
def test_a_config_json_of_something_else_is_not_overwritten(capsys, tmp_path, text, says):
    (tmp_path / "config.json").write_text(text)
    code, line = command(capsys, tmp_path)
    assert code == 2 and says in line and (tmp_path / "config.json").read_text() == text


def test_a_wrong_name_is_told_before_the_workdir_is_compared(capsys, tmp_path):
    workdir = old_workdir(tmp_path)
    code, line = command(capsys, workdir, "--config.loss.name=jax3dret.losses.vicrge:vicreg")
    assert code == 2 and "did you mean 'jax3dret.losses.vicreg'" in line


def test_drawings_are_refused_before_they_are_built(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(run.build, "build", lambda *args, **kwargs: pytest.fail("built"))
    monkeypatch.setattr(run.build, "find", lambda *args, **kwargs: pytest.fail("looked for"))
    for name in ("quickdraw", "shrec13/sketches", "parametric_shapes/sbr_demo_sketches"):
        config, _ = configs.load(str(ROOT / CONFIG), [("data.name", name)])
        with pytest.raises(ConfigError, match=f"config.data.name={name} holds drawings"):
            run.prepare_data(config)
    kinds = ("shrec13/shapes", "parametric_shapes/demo", "mesh_folder", "mesh_folder/own-1", "my/1")
    assert [run.build.kind_of(name) for name in kinds] == ["shapes"] * 4 + [""]
    with pytest.raises(ConfigError, match="unknown data set 'parametric_shapes/dmo'; did you mean"):
        run.build.kind_of("parametric_shapes/dmo")


def test_a_word_that_is_no_command_names_the_nearest(capsys):
    assert cli.main(["qeury", "x"]) == 2
    assert "invalid choice: 'qeury'" in (line := capsys.readouterr().err)
    assert "did you mean 'query'?" in line and line.count("\n") == 1
    assert main.main([f"--config={CONFIG}", "--mode=trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


def test_a_workdir_that_is_a_file(capsys, tmp_path):
    (tmp_path / "run").touch()
    assert command(capsys, tmp_path / "run") == (
        2,
        f"error: --workdir={tmp_path / 'run'} is a file; give a folder",
    )


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (
            "model.group_widths",
            "('a','b','c')",
            "config.model and config.head give no network: TypeError in",
        ),
        ("model.group_widths", "(16,)", "give no network: ValueError in group_encoder.py, line"),
        ("model.trans_dim", "-3", "give no network"),
        ("model.dtype", "float99", "give no network"),
        ("data.num_points", "-5", "config.data.num_points is -5; give 1 or more"),
        ("eval.batch_size", "0", "config.eval.batch_size is 0; give 1 or more"),
    ],
)
def test_values_that_give_no_network(unchecked, key, value, says):
    config, _ = configs.load(CONFIG, [(key, value)])
    with pytest.raises(ConfigError, match=says) as error:
        finetune.make(config, lambda split, name=None: described(10))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigError("a\nb"), 2, "error: a b"),
        (DataError("x: no"), 1, "error: x: no"),
        (
            OSError(errno.ENOSPC, "No space left on device", "f.json"),
            1,
            "error: f.json: the disk is full; what was",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "the disk is full; what was complete before is untouched",
        ),
        (OSError(errno.EROFS, "Read-only file system", "d"), 1, "error: d: read-only file system"),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "d/e"),
            1,
            "error: d/e: not a directory",
        ),
        (
            ZeroDivisionError("division by zero"),
            1,
            "error: unexpected ZeroDivisionError: division by zero; the traceback",
        ),
    ],
)
def test_an_error_is_one_line_and_a_code(capsys, tmp_path, error, code, says):
    def command():
        with entry.traceback_in(tmp_path):
            raise error

    assert entry.run(command) == code
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert (tmp_path / "traceback.txt").exists() == ("unexpected" in said)
    if getattr(error, "errno", None) == errno.ENOSPC and error.filename is None:
        assert str(tmp_path) in said


@pytest.mark.parametrize(
    "moment",
    [
        "stop()",
        # Python drops what such a callback raises.
        "gc.callbacks.append(stop); gc.collect()",
        # While an error is being told, for which the libraries load.
        "sys.meta_path.insert(0, type('', (), {'find_spec': stop})); 1 / 0",
    ],
)
def test_ctrl_c_is_one_line_at_any_moment(moment):
    text = (
        "import gc, sys\nfrom jax3dret import entry\ndef stop(*_):\n    raise KeyboardInterrupt\n"
        f"def command():\n    {moment}\nsys.exit(entry.run(command))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.stderr == "error: interrupted; the same command goes on from what was complete\n"
    assert done.returncode == 1


def test_sigterm_outside_of_training_ends_in_order_with_code_0(capsys, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(run, "_carry_out", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    code = main.main([f"--config={CONFIG}", f"--workdir={tmp_path}", "--config.train.steps=1"])
    assert code == 0 and "SIGTERM: ended; the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before and not (tmp_path / "traceback.txt").exists()


def test_a_command_s_file_imports_nothing_slow_and_hooks_into_nothing():
    text = (
        "import sys; hooks = sys.excepthook, sys.unraisablehook; from jax3dret import cli, entry, "
        "main; "
        "assert hooks == (sys.excepthook, sys.unraisablehook); "
        "print([m for m in ('jax', 'numpy', 'ml_collections') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout.replace("'", '"')) == []
