"""PointNeXt-S: size, a literal forward pass, gradients, original names, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.heads import ClassificationHead
from jax3dret.models.pointnext import PointNeXt
from jax3dret.weights import pointnext as weights

SMALL = {"width": 4, "strides": (2, 3), "radius": 0.4, "radius_scaling": 1.5, "nsample": 5}
MODEL = PointNeXt(**SMALL)


def cloud(seed=0, batch=3, count=40):
    x = np.random.default_rng(seed).normal(size=(batch, count, 3))
    return (x / np.linalg.norm(x, axis=-1).max(-1)[:, None, None]).astype(np.float32)


@functools.cache
def variables():
    """Random weights and statistics, so that no term vanishes."""
    fresh = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((2, 40, 3)))
    rng = np.random.default_rng(1)
    values = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32) * 0.5, fresh)
    values["batch_stats"] = jax.tree.map(lambda v: np.abs(v) + 0.3, values["batch_stats"])
    return values


@functools.cache
def apply(**options):
    model = PointNeXt(**{**SMALL, **options})
    return jax.jit(lambda v, p: model.apply(v, p))


def literal(state, points):
    """One cloud, evaluation, by loops over centres and members, in float64."""

    def layer(x, name, index):
        place = f"{name}.convs.{index}"
        x = state[f"{place}.0.weight"][:, :, 0, 0] @ x
        scale = state[f"{place}.1.weight"] / np.sqrt(state[f"{place}.1.running_var"] + 1e-5)
        return (x - state[f"{place}.1.running_mean"]) * scale + state[f"{place}.1.bias"]

    position = points.astype(np.float64)
    stem = state["encoder.0.0.convs.0.0.weight"][:, :, 0]
    values = position @ stem.T + state["encoder.0.0.convs.0.0.bias"]
    radius = SMALL["radius"]
    for i, stride in enumerate(SMALL["strides"], start=1):
        name = f"encoder.{i}.0"
        distance, picks = np.full(len(position), 1e10), [0]
        while len(picks) < len(position) // stride:
            distance = np.minimum(distance, ((position - position[picks[-1]]) ** 2).sum(-1))
            picks.append(int(np.argmax(distance)))
        out = []
        for pick in picks:
            near = ((position - position[pick]) ** 2).sum(-1) <= radius**2
            members = np.flatnonzero(near)[: SMALL["nsample"]]
            rows = []
            for member in members:
                offset = (position[member] - position[pick]) / radius
                x = np.maximum(layer(np.concatenate([offset, values[member]]), name, 0), 0)
                rows.append(layer(x, name, 1))  # no ReLU before the sum
            skip = state[f"{name}.skipconv.0.weight"][:, :, 0] @ values[pick]
            skip = skip + state[f"{name}.skipconv.0.bias"]
            out.append(np.maximum(np.max(rows, axis=0) + skip, 0))
        position, values = position[picks], np.array(out)
        radius *= SMALL["radius_scaling"]
    rows = []
    for p, v in zip(position, values, strict=True):  # absolute coordinates, in their own unit
        x = np.maximum(layer(np.concatenate([p, v]), "encoder.3.0", 0), 0)
        rows.append(np.maximum(layer(x, "encoder.3.0", 1), 0))
    return np.max(rows, axis=0)


def test_the_published_size():
    model, head = PointNeXt(), ClassificationHead(40, (512, 256), 0.5, hidden_bias=False)
    assert model.embedding_dim == 512
    made = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 64, 3)))
    top = jax.eval_shape(head.init, jax.random.key(0), jnp.zeros((2, 512)))

    def count(v):
        return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(v["params"]))

    assert count(made) == 968_480
    assert count(made) + count(top) == 1_373_512  # published as 1.374 M


def test_equals_the_literal_forward_pass():
    points = cloud()
    state = {k: v.astype(np.float64) for k, v in weights.to_torch(variables()).items()}
    expected = np.stack([literal(state, p) for p in points])
    got = apply()(variables(), points)
    assert got.shape == (3, MODEL.embedding_dim) == (3, 16) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)
    assert np.ptp(got, axis=0).max() > 1e-2  # the clouds are told apart
    # Its own neighbours in a batch do not change a cloud, and what is no number stays in its cloud.
    points[1, 5, 2] = np.nan
    got = apply()(variables(), points)
    assert jnp.isnan(got[1]).all()
    np.testing.assert_allclose(got[jnp.array([0, 2])], expected[[0, 2]], rtol=1e-5, atol=2e-5)
    assert jnp.isfinite(apply()(variables(), np.zeros_like(points))).all()  # coinciding points


def test_names_go_there_and_back():
    state = weights.to_torch(variables(), "encoder.")
    assert state["encoder.encoder.2.0.convs.0.0.weight"].shape == (8, 3 + 8, 1, 1)
    assert state["encoder.encoder.2.0.skipconv.0.weight"].shape == (16, 8, 1)
    state["encoder.encoder.1.0.convs.0.1.num_batches_tracked"] = np.array(5)
    state["prediction.head.0.0.weight"] = np.zeros((2, 2))
    assert weights.architecture(state, "encoder.") == {"width": 4, "strides": (2, 2), "layers": 2}
    back = weights.from_torch(state, "encoder.")
    jax.tree.map(np.testing.assert_array_equal, back, variables())
    with pytest.raises(DataError, match=r"encoder\.encoder\.1\.0\.skipconv\.0\.bias is missing"):
        weights.from_torch(
            {k: v for k, v in state.items() if "1.0.skipconv.0.bias" not in k}, "encoder."
        )
    head = ClassificationHead(3, (5,), hidden_bias=False)
    made = jax.tree.map(np.asarray, head.init(jax.random.key(0), jnp.zeros((2, 16))))
    state = weights.head_to_torch(made, "h.")
    assert set(state) == {
        *(f"h.0.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        *("h.0.0.weight", "h.2.0.weight", "h.2.0.bias"),
    }
    fields = {"hidden": (5,), "num_classes": 3, "hidden_bias": False}
    assert weights.head_architecture(state, "h.") == fields
    jax.tree.map(np.testing.assert_array_equal, weights.head_from_torch(state, "h."), made)
    with pytest.raises(DataError, match="no h"):
        weights.head_from_torch({}, "h.")


def test_a_training_step_reaches_every_weight_and_remat_changes_nothing():
    small = {**SMALL, "strides": (2,)}
    fresh = jax.eval_shape(PointNeXt(**small).init, jax.random.key(0), jnp.zeros((2, 40, 3)))
    rng = np.random.default_rng(1)
    start = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32) * 0.5, fresh)

    def gradients(params, remat):
        def loss(params):
            embedding, state = PointNeXt(**small, remat=remat).apply(
                {**start, "params": params}, cloud(), train=True, mutable=["batch_stats"]
            )
            return jnp.sum(jnp.sin(embedding * 3)), state

        return jax.grad(loss, has_aux=True)(params)

    # One program: the two share most of what has to be compiled.
    plain, remat = jax.jit(lambda p: (gradients(p, False), gradients(p, True)))(start["params"])
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max() + 1e-6)
    found, state = plain
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found))
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), state["batch_stats"], start["batch_stats"]
    )
    assert min(jax.tree.leaves(moved)) > 1e-3


@pytest.mark.parametrize(
    "options, shape, words",
    [
        ({}, (2, 5, 3), "5 points"),
        ({}, (2, 40, 6), r"\(2, 40, 6\)"),
        ({}, (40, 3), r"\(40, 3\)"),
        ({"strides": ()}, (2, 40, 3), "strides"),
        ({"radius": 0.0}, (2, 40, 3), "radius"),
    ],
)
def test_errors(unchecked, options, shape, words):
    with pytest.raises(ConfigError, match=words):
        jax.eval_shape(PointNeXt(**{**SMALL, **options}).init, jax.random.key(0), jnp.zeros(shape))
