"""MV-HGNN: size, a literal forward pass, its likely mistakes, every switch, odd inputs, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.models.mvhgnn import MVHGNN
from jax3dret.models.view_selector import content_keys, random_views
from jax3dret.models.viewgcn import LocalGCN, NonLocalMP

BATCH, VIEWS, WIDTH = 4, 8, 6
SIZES = {"out_dim": 5, "selector_hidden": 4, "head_hidden": 7}
# Most of the time goes into compiling what then runs once, so it is compiled as fast as can be.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def inputs(seed=0, views=VIEWS):
    """Features, and cameras without ties."""
    rng = np.random.default_rng(seed)
    positions = rng.normal(size=(views, 3))
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    return rng.normal(size=(BATCH, views, WIDTH)).astype(np.float32), positions.astype(np.float32)


def randomised(model, features, positions):
    """Random weights and statistics; the selectors' larger, so that the prototypes lie apart."""
    fresh = jax.eval_shape(model.init, jax.random.key(0), features, positions)
    rng = np.random.default_rng(1)
    values = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32) * 0.5, fresh)
    if "batch_stats" in values:
        values["batch_stats"] = jax.tree.map(lambda v: np.abs(v) + 0.6, values["batch_stats"])
    for name in values["params"]:
        if name.startswith("selector"):
            values["params"][name] = jax.tree.map(lambda v: 3 * v, values["params"][name])
    return values


@functools.cache
def built(**fields):
    """Variables, and the compiled outputs in evaluation."""
    model = MVHGNN(**{**SIZES, **fields})
    variables = randomised(model, *inputs())
    return variables, compiled(functools.partial(model.apply, method="outputs"))


def outputs(features, positions, **fields):
    variables, run = built(**fields)
    return run(variables, features, positions)


def leaky(x, slope=0.2):
    return np.where(x > 0, x, slope * x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def literal(
    variables,
    features,
    positions,
    *,
    k=3,
    levels=3,
    local="feature",
    loop="member",
    attention=True,
    selector="prototypes",
    pool="global",
    last_global=True,
    slope=0.2,
    sphere=False,
    chosen=(),
):
    """One item in evaluation by loops over views, in float64.

    chosen: assignments where the selector is not the prototypes'. sphere=True: positions back on
    the sphere, a mistake.
    """
    params, stats = (
        jax.tree.map(lambda v: np.asarray(v, np.float64), variables.get(n))
        for n in ("params", "batch_stats")
    )
    x, p = np.asarray(features, np.float64), np.asarray(positions, np.float64)
    pooled, assignments = [], []
    for level in range(1, levels + 1):
        count = len(x)
        if local == "feature":
            layer, running = params[f"local{level}"], stats[f"local{level}"]["norm"]
            rows = []
            for i in range(count):
                near = sorted(
                    range(count), key=lambda j: ((p[i] - p[j]) ** 2).sum() if j != i else -1
                )[:k]
                near = near if loop == "member" else near[1:]
                weight = softmax(np.array([x[i] @ x[j] / np.sqrt(WIDTH) for j in near]))
                y = sum(w * x[j] for w, j in zip(weight, near, strict=True))
                y = (y if loop == "member" else (y + x[i]) / 2) @ layer["linear"]["kernel"]
                y = (y - running["mean"]) / np.sqrt(running["var"] + 1e-5)
                rows.append(leaky(y * layer["norm"]["scale"] + layer["norm"]["bias"], slope))
            x = np.array(rows)
        convolved = x
        last = level == levels
        if attention and (not last or (last_global and pool == "global")):
            layer = params[f"global{level}"]
            q, key, v = (
                np.array([f @ layer[n]["kernel"] for f in x]) for n in ("query", "key", "value")
            )
            x = x + np.array(
                [softmax(np.array([a @ b for b in key]) / np.sqrt(WIDTH // 2)) @ v for a in q]
            )
        pooled.append((x if pool == "global" else convolved).max(0))
        if last or selector == "none":
            continue
        if selector == "prototypes":
            layer = params[f"selector{level}"]
            scores = [
                leaky(f @ layer["hidden"]["kernel"] + layer["hidden"]["bias"], slope)
                @ layer["score"]["kernel"]
                + layer["score"]["bias"]
                for f in x
            ]
            weight = softmax(np.array(scores).T)
        else:
            weight = np.asarray(chosen[level - 1], np.float64)
        x, p = weight @ x, weight @ p
        if sphere:
            p = p / np.linalg.norm(p, axis=1, keepdims=True)
        assignments.append(weight)
    y = np.concatenate(pooled) @ params["head0"]["kernel"] + params["head0"]["bias"]
    return leaky(y, slope) @ params["head1"]["kernel"] + params["head1"]["bias"], assignments


def test_the_size_of_the_paper():
    model = MVHGNN()
    assert model.embedding_dim == 512
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((2, 12, 512)), jnp.zeros((12, 3))
    )["params"]
    count = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()
    }
    expected = {"head0": 786_944, "head1": 262_656}
    for level in (1, 2, 3):
        expected |= {f"local{level}": 262_144 + 1_024, f"global{level}": 524_288}
    for level, kept in ((1, 6), (2, 3)):
        expected[f"selector{level}"] = 131_328 + 256 * kept + kept
    assert count == expected


def test_equals_the_literal_forward_pass():
    features, positions = inputs()
    variables, _ = built()
    found = outputs(features, positions)
    assert found.descriptor.shape == (BATCH, 5) and found.descriptor.dtype == jnp.float32
    assert [a.shape for a in found.assignments] == [
        (BATCH, 4, VIEWS),
        (BATCH, 2, 4),
    ] and found.selector_scores == ()
    for item in range(BATCH):
        descriptor, assignments = literal(variables, features[item], positions)
        np.testing.assert_allclose(found.descriptor[item], descriptor, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.view_scores[item], assignments[0].max(0), atol=1e-5)
        for mine, theirs in zip(found.assignments, assignments, strict=True):
            np.testing.assert_allclose(mine[item], theirs, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"k": 4}, {"pool": "local"}, {"slope": 0.01}, {"last_global": False}, {"sphere": True}],
    ids=str,
)
def test_the_likely_wrong_versions_give_something_else(wrong):
    features, positions = inputs()
    found = np.asarray(outputs(features, positions).descriptor)
    others = [literal(built()[0], item, positions, **wrong)[0] for item in features]
    assert np.abs(found - np.array(others)).max() > 1e-2


