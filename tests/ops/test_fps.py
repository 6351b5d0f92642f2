"""Farthest-point sampling against a literal loop, and its conventions one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.ops import fps
from jax3dret.ops.fps import farthest_point_sample


def literal(points, num, first=0, forbidden=()):
    distance = np.full(len(points), 1e10)
    distance[list(forbidden)] = -1.0
    picks = []
    index = first
    for _ in range(num):
        picks.append(index)
        distance = np.minimum(distance, ((points.astype(np.float64) - points[index]) ** 2).sum(-1))
        index = int(np.argmax(distance))
    return picks


def cloud(seed, *shape):
    return np.random.default_rng(seed).normal(size=(*shape, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "batch, count, num", [(1, 1, 1), (3, 50, 50), (2, 128, 17), (5, 300, 40), (3, 9000, 12)]
)
def test_equals_the_literal_loop(batch, count, num):
    points = cloud(count, batch, count)
    got = np.asarray(farthest_point_sample(jnp.asarray(points), num))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, [literal(p, num) for p in points])


def test_chunks_and_the_whole_batch_agree(monkeypatch):
    points = jnp.asarray(cloud(1, 6, 400))
    sampled = []
    for limit in (1, 1024, 10**9):
        monkeypatch.setattr(fps, "CHUNK_POINTS", limit)
        sampled.append(farthest_point_sample.__wrapped__(points, 30))
    np.testing.assert_array_equal(sampled[0], sampled[2])
    np.testing.assert_array_equal(sampled[1], sampled[2])


def test_ties_take_the_lowest_index():
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    points = np.concatenate([np.zeros((1, 3), np.float32), corners])
    got = farthest_point_sample(jnp.asarray(points[None]), 3)[0]
    # All corners are equally far from the centre, and stay so: the centre is nearer to each than
    # another corner is.
    assert got.tolist() == literal(points, 3) == [0, 1, 2]
    # Ties across blocks of the two-level argmax.
    wide = np.tile(np.array([[0.0, 0, 0], [1, 0, 0]], np.float32), (300, 1))
    assert farthest_point_sample(jnp.asarray(wide[None]), 4)[0].tolist() == [0, 1, 0, 0]


def test_random_start_is_uniform_per_cloud_and_follows_the_key():
    points = jnp.asarray(cloud(2, 64, 4))
    first = farthest_point_sample(points, 2, start="random", key=jax.random.key(0))
    assert set(np.asarray(first[:, 0]).tolist()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(
        first, farthest_point_sample(points, 2, start="random", key=jax.random.key(0))
    )
    for row in range(64):
        assert literal(np.asarray(points[row]), 2, int(first[row, 0])) == first[row].tolist()


def test_near_origin_points_are_never_picked_after_the_first():
    points = cloud(3, 1, 40)
    points[0, :20] *= 1e-2  # |p|^2 about 3e-4
    points[0, 0] = 0.01
    near = np.flatnonzero((points[0] ** 2).sum(-1) <= 1e-3)
    assert 0 in near and 10 < len(near) < 30
    got = np.asarray(
        farthest_point_sample(jnp.asarray(points), 40 - len(near) + 3, start="pointnet2_ops")
    )[0]
    expected = literal(points[0], 40 - len(near) + 3, forbidden=near)
    np.testing.assert_array_equal(got, expected)
    assert not set(got[1:].tolist()) & set(near.tolist())
    assert not np.array_equal(got, literal(points[0], len(got)))  # the plain rule picks others
    # The limit is on the squared norm: 0.0316^2 < 1e-3 < 0.0317^2.
    edge = np.zeros((1, 3, 3), np.float32)
    edge[0, 1, 0] = 0.0316
    edge[0, 2, 0] = 0.0317
    assert farthest_point_sample(jnp.asarray(edge), 3, start="pointnet2_ops")[0].tolist() == [
        0,
        2,
        2,
    ]


def test_all_points_near_the_origin_repeat_index_zero():
    points = jnp.asarray(cloud(4, 2, 30) * 1e-3)
    assert (farthest_point_sample(points, 5, start="pointnet2_ops") == 0).all()
    assert len(set(farthest_point_sample(points, 5)[0].tolist())) == 5


def test_duplicates_run_out_into_the_lowest_index():
    points = np.repeat(cloud(5, 1, 3), 4, axis=1)
    got = farthest_point_sample(jnp.asarray(points), 6)[0].tolist()
    assert sorted(got[:3]) == [0, 4, 8] and got[3:] == [0, 0, 0]


def test_nan_and_infinite_points_are_never_picked():
    points = cloud(6, 1, 30)
    points[0, 4, 1] = np.nan
    points[0, 9, 0] = np.inf
    points[0, 12] = 1e30  # its squared norm overflows
    good = [i for i in range(30) if i not in (4, 9, 12)]
    got = farthest_point_sample(jnp.asarray(points), 27)[0].tolist()
    assert got == [good[i] for i in literal(points[0, good], 27)]
    points[0, 0] = np.nan  # a bad start moves no distance: the first good point follows
    assert farthest_point_sample(jnp.asarray(points), 3)[0].tolist()[:2] == [0, 1]
    assert (farthest_point_sample(jnp.full((1, 5, 3), jnp.nan), 4) == 0).all()


def test_bfloat16_is_cast_up():
    points = jnp.asarray(cloud(7, 2, 200), jnp.bfloat16)
    np.testing.assert_array_equal(
        farthest_point_sample(points, 50), farthest_point_sample(points.astype(jnp.float32), 50)
    )


def test_jit_vmap_and_gradient():
    points = jnp.asarray(cloud(8, 4, 3, 64))
    expected = jnp.stack([farthest_point_sample(p, 9) for p in points])
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(lambda p: farthest_point_sample(p, 9)))(points), expected
    )

    def spread(p):
        return jnp.take_along_axis(p, farthest_point_sample(p, 9)[..., None], axis=1).sum()

    gradient = jax.grad(spread)(points[0])
    assert set(np.unique(gradient)) == {0.0, 1.0} and gradient.sum() == 3 * 9 * 3


@pytest.mark.parametrize(
    "points, num, options, words",
    [
        (np.zeros((2, 8, 3)), 9, {}, r"num=9.*\(2, 8, 3\)"),
        (np.zeros((2, 8, 3)), 0, {}, "num=0"),
        (np.zeros((8, 3)), 2, {}, r"\(8, 3\)"),
        (np.zeros((2, 3, 8)), 2, {}, r"\(2, 3, 8\)"),
        (np.zeros((2, 8, 3)), 2, {"start": "random"}, "key"),
        (np.zeros((2, 8, 3)), 2, {"start": "middle"}, "middle"),
    ],
)
def test_errors_say_what_is_wrong(unchecked, points, num, options, words):
    with pytest.raises(ConfigError, match=words):
        farthest_point_sample(jnp.asarray(points), num, **options)
