"""A table of runs, with children that write what a run writes: what is run, what is missing, what
stands beside what.
"""

from __future__ import annotations

import html.parser
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import threading
import time

import pytest

from jax3dret import main, run
from jax3dret.core import config as configs
from jax3dret.core import lock
from jax3dret.core.command import Command
from jax3dret.core.types import ConfigError, DataError
from jax3dret.experiments import results, rows, tables
from jax3dret.experiments.children import Children, Ended
from jax3dret.report import table

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
TABLES = f"{CONFIGS}/tables_ulip2.py"
# What a manifest says of ModelNet40: `source`, and the records and points of the splits.
COMPLETE = {
    "complete": True,
    "kind": "off",
    "items": {"train": 9843, "test": 2468},
    "points": 16_000,
}


class Fake(Children):
    """Leaves what a finished run leaves. accuracy: of a run by folder name. ends: code and line of
    runs that fail.
    """

    def __init__(
        self,
        accuracy=None,
        ends=None,
        source=COMPLETE,
        stop_at=None,
        number="SIGTERM",
        evaluate=True,
    ):
        super().__init__()
        self.accuracy, self.ends, self.source, self.evaluate = (
            accuracy or {},
            ends or {},
            source,
            evaluate,
        )
        self.stop_at, self.number = stop_at, number
        self.started, self.modes = [], []

    def __call__(self):
        self.signal = ""
        return self

    def run(self, command, log):
        flags = dict(word.removeprefix("--").split("=", 1) for word in command[3:])
        folder = pathlib.Path(flags["workdir"])
        self.started.append(folder.name)
        if folder.name in self.ends:
            return self.ends[folder.name]
        overrides = [
            (k.removeprefix("config."), v) for k, v in flags.items() if k.startswith("config.")
        ]
        config, name = configs.load(flags["config"], overrides)
        write(folder / "config.json", json.loads(configs.dump(config)))
        if folder.name == self.stop_at:
            (folder / "checkpoints" / "7").mkdir(parents=True)
            self.signal = self.number
            return Ended(0 if self.number == "SIGTERM" else 1, "")
        steps = 0 if name.endswith("_random") else 100
        (folder / "checkpoints" / str(steps)).mkdir(parents=True, exist_ok=True)
        self.modes.append(flags.get("mode", "train_and_eval"))
        finish(folder, config, name, self.accuracy.get(folder.name, 0.5), steps, self.source)
        return Ended(0, "")


def finish(folder, config, name, accuracy, steps=100, source=COMPLETE):
    source = dict(source)
    items, points = source.pop("items"), source.pop("points")
    splits = {split: {"items": n, "points": [points, points]} for split, n in items.items()}
    manifest = {"name": config.data.name, "source": source, "splits": splits}
    write(folder / "manifest.json", manifest)
    summary = {"config": name, "steps": steps, "planned_steps": steps}
    write(folder / "summary.json", {**summary, "evaluators": ["retrieval", "own_picture"]})
    write(
        folder / "report" / "metrics.json",
        {
            "system": "mvhgnn" if "mvhgnn" in name else "ulip2",
            "run": {
                "command": "c",
                "seed": 0,
                "date": "2001-02-03",
                "device": "1 x cpu",
                "version": "0",
            },
            "metrics": {
                "nn_acc": accuracy,
                "nn_f1": accuracy / 2,
                "ndcg_100": None,
                "index_recall_at_10": 1.0,
            },
            "about": {
                "nn_acc": {"title": "Nearest-neighbour accuracy", "meaning": "right at rank one"},
                "nn_f1": {"title": "Macro F1", "meaning": "F1, mean over classes"},
            },
            **({"spread": {"nn_acc": 0.02}} if len(config.eval.seeds) > 1 else {}),
            "evaluators": {"own_picture": {"recall_1": 0.25}},
            "dataset": {
                "name": config.data.name,
                "version": "1.0.0",
                "splits": "s",
                "items": {"query": 3},
            },
            "protocol": {
                "distance": config.distance,
                "self_match": "disjoint",
                "ties": "index",
                **({"evaluation_seeds": config.eval.seeds} if config.eval.seeds else {}),
                "search": "tree_ah"
                if config.evals.retrieval.index.scoring == "tree_ah"
                else "exact",
                **({"pictures": "meshes"} if "mmcl" in name else {}),
            },
            "encoder": {"num_points": 512, "parameters": 1000, "weights": f"as made for {name}"},
            "timing": {"train_s": 2.0},
        },
    )
    (folder / "report" / "index.html").write_text("<p>")


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


class Table:
    """A table's command, without data sets and without processes."""

    def __init__(
        self,
        workdir,
        variant="demo",
        children=None,
        mode="train_and_eval",
        prepare=None,
        spec=TABLES,
        **given,
    ):
        overrides = [(key, str(value)) for key, value in given.items()]
        spec = f"{spec}:{variant}"
        self.config, name = configs.load(spec, overrides)
        self.command = Command(spec, name, self.config, tuple(overrides), workdir, mode)
        self.workdir, self.children, self.prepared = workdir, children or Fake(), []
        self.prepare = prepare or (lambda config: self.prepared.append(config.data.name))
        self.code = None

    def run(self):
        self.code = tables.start(self.command, prepare_data=self.prepare, children=self.children)
        return self

    @property
    def rows(self):
        table = json.loads((self.workdir / "table.json").read_text())
        return {row["name"]: row for row in table["rows"]}


