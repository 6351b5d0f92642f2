"""From one level to the next: soft prototypes, random views, farthest cameras, View-GCN's selector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.view_selector import (
    ClassScoreSelector,
    PrototypeSelector,
    content_keys,
    kept,
    random_views,
)

BATCH, VIEWS, WIDTH, COUNT, HIDDEN = 3, 6, 4, 2, 5


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(BATCH, VIEWS, WIDTH)).astype(np.float32),
        rng.normal(size=(BATCH, VIEWS, 3)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def prototypes():
    """A selector with weights that tell views apart, and its parameters."""
    rng = np.random.default_rng(1)
    shapes = {"hidden": (WIDTH, HIDDEN), "score": (HIDDEN, COUNT)}
    params = {
        name: {
            "kernel": rng.normal(size=shape).astype(np.float32),
            "bias": rng.normal(size=shape[1]).astype(np.float32),
        }
        for name, shape in shapes.items()
    }
    selector = PrototypeSelector(COUNT, HIDDEN)
    return jax.jit(lambda f, p: selector.apply({"params": params}, f, p)), params


def literal(params, features, positions, axis="views", slope=0.2):
    """One item, by loops over the views."""
    scores = np.zeros((COUNT, len(features)))
    for j, feature in enumerate(features.astype(np.float64)):
        hidden = feature @ params["hidden"]["kernel"] + params["hidden"]["bias"]
        hidden = np.where(hidden > 0, hidden, slope * hidden)
        scores[:, j] = hidden @ params["score"]["kernel"] + params["score"]["bias"]
    weights = np.exp(scores)
    weights /= weights.sum(1 if axis == "views" else 0, keepdims=True)
    return weights @ features, weights @ positions, weights


def test_prototypes_equal_the_loops(prototypes):
    run, params = prototypes
    features, positions = inputs()
    found = run(features, positions)
    assert found.scores is None
    for item in range(BATCH):
        for mine, theirs in zip(
            found, literal(params, features[item], positions[item]), strict=False
        ):
            np.testing.assert_allclose(mine[item], theirs, atol=1e-5)
        for wrong in ({"axis": "prototypes"}, {"slope": 0.01}):
            other = literal(params, features[item], positions[item], **wrong)
            assert np.abs(other[0] - np.asarray(found.features[item])).max() > 1e-2
    # The mean of positions stays inside the sphere.
    sphere = positions / np.linalg.norm(positions, axis=-1, keepdims=True)
    assert (np.linalg.norm(run(features, sphere).positions, axis=-1) < 0.999).all()


def test_prototypes_follow_the_views_in_any_order(prototypes):
    run, _ = prototypes
    features, positions = inputs()
    order = np.random.default_rng(2).permutation(VIEWS)
    plain, turned = run(features, positions), run(features[:, order], positions[:, order])
    np.testing.assert_allclose(
        turned.assignment, np.asarray(plain.assignment)[:, :, order], atol=1e-6
    )
    np.testing.assert_allclose(turned.features, plain.features, atol=1e-5)
    np.testing.assert_allclose(turned.positions, plain.positions, atol=1e-5)


def test_random_views_are_different_and_uniform():
    draw = jax.jit(
        lambda seed: random_views(jax.random.split(jax.random.key(seed), 3000), VIEWS, COUNT)
    )
    chosen = np.asarray(draw(0))
    assert chosen.shape == (3000, COUNT) and (chosen[:, 0] != chosen[:, 1]).all()
    share = np.bincount(chosen.reshape(-1), minlength=VIEWS) / 3000
    np.testing.assert_allclose(share, COUNT / VIEWS, atol=0.04)


def test_an_evaluation_draws_the_same_for_an_item_in_any_batch():
    features, _ = inputs()
    run = jax.jit(lambda x, salt: random_views(content_keys(x, salt), VIEWS, VIEWS))

    def draw(x, salt=0):
        return np.asarray(run(x, salt))

    whole = draw(features)
    assert (np.sort(whole, axis=1) == np.arange(VIEWS)).all()
    np.testing.assert_array_equal(draw(features[::-1])[::-1], whole)
    np.testing.assert_array_equal(draw(features[[1, 0, 0]])[0], whole[1])
    np.testing.assert_array_equal(
        draw(features * np.float32(1 + 1e-6)), whole
    )  # rounding elsewhere changes nothing
    assert (whole[0] != whole[1]).any() and (draw(features, 1) != whole).any()


def test_kept_views_are_as_they_were():
    features, positions = inputs()
    chosen = jnp.asarray([[0, 5], [2, 2], [4, 1]])
    selection = kept(jnp.asarray(features), jnp.asarray(positions), chosen)
    for item in range(BATCH):
        np.testing.assert_array_equal(selection.features[item], features[item][chosen[item]])
        np.testing.assert_array_equal(selection.positions[item], positions[item][chosen[item]])
        np.testing.assert_array_equal(selection.assignment[item], np.eye(VIEWS)[chosen[item]])


def test_class_scores_choose_what_they_say():
    features, positions = map(jnp.asarray, inputs())
    selector = ClassScoreSelector(num_classes=3)
    sampled = jnp.asarray([[0, 3]] * BATCH)
    shapes = jax.eval_shape(
        lambda: selector.init(jax.random.key(0), features, positions, sampled, 3)
    )
    rng = np.random.default_rng(5)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    found = jax.jit(lambda v: selector.apply(v, features, positions, sampled, 3))(variables)
    assert found.scores.shape == (BATCH, COUNT, 3, 3)
    assignment = np.asarray(found.assignment)
    assert (np.sort(assignment, axis=-1)[..., -1] == 1).all() and (assignment.sum(-1) == 1).all()
    np.testing.assert_array_equal(found.features, assignment @ features)
    np.testing.assert_array_equal(found.positions, assignment @ positions)
    with pytest.raises(ConfigError, match="nearest_views"):
        jax.eval_shape(lambda: selector.apply(variables, features, positions, sampled, 0))
