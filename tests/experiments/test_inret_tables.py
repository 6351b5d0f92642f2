"""The tables of INRet: every printed row stands in them, and rows start where they say."""

import pathlib

import pytest

from jax3dret.core import config as configs
from jax3dret.experiments import rows
from jax3dret.tasks.inret import published

FOLDER = pathlib.Path(__file__).parents[2] / "configs"


def load(variant):
    return configs.load(f"{FOLDER / 'tables_inret.py'}:{variant}")[0]


@pytest.mark.parametrize(
    "variant, dataset", [("shapenet10", "shapenet10"), ("pix3d", "pix3d"), ("paper", "shapenet10")]
)
def test_every_printed_row_is_there(variant, dataset):
    config = load(variant)
    shown = {r["name"]: r["published"] for r in config.table if "published" in r}
    for table in published.TABLES:
        for name in published.rows(table, dataset):
            expected = published.published(table, name, dataset)
            assert shown[f"paper, {table}: {name}"] == expected
    assert set(published.INCONSISTENT) <= set(config.notes)
    # What is run has no published number beside it: neither classes nor split are published.
    assert all(not r.get("published") for r in config.table if "config" in r)


@pytest.mark.parametrize("variant", ["demo", "psb", "ldraw"])
def test_small_tables_have_rows_of_every_kind(variant):
    names = [r["name"] for r in load(variant).table]
    kinds = {name.partition(":")[0] for name in names}
    assert {"SDF", "across"} <= kinds and len(set(names)) == len(names)
    assert ("distilled" in kinds) == (variant == "ldraw")
    choices = [name for name in names if "pairs" in name or "decoder" in name]
    assert len(choices) >= 6
    assert {"SDF: hash grid, untrained encoder", "SDF: PointNeXt", "SDF: View-GCN"} <= set(names)


def test_rows_that_start_from_another_do_not_train(tmp_path):
    config = load("paper")
    runs = {run.name: run for run in rows.plan_runs(config, tmp_path, FOLDER)}
    later = [run for run in runs.values() if run.starts_from]
    assert {run.starts_from for run in later} >= {"SDF: hash grid", "SDF: PointNeXt"}
    for run in later:
        trains = "View-GCN" in run.name
        assert trains or run.config.train.steps == 0, run.name
        before = runs[run.starts_from].config
        assert run.config.data.name == before.data.name == "inr_store/paper"
        if not trains:
            assert run.config.model == before.model and run.config.task == before.task
