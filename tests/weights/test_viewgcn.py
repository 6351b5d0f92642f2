"""View-GCN's names: there and back, the CNN of a published file, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.models.viewgcn import ViewGCN
from jax3dret.weights import viewgcn as weights

FIELDS = {"num_classes": 5, "width": 6, "sampled": (4, 2), "selector_classes": 0}


def random_state(in_width=6, prefix="", **fields):
    model = ViewGCN(**{**FIELDS, **fields})
    fresh = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((2, 8, in_width)), jnp.zeros((8, 3))
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), fresh)
    return variables, weights.to_torch(variables, prefix)


@pytest.mark.parametrize(("in_width", "classes"), [(6, 0), (10, 7)])
def test_names_go_there_and_back(in_width, classes):
    variables, state = random_state(in_width, "module.", selector_classes=classes)
    state["module.LocalGCN1.conv.1.num_batches_tracked"] = np.array(3)
    state["other"] = np.zeros(2)
    assert weights.architecture(state, "module.") == {**FIELDS, "selector_classes": classes}
    jax.tree.map(np.testing.assert_array_equal, weights.from_torch(state, "module."), variables)
    # 3 local: 3 edge layers and a linear one with biases, a norm of four; 2 non-local; 2 selectors;
    # 3 layers.
    assert len(state) - 2 == 3 * 12 + 2 * 12 + 2 * 4 + 6


def test_the_cnn_of_a_published_file():
    _, state = random_state()
    resnet = {
        "conv1.weight": np.zeros((4, 3, 7, 7)),
        "bn1.running_mean": np.zeros(4),
        "layer1.0.conv1.weight": np.zeros((4, 4, 3, 3)),
        "layer4.1.bn2.weight": np.zeros(32),
        "layer2.0.downsample.0.weight": np.zeros((8, 4, 1, 1)),
    }
    original = weights.cnn_to_original({**resnet, "fc.weight": np.zeros((5, 32))})
    places = (
        "0.weight",
        "1.running_mean",
        "4.0.conv1.weight",
        "5.0.downsample.0.weight",
        "7.1.bn2.weight",
    )
    assert sorted(original) == [f"net_1.{place}" for place in places]
    both = {**state, **original}
    assert weights.cnn_state_dict(both).keys() == resnet.keys()
    weights.from_torch(both)  # the CNN is in nobody's way
    with pytest.raises(DataError, match="net_1.3.weight has no place"):
        weights.cnn_state_dict({"net_1.3.weight": np.zeros(2)})


def test_weights_that_do_not_fit_are_refused():
    _, state = random_state()
    with pytest.raises(DataError, match=r"cls\.0\.bias is missing"):
        weights.from_torch({k: v for k, v in state.items() if k != "cls.0.bias"})
    with pytest.raises(DataError, match=r"LocalGCN4\.x has no place"):
        weights.from_torch({**state, "LocalGCN4.x": np.zeros(2)})
    with pytest.raises(DataError, match=r"NonLocalMP1\.Fusion\.0\.weight has shape \(6, 7\)"):
        weights.from_torch({**state, "NonLocalMP1.Fusion.0.weight": np.zeros((6, 7))})
    with pytest.raises(DataError, match=r"LocalGCN1\.conv\.0\.weight is missing"):
        weights.from_torch({"a": np.zeros(2)})
