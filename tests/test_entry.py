"""The documented commands: exit code, what is printed, what is left behind.

What depends on the process runs in one of its own, as a user's command does; the rest in this one,
which has four devices.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from processes_together import ROOT, environment, run_two

from data_pipelines.parametric_shapes import parametric_shapes
from jax3dret import cli, main
from jax3dret.core.checkpoint import Checkpoints
from jax3dret.data.lock import exclusive

CONFIG = "configs/ulip2_vicreg.py"
TINY = {
    "model.trans_dim": 48,
    "model.depth": 1,
    "model.num_heads": 3,
    "model.num_group": 16,
    "model.group_size": 8,
    "model.encoder_dims": 32,
    "model.group_widths": "(16,16,32)",
    "head.widths": "(32,32,32)",
    "data.num_points": 128,
    "train.batch_size": 16,
    "train.steps": 8,
    "checkpoint.every": 3,
    "log.every": 1,
    "log.tensorboard": "false",
}
SHAPES = {"train": 4, "val": 1, "test": 2}  # of each of the 32 classes
SIGNALLED = str(ROOT / "tests" / "signalled.py")


@pytest.fixture(autouse=True)
def beside_the_configs(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """(name, what fills a folder) -> the folder, filled by whichever of pytest's workers needs it
    first.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def filled(name, fill):
        folder, done = root / name, root / f"{name}.done"
        with exclusive(root / f"{name}.lock", name):
            if not done.exists():
                fill(folder)
                done.touch()
        return folder

    return filled


@pytest.fixture(scope="session")
def data_dir(once):
    """The embedded data set, built by the documented command."""
    return once("prepared", build_data)


def build_data(folder):
    """By the documented command, with fewer shapes: an epoch has 8 batches."""
    sizes = parametric_shapes.ParametricShapes.builder_configs["demo"].per_class
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        for split, size in SHAPES.items():
            patch.setitem(sizes, split, size)
        flags = ["data", "build", "parametric_shapes/demo", "--data-dir", str(folder)]
        assert cli.main(flags) == 0
    assert "train 128, val 32, test 64" in said.getvalue() and "0 files skipped" in said.getvalue()


def command(workdir, data_dir, *extra, config=CONFIG, **overrides):
    settings = {
        **TINY,
        "data.data_dir": data_dir,
        **{k.replace("__", "."): v for k, v in overrides.items()},
    }
    flags = [f"--config.{key}={value}" for key, value in settings.items() if value is not None]
    return [
        sys.executable,
        "-m",
        "jax3dret.main",
        f"--config={config}",
        f"--workdir={workdir}",
        *flags,
        *extra,
    ]


def run(*args, devices=1, **kwargs):
    return subprocess.run(
        command(*args, **kwargs),
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_here(capsys, *args, **kwargs):
    """The exit code of a command in this process, and what it says on stderr."""
    _, _, _, *flags = command(*args, **kwargs)
    code = main.main(flags)
    return code, capsys.readouterr().err


def training(workdir):
    events = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [e for e in events if e["split"] == "train"]


def losses(workdir):
    return {e["step"]: e["loss"] for e in training(workdir)}


def check_same_losses(found, expected):
    """The first step's loss and gradient norm, and the losses of all steps of two workdirs."""
    first, other = training(expected)[0], training(found)[0]
    assert first["step"] == other["step"] == 1
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(other[name], first[name], rtol=1e-5, err_msg=name)
    a, b = losses(expected), losses(found)
    assert a.keys() == b.keys() and len(a) == 8
    # Sums are rounded differently, which every step magnifies.
    np.testing.assert_allclose(list(b.values())[:4], list(a.values())[:4], rtol=1e-5)
    np.testing.assert_allclose(list(b.values()), list(a.values()), rtol=1e-3)


def params(workdir):
    return jax.tree.leaves(Checkpoints(workdir).raw_model()["params"])


@pytest.fixture(scope="session")
def reference(once, data_dir):
    """The whole documented run on one device, uninterrupted."""

    def train_and_evaluate(workdir):
        done = run(workdir, data_dir)
        assert done.returncode == 0, done.stderr

    return once("reference", train_and_evaluate)


def test_a_run_leaves_what_the_contract_promises(reference):
    for name in (
        "config.json",
        "versions.json",
        "metrics.jsonl",
        "checkpoints",
        "report/index.html",
        "report/metrics.json",
    ):
        assert (reference / name).exists(), name
    report = json.loads((reference / "report" / "metrics.json").read_text())
    assert report["system"] == "ulip2" and report["config"] == "ulip2_vicreg:demo"
    assert report["dataset"]["name"] == "parametric_shapes/demo"
    assert (
        0 <= report["metrics"]["nn_acc"] <= 1
        and {"nn_f1", "ndcg_100", "map_pessimistic"} <= report["metrics"].keys()
    )
    assert report["index"]["recall_at_10"] == 1 and report["index"]["scoring"] == "brute_force"
    assert report["timing"].keys() >= {"train_s", "embed_items_per_s", "search_ms_per_query"}
    assert report["run"].keys() == {"command", "seed", "date", "device", "version"}
    assert report["run"]["command"].startswith(f"python -m jax3dret.main --config={CONFIG}:demo ")
    assert list(losses(reference)) == list(range(1, 9))
    assert not list(reference.rglob("*.partial"))


def test_the_same_command_again_says_finished(reference, data_dir, capsys):
    before = (reference / "report" / "metrics.json").read_bytes()
    code, said = run_here(capsys, reference, data_dir)
    assert code == 0 and "finished" in said
    assert (reference / "report" / "metrics.json").read_bytes() == before


def test_four_devices_give_the_same_losses(reference, data_dir, tmp_path, capsys):
    code, said = run_here(capsys, tmp_path / "four", data_dir, "--mode=train")
    assert code == 0, said
    versions = json.loads((tmp_path / "four" / "versions.json").read_text())
    assert versions["devices"].startswith("4 x ")
    check_same_losses(tmp_path / "four", reference)


def test_two_processes_of_two_devices_give_the_same_losses(reference, data_dir, tmp_path):
    both = run_two(
        lambda address, number: command(
            tmp_path,
            data_dir,
            "--mode=train",
            f"--coordinator={address}",
            "--num_processes=2",
            f"--process_id={number}",
        )
    )
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    check_same_losses(tmp_path, reference)


def signalled(number, step, workdir, data_dir, *extra, saved=0):
    """The whole run on one device, as `run` has it, that sends itself a signal at a step."""
    _, _, _, *flags = command(workdir, data_dir, *extra)
    program = [sys.executable, SIGNALLED, number.name, str(step), str(saved)]
    return subprocess.run(
        [*program, *flags],
        cwd=ROOT,
        env=environment(1),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_killed_in_mid_epoch_and_started_again_ends_with_the_same_parameters(
    reference, data_dir, tmp_path
):
    killed = signalled(signal.SIGKILL, 5, tmp_path, data_dir, "--mode=train", saved=3)
    assert killed.returncode == -signal.SIGKILL
    assert Checkpoints(tmp_path).latest() == 3 and max(losses(tmp_path)) == 5
    again = run(tmp_path, data_dir, "--mode=train")
    assert again.returncode == 0 and "resumed from step 3" in again.stderr
    assert losses(tmp_path) == losses(reference)
    for a, b in zip(params(reference), params(tmp_path), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 1)])
