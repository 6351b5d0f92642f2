"""The PointNet of MVTN's cameras by itself: what a step trains, and that whole cameras take it
over.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import FakeSource

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.models.mvtn import Mvtn
from jax3dret.tasks.ulip2 import mvtn_pointnet

BATCH, POINTS, CLASSES = 4, 16, 4
FIELDS = {"features": CLASSES, "widths": (4, 8), "fc": (5,), "num_views": 3, "dropout": 0.0}


def recipe(**fields):
    values = mvtn_pointnet.defaults()
    values.data.name = "parts"
    values.data.num_points = POINTS
    values.data.augment = {"name": "jax3dret.data.points:no_augmentations"}
    values.mvtn.update({**FIELDS, **fields})
    values.train.batch_size, values.train.steps = BATCH, 1
    values.optim.schedule = {"name": "jax3dret.core.schedules:constant"}
    config = configs.Config(values.to_dict())
    return mvtn_pointnet.make(config, lambda split, name=None: FakeSource(name="parts", items=8))


def test_a_step_trains_it_and_the_cameras_have_its_parameters():
    made = recipe()
    rng = np.random.default_rng(0)
    points = rng.normal(size=(BATCH, POINTS, 3)).astype(np.float32)
    batch = {"points": points, "label": np.arange(BATCH), "mask": np.array([True] * 3 + [False])}
    params, state = jax.jit(made.task.init)(jax.random.key(0), batch)
    (value, (after, metrics)), grads = jax.jit(jax.value_and_grad(made.task.loss, has_aux=True))(
        params, state, batch, jax.random.key(1), jnp.int32(0)
    )
    # Of logits: a masked cloud does not count, and BatchNorm moves.
    assert 0 < value < 10 and 0 <= metrics["accuracy"] <= 1
    assert all(
        np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads["mvtn"]["pointnet"]["conv0"])
    )
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, state, after)
    assert all(jax.tree.leaves(moved))
    other = {**batch, "label": np.array([0, 1, 2, 0])}
    again = jax.jit(made.task.loss)(params, state, other, jax.random.key(1), jnp.int32(0))[0]
    np.testing.assert_allclose(value, again, rtol=1e-6)
    found = jax.jit(made.task.embed)(params, state, batch)["shape"]
    assert found.shape == (BATCH, made.model.width) == (BATCH, 8)
    whole = jax.eval_shape(Mvtn(**FIELDS).init, jax.random.key(0), points)
    for ours, key in ((params, "params"), (state, "batch_stats")):
        shapes = jax.tree.map(np.shape, ours["mvtn"]["pointnet"])
        assert shapes == jax.tree.map(np.shape, dict(whole[key])["pointnet"])


def test_cameras_that_ask_another_network_are_refused():
    with pytest.raises(ConfigError, match="a PointNet of 40 logits, parts has 4 classes"):
        recipe(features=40)
    with pytest.raises(ConfigError, match=r"\(circular\) ask no PointNet"):
        recipe(views="circular")
