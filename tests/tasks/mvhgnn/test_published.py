"""The paper's rows: each column under the measure that it is."""

import dataclasses
import pathlib

import pytest

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.experiments import rows as rows_of
from jax3dret.metrics import shrec
from jax3dret.tasks.mvhgnn import experiment, from_config
from jax3dret.tasks.mvhgnn import published as paper
from jax3dret.tasks.mvhgnn.published import published, reading_of_e

# By the relation of a row's E and ST columns.
COMPLEMENT = {
    (1, "MV-HGNN", "zeroshot"),
    *((1, name, "category") for name in ("FGPointNet", "FGSpherical", "PCL", "MEHA")),
    (1, "MEHA", "zeroshot"),
    (2, "MEHA", "zeroshot"),
    (4, "w/o quad", "zeroshot"),
    (4, "all losses", "zeroshot"),
} | {(6, f"{n}", "category") for n in ("1 view", "3 views", "6 views")}
ITSELF = {
    *(
        (3, name, "category")
        for name in ("random order", "w/o local GCN", "w/o global attention", "w/o view selector")
    ),
    *((3, name, "category") for name in ("random selector", "1st level")),
    *((5, name, "category") for name in ("frozen", "all")),
    *((7, name, "category") for name in ("three_d_to_sketch", "one_stage", "two_stage")),
    (7, "one_stage", "zeroshot"),
}

CONFIG = pathlib.Path(__file__).parents[3] / "configs" / "mvhgnn_shrec13.py"
# The one key of each row, beside the setting; None: the row is the setting itself.
KEYS = {
    (3, "random order"): "model.view_order=random",
    (3, "w/o local GCN"): "model.local_graph=none",
    (3, "w/o global attention"): "model.global_attention=none",
    (3, "w/o view selector"): "model.selector=none",
    (3, "random selector"): "model.selector=random",
    (3, "average pooling"): "model.aggregator=mean",
    (3, "attention pooling"): "model.aggregator=attention",
    (3, "ViT pooling"): "model.aggregator=vit",
    (3, "1st level"): "model.levels_used=1",
    (3, "1st and 2nd level"): "model.levels_used=2",
    (3, "all levels"): None,
    (4, "w/o cls_ske"): "loss.cls_ske=false",
    (4, "w/o sem_ske"): "loss.sem_ske=false",
    (4, "w/o sem_3d"): "loss.sem_3d=false",
    (4, "w/o quad"): "loss.quad=false",
    (4, "all losses"): None,
    **{(5, name): f"tuning={name}" for name in ("frozen", "all", "layernorm")},
    (5, "vpt"): None,
    **{(6, f"{n} view{'s' * (n > 1)}"): f"views.cameras=ring{n}" for n in (1, 3, 6)},
    (6, "12 views"): None,
    **{(7, name): f"strategy={name}" for name in ("one_stage", "two_stage", "three_d_to_sketch")},
}
TERMS = {"cls_3d", "cls_ske", "sem_3d", "sem_ske", "quad"}


def stages_of(table, method, setting):
    """By stage: its networks, its terms, its tuning."""
    key = KEYS[table, method]
    config, _ = configs.load(f"{CONFIG}:{setting}", [tuple(key.split("="))] if key else [])
    found = {}
    for run in experiment.stages(config):
        losses = dataclasses.asdict(from_config.losses_of(run.config))
        found[run.config.stage] = (
            from_config.networks_of(run.config, 90),
            {name for name in TERMS if losses[name]},
            run.config.tuning,
        )
    return found


def summary(stages):
    return str(
        [
            (n.graph, n.tower, len(n.positions), sorted(on), *rest)
            for n, on, *rest in stages.values()
        ]
    )


