"""The parts of a level against loops: neighbourhoods and their ties, masked softmax, adjacency,
convolution, attention.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.view_graph import (
    GlobalAttention,
    Linear,
    LocalGraph,
    adjacency,
    masked_softmax,
    neighbourhood,
)

BATCH, VIEWS, WIDTH = 3, 5, 4
MASKS = np.random.default_rng(3).random((BATCH, VIEWS, VIEWS)) < 0.4
MASKS |= np.eye(VIEWS, dtype=bool)
MASKS[1, 2] = np.arange(VIEWS) == 2  # alone


def features(seed=0):
    return np.random.default_rng(seed).normal(size=(BATCH, VIEWS, WIDTH)).astype(np.float32)


def literal_adjacency(x, mask, loop="member", scale=True, normalise="rows"):
    """One item by loops, in float64."""
    x = x.astype(np.float64)
    count = len(x)
    weights = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            if mask[i, j] and (loop == "member" or i != j):
                weights[i, j] = np.exp(x[i] @ x[j] / (np.sqrt(x.shape[1]) if scale else 1.0))
    total = weights.sum(1 if normalise == "rows" else 0, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    if loop == "add_identity":
        weights += np.eye(count)
        weights /= weights.sum(1, keepdims=True)
    return weights


@pytest.mark.parametrize("loop", ["member", "add_identity"])
def test_adjacency_equals_the_loops(loop):
    x = features()
    found = np.asarray(jax.jit(adjacency, static_argnames="self_loop")(x, MASKS, self_loop=loop))
    for item in range(BATCH):
        np.testing.assert_allclose(
            found[item], literal_adjacency(x[item], MASKS[item], loop), atol=1e-6
        )
    assert (found[~MASKS] == 0).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    for wrong in (
        {"scale": False},
        {"normalise": "columns"},
        {"loop": {"member": "add_identity"}.get(loop, "member")},
    ):
        other = literal_adjacency(x[0], MASKS[0], **{"loop": loop, **wrong})
        assert np.abs(other - found[0]).max() > 1e-2
    with pytest.raises(ConfigError, match="self_loop='both'"):
        adjacency(jnp.asarray(x), jnp.asarray(MASKS), self_loop="both")


def test_masked_softmax_is_zero_outside_and_never_nan():
    scores = jnp.asarray(
        [
            [1e4, 2.0, -1e4, 0.0],  # large
            [3.0, 3.0, 3.0, 3.0],  # nothing allowed
            [jnp.nan, 1.0, jnp.inf, 1.0],  # not finite where it does not count
            [jnp.nan, 1.0, 2.0, 1.0],  # NaN where it does
            [-jnp.inf, -3e38, 3e38, 0.0],
        ]
    )
    mask = jnp.asarray([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [1, 1, 0, 0]], bool)
    found = np.asarray(jax.jit(masked_softmax)(scores, mask))
    expected = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0.5, 0, 0.5], [np.nan, np.nan, 0, 0], [0, 1, 0, 0]]
    np.testing.assert_array_equal(found, expected)
    gradient = jax.jit(jax.grad(lambda s: (masked_softmax(s, mask[:2]) * jnp.arange(4.0)).sum()))(
        scores[:2]
    )
    assert np.isfinite(gradient).all() and (np.asarray(gradient)[~np.asarray(mask[:2])] == 0).all()


def test_neighbours_by_direct_difference():
    rng = np.random.default_rng(1)
    positions = (rng.normal(size=(2, 7, 3)) * 0.01 + 100).astype(
        np.float32
    )  # |a|^2 - 2ab + |b|^2 would cancel here
    found = np.asarray(jax.jit(neighbourhood, static_argnames="k")(positions, k=3))
    for item in range(2):
        p = positions[item].astype(np.float64)
        for i in range(7):
            nearest = sorted(range(7), key=lambda j: ((p[i] - p[j]) ** 2).sum())[:3]
            assert sorted(nearest) == np.flatnonzero(found[item, i]).tolist()


def test_ties_go_to_the_lower_index_and_a_view_is_always_its_own_neighbour():
    square = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    same = [[1, 1, 1]] * 4  # as prototypes nearly are before training
    both = jnp.asarray([square, same], jnp.float32)
    near, everyone = jax.jit(lambda p: (neighbourhood(p, 2), neighbourhood(p, 9)))(both)
    assert np.asarray(near).astype(int).tolist() == [
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]],
        [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]],
    ]
    assert np.asarray(everyone).all()
    with pytest.raises(ConfigError, match="k=0"):
        neighbourhood(both, 0)


def test_linear_starts_from_kaiming_and_zero():
    x = jnp.zeros((2, 50))
    params = jax.jit(lambda: Linear(400).init(jax.random.key(0), x))()["params"]
    bound = np.sqrt(6 / 50)
    kernel = np.asarray(params["kernel"])
    assert 0.99 * bound < np.abs(kernel).max() <= bound and abs(kernel.mean()) < 0.01 * bound
    assert abs(kernel.std() - bound / np.sqrt(3)) < 0.01 * bound
    assert (np.asarray(params["bias"]) == 0).all()
    assert (
        "bias"
        not in jax.eval_shape(lambda: Linear(3, use_bias=False).init(jax.random.key(0), x))[
            "params"
        ]
    )


def test_local_graph_in_training():
    """LeakyReLU(BN(A F W)): statistics of all views of the batch, running ones with the unbiased
    variance, slope 0.2.
    """
    x = features()
    kernel = np.random.default_rng(2).normal(size=(WIDTH, 6)).astype(np.float32)
    scale, shift = np.linspace(0.5, 2, 6, dtype=np.float32), np.linspace(-1, 1, 6, dtype=np.float32)
    variables = {
        "params": {"linear": {"kernel": kernel}, "norm": {"scale": scale, "bias": shift}},
        "batch_stats": {"norm": {"mean": np.zeros(6, np.float32), "var": np.ones(6, np.float32)}},
    }
    given = jnp.asarray(x), jnp.asarray(MASKS)
    found, state = jax.jit(
        lambda v: LocalGraph(6).apply(v, *given, train=True, mutable=["batch_stats"])
    )(variables)
    mixed = np.stack(
        [literal_adjacency(x[i], MASKS[i]) @ x[i] @ kernel for i in range(BATCH)]
    ).reshape(-1, 6)
    normed = (mixed - mixed.mean(0)) / np.sqrt(mixed.var(0) + 1e-5) * scale + shift
    expected = np.where(normed > 0, normed, 0.2 * normed).reshape(BATCH, VIEWS, 6)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    statistics = state["batch_stats"]["norm"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * mixed.mean(0), atol=1e-5)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * mixed.var(0, ddof=1), atol=1e-5)


def test_global_attention_equals_the_loops():
    x = features()
    rng = np.random.default_rng(4)
    kernels = {
        n: rng.normal(size=(WIDTH, w)) for n, w in (("query", 2), ("key", 2), ("value", WIDTH))
    }
    params = {"params": {n: {"kernel": k.astype(np.float32)} for n, k in kernels.items()}}
    found = np.asarray(jax.jit(GlobalAttention().apply)(params, x))

    def literal(item, scale=2**0.5, residual=True, axis=1):
        item = item.astype(np.float64)
        scores = np.array(
            [[(a @ kernels["query"]) @ (b @ kernels["key"]) / scale for b in item] for a in item]
        )
        weights = np.exp(scores)
        weights /= weights.sum(axis, keepdims=True)
        return (item if residual else 0) + weights @ item @ kernels["value"]

    for item in range(BATCH):
        np.testing.assert_allclose(found[item], literal(x[item]), atol=1e-5)
        for wrong in ({"scale": np.sqrt(WIDTH)}, {"residual": False}, {"axis": 0}):
            assert np.abs(found[item] - literal(x[item], **wrong)).max() > 1e-2
    with pytest.raises(ConfigError, match="width 1"):
        jax.eval_shape(GlobalAttention().init, jax.random.key(0), jnp.zeros((2, 3, 1)))
