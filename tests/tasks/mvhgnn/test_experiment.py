"""MV-HGNN as a task: what each stage trains and on which loss, what is embedded, where a stage
starts, what is refused.
"""

import ast
import inspect
import pathlib
import re

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import FakeSource

from jax3dret import run
from jax3dret.core import config as configs
from jax3dret.core import rng as streams
from jax3dret.core import train
from jax3dret.core.types import ConfigError, DataError, DataSpec
from jax3dret.data.points import Keep
from jax3dret.inputs import describe
from jax3dret.inputs.drawing import Drawing
from jax3dret.losses.alignment import semantic_alignment
from jax3dret.losses.am_softmax import am_softmax, cosines
from jax3dret.losses.quadruplet import quadruplet
from jax3dret.losses.views import single_view
from jax3dret.models.mvhgnn import MVHGNN
from jax3dret.models.sketch_tower import PromptedVisionTower
from jax3dret.tasks.mvhgnn import (
    centring,
    experiment,
    from_config,
    networks,
    prototypes,
    stages,
    training_data,
)
from jax3dret.tasks.mvhgnn.prototypes import orthogonal
from jax3dret.tasks.mvhgnn.training_data import PickCopy

VIEWS, SIZE, WIDTH, BATCH = 4, 16, 8, 4
CLASSES = tuple("abcde")
SEEN = (0, 2, 3)


def open_source(split, name=None, seen=SEEN):
    """As much of a data set as a recipe looks at before it runs: labels, no records."""
    labels = [1, 4] if "unseen" in split else [label for label in seen for _ in range(3)]
    records = {"png": None} if name == "sketches" else {}
    return FakeSource(
        labels, lambda row: records, name=name or "shapes", split=split, class_names=CLASSES
    )


def config(**changes):
    values = experiment.defaults()
    values.data.name, values.sketches.name = "shapes", "sketches"
    values.sketches.size = SIZE
    values.views = {"cameras": f"ring{VIEWS}", "size": SIZE, "jobs": 1}
    values.cnn.update({"stage_sizes": (1,), "width": 4})
    values.model.update(
        {"out_dim": WIDTH, "selector_hidden": 4, "head_hidden": WIDTH, "dropout": 0.0}
    )
    values.tower = {
        "name": "jax3dret.models.sketch_tower:FeatureTower",
        "out_dim": WIDTH,
        "hidden": (WIDTH,),
    }
    values.tower_cnn = {**values.cnn.to_dict()}
    values.train.batch_size, values.train.steps = BATCH, 2
    values.optim.update(
        {"name": "adam", "lr": 1e-2, "weight_decay": 0.0, "schedule": {"name": "constant"}}
    )
    for key, value in changes.items():
        section = values
        *parents, leaf = key.split("__")
        for part in parents:
            section = section[part]
        section[leaf] = value
    return configs.Config(values.to_dict())


def make(**changes):
    return experiment.make(config(**changes), open_source)