@pytest.fixture(autouse=True)
def no_prepared_data(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing_prepared"))


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """The demo with three seeds."""
    accuracy = {
        "small_pointbert_random": 0.5,
        "small_pointbert_random-seed1": 0.6,
        "small_pointbert_random-seed2": 0.7,
    }
    return Table(
        tmp_path_factory.mktemp("t") / "seeded", children=Fake(accuracy), seeds=(0, 1, 2)
    ).run()


def test_rows_run_in_order_once_for_each_seed(seeded):
    assert seeded.code == 0 and seeded.prepared == ["parametric_shapes/demo"]
    rows = ["small_pointnetpp_random", "small_pointbert_random"]
    rows += ["small_pointnetpp_classification_16_epochs", "small_pointbert_classification_8_epochs"]
    assert seeded.children.started == [
        row + seed for row in rows for seed in ("", "-seed1", "-seed2")
    ]


def test_mean_and_sample_deviation_over_seeds(seeded):
    row = seeded.rows["small PointBERT/random"]
    assert row["status"] == "done" and row["metrics"]["nn_acc"]["mean"] == pytest.approx(0.6)
    assert row["metrics"]["nn_acc"]["sd"] == pytest.approx(0.1)  # 0.0816 were it not of a sample
    assert row["metrics"]["nn_acc"]["values"] == [0.5, 0.6, 0.7] and row["protocol"]["seeds"] == [
        0,
        1,
        2,
    ]
    assert "ndcg_100" not in row["metrics"]  # undefined in a run: no mean
    assert (
        row["protocol"]["distance"] == "cosine"
        and row["protocol"]["points"] == 512
        and row["protocol"]["steps"] == 0
    )
    assert (
        row["protocol"]["batch"] is None
        and row["protocol"]["weights"] == "as made for ulip2_vicreg:demo_random"
    )
    short = seeded.rows["small PointBERT/classification, 8 epochs"]["protocol"]
    assert short["batch"] == 32 and short["schedule"] == {
        "name": "warmup_cosine",
        "warmup_fraction": 0.1,
    }


def test_what_the_demo_leaves_out_says_how_it_is_run(seeded, capsys):
    row = seeded.rows["small PointBERT/vicreg"]
    assert row["status"] == "left out" and row["metrics"] == {}
    assert re.search(
        r"python -m jax3dret.main --config=\S*ulip2_vicreg.py:demo --workdir=\S*/rows/",
        row["command"],
    )


def test_a_finished_table_starts_nothing(seeded, capsys, caplog):
    caplog.set_level("INFO", "jax3dret")
    before = (seeded.workdir / "report" / "index.html").read_bytes()
    again = Table(seeded.workdir, children=Fake(), seeds=(0, 1, 2)).run()
    assert again.code == 0 and again.children.started == [] and again.prepared == []
    assert "this table is finished" in caplog.text
    assert (seeded.workdir / "report" / "index.html").read_bytes() == before
    assert "small PointBERT/random" in capsys.readouterr().out


def test_two_commands_do_not_run_one_table(tmp_path):
    with lock.held(tmp_path):
        with pytest.raises(DataError, match="another command is writing there"):
            Table(tmp_path, rows="PointBERT/random").run()
        assert not (tmp_path / "config.json").exists()
        # Looking at what is done so far goes beside it.
        assert Table(tmp_path, rows="PointBERT/random", collect=True).run().code == 1
    assert (tmp_path / "table.json").is_file()
    assert Table(tmp_path, rows="PointBERT/random").run().code == 0


def test_one_seed_has_no_deviation_and_more_seeds_keep_it(tmp_path):
    first = Table(tmp_path, rows="PointBERT/random").run()
    assert first.rows["small PointBERT/random"]["metrics"]["nn_acc"]["sd"] is None
    more = Table(tmp_path, rows="PointBERT/random", seeds=(0, 4)).run()
    assert more.children.started == ["small_pointbert_random-seed4"]
    assert len(more.rows["small PointBERT/random"]["runs"]) == 2


def test_several_evaluations_of_one_training_have_a_spread(tmp_path, capsys):
    given = {"rows": "PointBERT/random", "every_row": ("eval.seeds=(0, 1)",)}
    several = Table(tmp_path, **given).run()
    row = several.rows["small PointBERT/random"]
    assert row["metrics"]["nn_acc"]["sd"] == 0.02 and row["metrics"]["nn_f1"]["sd"] is None
    assert row["protocol"]["evaluation_seeds"] == [0, 1] and row["protocol"]["seeds"] == [0]
    assert "50.0 +- 2.0" in capsys.readouterr().out
    page = (tmp_path / "report" / "index.html").read_text()
    assert "± is the standard deviation over evaluations of one training" in page
    # Evaluated otherwise, the row is not done; evaluating it again is enough.
    other = Table(tmp_path / "t", rows="PointBERT/random").run()
    assert other.code == 0
    stale = Table(tmp_path / "t", **given, collect=True).run()
    assert "another config: eval.seeds: [] there" in stale.rows["small PointBERT/random"]["status"]
    again = Table(tmp_path / "t", **given, mode="eval").run()
    assert again.children.modes == ["eval"] and again.code == 0
    assert again.rows["small PointBERT/random"]["metrics"]["nn_acc"]["sd"] == 0.02


def test_a_failed_child_is_a_failed_row_and_is_tried_again(tmp_path):
    bad = Fake(ends={"small_pointnetpp_random": Ended(1, "step 3: loss is nan")})
    table = Table(tmp_path, children=bad).run()
    assert table.code == 1 and len(bad.started) == 4
    row = table.rows["small PointNet++/random"]
    assert row["status"] == "failed: step 3: loss is nan" and row["metrics"] == {}
    assert table.rows["small PointBERT/random"]["status"] == "done"
    again = Table(tmp_path).run()
    assert again.code == 0 and again.children.started == ["small_pointnetpp_random"]
    assert again.rows["small PointNet++/random"]["status"] == "done"


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 0), ("SIGINT", 1)])
def test_an_interrupted_table_stops_and_goes_on(tmp_path, caplog, number, code):
    caplog.set_level("INFO", "jax3dret")
    table = Table(tmp_path, children=Fake(stop_at="small_pointbert_random", number=number)).run()
    assert table.code == code and table.children.started == [
        "small_pointnetpp_random",
        "small_pointbert_random",
    ]
    assert f"{number}: the runs are saved; the same command goes on from there" in caplog.text
    assert (
        table.rows["small PointBERT/random"]["status"] == "missing: not finished, saved at step 7"
    )
    again = Table(tmp_path).run()
    assert (
        again.code == 0
        and again.children.started[0] == "small_pointbert_random"
        and len(again.children.started) == 3
    )


