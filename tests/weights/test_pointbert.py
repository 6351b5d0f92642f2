"""Mapping of PointBERT weights: complete, or refused with what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.models.pointbert import PointBert
from jax3dret.weights import pointbert as weights

SIZE = {"in_channels": 6, "trans_dim": 12, "depth": 2, "encoder_dims": 5, "group_widths": (4, 6, 8)}


@pytest.fixture
def state_dict() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tensors = {
        f"p.{name}": rng.normal(size=shape).astype(np.float32)
        for name, shape, _ in weights.entries(**SIZE)
    }
    tensors["p.encoder.first_conv.1.num_batches_tracked"] = np.array(3)
    return tensors | {"head.linear0.weight": np.zeros((2, 2), np.float32)}


def test_fills_the_model_exactly(state_dict):
    assert weights.architecture(state_dict, "p.") == SIZE
    variables = weights.from_torch(state_dict, "p.")
    model = PointBert(**SIZE, num_heads=2, num_group=4, group_size=4)
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 6)))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)
    kernel = variables["params"]["block1"]["attn"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel, state_dict["p.blocks.blocks.1.attn.qkv.weight"].T)
    np.testing.assert_array_equal(
        variables["params"]["encoder"]["conv1"]["kernel"],
        state_dict["p.encoder.first_conv.0.weight"][..., 0].T,
    )


def test_back_again(state_dict):
    back = weights.to_torch(weights.from_torch(state_dict, "p."), "p.")
    assert set(state_dict) - set(back) == {
        "p.encoder.first_conv.1.num_batches_tracked",
        "head.linear0.weight",
    }
    for name, value in back.items():
        np.testing.assert_array_equal(value, state_dict[name])


def test_lists_all_that_does_not_fit(state_dict):
    del state_dict["p.norm.bias"]
    state_dict["p.cls_pos"] = np.zeros((1, 2, 12), np.float32)
    state_dict["p.extra"] = np.zeros(1, np.float32)
    with pytest.raises(DataError) as error:
        weights.from_torch(state_dict, "p.")
    for part in (
        "p.norm.bias is missing",
        "p.cls_pos has shape (1, 2, 12), not (1, 1, 12)",
        "p.extra has no place",
    ):
        assert part in str(error.value)


def test_another_prefix_is_an_error(state_dict):
    with pytest.raises(DataError, match=r"module\.point_encoder\..* is missing"):
        weights.from_torch(state_dict, "module.point_encoder.")


def test_copies(state_dict):
    variables = weights.from_torch(state_dict, "p.")
    state_dict["p.norm.bias"][:] = 99
    assert not (variables["params"]["norm"]["bias"] == 99).any()