def batch_of(recipe, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(SEEN, (3, BATCH))
    made = {}
    for key, leaf in recipe.example.items():
        if leaf.dtype == jnp.uint8:
            made[key] = rng.integers(0, 256, leaf.shape, np.uint8)
        else:
            made[key] = rng.normal(size=leaf.shape).astype(np.float32)
    named = {"label": labels[0], "negative_label": labels[1], "other_label": labels[2]}
    made |= {key: value.astype(np.int32) for key, value in named.items() if key in made}
    return {**made, "mask": np.ones(BATCH, bool)}


def one_step(recipe):
    state = drawn.state(recipe)
    after, metrics = jax.jit(train.make_step(recipe, 0))(state, batch_of(recipe))
    moved = {
        name: max(float(np.abs(np.asarray(a) - b).max()) for a, b in pairs) > 0
        for name in state.params
        if (
            pairs := list(
                zip(
                    jax.tree.leaves(after.params[name]),
                    jax.tree.leaves(state.params[name]),
                    strict=True,
                )
            )
        )
    }
    states = {
        name: any(
            np.any(np.asarray(a) != b)
            for a, b in zip(
                jax.tree.leaves(after.model_state[name]),
                jax.tree.leaves(state.model_state[name]),
                strict=True,
            )
        )
        for name in state.model_state
    }
    slots = {str(leaf.shape) for leaf in jax.tree.leaves(state.opt_state)}
    return moved, states, metrics, slots


STAGES = {
    "shape": ({"graph", "shape_head", "classifier"}, {"graph"}, {"cls_3d", "sem_3d"}),
    "sketch": ({"sketch", "sketch_head"}, {"sketch"}, {"cls_ske", "sem_ske", "quad"}),
    "joint": (
        {"graph", "shape_head", "classifier", "sketch", "sketch_head"},
        {"graph", "sketch"},
        {"cls_3d", "cls_ske", "sem_3d", "sem_ske", "quad"},
    ),
    "sketch_alone": ({"sketch", "sketch_head", "classifier"}, {"sketch"}, {"cls_ske", "sem_ske"}),
    "shape_to_sketch": ({"graph", "shape_head"}, {"graph"}, {"cls_3d", "sem_3d", "quad"}),
}


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_trains(stage):
    trained, statistics, terms = STAGES[stage]
    moved, states, metrics, _ = one_step(make(stage=stage))
    assert {name for name, yes in moved.items() if yes} == trained
    assert {
        name for name, yes in states.items() if yes
    } == statistics  # a frozen side keeps its BatchNorms
    assert set(metrics) - {"loss", "grad_norm", "accuracy_3d", "accuracy_ske"} == terms
    assert float(metrics["loss"]) == pytest.approx(sum(float(metrics[t]) for t in terms), rel=1e-6)


def test_zero_shot_trains_no_classifier_and_no_classes_that_are_not_seen():
    recipe = make(setting="zeroshot", strategy="one_stage", loss__cls_joint=False)
    moved, _, metrics, _ = one_step(recipe)
    assert (
        not moved["classifier"]
        and {"quad", "sem_3d", "sem_ske"} <= set(metrics)
        and "cls_3d" not in metrics
    )
    assert recipe.meta["setting"] == "zeroshot" and recipe.meta["stage"] == "joint"


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"joint"}))
def test_the_stages_of_zero_shot_that_train_one_side_have_the_classifiers_loss(stage):
    """Table 7 compares the single stage with these (equations 13 and 15)."""
    settings = config(setting="zeroshot", stage=stage, loss__cls_joint=False)
    terms = from_config.losses_of(settings)
    assert terms.cls_3d and terms.cls_ske
    is_second = stage in ("sketch", "shape_to_sketch")
    assert (
        ("classifier", {"freeze": True}) in experiment._resolved(settings).optim.rules
    ) == is_second


@pytest.mark.parametrize(
    ("first", "second"), [v for v in stages.STRATEGIES.values() if len(v) == 2]
)
def test_a_shared_head_is_trained_by_the_first_stage_and_kept_by_the_second(first, second):
    for stage, trained in ((first, True), (second, False)):
        moved, *_ = one_step(make(stage=stage, share_projection=True))
        assert moved["shape_head"] is trained and "sketch_head" not in moved


def test_the_losses_of_a_stage_are_those_of_the_paper():
    recipe = make(stage="joint")
    state, batch = drawn.state(recipe), batch_of(recipe)
    key = jax.random.key(3)
    _, (_, metrics) = jax.jit(recipe.task.loss)(state.params, state.model_state, batch, key, 0)
    made = from_config.networks_of(experiment._resolved(config(stage="joint")), len(CLASSES))
    apply = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key, "selector": key}}
    of = lambda name: {"params": state.params[name], "batch_stats": state.model_state[name]}  # noqa: E731
    shapes = np.concatenate([batch["positive"], batch["negative"]])
    drawings = np.concatenate([batch["sketch_features"], batch["other"]])

    @jax.jit
    def embedded(shapes, drawings):
        return (
            made.graph.apply(of("graph"), shapes, made.positions, **apply)[0],
            made.tower.apply(of("sketch"), drawings, **apply)[0],
        )

    f3d, fske = embedded(shapes, drawings)
    label3d = np.concatenate([batch["label"], batch["negative_label"]])
    labelske = np.concatenate([batch["label"], batch["other_label"]])
    at = {label: i for i, label in enumerate(SEEN)}
    weight = state.params["classifier"][:, list(SEEN)]
    prototypes = orthogonal(CLASSES, WIDTH, 0).vectors[list(SEEN)]
    for name, f, labels, head in (
        ("3d", f3d, label3d, "shape_head"),
        ("ske", fske, labelske, "sketch_head"),
    ):
        where = np.array([at[label] for label in labels.tolist()])
        p = f @ state.params[head]["kernel"] + state.params[head]["bias"]
        np.testing.assert_allclose(
            metrics[f"cls_{name}"], am_softmax(cosines(f, weight), where), rtol=1e-5
        )
        np.testing.assert_allclose(
            metrics[f"sem_{name}"], semantic_alignment(p, where, prototypes), rtol=1e-5
        )
    expected = quadruplet(fske[:BATCH], f3d[:BATCH], f3d[BATCH:], fske[BATCH:])
    np.testing.assert_allclose(metrics["quad"], expected, rtol=1e-5)


