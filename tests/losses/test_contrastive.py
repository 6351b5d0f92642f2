"""The multi-modal loss against loops over the definitions, and against what it is most easily
mistaken for.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.losses.contrastive import INITIAL_LOG_SCALE, MAX_LOG_SCALE, mmcl

ROWS, WIDTH = 5, 7
LOSS = jax.jit(mmcl, static_argnames="form")


@pytest.fixture
def triplets():
    return np.random.default_rng(0).normal(size=(3, ROWS, WIDTH)).astype(np.float32)


def unit(x):
    return [row / np.sqrt(sum(v * v for v in row)) for row in np.asarray(x, np.float64)]


def log_probability(a, b, scale, i):
    """log of the share of b_i among all b, as a_i sees them."""
    weights = [np.exp(scale * float(np.dot(a[i], other))) for other in b]
    return np.log(weights[i] / sum(weights))


def literal(cloud, image, text, scale):
    cloud, image, text = unit(cloud), unit(image), unit(text)
    total = 0.0
    for other in (image, text):
        for a, b in ((cloud, other), (other, cloud)):
            total += -sum(log_probability(a, b, scale, i) for i in range(ROWS)) / ROWS / 2
    return total


@pytest.mark.parametrize("log_scale", [0.0, INITIAL_LOG_SCALE, MAX_LOG_SCALE])
def test_equals_the_literal_loops(triplets, log_scale):
    value, _ = LOSS(*triplets, log_scale)
    np.testing.assert_allclose(value, literal(*triplets, np.exp(log_scale)), rtol=1e-5)


def test_differs_from_what_it_is_mistaken_for(triplets):
    cloud, image, text = triplets
    value = float(LOSS(*triplets, 1.0)[0])
    scale = np.exp(1.0)
    c, i, t = unit(cloud), unit(image), unit(text)
    one_way = (
        -sum(log_probability(c, i, scale, k) + log_probability(c, t, scale, k) for k in range(ROWS))
        / ROWS
    )
    with_pair = literal(*triplets, scale) + literal(image, text, text, scale) / 2
    wrong = {
        "the logarithm as the scale": literal(*triplets, 1.0),
        "divided by the scale": literal(*triplets, 1 / scale),
        "one direction": one_way,
        "image against text too": with_pair,
        "summed": ROWS * literal(*triplets, scale),
    }
    for name, other in wrong.items():
        assert abs(other - value) > 1e-3, name


def test_printed_equation(triplets):
    """Cloud to image and text to cloud, twice each over four, summed; no temperature, no other
    direction.
    """
    c, i, t = (unit(x) for x in triplets)
    expected = (
        -sum(
            2 * log_probability(c, i, 1.0, k) + 2 * log_probability(t, c, 1.0, k)
            for k in range(ROWS)
        )
        / 4
    )
    value, _ = LOSS(*triplets, 3.0, form="printed")
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    wrong = (
        -sum(
            2 * log_probability(i, c, 1.0, k) + 2 * log_probability(c, t, 1.0, k)
            for k in range(ROWS)
        )
        / 4
    )
    assert abs(wrong - expected) > 1e-3


def test_lengths_of_rows_do_not_matter(triplets):
    cloud, image, text = triplets
    np.testing.assert_allclose(
        LOSS(3 * cloud, image, text, 1.0)[0], LOSS(*triplets, 1.0)[0], rtol=1e-6
    )


def test_accuracies():
    cloud = jnp.eye(4)
    value, metrics = mmcl(cloud, cloud, cloud[jnp.array([1, 0, 2, 3])], jnp.float32(MAX_LOG_SCALE))
    assert metrics["cloud_image_acc"] == 1.0
    assert metrics["cloud_text_acc"] == 0.5
    assert value > 10
    assert mmcl(cloud, cloud, cloud, jnp.float32(MAX_LOG_SCALE))[0] < 1e-6


@pytest.mark.parametrize("form", ["ulip", "printed"])
def test_the_loss_of_triplets_told_apart_keeps_its_digits(form):
    """Compiled, a logarithm of the softmax gives -2.6e-7 where the truth is 2e-12."""
    rng = np.random.default_rng(3)
    cloud = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
    image = cloud + rng.normal(scale=0.01, size=(6, 6)).astype(np.float32)
    text = cloud + rng.normal(scale=0.01, size=(6, 6)).astype(np.float32)
    log_scale = jnp.float32(np.log(28.0))
    value = float(LOSS(cloud, image, text, log_scale, form=form)[0])
    c, i, t = (np.asarray(unit(x)) for x in (cloud, image, text))
    scale = 28.0 if form == "ulip" else 1.0

    def rows(logits):
        right = np.diag(logits)[:, None]
        off = np.where(np.eye(len(logits), dtype=bool), -np.inf, logits - right)
        return np.log1p(np.exp(off).sum(1))

    if form == "ulip":
        every = [rows(scale * m).mean() for s in (c @ i.T, c @ t.T) for m in (s, s.T)]
        assert sum(every) / 2 < 1e-9
    else:
        every = [rows(c @ i.T).sum(), rows(t @ c.T).sum()]
    np.testing.assert_allclose(value, sum(every) / 2, rtol=1e-4)


def test_adversarial_input(unchecked, triplets):
    cloud, image, text = (jnp.asarray(x) for x in triplets)
    zero = cloud.at[0].set(0.0)
    value, grad = jax.value_and_grad(lambda c: mmcl(c, image, text, jnp.float32(1.0))[0])(zero)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    same = jnp.ones_like(cloud)
    np.testing.assert_allclose(
        mmcl(same, same, same, jnp.float32(1.0))[0], 2 * np.log(ROWS), rtol=1e-6
    )
    assert np.isnan(mmcl(cloud.at[0, 0].set(jnp.nan), image, text, jnp.float32(1.0))[0])
    with pytest.raises(ConfigError, match="three of the same"):
        mmcl(cloud, image[:, :3], text, jnp.float32(1.0))
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        mmcl(cloud[:1], image[:1], text[:1], jnp.float32(1.0))
    with pytest.raises(ConfigError, match="form 'clip'"):
        mmcl(cloud, image, text, jnp.float32(1.0), form="clip")
