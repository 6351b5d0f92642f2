"""MiniLM: the network against its definition, and what padding may hold."""

import math

import jax
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.minilm import MiniLm

FIELDS = {
    "vocab_size": 11,
    "max_tokens": 9,
    "width": 8,
    "depth": 2,
    "num_heads": 2,
    "hidden": 12,
}
MODEL = MiniLm(**FIELDS)
IDS = np.array([[1, 5, 7, 2, 0, 0], [1, 2, 0, 0, 0, 0], [1, 3, 4, 9, 10, 2]], np.int32)
MASK = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool)


@pytest.fixture(scope="module")
def variables():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), IDS, MASK)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.6, leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def run(variables):
    applied = jax.jit(MODEL.apply)
    return lambda ids, mask: np.asarray(applied(variables, ids, mask))


def literal(params, ids):
    """One sentence without padding, in float64: norms behind the sums, the exact GELU, the mean."""
    erf = np.vectorize(math.erf)

    def dense(x, p):
        return x @ np.float64(p["kernel"]) + p["bias"]

    def norm(x, p):
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return unit * p["scale"] + p["bias"]

    x = params["word_embedding"][ids] + params["position_embedding"][: len(ids)]
    x = norm(np.float64(x) + params["type_embedding"][0], params["norm"])
    for i in range(FIELDS["depth"]):
        p = params[f"block{i}"]
        q, k, v = np.split(dense(x, p["attn"]["qkv"]), 3, -1)
        heads = []
        for h in range(2):
            part = slice(4 * h, 4 * h + 4)
            weights = np.exp(q[:, part] @ k[:, part].T / math.sqrt(4))
            heads.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
        x = norm(x + dense(np.concatenate(heads, -1), p["attn"]["proj"]), p["norm1"])
        y = dense(x, p["mlp"]["fc1"])
        y = dense(y * (1 + erf(y / math.sqrt(2))) / 2, p["mlp"]["fc2"])
        x = norm(x + y, p["norm2"])
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_against_the_definition(variables, run):
    found = run(IDS, MASK)
    for row, ids, mask in zip(found, IDS, MASK, strict=True):
        np.testing.assert_allclose(row, literal(variables["params"], ids[mask]), atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_padding_does_not_matter(variables, run):
    found = run(IDS, MASK)
    # Other numbers there, one outside the vocabulary; and more of it.
    other = np.where(MASK, IDS, [[3, 4, 5, 6, 10**6, -1]])
    np.testing.assert_array_equal(run(other.astype(np.int32), MASK), found)
    longer = run(np.pad(IDS, ((0, 0), (0, 3))), np.pad(MASK, ((0, 0), (0, 3))))
    np.testing.assert_allclose(longer, found, atol=1e-6)


def test_numbers_outside_the_vocabulary_spoil_their_sentence_alone(run):
    for wrong in (11, -1):
        ids = IDS.copy()
        ids[0, 1] = wrong
        found = run(ids, MASK)
        assert np.isnan(found[0]).all() and np.isfinite(found[1:]).all()
    nothing = MASK & (np.arange(3) != 1)[:, None]
    found = run(IDS, nothing)
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()


def test_too_many_tokens(variables):
    with pytest.raises(ConfigError, match="at most 9 tokens"):
        MODEL.apply(variables, np.zeros((1, 10), np.int32), np.ones((1, 10), bool))
