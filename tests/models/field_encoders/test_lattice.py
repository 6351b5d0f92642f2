"""The lattice of a grid against its features asked point by point; rows of networks against their
recipe, neuron by neuron.
"""

import jax
import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.field_encoders import lattice, rows
from jax3dret.models.field_encoders.inr_row import InrRow, kinds_in, split_kind
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.network import Decoder
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.siren import Siren
from jax3dret.models.fields.triplane import Triplane

R = 8
OCTREE = Octree(base=1, levels=4, width=3, decoder=Decoder(hidden=4))
ARCHITECTURES = [
    # Stored whole and hashed; finer than the lattice, coarser, and a level of 16 nodes, on which
    # every point of the lattice is a node.
    HashGrid(levels=3, min_resolution=4, max_resolution=16, table=8),
    HashGrid(levels=2, min_resolution=5, max_resolution=23, table=9, width=3, reduce="sum"),
    Triplane(resolution=2, width=2),
    Triplane(resolution=1, width=3, levels=2, planes="sum", reduce="concat"),
    OCTREE,
    Octree(base=2, levels=3, width=2, reduce="concat"),
]


def variables_of(architecture, seed=0):
    structure = None
    if isinstance(architecture, Octree):
        cells = np.random.default_rng(seed).integers(0, 2**architecture.finest, (12, 3))
        structure = architecture.structure(cells)
    return jax.tree.map(np.asarray, architecture.init(jax.random.key(seed), structure))


def points():
    axis = np.array([-1 + 2 * i / R for i in range(R)], np.float32)
    # x is the first axis of the lattice: slowest.
    return np.array([(x, y, z) for x in axis for y in axis for z in axis])


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a.name}_{a.reduce}")
def test_the_lattice_is_the_features_point_by_point(architecture):
    variables = variables_of(architecture)
    found = lattice.sample(architecture, variables, R)
    with jax.disable_jit():
        wanted = np.asarray(architecture.features(variables, points()))
    assert found.dtype == np.float32 and found.shape == (R, R, R, architecture.feature_width)
    np.testing.assert_allclose(found.reshape(R**3, -1), wanted, rtol=0, atol=1e-7)
    assert np.abs(wanted).max() > 1e-3  # of an octree not all cells are empty
    assert not np.allclose(found, found.swapaxes(0, 2))  # the order of the axes can be told


def test_a_resolution_that_is_none_and_an_inr_without_grid_are_refused():
    for resolution in (48, 0, 1, 512):
        with pytest.raises(ConfigError, match="power of two"):
            lattice.coordinates(resolution)
    with pytest.raises(ConfigError, match="siren: has no grid"):
        lattice.sample(Siren(hidden=4), {}, 8)


def test_rows_of_a_siren_are_the_incoming_weights_of_its_hidden_neurons():
    siren = Siren(hidden=5, depth=3)
    layers = jax.tree.map(np.asarray, siren.init(jax.random.key(0)))["decoder"]["layers"]
    found = rows.weight_rows(siren, layers)
    # inr2vec: first and last layer dropped; [W2, b2, W3, b3], each flat, in rows of the width.
    flat = [part.reshape(-1) for layer in layers[1:-1] for part in (layer["weight"], layer["bias"])]
    np.testing.assert_array_equal(found, np.concatenate(flat).reshape(2 * 6, 5))
    np.testing.assert_array_equal(found[2], layers[1]["weight"][2])  # a neuron's, not an input's
    with pytest.raises(ConfigError, match="hidden layers"):
        rows.hidden_rows([layers[0], layers[-1]])


def test_rows_of_a_decoder_keep_all_layers():
    decoder = Decoder(hidden=6, depth=2)
    layers = jax.tree.map(np.asarray, decoder.init("x", 2))["layers"]
    found = rows.decoder_rows(layers)
    assert found.shape == (5 + 1 + 6 + 1 + 1 + 1, 6)
    np.testing.assert_array_equal(found[3], layers[0]["weight"][:, 3])  # out of input 3
    np.testing.assert_array_equal(found[5], layers[0]["bias"])
    np.testing.assert_array_equal(found[7], layers[1]["weight"][1])  # into neuron 1
    np.testing.assert_array_equal(found[-2], layers[2]["weight"][0])
    np.testing.assert_array_equal(found[-1], [layers[2]["bias"][0], 0, 0, 0, 0, 0])
    assert rows.decoder_rows(Decoder().init("x", 8)["layers"]).shape == (14, 128)
    skipping = jax.tree.map(np.asarray, Decoder(hidden=6, depth=2, skip=(0,)).init("x", 2))
    with pytest.raises(ConfigError, match="no skips"):
        rows.decoder_rows(skipping["layers"])


def test_the_row_of_an_inr_is_named_and_as_large_as_said():
    for architecture in (*ARCHITECTURES[::2], Siren(hidden=4, depth=2)):
        made = InrRow(R, "float16")(Field(architecture, "occ", variables_of(architecture)))
        said = InrRow(R, "float16").shapes(architecture, "occ")
        assert {k: (v.shape, v.dtype) for k, v in made.items()} == {
            k: (v.shape, np.dtype(v.dtype)) for k, v in said.items()
        }
        assert kinds_in(made) == [f"{architecture.name}_occ"]
    assert split_kind("my_own_sdf") == ("my_own", "sdf")
    for wrong in ("sdf", "_sdf", "hashgrid", "hashgrid_sdf/rows"):
        with pytest.raises(ConfigError, match="no kind of INR"):
            split_kind(wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_an_inr_that_is_not_finite_or_too_large_is_refused(value):
    variables = variables_of(ARCHITECTURES[0])
    variables["grid"]["table"] = np.full_like(variables["grid"]["table"], value)
    field = Field(ARCHITECTURES[0], "sdf", variables, about={"source": "a part"})
    with pytest.raises(DataError, match="a part: hashgrid_sdf/lattice .*not finite in float16"):
        InrRow(R)(field)
    if value == 1e6:  # too large for the precision alone
        InrRow(R, "float32")(field)
