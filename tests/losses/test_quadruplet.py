"""The quadruplet loss against its equation in every metric, and against what it is most easily
mistaken for.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from on_device import on_device

from jax3dret.core.types import ConfigError
from jax3dret.losses import quadruplet as module
from jax3dret.losses.quadruplet import DISTANCES

quadruplet = on_device(module.quadruplet)

RNG = np.random.default_rng(0)
FOUR = RNG.normal(size=(4, 7, 5)).astype(np.float32)
# Two hinges that are closed, each beside an open one.
FOUR[1, :2] = FOUR[0, :2] + 0.1 * FOUR[1, :2]
FOUR[2, 0], FOUR[3, 1] = -FOUR[0, 0], -FOUR[0, 1]
FOUR[3, 0], FOUR[2, 1] = FOUR[0, 0] + 0.2 * FOUR[3, 0], FOUR[0, 1] + 0.2 * FOUR[2, 1]
METRICS = ("unit_euclidean", "euclidean", "unit_squared", "cosine")


@jax.jit
def everything(four, mask):
    """metric -> (loss, its gradients by the four)."""
    return {
        metric: jax.value_and_grad(
            lambda four, metric=metric: quadruplet(*four, metric=metric, mask=mask)
        )(four)
        for metric in METRICS
    }


def distance(x, y, metric):
    x, y = x.astype(float), y.astype(float)
    u, v = x / np.sqrt(x @ x), y / np.sqrt(y @ y)
    return {
        "unit_euclidean": np.sqrt(((u - v) ** 2).sum()),
        "euclidean": np.sqrt(((x - y) ** 2).sum()),
        "unit_squared": ((u - v) ** 2).sum(),
        "cosine": 1 - u @ v,
    }[metric]


def literal(four, metric, margin=1.0):
    total = 0.0
    for a, p, n, o in zip(*four, strict=True):
        near = distance(a, p, metric)
        total += max(0, margin + near - distance(a, n, metric)) + max(
            0, margin + near - distance(a, o, metric)
        )
    return total / four.shape[1]


@pytest.fixture(scope="module")
def found():
    return everything(FOUR, np.ones(7, bool))


@pytest.mark.parametrize("metric", METRICS)
def test_equals_the_equation_and_nothing_like_it(found, metric):
    value = float(found[metric][0])
    np.testing.assert_allclose(value, literal(FOUR, metric), rtol=1e-5)
    np.testing.assert_allclose(
        quadruplet(*FOUR, margin=0.2, metric=metric), literal(FOUR, metric, 0.2), rtol=1e-5
    )
    a, p, n, o = FOUR
    rows = [
        [distance(x, y, metric) for x, y in zip(s, t, strict=True)]
        for s, t in ((a, p), (a, n), (a, o), (p, n), (n, o))
    ]
    near, far, other, from_positive, apart = map(np.array, rows)

    def relu(x):
        return np.maximum(x, 0)

    wrong = {
        "from the positive": (relu(1 + near - from_positive) + relu(1 + near - other)).mean(),
        "between the negatives": (relu(1 + near - far) + relu(1 + near - apart)).mean(),
        "one hinge": relu(2 + 2 * near - far - other).mean(),
        "the nearer negative": relu(1 + near - np.minimum(far, other)).mean(),
        "halved": value / 2,
        "summed": value * 7,
        **{f"as {name}": literal(FOUR, name) for name in METRICS if name != metric},
    }
    for name, different in wrong.items():
        assert abs(different - value) > 1e-2, name


def test_order_of_the_default_is_that_of_the_cosine():
    a, p = jnp.broadcast_to(FOUR[0, :1], (7, 5)), jnp.asarray(FOUR[1])
    orders = [np.argsort(DISTANCES[m](a, p)).tolist() for m in METRICS]
    assert orders[0] == orders[2] == orders[3] != orders[1]


def test_mask_and_adversarial_rows(found):
    some = np.array([True, False, True, True, False, True, True])
    four = FOUR.copy()
    four[:, 1], four[2, 4] = np.nan, np.inf
    masked, clean, none = (
        everything(four, some),
        everything(FOUR, some),
        everything(FOUR, np.zeros(7, bool)),
    )
    # Zeros, equal vectors: distance 0, and finite gradients.
    four = FOUR.copy()
    four[0, 0], four[1, 1], four[1, 2], four[2, 3] = 0, 0, four[0, 2], four[0, 3]
    four[:, 4] = 0
    degenerate = everything(four, np.ones(7, bool))
    for metric in METRICS:
        np.testing.assert_allclose(masked[metric][0], literal(FOUR[:, some], metric), rtol=1e-5)
        np.testing.assert_array_equal(masked[metric][1], clean[metric][1])
        assert not np.any(masked[metric][1][:, ~some])
        assert none[metric][0] == 0 and not np.any(none[metric][1])
        value, gradient = degenerate[metric]
        assert np.isfinite(value) and np.isfinite(gradient).all(), metric
    assert np.isnan(quadruplet(*np.where(np.arange(7)[:, None] == 1, np.nan, FOUR)))
    # A batch of one class, where the sampler has nothing else: the negatives are the positives, and
    # each hinge the margin.
    a, p, _, _ = FOUR
    np.testing.assert_allclose(quadruplet(a, p, p, p, margin=0.4), 0.8, rtol=1e-6)


def test_errors(unchecked):
    with pytest.raises(ConfigError, match="four of the same"):
        quadruplet(*FOUR[:3], FOUR[3, :6])
    with pytest.raises(ConfigError, match=r"mask \(6,\)"):
        quadruplet(*FOUR, mask=np.ones(6, bool))
    with pytest.raises(
        ConfigError,
        match="metric 'manhattan'; expected one of unit_euclidean, euclidean, unit_squared, cosine",
    ):
        quadruplet(*FOUR, metric="manhattan")