def test_missing_weights_are_listed_before_anything_runs(tmp_path, caplog):
    children = Fake()

    def prepare(config):
        assert not children.started

    table = Table(tmp_path, "modelnet40", children, prepare=prepare).run()
    assert table.code == 0 and "these rows cannot be run" in caplog.text
    assert "pointnetpp_random" in children.started and not [
        s for s in children.started if s.startswith("ulip2")
    ]
    state = table.rows["ULIP2/pretrained"]["status"]
    assert (
        state.startswith("missing: weights: ") and "jax3dret weights import FILE --out DIR" in state
    )
    assert "--config.needs.merges=FILE" in table.rows["PointBERT/mmcl"]["status"]
    assert (
        "View-GCN/single views, from which it starts"
        in table.rows["View-GCN/classification"]["status"]
    )


def test_given_weights_go_where_each_row_takes_them(tmp_path):
    (tmp_path / "w" / "checkpoints").mkdir(parents=True)
    (tmp_path / "c.jsonl").write_text("")
    given = dict.fromkeys(("weights", "slip"), tmp_path / "w") | dict.fromkeys(
        ("merges", "captions"), tmp_path / "c.jsonl"
    )
    given = {f"needs.{name}": path for name, path in given.items()}
    table = Table(tmp_path / "t", "modelnet40", rows="ULIP2/", **given)
    runs = rows.plan_runs(table.config, tmp_path, CONFIGS)
    mmcl = next(run for run in runs if run.name == "ULIP2/mmcl")
    assert mmcl.config.views.folder == "" and not mmcl.problem
    own = {**given, "needs.renders": tmp_path}
    asked = Table(tmp_path / "t", "modelnet40", rows="ULIP2/", **own).config
    runs_of_own = rows.plan_runs(asked, tmp_path, CONFIGS)
    assert next(r for r in runs_of_own if r.name == mmcl.name).config.views.folder == str(tmp_path)
    gone = {**given, "needs.renders": tmp_path / "gone"}
    asked = Table(tmp_path / "t", "modelnet40", rows="ULIP2/", **gone).config
    lacking = next(r for r in rows.plan_runs(asked, tmp_path, CONFIGS) if r.name == mmcl.name)
    assert "renders: textured renders" in lacking.problem and "gone" in lacking.problem
    assert mmcl.config.checkpoint.init_from == str(tmp_path / "w") == mmcl.config.towers.weights
    assert mmcl.config.captions.to_dict() == {
        "name": "jax3dret.data.captions:from_jsonl",
        "path": str(tmp_path / "c.jsonl"),
    }
    table.run()
    assert {r["status"] for r in table.rows.values() if r["name"].startswith("ULIP2/")} == {"done"}
    assert table.rows["ULIP2/mmcl"]["protocol"]["weights"].endswith(
        f"; towers.weights {tmp_path / 'w'}; "
        f"towers.merges {tmp_path / 'c.jsonl'}; captions.path {tmp_path / 'c.jsonl'}"
    )
    protocol = table.rows["ULIP2/classification"]["protocol"]
    assert protocol["schedule"]["name"] == "one_cycle" and protocol["pictures"] is None
    assert table.rows["ULIP2/mmcl"]["protocol"]["pictures"] == "meshes"
    page = (tmp_path / "t" / "report" / "index.html").read_text()
    assert ">pictures</th>" in page and "<td>meshes</td>" in page
    moved = Table(
        tmp_path / "t",
        "modelnet40",
        rows="ULIP2/",
        **{**given, "needs.weights": tmp_path},
        collect=True,
    )
    assert f"; not found in {tmp_path}" in moved.run().rows["ULIP2/pretrained"]["status"]
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    other = Table(
        tmp_path / "t",
        "modelnet40",
        rows="ULIP2/",
        **{**given, "needs.weights": tmp_path / "other"},
        collect=True,
    )
    assert (
        "holds a run of another config: checkpoint.init_from"
        in other.run().rows["ULIP2/pretrained"]["status"]
    )


def test_missing_raw_data_stops_every_row_and_is_the_command_s_fault(tmp_path):
    def prepare(config):
        raise ConfigError(
            "modelnet/10 is not prepared and needs its raw files: give manual_dir. <where>"
        )

    table = Table(tmp_path, "modelnet10", prepare=prepare)
    with pytest.raises(
        ConfigError, match="no row can be run; the first lacks: data: modelnet/10 is not prepared"
    ):
        table.run()
    assert table.children.started == []
    assert "give manual_dir. <where>" in table.rows["small PointBERT/random"]["status"]
    assert "&lt;where&gt;" in (tmp_path / "report" / "index.html").read_text()


