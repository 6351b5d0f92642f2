"""INRs as clouds and pictures: what they show, that they are made once, and who lacks one."""

import jax
import numpy as np
import octahedra
import pytest
from fakes import opener

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.pipeline import eval_batches, train_iterator
from jax3dret.data.rows import open_rows
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.octree import Octree
from jax3dret.models.fields.octree_cells import capacity
from jax3dret.tasks.inret import category_chamfer, conversion, pointnext, views
from jax3dret.tasks.ulip2 import viewgcn

RADII = (0.3, 0.7, 0.35, 0.65)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return octahedra.source(tmp_path_factory.mktemp("inrs"), radii=RADII)


def test_clouds_lie_on_the_surface_and_are_made_once(source, monkeypatch):
    path = conversion.cloud_file(source, "hashgrid_sdf", points=40)
    clouds = np.load(path)
    assert clouds.shape == (4, 40, 3) and path.parent == source.path / "features"
    np.testing.assert_allclose(
        np.abs(clouds).sum(2), np.broadcast_to(np.array(RADII)[:, None], (4, 40)), atol=5e-3
    )
    assert (np.sign(clouds).reshape(-1, 3).std(0) > 0.8).all()  # on all sides
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "surface_points", None)  # nothing is asked again
        assert conversion.cloud_file(source, "hashgrid_sdf", points=40) == path
    other = conversion.cloud_file(source, "hashgrid_sdf", points=40, seed=1)
    assert other != path and not np.array_equal(np.load(other), clouds)
    fields = conversion.Fields(source, "hashgrid_sdf")
    np.testing.assert_array_equal(conversion.cloud_of(fields, 2, 40), clouds[2])
    np.testing.assert_array_equal(
        conversion.cloud_of(fields, 2, 40), conversion.cloud_of(fields, 2, 40)
    )


def test_pictures(source):
    path = conversion.view_file(source, "hashgrid_sdf", cameras="inret2", size=16, by="tracing")
    store = open_rows(path)
    pictures = np.stack([store[i] for i in range(4)])
    assert pictures.shape == (4, 2, 16, 16, 3) and len(store) == 4
    dark = (pictures[..., 0] < 250).mean((2, 3))
    # Silhouettes grow with the octahedra; each camera sees about the same.
    assert (dark[:, 0] > 0).all() and (np.argsort(dark[:, 0]) == np.argsort(RADII)).all()
    np.testing.assert_allclose(dark[:, 0], dark[:, 1], atol=0.02)
    stamp = path.stat().st_mtime_ns
    again = conversion.view_file(source, "hashgrid_sdf", cameras="inret2", size=16, by="tracing")
    assert again == path and path.stat().st_mtime_ns == stamp


def test_inrs_that_are_not_there(tmp_path, monkeypatch):
    lacking = octahedra.source(tmp_path, without=("s/1", "s/3"))
    # No batch reads what is not there: training leaves it out, an evaluation is told who has one.
    clouds = np.load(conversion.cloud_file(lacking, "hashgrid_sdf", points=4))
    assert (np.abs(clouds).max((1, 2)) > 0).tolist() == [True, False, True, False]
    made = pointnext.make(config(pointnext, train={"batch_size": 2}), opener(lacking))
    assert made.train.sampler.rows == (0, 2)
    with pytest.raises(ConfigError, match="no INRs of the architecture 'octree'"):
        conversion.Fields(lacking, "octree_sdf")
    whole = octahedra.source(tmp_path)

    def nothing(field, function, points, generator):
        raise DataError("the field has no surface to speak of")

    monkeypatch.setattr(conversion, "surface_points", nothing)
    with pytest.raises(DataError, match="s/0: the field has no surface"):
        conversion.cloud_file(whole, "hashgrid_sdf", points=4)
    assert len(list((tmp_path / "features").glob("*.npy"))) == 1


def config(task, **changes):
    values = task.defaults()
    values.data.name = "inr_store/octahedra"
    values.train.split = "train"
    values.train.batch_size, values.eval.batch_size, values.train.steps = 4, 4, 1
    values.evals = {"nothing": {"name": "octahedra:evaluator"}}
    values.update(changes)
    return configs.Config(values.to_dict())


def test_pointnext_reads_clouds_of_inrs(source):
    made = pointnext.make(
        config(
            pointnext,
            data={"num_points": 40},
            model={"width": 4, "strides": (2,), "radius": 0.5, "nsample": 4},
            head={"hidden": (8,)},
        ),
        opener(source),
    )
    assert made.example["points"].shape == (4, 40, 3) and made.meta["embedding_dim"] == 8
    assert made.meta["converted_from"]["kinds"] == ["hashgrid_sdf"]
    assert made.model is not None and set(made.model.inputs) == {"shape"}
    batch = next(train_iterator(source, made.train))
    assert set(batch) >= {"points", "label"} and batch["points"].shape == (4, 40, 3)
    # Scaled along each axis and moved: 2/3 to 3/2 of the unit sphere.
    assert 0.3 < np.abs(batch["points"]).max() < 1.75
    data = pointnext._data(config(pointnext, data={"num_points": 40}), opener(source))
    for kind in ("hashgrid_sdf", "hashgrid_sdf:live"):
        (rows,) = eval_batches(source, data(kind, "train"))
        np.testing.assert_allclose(np.linalg.norm(rows["points"], axis=2).max(1), 1, atol=1e-5)
        np.testing.assert_array_equal(rows["label"], [0, 1, 0, 1])
    state = jax.eval_shape(made.task.init, jax.random.key(0), dict(made.example))
    embedded = jax.eval_shape(made.task.embed, *state, dict(made.example))
    assert {k: v.shape for k, v in embedded.items()} == dict.fromkeys(("shape", "inr"), (4, 8))