def test_three_d_to_sketch_has_shapes_for_anchors():
    recipe = make(stage="shape_to_sketch")
    assert recipe.example["features"].shape == recipe.example["other"].shape == (BATCH, VIEWS, 4)
    assert recipe.example["positive"].shape == recipe.example["negative"].shape == (BATCH, 4)
    assert recipe.train.name == "shapes" and make(stage="joint").train.name == "sketches"


def test_stored_features_stand_for_pictures():
    recipe = make(stage="joint")
    state = drawn.state(recipe)
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (2, VIEWS, SIZE, SIZE, 3), np.uint8)
    drawings = rng.integers(0, 256, (2, SIZE, SIZE), np.uint8)
    made = from_config.networks_of(experiment._resolved(config()), len(CLASSES))
    embed = jax.jit(recipe.task.embed)
    out = embed(state.params, state.model_state, {"views": views, "sketch": drawings})
    assert out["shape"].shape == out["sketch"].shape == (2, WIDTH) and out["view_scores"].shape == (
        2,
        VIEWS,
    )
    grey = np.repeat(drawings[:, None, ..., None], 3, -1)

    @jax.jit
    def features(views, grey):
        cnns = state.model_state
        return {
            "features": made.cnn.apply(cnns["cnn"], views, train=False)[0],
            "sketch_features": made.tower_cnn.apply(cnns["tower_cnn"], grey, train=False)[0][:, 0],
        }

    stored = features(views, grey)
    again = embed(state.params, state.model_state, stored)
    for key in out:
        np.testing.assert_allclose(out[key], again[key], atol=1e-5)


def test_a_tower_of_pictures_is_tuned_as_told():
    small = {
        "embedding_dim": WIDTH,
        "image_size": SIZE,
        "patch_size": 8,
        "width": 16,
        "depth": 1,
        "num_heads": 2,
    }
    tower = {"name": "jax3dret.models.sketch_tower:PromptedVisionTower", **small}
    changes = {"tower": tower, "tower_cnn": {}, "stage": "sketch"}
    recipe = make(**changes, tuning="vpt")
    assert (
        recipe.example["sketch"].shape == (BATCH, SIZE, SIZE)
        and recipe.example["sketch"].dtype == jnp.uint8
    )
    state = drawn.state(recipe)
    after, _ = jax.jit(train.make_step(recipe, 0))(state, batch_of(recipe))
    same = jax.tree.map(
        lambda a, b: bool((a == b).all()), state.params["sketch"], after.params["sketch"]
    )
    moved = {
        jax.tree_util.keystr(path)
        for path, still in jax.tree_util.tree_leaves_with_path(same)
        if not still
    }
    assert moved and all("prompts" in name or "norm" in name for name in moved)
    # What is frozen has no slot: Adam keeps two of each of the trained leaves, and counts.
    trained = len(moved) + 2  # and the sketch's projection
    assert sum(leaf.ndim > 0 for leaf in jax.tree.leaves(state.opt_state)) == 2 * trained


def test_a_tower_has_prompts_where_they_are_trained_unless_told():
    tower = {"name": "jax3dret.models.sketch_tower:PromptedVisionTower"}

    def prompts(tuning, **fields):
        resolved = experiment._resolved(
            config(tower={**tower, **fields}, tower_cnn={}, tuning=tuning)
        )
        return resolved.tower.build().num_prompts

    assert [prompts(t) for t in ("frozen", "layernorm", "all", "prompt_only", "vpt")] == [
        0,
        0,
        0,
        3,
        3,
    ]
    assert prompts("all", num_prompts=5) == 5 and prompts("vpt", num_prompts=5) == 5


def test_rate_of_the_layer_norms():
    tower = {"name": "jax3dret.models.sketch_tower:PromptedVisionTower"}
    resolved = experiment._resolved(
        config(tower=tower, tower_cnn={}, stage="sketch", tuning="vpt", layernorm_lr=0.01)
    )
    assert [rule[1] for rule in resolved.optim.rules if "norm_pre" in rule[0]] == [{"lr": 0.01}]


