"""EfficientNet-Lite: its published sizes, its layers against their definition, any size of picture."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax3dret.models.efficientnet_lite import EfficientNetLite, Outputs, lite0, lite2, scaled

KEY = jax.random.key(0)
# What runs once is not worth optimizing.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
# Channels in, five stages of few channels, one block each but the second.
TINY = {"widths": (4, 2, 3, 4, 5, 6, 7, 8, 9), "repeats": (1, 2, 1, 1, 1, 1, 1)}


def shapes_of(model, image):
    variables = jax.eval_shape(model.init, KEY, image)
    return variables, jax.eval_shape(
        lambda v, x: model.apply(v, x, method="outputs"), variables, image
    )


@pytest.mark.parametrize(
    ("model", "parameters", "blocks"), [(lite0, 3_371_008, 16), (lite2, 4_811_072, 21)]
)
def test_published_sizes(model, parameters, blocks):
    """As many numbers as the published files hold beside the classifier's 1,281,000."""
    variables, _ = shapes_of(model(), jnp.zeros((1, 32, 32, 3)))
    params = variables["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == parameters
    assert sum(name.startswith("block") for name in params) == blocks


def test_rounding_of_channels():
    # 1.1 x 24 = 26.4 is near 24, which is less than nine tenths of it: no; 32 x 1.4 = 44.8 -> 48.
    assert scaled(1.1, 1.2) == ((32, 16, 24, 48, 88, 120, 208, 352, 1280), (1, 3, 3, 4, 4, 5, 1))
    # 0.5 x 24 = 12 -> 16, never 8, which would be a third less.
    assert scaled(0.5, 1.0)[0][1:4] == (8, 16, 24)


@pytest.mark.parametrize(("side", "maps"), [((224, 224), (7, 7)), ((97, 33), (4, 2))])
def test_pictures_of_any_size(side, maps):
    model = EfficientNetLite(**TINY, num_classes=5)
    _, out = shapes_of(model, jnp.zeros((2, *side, 3)))
    assert isinstance(out, Outputs) and out.map.shape == (2, *maps, 9)
    assert (out.features.shape, out.logits.shape) == ((2, 9), (2, 5))


def drawn(tree):
    """Values of the tree's shapes; variances small, where eps 1e-3 and eps 1e-5 differ."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "var":
            return rng.uniform(1e-3, 3e-3, leaf.shape).astype(np.float32)
        return rng.normal(0.05, 0.3, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, tree)


def literal(variables, image):
    """The network layer by layer, with XLA's own "SAME", which pads as TensorFlow does."""
    params, stats = variables["params"], variables["batch_stats"]

    def layer(x, at, name, stride=1, groups=1):
        p, s = (tree[at] if at else tree for tree in (params, stats))
        y = lax.conv_general_dilated(
            x,
            p[name]["kernel"],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        norms = ((p, "scale"), (p, "bias"), (s, "mean"), (s, "var"))
        scale, bias, mean, var = (
            tree[f"{name}_norm"][key][None, None, None] for tree, key in norms
        )
        return (y - mean) / jnp.sqrt(var + 1e-3) * scale + bias

    def relu6(x):
        return jnp.clip(x, 0, 6)

    x = relu6(layer(image, "", "stem", 2))
    # Each block: its expansion, the stride of its filters, whether it is added to what comes in.
    plan = ((1, 1, 0), (6, 2, 0), (6, 1, 1), (6, 2, 0), (6, 2, 0), (6, 1, 0), (6, 2, 0), (6, 1, 0))
    for i, (expansion, stride, added) in enumerate(plan):
        at = f"block{i}"
        y = relu6(layer(x, at, "expand")) if expansion > 1 else x
        y = relu6(layer(y, at, "depthwise", stride, y.shape[-1]))
        x = layer(y, at, "project") + (x if added else 0)
    x = relu6(layer(x, "", "last"))
    features = x.mean((1, 2))
    return x, features, features @ params["fc"]["kernel"] + params["fc"]["bias"][None]


@pytest.mark.parametrize("side", [(32, 47)])
def test_against_the_layers_one_by_one(side):
    """An even side and odd ones on the way, where paddings differ; filters of 5 x 5."""
    model = EfficientNetLite(**TINY, num_classes=5)
    image = jax.random.normal(KEY, (2, *side, 3))
    variables = drawn(jax.eval_shape(model.init, KEY, image))

    @jit
    def both(variables, image):
        return model.apply(variables, image, method="outputs"), literal(variables, image)

    found, expected = both(variables, image)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    assert found.map.min() == 0 and found.map.max() > 0 and found.map.max() <= 6
    sizes = {
        name: variables["params"][name]["depthwise"]["kernel"].shape[0]
        for name in variables["params"]
        if name.startswith("block")
    }
    assert list(sizes.values()) == [3, 3, 3, 5, 3, 5, 5, 3]


def test_training_moves_the_running_statistics_by_a_hundredth():
    model = EfficientNetLite(**TINY)
    image = jax.random.normal(KEY, (2, 32, 32, 3))
    variables = drawn(jax.eval_shape(model.init, KEY, image))

    @jit
    def run(variables, image):
        return model.apply(variables, image, train=True, mutable=["batch_stats"])

    out, updated = run(variables, image)
    assert out.shape == (2, 9)
    conv = lax.conv_general_dilated(
        image,
        variables["params"]["stem"]["kernel"],
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    before = variables["batch_stats"]["stem_norm"]["mean"]
    np.testing.assert_allclose(
        updated["batch_stats"]["stem_norm"]["mean"],
        0.99 * before + 0.01 * np.asarray(conv).mean((0, 1, 2)),
        rtol=1e-4,
        atol=1e-6,
    )
