"""E-Stitchup: which rows are put together, of what, and how much of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.data.stitchup import stitchup

LABELS = np.array([0, 1, 0, 2, 0, 1, 0])  # four of class 0, two of class 1, one of class 2


@functools.cache
def stitched(width=40, count=400):
    """Many draws of the batch whose row i holds the number i: [count, 14, width]."""
    x = jnp.broadcast_to(jnp.arange(7.0)[:, None], (7, width))
    run = jax.jit(lambda seed: stitchup(jax.random.key(seed), x, jnp.asarray(LABELS)))
    return [np.stack(found) for found in zip(*(run(seed) for seed in range(count)), strict=True)]


def test_what_a_new_row_is_made_of():
    rows, labels, counts = stitched()
    np.testing.assert_array_equal(labels[3], [*LABELS, *LABELS])
    # A class of three or more in the batch, itself included, gives new rows; two are too few.
    np.testing.assert_array_equal(
        counts[5], [True] * 7 + [True, False, True, False, True, False, True]
    )
    np.testing.assert_array_equal(
        rows[:, :7], np.broadcast_to(np.arange(7.0)[None, :, None], (400, 7, 40))
    )
    new = np.asarray(rows[:, 7:])
    assert (new[:, [1, 3, 5]] == np.array([1.0, 3, 5])[None, :, None]).all()
    for i in (0, 2, 4, 6):
        sources = [set(np.unique(row)) for row in new[:, i]]
        assert all(len(s | {float(i)}) <= 2 and s <= {0.0, 2.0, 4.0, 6.0} for s in sources)
        partners = [max(s - {float(i)}, default=float(i)) for s in sources]
        # Each of the four is drawn alike, itself among them.
        seen = np.array([np.mean(np.array(partners) == p) for p in (0, 2, 4, 6)])
        assert np.abs(seen - 0.25).max() < 0.1
    # One threshold a row: the share that is the partner's spreads evenly over 0..1; with a fair
    # coin for each coordinate it would stay near one half.
    shares = np.mean(new[:, 0] != 0, axis=1)[np.any(new[:, 0] != 0, axis=1)]
    assert shares.std() > 0.22 and abs(shares.mean() - 0.5) < 0.08


def test_wrong_shapes(unchecked):
    with pytest.raises(ConfigError, match="labels"):
        jax.eval_shape(stitchup, jax.random.key(1), jnp.eye(3), jnp.array([1, 1]))
