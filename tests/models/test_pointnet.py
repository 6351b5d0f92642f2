"""PointNet against a literal reference under the published names, and what makes it a network of
sets.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.pointnet import PointNet
from jax3dret.weights.mvtn import pointnet_entries, pointnet_from_torch

WIDTHS, FC, CLASSES = (4, 5, 6), (7, 5), 3


@pytest.fixture(scope="module")
def state_dict():
    rng = np.random.default_rng(0)
    table = pointnet_entries(WIDTHS, FC, CLASSES)
    return {
        entry.name: (
            rng.uniform(0.5, 1.5, entry.shape)
            if "running_var" in entry.name
            else rng.normal(size=entry.shape)
        ).astype(np.float32)
        for entry in table
    }


@pytest.fixture(scope="module")
def clouds():
    return np.random.default_rng(1).normal(size=(3, 9, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def forward(state_dict):
    model = PointNet(CLASSES, WIDTHS, FC, published_logits=True)
    variables = pointnet_from_torch(state_dict)
    return jax.jit(lambda points: model.apply(variables, points))


def literal(weights, cloud):
    """One cloud through the network, point by point, float64, by the names of the published
    modules.
    """

    def linear(name, x):
        weight = weights[f"{name}.weight"].astype(np.float64)
        return weight.reshape(weight.shape[:2]) @ x + weights[f"{name}.bias"]

    def norm(name, x):
        w = {
            key: weights[f"{name}.{key}"]
            for key in ("weight", "bias", "running_mean", "running_var")
        }
        return np.maximum(
            (x - w["running_mean"]) / np.sqrt(w["running_var"] + 1e-5) * w["weight"] + w["bias"], 0
        )

    def matrix(name, points):
        found = []
        for x in points:
            for i in range(3):
                x = linear(f"{name}.convs.{i}.0", x)
                x = norm(f"{name}.convs.{i}.1", x) if i < 2 else x
            found.append(x)
        x = np.max(found, 0)
        for i in range(3):
            x = linear(f"{name}.fcs.{i}.0", x)
            x = norm(f"{name}.fcs.{i}.1", x) if i < 2 else x
        k = len(points[0])
        return x.reshape(k, k) + np.eye(k)

    turned = [matrix("input_transform", cloud) @ point for point in cloud.astype(np.float64)]
    first = [norm("conv1.1", linear("conv1.0", point)) for point in turned]
    straight = matrix("feature_transform", first)
    last = []
    for x in first:
        x = norm("conv2s.1", linear("conv2s.0", straight @ x))
        last.append(norm("conv2s.4", linear("conv2s.3", x)))
    x = feature = np.max(last, 0)
    for i in range(3):
        x = norm(f"classifier.{4 * i + 1}", linear(f"classifier.{4 * i}", x))
    return x, feature


def test_it_is_the_published_network(state_dict, clouds, forward):
    logits, feature = forward(clouds)
    for index, cloud in enumerate(clouds):
        expected = literal(state_dict, cloud)
        scale = max(1.0, np.abs(expected[1]).max(), np.abs(expected[0]).max())
        np.testing.assert_allclose(feature[index], expected[1], rtol=0, atol=1e-5 * scale)
        np.testing.assert_allclose(logits[index], expected[0], rtol=0, atol=1e-5 * scale)


def test_order_and_repetition_of_points_do_not_matter(clouds, forward):
    shuffled = np.random.default_rng(2).permutation(clouds, axis=1)
    shuffled[:, 0] = shuffled[:, 1]
    doubled = clouds.copy()
    doubled[:, 0] = clouds[:, 1]
    doubled_back = np.random.default_rng(3).permutation(doubled, axis=1)
    np.testing.assert_allclose(
        forward(doubled).logits, forward(doubled_back).logits, atol=1e-3, rtol=1e-5
    )


def test_a_cloud_that_is_not_finite_is_marked_alone(clouds, forward):
    broken = clouds.copy()
    broken[1, 2, 0] = np.inf
    found, clean = forward(broken), forward(clouds)
    assert np.isnan(found.logits[1]).all() and np.isnan(found.feature[1]).all()
    np.testing.assert_array_equal(found.logits[::2], clean.logits[::2])


def test_default_size_and_shapes():
    variables = jax.eval_shape(PointNet().init, jax.random.key(0), jnp.zeros((2, 5, 3)))
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    # Of the plain network 811,752 (3-64-128-1024, 512-256-40, with norms); of the T-nets 803,081
    # and 1,862,080 or so each.
    shapes = [
        entry.shape
        for entry in pointnet_entries((64, 128, 1024), (512, 256), 40)
        if "running" not in entry.name
    ]
    assert (
        count == sum(np.prod(shape) for shape in shapes) - 2 * 40
    )  # the published one has a BatchNorm more
    out = jax.eval_shape(PointNet().apply, variables, jnp.zeros((2, 5, 3)))
    assert out.logits.shape == (2, 40) and out.feature.shape == (2, 1024)
    plain = jax.eval_shape(PointNet(align=False).init, jax.random.key(0), jnp.zeros((2, 5, 3)))
    assert not {"input_transform", "feature_transform"} & set(plain["params"])


@pytest.mark.parametrize(
    ("model", "shape", "train", "message"),
    [
        (PointNet(), (2, 5, 4), False, r"points of shape \(2, 5, 4\)"),
        (PointNet(), (2, 0, 3), False, r"points of shape \(2, 0, 3\)"),
        (PointNet(widths=()), (2, 5, 3), False, r"widths=\(\)"),
        (PointNet(dropout=1.0), (2, 5, 3), False, "dropout is 1.0"),
        (PointNet(), (1, 5, 3), True, "single row"),
    ],
)
def test_what_does_not_fit_is_refused(unchecked, model, shape, train, message):
    def run():
        variables = jax.jit(PointNet(dropout=0.0).init)(jax.random.key(0), jnp.zeros((2, 5, 3)))
        return model.apply(
            variables,
            jnp.zeros(shape),
            train,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats"],
        )

    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(run)


def test_weights_that_do_not_fit_are_refused(state_dict):
    without = {name: value for name, value in state_dict.items() if name != "conv2s.4.running_mean"}
    with pytest.raises(DataError, match=r"conv2s.4.running_mean is missing; extra has no place"):
        pointnet_from_torch({**without, "extra": np.zeros(1)})
