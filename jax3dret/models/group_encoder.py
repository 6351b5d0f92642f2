"""The small PointNet that turns each group of points into a token, the costliest part of PointBERT after its transformer.

For a group of K points x, relative to its centre:

    h = relu(BN1(x W1 + b1))    l = h W2 + b2    y = [max_K l, l] W3 + b3    z = relu(BN2(y))    token = max_K (z W4 + b4)

A batch of 8 clouds of 512 groups has 131,072 such points, and y and its kin take 268 MB each. So the groups are worked off in
slices, the few quantities that BatchNorm needs of all of them are computed apart, and only y is kept for the backward pass;
the rest is computed again from it or from x:

- [m, l] W3 = m W3_m + l W3_l, where the first product is needed once for each group, not once for each point;
- x W1 + b1 is cheap: it is computed once for its mean and variance, again with BN1 folded into W1 and b1, and never kept;
- b4 is added after the maximum.

With `train` False nothing has to wait for statistics, and a slice passes through all layers at once.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jax3dret.models.layers import BatchNorm, uniform_fan_in
from jax3dret.models.pool import INDEX, max_pool

# Points in a slice on a CPU: y of a slice is 8 MB, so it stays in the cores' caches. Other devices take all points at once.
SLICE_POINTS = 4096


class GroupEncoder(nn.Module):
    """Groups of points [B, G, K, C] -> tokens [B, G, features]; widths: of h, l and y."""

    features: int = 256
    widths: tuple[int, int, int] = (128, 256, 512)
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
            return _pooled(*lax.map(again(lambda x: _moments(x.reshape(-1, x.shape[-1]) @ w1 + b1)), slices))

        factor1, shift1 = BatchNorm(not train, name="norm1").affine(d1, rows, moments1)
        w1, b1 = w1 * factor1, b1 * factor1 + shift1
        w1, b1, w2, b2, w3, b3, w4 = (x.astype(self.dtype) for x in (w1, b1, w2, b2, w3, b3, w4))
        normalise = BatchNorm(not train, name="norm2")

        def first(x: Float[Array, "B g K C"]) -> Float[Array, "B g K d3"]:
            hidden = nn.relu(x.reshape(-1, x.shape[-1]).astype(self.dtype) @ w1 + b1)
            local = hidden @ w2 + b2
            whole = max_pool(local.reshape(-1, x.shape[2], d2))
            y = (local @ w3[d2:]).reshape(-1, x.shape[2], d3) + (whole @ w3[:d2] + b3)[:, None]
            return y.reshape(*x.shape[:3], d3)

        def second(y: Float[Array, "B g K d3"], factor, shift) -> Float[Array, "B g D"]:
            z = nn.relu(y * factor + shift).astype(self.dtype).reshape(-1, d3)
            return max_pool((z @ w4).reshape(-1, y.shape[2], self.features)).reshape(*y.shape[:2], self.features)

        if not train:
            factor2, shift2 = normalise.affine(d3, rows, lambda: None)
            tokens = lax.map(lambda x: second(first(x), factor2, shift2), slices)
        else:
            y = lax.map(again(first), slices)
            factor2, shift2 = normalise.affine(d3, rows, lambda: _moments(y))
            tokens = lax.map(again(lambda y: second(y, factor2, shift2)), y)
        return tokens.swapaxes(0, 1).reshape(*groups.shape[:2], self.features) + b4.astype(self.dtype)


class _Linear(nn.Module):
    """Kernel and bias of a linear layer, to be applied by the caller."""

    fan_in: int
    features: int

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "in out"], Float[Array, " out"]]:
        init = uniform_fan_in(self.fan_in)
        return self.param("kernel", init, (self.fan_in, self.features)), self.param("bias", init, (self.features,))


def _slice(groups: Float[Array, "B G K C"]) -> Float[Array, "S B g K C"]:
    """Slices of the group axis: each holds some groups of every cloud, so a batch that is sharded over devices stays so."""
    batch, count, size, channels = groups.shape
    wanted = max(1, SLICE_POINTS // (batch * size)) if jax.default_backend() == "cpu" else count
    each = max(g for g in range(1, count + 1) if count % g == 0 and g <= max(wanted, 1))
    return groups.reshape(batch, count // each, each, size, channels).swapaxes(0, 1)


def _moments(y: Float[Array, "*lead D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Mean and biased variance over all axes but the last."""
    flat = y.reshape(-1, y.shape[-1]).astype(jnp.float32)
    mean = flat.mean(0)
    return mean, jnp.square(flat - mean).mean(0)


def _pooled(means: Float[Array, "S D"], variances: Float[Array, "S D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Mean and biased variance of the union of equally large slices, from those of each."""
    mean = means.mean(0)
    return mean, (variances + jnp.square(means - mean)).mean(0)