# Fields of the network -> what the literal pass is told.
SWITCHES = [
    ({"local_graph": "none", "levels_used": 2}, {"local": "none", "levels": 2}),
    ({"global_attention": "none", "selector": "none"}, {"attention": False, "selector": "none"}),
    (
        {"levels_used": 1, "pool_from": "local", "k": 4, "self_loop": "add_identity"},
        {"levels": 1, "pool": "local", "k": 4, "loop": "add_identity"},
    ),
    ({"levels_used": 2, "last_level_global": False}, {"levels": 2, "last_global": False}),
]


@pytest.mark.parametrize(("fields", "told"), SWITCHES, ids=str)
def test_each_switch_equals_the_literal_pass(fields, told):
    features, positions = inputs()
    found = outputs(features, positions, **fields)
    for item in range(BATCH):
        expected, assignments = literal(built(**fields)[0], features[item], positions, **told)
        np.testing.assert_allclose(found.descriptor[item], expected, rtol=1e-4, atol=1e-4)
        assert len(found.assignments) == len(assignments)
    if not found.assignments:
        np.testing.assert_array_equal(found.view_scores, np.float32(1 / VIEWS))


def test_random_order_and_random_selector():
    """Features move between the cameras, and half of the views stay; in evaluation both come from
    the item itself.
    """
    features, positions = inputs()
    variables, run = built(selector="random", view_order="random", levels_used=2)
    assert "selector1" not in variables["params"]
    found = run(variables, features, positions)
    (assignment,) = map(np.asarray, found.assignments)
    assert assignment.shape == (BATCH, 4, VIEWS)
    assert (
        (assignment.sum(-1) == 1).all()
        and (assignment.max(-1) == 1).all()
        and (assignment.sum(1) <= 1).all()
    )
    assert len(np.unique(assignment.sum(1), axis=0)) > 1
    # The scores are those of the views as they were given.
    np.testing.assert_array_equal(found.view_scores, assignment.sum(1))
    order = np.asarray(random_views(content_keys(jnp.asarray(features), 0), VIEWS, VIEWS))
    for item in range(BATCH):
        told = {"levels": 2, "selector": "random", "chosen": [assignment[item][:, order[item]]]}
        descriptor, _ = literal(variables, features[item][order[item]], positions, **told)
        np.testing.assert_allclose(found.descriptor[item], descriptor, rtol=1e-4, atol=1e-4)
        told["chosen"] = [assignment[item]]
        unmoved, _ = literal(variables, features[item], positions, **told)
        assert np.abs(descriptor - unmoved).max() > 1e-2
    turned = run(variables, features[::-1], positions)
    np.testing.assert_allclose(turned.descriptor[::-1], found.descriptor, rtol=1e-5, atol=1e-5)


