"""The towers of CLIP and SLIP against their formulas in float64, and what tells the two styles
apart.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.clip import TextTower, VisionTower, prompt_ensemble

VISION = {
    "image_size": 8,
    "patch_size": 4,
    "width": 8,
    "depth": 2,
    "num_heads": 2,
    "embedding_dim": 3,
}
TEXT = {
    "vocab_size": 20,
    "context_length": 6,
    "width": 8,
    "depth": 2,
    "num_heads": 2,
    "embedding_dim": 3,
}


def randomised(model, *args, embedding=0.3):
    """Variables of the model's shapes with nothing at 0 or 1; class and position embeddings of the
    size given.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0), *args)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        scale = embedding if name in ("class_embedding", "position_embedding") else 0.3
        return ((name == "scale") + scale * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def norm(x, p, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * p[
        "scale"
    ] + p["bias"]


def activate(x, name):
    if name == "quick_gelu":
        return x / (1 + np.exp(-1.702 * x))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def block(x, p, heads, activation, eps, causal):
    """One image or caption [T, D], head by head and token by token."""
    size = x.shape[1] // heads
    q, k, v = np.split(
        norm(x, p["norm1"], eps) @ p["attn"]["qkv"]["kernel"] + p["attn"]["qkv"]["bias"], 3, axis=1
    )
    mixed = np.zeros_like(x)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for t in range(len(x)):
            seen = t + 1 if causal else len(x)
            weights = np.exp(k[:seen, part] @ q[t, part] / np.sqrt(size))
            mixed[t, part] = weights @ v[:seen, part] / weights.sum()
    x = x + mixed @ p["attn"]["proj"]["kernel"] + p["attn"]["proj"]["bias"]
    hidden = norm(x, p["norm2"], eps) @ p["mlp"]["fc1"]["kernel"] + p["mlp"]["fc1"]["bias"]
    return x + activate(hidden, activation) @ p["mlp"]["fc2"]["kernel"] + p["mlp"]["fc2"]["bias"]


def vision(image, p, norm_pre, activation, eps):
    """The embedding of one image, patch by patch."""
    rows = [p["class_embedding"]]
    for i in range(0, 8, 4):
        for j in range(0, 8, 4):
            patch = np.einsum(
                "hwc,hwcd->d", image[i : i + 4, j : j + 4], p["patch_embed"]["kernel"]
            )
            rows.append(patch + p["patch_embed"].get("bias", 0))
    x = np.stack(rows) + p["position_embedding"]
    x = norm(x, p["norm_pre"], eps) if norm_pre else x
    for i in range(2):
        x = block(x, p[f"block{i}"], 2, activation, eps, causal=False)
    return norm(x[0], p["norm"], eps) @ p["projection"]


@pytest.mark.parametrize(
    ("style", "formula", "wrong"),
    [
        (
            "clip",
            (True, "quick_gelu", 1e-5),
            [(False, "quick_gelu", 1e-5), (True, "gelu", 1e-5), (True, "quick_gelu", 1e-6)],
        ),
        ("slip", (False, "gelu", 1e-6), [(False, "quick_gelu", 1e-6), (False, "gelu", 1e-5)]),
    ],
)
def test_vision_tower(style, formula, wrong):
    model = VisionTower(**VISION, style=style)
    # Small tokens: the eps of the first norm counts.
    images = 0.001 * np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    variables = randomised(model, images, embedding=0.003)
    if style == "slip":
        variables["params"]["patch_embed"]["bias"] *= 0.01
    params = jax.tree.map(np.float64, variables["params"])
    assert ("bias" in params["patch_embed"]) == (style == "slip")
    found = jax.jit(model.apply)(variables, images)
    assert found.dtype == jnp.float32
    expected = np.stack([vision(image.astype(np.float64), params, *formula) for image in images])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    params.setdefault("norm_pre", {"scale": 1.0, "bias": 0.0})
    for other in wrong:
        assert (
            np.abs(vision(images[0].astype(np.float64), params, *other) - expected[0]).max() > 2e-3
        ), other


@pytest.fixture(scope="module")
def text():
    model = TextTower(**TEXT)
    return jax.jit(model.apply), randomised(model, jnp.zeros((1, 6), jnp.int32))


def test_text_tower(text):
    apply, variables = text
    # Ends: in the middle; twice, of which the first counts; nowhere (cut off), so at the largest
    # number.
    tokens = np.array([[18, 3, 4, 19, 0, 0], [18, 19, 7, 19, 0, 0], [5, 1, 9, 2, 8, 3]])
    params = jax.tree.map(np.float64, variables["params"])
    expected = []
    for row, read in zip(tokens, (3, 1, 2), strict=True):
        x = params["token_embedding"][row] + params["position_embedding"]
        for i in range(2):
            x = block(x, params[f"block{i}"], 2, "quick_gelu", 1e-5, causal=True)
        expected.append(norm(x[read], params["norm"], 1e-5) @ params["projection"])
    np.testing.assert_allclose(apply(variables, tokens), np.stack(expected), rtol=0, atol=1e-4)


def test_nothing_after_the_end_counts(text):
    apply, variables = text
    tokens = np.array([[18, 3, 4, 19, 0, 0], [18, 3, 4, 19, 7, 5], [18, 4, 3, 19, 0, 0]])
    first, padded_otherwise, reordered = apply(variables, tokens)
    np.testing.assert_array_equal(first, padded_otherwise)
    assert np.abs(first - reordered).max() > 1e-3


def test_unknown_token_is_nan_in_its_row_alone(text):
    apply, variables = text
    out = np.asarray(
        apply(
            variables, np.array([[18, 3, 20, 4, 0, 0], [18, -1, 19, 0, 0, 0], [18, 3, 19, 0, 0, 0]])
        )
    )
    assert np.isnan(out[:2]).all() and np.isfinite(out[2]).all()


def test_prompts_have_no_order():
    model = VisionTower(**VISION)
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    variables = randomised(model, images)
    prompts = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)
    apply = jax.jit(model.apply)
    out = apply(variables, images, prompts)
    np.testing.assert_allclose(apply(variables, images, prompts[::-1]), out, atol=1e-5)
    assert np.abs(out - apply(variables, images, np.roll(prompts, 1, axis=1))).max() > 1e-2


def test_sizes_of_the_published_weights():
    def count(tree):
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))

    text = jax.eval_shape(TextTower().init, jax.random.key(0), jnp.zeros((1, 77), jnp.int32))
    image = jnp.zeros((1, 224, 224, 3))
    # With the logit scale.
    for style, total in (("clip", 149_620_737), ("slip", 149_619_969)):
        tower = jax.eval_shape(VisionTower(style=style).init, jax.random.key(0), image)
        assert count(tower) + count(text) + 1 == total


