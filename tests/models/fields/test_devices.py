"""One device for each core, where nothing else was chosen."""

import jax
import pytest

from jax3dret.models.fields import devices


class Chosen:
    def __init__(self, count, in_use):
        self.jax_num_cpu_devices, self.in_use = count, in_use

    def update(self, key, value):
        if self.in_use:
            raise RuntimeError("devices are in use")
        setattr(self, key, value)


@pytest.mark.parametrize(
    ("flags", "before", "in_use", "after"),
    [
        ("", -1, False, 3),
        ("", 2, False, 2),
        (devices._FLAG + "=4", -1, False, -1),
        ("", -1, True, -1),
    ],
)
def test_only_where_nothing_was_chosen(flags, before, in_use, after, monkeypatch):
    config = Chosen(before, in_use)
    monkeypatch.setattr(jax, "config", config)
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: {0, 1, 5})
    devices.one_for_each_core()
    assert config.jax_num_cpu_devices == after


def test_four_shapes_a_device():
    assert [devices.over_shapes(n).size for n in (1, 7, 9)] == [1, 1, 2]
    assert devices.over_shapes(100).size == len(jax.local_devices())
