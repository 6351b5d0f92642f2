"""Where MVTN puts its cameras: the arrangements, the reach of the offsets, and who can move what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.geometry import cameras
from jax3dret.models.mvtn import FIXED, LEARNED, LinearHead, Mvtn, ViewSelector, base_views
from jax3dret.weights.mvtn import SELECTOR, selector_entries, selector_from_torch

SMALL = {"num_views": 5, "features": 6, "widths": (4, 8), "fc": (8,), "dropout": 0.0}


def random_variables(model, *inputs):
    """Random values in the shapes of the model's own; statistics are positive."""
    rng = np.random.default_rng(0)
    made = dict(jax.eval_shape(model.init, jax.random.key(0), *inputs))
    filled = jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype(np.float32), made)
    return {**filled, "batch_stats": jax.tree.map(np.abs, filled.get("batch_stats", {}))}


def test_arrangements():
    azimuth, elevation = base_views("circular", 4, 30.0)
    np.testing.assert_array_equal(azimuth, [-270, -180, -90, 0])
    np.testing.assert_array_equal(elevation, 30)
    np.testing.assert_array_equal(base_views("learned_circular", 4, 35.0)[0], [-180, -90, 0, 90])
    np.testing.assert_array_equal(base_views("learned_circular", 4, 35.0)[1], 35)
    for views in ("spherical", "learned_spherical"):
        azimuth, elevation = base_views(views, 12)
        np.testing.assert_array_equal(
            azimuth, [0, 120, 240, 0, 60, 120, 180, 240, 300, 0, 120, 240]
        )
        np.testing.assert_allclose(elevation, [-60] * 3 + [0] * 6 + [60] * 3, atol=1e-5)
    # With four views the published code takes the circle.
    np.testing.assert_array_equal(base_views("spherical", 4), base_views("circular", 4))
    np.testing.assert_array_equal(base_views("learned_direct", 3), np.zeros((2, 3)))


def test_the_fixed_arrangements_are_those_of_the_camera_sets():
    for views, made in (("circular", cameras.circular(12)), ("spherical", cameras.spherical(12))):
        azimuth, elevation = base_views(views, 12)
        ours = 2.2 * cameras.directions(azimuth - 90.0, elevation)
        np.testing.assert_allclose(ours, made.positions, atol=1e-6)


@pytest.mark.parametrize("views", LEARNED)
def test_offsets_reach_as_far_as_published_and_no_farther(views):
    selector = ViewSelector(views, num_views=5, dropout=0.0)
    made = jax.eval_shape(selector.init, jax.random.key(0), jnp.zeros((2, 6)))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), made)
    # The last layer, scaled up, drives every tanh to its end; half of them either way.
    last = {
        "kernel": np.zeros((10, 10), np.float32),
        "bias": np.array([50.0, -50.0] * 5, np.float32),
    }
    params = {**variables["params"], "linear4": last}
    found = jax.jit(selector.apply)({**variables, "params": params}, jnp.ones((3, 6)))
    azimuth, elevation = base_views(views, 5)
    reach = (180.0, 89.9) if views == "learned_direct" else (180.0 / 5, 90.0)
    sign = np.array([1, -1, 1, -1, 1])
    np.testing.assert_allclose(
        found.azimuth, np.broadcast_to(azimuth + reach[0] * sign, (3, 5)), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.elevation, np.broadcast_to(elevation - reach[1] * sign, (3, 5)), rtol=1e-6
    )
    np.testing.assert_allclose(found.distance, np.full((3, 5), 2.2), rtol=1e-6)


def test_learned_views_depend_on_the_shape_and_fixed_ones_do_not():
    points = jnp.asarray(np.random.default_rng(0).normal(size=(4, 7, 3)), jnp.float32)
    for views in FIXED:
        model = Mvtn(views, num_views=12)
        assert not model.learned
        variables = random_variables(model, points)
        assert not jax.tree.leaves(variables)
        found = model.apply(variables, points, True)
        assert found.azimuth.shape == (4, 12) and (found.azimuth == found.azimuth[:1]).all()
    model = Mvtn("learned_direct", **SMALL)
    variables = random_variables(model, points)
    _, state = jax.eval_shape(
        lambda p: model.apply(variables, p, True, mutable=["batch_stats"]), points
    )
    assert jax.tree.structure(state["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
    # A broken cloud has no place for its cameras, and takes nobody else's away.
    look = jax.jit(lambda p: model.apply(variables, p))
    clean, found = look(points), look(points.at[2, 0, 0].set(jnp.nan))
    assert model.learned and float(jnp.ptp(clean.azimuth, axis=0).max()) > 1e-2
    assert np.isnan(found.azimuth[2]).all()
    np.testing.assert_allclose(found.azimuth[:2], clean.azimuth[:2], rtol=1e-5)


def test_linear_head_normalises_first():
    head = LinearHead(3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8)), jnp.float32)
    variables = {"params": random_variables(head, x)["params"]}
    np.testing.assert_allclose(
        head.apply(variables, 5 * x + 2), head.apply(variables, x), atol=1e-4
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"views": "spiral"}, "views='spiral'; expected one of circular"),
        ({"num_views": 0}, "num_views=0"),
        ({"views": "learned_circular", "dropout": 1.5}, "dropout is 1.5"),
    ],
)
def test_what_does_not_exist_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda: ViewSelector(**fields).init(jax.random.key(0), jnp.zeros((2, 6))))


def test_weights_that_do_not_fit_are_refused():
    table = {SELECTOR + entry.name: np.zeros(entry.shape) for entry in selector_entries(16, 6, 5)}
    variables = selector_from_torch(table)
    made = jax.eval_shape(ViewSelector(num_views=5).init, jax.random.key(0), jnp.zeros((2, 6)))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, dict(made))
    with pytest.raises(DataError, match="0.0.bias is missing"):
        selector_from_torch(
            {name: value for name, value in table.items() if not name.endswith(".0.0.bias")}
        )
