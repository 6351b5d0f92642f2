"""Near and far cameras: as written in float64, the same choice whatever the last bits are, NaN,
ties.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models import view_choice
from jax3dret.tasks.view_cnn import graph_vertices

ARRANGEMENTS = ("ring12", "ring6", "ring4", "viewgcn12", "viewgcn20")
NOISES = 24

nearest_views = jax.jit(view_choice.nearest_views, static_argnums=1)
sample_cameras = jax.jit(view_choice.sample_cameras, static_argnums=1)
most_telling = jax.jit(view_choice.most_telling, static_argnums=1)


def shaken(vertices):
    """Copies of the cameras [V, 3] whose numbers are off by their last bits; the first is not."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (NOISES, *vertices.shape)) * 2e-7
    noise[0] = 0
    return (vertices * (1 + noise) + noise).astype(np.float32)


def nearest_by_hand(vertices, k):
    """Squares in float64, rounded to what is equal, sorted stably; the camera itself first."""
    square = ((vertices[:, None].astype(np.float64) - vertices[None]) ** 2).sum(-1)
    square = np.round(square / square.max(), 4)
    np.fill_diagonal(square, -1)
    return np.argsort(square, axis=-1, kind="stable")[:, :k]


def farthest_by_hand(vertices, count, first):
    chosen = [first]
    square = ((vertices[:, None].astype(np.float64) - vertices[None]) ** 2).sum(-1)
    square = np.round(square / square.max(), 4)
    while len(chosen) < count:
        chosen.append(int(np.argmax(square[chosen].min(0))))
    return chosen


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_rounding_chooses_no_camera(name):
    vertices = graph_vertices(name)
    moved = shaken(vertices)
    for k in (2, 3, 4):
        near = np.asarray(nearest_views(jnp.asarray(moved), k))
        assert (near == nearest_by_hand(vertices, k)).all(), k
        # Another scale of the cameras, another batch.
        assert (near[:2] == np.asarray(nearest_views(jnp.asarray(moved[:2] * 1e-3), k))).all()
    count = len(vertices) // 2
    far = np.asarray(sample_cameras(jnp.asarray(moved), count))
    assert far.tolist() == [farthest_by_hand(vertices, count, 0)] * NOISES
    key = jax.random.key(3)
    drawn = np.asarray(sample_cameras(jnp.asarray(moved), count, key))
    assert len(set(drawn[:, 0].tolist())) > 2
    assert drawn.tolist() == [farthest_by_hand(vertices, count, row[0]) for row in drawn]


def test_cameras_in_no_order():
    cameras = np.random.default_rng(1).normal(size=(5, 9, 3)).astype(np.float32)
    near = np.asarray(nearest_views(jnp.asarray(cameras), 9))
    far = np.asarray(sample_cameras(jnp.asarray(cameras), 9))
    for item in range(5):
        square = ((cameras[item, :, None].astype(np.float64) - cameras[item]) ** 2).sum(-1)
        assert (near[item] == np.argsort(square, axis=-1)).all()
        assert far[item].tolist() == farthest_by_hand(cameras[item], 9, 0)


def test_cameras_in_one_place_but_for_rounding():
    # The prototypes of an object that looks alike from everywhere.
    place = np.asarray([0.0, 0.5, 0.0]) + np.random.default_rng(2).normal(size=(8, 4, 3)) * 1e-7
    near = np.asarray(nearest_views(jnp.asarray(place, jnp.float32), 2))
    assert near.tolist() == [[[0, 1], [1, 0], [2, 0], [3, 0]]] * 8
    far = np.asarray(sample_cameras(jnp.asarray(place, jnp.float32), 3))
    assert far.tolist() == [[0, 0, 0]] * 8
    assert np.asarray(nearest_views(jnp.zeros((1, 3, 3)), 2)).tolist() == [[[0, 1], [1, 0], [2, 0]]]


def test_a_camera_that_is_nan():
    line = np.arange(5.0)[None, :, None] * np.asarray([1.0, 0, 0])
    line[0, 4] = np.nan
    line = jnp.asarray(line, jnp.float32)
    assert np.asarray(nearest_views(line, 2)).tolist() == [[[0, 1], [1, 0], [2, 1], [3, 2], [4, 0]]]
    assert np.asarray(sample_cameras(line, 3)).tolist() == [[0, 3, 1]]
    for bad in (0, 6):
        with pytest.raises(ConfigError, match=f"k={bad} of 5"):
            nearest_views(line, bad)
        with pytest.raises(ConfigError, match=f"{bad} of 5 views"):
            sample_cameras(line, bad)


def test_the_most_telling_of_views_that_look_alike():
    """Scores [1, S=2, k=3, C=2]: softmax over the classes, over the sampled views, and where both
    say the same of all.
    """
    scores = np.asarray([[[2.0, 1.0], [9.0, 7.5], [0.0, 1.2]], [[1.0, 1.0], [3.0, 0.0], [0, 0]]])
    scores = jnp.asarray(scores[None], jnp.float32)
    assert np.asarray(most_telling(scores, -1)).tolist() == [[1, 1]]
    assert np.asarray(most_telling(scores, 1)).tolist() == [[1, 0]]
    alike = np.broadcast_to(scores[:, :, 1:2], (1, 2, 3, 2)).copy()
    alike *= 1 + 4e-7 * np.asarray([0.0, 1.0, -1.0], np.float32)[None, None, :, None]
    for axis in (-1, 1):
        assert np.asarray(most_telling(jnp.asarray(alike), axis)).tolist() == [[0, 0]]
    # A share of 1 - 1e-5 and one of 1 - 5e-6 are not the same.
    sure = jnp.asarray([[[[11.5, 0.0], [12.2, 0.0], [-3.0, 9.0]]]], jnp.float32)
    assert np.asarray(most_telling(sure, -1)).tolist() == [[1]]
    unknown = sure.at[0, 0, 2, 1].set(jnp.nan)
    assert np.asarray(most_telling(unknown, -1)).tolist() == [[2]]