def test_data_of_another_number_of_classes_is_not_the_paper_s(tmp_path):
    manifest = {"name": "mcb", "class_names": [f"c{i}" for i in range(60)]}
    folder = tmp_path / "data" / "mcb" / "1.0.0"
    write(folder / "manifest.json", manifest)
    write(folder / "dataset_info.json", {})
    table = Table(tmp_path / "t", "mcb", **{"data.data_dir": tmp_path / "data"}, rows="random")
    with pytest.raises(ConfigError, match="has 60 classes, this row's data set 68"):
        table.run()
    small = Table(
        tmp_path / "s", "ldraw", **{"data.data_dir": tmp_path / "data"}, rows="random"
    ).run()
    assert small.code == 0 and len(small.children.started) == 2


def test_a_data_set_without_a_variant_says_so(tmp_path):
    rows = Table(tmp_path, "scanobjectnn", rows="View-GCN|PointBERT/random").run().rows
    assert "no variant for this data set" in rows["View-GCN/classification"]["status"]
    assert rows["View-GCN/classification"]["command"] == ""


def test_published_numbers_stand_beside_the_paper_s_rows_alone(tmp_path):
    full = (
        Table(
            tmp_path / "full",
            "modelnet40",
            Fake({"pointbert_random": 0.8}),
            rows="PointBERT/random",
        )
        .run()
        .rows
    )
    assert list(full["PointBERT/random"]["published"].values()) == [{"nn_acc": pytest.approx(0.78)}]
    assert full["PointBERT/random"]["difference"] == {"nn_acc": pytest.approx(0.02)}
    for variant in ("demo", "modelnet10", "ldraw", "psb"):
        rows = Table(tmp_path / variant, variant, rows=".").run().rows
        assert not any(row["published"] or row["difference"] for row in rows.values())
        page = (tmp_path / variant / "report" / "index.html").read_text()
        assert "Published numbers" not in page and "the paper has no numbers for them" in page


@pytest.mark.parametrize(
    ("source", "every", "stands"),
    [
        (COMPLETE, (), True),
        ({**COMPLETE, "items": {"train": 9843, "test": 2460}}, (), True),
        # All the files that a list names were there; that is not asked.
        ({**COMPLETE, "items": {"train": 9843, "test": 40}}, (), False),
        (COMPLETE, ("eval.batch_size=8", "eval.seeds=(1, 2)"), True),
        (COMPLETE, ("model.remat=True",), True),
        (COMPLETE, (("PointBERT", "train.batch_size=8"),), True),
        (COMPLETE, (("random", "train.batch_size=8"),), False),
        (COMPLETE, ("eval.batch_size=8", "train.batch_size=8"), False),
    ],
)
def test_a_published_number_needs_the_published_data_and_settings(tmp_path, source, every, stands):
    row = (
        Table(
            tmp_path,
            "modelnet40",
            Fake(source=source),
            rows="PointNet\\+\\+/random",
            every_row=every,
        )
        .run()
        .rows
    )
    row = row["PointNet++/random"]
    assert bool(row["published"]) is stands is bool(row["difference"])
    assert stands or "The paper's number is left out" in row["notes"][-1]
    assert bool(row["differs"]) is (stands and source is not COMPLETE)


def test_what_differs_stands_beside_the_published_number(tmp_path, capsys):
    hdf5 = {**COMPLETE, "kind": "pointnet_hdf5", "points": 2048}
    given = {"rows": "PointBERT/random|PointNet\\+\\+/random"}
    rows = Table(tmp_path, "modelnet40", Fake(source=hdf5), **given).run().rows
    row = rows["PointBERT/random"]
    assert row["difference"] and row["differs"] == [
        "clouds of 2,048 points, of which 8,192 are drawn with replacement, instead of 16,000",
        "made from pointnet_hdf5, instead of off or cached_clouds",
    ]
    said = capsys.readouterr().out
    assert "78.0*" in said and "* PointBERT/random: the published number is not of this" in said
    page = (tmp_path / "report" / "index.html").read_text()
    note = "The paper’s number is of other data".replace("’", "&#x27;")
    assert re.search(r"78\.0 ⚠<sup>\d</sup>", page) and note in page
    # 2,048 points are what this network is given: nothing is drawn twice.
    assert rows["PointNet++/random"]["differs"][0] == "clouds of 2,048 points, instead of 16,000"
    report = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert next(r for r in report["rows"] if r["name"] == "PointBERT/random")["differs"]


def test_settings_go_to_the_rows_that_a_pattern_finds_and_have_the_key(tmp_path, caplog):
    (tmp_path / "w" / "checkpoints").mkdir(parents=True)
    given = {"rows": "random|View-GCN|MVTN", "needs.cnn_weights": tmp_path / "w"}
    plain = Table(tmp_path / "t", "modelnet40", **given).run()
    every = ("model.remat=True", ("View|MVTN", "train.batch_size=5"), ("/random", "data.up_axis=y"))
    table = Table(tmp_path / "u", "modelnet40", every_row=every, **given)
    runs = {run.name: run for run in rows.plan_runs(table.config, tmp_path, CONFIGS)}
    graph, points = runs["View-GCN/classification"], runs["PointBERT/random"]
    assert points.config.model.remat is True and "remat" not in graph.config.model
    # A pattern finds rows and the runs that they start from.
    assert {
        graph.config.train.batch_size,
        runs["View-GCN/single views"].config.train.batch_size,
    } == {5}
    assert points.config.train.batch_size != 5
    assert points.config.data.up_axis == "y" and graph.config.data.up_axis == ""
    assert ("model.remat", "True") not in graph.overrides
    shown = table.run().rows
    assert table.code == 0 and table.children.started == plain.children.started
    note = "Without the setting model.remat=True: its config has no such key."
    assert note in shown["View-GCN/classification"]["notes"]
    assert note not in shown["PointBERT/random"]["notes"]
    assert "model.remat=True is no setting of View-GCN/single views, View-GCN/clas" in caplog.text
    assert shown["PointBERT/random"]["published"] == {}  # data.up_axis may change a result
    # Recomputing changes no result, so that what is there counts.
    again = Table(tmp_path / "t", "modelnet40", every_row=("model.remat=True",), **given).run()
    assert again.code == 0 and again.children.started == []
    assert again.rows["PointBERT/random"]["published"]


