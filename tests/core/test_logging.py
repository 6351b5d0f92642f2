"""The metric log: what is written, what survives a crash, what a resumed run drops; console and
table.
"""

import io
import json
import logging
import math
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

import jax3dret.core.logging as log
from jax3dret.core.optim import ParameterRow
from jax3dret.core.types import ConfigError, DataError


@pytest.fixture
def console():
    """Restores the process-wide logging state."""
    root, own = logging.getLogger(), logging.getLogger("jax3dret")
    before = (root.level, list(root.handlers), own.level)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    own.setLevel(before[2])


def events(path):
    return [
        {k: v for k, v in json.loads(line).items() if k != "time"}
        for line in path.read_text().splitlines()
    ]


def writer(folder, **kwargs):
    return log.MetricWriter(folder, tensorboard=False, console=False, **kwargs)


def test_one_line_an_event_flushed_and_exact(tmp_path):
    with writer(tmp_path / "new") as metrics:
        metrics.write(
            3,
            "train",
            {
                "loss": jnp.float32(0.1),
                "lr": 1 / 3,
                "n": np.int64(7),
                "ok": np.bool_(True),
                "note": "x",
            },
        )
        text = metrics.path.read_text()  # before it is closed
        metrics.write(4, "test", {"half": jnp.bfloat16(0.5), "array0": np.zeros(())})
    assert text.endswith("\n") and text.count("\n") == 1
    assert events(metrics.path)[0] == {
        "step": 3,
        "split": "train",
        "loss": float(np.float32(0.1)),
        "lr": 1 / 3,
        "n": 7,
        "ok": True,
        "note": "x",
    }
    assert list(json.loads(text))[:3] == ["step", "split", "time"]
    assert events(metrics.path)[1] == {"step": 4, "split": "test", "half": 0.5, "array0": 0.0}


def test_nan_and_infinities_are_valid_json(tmp_path):
    with writer(tmp_path) as metrics:
        metrics.write(
            0, "train", {"a": math.nan, "b": jnp.inf, "c": np.float32(-np.inf), "d": "nan-free"}
        )

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    raw = json.loads(metrics.path.read_text(), parse_constant=refuse)
    assert (raw["a"], raw["b"], raw["c"]) == ("nan", "inf", "-inf")
    (event,) = log.read_metrics(metrics.path)
    assert (
        math.isnan(event["a"])
        and event["b"] == math.inf
        and event["c"] == -math.inf
        and event["d"] == "nan-free"
    )


@pytest.mark.parametrize(
    "tail", [b'{"step": 3, "spl', b"\xff\x00", b'{"step": 3}', b"[1]", b"\x00" * 9, b"\n"]
)
def test_cut_last_line_is_removed_and_reported(tmp_path, caplog, tail):
    with writer(tmp_path) as metrics:
        metrics.write(1, "train", {"loss": 1.0})
    whole = metrics.path.read_bytes()
    metrics.path.write_bytes(whole + tail)
    with caplog.at_level("WARNING", "jax3dret"), writer(tmp_path) as metrics:
        assert metrics.path.read_bytes() == whole
        metrics.write(2, "train", {"loss": 0.5})
    assert "1 incomplete line" in caplog.text and "metrics.jsonl" in caplog.text
    assert [event["step"] for event in events(metrics.path)] == [1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_complete_last_line_without_newline_is_kept(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "time": 0.0}')
    with caplog.at_level("WARNING", "jax3dret"), writer(tmp_path) as metrics:
        metrics.write(2, "train", {})
    assert [event["step"] for event in events(metrics.path)] == [1, 2] and not caplog.records


def test_broken_line_in_the_middle_is_an_error_and_leaves_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    content = '{"step": 1, "split": "train"}\n{"st\n{"step": 2, "split": "train"}\n'
    path.write_text(content)
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        writer(tmp_path, resume_step=1)
    assert path.read_text() == content


def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path):
    def run(folder, first, last, resume_step=None):
        with writer(folder, resume_step=resume_step) as metrics:
            for step in range(first, last + 1):
                metrics.write(step, "train", {"loss": 1 / (1 + step)})
                if step % 2 == 0 and not metrics.recorded(step, "val"):
                    metrics.write(step, "val", {"nn_acc": step / 10})

    run(tmp_path / "whole", 1, 8)
    run(tmp_path / "cut", 1, 7)  # stopped after step 7; the checkpoint is of step 4
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "split": "tr')
    run(tmp_path / "cut", 5, 8, resume_step=4)
    assert events(tmp_path / "cut" / "metrics.jsonl") == events(
        tmp_path / "whole" / "metrics.jsonl"
    )


def test_recorded_and_resume_from_nothing(tmp_path):
    with writer(tmp_path) as metrics:
        metrics.write(0, "val", {"a": 1})
        metrics.write(4, "val", {"a": 1})
        assert metrics.recorded(4, "val") and not metrics.recorded(4, "train")
    with writer(tmp_path, resume_step=0) as metrics:
        assert metrics.recorded(0, "val") and not metrics.recorded(4, "val")
    with writer(tmp_path, resume_step=-1) as metrics:
        assert metrics.path.read_bytes() == b"" and not metrics.recorded(0, "val")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.zeros(3)}, "shape \\(3,\\)"),
        ({"x": None}, "metric 'x'"),
        ({"time": 1.0}, "'time'"),
        ({"step": 1}, "'step'"),
    ],
)
def test_what_is_not_a_metric_is_refused_and_nothing_is_written(tmp_path, values, message):
    with writer(tmp_path) as metrics, pytest.raises(ValueError, match=message):
        metrics.write(1, "train", {"loss": 1.0} | values)
    assert metrics.path.read_bytes() == b""


