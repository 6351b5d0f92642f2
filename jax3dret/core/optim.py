"""The optimizer: Adam(W) or SGD, a schedule, and rules that give groups of parameters their own
rate and decay, or freeze them.

The state is made of standard optax states whose slots repeat the tree of the trained parameters
(`mu`, `nu`, `trace`), so they can be sharded as the parameters are. A frozen parameter has no
slots.
"""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jax3dret.core import schedules
from jax3dret.core.config import check_call, check_kwargs, check_rules, resolve
from jax3dret.core.sharding import path_name
from jax3dret.core.types import ConfigError, PyTree, nearest

Rules = Sequence[tuple[str, Mapping[str, Any]]]

DEFAULT_RULES: Rules = ((".*", {}),)
NAMES = ("adamw", "adam", "sgd")
SCHEDULES = {
    name: getattr(schedules, name)
    for name in ("constant", "cosine", "warmup_cosine", "exponential", "one_cycle")
}

_log = logging.getLogger("jax3dret")


class Optimizer(NamedTuple):
    """tx: the optax transformation. learning_rate: updates taken so far -> the base rate of the
    next update.
    """

    tx: optax.GradientTransformation
    learning_rate: schedules.Schedule


class ParameterRow(NamedTuple):
    """How one parameter is trained: `lr` and `decay` multiply the base rate and the weight decay;
    after every update its values are put back between the two `bounds`, if it has any.
    """

    path: str
    shape: tuple[int, ...]
    lr: float
    decay: float
    frozen: bool
    bounds: tuple[float, float] | None = None


def make_optimizer(
    params: PyTree,
    *,
    steps: int,
    steps_per_epoch: int,
    name: str = "adamw",
    lr: float = 3e-4,
    schedule: str | Mapping[str, Any] | schedules.Schedule = "warmup_cosine",
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    momentum: float = 0.9,
    grad_clip_norm: float | None = None,
    rules: Rules = DEFAULT_RULES,
    beta1_cycle: bool = False,
) -> Optimizer:
    """Builds the optimizer of a run; its arithmetic is that of torch.optim.

    Args: params: the parameters; abstract ones (`jax.eval_shape`) will do. steps, steps_per_epoch:
        updates in all and in one epoch; handed to the schedule. name: "adamw" (decoupled decay: p
        -= lr * decay * p), "adam" or "sgd" (with momentum); these two take the decay as an L2 term
        in the gradient. lr: base learning rate, the peak of the schedule. schedule: a name of
        SCHEDULES or "module:attribute", alone or as the "name" of a mapping whose other keys are
        keyword arguments; or a function of the step. Of peak, steps, steps_per_epoch and epochs
        (steps over steps_per_epoch, rounded up) it is handed those that it takes and that the
        mapping does not set. weight_decay: applied to all parameters, biases and norms included,
        unless a rule says otherwise (published code). b1, b2, eps: of Adam. momentum: of SGD.
        grad_clip_norm: limit of the global gradient norm over the trained parameters; None or 0: no
        clipping. rules: (regex, settings); the first regex that matches the whole path "a/b/kernel"
        decides. Settings: "lr" (factor), "decay" (factor, or a bool), "freeze" (bool), "bounds"
        (lowest, highest value). beta1_cycle: beta1 of Adam follows `schedules.one_cycle_beta1` and
        replaces `b1`; needs the schedule one_cycle.

    Raises: ConfigError: an unknown name or key, a value out of range, a parameter that no rule
        matches, a rule without effect.
    """
    if name not in NAMES:
        raise ConfigError(
            f"optim.name '{name}' is unknown{nearest(name, NAMES)}; there are: {', '.join(NAMES)}"
        )
    limits = {
        "lr": math.inf,
        "weight_decay": math.inf,
        "eps": math.inf,
        "b1": 1.0,
        "b2": 1.0,
        "momentum": 1.0,
    }
    values = {
        "lr": lr,
        "weight_decay": weight_decay,
        "eps": eps,
        "b1": b1,
        "b2": b2,
        "momentum": momentum,
    }
    for key, value in values.items():
        if not 0 <= value < limits[key]:
            raise ConfigError(f"optim.{key} is {value}; give a number in [0, {limits[key]})")
    if grad_clip_norm is not None and not grad_clip_norm >= 0:
        raise ConfigError(
            f"optim.grad_clip_norm is {grad_clip_norm}; give a number above 0, or 0 for no clipping"
        )

    offered = {"peak": lr, "steps": steps, "steps_per_epoch": steps_per_epoch}
    rate, cycle = _make_schedule(schedule, offered)
    if beta1_cycle and (cycle is None or name == "sgd"):
        raise ConfigError(
            "optim.beta1_cycle goes with schedule 'one_cycle' and the optimizers adamw and adam"
        )

    rows = describe(params, rules)
    decay = {row.path: row.decay * weight_decay for row in rows}
    factor = {row.path: row.lr for row in rows}
    bounds = {row.path: row.bounds for row in rows if row.bounds is not None}
    labels = {row.path: "frozen" if row.frozen else "trained" for row in rows}

    parts = [optax.clip_by_global_norm(grad_clip_norm)] if grad_clip_norm else []
    if name != "adamw":
        parts.append(_add_decay(decay))
    if name == "sgd":
        parts.append(optax.trace(momentum))
    else:
        parts.append(scale_by_adam(cycle if beta1_cycle and cycle is not None else b1, b2, eps))
    if name == "adamw":
        parts.append(_add_decay(decay))
    if any(value != 1 for value in factor.values()):
        parts.append(
            optax.stateless(lambda updates, _: _map_named(lambda key, u: factor[key] * u, updates))
        )
    parts.append(optax.scale_by_learning_rate(rate))
    if bounds:
        parts.append(_keep_within(bounds))
    tx = optax.partition(
        {"trained": optax.chain(*parts), "frozen": optax.set_to_zero()},
        _map_named(lambda key, _: labels[key], params),
    )
    return Optimizer(tx, rate)