def test_two_stages_are_two_runs_of_one_command(tmp_path):
    runs = run.stages(config(first__epochs=7.0, first__batch_size=3), tmp_path)
    assert [placed.folder for placed in runs] == [tmp_path / "first", tmp_path]
    first, last = (placed.config for placed in runs)
    assert (first.stage, last.stage) == ("shape", "sketch")
    assert (first.train.epochs, first.train.batch_size, first.checkpoint.init_from) == (7.0, 3, "")
    assert last.checkpoint.init_from == str(tmp_path / "first") and last.train.batch_size == BATCH
    # The whole tree is in the first run's checkpoint: the second takes all of it.
    shapes = [
        jax.tree.map(
            lambda leaf: leaf.shape, train.abstract_state(experiment.make(s, open_source), 0).params
        )
        for s in (first, last)
    ]
    assert shapes[0] == shapes[1]
    assert len(experiment.stages(config(strategy="one_stage"))) == 1
    (only,) = experiment.stages(config(checkpoint__init_from="elsewhere"))
    assert only.config.stage == "sketch" and only.config.checkpoint.init_from == "elsewhere"


def test_imported_clip_weights_are_where_the_first_stage_starts(tmp_path):
    first, last = (r.config for r in run.stages(config(tower_weights="clip"), tmp_path))
    assert first.checkpoint.init_from == "clip" and first.checkpoint.rename == (
        ("^vision/", "sketch/tower/"),
    )
    assert last.checkpoint.init_from == str(tmp_path / "first") and last.checkpoint.rename == ()


def test_a_described_data_set_is_enough_to_build_the_model():
    def described(split, name=None):
        source = open_source(split, name)
        source.labels, source.ids = (), ("a", "b", "c")
        return source

    values = config(
        prototypes={"name": "jax3dret.tasks.mvhgnn.prototypes:from_clip_text", "weights": "gone"}
    )
    recipe = experiment.make(values, described)
    ours = train.abstract_state(make(), 0).params
    assert jax.tree.map(lambda x: x.shape, train.abstract_state(recipe, 0).params) == jax.tree.map(
        lambda x: x.shape, ours
    )
    assert recipe.train.transforms == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"setting": "zero"}, "config.setting 'zero' is unknown; it is one of: category, zeroshot"),
        ({"strategy": "three"}, "config.strategy 'three' is unknown"),
        ({"stage": "third"}, "config.stage 'third' is unknown; it is one of: shape, sketch"),
        ({"tower__out_dim": 6}, "shapes are embedded in 8 numbers .* drawings in 6"),
        (
            {"tower_cnn": {}},
            "config.tower_cnn: FeatureTower and StoredFeatures read the features of the frozen CNN",
        ),
        ({"retrieve_with": "q"}, "config.retrieve_with 'q'"),
        ({"tower_normalisation": "clop"}, "config.tower_normalisation 'clop' is unknown"),
        ({"sketches__size": 4}, "config.sketches.size is 4; give 8 or more"),
        (
            {
                "tower": {"name": "jax3dret.models.sketch_tower:SmallViT", "embedding_dim": 8},
                "tower_cnn": {},
            },
            "sketches.size=64",
        ),
        (
            {"prototypes__name": "jax3dret.tasks.mvhgnn.prototypes:orthogonl"},
            "did you mean 'orthogonal'",
        ),
        (
            {"loss__quad_metric": "squared"},
            "config.loss.quad_metric 'squared' is unknown; it is one of: unit_euclidean",
        ),
        (
            {"tower_weights": "clip"},
            "config.tower_weights=clip: the tower FeatureTower takes no weights of CLIP",
        ),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("stage", "terms"),
    [
        ("shape", ("cls_3d", "sem_3d")),
        ("sketch", ("cls_ske", "sem_ske", "quad")),
        ("joint", ("cls_3d", "sem_3d", "cls_ske", "sem_ske", "quad")),
    ],
)
def test_no_term_left(stage, terms):
    off = {f"loss__{term}": False for term in terms}
    with pytest.raises(
        ConfigError, match=f"every term of the stage '{stage}' is off; leave on one of"
    ):
        make(stage=stage, **off)
    for term in terms:
        if stage != "joint" or term == "quad":  # of one side alone: see below
            make(stage=stage, **{**off, f"loss__{term}": True})