def test_farthest_cameras():
    features, positions = inputs()
    variables, run = built(selector="fps", levels_used=2)
    found = run(variables, features, positions)
    picks, far = [0], np.full(VIEWS, np.inf)
    while len(picks) < 4:
        far = np.minimum(far, ((positions - positions[picks[-1]]) ** 2).sum(-1))
        picks.append(int(np.argmax(far)))
    chosen = np.eye(VIEWS)[picks]
    for item in range(BATCH):
        np.testing.assert_array_equal(found.assignments[0][item], chosen)
        expected, _ = literal(
            variables, features[item], positions, levels=2, selector="fps", chosen=[chosen]
        )
        np.testing.assert_allclose(found.descriptor[item], expected, rtol=1e-4, atol=1e-4)
    # A view that is not finite shows, although it is not among the chosen ones.
    bad = features.copy()
    bad[0, int(np.argmin(chosen.sum(0))), 0] = np.nan
    assert np.isnan(run(variables, bad, positions).descriptor[0]).all()


def test_the_parts_of_view_gcn():
    features, positions = inputs()
    parts = ("local_graph", "global_attention", "selector")
    fields = {**dict.fromkeys(parts, "viewgcn"), "selector_classes": 5, "levels_used": 2}
    variables, run = built(**fields)
    found = run(variables, features, positions)
    assert [s.shape for s in found.selector_scores] == [(BATCH, 4, 3, 5)]
    # Its own modules on our own choice of views give our own maxima.
    params, stats = variables["params"], variables["batch_stats"]
    x, p = features, np.broadcast_to(positions, (BATCH, VIEWS, 3))
    pooled = []
    for level in (1, 2):
        square = ((p[:, :, None] - p[:, None]) ** 2).sum(-1) - np.eye(p.shape[1])
        near = np.argsort(square, axis=-1, kind="stable")[..., :3]
        part = {
            n: {"params": params[f"{n}{level}"], "batch_stats": stats[f"{n}{level}"]}
            for n in ("local", "global")
        }
        x = compiled(LocalGCN(WIDTH).apply)(part["local"], x, p, near)
        x = np.asarray(compiled(NonLocalMP().apply)(part["global"], x))
        pooled.append(x.max(1))
        if level < 2:
            x, p = (np.asarray(found.assignments[level - 1]) @ v for v in (x, p))
    y = leaky(np.concatenate(pooled, -1) @ params["head0"]["kernel"] + params["head0"]["bias"])
    expected = y @ params["head1"]["kernel"] + params["head1"]["bias"]
    np.testing.assert_allclose(found.descriptor, expected, rtol=1e-4, atol=1e-4)


