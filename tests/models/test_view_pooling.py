"""The pooling baselines against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.view_pooling import AttentionPooling, VitPooling

BATCH, VIEWS, WIDTH = 2, 5, 16


def features():
    return np.random.default_rng(0).normal(size=(BATCH, VIEWS, WIDTH)).astype(np.float32)


def randomised(module, x, scale=0.4):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (rng.normal(size=s.shape) * scale).astype(np.float32), shapes)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_attention_pooling_equals_the_formula():
    x = features()
    module = AttentionPooling(7)
    variables = randomised(module, x)
    params = variables["params"]
    assert {name: set(leaves) for name, leaves in params.items()} == {
        "hidden": {"kernel"},
        "score": {"kernel"},
    }
    found, weights = jax.jit(module.apply)(variables, x)
    for item in range(BATCH):
        scores = [
            np.tanh(f @ params["hidden"]["kernel"]) @ params["score"]["kernel"][:, 0]
            for f in x[item]
        ]
        expected = softmax(np.array(scores))
        np.testing.assert_allclose(weights[item], expected, atol=1e-5)
        np.testing.assert_allclose(found[item], expected @ x[item], atol=1e-5)


def literal_vit(params, item, heads=8):
    """The class token of one item, in float64."""
    params = jax.tree.map(lambda v: np.asarray(v, np.float64), params)

    def norm(v, name, block):
        v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)
        return v * block[name]["scale"] + block[name]["bias"]

    def dense(v, layer):
        return v @ layer["kernel"] + layer["bias"]

    def gelu(v):
        return np.asarray(jax.nn.gelu(jnp.asarray(v, jnp.float32), approximate=False), np.float64)

    x = np.concatenate([params["token"][None], item + params["views"]])
    for i in range(2):
        block = params[f"block{i}"]
        q, k, v = np.split(dense(norm(x, "norm1", block), block["attn"]["qkv"]), 3, axis=-1)
        size = x.shape[1] // heads
        out = []
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            out.append(softmax(q[:, part] @ k[:, part].T / np.sqrt(size)) @ v[:, part])
        x = x + dense(np.concatenate(out, axis=-1), block["attn"]["proj"])
        x = x + dense(
            gelu(dense(norm(x, "norm2", block), block["mlp"]["fc1"])), block["mlp"]["fc2"]
        )
    return norm(x, "norm", params)[0]


def test_vit_pooling_equals_the_loops():
    x = features()
    module = VitPooling()
    variables = randomised(module, x)
    assert variables["params"]["block1"]["mlp"]["fc1"]["kernel"].shape == (WIDTH, 4 * WIDTH)
    run = jax.jit(module.apply)
    found = np.asarray(run(variables, x))
    for item in range(BATCH):
        np.testing.assert_allclose(
            found[item], literal_vit(variables["params"], x[item]), atol=2e-4
        )
    # A view is known by its embedding.
    assert np.abs(found - np.asarray(run(variables, x[:, ::-1]))).max() > 1e-2
    with pytest.raises(ConfigError, match=r"another number of views than 4: views has length 5"):
        jax.eval_shape(module.apply, variables, x[:, :4])
    with pytest.raises(ConfigError, match=r"8 heads, features have width 12; .* width=16"):
        jax.eval_shape(module.init, jax.random.key(0), x[..., :12])
