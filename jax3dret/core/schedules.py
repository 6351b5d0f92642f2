"""Schedules of the learning rate and of beta1: functions of the number of updates taken so far.

Given a JAX array they compute in float32 and can be traced; given a Python or NumPy number, in
float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core.types import ConfigError

# The update with index `step` (0 is the first) uses the value at `step`.
Schedule = Callable[[Any], Any]


def constant(peak: float) -> Schedule:
    """The same value at every step."""
    _check("constant", peak=peak)
    return lambda step: _array(np.broadcast_to(peak, np.shape(step)), _namespace(step))


def warmup_cosine(
    peak: float, steps: int, warmup_fraction: float = 0.2, final: float = 0.0, hold: int = 1
) -> Schedule:
    """Linear from 0 to `peak` over the first `warmup_fraction` of `steps`, then half a cosine down
    to `final` at `steps`.

    Source: paper, implementation details: 0 to 5e-5 over the first 20 % of training, then cosine.

    Args:
        peak, final: values after the warm-up and from step `steps` on.
        steps: updates in all; with 0 the value is `final` throughout.
        warmup_fraction: in [0, 1]; 0 starts at `peak`.
        hold: the value changes only every `hold` steps (steps per epoch: one value an epoch).

    Raises:
        ConfigError: a value out of range.
    """
    _check(
        "warmup_cosine",
        peak=peak,
        final=final,
        steps=steps,
        warmup_fraction=warmup_fraction,
        hold=hold,
    )
    warm = warmup_fraction * steps

    def schedule(step: Any) -> Any:
        xp = _namespace(step)
        step = xp.maximum(xp.asarray(step), 0) // hold * hold
        rise = peak * (_array(step, xp) / (warm or 1.0))
        # (1 + cos(pi t)) / 2 = sin(pi (1 - t) / 2)^2; the right side keeps its relative accuracy in
        # float32 near the end.
        left = xp.clip(_array(steps - step, xp) / ((steps - warm) or 1.0), 0.0, 1.0)
        fall = final + (peak - final) * xp.sin(left * (math.pi / 2)) ** 2
        return xp.where(step >= steps, _array(final, xp), xp.where(step < warm, rise, fall))

    return schedule


def cosine(peak: float, steps: int, final: float = 0.0, hold: int = 1) -> Schedule:
    """Half a cosine from `peak` at step 0 to `final` at `steps`; see `warmup_cosine`.

    With hold = steps per epoch: torch CosineAnnealingLR(T_max=epochs, eta_min=final) stepped once
    per epoch.
    """
    return warmup_cosine(peak, steps, warmup_fraction=0.0, final=final, hold=hold)


def epoch_cosine(peak: float, steps: int, steps_per_epoch: int, final: float = 0.0) -> Schedule:
    """`cosine` with one value an epoch, as torch's CosineAnnealingLR(T_max=epochs, eta_min=final)
    is used.
    """
    return cosine(peak, steps, final=final, hold=steps_per_epoch)


def exponential(peak: float, rate: float, every: int, staircase: bool = False) -> Schedule:
    """peak * rate^(step / every); with `staircase` the exponent is rounded down."""
    _check("exponential", peak=peak, rate=rate, every=every)

    def schedule(step: Any) -> Any:
        xp = _namespace(step)
        step = xp.maximum(xp.asarray(step), 0)
        exponent = _array(step // every, xp) if staircase else _array(step, xp) / every
        return peak * _array(rate, xp) ** exponent

    return schedule


def step_decay(peak: float, steps_per_epoch: int, rate: float = 0.5, every: int = 10) -> Schedule:
    """`peak`, multiplied by `rate` at the start of the `every`-th, 2 `every`-th, ... epoch, counted
    from 1.

    So the first cut is one epoch earlier than a count from 0 would have it: with every=10, after 9
    epochs (view-GCN's published code, for its single-view stage).

    Raises:
        ConfigError: a value out of range.
    """
    _check("step_decay", peak=peak, rate=rate, every=every, steps_per_epoch=steps_per_epoch)

    def schedule(step: Any) -> Any:
        xp = _namespace(step)
        epoch = xp.maximum(xp.asarray(step), 0) // steps_per_epoch
        return peak * _array(rate, xp) ** _array((epoch + 1) // every, xp)

    return schedule


def view_gcn(peak: float, epochs: int, steps_per_epoch: int, decay: str = "halve") -> Schedule:
    """View-GCN's second stage: step i of the first epoch at peak (i + 1) / steps_per_epoch, then
    one value an epoch.

    decay: "halve", halved at the start of the 10th, 20th, ... epoch: what the published code does.
        "cosine", the peak in the second epoch, then peak (1 + cos(pi e / epochs)) / 2 in epoch e,
        counted from 0: the branch that it means to take, and does not for a misspelled name (there
        each factor would multiply the one before; here it does not).

    Raises:
        ConfigError: a value out of range, another decay.
    """
    if decay not in ("halve", "cosine"):
        raise ConfigError(f"schedule view_gcn: decay is '{decay}'; give 'halve' or 'cosine'")
    if epochs < 1:
        raise ConfigError(f"schedule view_gcn: epochs is {epochs}; give 1 or more")
    _check("view_gcn", peak=peak, steps_per_epoch=steps_per_epoch)
    halved = step_decay(peak, steps_per_epoch)

    def schedule(step: Any) -> Any:
        xp = _namespace(step)
        step = xp.maximum(xp.asarray(step), 0)
        epoch = step // steps_per_epoch
        if decay == "halve":
            later = halved(step)
        else:  # as in warmup_cosine, in a form that keeps its accuracy near the end
            left = xp.clip(_array(epochs - xp.where(epoch < 2, 0, epoch), xp) / epochs, 0.0, 1.0)
            later = peak * xp.sin(left * (math.pi / 2)) ** 2
        return xp.where(epoch == 0, peak * (_array(step + 1, xp) / steps_per_epoch), later)

    return schedule


def one_cycle(
    peak: float,
    epochs: int,
    steps_per_epoch: int,
    pct_start: float = 0.3,
    div: float = 25.0,
    final_div: float = 1e4,
) -> Schedule:
    """Learning rate of torch OneCycleLR stepped once per EPOCH, as the published code does;
    constant within an epoch.

    peak / div in epoch 0, half a cosine up to `peak` at epoch pct_start * epochs - 1, half a cosine
    down to peak / div / final_div in the last epoch. Two consequences of that formula: with
    pct_start * epochs < 1 there is no rise, and the first value lies below the peak already; a
    single epoch runs at the final value. Where torch divides 0 by 0 (pct_start * epochs = 1) epoch
    0 runs at the peak. Later epochs keep the last value.

    Raises:
        ConfigError: a value out of range.
    """
    _check("one_cycle", peak=peak, div=div, final_div=final_div)
    start = peak / div
    return _per_epoch(
        _one_cycle_table(start, peak, start / final_div, epochs, pct_start), steps_per_epoch
    )


def one_cycle_beta1(
    epochs: int, steps_per_epoch: int, pct_start: float = 0.3, low: float = 0.85, high: float = 0.95
) -> Schedule:
    """The beta1 that goes with `one_cycle` (torch: cycle_momentum=True, its default): `high`, `low`
    at the peak, `high`.
    """
    _check("one_cycle_beta1", low=low, high=high)
    return _per_epoch(_one_cycle_table(high, low, high, epochs, pct_start), steps_per_epoch)


def _one_cycle_table(
    start: float, middle: float, end: float, epochs: int, pct_start: float
) -> np.ndarray:
    """float64[epochs]: cosine from `start` to `middle` to `end`, with the phase limits of torch
    OneCycleLR.
    """
    _check("one_cycle", epochs=epochs, pct_start=pct_start)
    if epochs < 1:
        raise ConfigError(f"schedule one_cycle: epochs is {epochs}; give 1 or more")
    epoch = np.arange(epochs)
    turn = float(pct_start * epochs) - 1
    rise = epoch / turn if turn > 0 else np.ones(epochs)
    fall = (epoch - turn) / ((epochs - 1 - turn) or 1.0)
    blend = np.cos(np.pi * np.where(epoch <= turn, rise, fall)) + 1
    return np.where(
        epoch <= turn, middle + (start - middle) / 2 * blend, end + (middle - end) / 2 * blend
    )


def _per_epoch(table: np.ndarray, steps_per_epoch: int) -> Schedule:
    if steps_per_epoch < 1:
        raise ConfigError(
            f"schedule one_cycle: steps_per_epoch is {steps_per_epoch}; give 1 or more"
        )

    def schedule(step: Any) -> Any:
        xp = _namespace(step)
        return _array(table, xp)[xp.clip(xp.asarray(step) // steps_per_epoch, 0, len(table) - 1)]

    return schedule


def _namespace(step: Any) -> Any:
    return jnp if isinstance(step, jax.Array) else np


def _array(value: Any, xp: Any) -> Any:
    return xp.asarray(value, np.float32 if xp is jnp else np.float64)


def _check(name: str, **values: float) -> None:
    for key, value in values.items():
        if key in ("warmup_fraction", "pct_start", "low", "high"):
            good, wanted = 0 <= value <= 1, "a number in [0, 1]"
        elif key in ("div", "final_div", "rate"):
            good, wanted = 0 < value < math.inf, "a number above 0"
        elif key in ("hold", "every", "steps_per_epoch"):
            good, wanted = value >= 1 and float(value).is_integer(), "an integer of at least 1"
        else:
            good, wanted = 0 <= value < math.inf, "a finite number, 0 or above"
        if not good:
            raise ConfigError(f"schedule {name}: {key} is {value}; give {wanted}")
