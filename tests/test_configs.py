"""Every variant of every config makes its recipe; every network among them traces its train step at
full size.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import pytest
from fakes import FakeSource
from weights import kinds

from jax3dret.core import config as configs
from jax3dret.core import config_file, optim, train
from jax3dret.core.types import TrainState
from jax3dret.experiments import rows
from jax3dret.models.fields import architectures
from jax3dret.models.fields.field import FUNCTIONS
from jax3dret.tasks import recipe as tasks_recipe
from jax3dret.tasks.ulip2 import datasets
from jax3dret.tasks.ulip2.published import COLUMNS, TABLE_1, TABLE_2
from jax3dret.tasks.view_cnn import graph_vertices
from jax3dret.weights.recognise import recognise

FILES = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))
ALL = [f"{path}:{variant}" for path in FILES for variant in config_file.variants(path)]
TABLES = [spec for spec in ALL if configs.load(spec)[0].task == "jax3dret.experiments.tables"]
CASES = [spec for spec in ALL if spec not in TABLES]
UNTRAINED = ("_random", "_pretrained", "_frozen", "_evaluation")
# What variants with one network may differ in: their data, time, rates, and the sizes of arrays.
BESIDE_THE_NETWORK = (
    "calibration.",
    "centred",
    "checkpoint.",
    "data.augment.",
    "data.name",
    "data.num_classes",
    "data.num_points",
    "data.published.",
    "data.query_points",
    "distance",
    "eval.",
    "evals.",
    "fields.kinds",
    "first.",
    "functions",
    "lattice.",
    "lift.",
    "log.",
    "loss.alignment",
    "loss.cls_joint",
    "loss.smoothing",
    "loss.target",
    "optim.",
    "paper",
    "prototypes.",
    "published",
    "root",
    "setting",
    "sketches.",
    "strategy",
    "train.",
    "unseen_classes",
    "views.jobs",
    "views.size",
)


def is_untrained(spec):
    return spec.endswith(UNTRAINED) or pathlib.Path(spec).name.startswith("frozen_views")


def network(spec):
    """What makes the network of a config, and the objective that trains it."""
    kept = {
        key: value
        for key, value in configs.flatten(configs.load(spec)[0].to_dict())
        if not key.startswith(BESIDE_THE_NETWORK)
    }
    return json.dumps(kept, sort_keys=True, default=str)


TRACED = list({network(spec): spec for spec in reversed(CASES)}.values())[::-1]


def described(classes, items=4000, source=None):
    """As much of a data set as a recipe looks at before training."""
    names = [f"class{i}" for i in range(classes)]
    features = ("points", "normals", "vertices", "faces")
    return FakeSource(
        class_names=names, items=items, features=features, up_axis="y", source=source or {}
    )


def inrs_of(config):
    """What the manifest of a data set says of the INRs that a config is for."""
    if "inrs" not in config:
        return {}
    made = {name: architectures.by_name(name, **dict(config.inrs[name])) for name in config.inrs}
    said = {
        name: {
            "description": architectures.describe(each),
            "layout": {"parameters": [], "structure": []},
        }
        for name, each in made.items()
    }
    return {"inrs": {"functions": list(FUNCTIONS), "architectures": said, "without": {}}}


@pytest.fixture(scope="module")
def make():
    """Makes the recipe of a variant; only the first variant of a network traces its parameters."""
    traced, trace = {}, tasks_recipe.abstract_params

    def make_recipe(spec):
        config, _ = configs.load(spec)
        classes, key = dict(config.data).get("num_classes") or 10, network(spec)

        def abstract_params(task, example, where):
            if key not in traced:
                traced[key] = trace(task, example, where)
            return traced[key]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tasks_recipe, "abstract_params", abstract_params)
            return configs.resolve_module(config.task, where="task").make(
                config, lambda split, name=None: described(classes, source=inrs_of(config))
            )

    return make_recipe


def test_there_are_configs():
    assert {p.stem for p in FILES} >= {
        "ulip2_vicreg",
        "ulip2_classify",
        "pointnet2_vicreg",
        "pointnet2_classify",
    }


@pytest.mark.parametrize("spec", CASES, ids=lambda s: pathlib.Path(s).name)
def test_a_variant_has_data_augmentations_and_a_schedule(spec, make):
    config, _ = configs.load(spec)
    if "augment" in list(config.data):
        config.data.augment.build()
    params = {"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}
    settings = {**config.optim.to_dict(), "rules": ((".*", {}),)}
    steps = config.train.steps if config.train.steps >= 0 else round(config.train.epochs * 10)
    optimizer = optim.make_optimizer(params, steps=steps, steps_per_epoch=10, **settings)
    rates = [float(optimizer.learning_rate(step)) for step in range(0, steps, max(steps // 50, 1))]
    assert steps == 0 or 0.9 * config.optim.lr < max(rates) <= 1.000001 * config.optim.lr
    assert steps > 0 or is_untrained(spec)
    assert all(0 < number < 1 for row in config.published.values() for number in row.values())
    assert not config.published or "num_classes" not in list(config.data) or config.data.num_classes
    recipe = make(spec)
    assert recipe.steps > 0 or is_untrained(spec)
    assert recipe.meta["embedding_dim"] > 0 and recipe.evaluators


@pytest.mark.parametrize("spec", TRACED, ids=lambda s: pathlib.Path(s).name)
def test_a_network_traces_at_full_size(spec, make):
    config, name = configs.load(spec)
    recipe = make(spec)
    state = train.abstract_state(recipe, 0)
    new, metrics = jax.eval_shape(train.make_step(recipe, 0), state, recipe.example)
    assert isinstance(new, TrainState)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert all(m.shape == () for m in metrics.values()) and "loss" in metrics
    batch = {
        key: jnp.zeros((2, *leaf.shape[1:]), leaf.dtype) for key, leaf in recipe.example.items()
    }
    sketches, inrs = "sketch_size" in recipe.meta, "kinds" in recipe.meta
    if sketches:
        views, size = recipe.meta["views"], recipe.meta["sketch_size"]
        cameras = len(graph_vertices(views["cameras"]))
        batch = {
            "views": jnp.zeros((2, cameras, views["size"], views["size"], 3), jnp.uint8),
            "sketch": jnp.zeros((2, size, size), jnp.uint8),
        }
    elif not inrs:
        batch.setdefault("points", jnp.zeros((2, config.data.num_points, 3)))
    embedded = jax.eval_shape(recipe.task.embed, state.params, state.model_state, batch)
    for key in set(embedded) & {"shape", "sketch", "inr"}:
        assert (
            embedded[key].shape == (2, recipe.meta["embedding_dim"])
            and embedded[key].dtype == jnp.float32
        )
    assert ("inr" if inrs else "shape") in embedded and ("sketch" in embedded) == sketches
    assert recipe.steps > 0 or is_untrained(name)
    jax.eval_shape(lambda: recipe.learning_rate(jnp.int32(0)))


@pytest.mark.parametrize("spec", TABLES, ids=lambda s: pathlib.Path(s).name)
def test_the_rows_of_a_table_are_variants_of_other_configs(spec, tmp_path):
    config, _ = configs.load(spec)
    runs = rows.plan_runs(config, tmp_path, FILES[0].parent)
    own = {row.name for row in rows.read_rows(config)}
    without = [run.name for run in runs if run.config is None]
    assert all(f"{run.spec}" in ALL for run in runs if run.config is not None) and len(
        without
    ) < len(runs)
    assert len({run.folder for run in runs}) == len(runs)
    small = spec.rpartition(":")[2] in datasets.SMALL
    for run in runs:
        assert run.config is None or run.config.data.name == config.data.name
        assert run.config is None or not small or not run.config.published
        if run.config and run.config.published and "tables_ulip2" in spec and run.name in own:
            column = datasets.PAPER[spec.rpartition(":")[2]].column
            ((name, numbers),) = run.config.published.items()
            of = run.name.partition(",")[0]  # one row of the paper may be trained in two ways
            row = (TABLE_1 | TABLE_2)[of]
            assert name.startswith(f"{of} on {column} (paper, table ")
            assert numbers["nn_acc"] == pytest.approx(row[COLUMNS.index(column)] / 100)


@pytest.mark.parametrize("variant", datasets.PAPER)
def test_every_published_number_has_its_row(variant, tmp_path):
    config, _ = configs.load(f"{FILES[0].parent / 'tables_ulip2.py'}:{variant}")
    runs = rows.plan_runs(config, tmp_path, FILES[0].parent)
    own = {row.name for row in rows.read_rows(config)}
    column = COLUMNS.index(datasets.PAPER[variant].column)
    numbers = {name: row[column] for name, row in (TABLE_1 | TABLE_2).items()}
    published = {
        run.name
        for run in runs
        if run.config is not None and run.config.published and run.name in own
    }
    twice = "ULIP2/classification, the paper's text"
    assert published == {twice, *(n for n, number in numbers.items() if number is not None)}
    text = next(run.config for run in runs if run.name == twice)
    assert (text.distance, text.train.max_steps_per_epoch) == ("cosine", 0)
    assert (text.optim.schedule.warmup_fraction, tuple(text.head.hidden)) == (0.2, (512, 256))


# A config holds its numbers itself; what the rows of a table share must not drift apart.
DATA = ("model.", "data.", "evals.retrieval.")
TIMED = (*DATA, "optim.lr", "optim.schedule.", "optim.name", "train.epochs", "train.split")
OBJECTIVE = ("objective", "loss.", "head.", "train.batch_size", "optim.weight_decay")
REPEATED = [
    (("",), ["mvhgnn_shrec13:demo", "mvhgnn_shrec14:demo"]),
    (("",), ["mvhgnn_shrec13:demo_zeroshot", "mvhgnn_shrec14:demo_zeroshot"]),
    *((DATA, [f"pointnet2_{x}:{d}" for x in ("classify", "vicreg")]) for d in datasets.SMALL),
    *((TIMED, [f"pointnet2_{x}:{d}" for x in ("classify", "vicreg")]) for d in datasets.PAPER),
    *((DATA, [f"ulip2_{x}:{d}" for x in ("vicreg", "mmcl")]) for d in datasets.SMALL),
    *((DATA, [f"ulip2_{x}:{d}" for x in ("vicreg", "classify")]) for d in ("demo", "psb")),
    *((TIMED, [f"ulip2_{x}:{d}_scratch" for x in ("vicreg", "classify")]) for d in datasets.PAPER),
    *((TIMED, [f"ulip2_{x}:{d}" for x in ("vicreg", "mmcl")]) for d in [*datasets.PAPER][:5]),
    *((TIMED, [f"ulip2_vicreg:{d}", f"ulip2_classify:{d}_paper_finetune"]) for d in datasets.PAPER),
    (("",), ["ulip2_classify:paper_finetune", "ulip2_classify:modelnet40_paper_finetune"]),
    (TIMED, [f"ulip2_{x}:paper" for x in ("vicreg", "mmcl", "classify")]),
    (TIMED, [f"ulip2_{x}:paper_finetune" for x in ("vicreg", "mmcl", "classify")]),
    (DATA + OBJECTIVE, ["ulip2_vicreg:demo", "ulip2_schedules:demo_vicreg_cosine"]),
    (DATA + OBJECTIVE, ["ulip2_classify:demo", "ulip2_schedules:demo_classification_cosine"]),
    (TIMED + OBJECTIVE, ["ulip2_vicreg:paper_finetune", "ulip2_schedules:vicreg_warmup_cosine"]),
    (
        TIMED + OBJECTIVE,
        ["ulip2_classify:paper_finetune", "ulip2_schedules:classification_warmup_cosine"],
    ),
]


def test_what_configs_repeat_is_the_same():
    for keys, specs in REPEATED:
        first, *others = (
            {key: value for key, value in settings(spec) if key.startswith(keys)} for spec in specs
        )
        assert first and all(other == first for other in others), (keys, specs)


def settings(spec):
    config, _ = configs.load(str(FILES[0].parent / spec.replace(":", ".py:")))
    return configs.flatten(config.to_dict())


def test_ulip2s_weights_as_they_came_are_grouped_as_they_were_made():
    # The rest follows the published code for fine-tuning, whose sampling leaves out no point.
    started = {
        spec: configs.load(spec)[0].model.build().fps_start_eval
        for spec in CASES
        if "ulip2_" in spec
    }
    skips = {spec for spec, start in started.items() if start != "zero"}
    assert len(skips) == len(datasets.PAPER) and {started[spec] for spec in skips} == {
        "pointnet2_ops"
    }
    assert all(spec.endswith("_pretrained") for spec in skips)
    assert (
        recognise(kinds.shapes_alone(kinds.ulip())).parts[0].fields["fps_start_eval"]
        == "pointnet2_ops"
    )


def test_the_view_based_baselines_train_as_published():
    def load(spec):
        return configs.load(str(FILES[0].parent / spec.replace(":", ".py:")))[0]

    stages = {"viewgcn_classify": ("gcn/.*",), "mvtn_classify": ("gcn/.*", "mvtn/.*")}
    for name, fresh in stages.items():
        for data in [v for v in datasets.PAPER if v != "modelnet40"] + ["paper"]:
            if (name, data) == ("viewgcn_classify", "scanobjectnn"):
                continue  # scans have no meshes
            first, second = load(f"{name}:{data}_single_view"), load(f"{name}:{data}")
            assert second.checkpoint.init_from == f"runs/{name}_{data}_single_view"
            assert tuple(second.checkpoint.fresh) == fresh
            assert (first.train.epochs, first.optim.lr, second.optim.lr) == (30, 1e-2, 1e-3)
            assert first.optim.schedule.to_dict()["every"] == 10 and not first.published
            assert second.model.softmax == "views" and second.published
            if name == "viewgcn_classify":
                assert second.model.fps_start_eval == "random"
            else:
                drawn = ("points", 1.0) if data == "scanobjectnn" else ("meshes", 2.2)
                assert (second.render.kind, second.mvtn.distance) == drawn
                assert (first.render.kind, first.mvtn.distance) == drawn
                assert (first.mvtn.views, second.mvtn.views) == ("spherical", "learned_spherical")


def test_paper_variants_have_the_published_size():
    sizes = {}
    for name in ("ulip2_classify", "pointnet2_classify"):
        config, _ = configs.load(f"{FILES[0].parent / name}.py:paper")
        recipe = configs.resolve_module(config.task, where="task").make(
            config, lambda split, name=None: described(40)
        )
        sizes[name] = recipe.meta["parameters"]
    assert sizes == {"ulip2_classify": 21_858_816, "pointnet2_classify": 1_465_408}


def test_the_papers_text_is_followed_data_set_by_data_set():
    # Section 4.2: which shapes are turned in training; section 4.4: the size of a batch. A variant
    # that is the published code's (ulip2_classify:mcb) has settings of its own.
    turned = {
        "modelnet40": "",
        "shapenet_normal": "",
        "shapenet_perturbed": "xyz",
        "mcb": "xyz",
        "objaverse_easy": "",
    }
    turned["scanobjectnn"] = "y"
    batches = {
        "ulip2_classify": 64,
        "ulip2_vicreg": 48,
        "pointnet2_classify": 64,
        "pointnet2_vicreg": 128,
    }
    assert turned.keys() == datasets.PAPER.keys()
    for name, batch in batches.items():
        scratch = "_scratch" if name.startswith("ulip2") else ""
        tuned = {f"{d}_paper_finetune": axes for d, axes in turned.items()}
        more = {"paper": ""} | (tuned if name == "ulip2_classify" else {})
        for dataset, axes in (turned | more).items():
            variant = dataset if dataset in more else dataset + scratch
            config, _ = configs.load(f"{FILES[0].parent / name}.py:{variant}")
            assert config.data.augment.to_dict() == {
                "name": "jax3dret.data.points:paper_augmentations",
                "rotate": axes,
            }
            assert (config.train.batch_size, config.distance) == (batch, "cosine"), (
                name,
                variant,
            )
    published, _ = configs.load(f"{FILES[0].parent / 'ulip2_classify'}.py:objaverse_easy")
    assert (published.train.batch_size, published.distance) == (32, "euclidean")
