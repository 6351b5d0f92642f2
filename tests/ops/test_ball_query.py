"""Ball query against a literal scan, and the bit words beneath it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.ops.ball_query import ball_query
from jax3dret.ops.neighbour_bits import first_members, within


def literal(centers, points, radius, k):
    out = np.zeros((*centers.shape[:2], k), int)
    for b, (cs, ps) in enumerate(
        zip(centers.astype(np.float64), points.astype(np.float64), strict=True)
    ):
        for m, c in enumerate(cs):
            square = ((ps - c) ** 2).sum(-1)
            found = [n for n in range(len(ps)) if square[n] <= radius**2][:k]
            if not found:
                found = [int(np.argmin(square))]
            out[b, m] = found + [found[0]] * (k - len(found))
    return out


def cloud(seed, *shape):
    return np.random.default_rng(seed).uniform(-0.7, 0.7, size=(*shape, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "n, radius, k",
    [(1, 0.5, 3), (31, 0.4, 4), (64, 5.0, 64), (333, 0.3, 16), (1500, 0.2, 8), (1500, 0.03, 8)],
)
def test_equals_the_literal_scan(n, radius, k):
    points, centers = cloud(n, 2, n), cloud(n + 1, 2, 25)
    centers[:, :5] = points[:, [0, n // 4, n // 3, n // 2, n - 1]]
    got = ball_query(jnp.asarray(centers), jnp.asarray(points), radius, k)
    assert got.dtype == jnp.int32
    np.testing.assert_array_equal(got, literal(centers, points, radius, k))


def test_first_in_index_order_not_nearest():
    points = np.zeros((1, 4, 3), np.float32)
    points[0, :, 0] = [0.5, 0.9, 0.25, 0.0]
    got = ball_query(jnp.zeros((1, 1, 3)), jnp.asarray(points), 0.5, 2)
    assert got[0, 0].tolist() == [0, 2]  # nearest two would be 3, 2; an open ball would leave out 0
    assert ball_query(jnp.zeros((1, 1, 3)), jnp.asarray(points), 0.5, 5)[0, 0].tolist() == [
        0,
        2,
        3,
        0,
        0,
    ]


def test_an_empty_ball_gives_the_nearest_point():
    points = cloud(2, 1, 200) + 10
    centers = np.concatenate([points[:, 50:51], np.zeros((1, 1, 3), np.float32)], axis=1)
    got = np.asarray(ball_query(jnp.asarray(centers), jnp.asarray(points), 0.05, 3))
    np.testing.assert_array_equal(got[0, 1], [np.argmin((points[0] ** 2).sum(-1))] * 3)
    assert got[0, 0].tolist()[0] == 50


def test_nan():
    points = cloud(3, 1, 100)
    points[0, 10] = np.nan
    centers = points[:, 8:12].copy()
    got = np.asarray(ball_query(jnp.asarray(centers), jnp.asarray(points), 2.5, 100))
    assert (got[0, 2] == 0).all()
    for row in (0, 1, 3):
        assert got[0, row].tolist() == [i for i in range(100) if i != 10] + [0]


def test_duplicates_and_bfloat16():
    points = jnp.asarray(np.repeat(cloud(4, 1, 20), 3, axis=1), jnp.bfloat16)
    got = ball_query(points[:, :5], points, 0.01, 4)
    assert got[0].tolist() == [[0, 1, 2, 0]] * 3 + [[3, 4, 5, 3]] * 2


def test_jit_vmap_and_no_gradient():
    points, centers = jnp.asarray(cloud(5, 3, 2, 90)), jnp.asarray(cloud(6, 3, 2, 7))
    got = jax.jit(jax.vmap(lambda c, p: ball_query(c, p, 0.3, 5)))(centers, points)
    np.testing.assert_array_equal(
        got,
        [
            literal(np.asarray(c), np.asarray(p), 0.3, 5)
            for c, p in zip(centers, points, strict=True)
        ],
    )
    gradient = jax.grad(lambda c: points[0, 0][ball_query(c, points[0], 0.3, 5)].sum())(centers[0])
    assert (gradient == 0).all()


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13])
def test_first_members_of_random_words(width):
    rng = np.random.default_rng(width)
    words = rng.integers(0, 2**32, size=(1, 20, width), dtype=np.uint32)
    words &= rng.integers(0, 2**32, size=words.shape, dtype=np.uint32)
    words[0, 0], words[0, 1], words[0, 2] = 0, 2**32 - 1, 0
    words[0, 2, -1] = 2**31
    positions, total = jax.jit(first_members, static_argnums=1)(jnp.asarray(words), 40)
    for row in range(20):
        bits = [32 * w + b for w in range(width) for b in range(32) if words[0, row, w] >> b & 1]
        assert total[0, row] == len(bits)
        assert positions[0, row, : min(40, len(bits))].tolist() == bits[:40]


def test_within_takes_one_radius_per_query():
    points, centers = cloud(7, 2, 70), cloud(8, 2, 4)
    limit = np.random.default_rng(9).uniform(0, 1, size=(2, 4)).astype(np.float32)
    words = jax.jit(within)(jnp.asarray(centers), jnp.asarray(points), jnp.asarray(limit))
    square = ((centers[:, :, None] - points[:, None]) ** 2).sum(-1)
    bits = np.unpackbits(np.asarray(words).view(np.uint8), axis=-1, bitorder="little")
    assert not bits[..., 70:].any()
    np.testing.assert_array_equal(bits[..., :70], square <= limit[..., None])


@pytest.mark.parametrize("radius, k", [(0.0, 1), (-1.0, 1), (float("nan"), 1), (0.1, 0)])
def test_errors(radius, k):
    with pytest.raises(ConfigError, match="ball_query"):
        ball_query(jnp.zeros((1, 2, 3)), jnp.zeros((1, 2, 3)), radius, k)
