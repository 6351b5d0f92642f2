"""View-GCN: size, a literal forward pass, what it must not be mistaken for, its options, its
errors, odd inputs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.view_choice import nearest_views
from jax3dret.models.viewgcn import LocalGCN, ViewGCN, ViewSelector, level_sizes
from jax3dret.weights import viewgcn as weights

VIEWS, WIDTH, CLASSES = 8, 6, 5
FIELDS = {"num_classes": CLASSES, "width": WIDTH, "k": 3, "dropout": 0.0, "fps_start_train": "zero"}


def inputs(seed=0, batch=4, views=VIEWS):
    """Features, and cameras without ties."""
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(views, 3))
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    return rng.normal(size=(batch, views, WIDTH)).astype(np.float32), vertices.astype(np.float32)


def randomised(model, views=VIEWS):
    """Random weights and statistics, so that no term vanishes and the selectors choose differently."""
    fresh = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((2, views, WIDTH)), jnp.zeros((views, 3))
    )
    rng = np.random.default_rng(1)
    values = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32) * 0.4, fresh)
    values["batch_stats"] = jax.tree.map(lambda v: np.abs(v) + 0.6, values["batch_stats"])
    for name in ("selector1", "selector2"):
        values["params"][name] = jax.tree.map(lambda v: 2 * v, values["params"][name])
    return values


@functools.cache
def variables():
    return randomised(ViewGCN(**FIELDS))


@functools.cache
def recorded(softmax):
    """A function of features and cameras: the outputs, and what the network records on the way."""
    model = ViewGCN(**FIELDS, softmax=softmax)
    return jax.jit(
        lambda f, p: model.apply(variables(), f, p, method="outputs", mutable=["intermediates"])
    )


def apply(features, vertices, softmax="classes"):
    return recorded(softmax)(features, vertices)[0]


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def literal(
    state, features, vertices, axis="classes", pool="local", order="near", own=True, length=True
):
    """One item, evaluation, by loops over views, in float64; the options are ways to get it wrong.

    order="index": candidates by index, not by distance (all of them reversed would be the same
    network). own=False: a view is not its own neighbour. pool="nonlocal": maxima of what the
    selectors read. length=False: squared distance in the edge network.
    """
    state = {name: value.astype(np.float64) for name, value in state.items()}

    def linear(x, name):
        return state[f"{name}.weight"] @ x + state[f"{name}.bias"]

    def norm(x, name):
        scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-5)
        return (x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]

    def neighbours(v, i, k):
        ranked = sorted(range(len(v)), key=lambda j: -1 if j == i else ((v[i] - v[j]) ** 2).sum())
        return ranked[:k] if own else ranked[1 : k + 1]

    def local(f, v, name):
        rows = []
        for i in range(len(v)):
            total = 0
            for j in neighbours(v, i, min(FIELDS["k"], len(v))):
                d = np.linalg.norm(v[i] - v[j])
                edge = np.concatenate([v[i], v[j], v[i] - v[j], [d if length else d * d]])
                for layer in (0, 2):
                    edge = leaky(linear(edge, f"{name}.KNN.R.{layer}"))
                total = total + linear(edge, f"{name}.KNN.R.4") * f[j]
            rows.append(leaky(norm(linear(total, f"{name}.conv.0"), f"{name}.conv.1")))
        return np.array(rows)

    def nonlocal_(f, name):
        rows = []
        for i in range(len(f)):
            total = 0
            for j in range(len(f)):
                message = np.concatenate([f[i], f[j]])
                for layer in (0, 2, 4):
                    message = leaky(linear(message, f"{name}.Relation.{layer}"))
                total = total + message
            rows.append(
                leaky(
                    norm(
                        linear(np.concatenate([f[i], total]), f"{name}.Fusion.0"),
                        f"{name}.Fusion.1",
                    )
                )
            )
        return np.array(rows)

    def select(f, v, count, name):
        picks, far = [0], np.full(len(v), 1e10)
        while len(picks) < count:
            far = np.minimum(far, ((v - v[picks[-1]]) ** 2).sum(-1))
            picks.append(int(np.argmax(far)))
        k = min(FIELDS["k"], len(v))
        near = [
            neighbours(v, i, k) if order == "near" else sorted(neighbours(v, i, k)) for i in picks
        ]
        score = np.zeros((count, k, CLASSES))
        for c in range(k):
            joint = np.concatenate([f[near[s][c]] for s in range(count)])
            out = linear(leaky(linear(joint, f"{name}.cls.0")), f"{name}.cls.2")
            score[:, c] = out.reshape(count, CLASSES)
        e = np.exp(score)
        share = e / e.sum({"classes": -1, "views": 0, "candidates": 1}[axis], keepdims=True)
        best = share.max(-1)
        # The first of those within 3e-6 of the largest: of views that look alike, rounding chooses
        # none.
        first = (best >= best.max(-1, keepdims=True) - 3e-6).argmax(-1)
        chosen = [near[s][first[s]] for s in range(count)]
        return f[chosen], v[chosen], score

    f, v = features.astype(np.float64), vertices.astype(np.float64)
    pooled, scores = [], []
    for level in (1, 2, 3):
        f = local(f, v, f"LocalGCN{level}")
        pooled.append(f.max(0))
        if level < 3:
            f = nonlocal_(f, f"NonLocalMP{level}")
            if pool == "nonlocal":
                pooled[-1] = f.max(0)
            f, v, score = select(f, v, VIEWS // 2**level, f"View_selector{level}")
            scores.append(score)
    descriptor = np.concatenate(pooled)
    x = linear(leaky(linear(descriptor, "cls.0")), "cls.2")
    return descriptor, linear(leaky(x), "cls.5"), scores


def test_the_published_size():
    model = ViewGCN(num_classes=40)
    assert model.embedding_dim == 1536
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((2, 20, 512)), jnp.zeros((20, 3))
    )["params"]
    count = {
        name: sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
        for name, tree in shapes.items()
    }
    assert sum(count.values()) == 22_682_165
    assert 14.0e6 < count["selector1"] < 14.2e6


@pytest.mark.parametrize("softmax", ["classes", "views"])
def test_equals_the_literal_forward_pass(softmax):
    features, vertices = inputs()
    state = weights.to_torch(variables())
    out = apply(features, vertices, softmax)
    assert out.descriptor.shape == (4, 3 * WIDTH) and out.descriptor.dtype == jnp.float32
    for i, item in enumerate(features):
        descriptor, logits, scores = literal(state, item, vertices, axis=softmax)
        np.testing.assert_allclose(out.descriptor[i], descriptor, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(out.logits[i], logits, rtol=1e-4, atol=1e-4)
        for mine, theirs in zip(out.scores, scores, strict=True):
            np.testing.assert_allclose(mine[i], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"axis": "views"},
        {"axis": "candidates"},
        {"order": "index"},
        {"own": False},
        {"pool": "nonlocal"},
        {"length": False},
    ],
    ids=str,
)
def test_the_likely_wrong_versions_give_something_else(wrong):
    features, vertices = inputs()
    state = weights.to_torch(variables())
    out = apply(features, vertices).descriptor
    others = [literal(state, item, vertices, **wrong)[0] for item in features]
    assert np.abs(np.asarray(out) - np.array(others)).max() > 1e-2


def test_indices_may_be_given():
    features, vertices = inputs()
    model = ViewGCN(**FIELDS)

    @jax.jit
    def run(fps, near, select):
        chosen = {"local1": near, "select2": select}
        given = map(jnp.asarray, (features, vertices))
        return model.apply(variables(), *given, fps_indices=fps, knn_indices=chosen)

    out, state = recorded("classes")(features, vertices)
    expected = out.descriptor
    inner = state["intermediates"]
    near = np.asarray(nearest_views(jnp.broadcast_to(vertices, (4, VIEWS, 3)), 3))
    fps, select = [inner[f"fps{i}"][0] for i in (1, 2)], inner["select2"][0]
    np.testing.assert_allclose(run(fps, near, select), expected, rtol=1e-5, atol=1e-5)
    for other in (
        run([fps[0][:, ::-1], fps[1]], near, select),
        run(fps, near[:, ::-1], select),
        run(fps, near, select.at[:, 0].set(select[:, 0, ::-1])),
    ):
        assert np.abs(np.asarray(other) - expected).max() > 1e-3
    with pytest.raises(ConfigError, match="knn_indices"):
        model.apply(variables(), features, vertices, knn_indices={"local4": near})


def test_cameras_may_differ_from_item_to_item():
    features, vertices = inputs()
    turned = np.roll(vertices, 1, axis=0)
    each = np.stack([vertices, turned, vertices, turned])
    both = np.asarray(apply(features, each).descriptor)
    for item, cameras in ((0, vertices), (1, turned)):
        alone = apply(features, cameras).descriptor
        np.testing.assert_allclose(both[item], alone[item], rtol=1e-4, atol=1e-5)


def test_level_sizes():
    assert [level_sizes(v) for v in (20, 12, 6, 3, 1)] == [(10, 5), (6, 3), (3, 1), (1, 1), (1, 1)]
    assert level_sizes(12, (6, 4)) == (6, 4)
    for sampled in [(4, 6), (13, 4), (6,), (6, 0)]:
        with pytest.raises(ConfigError, match="sampled"):
            level_sizes(12, sampled)


def test_a_single_view_will_do():
    model = ViewGCN(**{**FIELDS, "k": 4})
    features, vertices = inputs(views=1, batch=2)
    descriptor = jax.jit(model.apply)(randomised(model, 1), features, vertices)
    assert descriptor.shape == (2, 3 * WIDTH) and np.isfinite(descriptor).all()


@functools.cache
def step():
    """A function of features, cameras and seed: gradients of both, descriptor and statistics of a
    training pass.
    """
    model = ViewGCN(**{**FIELDS, "fps_start_train": "random"})

    @jax.jit
    def run(features, vertices, seed):
        def loss(features, vertices):
            out, state = model.apply(
                variables(),
                features,
                vertices,
                train=True,
                method="outputs",
                mutable=["batch_stats"],
                rngs={"fps": jax.random.key(seed), "dropout": jax.random.key(seed)},
            )
            return jnp.sum(jnp.cos(jnp.arange(out.logits.size)) * out.logits.reshape(-1)), (
                out.descriptor,
                state,
            )

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(features, vertices)

    return run


def test_identical_cameras_have_finite_gradients():
    features, vertices = inputs()
    same = np.broadcast_to(vertices[:1], vertices.shape).copy()
    grads, (descriptor, state) = step()(features, same, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((grads, descriptor, state)))
    grads, _ = step()(features, vertices, 0)
    assert np.abs(grads[1]).max() > 0  # cameras that are learned get a gradient


def test_randomness_comes_from_the_streams_alone():
    features, vertices = inputs()
    run = step()
    first, again, other = (np.asarray(run(features, vertices, seed)[1][0]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_what_is_not_finite_stays_in_its_item():
    features, vertices = inputs()
    bad = features.copy()
    bad[1, 3, 2] = np.nan
    good, spoilt = (np.asarray(apply(f, vertices).descriptor) for f in (features, bad))
    assert np.isnan(spoilt[1]).all()
    np.testing.assert_array_equal(np.delete(spoilt, 1, 0), np.delete(good, 1, 0))
    nowhere = np.broadcast_to(vertices, (4, VIEWS, 3)).copy()
    nowhere[2, 0] = np.inf
    assert np.isnan(apply(features, nowhere).descriptor[2]).all()


def test_the_selector_has_as_many_classes_as_it_is_told():
    features, vertices = inputs(batch=2)
    model = ViewGCN(**{**FIELDS, "selector_classes": 40})
    out, _ = jax.eval_shape(
        lambda *args: model.init_with_output(*args, method="outputs"),
        jax.random.key(0),
        features,
        vertices,
    )
    assert out.logits.shape == (2, CLASSES) and [s.shape for s in out.scores] == [
        (2, 4, 3, 40),
        (2, 2, 3, 40),
    ]


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"softmax": "candidates"}, (VIEWS, 3), "softmax"),
        ({"dropout": 1.0}, (VIEWS, 3), "dropout"),
        ({"k": 0}, (VIEWS, 3), "too small"),
        ({"fps_start_eval": "first"}, (VIEWS, 3), "'zero' or 'random'"),
        ({}, (VIEWS + 1, 3), r"\[V, 3\] or \[B, V, 3\]"),
    ],
)
def test_errors(unchecked, fields, shape, message):
    model = ViewGCN(**{**FIELDS, **fields})
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(
            model.init, jax.random.key(0), jnp.zeros((2, VIEWS, WIDTH)), jnp.zeros(shape)
        )


def test_modules_alone():
    """As a larger network would use them: the local convolution changes the width, the selector
    keeps views as they are.
    """
    features, vertices = inputs(batch=2)
    cameras = jnp.broadcast_to(vertices, (2, VIEWS, 3))
    near = nearest_views(cameras, 3)
    local, _ = jax.eval_shape(
        LocalGCN(9).init_with_output, jax.random.key(0), features, cameras, near
    )
    assert local.shape == (2, VIEWS, 9)
    selector, state = ViewSelector(CLASSES), variables()["params"]["selector1"]
    kept, scores, where = map(
        np.asarray, jax.jit(selector.apply)({"params": state}, features, cameras, near[:, :4])
    )
    assert scores.shape == (2, 4, 3, CLASSES)
    near = np.asarray(near)
    for item in range(2):
        for slot in range(4):
            rows = np.flatnonzero((features[item] == kept[item, slot]).all(-1))
            assert len(rows) == 1 and rows[0] in near[item, slot]
            np.testing.assert_array_equal(where[item, slot], vertices[rows[0]])
