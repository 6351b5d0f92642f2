"""The documented commands, run as a user runs them: a process, its exit code, what it prints, what it leaves behind."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jax3dret.core.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[1]
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


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """The embedded data set, built by the documented command."""
    folder = tmp_path_factory.mktemp("prepared")
    out = subprocess.run(
        [
            sys.executable,
            "-m",
            "jax3dret.cli",
            "data",
            "build",
            "parametric_shapes/demo",
            "--data-dir",
            str(folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert "0 files skipped" in out.stdout
    return folder


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


def environment(devices=1):
    return {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": str(ROOT),
    }


def run(*args, devices=1, **kwargs):
    return subprocess.run(
        command(*args, **kwargs),
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=300,
    )


def losses(workdir):
    events = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {e["step"]: e["loss"] for e in events if e["split"] == "train"}


def params(workdir):
    return jax.tree.leaves(Checkpoints(workdir).raw_model()["params"])


@pytest.fixture(scope="session")
def reference(tmp_path_factory, data_dir):
    """The whole documented run on one device, uninterrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "reference"
    done = run(workdir, data_dir)
    assert done.returncode == 0, done.stderr
    return workdir


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


def test_the_same_command_again_says_finished(reference, data_dir):
    before = (reference / "report" / "metrics.json").read_bytes()
    again = run(reference, data_dir)
    assert again.returncode == 0 and "finished" in again.stderr
    assert (reference / "report" / "metrics.json").read_bytes() == before


def test_four_devices_give_the_same_losses_and_their_checkpoint_restores_on_one(
    reference, data_dir, tmp_path
):
    four = run(tmp_path / "four", data_dir, "--mode=train", devices=4)
    assert four.returncode == 0, four.stderr
    a, b = losses(reference), losses(tmp_path / "four")
    assert a.keys() == b.keys()
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)
    one = run(tmp_path / "four", data_dir, "--mode=eval", devices=1)
    assert one.returncode == 0, one.stderr
    ours, theirs = (
        json.loads((w / "report" / "metrics.json").read_text())["metrics"]
        for w in (reference, tmp_path / "four")
    )
    assert abs(ours["nn_acc"] - theirs["nn_acc"]) < 0.02


def test_two_processes_of_two_devices_give_the_same_losses(reference, data_dir, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    flags = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2", "--mode=train"]
    running = [
        subprocess.Popen(
            command(tmp_path, data_dir, *flags, f"--process_id={i}"),
            cwd=ROOT,
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    np.testing.assert_allclose(
        list(losses(reference).values()), list(losses(tmp_path).values()), rtol=1e-5
    )


def test_killed_in_mid_epoch_and_started_again_ends_with_the_same_parameters(data_dir, tmp_path):
    whole, parts, steps = tmp_path / "whole", tmp_path / "parts", 100  # an epoch has 48
    uninterrupted = run(whole, data_dir, "--mode=train", train__steps=steps)
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    process = subprocess.Popen(
        command(parts, data_dir, "--mode=train", train__steps=steps),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    wait_for_step(parts, 10, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    latest = Checkpoints(parts).latest()
    assert latest is not None and latest < steps, "the run was over before it was killed"
    again = run(parts, data_dir, "--mode=train", train__steps=steps)
    assert again.returncode == 0 and f"resumed from step {latest}" in again.stderr
    assert losses(parts) == losses(whole)
    for a, b in zip(params(whole), params(parts), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 1)])
def test_a_signal_saves_and_says_so(data_dir, tmp_path, number, code):
    process = subprocess.Popen(
        command(tmp_path, data_dir, train__steps=4000),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_step(tmp_path, 2, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code and "Traceback" not in said
    assert f"{signal.Signals(number).name}: saved a checkpoint" in said
    assert Checkpoints(tmp_path).latest() >= 2


def wait_for_step(workdir, step, process):
    deadline = time.time() + 200
    while time.time() < deadline and process.poll() is None:
        try:
            if max(losses(workdir), default=0) >= step:
                return
        except (OSError, ValueError):  # not there yet, or a line is being written
            pass
        time.sleep(0.01)


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
        (["--config.mesh.data=3"], "config.mesh: data=3 x fsdp=1 does not fit 1 devices"),
    ],
)
def test_a_wrong_command_is_one_line_and_code_2(tmp_path, data_dir, flags, says):
    done = run(tmp_path, data_dir, *flags)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("configs/ulip2_vicrg.py", "no such file; did you mean 'configs/ulip2_vicreg.py'?"),
        ("configs/ulip2_vicreg.py:dmo", "has no variant 'dmo'; did you mean 'demo'?"),
    ],
)
def test_a_wrong_config_is_one_line_and_code_2(tmp_path, data_dir, config, says):
    done = run(tmp_path, data_dir, config=config)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


def test_a_workdir_of_another_config_is_refused(reference, data_dir):
    done = run(reference, data_dir, optim__lr=0.5)
    assert (
        done.returncode == 2
        and "was written by another config: optim.lr: 0.001 there, 0.5 here" in done.stderr
    )


def test_fewer_items_than_a_batch(data_dir, tmp_path):
    done = run(tmp_path, data_dir, train__batch_size=4096)
    assert (
        done.returncode == 1
        and "items but a batch of 4096; lower config.train.batch_size" in done.stderr
    )


def test_a_checkpoint_of_another_architecture_is_named(reference, data_dir, tmp_path):
    done = run(tmp_path, data_dir, model__trans_dim=24, checkpoint__resume=reference)
    assert done.returncode == 2 and "another architecture" in done.stderr


def test_init_from_takes_the_encoder_and_says_what_matched(reference, data_dir, tmp_path):
    done = run(
        tmp_path,
        data_dir,
        "--mode=train",
        config="configs/ulip2_classify.py",
        head__widths=None,
        head__hidden="(16,)",
        checkpoint__init_from=reference,
        checkpoint__fresh="('head/.*',)",
        train__steps=1,
    )
    assert done.returncode == 0, done.stderr
    assert "loaded" in done.stderr and "unused" in done.stderr and "resumed" not in done.stderr
