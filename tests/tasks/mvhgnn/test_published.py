"""The paper's rows: each column under the measure that it is."""

import dataclasses
import pathlib

import pytest

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError
from jax3dret.metrics import shrec
from jax3dret.tasks.mvhgnn import experiment, from_config
from jax3dret.tasks.mvhgnn import published as paper
from jax3dret.tasks.mvhgnn.published import published, reading_of_e

# By the relation of a row's E and ST columns.
COMPLEMENT = {
    (1, "MV-HGNN", "zeroshot"),
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
    rows = [(table, *row) for table, rows in paper.TABLES.items() if table > 2 for row in rows]
    assert {(table, method) for table, method, _ in rows} == KEYS.keys()
    found = {row: stages_of(*row) for row in rows}
    full = {"all levels", "all losses", "vpt", "12 views"}
    full = {
        row
        for row in rows
        if row[1] in full or row[1:] in {("two_stage", "category"), ("one_stage", "zeroshot")}
    }
    # No two rows are the same experiment, but that every table has the full model of its setting.
    assert (
        len({(row[2], *found[row], summary(found[row])) for row in rows})
        == len(rows) - len(full) + 2
    )
    towers = {row[1]: found[row]["sketch"][0].tower for row in rows if row[0] == 5}
    prompts = {name: tower.num_prompts for name, tower in towers.items()}
    assert prompts == {"frozen": 0, "all": 0, "layernorm": 0, "vpt": 3}
    assert [name for name, tower in towers.items() if tower.linear] == ["frozen"]
    assert {len(found[row]["shape"][0].positions) for row in rows if row[0] == 6} == {1, 3, 6, 12}
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