def test_an_evaluation_of_converted_inrs(tmp_path, monkeypatch):
    """The default evaluator and Category-Chamfer, by embeddings that tell the classes."""
    train = octahedra.source(tmp_path, split="train", radii=RADII)
    test = octahedra.source(tmp_path, split="test", radii=RADII)
    evals = {
        "retrieval": {**pointnext.evaluator_defaults(), "timed_queries": 1},
        "category_chamfer": {
            "name": "jax3dret.tasks.inret.category_chamfer:make",
            "coarse": 8,
            "fine": 32,
            "truth": 64,
            "naive_queries": 1,
            "classifier": {"hidden": (4,)},
        },
    }
    monkeypatch.setattr(  # class 0 is what has 1 in its second number
        category_chamfer, "train_classifier", lambda *_, **__: lambda x: x[:, 1::-1]
    )
    settings = config(pointnext, data={"num_points": 40}, evals=evals)
    made = pointnext.make(settings, opener(train, test))
    embed = iter(range(100))

    def by_order(batch):
        row = [[float(i % 2), 1 - i % 2, next(embed) * 1e-3] for i in range(len(batch["points"]))]
        return {"inr": np.array(row, np.float32)}

    found = made.evaluators["retrieval"](by_order, tmp_path / "out")
    assert found["hit_rate_1"] == found["precision_1"] == 1
    assert found["seconds_per_query"] > 0 and (tmp_path / "out" / "result.json").is_file()
    found = made.evaluators["category_chamfer"](by_order, tmp_path / "cc")
    assert found["category_accuracy"] == 1 and found["category_chamfer"] == 1
    assert found["hierarchical_s"] > 0 and (tmp_path / "cc" / "result.json").is_file()


def test_view_gcn_reads_pictures_of_inrs(source):
    settings = {
        "views": {"cameras": "inret2", "size": 16, "by": "tracing"},
        "cnn": {"stage_sizes": (1,), "width": 4},
        "model": {"width": 4, "k": 2},
    }
    made = views.make(config(views, **settings), opener(source))
    assert made.example["views"].shape == (4, 2, 16, 16, 3)
    batch = next(train_iterator(source, made.train))
    assert batch["views"].shape == (4, 2, 16, 16, 3) and batch["views"].dtype == np.uint8
    assert "2 views (inret2) of 16 pixels" in made.meta["pictures"]
    data = views._data(config(views, **settings), opener(source), made_cnn(settings), "views")
    (kept,), (now,) = (
        eval_batches(source, data(f"hashgrid_sdf{live}", "train")) for live in ("", ":live")
    )
    np.testing.assert_array_equal(kept["views"], now["views"])
    assert made.meta["embedding_dim"] == 12
    frozen = views.make(config(views, cnn_frozen=True, **settings), opener(source))
    assert frozen.example["features"].shape[:2] == (4, 2)
    state = jax.eval_shape(frozen.task.init, jax.random.key(0), dict(frozen.example))
    embedded = jax.eval_shape(frozen.task.embed, *state, dict(frozen.example))
    assert embedded["inr"].shape == (4, 12)
    first = config(
        views,
        objective="single_view",
        loss={"name": "jax3dret.losses.views:single_view"},
        flip=0.5,
        **settings,
    )
    assert views.make(first, opener(source)).train.transforms[1].probability == 0.5


def made_cnn(settings):
    return viewgcn.network_of(config(views, **settings), 2).cnn


def test_octrees_have_few_sizes_and_the_same_values():
    octree, points = Octree(base=1, levels=2, width=2), np.linspace(-1, 1, 30).reshape(10, 3)
    structure = octree.structure(np.array([[0, 0, 0], [3, 3, 3], [1, 2, 0]]))
    variables = jax.tree.map(np.asarray, octree.init(jax.random.key(0), structure))
    field = Field(octree, "sdf", variables)
    padded = conversion.in_few_sizes(field)
    rows = len(variables["grid"]["table"])
    assert len(padded.variables["grid"]["table"]) == capacity(rows) > rows
    np.testing.assert_array_equal(padded(points), field(points))


def test_one_of_several_kinds():
    draw = pointnext.OneOf(("a", "b"), "points")
    record = {"a": np.zeros(1), "b": np.ones(1), "label": 3}
    rng = np.random.default_rng(0)
    found = [draw(record, rng) for _ in range(50)]
    assert all(set(r) == {"points", "label"} for r in found)
    assert 15 < sum(float(r["points"][0]) for r in found) < 35


@pytest.mark.parametrize(
    "kinds, says",
    [(("sdf",), "'sdf' is no kind of INR"), ((), "give some"), (("a_sdf", "a_sdf"), "each once")],
)
def test_kinds_that_cannot_be(source, kinds, says):
    with pytest.raises(ConfigError, match=says):
        pointnext.make(config(pointnext, fields={"kinds": kinds}), opener(source))
