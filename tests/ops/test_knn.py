"""k nearest neighbours against a literal sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.ops.knn import knn


def literal(queries, points, k):
    square = ((queries[:, None].astype(np.float64) - points[None].astype(np.float64)) ** 2).sum(-1)
    index = np.argsort(square, axis=1, kind="stable")[:, :k]
    return index, np.take_along_axis(square, index, axis=1)


def on_host(queries, points, k):
    """Of NumPy arrays, as NumPy arrays: taking one apart compiles nothing."""
    return jax.tree.map(np.asarray, knn(jnp.asarray(queries), jnp.asarray(points), k))


def cloud(seed, *shape):
    return np.random.default_rng(seed).uniform(-0.7, 0.7, size=(*shape, 3)).astype(np.float32)


# The last two take the narrowed path, the others sort directly.
@pytest.mark.parametrize(
    "m, n, k", [(1, 1, 1), (7, 20, 20), (5, 100, 8), (33, 700, 1), (40, 2000, 12)]
)
def test_equals_the_literal_sort(m, n, k):
    points, queries = cloud(n, 2, n), cloud(n + 1, 2, m)
    index, square = on_host(queries, points, k)
    assert index.dtype == jnp.int32 and square.dtype == jnp.float32
    for row in range(2):
        expected, distance = literal(queries[row], points[row], k)
        np.testing.assert_array_equal(index[row], expected)
        np.testing.assert_allclose(square[row], distance, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("order", ["shuffled", "sorted", "one cluster per query block"])
def test_narrowing_is_exact_whatever_the_order_of_the_points(order):
    points = cloud(3, 1, 4096)
    if order == "sorted":
        points = points[:, np.argsort(points[0, :, 0])]
    if (
        order == "one cluster per query block"
    ):  # one strided block holds all the near points: the fallback must take over
        points[0] += 3.0
        points[0, ::128] = cloud(4, 32) * 0.01
    queries = points[:, ::128].copy()
    index, _ = on_host(queries, points, 16)
    expected, _ = literal(queries[0], points[0], 16)
    agree = np.mean(
        [len(set(a) & set(b)) == 16 for a, b in zip(np.asarray(index[0]), expected, strict=True)]
    )
    assert agree == 1.0


def test_ties_take_the_lowest_index_and_duplicates_are_kept():
    # Coordinates are small integers, so every form of the distance is exact.
    grid = (
        np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1)
        .reshape(1, -1, 3)
        .astype(np.float32)
    )
    for points in (np.tile(grid, (1, 2, 1)), np.tile(grid, (1, 12, 1))):
        index, square = on_host(grid[:, :20], points, 9)
        expected, distance = literal(grid[0, :20], points[0], 9)
        np.testing.assert_array_equal(index[0], expected)
        np.testing.assert_array_equal(square[0], distance)


def test_finds_itself_first():
    points = cloud(5, 2, 500)
    index, square = on_host(points[:, :50], points, 4)
    np.testing.assert_array_equal(index[..., 0], np.tile(np.arange(50), (2, 1)))
    assert (square[..., 0] == 0).all()


def test_bfloat16_is_cast_up_before_the_distances():
    points = np.asarray(jnp.asarray(cloud(6, 1, 300), jnp.bfloat16))
    index, square = on_host(points[:, :9], points, 5)
    wide = on_host(points[:, :9].astype(np.float32), points.astype(np.float32), 5)
    np.testing.assert_array_equal(index, wide[0])
    np.testing.assert_array_equal(square, wide[1])


@pytest.mark.parametrize("n", [30, 2000])
def test_nan_points_come_last(n):
    points = cloud(7, 1, n)
    bad = [0, 3, n - 1]
    points[0, 0, 0], points[0, 3, 2], points[0, n - 1, 1] = np.nan, np.nan, np.inf
    index, square = on_host(points[:, 5:9], points, 8)
    assert not set(np.asarray(index).ravel().tolist()) & set(bad)
    assert np.isfinite(square).all()
    if n == 30:
        index, square = on_host(points[:, 5:6], points, n)
        assert index[0, 0, -3:].tolist() == bad
        assert np.isposinf(square[0, 0, -3:]).all() and np.isfinite(square[0, 0, :-3]).all()
    index, square = on_host(np.full((1, 1, 3), np.nan, np.float32), points, 4)
    assert index[0, 0].tolist() == [0, 1, 2, 3] and np.isposinf(square).all()


@pytest.mark.parametrize("n", [40, 1000])
def test_distances_are_differentiable(n):
    points, queries = cloud(8, 1, n), cloud(9, 1, 6)
    points[0, 7] = np.nan
    index, _ = on_host(queries, points, 3)
    gradient = jax.jit(jax.grad(lambda q, p: knn(q, p, 3)[1].sum(), argnums=(0, 1)))
    dq, dp = map(np.asarray, gradient(queries, points))
    near = points[0][index[0]]
    np.testing.assert_allclose(dq[0], 2 * (queries[0][:, None] - near).sum(1), rtol=1e-5)
    assert np.isfinite(dp).all()
    np.testing.assert_allclose(dp.sum((0, 1)), -dq.sum((0, 1)), rtol=1e-4)


def test_jit_and_vmap():
    points, queries = jnp.asarray(cloud(10, 3, 2, 600)), jnp.asarray(cloud(11, 3, 2, 10))
    got = jax.jit(jax.vmap(lambda q, p: knn(q, p, 5)))(queries, points)
    for row in range(3):
        for a, b in zip(got, knn(queries[row], points[row], 5), strict=True):
            np.testing.assert_allclose(a[row], b, rtol=1e-6)


@pytest.mark.parametrize(
    "m, n, k", [((2, 4, 3), (2, 5, 3), 6), ((2, 4, 3), (2, 5, 3), 0), ((2, 4, 3), (3, 5, 3), 1)]
)
def test_errors_name_the_shapes(unchecked, m, n, k):
    with pytest.raises(ConfigError, match=r"knn: .*\("):
        knn(jnp.zeros(m), jnp.zeros(n), k)