def test_a_stage_has_no_published_number(tmp_path):
    (tmp_path / "w" / "checkpoints").mkdir(parents=True)
    given = {"rows": "View-GCN/class", "needs.cnn_weights": tmp_path / "w"}
    table = Table(tmp_path / "t", "modelnet40", **given).run()
    assert table.children.started == ["view_gcn_single_views", "view_gcn_classification"]
    assert "View-GCN/single views" not in table.rows  # a run that it starts from, no row
    page = (tmp_path / "t" / "report" / "index.html").read_text()
    assert "rows/view_gcn_single_views/report/index.html" in page
    assert table.rows["View-GCN/classification"]["command"].count("python -m") == 2
    assert list(table.rows["View-GCN/classification"]["published"].values()) == [
        {"nn_acc": pytest.approx(0.931)}
    ]
    (tmp_path / "t").rename(tmp_path / "moved")
    moved = Table(tmp_path / "moved", "modelnet40", **given).run()
    assert moved.code == 0 and moved.children.started == []


def test_a_row_is_not_started_where_the_one_before_it_failed(tmp_path):
    (tmp_path / "w" / "checkpoints").mkdir(parents=True)
    children = Fake(ends={"view_gcn_single_views": Ended(-9, "ended by SIGKILL")})
    given = {"rows": "View-GCN", "needs.cnn_weights": tmp_path / "w"}
    table = Table(tmp_path / "t", "modelnet40", children, **given).run()
    assert table.code == 1 and children.started == ["view_gcn_single_views"]
    status = table.rows["View-GCN/classification"]["status"]
    assert status == "failed: View-GCN/single views, from which it starts (ended by SIGKILL)"


def test_collect_takes_what_is_finished_and_runs_nothing(tmp_path):
    assert Table(tmp_path, collect=True).run().code == 1
    config, name = configs.load(f"{CONFIGS}/ulip2_vicreg.py:demo_random")
    folder = tmp_path / "rows" / "small_pointbert_random"
    write(folder / "config.json", json.loads(configs.dump(config)))
    finish(folder, config, name, 0.4, 0)
    table = Table(tmp_path, collect=True).run()
    assert table.code == 0 and table.children.started == [] and table.prepared == []
    assert table.rows["small PointBERT/random"]["metrics"]["nn_acc"]["mean"] == 0.4
    assert table.rows["small PointNet++/random"]["status"] == "missing: not run yet"