def test_pooling_baselines_have_the_same_head_and_no_graph():
    features, positions = inputs()
    for aggregator in ("mean", "attention", "vit"):
        model = MVHGNN(**SIZES, aggregator=aggregator, width=8)
        variables = jax.eval_shape(model.init, jax.random.key(0), features, positions)
        own = set() if aggregator == "mean" else {aggregator}
        assert (
            set(variables["params"]) == {"project", "head0", "head1", *own}
            and "batch_stats" not in variables
        )
        out = jax.eval_shape(
            functools.partial(model.apply, method="outputs"), variables, features, positions
        )
        assert (
            out.descriptor.shape == (BATCH, 5)
            and out.view_scores.shape == (BATCH, VIEWS)
            and not out.assignments
        )
    variables, run = built(aggregator="mean", width=8)
    found = run(variables, features, positions)
    x = jax.tree.map(np.asarray, variables["params"])
    y = (features @ x["project"]["kernel"] + x["project"]["bias"]).mean(1)
    y = (
        leaky(y @ x["head0"]["kernel"] + x["head0"]["bias"]) @ x["head1"]["kernel"]
        + x["head1"]["bias"]
    )
    np.testing.assert_allclose(found.descriptor, y, atol=1e-4)
    np.testing.assert_array_equal(found.view_scores, np.float32(1 / VIEWS))
    variables, run = built(aggregator="attention")
    found = run(variables, features, positions)
    assert np.asarray(found.view_scores).std(1).min() > 1e-3
    np.testing.assert_allclose(np.asarray(found.view_scores).sum(1), 1, atol=1e-6)


def test_the_order_of_the_views_does_not_matter():
    features, positions = inputs()
    order = np.random.default_rng(2).permutation(VIEWS)
    plain, turned = outputs(features, positions), outputs(features[:, order], positions[order])
    np.testing.assert_allclose(turned.descriptor, plain.descriptor, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        turned.view_scores, np.asarray(plain.view_scores)[:, order], atol=1e-5
    )
    moved = outputs(features[:, order], positions).descriptor
    assert np.abs(np.asarray(moved) - plain.descriptor).max() > 1e-2


def test_cameras_may_differ_from_item_to_item():
    features, positions = inputs()
    each = np.stack([positions, np.roll(positions, 1, axis=0)] * 2)
    both = np.asarray(outputs(features, each).descriptor)
    for item in range(BATCH):
        np.testing.assert_allclose(
            both[item], literal(built()[0], features[item], each[item])[0], rtol=1e-4, atol=1e-4
        )


def test_what_is_not_finite_stays_in_its_item_and_shows():
    features, positions = inputs()
    bad = features.copy()
    bad[1, 3, 2], bad[2, 0, 0] = np.nan, np.inf
    good, spoilt = (np.asarray(outputs(f, positions).descriptor) for f in (features, bad))
    assert np.isnan(spoilt[1:3]).all()
    np.testing.assert_array_equal(spoilt[[0, 3]], good[[0, 3]])
    each = np.broadcast_to(positions, (BATCH, VIEWS, 3)).copy()
    each[3, 5] = np.nan
    nowhere = np.asarray(outputs(features, each).descriptor)
    assert np.isnan(nowhere[3]).all() and np.isfinite(nowhere[:3]).all()


def test_bfloat16_features_are_taken_as_float32():
    features, positions = inputs()
    rounded = jnp.asarray(features, jnp.bfloat16)
    mean = {"aggregator": "mean", "width": 8}
    found = outputs(rounded, positions, **mean).descriptor
    assert found.dtype == jnp.float32
    exact = outputs(np.asarray(rounded, np.float32), positions, **mean).descriptor
    np.testing.assert_allclose(found, exact, atol=1e-6)
    model, whole = MVHGNN(**SIZES), built()[0]
    lowered = jax.eval_shape(
        functools.partial(model.apply, mutable=["intermediates"]), whole, rounded, positions
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(lowered)} == {jnp.dtype("float32")}


def test_few_views_will_do():
    features, positions = inputs(views=1)
    model = MVHGNN(**SIZES)
    variables = randomised(model, features, positions)
    found = compiled(functools.partial(model.apply, method="outputs"))(
        variables, features, positions
    )
    for item in range(BATCH):
        expected, _ = literal(variables, features[item], positions)
        np.testing.assert_allclose(found.descriptor[item], expected, rtol=1e-4, atol=1e-4)
    for views, counts in ((3, (1, 1)), (20, (10, 5))):
        found, _ = jax.eval_shape(
            functools.partial(model.init_with_output, method="outputs"),
            jax.random.key(0),
            *inputs(views=views),
        )
        assert tuple(a.shape[1] for a in found.assignments) == counts


def test_levels_of_other_sizes():
    features, positions = inputs()
    for selector in ("prototypes", "random", "fps"):
        model = MVHGNN(**SIZES, nodes=(7, 3), selector=selector)
        init = functools.partial(model.init_with_output, method="outputs")
        found, _ = jax.eval_shape(init, jax.random.key(0), features, positions)
        assert [a.shape for a in found.assignments] == [(BATCH, 7, VIEWS), (BATCH, 3, 7)]


