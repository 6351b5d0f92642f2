"""Tables of CLIP, SLIP, ResNet, VGG, MobileNetV2 and EfficientNet-Lite: they fill the networks
exactly, and go back.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.models.clip import TextTower, VisionTower
from jax3dret.models.efficientnet_lite import EfficientNetLite
from jax3dret.models.mobilenet import MobileNetV2
from jax3dret.models.resnet import ResNet
from jax3dret.models.vgg import Vgg
from jax3dret.weights import clip, efficientnet_lite, mobilenet, resnet, slip, vgg

TOWERS = {
    "vision": {"image_size": 12, "patch_size": 4, "width": 6, "depth": 2, "embedding_dim": 5},
    "text": {"vocab_size": 9, "context_length": 4, "width": 4, "depth": 3, "embedding_dim": 5},
}
WIDTHS = (4, 2, 3, 4, 5, 6, 7, 8, 9)
IMAGE = jnp.zeros((1, 12, 12, 3))


def towers(style):
    return {
        "vision": (VisionTower(**TOWERS["vision"], num_heads=1, style=style), IMAGE),
        "text": (TextTower(**TOWERS["text"], num_heads=1), jnp.zeros((1, 4), jnp.int32)),
    }


CASES = {
    "clip": (clip, TOWERS, towers("clip")),
    "slip": (slip, TOWERS, towers("slip")),
    "resnet": (resnet, {"width": 3, "stage_sizes": (2, 1, 1), "num_classes": 4}, None),
    "resnet without classifier": (
        resnet,
        {"width": 3, "stage_sizes": (1, 1), "num_classes": 0},
        None,
    ),
    "vgg": (vgg, {"stages": ((2, 2), (3, 1)), "hidden": 4, "num_classes": 5}, None),
    "vgg without classifier": (
        vgg,
        {"stages": ((2, 2), (3, 1)), "hidden": 0, "num_classes": 0},
        None,
    ),
    "mobilenet": (mobilenet, {"widths": WIDTHS}, None),
    "lite": (
        efficientnet_lite,
        {"widths": WIDTHS, "repeats": (1, 2, 1, 3, 1, 1, 1), "num_classes": 4},
        None,
    ),
    "lite without classifier": (
        efficientnet_lite,
        {"widths": WIDTHS, "repeats": (2, 1, 1, 1, 1, 1, 2), "num_classes": 0},
        None,
    ),
}


def tensors(module, fields, prefix=""):
    rng = np.random.default_rng(0)
    return {
        prefix + e.name: rng.normal(size=e.shape).astype(np.float32)
        for e in module.entries(**fields)
    }


def shapes_of(name, fields, modules):
    """Shapes of the variables that the network itself makes."""

    def init(model, x):
        return jax.tree.map(
            lambda leaf: leaf.shape, jax.eval_shape(lambda: model.init(jax.random.key(0), x))
        )

    if modules:
        params = {part: init(*both)["params"] for part, both in modules.items()}
        return {"params": {**params, "logit_scale": ()}}
    networks = {
        "resnet": ResNet,
        "vgg": Vgg,
        "mobilenet": MobileNetV2,
        "lite": EfficientNetLite,
    }
    model = networks[name.split()[0]](**fields)
    return init(model, jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize("name", CASES)
def test_fills_the_network_exactly_and_goes_back(name):
    module, fields, modules = CASES[name]
    state = tensors(module, fields, "module.")
    foreign = {
        "optimizer.lr": np.zeros(1),
        "module.bn1.num_batches_tracked": np.zeros((), np.int64),
    }
    assert module.architecture({**state, **foreign}, "module.") == fields
    variables = module.from_torch({**state, **foreign}, "module.")
    assert jax.tree.map(np.shape, variables) == shapes_of(name, fields, modules)
    back = module.to_torch(variables, "module.")
    assert set(back) == set(state)
    for key, value in back.items():
        np.testing.assert_array_equal(value, state[key], err_msg=key)
    with pytest.raises(DataError, match=r"module\.more has no place"):
        module.from_torch({**state, "module.more": np.zeros(1)}, "module.")
    first = next(iter(state))
    with pytest.raises(DataError, match="is missing"):
        module.from_torch({key: value for key, value in state.items() if key != first}, "module.")
    with pytest.raises(DataError, match="is missing"):
        module.from_torch(state, "elsewhere.")


def test_packed_projection_keeps_queries_first():
    state = tensors(clip, TOWERS)
    qkv = clip.from_torch(state)["params"]["vision"]["block1"]["attn"]["qkv"]
    packed = state["visual.transformer.resblocks.1.attn.in_proj_weight"]
    np.testing.assert_array_equal(qkv["kernel"][:, :6], packed[:6].T)
    np.testing.assert_array_equal(
        qkv["bias"][12:], state["visual.transformer.resblocks.1.attn.in_proj_bias"][12:]
    )


def test_what_is_left_out_is_told():
    state = tensors(clip, TOWERS) | {"input_resolution": np.array(224), "vocab_size": np.array(9)}
    assert clip.ignored(state) == ("input_resolution", "vocab_size")
    assert "vision" in clip.from_torch(state)["params"]
    state = tensors(slip, TOWERS, "module.") | {"module.image_mlp.bn1.weight": np.ones(2)}
    assert slip.ignored(state, "module.") == ("module.image_mlp.bn1.weight",)
    assert "vision" in slip.from_torch(state, "module.")["params"]


def test_names_of_the_published_files():
    """As many tensors and numbers as ViT-B/16 of CLIP and SLIP, ResNet-18 and VGG-16 have."""
    base = {"image_size": 224, "patch_size": 16, "width": 768, "depth": 12, "embedding_dim": 512}
    text = {
        "vocab_size": 49408,
        "context_length": 77,
        "width": 512,
        "depth": 12,
        "embedding_dim": 512,
    }

    def size(table):
        return len(table), sum(math.prod(entry.shape) for entry in table)

    assert size(clip.entries(base, text)) == (302, 149_620_737)
    assert size(slip.entries(base, text)) == (301, 149_619_969)
    # 122 and 11,699,132 with the 20 counters.
    assert size(resnet.entries(64, (2, 2, 2, 2), 1000)) == (102, 11_699_112)
    published = Vgg()
    assert size(vgg.entries(published.stages, published.hidden, 1000)) == (32, 138_357_544)
    assert size(mobilenet.entries(MobileNetV2().widths))[0] == 104


def test_refuses_what_is_not_supported():
    state = tensors(resnet, {"width": 3, "stage_sizes": (1,), "num_classes": 0})
    with pytest.raises(DataError, match="bottleneck"):
        resnet.from_torch({**state, "layer1.0.conv3.weight": np.zeros((1, 1, 1, 1))})
    state = tensors(clip, TOWERS) | {"visual.positional_embedding": np.zeros((11, 6), np.float32)}
    with pytest.raises(DataError, match="11 positions are not a square grid"):
        clip.architecture(state)
    state = tensors(vgg, {"stages": ((2, 1), (3, 1)), "hidden": 0, "num_classes": 0})
    with pytest.raises(DataError, match=r"features\.1\.running_mean has no place"):
        vgg.from_torch({**state, "features.1.running_mean": np.zeros(2)})


def test_eight_bit_kernels():
    state = tensors(mobilenet, {"widths": WIDTHS})
    kernel = np.random.default_rng(1).integers(-128, 128, (3, 3, 3, 4)).astype(np.int8)
    scale = np.array([0.5, 0.25, 1, 2], np.float32)
    del state["Conv1/kernel"]
    state |= {"Conv1/kernel_int8": kernel, "Conv1/scale": scale, "order": np.array(["Conv1"])}
    assert mobilenet.ignored(state) == ("order",)
    found = mobilenet.from_torch(state)["params"]["stem"]["kernel"]
    np.testing.assert_array_equal(found, kernel * scale)  # exact: powers of two
    assert found.dtype == np.float32 and found.min() <= -128
    with pytest.raises(DataError, match=r"Conv1/scale has shape \(3,\)"):
        mobilenet.from_torch({**state, "Conv1/scale": scale[:3]})
    del state["Conv1/scale"]
    with pytest.raises(DataError, match="Conv1/scale is missing"):
        mobilenet.from_torch(state)