def test_a_run_of_another_config_or_one_evaluated_too_early_is_no_row(tmp_path):
    config, name = configs.load(f"{CONFIGS}/ulip2_vicreg.py:demo_random", [("model.depth", "3")])
    folder = tmp_path / "rows" / "small_pointbert_random"
    write(folder / "config.json", json.loads(configs.dump(config)))
    finish(folder, config, name, 0.4, 0)
    rows = Table(tmp_path, collect=True).run().rows
    assert (
        "holds a run of another config: model.depth: 3 there, 2 here"
        in rows["small PointBERT/random"]["status"]
    )
    config, name = configs.load(f"{CONFIGS}/ulip2_vicreg.py:demo_random")
    write(folder / "config.json", json.loads(configs.dump(config)))
    write(folder / "summary.json", {"steps": 5, "planned_steps": 8})
    rows = Table(tmp_path, collect=True).run().rows
    assert rows["small PointBERT/random"]["status"].startswith("missing: not finished")
    (folder / "report" / "metrics.json").write_text('{"metrics": ')
    assert Table(tmp_path, collect=True).run().rows["small PointBERT/random"]["metrics"] == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rows": "("}, "not a regular expression"),
        ({"rows": "PointBurt"}, "finds none of the rows: small PointNet"),
        ({"seeds": ()}, "give distinct whole numbers"),
        ({"seeds": (0, 0)}, "give distinct whole numbers"),
        ({"seeds": (-1,)}, "give distinct whole numbers"),
        ({"every_row": ("train.steps",)}, "not of the form KEY=VALUE"),
        ({"every_row": ("train.stesp=8",)}, "did you mean 'train.steps'"),
        ({"every_row": (("PointNet", "model.dept=8"),)}, "no row takes 'model.dept'"),
        ({"every_row": (("PointBurt", "train.steps=8"),)}, "'PointBurt' finds none of the rows"),
        ({"every_row": (("(", "train.steps=8"),)}, "'(' is not a regular expression"),
        ({"every_row": (("a", "b", "c"),)}, "is not a pair"),
        ({"every_row": ("train.steps=many",)}, "train.steps=many: not of type int"),
        ({"needs.cnn_weights": "x"}, "config.needs.cnn_weights: no row needs it"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, given, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        Table(tmp_path / "t", **given).run()
    assert not (tmp_path / "t").exists()


def test_another_table_s_folder_is_refused(tmp_path):
    Table(tmp_path, collect=True).run()
    with pytest.raises(
        ConfigError, match="holds another table: tables_ulip2:demo there, tables_ulip2:psb here"
    ):
        Table(tmp_path, "psb").run()


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.scripts = [], [], 0
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.links += [dict(attrs)["href"]] if tag == "a" else []
        self.scripts += tag == "script"
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_escapes_what_it_is_given_and_links_to_the_runs(seeded, tmp_path):
    page = Page((seeded.workdir / "report" / "index.html").read_text())
    links = [link for link in page.links if not link.startswith("#")]
    assert links and all((seeded.workdir / "report" / link).resolve().is_file() for link in links)
    evil = "<script>alert('x')</script>"
    values = json.loads((seeded.workdir / "table.json").read_text())
    values["title"], values["notes"], values["config"] = evil, [evil], evil
    for row in values["rows"]:
        row.update({"name": evil, "notes": [evil], "status": f"failed: {evil}", "command": evil})
        row["protocol"] = row["protocol"] and {**row["protocol"], "weights": evil, "config": evil}
        row["published"] = {evil: {"nn_acc": 0.5}}
        row["about"] = {"nn_acc": {"title": evil, "meaning": evil}}
    write(tmp_path / "table.json", values)
    text = table.write_report(tmp_path).read_text()
    assert Page(text).scripts == 1 and evil not in text and "&lt;script&gt;" in text
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org/2000/svg", "", text)


def test_all_metrics_hold_every_published_number_of_a_row_that_is_not_run():
    measured = {"mean": 0.61, "sd": None}
    ours = {"name": "ours", "status": "done", "metrics": {"a/b": measured}, "published": {}}
    theirs = {"x (paper)": {"hit_rate_1": 0.825, "hit_rate_1_all": 0.34}}
    paper = {"name": "paper, none", "status": "published", "metrics": {}, "published": theirs}
    failed = {**paper, "name": "left", "status": "left out"}
    text = table._all_metrics({"rows": [ours, paper, failed]})
    assert ">34.0<" in text and ">82.5<" in text and ">61.0<" in text and ">paper, none<" in text
    assert ">left<" not in text


def test_metrics_json_has_the_form_of_every_report(seeded):
    report = json.loads((seeded.workdir / "report" / "metrics.json").read_text())
    keys = "system config dataset encoder protocol metrics published index timing run rows"
    assert report.keys() == set(keys.split()) and report["system"] == "ulip2"
    assert report["metrics"]["small PointBERT/random/nn_acc"] == pytest.approx(0.6)
    assert report["run"]["date"] == "2001-02-03" and report["run"]["seed"] == [0, 1, 2]
    assert "--config=" in report["run"]["command"] and report["run"]["device"] == "1 x cpu"
    assert report["metrics"]["small PointBERT/random/own_picture/recall_1"] == 0.25
    page = (seeded.workdir / "report" / "index.html").read_text()
    assert '<th scope="col" class="num">Macro F1</th>' in page
    assert report["published"] == {} and report["dataset"]["name"] == "parametric_shapes/demo"


def test_the_search_stands_in_every_protocol_of_a_table(seeded, tmp_path, capsys):
    report = json.loads((seeded.workdir / "report" / "metrics.json").read_text())
    assert report["protocol"] == {
        "distance": "cosine",
        "self_match": "disjoint",
        "ties": "index",
        "search": "exact",
    }
    assert all(row["protocol"].get("search", "exact") == "exact" for row in report["rows"])
    page = (seeded.workdir / "report" / "index.html").read_text()
    assert "<dt>search</dt><dd>exact</dd>" in page
    config = tmp_path / "mixed.py"
    config.write_text(
        "from jax3dret.experiments import tables\nfrom jax3dret.experiments.rows import row\n"
        "VARIANTS = {'demo': ()}\n"
        "def get_config(variant):\n    config = tables.defaults()\n"
        f"    config.data.name = 'x'\n    run = '{CONFIGS}/ulip2_vicreg.py:demo_random'\n"
        "    config.table = (row('all pairs', run), row('by tree', run, settings=("
        "'evals.retrieval.index.scoring=tree_ah', 'distance=euclidean')))\n    return config\n"
    )
    capsys.readouterr()
    mixed = Table(tmp_path / "t", spec=str(config)).run()
    assert [row["protocol"]["search"] for row in mixed.rows.values()] == ["exact", "tree_ah"]
    report = json.loads((tmp_path / "t" / "report" / "metrics.json").read_text())
    assert report["protocol"]["search"] is None and report["protocol"]["ties"] == "index"
    page = (tmp_path / "t" / "report" / "index.html").read_text()
    for said in ("approximate, by a tree of ScaNN (tree_ah)", "euclidean", "<dt>ties</dt>"):
        assert said in page
    assert "search: exact, tree_ah" in capsys.readouterr().out


def test_the_text_aligns_its_columns(seeded, capsys):
    table = json.loads((seeded.workdir / "table.json").read_text())
    lines = results.text(table).splitlines()
    head = next(line for line in lines if line.startswith("row "))
    row = next(line for line in lines if line.startswith("small PointBERT/random"))
    assert (
        head.index("status") == row.index("done") and "60.0 +- 10.0" in row and "paper" not in head
    )
    # The metrics that the evaluation describes, in its order.
    assert head.split() == ["row", "nn_acc", "nn_f1", "status"]
    assert "--config.rows=" in lines[-1] or any("--config.rows=" in line for line in lines)


def test_curves_are_drawn_where_a_run_was_evaluated_as_it_trained(seeded, tmp_path):
    text = (seeded.workdir / "report" / "index.html").read_text()
    assert "polyline" not in text
    log = seeded.workdir / "rows" / "small_pointbert_random" / "metrics.jsonl"
    log.write_text(
        "".join(
            json.dumps({"step": s, "split": "retrieval", "time": 0, "nn_acc": s / 9}) + "\n"
            for s in (1, 2)
        )
    )
    assert "polyline" in table.write_report(seeded.workdir).read_text()
    log.unlink()
    assert table.write_report(seeded.workdir).read_text() == text


def test_a_report_needs_a_table(tmp_path):
    with pytest.raises(DataError, match=r"holds no table\.json"):
        table.write_report(tmp_path)
    (tmp_path / "table.json").write_text("[]")
    with pytest.raises(DataError, match="not a table"):
        table.write_report(tmp_path)


def child(tmp_path, code):
    return [sys.executable, "-c", code], tmp_path / "logs" / "child.txt"


def test_a_child_s_error_line_and_code_come_back(tmp_path, capsys):
    said = "import sys; print('one'); sys.stderr.write('error: a.off: not a mesh\\n'); sys.exit(1)"
    with Children() as children:
        assert children.run(*child(tmp_path, said)) == Ended(1, "a.off: not a mesh")
        killed = children.run(*child(tmp_path, "import os; os.kill(os.getpid(), 9)"))
    assert killed.code == -9 and "out of memory" in killed.error
    assert (
        "one" in capsys.readouterr().err
        and "a.off" in (tmp_path / "logs" / "child.txt").read_text()
    )


def test_a_signal_reaches_the_child_once_and_the_handlers_come_back(tmp_path):
    wait = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *a: (print('got it', flush=True), sys.exit(0)))\n"
        "print('ready', flush=True)\ntime.sleep(20)"
    )
    log = tmp_path / "logs" / "child.txt"

    def send():
        while not (log.is_file() and "ready" in log.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with Children() as children:
        sender = threading.Thread(target=send)
        sender.start()
        ended = children.run(*child(tmp_path, wait))
        sender.join()
    assert ended.code == 0 and children.signal == "SIGTERM" and log.read_text().count("got it") == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--config.collect=true"], 1, "no row is done"),
        (["--config.optim.lr=1"], 2, "--config.optim.lr was given, but nothing reads it"),
        (["--coordinator=localhost:1"], 2, "start it as one process"),
        (["--config.rows=x["], 2, "not a regular expression"),
    ],
)
def test_the_command(tmp_path, capfd, flags, code, says):
    assert main.main([f"--config={TABLES}", f"--workdir={tmp_path / 't'}", *flags]) == code
    assert says in capfd.readouterr().err
    assert (tmp_path / "t" / "table.json").exists() is (code == 1)


