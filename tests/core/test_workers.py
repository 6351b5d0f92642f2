"""Results in the order of the items, few under way, and no worker that outlives its use."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import pathlib
import signal
import time

import pytest

from jax3dret.core.types import DataError
from jax3dret.core.workers import ordered_map


def slow_when_even(number):
    time.sleep(0.02 * (number % 2 == 0))
    if number == 7:
        raise DataError("7 is no number")
    return number * number, os.getpid(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def with_state(number, state):
    state.append(number)
    return os.getpid(), id(state), len(state)


def start(*values):
    return list(values)


def no_start():
    raise DataError("the file that all share is missing")


def mark(folder, number):
    (folder / str(number)).touch()
    time.sleep(0.05)
    return number


def die(number):
    if number == 2:
        os._exit(1)
    time.sleep(0.2 * (number > 2))
    return number


def run_until_killed(send):
    for pid in ordered_map(pid_of, itertools.count(), jobs=2):
        send.send(pid)
        time.sleep(60)


def pid_of(number):
    return os.getpid()


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_order_and_an_error_is_in_its_place(jobs):
    seen = []
    with pytest.raises(DataError, match="7 is no number"):
        for found in ordered_map(slow_when_even, range(20), jobs=jobs):
            seen.append(found)
    squares, pids, ignoring = zip(*seen, strict=True)
    assert squares == (0, 1, 4, 9, 16, 25, 36)
    assert (os.getpid() in pids) == (jobs == 1) and len(set(pids)) <= jobs
    assert jobs == 1 or all(ignoring), "workers leave Ctrl-C to their parent"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_state_is_made_once_for_each_process(jobs):
    state = functools.partial(start, "a", "b")
    found = list(ordered_map(with_state, range(12), jobs=jobs, state=state))
    by_process = {}
    for pid, identity, length in found:
        by_process.setdefault((pid, identity), []).append(length)
    assert len(by_process) == len({pid for pid, _, _ in found}) <= jobs
    assert all(n == list(range(3, 3 + len(n))) for n in by_process.values())


def test_threads_share_what_is_loaded_and_have_a_state_each():
    shared, seen = {}, []

    def work(number, state):
        if number == 9:
            raise DataError("9 is no number")
        shared[number] = id(state)
        state.append(number)
        time.sleep(0.01 * (number % 2 == 0))
        return number, state

    with pytest.raises(DataError, match="9 is no number"):
        for number, state in ordered_map(work, range(40), jobs=2, threads=True, state=list):
            seen.append(number)
            assert number in state and len(set(shared.values())) <= 2
    assert seen == list(range(9)) and len(set(shared.values())) == 2


def test_a_state_is_made_where_it_is_needed():
    assert not list(ordered_map(with_state, (), jobs=1, state=no_start))
    with pytest.raises(DataError, match="that all share is missing"):
        list(ordered_map(with_state, range(3), jobs=1, state=no_start))


def test_a_window_of_items_is_under_way_and_closing_drops_the_rest(tmp_path):
    taken = []

    def items():
        for number in itertools.count():  # more than would ever end
            taken.append(number)
            yield number

    found = ordered_map(functools.partial(mark, tmp_path), items(), jobs=2, ahead=3)
    assert [next(found), next(found)] == [0, 1] and len(taken) == 7
    found.close()
    assert not multiprocessing.active_children() and len(taken) == 7
    begun = sorted(int(path.name) for path in tmp_path.iterdir())
    # Two under way, and what the pool keeps ready for each process and one more.
    assert begun == list(range(len(begun))) and 2 <= len(begun) <= 7


def test_a_lost_worker_names_what_was_under_way():
    seen = []
    with pytest.raises(DataError) as error:
        for number in ordered_map(die, range(40), jobs=2, name="file-{}".format):
            seen.append(number)
    assert seen == [0, 1] and not multiprocessing.active_children()
    message = str(error.value)
    assert "file-2" in message and "try fewer jobs" in message and "\n" not in message
    assert "file-1," not in message and message.count("file-") <= 2


@pytest.mark.skipif(not pathlib.Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_with_a_parent_that_is_killed():
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    parent = context.Process(target=run_until_killed, args=(send,))
    parent.start()
    assert receive.poll(60)
    worker = pathlib.Path("/proc") / str(receive.recv())
    assert worker.exists()
    parent.kill()
    parent.join()
    until = time.monotonic() + 20
    while worker.exists() and "\nState:\tZ" not in _status(worker):
        assert time.monotonic() < until, "the worker outlives its parent"
        time.sleep(0.05)


def _status(process):
    try:
        return (process / "status").read_text()
    except OSError:
        return ""
