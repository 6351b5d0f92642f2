"""PointBERT: shapes, size, invariances, precision; parity with the published code is in
tests/test_golden.py.
"""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.pointbert import PointBert, PointProjection

SMALL = {
    "trans_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "num_group": 8,
    "group_size": 4,
    "encoder_dims": 12,
    "group_widths": (8, 8, 16),
}
RNGS = {"fps": jax.random.key(7), "drop_path": jax.random.key(8)}


@pytest.fixture(scope="module")
def points():
    return jax.random.normal(jax.random.key(0), (2, 40, 3)) * 0.4


@pytest.fixture(scope="module")
def variables(points):
    return jax.jit(PointBert(**SMALL).init)(jax.random.key(1), points)


@pytest.fixture(scope="module")
def embed():
    return jax.jit(PointBert(**SMALL).apply)


def test_published_size():
    model = PointBert()
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8192, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 21_858_816
    assert model.embedding_dim == 768
    coloured = jax.eval_shape(
        PointBert(in_channels=6, depth=18).init, jax.random.key(0), jnp.zeros((1, 1024, 6))
    )
    assert coloured["params"]["encoder"]["conv1"]["kernel"].shape == (6, 128)
    assert sum(name.startswith("block") for name in coloured["params"]) == 18


def test_initial_values(variables):
    params = variables["params"]
    assert (params["cls_token"] == 0).all() and 0.5 < params["cls_pos"].std() < 1.5


def test_embedding_and_dependence_on_position_in_every_block(variables, points, embed):
    embedding = embed(variables, points)
    assert embedding.shape == (2, 32) and embedding.dtype == jnp.float32
    # With all matrices of the blocks at zero a block is the identity, so the class token is
    # LN(cls_token + depth * cls_pos).
    silent = {
        k: jax.tree.map(jnp.zeros_like, v) if k.startswith("block") else v
        for k, v in variables["params"].items()
    }
    silent["cls_token"] = 5 + jnp.arange(16.0).reshape(1, 1, 16)
    x = np.asarray(silent["cls_token"] + 2 * silent["cls_pos"])[0, 0]
    expected = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    found = embed({**variables, "params": silent}, points)[:, :16]
    np.testing.assert_allclose(found, np.broadcast_to(expected, (2, 16)), atol=1e-4)


def test_order_of_points_does_not_matter_but_for_the_start(variables, points, embed):
    order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(39)])
    np.testing.assert_allclose(
        embed(variables, points[:, order]), embed(variables, points), atol=1e-5
    )
    assert np.abs(embed(variables, points[:, ::-1]) - embed(variables, points)).max() > 1e-3


def test_colour_enters_but_does_not_group(points):
    model = PointBert(**SMALL, in_channels=6)
    coloured = jnp.concatenate([points, jax.random.uniform(jax.random.key(2), points.shape)], -1)
    shapes = jax.eval_shape(model.init, jax.random.key(1), coloured)
    variables = jax.tree.map(jnp.asarray, drawn.arrays(shapes))
    run = jax.jit(lambda points: model.apply(variables, points, mutable=["intermediates"]))
    (one, inner), (other, other_inner) = run(coloured), run(coloured.at[..., 3:].multiply(0.5))
    assert np.abs(one - other).max() > 1e-4
    np.testing.assert_array_equal(
        *(x["intermediates"]["member_index"][0] for x in (inner, other_inner))
    )


def test_training_draws_and_evaluation_does_not(variables, points, embed):
    model = PointBert(**{**SMALL, "drop_path_rate": 0.5})
    train = jax.jit(
        lambda rngs: model.apply(variables, points, train=True, rngs=rngs, mutable=["batch_stats"])
    )
    one, state = train(RNGS)
    assert (
        max(
            np.abs(one - train({**RNGS, "drop_path": jax.random.key(i)})[0]).max() for i in range(9)
        )
        > 1e-3
    )
    assert np.abs(one - train({**RNGS, "fps": jax.random.key(9)})[0]).max() > 1e-4
    assert not np.allclose(state["batch_stats"]["encoder"]["norm1"]["var"], 1)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, points), embed(variables, points))


def test_remat_changes_nothing(variables, points):
    def gradients(remat):
        model = PointBert(**{**SMALL, "depth": 1}, remat=remat)

        def loss(params):
            embedding, _ = model.apply(
                {**variables, "params": params},
                points,
                train=True,
                rngs=RNGS,
                mutable=["batch_stats"],
            )
            return jnp.square(embedding).sum()

        params = {name: value for name, value in variables["params"].items() if name != "block1"}
        return jax.jit(jax.grad(loss))(params)

    one, other = gradients(False), gradients(True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), one, other)


def test_bfloat16(variables, points, embed):
    model = PointBert(**SMALL, dtype="bfloat16")
    shapes = jax.eval_shape(model.init, jax.random.key(0), points)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))
    embedding = jax.jit(model.apply)(variables, points)
    assert embedding.dtype == jnp.float32
    np.testing.assert_allclose(embedding, embed(variables, points), atol=0.2)


def test_repeated_points(variables, points, embed):
    assert np.isfinite(embed(variables, jnp.repeat(points[:, :10], 4, 1))).all()
    assert np.isfinite(embed(variables, jnp.zeros_like(points))).all()


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_value_that_is_not_finite_is_not_hidden(variables, points, embed, bad):
    embedding = embed(variables, points.at[1, 17, 2].set(bad))
    assert np.isnan(embedding[1]).all()
    np.testing.assert_array_equal(embedding[0], embed(variables, points)[0])


def test_refuses(points):
    with pytest.raises(ConfigError, match="in_channels=6"):
        jax.eval_shape(PointBert(**SMALL, in_channels=6).init, jax.random.key(0), points)
    with pytest.raises(ConfigError, match="too few"):
        jax.eval_shape(PointBert(**{**SMALL, "num_group": 41}).init, jax.random.key(0), points)
    with pytest.raises(ConfigError, match=r"drop_path_rate is 3\.0"):
        jax.eval_shape(
            PointBert(**{**SMALL, "drop_path_rate": 3.0}).init, jax.random.key(0), points
        )


def test_projection():
    layer = PointProjection(512)
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 768)))
    kernel = variables["params"]["kernel"]
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (768, 512)}}
    np.testing.assert_allclose(kernel.std(), 512**-0.5, rtol=0.02)
    np.testing.assert_allclose(layer.apply(variables, jnp.eye(768)), kernel, rtol=1e-6)