def test_bfloat16_gives_float32_embeddings():
    one, other = (
        VisionTower(**{**VISION, "depth": 1}, dtype=dtype) for dtype in ("bfloat16", "float32")
    )
    images = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    variables = randomised(one, images)
    narrow, wide = jax.jit(lambda v, x: (one.apply(v, x), other.apply(v, x)))(variables, images)
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, wide, atol=0.1)


def test_prompt_ensemble():
    rows = jnp.array([[3.0, 0, 0], [0, 0.5, 0]])
    # Normalised first: the longer one does not outweigh the other.
    np.testing.assert_allclose(
        prompt_ensemble(rows), [math.sqrt(0.5), math.sqrt(0.5), 0], rtol=1e-6
    )
    np.testing.assert_allclose(prompt_ensemble(rows[None]), prompt_ensemble(rows)[None])


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (VisionTower(**VISION, style="timm"), (1, 8, 8, 3), "'timm'; expected one of clip, slip"),
        (VisionTower(**VISION), (1, 8, 12, 3), r"expected \[B, 8, 8, 3\]"),
        (
            VisionTower(**{**VISION, "image_size": 10}),
            (1, 10, 10, 3),
            "not a multiple of patch_size 4",
        ),
        (
            VisionTower(**{**VISION, "num_heads": 0}),
            (1, 8, 8, 3),
            "num_heads must be given for width 8",
        ),
        (TextTower(**TEXT), (1, 7), r"expected \[B, 6\]"),
    ],
)
def test_refuses(model, shape, message):
    dtype = jnp.int32 if len(shape) == 2 else jnp.float32
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape, dtype))