def test_a_run_does_not_write_into_a_table(tmp_path, capfd):
    Table(tmp_path, collect=True).run()
    write(tmp_path / "config.json", json.loads(configs.dump(configs.load(TABLES)[0])))
    assert main.main([f"--config={CONFIGS}/ulip2_vicreg.py", f"--workdir={tmp_path}"]) == 2
    assert "was written by another config" in capfd.readouterr().err


def test_the_schedules_share_one_pretraining(tmp_path):
    table = Table(tmp_path, spec=f"{CONFIGS}/ulip2_schedules.py").run()
    base, *others = (tmp_path / "rows" / name for name in table.children.started)
    assert table.code == 0 and len(others) == 2
    began = [json.loads((o / "config.json").read_text())["checkpoint"]["init_from"] for o in others]
    assert began == [str(base)] * 2
    rates = {
        name: row["protocol"]
        for name, row in table.rows.items()
        if row["name"].startswith("classification")
    }
    assert {p["schedule"]["name"] for p in rates.values()} == {"cosine", "warmup_cosine"}
    full = [
        configs.load(f"{CONFIGS}/ulip2_schedules.py:{name}")[0]
        for name in ("vicreg_cosine", "vicreg_warmup_cosine")
    ]
    assert [c.optim.lr for c in full] == [3e-4, 5e-5] and full[
        1
    ].optim.schedule.warmup_fraction == 0.2
    differ = configs.differences(full[0], json.loads(configs.dump(full[1])))
    assert all(d.startswith(("optim.lr", "optim.schedule", "published")) for d in differ)


def test_slugs_are_folder_names():
    slugs = [rows.slug(name) for name in ("PointNet++/random", "a, b (C)", "../x")]
    assert slugs == ["pointnetpp_random", "a_b_c", "x"]


SKETCHES = """
from jax3dret.experiments import tables
from jax3dret.experiments.rows import published_row, row, stage
VARIANTS = ("demo",)
def get_config(variant):
    config = tables.defaults()
    config.data.name = "parametric_shapes/sbr_demo"
    config.title = "Ablations"
    both, one = "mvhgnn_shrec13.py:demo", "mvhgnn_shrec13.py:demo_zeroshot"
    config.table = (
        row("whole", both),
        row("mean of the views", both, settings=("model.aggregator=mean",)),
        row("from the whole", one, starts_from=stage("whole once", both)),
        row("published", one, settings=("published.paper={'mAP': 0.4, 'nn_acc': 0.2}",)),
        published_row("Another method", {"Another (paper)": {"mAP": 0.7}}),
    )
    return config
"""


