"""Attention with its own backward pass, against the formula and automatic differentiation of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.models import attention
from jax3dret.models.attention import self_attention


def literal(qkv, num_heads):
    """The formula, head by head; columns q | k | v, heads within each."""
    width = qkv.shape[-1] // 3
    size = width // num_heads
    out = []
    for h in range(num_heads):
        q, k, v = (qkv[..., i * width + h * size : i * width + (h + 1) * size] for i in range(3))
        scores = jnp.einsum("btd,bsd->bts", q, k) / jnp.sqrt(size)
        out.append(jax.nn.softmax(scores, -1) @ v)
    return jnp.concatenate(out, -1)


def normal(seed, shape):
    """Drawn with NumPy: there is nothing to compile."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@jax.jit
def both_ways(*parts):
    """What the heads give in turn, and at once."""
    return (
        attention._in_turn(attention._head, parts),
        attention._at_once(attention._head, parts),
    )


def value_and_gradient(function, qkv, grad):
    @jax.jit
    def both(qkv, grad):
        value, pull = jax.vjp(function, qkv)
        return value, pull(grad)[0]

    return both(qkv, grad)


@pytest.mark.parametrize(
    ("shape", "heads", "devices"), [((3, 7, 24), 2, 1), ((4, 5, 18), 3, 2), ((2, 1, 12), 1, 1)]
)
def test_value_and_gradient(shape, heads, devices, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    qkv = 2 * normal(0, shape)
    grad = normal(1, (*shape[:2], shape[2] // 3))
    expected = value_and_gradient(lambda x: literal(x, heads), qkv, grad)
    found = value_and_gradient(lambda x: self_attention(x, heads), qkv, grad)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_in_turn_equals_at_once():
    qkv = attention._by_head(normal(0, (4, 6, 24)), 3, 2)
    for one, other in zip(*both_ways(qkv), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_scores_far_beyond_the_range_of_exp():
    qkv = 100 * normal(0, (1, 6, 12))
    grad = jnp.ones((1, 6, 4))
    expected = value_and_gradient(lambda x: literal(x, 1), qkv, grad)
    for got, want in zip(
        value_and_gradient(lambda x: self_attention(x, 1), qkv, grad), expected, strict=True
    ):
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_nan_stays_in_its_cloud():
    qkv = normal(0, (2, 5, 12)).at[0, 3, 6].set(jnp.nan)
    out = jax.jit(self_attention, static_argnums=1)(qkv, 2)
    assert np.isnan(out[0, :, 2:]).any() and np.isfinite(out[1]).all()


def test_bfloat16_stays_bfloat16():
    qkv = normal(0, (1, 5, 12))
    out, grad = value_and_gradient(
        lambda x: self_attention(x, 2), qkv.astype("bfloat16"), jnp.ones((1, 5, 4), "bfloat16")
    )
    assert out.dtype == grad.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype("float32"), literal(qkv, 2), atol=0.05)


def test_causal():
    def formula(qkv):
        q, k, v = jnp.split(qkv, 3, -1)
        scores = jnp.where(jnp.tri(5, dtype=bool), jnp.einsum("btd,bsd->bts", q, k) / 2, -jnp.inf)
        return jax.nn.softmax(scores, -1) @ v

    qkv = 2 * normal(0, (2, 5, 12))
    grad = normal(1, (2, 5, 4))
    expected = value_and_gradient(formula, qkv, grad)
    found = value_and_gradient(lambda x: self_attention(x, 1, True), qkv, grad)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[0][:, 0], qkv[:, 0, 8:], rtol=1e-6)


def test_padding_is_attended_to_by_nothing():
    """Values and gradients of what is no padding, as if it were not there; whatever it holds."""
    lengths = (5, 2, 3)
    qkv = 2 * normal(0, (3, 5, 12))
    grad = normal(1, (3, 5, 4))
    mask = jnp.arange(5)[None] < jnp.asarray(lengths)[:, None]
    grad = jnp.where(mask[..., None], grad, 0)
    value, gradient = value_and_gradient(lambda x: self_attention(x, 2, mask=mask), qkv, grad)
    for i, n in enumerate(lengths):
        row = slice(i, i + 1)
        expected = value_and_gradient(lambda x: literal(x, 2), qkv[row, :n], grad[row, :n])
        np.testing.assert_allclose(value[row, :n], expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(gradient[row, :n], expected[1], rtol=1e-5, atol=1e-5)
        assert not gradient[i, n:].any()
    parts = (attention._by_head(qkv, 3, 2), *attention._padding(mask, 2))
    for one, other in zip(*both_ways(*parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    padded = jax.jit(lambda qkv, mask: self_attention(qkv, 2, mask=mask))
    nothing = padded(qkv, mask & (jnp.arange(3) != 1)[:, None])
    assert np.isnan(nothing[1]).all() and np.isfinite(nothing[jnp.array([0, 2])]).all()
