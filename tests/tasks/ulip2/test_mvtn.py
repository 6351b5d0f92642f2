"""MVTN as a task: the gradient moves the learned cameras and no others, what a step changes, what
is refused.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import FakeSource

from jax3dret.core import config as configs
from jax3dret.core import train
from jax3dret.core.types import ConfigError, DataError, TrainState
from jax3dret.geometry import cameras
from jax3dret.inputs.mesh import SampledMesh
from jax3dret.models.mvtn import Views
from jax3dret.ops import soft_meshes, soft_points
from jax3dret.tasks.ulip2 import mvtn, mvtn_network

BATCH, VIEWS, CLASSES, POINTS = 4, 3, 4, 24
FIXED_RULES = ((".*", {}),)
FROZEN_RULES = (("mvtn/.*", {"freeze": True}), (".*", {}))
FACES = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]], np.int32)


def open_source(split, name=None):
    """As much of a data set as a recipe looks at before it runs: no records."""
    return FakeSource(name="parts", split=split, items=8, features=("vertices", "faces"))


def config(views="learned_circular", **changes):
    values = mvtn.defaults()
    values.data.name = "parts"
    values.data.num_points = POINTS
    values.mvtn.update(
        {
            "views": views,
            "num_views": VIEWS,
            "distance": 1.0,
            "features": 4,
            "widths": (4, 8),
            "fc": (4,),
            "dropout": 0.0,
        }
    )
    values.cnn.update({"stage_sizes": (1,), "width": 4})
    values.model.update({"width": 4, "k": 2})
    values.render.update({"size": 12, "radius": 0.2, "slices": 3, "num_faces": 64})
    values.train.batch_size = BATCH
    values.train.steps = 2
    values.optim.schedule = {"name": "jax3dret.core.schedules:constant"}
    if changes.get("network") == "view_gcn":
        values.loss = {"name": "jax3dret.losses.views:view_gcn"}
    for key, value in changes.items():
        section = values
        *parents, leaf = key.split("__")
        for parent in parents:
            section = section[parent]
        section[leaf] = value
    return configs.Config(values.to_dict())


def recipe(*args, **changes):
    return mvtn.make(config(*args, **changes), open_source)


def batch(made, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {"label": np.arange(BATCH) % CLASSES, "mask": np.ones(BATCH, bool)}
    arrays["points"] = (0.5 * rng.normal(size=(BATCH, POINTS, 3))).astype(np.float32)
    if "faces" in made.example:
        arrays["vertices"] = (0.5 * rng.normal(size=(BATCH, 192, 3))).astype(np.float32)
        arrays["faces"] = np.zeros((BATCH, 64, 3), np.int32)
        arrays["faces"][:, :4] = FACES
        arrays["face_mask"] = np.broadcast_to(np.arange(64) < 4, (BATCH, 64))
    for key, leaf in made.example.items():
        assert arrays[key].shape == leaf.shape, key
    return arrays


def start(made, seed=0):
    """Random parameters and statistics in the shapes of the task's own; cheaper than to compile
    `init`.
    """
    params, state = jax.eval_shape(made.task.init, jax.random.key(0), dict(made.example))
    rng = np.random.default_rng(seed)
    fill = functools.partial(
        jax.tree.map, lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32)
    )
    return fill(params), jax.tree.map(np.abs, fill(state))


def compute(function, *arguments):
    """The function's value; compiled with little optimization, because it runs once on next to
    nothing.
    """
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, compiler_options=options)(*arguments)


def largest(tree):
    return max((float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree)), default=0.0)


def test_a_step_moves_the_cameras_and_the_rest_at_their_own_rates():
    made = recipe(optim__weight_decay=0.0)
    params, state = start(made)
    before = TrainState(jnp.int32(0), params, state, made.tx.init(params))
    after, metrics = compute(train.make_step(made, 0), before, batch(made))
    assert {"accuracy", "azimuth_moved", "elevation_moved", "loss", "grad_norm"} == set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    assert 0 < metrics["azimuth_moved"] <= 180 / VIEWS
    moved = jax.tree.map(lambda a, b: a - b, after.params, params)
    for part, rate in (("mvtn", 1e-4), ("cnn", 1e-3), ("head", 1e-3)):
        # Adam's first step is its rate, wherever there is a gradient.
        np.testing.assert_allclose(largest(moved[part]), rate, rtol=1e-2, err_msg=part)
    # Down to the first layer that sees the cloud.
    assert largest(moved["mvtn"]["pointnet"]["conv0"]["kernel"]) > 1e-6
    assert largest(moved["mvtn"]["view_selector"]["linear4"]["bias"]) > 1e-6
    changed = jax.tree.map(lambda a, b: a - b, after.model_state, state)
    assert largest(changed["mvtn"]) > 0 and largest(changed["cnn"]) > 0


def test_fixed_cameras_have_no_parameters_and_frozen_ones_no_gradient():
    made = recipe("circular", optim__rules=FIXED_RULES)
    assert set(start(made)[0]) == {"cnn", "head"}
    made = recipe("learned_circular", optim__rules=FROZEN_RULES)
    params, state = start(made)

    def slope(
        cameras,
    ):  # all else is out of the compiled program, because nothing of it is asked for
        loss = jax.grad(
            lambda mvtn: made.task.loss(
                {**params, "mvtn": mvtn}, state, batch(made), jax.random.key(0), 0
            )[0]
        )
        return loss(cameras)

    assert largest(compute(slope, params["mvtn"])) == 0


def test_the_graph_network_over_meshes_traces():
    # The other ways are variants of the config, which test_configs traces.
    made = recipe(network="view_gcn", render__kind="meshes", mvtn__num_views=4)
    params, state = start(made)
    _, (after, metrics) = jax.eval_shape(
        made.task.loss, params, state, batch(made), jax.random.key(0), jnp.int32(0)
    )
    assert jax.tree.map(np.shape, after) == jax.tree.map(np.shape, state)
    assert {"shape", "selector", "accuracy"} <= set(metrics)
    found = jax.eval_shape(made.task.embed, params, state, batch(made))["shape"]
    assert found.shape == (BATCH, 12) and made.model.width == 12
    assert isinstance(made.model.inputs["shape"], SampledMesh)


def test_what_the_renderer_is_given(monkeypatch):
    views = Views(jnp.full((BATCH, 1), 90.0), jnp.full((BATCH, 1), 30.0), jnp.full((BATCH, 1), 2.2))
    given = {}
    for module, name in ((soft_points, "render_points"), (soft_meshes, "render_meshes")):
        monkeypatch.setattr(
            module, name, lambda *args, name=name, **kwargs: given.update({name: (args, kwargs)})
        )
    for kind in ("points", "meshes"):
        arrays, light = batch(recipe(render__kind=kind)), jnp.ones((BATCH, 3))
        mvtn._network(config(render__kind=kind), CLASSES).render(arrays, views, light)
        args, kwargs = given[f"render_{kind}"]
        shape = ("points",) if kind == "points" else ("vertices", "faces", "face_mask")
        assert all(arg is arrays[key] for arg, key in zip(args, shape, strict=False))
        # The published azimuth 90 is on +x, the renderer's 0.
        assert [float(arg[0, 0]) for arg in args[len(shape) :]] == [0.0, 30.0, pytest.approx(2.2)]
        assert kwargs == (
            {"size": 12, "radius": 0.2, "slices": 3}
            if kind == "points"
            else {"size": 12, "light": light}
        )


def test_pictures_are_told_and_meshes_are_needed_where_they_are_drawn():
    assert recipe().meta["pictures"] == (
        "discs at 24 points, drawn in every step: 3 views (learned_circular) of 12 pixels"
    )
    said = recipe(render__kind="meshes").meta["pictures"]
    assert said.startswith("meshes of at most 64 faces, drawn in every step")
    clouds = FakeSource(name="parts", items=8, features=("points",))
    with pytest.raises(
        ConfigError, match=r"of parts hold no meshes; --config\.render\.kind=points"
    ):
        mvtn.make(config(render__kind="meshes"), lambda split, name=None: clouds)


def test_single_views_from_fixed_cameras(monkeypatch):
    changes = {
        "network": "single_view",
        "head": {"name": "jax3dret.models.heads:ClassificationHead", "hidden": ()},
        "loss": {"name": "jax3dret.losses.views:single_view"},
        "optim__rules": FIXED_RULES,
    }
    made = recipe("spherical", mvtn__num_views=4, **changes)
    params, state = start(made)
    assert set(params) == {"cnn", "head"} and params["head"]["linear0"]["kernel"].shape == (4, 4)
    arrays = batch(made)
    arrays["mask"] = np.array([True, True, True, False])
    value, (after, metrics) = compute(
        made.task.loss, params, state, arrays, jax.random.key(0), jnp.int32(0)
    )
    assert jax.tree.map(np.shape, after) == jax.tree.map(np.shape, state)
    # Every view is classified for itself, and a view of a masked shape does not count.
    network = mvtn._network(config("spherical", mvtn__num_views=4, **changes), CLASSES)
    on_device = jax.tree.map(jnp.asarray, arrays)
    (pooled, logits), _, _ = network.run(params, state, on_device, jax.random.key(0))
    assert logits.shape == (BATCH, 4, CLASSES) and pooled.shape == (BATCH, 4)
    log_p = jax.nn.log_softmax(logits)[np.arange(3), :, arrays["label"][:3]]
    np.testing.assert_allclose(value, -log_p.mean(), rtol=1e-4)
    right = np.asarray(logits.argmax(-1)[:3]) == arrays["label"][:3, None]
    np.testing.assert_allclose(metrics["accuracy"], right.mean(), rtol=1e-6)
    embedded = compute(made.task.embed, {"cnn": params["cnn"]}, {"cnn": state["cnn"]}, arrays)
    assert embedded["shape"].shape == (BATCH, made.model.width)


def test_the_cameras_begin_with_a_given_pointnet(tmp_path, monkeypatch):
    made = recipe()
    params, state = start(made, seed=5)
    kept = {"params": params, "model_state": state}

    class Kept:
        def __init__(self, folder):
            assert folder == tmp_path

        def raw_model(self):
            return kept

        def close(self):
            pass

    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(mvtn_network.checkpoint, "Checkpoints", Kept)
    given = recipe(pointnet_weights=str(tmp_path))
    fresh, after = jax.jit(given.task.init)(jax.random.key(0), batch(given))
    for ours, theirs in ((fresh, params), (after, state)):
        jax.tree.map(
            np.testing.assert_array_equal, ours["mvtn"]["pointnet"], theirs["mvtn"]["pointnet"]
        )
    drawn = fresh["mvtn"]["view_selector"]["linear0"]["kernel"]
    assert np.abs(drawn - params["mvtn"]["view_selector"]["linear0"]["kernel"]).max() > 1e-3
    kept["params"] = {"cnn": params["cnn"]}
    with pytest.raises(ConfigError, match="holds no PointNet of learned MVTN cameras"):
        mvtn_network.load_pointnet(str(tmp_path))
    with pytest.raises(ConfigError, match=r"/gone: neither imported weights"):
        mvtn_network.load_pointnet("/gone")
    with pytest.raises(ConfigError, match="views that are fixed"):
        recipe("circular", pointnet_weights=str(tmp_path), optim__rules=FIXED_RULES)


def test_an_embedding_does_not_depend_on_the_rest_of_the_batch():
    made = recipe()
    params, state = start(made)
    embed = jax.jit(made.task.embed, compiler_options={"xla_backend_optimization_level": 0})
    arrays = {"points": batch(made)["points"]}
    found = embed(params, state, arrays)["shape"]
    assert found.shape == (BATCH, made.meta["embedding_dim"]) and found.dtype == jnp.float32
    np.testing.assert_array_equal(found, embed(params, state, arrays)["shape"])
    broken = arrays["points"].copy()
    broken[1, 0, 0] = np.nan
    again = embed(params, state, {"points": broken})["shape"]
    assert np.isnan(again[1]).all()
    np.testing.assert_allclose(again[0], found[0], rtol=1e-5)


def test_the_graph_is_told_where_the_cameras_stand():
    views = Views(jnp.array([[30.0, -170.0]]), jnp.array([[20.0, 110.0]]), jnp.array([[2.2, 1.0]]))
    expected = cameras.directions(np.array([-60.0, -260.0]), np.array([20.0, 110.0])) * [
        [2.2],
        [1.0],
    ]
    # z up to y up.
    np.testing.assert_allclose(
        mvtn_network.camera_positions(views)[0], expected[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6
    )


def test_records_become_batches():
    rng = np.random.default_rng(0)
    record = {"id": "a", "label": 2, "points": rng.normal(size=(40, 3)).astype(np.float32)}
    for transform in mvtn.transforms("z", POINTS, ()):
        record = transform(record, rng)
    assert set(record) == {"points", "label"} and record["points"].shape == (POINTS, 3)
    vertices = rng.normal(size=(4, 3)).astype(np.float32)
    record = {"id": "a", "label": 2, "points": vertices, "vertices": vertices, "faces": FACES}
    for transform in mvtn.transforms("z", POINTS, (), 64):
        record = transform(record, rng)
    assert set(record) == {"points", "vertices", "faces", "face_mask", "label"}
    # Points and mesh are turned together.
    np.testing.assert_allclose(
        record["vertices"][:4], vertices[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6
    )
    with pytest.raises(DataError, match="render its points"):
        record = {"id": "a", "label": 2, "points": vertices}
        for transform in mvtn.transforms("z", POINTS, (), 64):
            record = transform(record, rng)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "vit"}, "network 'vit' is unknown"),
        ({"render__kind": "voxels"}, "kind 'voxels' is unknown"),
        ({"render__light": "sun"}, "light 'sun' is unknown"),
        ({"render__radius": 0.01}, "radius is 0.01, less than half a pixel"),
        ({"render__size": 4}, "render.size is 4; give 8 or more"),
        ({"views": "spiral"}, "views='spiral'"),
        ({"views": "circular"}, "fixed views have nothing to learn"),
        ({"loss": {"name": "jax3dret.losses.views:view_gcn"}}, "is no loss of mvcnn"),
        (
            {"network": "view_gcn", "loss__name": "jax3dret.losses.classification:cross_entropy"},
            "is no loss of view_gcn",
        ),
        (
            {
                "render__kind": "meshes",
                "data__augment": {"name": "jax3dret.data.points:paper_augmentations"},
            },
            "augment moves the points alone",
        ),
        ({"cnn_weights": "/nowhere"}, "not imported weights"),
        ({"cnn_normalisation": "imagnet"}, "'imagnet' is unknown; it is one of: imagenet, none"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)
