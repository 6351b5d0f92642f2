"""Architectures of fields: conventions that no published output fixes, and what is shared."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.fields.fields_of import cells_of_a_ball, small

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.fields import architectures, network
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.network import Decoder
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.octree_cells import capacity, morton, places
from jax3dret.models.fields.siren import Siren
from jax3dret.models.fields.triplane import Triplane

KEYS = jax.random.split(jax.random.key(3), 2)
NAMES = sorted(architectures.ARCHITECTURES)


@pytest.fixture(autouse=True)
def strict_ranks():
    with jax.numpy_rank_promotion("raise"):
        yield


def variables_of(name, key=KEYS[0]):
    architecture = small(name)
    structure = architecture.structure(cells_of_a_ball()) if name == "octree" else None
    return architecture, architecture.init(key, structure)


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_shared_and_grids_are_not(name):
    architecture, one = variables_of(name)
    _, other = variables_of(name, KEYS[1])
    for a, b in zip(*map(jax.tree.leaves, (one["decoder"], other["decoder"])), strict=True):
        np.testing.assert_array_equal(a, b)
    if name == "siren":
        assert architecture.feature_width == 0 and "grid" not in one
        return
    tables = [v["grid"]["table"] for v in (one, other)]
    assert np.abs(tables[0] - tables[1]).min() > 0
    assert 0.005 < np.std(tables[0]) < 0.02
    points = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 3)), jnp.float32)
    features = jax.jit(architecture.features)(one, points)
    assert features.shape == (5, architecture.feature_width)
    first = one["decoder"]["layers"][0]["weight"]
    assert first.shape == (4, 3 + architecture.feature_width)


def test_descriptions_are_json_and_errors_name_the_nearest(unchecked):
    for name in NAMES:
        architecture = small(name)
        text = json.dumps(architectures.describe(architecture))
        assert architectures.from_description(json.loads(text)) == architecture
        assert hash(architecture) == hash(architectures.from_description(json.loads(text)))
    for call, said in (
        (lambda: architectures.by_name("hashgird"), "did you mean 'hashgrid'?"),
        (lambda: architectures.by_name("hashgrid", tabel=3), "did you mean 'table'?"),
        (lambda: architectures.by_name("octree", decoder={"hiden": 3}), "did you mean 'hidden'?"),
        (lambda: architectures.by_name("siren", hidden=2.5), "whole number"),
        (lambda: architectures.by_name("siren", hidden=0), "expected 1 to 16384"),
        (lambda: architectures.by_name("triplane", planes="add"), "concat, sum"),
        (lambda: architectures.by_name("octree", levels=9), "no level finer than 9"),
        (lambda: architectures.from_description({"table": 3}), "no 'name'"),
    ):
        with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
            call()


def test_defaults_are_the_papers():
    grid = HashGrid()
    assert grid.resolutions == (16, 50, 161, 512)
    assert np.diff(grid.begins).tolist() == [4096, 125000, 2**19, 2**19]
    assert grid.feature_width == 8 and Octree().feature_width == 8 and Octree().finest == 7
    assert Triplane().feature_width == 24 and Triplane().sides == (33,)
    assert Triplane(planes="sum").feature_width == 8
    layers = Siren().init(KEYS[0])["decoder"]["layers"]
    assert sum(leaf.size for leaf in jax.tree.leaves(layers)) == 790_529
    weights = [np.abs(layer["weight"]).max() for layer in layers]
    assert weights[0] == pytest.approx(1 / 3, rel=0.01)
    assert weights[1:] == pytest.approx([np.sqrt(6 / 512) / 30] * 4, rel=0.02)
    assert np.abs(layers[2]["bias"]).max() == pytest.approx(512**-0.5, rel=0.02)
    assert np.abs(layers[0]["bias"]).max() == pytest.approx(3**-0.5, rel=0.02)


def test_hash_grid_reads_its_last_node_beyond_the_last_cell():
    """A level of n nodes is stretched by n: x = 1 - 2/n and x = 1 are both the last node."""
    grid = HashGrid(levels=1, min_resolution=4, max_resolution=4, table=8, width=1)
    table = jnp.arange(64.0)[:, None]
    points = jnp.asarray([[-1, -1, -1], [-0.5, -1, -1], [-1, -0.5, -1], [1, 0.5, 0.9]], jnp.float32)
    found = jax.jit(grid.features)({"grid": {"table": table}}, points)[:, 0]
    np.testing.assert_allclose(found, [0, 1, 4, 63], atol=1e-3)
    # 511 exactly at the far end of the domain: the corner behind has no weight, and is a row.
    rows, weights = jax.jit(HashGrid().corners)(None, jnp.ones((1, 3), jnp.float32))
    assert rows.max() < HashGrid().begins[-1] and rows.min() >= 0
    np.testing.assert_allclose(weights.sum(2), 1, atol=1e-6)
    assert weights[0, 3, 0] == 1


def test_triplane_axes_and_mirrored_borders():
    planes = Triplane(resolution=1, width=1)
    table = np.zeros((3, 3, 3), np.float32)
    table[0, 2, 0], table[1, 0, 2], table[2, 1, 1] = 2, 3, 5  # plane, row, column
    variables = {"grid": {"table": jnp.asarray(table.reshape(27, 1))}}
    points = [[-1, -1, 1], [1, 0, -1], [0, 0, 0], [1.5, 0, -1]]
    found = jax.jit(planes.features)(variables, jnp.asarray(points, jnp.float32))
    np.testing.assert_allclose(found, [[2, 0, 0], [0, 3, 0], [0, 0, 5], [0, 1.5, 2.5]], atol=1e-6)
    summed = Triplane(resolution=1, width=1, planes="sum")
    np.testing.assert_allclose(
        jax.jit(summed.features)(variables, jnp.asarray(points, jnp.float32))[:, 0],
        found.sum(1),
        atol=1e-6,
    )


def test_octree_leaves_out_empty_cells_and_comes_back():
    """One occupied cell a level: elsewhere levels add nothing; the cells are in the structure."""
    octree = Octree(base=1, levels=3, width=1)
    cells = np.array([[7, 0, 3], [6, 0, 3], [7, 0, 3]])
    structure = octree.structure(cells)
    assert octree.cells(structure).tolist() == [[6, 0, 3], [7, 0, 3]]
    assert octree.rows(structure) == 8 + 8 + 12
    table = jnp.concatenate([jnp.full((8, 1), 1.0), jnp.full((8, 1), 10.0), jnp.full((12, 1), 100)])
    variables = {"grid": {"table": table}, "structure": structure}
    inside = (np.array([[7, 0, 3], [7, 1, 3], [5, 0, 3], [0, 0, 3]]) + 0.5) / 4 - 1
    found = jax.jit(octree.features)(variables, jnp.asarray(inside, jnp.float32))[:, 0]
    np.testing.assert_allclose(found, [111, 11, 1, 0], rtol=1e-6)
    # Beyond the domain and without a number, a point reads its own tree.
    rows, weights = jax.jit(octree.corners)(structure, jnp.asarray([[5.0, -7, -0.1], [np.nan] * 3]))
    assert rows.min() >= 0 and rows.max() < 28
    np.testing.assert_allclose(weights[0].sum(-1), 1, atol=1e-6)
    with pytest.raises(DataError, match="no cell is occupied"):
        octree.structure(np.zeros((0, 3), int))
    with pytest.raises(DataError, match="level 3 has 0 to 7"):
        octree.structure(np.array([[8, 0, 0]]))
    with pytest.raises(ConfigError, match="no structure"):
        octree.init(KEYS[0])


def test_trees_of_different_size_are_stacked_and_come_back():
    octree = small("octree")
    trees = [octree.structure(cells) for cells in (cells_of_a_ball(), np.array([[1, 2, 3]]))]
    each = [octree.init(key, tree) for key, tree in zip(KEYS, trees, strict=True)]
    stacked = architectures.stack(octree, each)
    points = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (2, 9, 3)), jnp.float32)
    together = jax.jit(jax.vmap(octree.apply))(stacked, points)
    for i, (one, back) in enumerate(zip(each, architectures.unstack(octree, stacked), strict=True)):
        np.testing.assert_allclose(together[i], jax.jit(octree.apply)(one, points[i]), atol=1e-6)
        jax.tree.map(np.testing.assert_array_equal, one, back)


def test_morton_order_and_capacities():
    cells = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [511, 3, 128]])
    assert morton(cells)[:3].tolist() == [4, 2, 1]
    np.testing.assert_array_equal(places(morton(cells)), cells)
    assert [capacity(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 97)] == [
        1,
        2,
        3,
        4,
        6,
        6,
        8,
        8,
        12,
        128,
    ]


def test_decoder_options():
    """A skip stands before the layer's output; Fourier bands take the place of coordinates."""
    decoder = Decoder(hidden=2, depth=2, skip=(0,), bands=1, coordinates=False)
    layers = decoder.init("x", 1)["layers"]
    assert [layer["weight"].shape for layer in layers] == [(2, 7), (2, 9), (1, 2)]
    point, feature = np.array([0.1, -0.2, 0.3], np.float32), np.array([2.0], np.float32)
    x = np.concatenate([np.sin(point), np.cos(point), feature])
    w = [[np.asarray(layer[k], float) for k in ("weight", "bias")] for layer in layers]
    h = np.concatenate([x, np.maximum(w[0][0] @ x + w[0][1], 0)])
    h = np.maximum(w[1][0] @ h + w[1][1], 0)
    found = decoder.apply({"layers": layers}, jnp.asarray(point)[None], jnp.asarray(feature)[None])
    np.testing.assert_allclose(found, w[2][0] @ h + w[2][1], rtol=1e-5)
    with pytest.raises(ConfigError, match="count from 0"):
        Decoder(skip=(1,))
    assert network.draw("x", (3, 2), (1.0,))["layers"][0]["weight"].dtype == jnp.float32