def test_every_row_of_tables_3_to_7_is_one_key():
    every = [(table, *row) for table, rows in paper.TABLES.items() if table > 2 for row in rows]
    assert {(table, method) for table, method, _ in every} == KEYS.keys()
    for row, (key, value) in paper.ABLATIONS.items():
        assert KEYS[row] == f"{key}={str(value).lower() if isinstance(value, bool) else value}"
    found = {row: stages_of(*row) for row in every}
    full = {"all levels", "all losses", "vpt", "12 views"}
    full = {
        row
        for row in every
        if row[1] in full or row[1:] in {("two_stage", "category"), ("one_stage", "zeroshot")}
    }
    # No two every are the same experiment, but that every table has the full model of its setting.
    assert (
        len({(row[2], *found[row], summary(found[row])) for row in every})
        == len(every) - len(full) + 2
    )
    towers = {row[1]: found[row]["sketch"][0].tower for row in every if row[0] == 5}
    prompts = {name: tower.num_prompts for name, tower in towers.items()}
    assert prompts == {"frozen": 0, "all": 0, "layernorm": 0, "vpt": 3}
    assert [name for name, tower in towers.items() if tower.linear] == ["frozen"]
    assert {len(found[row]["shape"][0].positions) for row in every if row[0] == 6} == {1, 3, 6, 12}
    # Equations 13, 15 and 16, and the single stage at category level.
    for setting in ("category", "zeroshot"):
        two = {name: on for name, (_, on, _) in found[7, "two_stage", setting].items()}
        assert two == {"shape": TERMS, "sketch": TERMS}
        assert list(found[7, "three_d_to_sketch", setting]) == ["sketch_alone", "shape_to_sketch"]
    assert found[7, "one_stage", "category"]["joint"][1] == TERMS
    assert found[7, "one_stage", "zeroshot"]["joint"][1] == {"sem_3d", "sem_ske", "quad"}


def test_every_row_has_seven_metrics_that_exist():
    for table, rows in paper.TABLES.items():
        for method, setting in rows:
            (name, values), *more = published(table, method, setting).items()
            assert not more and f"table {table}" in name and "." not in name
            assert len(values) == 7 and set(values) <= set(shrec.NAMES)
            assert all(0 < value < 1 for value in values.values())
            assert values.get("ST_prec", 0) <= 0.5


def test_ten_methods_are_compared_in_both_settings():
    for table in (1, 2):
        methods = {
            s: [m for m, own in paper.TABLES[table] if own == s] for s in ("category", "zeroshot")
        }
        assert methods["category"] == methods["zeroshot"] and len(methods["category"]) == 11
        assert methods["category"][0] == "MV-HGNN"
    # One of each table as printed, the last column of one row and the first of another.
    assert published(1, "CFTTSL", "category") == {
        "CFTTSL (paper, table 1, category level)": {
            "NN": 0.753,
            "FT": 0.702,
            "ST_prec": 0.397,
            "nDCG_C": 0.717,
            "E": 0.395,
            "MRR": 0.808,
            "mAP": 0.748,
        }
    }
    assert published(2, "PCL", "zeroshot")["PCL (paper, table 2, zero-shot)"]["mAP"] == 0.434
    # A precision of the second tier is at most half of what all of it would give; a recall is not.
    assert "ST" in published(2, "MEHA", "zeroshot")["MEHA (paper, table 2, zero-shot)"]
    assert "ST_prec" in published(1, "MEHA", "zeroshot")["MEHA (paper, table 1, zero-shot)"]


def beside(variant, *settings, data="shrec13"):
    """What stands beside a run as the paper's: (row, mAP)."""
    given = [tuple(setting.split("=", 1)) for setting in settings]
    config, _ = configs.load(f"{CONFIG.parent / f'mvhgnn_{data}.py'}:{variant}", given)
    rows = experiment.stages(config)[-1].config.published.to_dict()
    return [(name.partition(" (")[0], values["mAP"]) for name, values in rows.items()]


