"""Schedules against values worked out by hand, against torch, and at their edges."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core import schedules
from jax3dret.core.types import ConfigError


def test_warmup_cosine_by_hand():
    schedule = schedules.warmup_cosine(1.0, 10, 0.2)
    # 0, 1/2 while warming up; then (1 + cos(pi (s - 2) / 8)) / 2.
    expected = [0, 0.5] + [(1 + math.cos(math.pi * (s - 2) / 8)) / 2 for s in range(2, 11)] + [0, 0]
    np.testing.assert_allclose(schedule(np.arange(13)), expected, atol=1e-15)
    assert schedule(2) == 1.0 and schedule(6) == pytest.approx(0.5)


def test_warmup_cosine_floor_and_odd_fraction():
    schedule = schedules.warmup_cosine(
        2.0, 7, 0.3, final=0.5
    )  # the warm-up ends between steps 2 and 3, at 2.1
    assert schedule(2) == pytest.approx(2.0 * 2 / 2.1)
    assert schedule(3) == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi * 0.9 / 4.9)) / 2)
    assert schedule(7) == schedule(1000) == 0.5


@pytest.mark.parametrize("fraction", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("steps", [0, 1, 10])
def test_warmup_cosine_edges_are_finite(fraction, steps):
    schedule = schedules.warmup_cosine(1.0, steps, fraction, final=0.25)
    values = schedule(np.arange(-1, 13))
    traced = jax.jit(jax.vmap(schedule))(jnp.arange(-1, 13))
    np.testing.assert_allclose(traced, values, rtol=1e-6)
    assert np.isfinite(values).all() and (values[steps + 1 :] == 0.25).all()
    if steps and fraction == 0.0:
        assert values[1] == 1.0
    if steps and fraction == 1.0:
        np.testing.assert_allclose(values[1 : steps + 1], np.arange(steps) / steps)


def test_float32_keeps_its_relative_accuracy_to_the_last_step():
    steps = 100_000
    schedule = schedules.warmup_cosine(5e-5, steps)
    step = np.arange(steps - 50, steps)
    np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(step)), schedule(step), rtol=2e-6)


def test_constant_and_exponential():
    assert schedules.constant(0.1)(5) == 0.1
    assert jax.jit(schedules.constant(0.1))(jnp.int32(5)) == np.float32(0.1)
    np.testing.assert_array_equal(schedules.constant(0.1)(np.arange(3)), [0.1] * 3)
    smooth = schedules.exponential(0.002, 0.9, 10_000)
    assert smooth(0) == 0.002 and smooth(5000) == pytest.approx(0.002 * 0.9**0.5)
    halved = schedules.exponential(1.0, 0.5, 10, staircase=True)
    assert [float(halved(s)) for s in (0, 9, 10, 19, 20)] == [1, 1, 0.5, 0.5, 0.25]
    assert float(jax.jit(smooth)(jnp.int32(5000))) == pytest.approx(0.002 * 0.9**0.5, rel=1e-6)


def test_step_decay_cuts_at_the_start_of_the_tenth_epoch():
    schedule = schedules.step_decay(0.01, 3)
    # Epochs counted from 0: 8, 9 (cut), 18, 19 (cut), 28, 29 (cut); first and last step of each.
    expected = [0.01, 0.005, 0.005, 0.0025, 0.0025, 0.00125]
    for last in (0, 2):
        steps = np.array([8, 9, 18, 19, 28, 29]) * 3 + last
        np.testing.assert_allclose(schedule(steps), expected, rtol=1e-12)
        np.testing.assert_allclose(
            jax.jit(jax.vmap(schedule))(jnp.asarray(steps)), expected, rtol=1e-6
        )
    assert schedule(0) == schedule(-1) == 0.01


def test_view_gcn_warms_up_over_the_first_epoch():
    halved, cosine = (schedules.view_gcn(1e-3, 15, 4, decay=decay) for decay in ("halve", "cosine"))
    ramp = [0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3]
    steps = np.arange(15) * 4
    for schedule in (halved, cosine):
        np.testing.assert_allclose([schedule(s) for s in range(5)], ramp, rtol=1e-12)
        np.testing.assert_allclose(
            jax.jit(jax.vmap(schedule))(jnp.arange(60)),
            schedule(np.arange(60)),
            rtol=1e-6,
            atol=1e-12,
        )
    np.testing.assert_allclose(halved(steps[1:]), [1e-3] * 8 + [0.5e-3] * 6)
    factors = [1 + math.cos(math.pi * e / 15) for e in range(2, 15)]
    np.testing.assert_allclose(cosine(steps[1:]), [1e-3, *(0.5e-3 * f for f in factors)])
    assert cosine(60) == cosine(600) == 0


def test_one_cycle_by_hand():
    # 10 epochs, pct_start 0.3: up over epochs 0..2, down over 2..9. 4 steps an epoch.
    schedule, beta1 = schedules.one_cycle(1.0, 10, 4, 0.3), schedules.one_cycle_beta1(10, 4, 0.3)
    assert [float(schedule(s)) for s in (0, 3)] == pytest.approx([0.04, 0.04], rel=1e-12)
    assert schedule(4) == pytest.approx(0.52) and schedule(8) == 1.0
    assert schedule(36) == schedule(39) == schedule(400) == pytest.approx(0.04 / 1e4)
    assert schedule(12) == pytest.approx(4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi / 7)) / 2)
    assert [float(beta1(s)) for s in (0, 4, 8, 39)] == pytest.approx([0.95, 0.90, 0.85, 0.95])


def test_one_cycle_edges():
    assert schedules.one_cycle(1.0, 1, 5, 0.3)(0) == pytest.approx(
        4e-6
    )  # as torch: the last epoch is the first
    assert schedules.one_cycle(1.0, 1, 5, 1.0)(0) == 1.0
    assert schedules.one_cycle(1.0, 5, 1, 0.2)(0) == 1.0  # torch divides 0 by 0 here
    assert schedules.one_cycle(1.0, 5, 1, 1.0)(4) == 1.0
    assert schedules.one_cycle(1.0, 4, 1, 0.0)(0) == pytest.approx(
        4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi / 4)) / 2
    )


@pytest.mark.parametrize(
    ("epochs", "pct_start"),
    [(1, 0.3), (2, 0.3), (7, 0.0), (7, 1.0), (50, 0.2), (70, 0.08), (45, 0.2)],
)
def test_epoch_schedules_against_torch(epochs, pct_start):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torch_cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 5e-5, epochs=epochs, steps_per_epoch=1, pct_start=pct_start
    )
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    torch_cosine = torch.optim.lr_scheduler.CosineAnnealingLR(other, T_max=epochs, eta_min=1e-6)
    ours = schedules.one_cycle(5e-5, epochs, 3, pct_start)
    beta1 = schedules.one_cycle_beta1(epochs, 3, pct_start)
    cosine = schedules.epoch_cosine(1e-4, 3 * epochs, 3, 1e-6)
    for epoch in range(epochs):
        for step in (3 * epoch, 3 * epoch + 2):
            group = optimizer.param_groups[0]
            np.testing.assert_allclose(
                [ours(step), beta1(step)], [group["lr"], group["betas"][0]], rtol=1e-12
            )
            np.testing.assert_allclose(cosine(step), other.param_groups[0]["lr"], rtol=1e-9)
        optimizer.step(), other.step()
        if epoch + 1 < epochs:
            torch_cycle.step(), torch_cosine.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.warmup_cosine(1.0, -1), "steps is -1"),
        (lambda: schedules.warmup_cosine(1.0, 10, 1.5), "warmup_fraction is 1.5"),
        (lambda: schedules.warmup_cosine(math.nan, 10), "peak is nan"),
        (lambda: schedules.cosine(1.0, 10, hold=0), "hold is 0"),
        (lambda: schedules.cosine(1.0, 10, hold=math.inf), "hold is inf"),
        (lambda: schedules.one_cycle(1.0, 0, 1), "epochs is 0"),
        (lambda: schedules.one_cycle(1.0, 2, 0), "steps_per_epoch is 0"),
        (lambda: schedules.one_cycle(1.0, 2, 1, -0.1), "pct_start is -0.1"),
        (lambda: schedules.one_cycle(1.0, 2, 1, div=0), "div is 0"),
        (lambda: schedules.exponential(1.0, 0.0, 5), "rate is 0.0"),
        (lambda: schedules.step_decay(1.0, 5, every=0), "every is 0"),
        (lambda: schedules.view_gcn(1.0, 15, 5, decay="linear"), "decay is 'linear'"),
    ],
)
def test_values_out_of_range_are_named(unchecked, make, message):
    with pytest.raises(ConfigError, match=message):
        make()