def test_a_signal_saves_and_says_so(data_dir, tmp_path, number, code):
    done = signalled(number, 2, tmp_path, data_dir)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert f"{number.name}: saved a checkpoint" in done.stderr
    assert Checkpoints(tmp_path).latest() == 2 and max(losses(tmp_path)) == 2


@pytest.mark.parametrize(
    ("code", "override", "says"),
    [
        (2, {"mesh__data": 3}, "config.mesh: data=3 x fsdp=1 does not fit 1 devices"),
        (
            1,
            {"train__batch_size": 4096},
            "items but a batch of 4096; lower config.train.batch_size",
        ),
    ],
)
def test_an_error_ends_a_process_with_its_code_and_no_traceback(
    tmp_path, data_dir, code, override, says
):
    done = run(tmp_path, data_dir, **override)
    assert done.returncode == code, done.stderr
    assert says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--config.optim.lrr=1"], "unknown config key 'optim.lrr'; did you mean 'optim.lr'?"),
        (["--config.model.dept=1"], "takes no 'dept'; did you mean 'depth'?"),
        (["--config.train.steps=many"], "--config.train.steps=many: not of type int"),
        (
            ["--config.data.name=modelnett/10"],
            "unknown data set 'modelnett/10'; did you mean 'modelnet/10'?",
        ),
        (["--config.distance=cosin"], "cosine"),
        (["--workdr=x"], "unknown argument '--workdr'; did you mean '--workdir'?"),
        (["--mode=evaluate"], "invalid choice: 'evaluate'"),
        (["--mode=eval"], "holds no checkpoint to evaluate"),
        (["--coordinator=localhost:1"], "go together"),
    ],
)
def test_a_wrong_command_is_one_line_and_code_2(tmp_path, data_dir, capsys, flags, says):
    code, said = run_here(capsys, tmp_path, data_dir, *flags)
    assert code == 2, said
    assert says in said.splitlines()[-1] and "Traceback" not in said


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("configs/ulip2_vicrg.py", "no such file; did you mean 'configs/ulip2_vicreg.py'?"),
        ("configs/ulip2_vicreg.py:dmo", "has no variant 'dmo'; did you mean 'demo'?"),
    ],
)
def test_a_wrong_config_is_one_line_and_code_2(tmp_path, data_dir, capsys, config, says):
    code, said = run_here(capsys, tmp_path, data_dir, config=config)
    assert code == 2 and says in said and said.count("\n") == 1


def test_a_workdir_of_another_config_is_refused(reference, data_dir, capsys):
    code, said = run_here(capsys, reference, data_dir, optim__lr=0.5)
    assert code == 2 and "was written by another config: optim.lr: 0.001 there, 0.5 here" in said


def test_a_checkpoint_of_another_architecture_is_named(reference, data_dir, tmp_path, capsys):
    overrides = {"model__trans_dim": 24, "checkpoint__resume": reference}
    code, said = run_here(capsys, tmp_path, data_dir, **overrides)
    assert code == 2 and "another architecture" in said and not any(tmp_path.iterdir())


def test_init_from_takes_the_encoder_and_says_what_matched(reference, data_dir, tmp_path, capsys):
    code, said = run_here(
        capsys,
        tmp_path,
        data_dir,
        "--mode=train",
        config="configs/ulip2_classify.py",
        head__widths=None,
        head__hidden="(16,)",
        checkpoint__init_from=reference,
        checkpoint__fresh="('head/.*',)",
        train__steps=0,
    )
    assert code == 0, said
    assert "loaded" in said and "unused" in said and "resumed" not in said
    taken, trained = (
        Checkpoints(w).raw_model()["params"]["encoder"] for w in (tmp_path, reference)
    )
    assert jax.tree.structure(taken) == jax.tree.structure(trained)
    jax.tree.map(np.testing.assert_array_equal, taken, trained)