FROZEN = ((".*", {"freeze": True}),)
NO_PICTURES = {
    "name": "jax3dret.models.sketch_tower:PromptedVisionTower",
    "embedding_dim": WIDTH,
    "image_size": SIZE,
    "patch_size": 8,
    "width": 16,
    "depth": 1,
    "num_heads": 2,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "sketch", "tuning": "frozen"}, "this one has none: no loss would reach what"),
        (
            {"stage": "sketch", "optim__rules": FROZEN},
            r"stage 'sketch' trains nothing of what retrieval reads: .*drawings \(config.tower\)",
        ),
        (
            {
                "stage": "joint",
                "optim__rules": (("(graph|sketch)/.*", {"freeze": True}), (".*", {})),
            },
            "stage 'joint' trains nothing of what retrieval reads",
        ),
        (
            {"stage": "shape", "optim__rules": (("graph/.*", {"freeze": True}), (".*", {}))},
            r"stage 'shape' trains nothing of what retrieval reads: .*shapes \(config.model\)",
        ),
        (
            {"stage": "joint", "loss__quad": False, "loss__cls_3d": False, "loss__sem_3d": False},
            "encoder of the shapes .*no loss reaches it; leave on one of config.loss.cls_3d",
        ),
        (
            {"stage": "joint", "loss__quad": False, "loss__cls_ske": False, "loss__sem_ske": False},
            "encoder of the drawings .*no loss reaches it; .*config.loss.sem_ske, config.loss.quad",
        ),
        (
            {"stage": "sketch", "retrieve_with": "p", "loss__sem_ske": False},
            "reads a projection of the drawings .*leave on config.loss.sem_ske, or retrieve with f",
        ),
    ],
)
def test_a_run_whose_descriptor_no_loss_reaches_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes)
    if changes.get("tuning") != "frozen":
        make(**changes, train__steps=0)  # nothing is trained, and that is what was asked for


def test_one_side_may_stay_as_it_is_where_the_other_learns():
    rules = (("graph/.*", {"freeze": True}), (".*", {}))
    assert make(stage="joint", optim__rules=rules).steps == 2
    # The head of the first stage stands: the second retrieves by it without training it.
    assert make(stage="sketch", retrieve_with="p", share_projection=True, loss__sem_ske=False)


def test_a_frozen_tower_learns_a_linear_layer_that_retrieval_reads():
    settings = {"tower": NO_PICTURES, "tower_cnn": {}, "stage": "sketch", "tuning": "frozen"}
    recipe = make(**settings)
    state, batch = drawn.state(recipe), batch_of(recipe)
    after, metrics = jax.jit(train.make_step(recipe, 0))(state, batch)
    same = jax.tree.map(
        lambda a, b: bool((a == b).all()), state.params["sketch"], after.params["sketch"]
    )
    assert same["linear"] == {"kernel": False, "bias": False}
    assert all(jax.tree.leaves(same["tower"])) and float(metrics["quad"]) > 0
    embed = jax.jit(recipe.task.embed)
    drawings = {"sketch": batch["sketch"]}
    before, now = (
        embed(params, state.model_state, drawings)["sketch"]
        for params in (state.params, after.params)
    )
    assert np.abs(np.asarray(before - now)).max() > 1e-4
    # Slots of the layer and of the projection, two each, and no others.
    assert sum(leaf.ndim > 0 for leaf in jax.tree.leaves(state.opt_state)) == 2 * (2 + 2)


def test_weights_that_no_part_of_the_model_would_take(tmp_path):
    tower = {
        "name": "jax3dret.models.sketch_tower:PromptedVisionTower",
        "embedding_dim": WIDTH,
        "image_size": SIZE,
    }
    with pytest.raises(ConfigError, match=r"config.tower_weights=.*: no imported weights"):
        make(tower=tower, tower_cnn={}, tower_weights=str(tmp_path))
    # The second stage starts from the first, which has them.
    with pytest.raises(ConfigError, match="takes no weights of CLIP"):
        make(tower_weights=str(tmp_path), checkpoint__init_from="first")


def test_a_batch_larger_than_an_epoch_is_refused_before_any_stage_begins():
    with pytest.raises(
        DataError,
        match=r"sketches, split 'train': 9 items but a batch of 10; lower .* config.first",
    ):
        make(train__batch_size=10)
    make(train__batch_size=10, train__steps=0)  # nothing is trained