def test_inactive_process_touches_nothing(tmp_path):
    with log.MetricWriter(tmp_path / "w", active=False) as metrics:
        metrics.write(1, "train", {"loss": object()})
    assert not (tmp_path / "w").exists()


def test_write_after_close_is_an_error(tmp_path):
    metrics = writer(tmp_path)
    metrics.close()
    metrics.close()
    with pytest.raises(ValueError, match="closed"):
        metrics.write(1, "train", {})


def test_tensorboard_events_and_purge(tmp_path):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")

    for resume in (None, 1):
        with log.MetricWriter(tmp_path, resume_step=resume, console=False) as metrics:
            metrics.write(2, "train", {"loss": 0.25, "note": "text"})
    found = []
    for path in sorted((tmp_path / "tensorboard").iterdir(), key=lambda p: p.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:  # record: length uint64, its checksum, the event, its checksum
            length = int.from_bytes(data[:8], "little")
            found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    scalars = [(v.tag, e.step, v.simple_value) for e in found for v in e.summary.value]
    assert set(scalars) == {("train/loss", 2, 0.25)}
    assert any(
        e.step == 2 and e.session_log.status == e.session_log.START
        for e in found
        if e.HasField("session_log")
    )


def test_console_line_goes_to_stderr_and_libraries_are_quiet(tmp_path, capsys, console):
    import absl.logging

    logging.getLogger().addHandler(absl.logging.get_absl_handler())  # as absl.app.run does
    log.setup_console("INFO")
    log.setup_console("INFO")
    with log.MetricWriter(tmp_path, tensorboard=False) as metrics:
        metrics.write(10, "train", {"loss": 0.123456, "n": 12})
    for name in ("absl", "jax._src.dispatch", "orbax.checkpoint", "grain", "somebody.else"):
        logging.getLogger(name).info("chatter of %s", name)
    absl.logging.info("absl chatter")
    logging.getLogger("jax").warning("worth knowing")
    out, err = capsys.readouterr()
    assert out == "" and "chatter" not in err
    assert err.count("step 10  train  loss 0.1235  n 12") == 1 and err.count("worth knowing") == 1
    log.setup_console("error")
    log.logger.warning("hidden")
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="LOUD"):
        log.setup_console("LOUD")


def test_progress_without_a_terminal_is_lines(capsys, console):
    log.setup_console()
    with log.progress(10, "embed", done=4, lines_every=0.0) as update:
        update(7, "half way")
        update(10)
    with log.progress(3, "sparse", lines_every=3600.0) as update:
        for i in range(4):
            update(i)
    with log.progress(3, "silent", lines_every=None) as update:
        update(3)
    with log.progress(3, "inactive", active=False) as update:
        update(3, "x")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 3 and "\r" not in err and "\x1b" not in err
    assert (
        "embed 7/10 (70 %)" in lines[0]
        and "half way" in lines[0]
        and "sparse 3/3 (100 %)" in lines[2]
    )


def test_progress_on_a_terminal_is_a_bar_below_the_lines(monkeypatch, console):
    stream = io.StringIO()
    monkeypatch.setattr(
        log, "_CONSOLE", rich.console.Console(file=stream, force_terminal=True, width=100)
    )
    log.setup_console()
    with log.progress(10, "train") as update:
        update(5, "loss 1 [not markup]")
        log.logger.info("a line")
        update(10)
    assert (
        "10/10" in stream.getvalue()
        and "a line" in stream.getvalue()
        and "[not markup]" in stream.getvalue()
    )


def test_parameter_table(capsys, console):
    rows = [
        ParameterRow("encoder/" + "x" * 150 + "/kernel", (3, 128), 0.1, 1.0, False),
        ParameterRow("head/bias", (15,), 1.0, 0.0, False),
        ParameterRow("logit_scale", (), 0.0, 0.0, True),
    ]
    log.setup_console()
    log.log_parameters(rows)
    out, err = capsys.readouterr()
    assert out == ""
    assert next(line for line in err.splitlines() if "encoder/" in line).split() == [
        rows[0].path,
        "3x128",
        "384",
        "x0.1",
        "x1",
    ]
    assert next(line for line in err.splitlines() if "logit" in line).split() == [
        "logit_scale",
        "scalar",
        "1",
        "frozen",
    ]
    assert "3 parameters: 400 values, 1 of them frozen" in err
    log.setup_console("WARNING")
    log.log_parameters(rows)
    assert capsys.readouterr().err == ""


def test_a_full_disk_names_the_file(tmp_path):
    metrics = writer(tmp_path)
    metrics._file.close()
    metrics._file = pathlib.Path("/dev/full").open("w")  # noqa: SIM115
    with pytest.raises(OSError, match="No space left") as error, metrics:
        metrics.write(1, "train", {"loss": 1.0})
    assert error.value.filename == str(tmp_path / "metrics.jsonl")