@pytest.fixture(scope="module")
def training():
    """A function of features and seed: descriptor and statistics of a pass in which all draws:
    order, selector, dropout.
    """
    model = MVHGNN(**SIZES, view_order="random", selector="random", levels_used=2)
    features, positions = inputs()
    variables = randomised(model, features, positions)

    @compiled
    def run(features, seed):
        keys = {"selector": jax.random.key(seed), "dropout": jax.random.key(seed)}
        return model.apply(
            variables, features, positions, train=True, rngs=keys, mutable=["batch_stats"]
        )

    return run, variables, features


def test_training_draws_from_the_streams_alone(training):
    run, variables, features = training
    (first, state), (again, _), (other, _) = (run(features, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.asarray(first) - other).max() > 1e-3
    before = {"batch_stats": variables["batch_stats"]}
    for new, old in zip(*map(jax.tree.leaves, (state, before)), strict=True):
        assert (np.asarray(new) != old).any() and np.isfinite(new).all()


def test_a_nan_in_training_is_not_hidden(training):
    run, _, features = training
    bad = features.copy()
    bad[0, 0, 0] = np.nan
    descriptor, state = run(bad, 0)
    assert (
        np.isnan(descriptor[0]).all()
        and np.isnan(state["batch_stats"]["local1"]["norm"]["mean"]).any()
    )


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ({"local_graph": "gcn"}, (), r"local_graph='gcn'; expected one of feature, none, viewgcn"),
        ({"selector": "hard"}, (), "selector='hard'"),
        ({"levels_used": 4}, (), "levels_used=4; expected one of 1, 2, 3"),
        ({"selector": "viewgcn"}, (), "set selector_classes"),
        (
            {"nodes": (9, 3)},
            (),
            r"nodes=\(9, 3\) of 8 views; expected two numbers, none larger than the one before",
        ),
        ({"nodes": (4,)}, (), r"nodes=\(4,\) of 8 views; expected two numbers"),
        ({"k": 0}, (), "k=0; expected 1 or more"),
        ({"dropout": 1.0}, (), "dropout"),
        (
            {},
            ((2, 6, WIDTH), (12, 3)),
            r"features of 6 views \(2, 6, 6\), but 12 camera positions \(12, 3\)",
        ),
        ({}, ((2, 8, WIDTH), (3, 8, 3)), r"expected \[8, 3\] or \[2, 8, 3\]"),
        ({}, ((2, 8, WIDTH), (8, 2)), r"expected \[8, 3\] or \[2, 8, 3\]"),
        ({}, ((8, WIDTH), (8, 3)), r"expected \[B, V, D\]"),
        ({}, ((2, 0, WIDTH), (0, 3)), r"expected \[B, V, D\]"),
    ],
)
def test_errors(unchecked, fields, shapes, message):
    features, positions = map(jnp.zeros, shapes or ((2, VIEWS, WIDTH), (VIEWS, 3)))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(MVHGNN(**{**SIZES, **fields}).init, jax.random.key(0), features, positions)


def test_weights_of_another_number_of_views():
    features, positions = inputs(views=4)
    variables, _ = built()
    with pytest.raises(
        ConfigError, match=r"another number of views than 4: selector1/score/kernel has length 4"
    ):
        jax.eval_shape(MVHGNN(**SIZES).apply, variables, features, positions)
    classes = {"selector": "viewgcn", "selector_classes": 5}
    model = MVHGNN(**SIZES, **classes)
    other = jax.eval_shape(model.init, jax.random.key(0), *inputs())
    with pytest.raises(ConfigError, match="another number of views than 4"):
        jax.eval_shape(model.apply, other, features, positions)


def test_one_row_cannot_be_trained_on():
    features, positions = inputs(views=1)
    model = MVHGNN(**SIZES)
    variables = jax.eval_shape(model.init, jax.random.key(0), features, positions)
    with pytest.raises(ConfigError, match="single row"):
        jax.eval_shape(
            functools.partial(model.apply, train=True, mutable=["batch_stats"]),
            variables,
            features[:1],
            positions,
        )