def test_shapes_are_no_drawings():
    def of_shapes(split, name=None):
        source = open_source(split, name)
        source.manifest = {"kind": "shapes", "up_axis": "z"}
        return source

    with pytest.raises(
        ConfigError,
        match="config.sketches.name=sketches holds shapes; a data set of drawings is needed",
    ):
        experiment.make(config(), of_shapes)


@pytest.mark.parametrize("stage", ["sketch", "joint", "sketch_alone"])
def test_drawings_of_a_class_without_shapes(stage):
    def lacking(split, name=None):
        return open_source(split, name, seen=SEEN if name else SEEN[:2])

    with pytest.raises(DataError, match="1 classes have sketches but no shapes to train with: d"):
        experiment.make(config(stage=stage), lacking)


def test_copies_are_drawn_in_training_and_the_first_is_the_drawing_itself():
    record = {"sketch_features": np.arange(12.0).reshape(4, 3), "label": 0}
    rng = np.random.default_rng(0)
    picked = {PickCopy("sketch_features")(record, rng)["sketch_features"][0] for _ in range(60)}
    assert picked == {0.0, 3.0, 6.0, 9.0}
    assert PickCopy("sketch_features", first=True)(record, rng)["sketch_features"].tolist() == [
        0,
        1,
        2,
    ]


def test_drawings_are_prepared_alike_in_training_evaluation_and_queries():
    tower = {"tower": NO_PICTURES, "tower_cnn": {}, "stage": "sketch", "tuning": "vpt"}

    def opened(split, name=None):
        source = open_source(split, name)
        if name == "sketches":
            source.record = lambda row: {"png": None, "picture": None}
        return source

    for prepare, key in (("strokes", "png"), ("plain", "picture")):
        recipe = experiment.make(config(**tower, sketches__prepare=prepare), opened)
        assert recipe.train.features == (key,)
        assert recipe.train.transforms[0].prepare == prepare
        assert recipe.model.inputs["sketch"] == Drawing(SIZE, prepare)
        assert describe.restore(recipe.meta["inputs"]["sketch"], where="meta") == Drawing(
            SIZE, prepare
        )
        reader = training_data.Inputs(
            from_config.networks_of(experiment._resolved(config(**tower)), len(CLASSES)),
            {},
            {"prepare": prepare, "augment": True, "copies": 0, "seed": 0},
        )
        read = reader.evaluation("sketch")
        assert read["features"] == (key,) and read["transforms"][0].prepare == prepare
    with pytest.raises(DataError, match="sketches: its drawings hold .*png and no 'picture'"):
        make(**tower, sketches__prepare="plain")
    with pytest.raises(ConfigError, match="config.sketches.prepare 'clip' is unknown"):
        make(sketches__prepare="clip")


def test_drawings_of_other_classes_are_counted(caplog):
    def opened(split, name=None):
        source = open_source(split, name)
        if name == "sketches":
            source.class_names = ("A", "b", "C", "D", "other")
            source.labels = source.labels + (source.labels == 3)
        return source

    assert experiment.make(config(stage="joint"), opened).steps == 2
    assert "6 of 9 records are of the 5 wanted classes, 3 of 1 other classes" in caplog.text


def test_the_number_of_unseen_classes_is_told_and_may_be_asked_for(caplog):
    def counted(split, name=None):
        source = open_source(split, name)
        source.manifest["source"] = {"classes": {"seen": 3, "unseen": 2, "unseen_published": 1}}
        return source

    said = "The data has 2 unseen classes, the paper 1: its numbers are of another gallery."
    assert experiment.make(config(), counted).meta["published_note"].endswith(said)
    assert said in caplog.text
    caplog.clear()
    asked = experiment.make(config(unseen_classes=2), counted)
    assert said not in asked.meta["published_note"] + caplog.text
    with pytest.raises(ConfigError, match="config.unseen_classes is 1, but shapes has 2; leave"):
        experiment.make(config(unseen_classes=1), counted)
    assert said not in make().meta["published_note"] and not caplog.text


def test_labels_are_places_among_the_seen():
    classes = networks.Classes(5, SEEN)
    assert classes.positions().tolist() == [0, -1, 1, 2, -1]


