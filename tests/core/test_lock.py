import os
import pathlib
import signal
import subprocess
import sys

import pytest

from jax3dret.core import lock
from jax3dret.core.types import DataError


def test_a_folder_is_one_command_s_until_it_ends(tmp_path):
    folder = tmp_path / "run"
    lock.refuse_busy(folder)
    assert not folder.exists()  # looking leaves nothing
    with lock.held(folder):
        for take in (lambda: lock.refuse_busy(folder), lambda: lock.held(folder).__enter__()):
            with pytest.raises(DataError, match=f"{folder}: another command is writing there") as e:
                take()
            assert f"(process {os.getpid()} on " in str(e.value) and "\n" not in str(e.value)
    assert list(folder.iterdir()) == []
    lock.refuse_busy(folder)
    with lock.held(folder):
        assert [path.name for path in folder.iterdir()] == [lock.NAME]


def test_an_error_frees_the_folder(tmp_path):
    with pytest.raises(KeyError), lock.held(tmp_path):
        raise KeyError
    with lock.held(tmp_path):
        pass


def test_a_killed_process_holds_nothing(tmp_path):
    text = (
        f"import time\nfrom jax3dret.core import lock\nwith lock.held(lock.pathlib.Path("
        f"{str(tmp_path)!r})):\n    print(1, flush=True)\n    time.sleep(60)"
    )
    root = str(pathlib.Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, env=environment
    ) as other:
        assert other.stdout.readline() == b"1\n"
        with pytest.raises(DataError, match=f"process {other.pid} on"):
            lock.refuse_busy(tmp_path)
        other.send_signal(signal.SIGKILL)
    assert (tmp_path / lock.NAME).exists()  # left behind
    lock.refuse_busy(tmp_path)
    with lock.held(tmp_path):
        assert str(os.getpid()) in (tmp_path / lock.NAME).read_text()