def test_beside_a_run_stands_the_papers_number_of_that_run():
    """Of the ablation, not of the full model, and none where the paper has no such run."""
    for (table, method), key in KEYS.items():
        for setting in ("category", "zeroshot"):
            if key is None or (method, setting) not in paper.TABLES[table]:
                continue
            found = beside(setting, key)
            row = paper.TABLES[table][method, setting]
            is_full = key == f"strategy={paper.FULL_STRATEGY[setting]}"
            assert found[-1] == (method, round(row[-1] / 100, 4)) and len(found) == 1 + is_full
    assert beside("category") == [("MV-HGNN", 0.822), ("two_stage", 0.82)]
    assert beside("zeroshot") == [("MV-HGNN", 0.485), ("one_stage", 0.485)]
    assert beside("category", data="shrec14") == [("MV-HGNN", 0.66)]
    assert beside("category", "tower_weights=somewhere") == beside("category")
    for others in (
        ("model.aggregator=mean", "loss.quad=false"),
        ("model.k=5",),
        ("model.self_loop=add_identity",),
        ("train.epochs=3",),
        ("optim.lr=3e-4",),
        ("tower.num_prompts=5",),
        ("tower.name=jax3dret.models.sketch_tower:SmallResNet", "tuning=all"),
        ("cnn.name=jax3dret.models.mobilenet:MobileNetV2",),
        ("sketches.prepare=strokes",),
        ("centred=true",),
        ("loss.cls_3d=false",),
        ("loss.temperature=0.1",),
        ("prototypes.name=jax3dret.tasks.mvhgnn.prototypes:orthogonal",),
        ("model.name=jax3dret.models.view_pooling:MeanViews", "model.dim=512"),
    ):
        assert beside("category", *others) == [], others
    # Ablations are of SHREC'13, and those of the encoder and the views at category level.
    assert beside("category", "loss.quad=false", data="shrec14") == []
    assert (
        beside("zeroshot", "model.aggregator=mean")
        == beside("zeroshot", "views.cameras=ring6")
        == []
    )
    assert beside("demo") == []
    with pytest.raises(
        ConfigError, match="config.paper 'shrec15' is unknown; it is one of: shrec13"
    ):
        beside("category", "paper=shrec15")


def test_every_published_row_has_its_row_in_the_tables(tmp_path):
    """Once each, but for those of the full model, which is run once."""
    for data, numbers in (("shrec13", (1, 3, 4, 5, 6, 7)), ("shrec14", (2,))):
        config, _ = configs.load(f"{CONFIG.parent / 'tables_mvhgnn.py'}:{data}")
        runs = rows_of.plan_runs(config, tmp_path, CONFIG.parent)
        shown = [row.published for row in rows_of.read_rows(config) if row.published]
        shown += [run.config.published.to_dict() for run in runs]
        names = [name for published in shown for name in published]
        full = {("all levels", 3), ("all losses", 4), ("vpt", 5), ("12 views", 6)}
        wanted = [
            next(iter(published(number, *row)))
            for number in numbers
            for row in paper.TABLES[number]
            if (row[0], number) not in full
        ]
        assert sorted(names) == sorted(wanted)
        assert all(run.config.published for run in runs) and len(shown) == len(config.table)


def test_columns_stand_under_the_measure_that_they_are():
    found = {(t, *row): reading_of_e(t, *row) for t, rows in paper.TABLES.items() for row in rows}
    assert {row for row, reading in found.items() if reading == "E"} == COMPLEMENT
    assert {row for row, reading in found.items() if reading == "F2C"} == ITSELF
    assert published(1, "MV-HGNN", "category") == {
        "MV-HGNN (paper, table 1, category level)": {
            "NN": 0.906,
            "FT": 0.765,
            "ST_prec": 0.432,
            "nDCG_C": 0.803,
            "E": 0.356,
            "MRR": 0.943,
            "mAP": 0.822,
        }
    }
    assert published(7, "one_stage", "zeroshot") == {
        "one_stage (paper, table 7, zero-shot)": {
            "NN": 0.421,
            "FT": 0.343,
            "ST": 0.563,
            "nDCG_C": 0.529,
            "F2C": 0.375,
            "MRR": 0.563,
            "mAP": 0.485,
        }
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((8, "MV-HGNN", "category"), "1 to 7, not 8"),
        ((2, "PointNet", "category"), "no row 'PointNet'"),
        ((3, "all levels", "zeroshot"), r"no row 'all levels' \(zeroshot\)"),
    ],
)
def test_rows_that_are_not_there(row, message):
    with pytest.raises(ConfigError, match=message):
        published(*row)