def test_a_table_of_the_sketch_system(tmp_path, capsys):
    """Of runs with two stages each, whose numbers and metrics are others than the point encoders'."""
    spec = tmp_path / "tables_sketch.py"
    spec.write_text(SKETCHES)
    (tmp_path / "mvhgnn_shrec13.py").symlink_to(CONFIGS / "mvhgnn_shrec13.py")

    class Stages(Fake):
        def run(self, command, log):
            ended = super().run(command, log)
            folder = pathlib.Path(command[4].removeprefix("--workdir="))
            overrides = [
                tuple(word.removeprefix("--config.").split("=", 1))
                for word in command
                if word.startswith("--config.")
            ]
            config, _ = configs.load(command[3].removeprefix("--config="), overrides)
            # What a run leaves: the config of its last stage.
            last = run.stages(config, folder)[-1].config
            write(folder / "config.json", json.loads(configs.dump(last)))
            report = json.loads((folder / "report" / "metrics.json").read_text())
            report["metrics"] = {"nn_acc": 0.5, "mAP": 0.3, "NN": 0.5}
            write(folder / "report" / "metrics.json", report)
            return ended

    table = Table(tmp_path / "t", spec=spec, children=Stages()).run()
    assert table.code == 0
    states = {name: row["status"] for name, row in table.rows.items()}
    assert states.pop("Another method") == "published" and set(states.values()) == {"done"}
    assert table.children.started == [
        "whole",
        "mean_of_the_views",
        "whole_once",
        "from_the_whole",
        "published",
    ]
    kept = json.loads((tmp_path / "t" / "rows" / "whole" / "config.json").read_text())
    assert kept["stage"] == "sketch"
    assert kept["checkpoint"]["init_from"] == str(tmp_path / "t" / "rows" / "whole" / "first")
    begun = json.loads((tmp_path / "t" / "rows" / "from_the_whole" / "config.json").read_text())
    assert begun["checkpoint"]["init_from"] == str(tmp_path / "t" / "rows" / "whole_once")
    assert table.rows["published"]["difference"] == {"mAP": pytest.approx(-0.1), "nn_acc": 0.3}
    said = capsys.readouterr().out
    assert "paper: mAP as published" in said and "40.0  -10.0" in said
    assert said.splitlines()[2].split()[:2] == ["row", "mAP"]
    # A compared method is shown with its number, and is neither run, nor missing, nor left out.
    (line,) = (line for line in said.splitlines() if line.startswith("Another method"))
    assert line.split()[2:] == ["-", "-", "-", "70.0", "-", "published"]
    assert "left out" not in said
    report = json.loads((tmp_path / "t" / "report" / "metrics.json").read_text())
    assert report["system"] == "mvhgnn" and report["published"]["Another (paper)"] == {"mAP": 0.7}
    page = (tmp_path / "t" / "report" / "index.html").read_text()
    assert page.count("Another method") == 2 and "<b>4</b> of <b>4</b> rows done" in page
    with pytest.raises(ConfigError, match="finds none of the rows: whole, .*, published$"):
        Table(tmp_path / "none", spec=spec, rows="Another").run()
    (tmp_path / "t").rename(tmp_path / "moved")
    moved = Table(tmp_path / "moved", spec=spec).run()
    assert moved.code == 0 and moved.children.started == []


def test_a_row_that_changed_says_what_to_remove_and_starts_nothing(tmp_path, caplog):
    lines = (
        "from jax3dret.experiments import tables\nfrom jax3dret.experiments.rows import row\n"
        "VARIANTS = ('demo',)\ndef get_config(variant):\n    config = tables.defaults()\n"
        "    config.data.name = 'parametric_shapes/demo'\n"
        "    config.table = (row('row A', 'ulip2_vicreg.py:demo_random'),"
        " row('row B', 'ulip2_vicreg.py:demo_random', settings=('data.num_points=N',)))\n"
        "    return config\n"
    )
    spec = tmp_path / "t.py"
    (tmp_path / "ulip2_vicreg.py").symlink_to(CONFIGS / "ulip2_vicreg.py")
    spec.write_text(lines.replace("=N", "=300"))
    assert Table(tmp_path / "w", spec=spec).run().code == 0
    spec.write_text(lines.replace("=N", "=400"))
    again = Table(tmp_path / "w", spec=spec).run()
    assert again.code == 0 and again.children.started == [] and again.prepared == []
    folder = tmp_path / "w" / "rows" / "row_b"
    said = (
        f"{folder} holds a run of another config: data.num_points: 300 there, 400 here; remove "
        "that folder to run the row anew"
    )
    assert said in caplog.text and again.rows["row B"]["status"] == f"missing: {said}"
    shutil.rmtree(folder)
    assert Table(tmp_path / "w", spec=spec).run().children.started == ["row_b"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("row B", "row b!"), "'row B' and 'row b!' would both lie in rows/row_b; give one"),
        (("c+", "cp"), "'c\\+' and 'cp' would both lie in rows/cp"),
        (("\u884c",), "'\u884c' gives no folder name; use a letter a-z or a digit"),
        (("",), "'' gives no folder name"),
    ],
)
def test_two_rows_never_share_a_folder(tmp_path, names, says):
    table = [rows.row(name, "ulip2_vicreg.py:demo_random") for name in names]
    config, _ = configs.load(f"{TABLES}:demo")
    with pytest.raises(ConfigError, match=f"^config.table: {says}"):
        rows.plan_runs(config.with_values({"table": tuple(table)}), tmp_path, CONFIGS)


def test_two_runs_of_one_name_are_refused(tmp_path):
    spec = tmp_path / "t.py"
    spec.write_text(SKETCHES.replace('stage("whole once", both)', 'stage("whole", one)'))
    (tmp_path / "mvhgnn_shrec13.py").symlink_to(CONFIGS / "mvhgnn_shrec13.py")
    with pytest.raises(ConfigError, match="two runs are called 'whole'"):
        Table(tmp_path / "w", spec=spec).run()
