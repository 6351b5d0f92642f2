"""Convolution and pooling, window by window; and the networks built from them, against what tells
right from nearly right.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.models.conv import Conv, global_average, max_pool


def convolve(x, kernel, stride, padding, depthwise):
    """Every output pixel on its own, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    size = kernel.shape[0]
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    y = np.zeros((len(x), rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            y[:, i, j] = np.einsum(
                "bhwc,hwc->bc" if depthwise else "bhwc,hwcd->bd",
                window,
                kernel[:, :, 0] if depthwise else kernel,
            )
    return y


@pytest.mark.parametrize(
    ("size", "stride", "padding", "depthwise"),
    [
        (3, 2, ((0, 1), (1, 1)), False),
        (3, 2, ((0, 1), (0, 1)), True),
        (3, 1, ((1, 1), (1, 1)), True),
    ],
)
def test_convolution(size, stride, padding, depthwise):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 5, 4)).astype(np.float32)
    features = 4 if depthwise else 3
    layer = Conv(features, size, stride, padding, depthwise, use_bias=True)
    kernel = rng.normal(size=(size, size, 1 if depthwise else 4, features)).astype(np.float32)
    bias = np.arange(features, dtype=np.float32)
    found = jax.jit(layer.apply)({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(
        found, convolve(x, kernel, stride, padding, depthwise) + bias, rtol=0, atol=1e-5
    )


def test_one_number_pads_every_side():
    x = jnp.ones((1, 4, 4, 1))
    layer = Conv(1, 3, padding=1)
    y = layer.apply({"params": {"kernel": jnp.ones((3, 3, 1, 1))}}, x)[0, ..., 0]
    np.testing.assert_array_equal(y, [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]])


def test_max_pool_and_its_gradient():
    # All negative: zero padding would win.
    x = -1 - np.random.default_rng(0).permutation(2 * 5 * 6 * 3).reshape(2, 5, 6, 3).astype(
        np.float32
    )
    grad = np.random.default_rng(1).normal(size=(2, 3, 3, 3)).astype(np.float32)

    @jax.jit
    def both(x, grad):
        value, pull = jax.vjp(lambda x: max_pool(x, 3, stride=2, padding=1), x)
        return value, pull(grad)[0]

    value, found = both(x, grad)
    expected, slope = np.zeros(value.shape, np.float32), np.zeros_like(x)
    for b, i, j, c in np.ndindex(*value.shape):
        rows, columns = slice(max(2 * i - 1, 0), 2 * i + 2), slice(max(2 * j - 1, 0), 2 * j + 2)
        window = x[b, rows, columns, c]
        expected[b, i, j, c] = window.max()
        slope[b, rows, columns, c] += np.where(window == window.max(), grad[b, i, j, c], 0)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-6)


def test_nan_is_not_pooled_away():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(jnp.nan)
    pooled = max_pool(x, 2, stride=2)[0, ..., 0]
    assert np.isnan(pooled[0, 0]) and not np.isnan(pooled[1:]).any()


def test_global_average_is_float32():
    x = jnp.full((1, 64, 64, 1), 1.0, "bfloat16").at[0, 0, 0, 0].set(100)
    np.testing.assert_allclose(global_average(x), [[1 + 99 / 4096]], rtol=1e-6)