def test_stored_rows_of_another_shape_are_not_read(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((5, 6, 4), np.float32))
    assert training_data._of_shape(tmp_path / "f.npy", (6, 4)) == tmp_path / "f.npy"
    with pytest.raises(
        DataError, match=r"f.npy: rows of shape \[6, 4\]; expected \[12, 4\]; remove it"
    ):
        training_data._of_shape(tmp_path / "f.npy", (12, 4))


def test_the_mean_of_each_side_is_taken_off():
    """Of the training split, each side by its own; not of the queries, and not one for both."""
    recipe = make(stage="joint", centred=True)
    state = drawn.state(recipe)
    identity = {
        "matrix": np.eye(WIDTH, dtype=np.float32),
        "offset": np.zeros(WIDTH, np.float32),
    }
    fresh = jax.eval_shape(recipe.task.init, jax.random.key(0), {})[1]
    assert jax.tree.map(lambda leaf: leaf.shape, fresh["map"]) == {
        side: {"matrix": (WIDTH, WIDTH), "offset": (WIDTH,)} for side in ("shape", "sketch")
    }
    state.model_state["map"] = {"shape": identity, "sketch": identity}
    rng = np.random.default_rng(0)
    sides = {
        "shape": rng.normal(2.0, 1.0, (9, WIDTH)).astype(np.float32),
        "sketch": rng.normal(-1.0, 1.0, (9, WIDTH)).astype(np.float32),
    }
    asked = []

    def data(modality, split):
        asked.append((modality, split))
        return DataSpec(modality, split, 4, transforms=(Keep((modality,)),))

    def opened(split, name=None, /):
        rows = sides[name]
        return FakeSource([0] * 9, lambda row: {name: rows[row]}, name=name, split=split)

    fitted = centring.side_means(data, opened, "train", WIDTH, ("shape", "sketch"), dict)
    assert asked == [("shape", "train"), ("sketch", "train")]
    for side, rows in sides.items():
        np.testing.assert_allclose(fitted[side]["offset"], -rows.mean(0), rtol=1e-6)
        np.testing.assert_array_equal(fitted[side]["matrix"], np.eye(WIDTH))
    alone = centring.side_means(data, opened, "train", WIDTH, ("shape",), dict)
    assert not alone["sketch"]["offset"].any() and alone["shape"]["offset"].any()
    # What it embeds passes the map of its own side, in a model that is opened to search too.
    batch = {
        "features": rng.normal(size=(2, VIEWS, 4)).astype(np.float32),
        "sketch_features": rng.normal(size=(2, 4)).astype(np.float32),
    }
    embed = jax.jit(recipe.task.embed)
    before = embed(state.params, state.model_state, batch)
    state.model_state["map"] = fitted
    after = embed(state.params, state.model_state, batch)
    for side in sides:
        np.testing.assert_allclose(
            after[side], np.asarray(before[side]) + fitted[side]["offset"][None], rtol=1e-5
        )
    variables = jax.eval_shape(recipe.model.init, jax.random.key(0))
    assert set(variables["model_state"]["map"]) == {"shape", "sketch"}
    assert recipe.calibrate is not None and recipe.meta["centred"]
    first = make(stage="shape", centred=True)
    assert set(jax.eval_shape(first.model.init, jax.random.key(0))["model_state"]["map"]) == {
        "shape"
    }
    plain = make(stage="joint")
    assert plain.calibrate is None
    assert "map" not in jax.eval_shape(plain.model.init, jax.random.key(0))["model_state"]


def test_the_projections_are_as_wide_as_the_prototypes(tmp_path):
    """A table of 12 numbers beside descriptors of 8."""
    rng = np.random.default_rng(0)
    table = tmp_path / "words.txt"
    table.write_text("".join(f"{c} {' '.join(map(str, rng.normal(size=12)))}\n" for c in CLASSES))
    words = {"name": "jax3dret.tasks.mvhgnn.prototypes:from_table", "path": str(table)}
    recipe = make(stage="joint", prototypes=words)
    state = drawn.state(recipe)
    assert state.params["shape_head"]["kernel"].shape == (WIDTH, 12)
    assert recipe.meta["embedding_dim"] == recipe.model.width == WIDTH
    assert recipe.meta["prototype_dim"] == 12
    _, metrics = jax.jit(train.make_step(recipe, 0))(state, batch_of(recipe))
    assert np.isfinite(float(metrics["sem_3d"])) and float(metrics["sem_ske"]) > 0
    # What is embedded may be the projections: a model is opened without the table.
    with pytest.raises(ConfigError, match="in the 12 numbers .* set config.prototype_dim=12"):
        make(stage="joint", prototypes=words, retrieve_with="p")
    said = {"prototypes": words, "retrieve_with": "p", "prototype_dim": 12}
    projected = make(stage="joint", **said)
    assert projected.model.width == projected.meta["embedding_dim"] == 12
    alone = experiment.model(config(**said), CLASSES)
    assert jax.eval_shape(alone.init, jax.random.key(0))["params"]["shape_head"][
        "kernel"
    ].shape == (WIDTH, 12)
    with pytest.raises(ConfigError, match="config.prototype_dim is 9, the prototypes .* have 12"):
        make(prototypes=words, prototype_dim=9)
    # Those that are made have as many as asked for.
    wide = drawn.state(make(stage="joint", prototype_dim=20))
    assert wide.params["sketch_head"]["kernel"].shape == (WIDTH, 20)


