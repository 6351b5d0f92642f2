"""The encoders' own conventions; inr2vec's networks and the Conv3D encoder stand against reference
outputs in golden_checks.
"""

import jax
import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.field_encoders import lattice
from jax3dret.models.field_encoders.grid_encoder import GridEncoder, _native, _windows
from jax3dret.models.field_encoders.inr_encoder import InrEncoder
from jax3dret.models.field_encoders.mlp_encoder import MlpEncoder
from jax3dret.models.field_encoders.shape_decoder import ShapeDecoder
from jax3dret.weights import inr2vec


def drawn(module, *inputs, seed=0):
    """Variables of a module and NumPy values for them."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: np.abs(rng.normal(size=s.shape)).astype(np.float32), shapes)


def test_the_products_over_windows_are_the_convolution():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 6, 8, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 3, 3, 4)).astype(np.float32)
    found, wanted = _windows(x, kernel), _native(x, kernel)
    assert found.shape == (2, 2, 3, 4, 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduce", ["concat", "sum"])
def test_planes_are_encoded_as_the_lattice_that_they_make(reduce):
    planes = np.random.default_rng(1).normal(size=(2, 3, 4, 4, 2)).astype(np.float32)
    full = lattice.expand(planes, reduce, "sum")
    # Three of a sum are one lattice of width 2; side by side, of 6.
    assert full.shape == (2, 4, 4, 4, 6 if reduce == "concat" else 2)
    np.testing.assert_allclose(
        full[1, 2, 3, 0, :2],
        planes[1, 0, 3, 0]
        if reduce == "concat"
        else planes[1, [0, 1, 2], [3, 2, 2], [0, 0, 3]].sum(0),
        rtol=1e-6,
    )
    plain, own = GridEncoder(3, 2, 2), GridEncoder(3, 2, 2, planes=reduce)
    variables = drawn(plain, full)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, drawn(own, planes))
    found, wanted = jax.jit(lambda v, planes, full: (own.apply(v, planes), plain.apply(v, full)))(
        variables, planes, full
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_an_embedding_is_the_networks_then_the_grids():
    rows = np.random.default_rng(2).normal(size=(2, 5, 4)).astype(np.float32)
    grid = np.random.default_rng(3).normal(size=(2, 2, 2, 2, 2)).astype(np.float16)
    encoder = InrEncoder((6,), 3, True, 4, 1, 2)
    variables = drawn(encoder, rows, grid)
    params, stats = variables["params"], variables["batch_stats"]
    found, mlp, conv = jax.jit(
        lambda: (
            encoder.apply(variables, rows, grid),
            MlpEncoder((6,), 3).apply({"params": params["mlp"], "batch_stats": stats["mlp"]}, rows),
            GridEncoder(4, 1, 2).apply({"params": params["grid"]}, grid.astype(np.float32)),
        )
    )()
    np.testing.assert_allclose(found, np.concatenate([mlp, conv], 1), rtol=1e-5)
    assert found.shape == (2, encoder.embedding_dim) and found.dtype == np.float32
    # The maximum over rows: their order does not matter, nor how often one comes.
    again = MlpEncoder((6,), 3).apply(
        {"params": params["mlp"], "batch_stats": stats["mlp"]},
        rows[:, [4, 0, 0, 2, 1, 3, 3]],
    )
    np.testing.assert_allclose(again, mlp, rtol=1e-5)
    assert InrEncoder((6,), 3, False, 4).embedding_dim == 10
    assert InrEncoder((6,), 3, True, 0).embedding_dim == 3
    with pytest.raises(ConfigError, match="grid_out to 0"):
        encoder.apply(variables, rows)


def test_lattices_and_groups_that_do_not_fit_are_refused():
    def shape(encoder, *size):
        return jax.eval_shape(encoder.init, jax.random.key(0), np.zeros(size, np.float32))

    with pytest.raises(ConfigError, match="multiple of 32"):
        shape(GridEncoder(), 1, 16, 16, 16, 8)
    with pytest.raises(ConfigError, match="a cube"):
        shape(GridEncoder(layers=1), 1, 4, 4, 2, 8)
    with pytest.raises(ConfigError, match="groups"):
        shape(GridEncoder(layers=1, groups=3), 1, 4, 4, 4, 2)
    with pytest.raises(ConfigError, match="three whose side"):
        shape(GridEncoder(layers=1, planes="concat"), 1, 6, 4, 4, 2)
    with pytest.raises(ConfigError, match="embeddings"):
        ShapeDecoder().apply({}, np.zeros((3, 2)), np.zeros((2, 5, 3)))


def test_several_embeddings_of_a_shape_are_decoded_as_each_alone():
    rng = np.random.default_rng(4)
    embeddings = rng.normal(size=(3, 2, 4)).astype(np.float32)
    points = rng.normal(size=(2, 5, 3)).astype(np.float32)
    decoder = ShapeDecoder(hidden=6, bands=2)
    variables = drawn(decoder, embeddings[0], points)
    together, alone = jax.jit(
        lambda: (
            decoder.apply(variables, embeddings, points),
            [decoder.apply(variables, each, points) for each in embeddings],
        )
    )()
    assert together.shape == (3, 2, 5)
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-5)


def test_weights_that_do_not_fit_are_refused():
    rows = np.zeros((2, 3, 4), np.float32)
    state = inr2vec.encoder_to_torch(drawn(MlpEncoder((6, 5), 3), rows))
    assert {k: np.shape(v) for k, v in state.items()}["layers.6.weight"] == (3, 5, 1)
    del state["layers.1.running_mean"]
    state["more"] = np.zeros(2)
    with pytest.raises(DataError, match=r"running_mean is missing; more has no place"):
        inr2vec.encoder_from_torch(state)
    for read in (
        inr2vec.encoder_from_torch,
        inr2vec.decoder_from_torch,
        inr2vec.classifier_from_torch,
        inr2vec.grid_encoder_from_torch,
    ):
        with pytest.raises(DataError, match="do not fit"):
            read({"other.weight": np.zeros((2, 2))})
