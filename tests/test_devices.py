"""A small task of MV-HGNN takes the same first step on one device, on four, and on two processes of
two devices each. test_entry.py compares that of ULIP-2 in the documented commands.
"""

import json
import pathlib
import sys

import devices
import jax
import numpy as np
import pytest
from processes_together import run_two


@pytest.fixture(scope="module")
def on_one():
    return devices.first_steps(jax.devices()[:1])


def check_same(found, expected):
    """Loss and gradient norm of the first step."""
    assert np.shape(expected) == (1, 2) and np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_four_devices_take_the_step_of_one(on_one):
    assert len(jax.devices()) == 4
    check_same(devices.first_steps(jax.devices()), on_one)


def test_two_processes_of_two_devices_take_the_step_of_one(on_one):
    program = str(pathlib.Path(devices.__file__))
    both = run_two(
        lambda address, number: [sys.executable, program, "1", address, "2", f"{number}"]
    )
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    for done in both:
        check_same(json.loads(done.stdout.splitlines()[-1]), on_one)
