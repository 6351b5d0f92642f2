"""Many fields fitted at once: what each comes to depends on itself alone, and a fit can be stopped
and continued.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.fields.fields_of import cells_of_a_ball, small

from jax3dret.core.types import ConfigError
from jax3dret.models.fields import architectures, presets
from jax3dret.models.fields.fit import FitSpec, Fitting, _reads_few_rows, fit
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.network import Decoder
from jax3dret.models.fields.octree import Octree

SPEC = FitSpec(steps=30, learning_rate=1e-2, batch=32, pool=200, chunk=4)
# Two levels in full, two hashed: rows that are shared, and rows that few steps read.
GRID = HashGrid(levels=3, min_resolution=4, max_resolution=12, table=9, decoder=Decoder(hidden=8))
KEYS = jax.random.split(jax.random.key(0), 4)
ONE = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("shapes",))


@pytest.fixture(autouse=True)
def strict_ranks():
    with jax.numpy_rank_promotion("raise"):
        yield


def balls(radii=(0.3, 0.4, 0.5, 0.6), pool=SPEC.pool, broken=()):
    """Distances to a ball of another radius for each shape."""

    def sampler(epoch, shape):
        points = np.random.default_rng([epoch, int(100 * radii[shape])]).uniform(-1, 1, (pool, 3))
        values = np.linalg.norm(points, axis=1) - radii[shape]
        if shape in broken:
            points[3], values[5] = np.nan, np.inf
        return points.astype(np.float32), values.astype(np.float32)

    return sampler


def leaves(fitted, shape):
    return jax.tree.leaves(fitted.variables[shape])


def same(one, other, shape, other_shape=None):
    for a, b in zip(
        leaves(one, shape),
        leaves(other, shape if other_shape is None else other_shape),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole():
    return {
        deferred: fit(
            GRID, "sdf", balls(), dataclasses.replace(SPEC, deferred=deferred), KEYS, mesh=ONE
        )
        for deferred in (False, True)
    }


def literal_adam(sampler_data, variables, spec):
    """Dense Adam over everything, step by step."""

    def loss(trained, data):
        return jnp.mean((GRID.apply(trained, data[:, :3]) - data[:, 3]) ** 2)

    gradients = jax.jit(jax.grad(loss))
    values, form = jax.tree.flatten(jax.tree.map(lambda x: np.asarray(x, float), variables))
    first, second = ([np.zeros_like(v) for v in values] for _ in range(2))
    for t, data in enumerate(sampler_data, 1):
        trained = form.unflatten([jnp.asarray(v, jnp.float32) for v in values])
        for i, g in enumerate(
            np.asarray(g, float) for g in jax.tree.leaves(gradients(trained, data))
        ):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g * g
            way = first[i] / (1 - 0.9**t) / (np.sqrt(second[i] / (1 - 0.999**t)) + spec.eps)
            values[i] = values[i] - spec.learning_rate * way
    return values


def test_both_forms_are_dense_adam(whole):
    """Rows without a gradient move too; deferring that changes nothing but rounding."""
    fitting = Fitting(GRID, "sdf", balls(), SPEC, KEYS, mesh=ONE)
    data = [np.asarray(fitting._data(*divmod(i, SPEC.epoch_steps), 1))[0, 2] for i in range(30)]
    expected = literal_adam(data, GRID.init(KEYS[2]), SPEC)
    for fitted in whole.values():
        for found, value in zip(leaves(fitted, 2), expected, strict=True):
            np.testing.assert_allclose(found, value, atol=2e-4)
            assert np.median(np.abs(found - value)) < 2e-6
    start = np.asarray(GRID.init(KEYS[2])["grid"]["table"])
    moved = np.abs(whole[True].variables[2]["grid"]["table"] - start).max()
    assert moved > 0.01
    for shape in range(4):
        assert whole[True].losses[shape, -5:].mean() < 0.2 * whole[True].losses[shape, 0]
    assert whole[True].diverged.tolist() == [-1] * 4


def test_lazy_adam_leaves_the_rest_alone(whole):
    spec = dataclasses.replace(SPEC, optimizer="lazy_adam", steps=2, pool=64)
    lazy = fit(GRID, "sdf", balls(pool=64), spec, KEYS, mesh=ONE).variables[0]["grid"]["table"]
    start = np.asarray(GRID.init(KEYS[0])["grid"]["table"])
    rows = {
        int(row)
        for points in [balls(pool=64)(0, 0)[0]]
        for row in np.unique(jax.jit(GRID.corners)(None, jnp.asarray(points))[0])
    }
    unread = np.setdiff1d(np.arange(len(start)), sorted(rows))
    assert len(unread) > 20
    np.testing.assert_array_equal(lazy[unread], start[unread])
    assert np.abs(lazy - start)[sorted(rows)].max(1).min() > 0


@pytest.mark.parametrize("deferred", [False, True])
def test_a_broken_neighbour_changes_nothing(whole, deferred):
    """To the last bit, with other neighbours and alone."""
    spec = dataclasses.replace(SPEC, deferred=deferred)
    beside = fit(GRID, "sdf", balls((0.9, 0.4, 0.5, 0.2), broken=(0,)), spec, KEYS, mesh=ONE)
    assert beside.diverged.tolist()[1:] == [-1] * 3 and 0 <= beside.diverged[0] < 14
    for shape in (1, 2):
        same(whole[deferred], beside, shape)
    alone = fit(GRID, "sdf", balls((0.5,)), spec, KEYS[2:3], mesh=ONE)
    same(whole[deferred], alone, 2, 0)


def test_four_devices_give_what_one_does(whole):
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"))
    spec = dataclasses.replace(SPEC, deferred=True)
    # Three shapes, four on each device: copies fill up the rest.
    spread = fit(GRID, "sdf", balls(), spec, KEYS[:3], mesh=mesh)
    assert len(spread.variables) == 3 and spread.losses.shape == (3, 30)
    np.testing.assert_allclose(spread.losses, whole[True].losses[:3], rtol=1e-4)
    for shape in range(3):
        for a, b in zip(leaves(whole[True], shape), leaves(spread, shape), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.parametrize("deferred", [False, True])
def test_continued_from_a_file_it_comes_to_the_same_bits(whole, deferred, tmp_path):
    spec = dataclasses.replace(SPEC, deferred=deferred)
    begun = Fitting(GRID, "sdf", balls(), spec, KEYS, mesh=ONE)
    for _ in range(3):  # into the second epoch
        begun.advance()
    state, form = jax.tree.flatten(begun.state())
    np.savez(tmp_path / "state.npz", *state)
    with np.load(tmp_path / "state.npz") as file:
        read = form.unflatten([file[f"arr_{i}"] for i in range(len(state))])
    assert begun.advance() and begun.step > int(read["step"]) == 11
    again = Fitting(GRID, "sdf", balls(), spec, KEYS, mesh=ONE)
    again.restore(read)
    while again.advance():
        pass
    result = again.result()
    np.testing.assert_array_equal(result.losses, whole[deferred].losses)
    for shape in range(4):
        same(whole[deferred], result, shape)
    with pytest.raises(ConfigError, match="other shapes"):
        Fitting(GRID, "sdf", balls(), spec, KEYS[:2], mesh=ONE).restore(read)


def test_an_exploding_loss_is_flagged_at_its_step():
    spec = FitSpec(steps=12, learning_rate=30.0, batch=16, pool=64, chunk=12)
    fitted = fit(small("siren"), "sdf", balls((0.3, 0.5), pool=64), spec, KEYS[:2], mesh=ONE)
    assert (fitted.diverged >= 0).all()
    for losses, step in zip(fitted.losses, fitted.diverged, strict=True):
        assert losses[step] > 10 * losses[0] and (losses[:step] < 100 * losses[0] + 100).all()


@pytest.mark.parametrize(("name", "function"), [("octree", "udf"), ("triplane", "occ")])
def test_every_architecture_learns(name, function):
    architecture = small(name)
    structures = None
    if name == "octree":
        structures = [architecture.structure(c) for c in (cells_of_a_ball(), np.array([[1, 2, 3]]))]

    def sampler(epoch, shape):
        points, values = balls((0.7, 0.6), pool=64)(epoch, shape)
        return points, {"udf": np.abs, "occ": np.sign}[function](values)

    spec = FitSpec(
        steps=60, learning_rate=2e-2, batch=32, pool=64, chunk=60, resample=False, clamp=None
    )
    fitted = fit(architecture, function, sampler, spec, KEYS[:2], structures, mesh=ONE)
    assert (fitted.final_losses(5) < 0.7 * fitted.losses[:, 0]).all()
    if structures:
        for found, structure in zip(fitted.variables, structures, strict=True):
            jax.tree.map(np.testing.assert_array_equal, found["structure"], structure)
    # Fitted on from what it came to.
    more = fit(
        architecture, function, sampler, spec, KEYS[:2], structures, fitted.variables, mesh=ONE
    )
    assert (more.losses[:, 0] < 0.8 * fitted.losses[:, 0]).all()


def test_what_does_not_fit():
    for make, said in (
        (lambda: fit(GRID, "sdf", balls(pool=7), SPEC, KEYS, mesh=ONE), r"points \(7, 3\)"),
        (lambda: fit(GRID, "sdf", balls(), SPEC, KEYS, start=[{}], mesh=ONE), "1 start for 4 keys"),
        (lambda: fit(GRID, "sdf", balls(), SPEC, KEYS[:0], mesh=ONE), "no keys"),
        (lambda: FitSpec(steps=0, learning_rate=1e-3), "steps=0"),
        (lambda: FitSpec(steps=1, learning_rate=0.0), "learning_rate=0.0"),
        (lambda: presets.preset("fats", "siren"), "did you mean 'fast'"),
        (lambda: presets.preset("fast", "hashgird"), "did you mean 'hashgrid'"),
    ):
        with pytest.raises(ConfigError, match=said):
            make()


def test_how_an_octree_is_fitted_does_not_depend_on_the_others_of_its_batch():
    table = jax.ShapeDtypeStruct((2, 10**8, 8), jnp.float32)  # padded to the largest
    spec = FitSpec(steps=1, learning_rate=1e-3)
    assert not _reads_few_rows(Octree(), spec, {"grid": {"table": table}})
    assert _reads_few_rows(HashGrid(), spec, {"grid": {"table": table}})


def test_presets_name_every_architecture():
    for of_preset in presets.PRESETS.values():
        assert set(of_preset) == set(architectures.ARCHITECTURES)
        for name, (architecture, spec) in of_preset.items():
            assert architecture.name == name and spec.batch == 512
    paper = presets.PRESETS["paper"]
    assert paper["hashgrid"] == (HashGrid(), FitSpec(steps=9_766, learning_rate=1e-3))
    assert paper["siren"][1].steps == 97_657 and paper["siren"][1].learning_rate == 1e-4