def test_the_selector_of_viewgcn_learns_from_a_loss_of_its_own():
    viewgcn = {"model__selector": "viewgcn"}
    recipe = make(stage="joint", **viewgcn)
    state, batch = drawn.state(recipe), batch_of(recipe)
    after, metrics = jax.jit(train.make_step(recipe, 0))(state, batch)
    for name in ("selector1", "selector2"):
        same = jax.tree.map(
            lambda a, b: bool((a == b).all()),
            state.params["graph"][name],
            after.params["graph"][name],
        )
        assert not any(jax.tree.leaves(same)), name
    terms = {"cls_3d", "cls_ske", "sem_3d", "sem_ske", "quad", "selector"}
    assert float(metrics["loss"]) == pytest.approx(sum(float(metrics[t]) for t in terms), rel=1e-6)
    # The class of the shape itself, over all classes of the data set, of both halves of a batch.
    made = from_config.networks_of(experiment._resolved(config(**viewgcn)), len(CLASSES))
    assert made.graph.selector_classes == len(CLASSES)
    key = streams.stream(streams.stream(0, "train", 0), "graph/selector")
    shapes = np.concatenate([batch["positive"], batch["negative"]])

    @jax.jit
    def selector_scores(shapes):
        out, _ = made.graph.apply(
            {"params": state.params["graph"], "batch_stats": state.model_state["graph"]},
            shapes,
            made.positions,
            train=True,
            mutable=["batch_stats"],
            rngs={"selector": key, "dropout": key},
            method="outputs",
        )
        return out.selector_scores

    flat = np.concatenate(
        [np.reshape(s, (len(s), -1, s.shape[-1])) for s in selector_scores(shapes)], 1
    )
    labels = np.concatenate([batch["label"], batch["negative_label"]])
    np.testing.assert_allclose(metrics["selector"], single_view(flat, labels), rtol=1e-5)
    # The second stage keeps the shapes as they are: nothing of them learns.
    assert "selector" not in one_step(make(stage="sketch", **viewgcn))[2]
    with pytest.raises(ConfigError, match="selector_classes is 7, the data set has 5 classes"):
        make(**viewgcn, model__selector_classes=7)
    alone = experiment.model(config(**viewgcn), CLASSES)
    assert jax.eval_shape(alone.init, jax.random.key(0))


def test_every_key_that_a_message_names_is_there():
    known = experiment.defaults().to_dict()
    makers = (prototypes.from_clip_text, prototypes.from_table, prototypes.orthogonal)
    takes = {name for make in makers for name in inspect.signature(make).parameters}
    sections = {key: value for key, value in known.items() if isinstance(value, dict)}
    said = 0
    for path in sorted(pathlib.Path(experiment.__file__).parent.glob("*.py")):
        texts = [
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        for key in re.findall(r"(?<!\w)config\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)", " ".join(texts)):
            first, *inner = key.split(".")
            assert first in known, f"{path.name}: config.{key}"
            fields = {
                "model": MVHGNN.__dataclass_fields__,
                "tower": PromptedVisionTower.__dataclass_fields__,
                "prototypes": takes,
            }
            names = {*sections.get(first, ()), *fields.get(first, ())}
            # A name that ends in "_" is the beginning of one.
            there = not inner or any(
                name == inner[0] or (inner[0].endswith("_") and name.startswith(inner[0]))
                for name in names
            )
            assert there, f"{path.name}: config.{key}"
            said += 1
    assert said > 30
