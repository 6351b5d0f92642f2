"""ResNet, VGG, MobileNetV2 and the frozen tower: shapes, paddings, and the order in which a
classifier reads.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax3dret.data.images import IMAGENET, MOBILENET, normalise
from jax3dret.models import vgg
from jax3dret.models.frozen import frozen
from jax3dret.models.mobilenet import InvertedResidual, MobileNetV2
from jax3dret.models.resnet import BasicBlock, ResNet
from jax3dret.models.vgg import Vgg
from jax3dret.weights import mobilenet as mobilenet_weights

KEY = jax.random.key(0)


def zeros(model, *args):
    """Variables of the model's shapes, all zero, as arrays that can be written to."""
    return jax.tree.map(
        lambda s: np.zeros(s.shape, np.float32), jax.eval_shape(lambda: model.init(KEY, *args))
    )


def drawn(model, *args):
    """Variables of the model's shapes from N(0.05, 0.3²); running variances are 1."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        return (
            leaf + 1
            if path[-1].key == "var"
            else rng.normal(0.05, 0.3, leaf.shape).astype(np.float32)
        )

    return jax.tree_util.tree_map_with_path(draw, zeros(model, *args))


def test_resnet_sizes():
    def run(image, **fields):
        model = ResNet(**fields)
        variables = jax.eval_shape(model.init, KEY, image)
        out, state = jax.eval_shape(
            lambda v, x: model.apply(v, x, mutable=["intermediates"]), variables, image
        )
        params = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
        return (
            out.shape,
            {name: value[0].shape[1:] for name, value in state["intermediates"].items()},
            params,
        )

    out, maps, params = run(jnp.zeros((2, 224, 224, 3)), num_classes=1000)
    assert (out, params) == ((2, 1000), 11_689_512)
    assert maps["stem"] == maps["layer1"] == (56, 56, 64) and maps["layer4"] == (7, 7, 512)
    # An odd side: 33 -> 17 -> 9 -> 5 -> 3 -> 2.
    out, maps, _ = run(jnp.zeros((2, 33, 33, 3)), width=4, stage_sizes=(1, 1, 1, 1))
    assert out == (2, 32) == (2, ResNet(width=4).embedding_dim)
    assert [maps[f"layer{i}"][0] for i in (1, 2, 3, 4)] == [9, 5, 3, 2]


def test_resnet_stride_reads_the_first_pixel():
    """With stride 2 and padding 1, output 0 is centred on pixel 0; "SAME" would centre it on pixel
    1.
    """
    block = BasicBlock(1, stride=2)
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    variables = zeros(block, x, False)
    params = variables["params"]
    for name in ("norm1", "norm2", "norm_skip"):
        variables["batch_stats"][name]["var"] += 1
        params[name]["scale"] += np.sqrt(1 + 1e-5, dtype=np.float32)
    for name in ("conv1", "conv2"):
        params[name]["kernel"][1, 1] = 1
    run = jax.jit(lambda variables, x: block.apply(variables, x, False)[0, ..., 0])
    expected = np.array([[0, 2], [8, 10]])
    np.testing.assert_allclose(run(variables, x), expected, rtol=1e-6)
    params["conv_skip"]["kernel"][0, 0] = 10
    np.testing.assert_allclose(run(variables, x), 11 * expected, rtol=1e-6)


def test_frozen_and_trained_resnet():
    model = ResNet(stage_sizes=(1,), width=4)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    variables = drawn(model, jnp.zeros(images.shape))

    @jax.jit
    def run(variables, x):
        return model.apply(variables, x), model.apply(
            variables, x, train=True, mutable=["batch_stats"]
        )

    plain, (_, updated) = run(variables, normalise(jnp.asarray(images), IMAGENET))
    tower = frozen(model, variables, IMAGENET)
    out = tower(images)
    assert out.shape == (3, 4) and out.dtype == jnp.float32 and (np.asarray(out) >= 0).all()
    np.testing.assert_allclose(out, plain, rtol=1e-5, atol=1e-6)
    # The rest of the batch does not count, which it would with the statistics of the batch.
    np.testing.assert_allclose(tower(images[[0, 0, 0]])[0], out[0], rtol=1e-5, atol=1e-6)
    assert np.abs(updated["batch_stats"]["norm1"]["mean"]).max() > 0


def test_vgg_sizes():
    image = jnp.zeros((1, 224, 224, 3))
    shapes = jax.eval_shape(Vgg(num_classes=1000).init, KEY, image)
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == 138_357_544
    bare = jax.eval_shape(Vgg().init, KEY, image)
    assert jax.eval_shape(Vgg().apply, bare, image).shape == (1, 14, 14, 512)


def test_vgg_classifier_reads_channel_by_channel():
    model = Vgg(stages=((2, 1),), hidden=3, num_classes=1)
    image = jax.random.normal(KEY, (1, 14, 14, 3))
    variables = zeros(model, image)
    params = variables["params"]
    params["conv1_1"]["kernel"][:] = np.random.default_rng(0).normal(size=(3, 3, 3, 2))
    channel, row, column = 1, 5, 2
    params["fc1"]["kernel"][channel * 49 + row * 7 + column, 0] = 1
    params["fc2"]["kernel"][0, 0] = params["fc3"]["kernel"][0, 0] = 1
    # The map that descriptors are pooled from is the one before the last pool, after the ReLU.
    bare = Vgg(stages=((2, 1),))
    before, logit = jax.jit(lambda v, x: (bare.apply(v, x), model.apply(v, x)))(variables, image)
    assert before.shape == (1, 14, 14, 2) and before.min() == 0
    expected = before[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel].max()
    assert expected > 0
    np.testing.assert_allclose(logit, [[expected]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(14, 7), (10, 9), (3, 1)])
def test_adaptive_average(shape):
    x = np.random.default_rng(0).normal(size=(1, *shape, 2)).astype(np.float32)
    expected = np.zeros((1, 7, 7, 2))
    for i, j in np.ndindex(7, 7):
        (top, bottom), (left, right) = (
            (k * n // 7, int(np.ceil((k + 1) * n / 7))) for k, n in zip((i, j), shape, strict=True)
        )
        expected[:, i, j] = x[:, top:bottom, left:right].mean((1, 2))
    np.testing.assert_allclose(vgg.adaptive_average(jnp.asarray(x), 7), expected, atol=1e-6)


@pytest.mark.parametrize(("side", "stride"), [(6, 1), (6, 2), (7, 2)])
def test_mobilenet_block(side, stride):
    """Against the convolutions of its definition, with XLA's "SAME", which pads as Keras does."""
    block = InvertedResidual(4, 6, stride)

    def conv(x, layer, stride=1, groups=1):
        return layer["bias"][None, None, None] + lax.conv_general_dilated(
            x,
            layer["kernel"],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    @jax.jit
    def both(variables, x):
        p = variables["params"]
        y = jnp.clip(conv(x, p["expand"]), 0, 6)
        y = jnp.clip(conv(y, p["depthwise"], stride, groups=24), 0, 6)
        return block.apply(variables, x), conv(y, p["project"]) + (x if stride == 1 else 0)

    x = jnp.asarray(np.random.default_rng(1).normal(0, 3, (2, side, side, 4)), jnp.float32)
    found, expected = both(drawn(block, x), x)
    assert found.min() < 0  # the projection is linear
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_mobilenet_sizes():
    image = jnp.zeros((1, 224, 224, 3))
    shapes = jax.eval_shape(MobileNetV2().init, KEY, image)
    # The published backbone without its 17,056 scales: batch normalisation left one bias for each
    # channel.
    kernels = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes) if len(leaf.shape) == 4)
    biases = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes) if len(leaf.shape) == 1)
    assert (kernels, biases) == (2_189_760, 17_056)
    assert jax.eval_shape(MobileNetV2().apply, shapes, image).shape == (1, 1280)


@pytest.mark.real
def test_mobilenet_of_the_real_weights():
    root = os.environ.get("JAX3DRET_REAL_DATA")
    found = (
        sorted(pathlib.Path(root).rglob("mobilenetv2_1.0_224_imagenet_backbone_int8.npz"))
        if root
        else []
    )
    if not found:
        pytest.skip("JAX3DRET_REAL_DATA holds no MobileNetV2")
    with np.load(found[0]) as file:
        variables = mobilenet_weights.from_torch(dict(file))
    rows, columns = np.mgrid[:96, :96]
    disc = np.where((rows - 48) ** 2 + (columns - 48) ** 2 < 900, 40, 255)
    stripes = np.where(columns // 8 % 2, 0, 255)
    images = np.stack([disc, np.roll(disc, 8, 1), stripes, np.roll(stripes, 8, 1)]).astype(np.uint8)
    features = np.asarray(
        frozen(MobileNetV2(), variables, MOBILENET)(np.repeat(images[..., None], 3, -1))
    )
    assert np.isfinite(features).all() and (features >= 0).all() and (features <= 6).all()
    assert 0.02 < (features > 0).mean() < 0.98
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    assert min(likeness[0, 1], likeness[2, 3]) > likeness[:2, 2:].max() + 0.1
