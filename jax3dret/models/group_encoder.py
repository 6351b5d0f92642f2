"""The small PointNet that turns each group of points into a token, the costliest part of PointBERT
after its transformer.

For a group of K points x, relative to its centre:

    h = relu(BN1(x W1 + b1))    l = h W2 + b2    y = [max_K l, l] W3 + b3    z = relu(BN2(y))    token = max_K (z W4 + b4)

A batch of 8 clouds of 512 groups has 131,072 such points, and y and its kin take 268 MB each. So
the groups are worked off in slices, the few quantities that BatchNorm needs of all of them are
computed apart, and only y is kept for the backward pass; the rest is computed again from it or from
x:

- [m, l] W3 = m W3_m + l W3_l, where the first product is needed once for each group, not once for
each point;
- x W1 + b1 is cheap: it is computed once for its mean and variance, again with BN1 folded into W1
and b1, and never kept;
- b4 is added after the maximum.

With `train` False nothing has to wait for statistics, and a slice passes through all layers at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jax3dret.models.layers import BatchNorm, uniform_fan_in
from jax3dret.models.pool import INDEX, max_pool

# Points in a slice on a CPU: y of a slice is 8 MB, so it stays in the cores' caches. Other devices
# take all points at once.
SLICE_POINTS = 4096


class GroupEncoder(nn.Module):
    """Groups of points [B, G, K, C] -> tokens [B, G, features]; widths: of h, l and y."""

    features: int = 256
    widths: tuple[int, ...] = (128, 256, 512)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, groups: Float[Array, "B G K C"], train: bool) -> Float[Array, "B G D"]:
        rows = groups.size // groups.shape[-1]
        d1, d2, d3 = self.widths
        w1, b1 = _Linear(groups.shape[-1], d1, name="conv1")()
        w2, b2 = _Linear(d1, d2, name="conv2")()
        w3, b3 = _Linear(2 * d2, d3, name="conv3")()
        w4, b4 = _Linear(d3, self.features, name="conv4")()
        slices = _slice(groups)
        keep_index = jax.checkpoint_policies.save_only_these_names(INDEX)
        again = partial(jax.checkpoint, prevent_cse=False, policy=keep_index)

        def moments1():
            return _pooled(
                *lax.map(
                    again(lambda x: _moments(x.reshape(-1, x.shape[-1]) @ w1 + b1[None])), slices
                )
            )

        factor1, shift1 = BatchNorm(not train, name="norm1").affine(d1, rows, moments1)
        first_params = (w1 * factor1[None], b1 * factor1 + shift1, w2, b2, w3, b3)
        normalise = BatchNorm(not train, name="norm2")

        def second(y: Float[Array, "B g K d3"]) -> Float[Array, "B g D"]:
            factor, shift = factor2[None, None, None], shift2[None, None, None]
            z = nn.relu(y * factor + shift).astype(self.dtype).reshape(-1, d3)
            return max_pool(
                (z @ w4.astype(self.dtype)).reshape(-1, y.shape[2], self.features)
            ).reshape(*y.shape[:2], -1)

        first = partial(_first_half, self.dtype)
        if not train:
            factor2, shift2 = normalise.affine(d3, rows, None)
            tokens = lax.map(lambda x: second(first(first_params, x)), slices)
        else:
            y, mean, variance = _map_with_moments(first, first_params, slices)
            factor2, shift2 = normalise.affine(d3, rows, lambda: (mean, variance))
            tokens = lax.map(again(second), y)
        tokens = tokens.swapaxes(0, 1).reshape(*groups.shape[:2], self.features)
        return tokens + b4.astype(self.dtype)[None, None]


def _first_half(
    dtype: str, params: tuple[Array, ...], x: Float[Array, "B g K C"]
) -> Float[Array, "B g K d3"]:
    """y of a slice; BN1 is in w1 and b1 already."""
    w1, b1, w2, b2, w3, b3 = (jnp.atleast_2d(param.astype(dtype)) for param in params)
    size, width = x.shape[2], w2.shape[1]
    hidden = nn.relu(x.reshape(-1, x.shape[-1]).astype(dtype) @ w1 + b1)
    local = hidden @ w2 + b2
    whole = max_pool(local.reshape(-1, size, width))
    y = (local @ w3[width:]).reshape(-1, size, w3.shape[1]) + (whole @ w3[:width] + b3)[:, None]
    return y.reshape(*x.shape[:3], -1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _map_with_moments(
    f: Callable, params: tuple[Array, ...], xs: Float[Array, "S ..."]
) -> tuple[Float[Array, "S *lead D"], Float[Array, " D"], Float[Array, " D"]]:
    """y = f(params, x) for each slice x, and the mean and biased variance of all rows of y.

    In the backward pass the gradient of the moments reaches y slice by slice, dy + (dmean + 2 dvar
    (y - mean)) / rows, right before f is computed again for that slice. Automatic differentiation
    would build that sum for all slices at once.
    """

    def step(x):
        y = f(params, x)
        return y, _moments(y)

    y, moments = lax.map(step, xs)
    return y, *_pooled(*moments)


def _map_forward(f: Callable, params: tuple[Array, ...], xs: Float[Array, "S ..."]):
    y, mean, variance = _map_with_moments(f, params, xs)
    return (y, mean, variance), (params, xs, y, mean)


def _map_backward(f: Callable, kept: tuple, grads: tuple[Array, Array, Array]):
    params, xs, ys, mean = kept
    dys, dmean, dvariance = grads
    rows = ys.size // ys.shape[-1]

    def step(total, part):
        x, y, dy = part
        centred = y - jnp.broadcast_to(mean, y.shape)
        shift, factor = (jnp.broadcast_to(d, y.shape) for d in (dmean, 2 * dvariance))
        dy = dy + ((shift + factor * centred) / rows).astype(dy.dtype)
        dparams, dx = jax.vjp(f, params, x)[1](dy)
        return jax.tree.map(jnp.add, total, dparams), dx

    return lax.scan(step, jax.tree.map(jnp.zeros_like, params), (xs, ys, dys))


_map_with_moments.defvjp(_map_forward, _map_backward)


class _Linear(nn.Module):
    """Kernel and bias of a linear layer, to be applied by the caller."""

    fan_in: int
    features: int

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "in out"], Float[Array, " out"]]:
        init = uniform_fan_in(self.fan_in)
        return self.param("kernel", init, (self.fan_in, self.features)), self.param(
            "bias", init, (self.features,)
        )


def _slice(groups: Float[Array, "B G K C"]) -> Float[Array, "S B g K C"]:
    """Slices of the group axis: each holds some groups of every cloud, so a batch that is sharded
    over devices stays so.
    """
    batch, count, size, channels = groups.shape
    wanted = max(1, SLICE_POINTS // (batch * size)) if jax.default_backend() == "cpu" else count
    each = max(g for g in range(1, count + 1) if count % g == 0 and g <= max(wanted, 1))
    return groups.reshape(batch, count // each, each, size, channels).swapaxes(0, 1)


def _moments(y: Float[Array, "*lead D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Mean and biased variance over all axes but the last."""
    flat = y.reshape(-1, y.shape[-1]).astype(jnp.float32)
    mean = flat.mean(0)
    return mean, jnp.square(flat - mean[None]).mean(0)


def _pooled(
    means: Float[Array, "S D"], variances: Float[Array, "S D"]
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Mean and biased variance of the union of equally large slices, from those of each."""
    mean = means.mean(0)
    return mean, (variances + jnp.square(means - mean[None])).mean(0)