def scale_by_adam(
    b1: float | schedules.Schedule, b2: float, eps: float
) -> optax.GradientTransformation:
    """Adam's direction (Kingma and Ba, algorithm 1), with a beta1 that may follow a schedule.

    Under a schedule the bias correction of update t is 1 - beta1(t)^t with the CURRENT beta1, as in
    torch. The corrections are computed as -expm1(t log beta): 1 - 0.999 in float32 would be off by
    1e-5.
    """

    def update(
        updates: PyTree, state: optax.ScaleByAdamState, params: PyTree = None
    ) -> tuple[PyTree, optax.ScaleByAdamState]:
        del params
        t = optax.safe_increment(state.count)
        beta1 = b1(state.count) if callable(b1) else b1
        mu = jax.tree.map(lambda m, g: m + (1 - beta1) * (g - m), state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        correction1, correction2 = (-jnp.expm1(t * _log_beta(beta)) for beta in (beta1, b2))
        root = jnp.sqrt(correction2)
        direction = jax.tree.map(lambda m, v: m / correction1 / (jnp.sqrt(v) / root + eps), mu, nu)
        return direction, optax.ScaleByAdamState(count=t, mu=mu, nu=nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def describe(params: PyTree, rules: Rules = DEFAULT_RULES) -> list[ParameterRow]:
    """One row for each parameter, in tree order.

    Raises: ConfigError: a parameter that no rule matches, a rule that matches nothing or that
        earlier rules leave nothing, an unknown setting.
    """
    check_rules(rules, where="optim.rules")
    compiled = [(re.compile(pattern), _settings(pattern, given)) for pattern, given in rules]
    leaves = [
        (path_name(path), tuple(leaf.shape))
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    ]
    rows, used = [], set()
    for path, shape in leaves:
        index = next((i for i, (regex, _) in enumerate(compiled) if regex.fullmatch(path)), None)
        if index is None:
            patterns = [pattern for pattern, _ in rules]
            raise ConfigError(
                f"optim.rules: no rule matches the parameter '{path}'{nearest(path, patterns)}; "
                f"end with ('.*', {{}})"
            )
        used.add(index)
        rows.append(ParameterRow(path, shape, **compiled[index][1]))
    for index, (pattern, given) in enumerate(rules):
        if index in used:
            continue
        if not any(compiled[index][0].fullmatch(path) for path, _ in leaves):
            names = [path for path, _ in leaves]
            hint = nearest(pattern, names) or (
                f"; they are called like '{names[0]}'" if names else "; there are none"
            )
            raise ConfigError(
                f"optim.rules: '{pattern}' matches no parameter (the whole path must match){hint}"
            )
        if given:  # a catch-all without settings at the end is harmless
            raise ConfigError(
                f"optim.rules: '{pattern}' has no effect, earlier rules take all it matches; move "
                "it up"
            )
    return rows


def _settings(pattern: str, given: Mapping[str, Any]) -> dict[str, Any]:
    known = ("lr", "decay", "freeze", "bounds")
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"optim.rules: '{pattern}' sets {given!r}; give a mapping of {', '.join(known)}"
        )
    for key, value in given.items():
        if key not in known:
            raise ConfigError(
                f"optim.rules: '{pattern}' sets '{key}'{nearest(key, known)}; a rule sets lr, "
                "decay, freeze or bounds"
            )
        if key == "freeze":
            good, wanted = isinstance(value, bool), "true or false"
        elif key == "bounds":
            good = isinstance(value, tuple | list) and len(value) == 2 and value[0] < value[1]
            wanted = "the lowest and the highest value"
        else:
            good = (
                isinstance(value, int | float)
                and 0 <= value < math.inf
                and not (key == "lr" and isinstance(value, bool))
            )
            wanted = "a factor of 0 or above" + (", or true or false" if key == "decay" else "")
        if not good:
            raise ConfigError(f"optim.rules: '{pattern}' sets {key}={value!r}; give {wanted}")
    frozen = given.get("freeze", False)
    if frozen and len(given) > 1:
        raise ConfigError(
            f"optim.rules: '{pattern}' freezes its parameters, so nothing else has an effect; drop "
            "it"
        )
    return {
        "lr": 0.0 if frozen else float(given.get("lr", 1.0)),
        "decay": 0.0 if frozen else float(given.get("decay", 1.0)),
        "frozen": frozen,
        "bounds": tuple(float(v) for v in given["bounds"]) if "bounds" in given else None,
    }


def _make_schedule(
    schedule: str | Mapping[str, Any] | schedules.Schedule, offered: dict[str, Any]
) -> tuple[schedules.Schedule, schedules.Schedule | None]:
    """The learning rate, and the beta1 that belongs to it if it is one_cycle."""
    if callable(schedule):
        return schedule, None
    given = {"name": schedule} if isinstance(schedule, str) else dict(schedule)
    label = given.pop("name", None)
    if not isinstance(label, str):
        raise ConfigError(f"optim.schedule has no name; give one of: {', '.join(SCHEDULES)}")
    if "peak" in given:
        raise ConfigError("optim.schedule.peak: the peak is optim.lr")
    if ":" in label:
        target = resolve(label, where="optim.schedule.name")
    elif label in SCHEDULES:
        target = SCHEDULES[label]
    else:
        raise ConfigError(
            f"optim.schedule '{label}' is unknown{nearest(label, SCHEDULES)}; there are: "
            f"{', '.join(SCHEDULES)}"
        )

    values = {**offered, **given}
    if values["steps_per_epoch"] < 1:
        raise ConfigError(f"optim: steps_per_epoch is {values['steps_per_epoch']}; give 1 or more")
    values.setdefault("epochs", max(1, math.ceil(values["steps"] / values["steps_per_epoch"])))
    check_kwargs(target, given, where="config.optim.schedule")
    taken = _taken_by(target, values)
    check_call(target, taken, where="config.optim.schedule")
    rate = target(**taken)
    if target is not schedules.one_cycle:
        return rate, None
    if values["epochs"] == 1 and values["steps"] > 0 and values.get("pct_start", 0) < 1:
        _log.warning(
            "one_cycle over a single epoch stays at its final learning rate; use more epochs or "
            "another schedule"
        )
    return rate, schedules.one_cycle_beta1(**_taken_by(schedules.one_cycle_beta1, values))


def _taken_by(target: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in values.items() if key in inspect.signature(target).parameters
    }


def _log_beta(beta: Any) -> Any:
    if isinstance(beta, jax.Array):
        return jnp.log(beta)
    return math.log(beta) if beta else -math.inf


def _map_named(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(path_name(path), *leaves), tree, *rest
    )


def _add_decay(decay: Mapping[str, float]) -> optax.GradientTransformation:
    """Adds decay[path] * parameter to each update."""
    if not any(decay.values()):
        return optax.identity()
    return optax.stateless(
        lambda updates, params: _map_named(
            lambda key, u, p: u + decay[key] * p if decay[key] else u, updates, params
        )
    )


def _keep_within(bounds: Mapping[str, tuple[float, float]]) -> optax.GradientTransformation:
    """Cuts each update short where it would carry a parameter beyond its bounds."""

    def cut(key: str, update: jax.Array, parameter: jax.Array) -> jax.Array:
        return jnp.clip(parameter + update, *bounds[key]) - parameter if key in bounds else update

    return optax.stateless(lambda updates, params: _map_named(cut, updates, params))
