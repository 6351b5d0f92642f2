"""Times taken in turns: the order of the calls, medians, and units, on a clock that the test sets."""

import itertools
import types

import pytest

from jax3dret.bench import paired_timing


def test_sides_take_turns_and_the_median_counts(monkeypatch):
    clock, called = [0.0], []
    ours, theirs = itertools.cycle([9.0, 1.0, 2.0, 7.0]), itertools.cycle([9.0, 4.0, 8.0, 6.0])

    def side(name, seconds):
        def call():
            called.append(name)
            clock[0] += next(seconds)

        return call

    monkeypatch.setattr(paired_timing, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    found = paired_timing.compare(
        "op", side("a", ours), "lib", side("b", theirs), repeats=3, scale=1e3, unit="ms"
    )
    assert called == ["a", "b"] * 4  # the first of each, 9 s, warms up
    assert found == {
        "name": "op",
        "ours": 2000.0,
        "baseline": 6000.0,
        "baseline_name": "lib",
        "ratio": pytest.approx(1 / 3),
        "unit": "ms",
    }
    called.clear()
    found = paired_timing.compare(
        "op",
        side("a", itertools.repeat(3.0)),
        "lib",
        side("b", itertools.repeat(6.0)),
        repeats=1,
        calls=2,
    )
    assert called == ["a", "b", "a", "a", "b", "b"] and (
        found["ours"],
        found["baseline"],
        found["unit"],
    ) == (
        3.0,
        6.0,
        "s",
    )
