"""docs/results.md is what docs/make_results.py makes of docs/results/."""

import importlib.util
import json
import pathlib

import pytest

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
_SPEC = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
make_results = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make_results)

RUN = {
    "system": "ulip2",
    "config": "ulip2_classify:modelnet10",
    "dataset": {"name": "modelnet/10", "version": "1.0.0", "splits": {}, "items": 908},
    "encoder": {},
    "protocol": {"distance": "cosine"},
    "metrics": {"map_pessimistic": 0.8505, "nn_f1": 0.91968, "nn_acc": 0.5, "recall_5": 0.25},
    "published": {"ULIP2/classification (paper, table 1)": {"nn_acc": 0.9}},
    "index": {"kind": "scann", "scoring": "brute_force"},
    "timing": {"train_s": 1234.4},
    "run": {
        "command": "python -m jax3dret.main --config=configs/x.py --config.rows='a|b' --workdir=w",
        "seed": 3,
        "date": "2026-01-02",
        "device": "8 x TPU",
        "version": "0.1.0",
    },
}
EARLIER = {
    "remade": False,
    "reason": "Nobody kept the files.",
    "tables": [
        {
            "topic": "Speed",
            "title": "Old",
            "columns": ["NN", "s"],
            "rows": [
                {"name": "full", "values": [[0.9180, 0.5], "3 to 4"], "seed": [0, 1]},
                {"name": "less", "values": [1451, None], "command": "--config.k=1"},
            ],
            "date": "2026-01-01",
            "device": "a laptop",
            "command": "run it",
            "notes": ["- A note,", "  wrapped."],
        }
    ],
}

BENCH = {
    "name": "towers",
    "device": "a laptop",
    "cases": [
        {
            "name": "Lite0, 16",
            "ours": 0.123456,
            "baseline": 0.25,
            "baseline_name": "PyTorch",
            "ratio": 0.493824,
            "unit": "s",
        }
    ],
    "run": {"command": "jax3dret bench towers --json", "date": "2026-01-03", "version": "0.1.0"},
}


def written(folder, **files):
    """The docs folder with these files below results/; a text stands there as it is."""
    results = folder / "results"
    results.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (results / f"{name}.json").write_text(text)
    return folder


def changed(content, path, value):
    """A copy of a file's content with one value replaced, or taken out (None)."""
    content = json.loads(json.dumps(content))
    *parents, last = path
    at = content
    for key in parents:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return content


def shown(folder):
    assert make_results.main([], folder) == 0
    return (folder / "results.md").read_text()


def test_the_page_is_what_the_files_give(capsys):
    assert make_results.main(["--check"]) == 0, capsys.readouterr().err


def test_a_run_is_a_line_with_what_made_it(tmp_path):
    text = shown(written(tmp_path, one=RUN))
    assert "## modelnet/10\n" in text
    head, _, line = (x for x in text.splitlines() if x.startswith("|"))
    assert head.split(" | ")[:4] == ["| run", "nn_acc", "nn_f1", "map_pessimistic"]
    assert line == (
        "| [ulip2_classify:modelnet10](results/one.json) | 0.5000 | 0.9197 | 0.8505 | cosine | "
        "1,234 s | 3 | 2026-01-02 | 8 x TPU | 0.1.0 | `python -m jax3dret.main "
        "--config=configs/x.py --config.rows='a\\|b' --workdir=w` |"
    )
    assert make_results.MARK not in text.split("##")[1]


def test_sketches_lead_with_their_own_metrics_and_name_both_sides(tmp_path):
    run = changed(RUN, ("metrics",), {"nn_acc": 0.1, "mAP": 0.4, "NN": 0.1, "other/NN": 0.7})
    run["dataset"]["queries"] = {"name": "drawings"}
    text = shown(written(tmp_path, one=run))
    assert "## drawings against modelnet/10\n" in text
    assert "| 0.1000 | 0.4000 | cosine |" in text and "0.7000" not in text


def test_a_table_of_runs_is_a_line_a_row(tmp_path):
    run = changed(RUN, ("metrics",), {"a/b/nn_acc": 0.25, "c/nn_acc": None})
    text = shown(written(tmp_path, one={**run, "rows": []}))
    assert "results/one.json), a/b | 0.2500 |" in text
    assert "results/one.json), c | undefined |" in text


def test_a_published_number_stands_with_what_its_run_says_differs(tmp_path):
    assert "table 1): nn_acc 0.9000.\n" in shown(written(tmp_path, one=RUN))
    told = {**RUN, "published_differs": ["12 records instead of 13", "one seed"]}
    text = shown(written(tmp_path, one=told))
    assert "nn_acc 0.9000. What differs: 12 records instead of 13; one seed.\n" in text
    # Where the report let no number stand there is none.
    left_out = {**RUN, "published": {}, "published_left_out": "other data"}
    assert "0.9000" not in shown(written(tmp_path, one=left_out))


def test_earlier_numbers_stand_as_they_were_written_and_are_marked(tmp_path):
    earlier = json.dumps(EARLIER).replace("0.918,", "0.9180,")
    text = shown(written(tmp_path, old=earlier, one=RUN))
    assert text.index("## modelnet/10") < text.index("## Speed")
    assert "**Measured on an earlier version; not made again.**\nNobody kept the files.\n" in text
    assert "- date: 2026-01-01\n- device: a laptop\n- command: `run it`\n\n|" in text
    assert "| full | 0.9180 / 0.5 | 3 to 4 | 0, 1 |  |\n" in text
    assert "| less | 1,451 |  |  | `--config.k=1` |\n\n- A note,\n  wrapped.\n" in text


def test_a_bench_is_a_table_of_ours_beside_the_baseline(tmp_path):
    page = shown(written(tmp_path, run=RUN, towers={**BENCH, "notes": ["- A note."]}))
    section = page.partition("## Speed beside other libraries")[2]
    assert "[bench towers](results/towers.json)" in section and "- date: 2026-01-03" in section
    assert "| Lite0, 16 | 0.123 | 0.25 | s | PyTorch | 0.494 |" in section
    assert "`jax3dret bench towers --json`" in section and "- A note." in section


def test_check_tells_a_stale_page_and_writes_nothing(tmp_path, capsys):
    folder = written(tmp_path, one=RUN)
    assert make_results.main(["--check"], folder) == 1 and not (folder / "results.md").exists()
    text = shown(folder)
    assert make_results.main(["--check"], folder) == 0
    written(tmp_path, two=changed(RUN, ("run", "seed"), 4))
    assert make_results.main(["--check"], folder) == 1
    assert capsys.readouterr().err.endswith("run python docs/make_results.py\n")
    assert (folder / "results.md").read_text() == text
    assert sorted(p.name for p in folder.iterdir()) == ["results", "results.md"]


def run_with(*path, value):
    return {"one": changed(RUN, path, value)}


def table_with(*path, value):
    return {"old": changed(EARLIER, ("tables", 0, *path), value)}


FULL = EARLIER["tables"][0]["rows"][0]
AGAIN = changed(RUN, ("run", "command"), RUN["run"]["command"].replace("=w", "=v"))


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "no results in it"),
        (run_with("run", value=None), "one.json: no 'run' block"),
        (run_with("run", "device", value=None), "one.json: run.device: missing"),
        (run_with("run", "seed", value=None), "one.json: run.seed: missing"),
        (run_with("run", "seed", value=True), "run.seed: True is no seed"),
        (run_with("run", "date", value="2 January"), "run.date: '2 January' does not begin"),
        (run_with("metrics", "nn_acc", value=float("nan")), "one.json: NaN is no result"),
        (run_with("metrics", "nn_acc", value="0.9"), "metrics.nn_acc: '0.9' is no number"),
        (run_with("metrics", value={}), "metrics: empty"),
        (run_with("dataset", value=None), "dataset: missing"),
        ({"one": json.dumps(RUN).replace("0.91968", "1e999")}, "metrics.nn_f1: Decimal"),
        ({"one": json.dumps(RUN).replace("0.91968", "1e" + "9" * 30)}, "not a JSON file"),
        ({"one": json.dumps(RUN).replace("nn_f1", "nn_acc")}, "two keys of one object are alike"),
        ({"one": "[]"}, "one.json: not a JSON object"),
        ({"one": "{"}, "one.json: not a JSON file"),
        ({"one": RUN, "two": AGAIN}, "two runs on modelnet/10 are alike"),
        ({"one": {**RUN, "published_differs": "All."}}, "one.json: published_differs: give a list"),
        ({"old": {**EARLIER, "remade": True}}, "old.json: remade: only false"),
        ({"old": {**EARLIER, "reason": ""}}, "old.json: reason: give a text"),
        ({"old": EARLIER, "older": EARLIER}, "two tables of 'Speed' are alike: Old"),
        (table_with("rows", value=[FULL, FULL]), "two rows of 'Old' are alike: full"),
        (table_with("rows", value=[]), "Old: rows: give a list of objects"),
        (table_with("command", value=None), "Old: full: command: missing"),
        (table_with("device", value=None), "Old: device: missing"),
        (table_with("rows", 0, "values", value=[1]), "Old: full: values: give 2"),
        (table_with("rows", 0, "values", value=["nan", 1]), "Old: full: 'nan' is no value"),
    ],
)
def test_a_malformed_file_ends_it_with_one_line(tmp_path, capsys, files, why):
    folder = written(tmp_path, **files)
    assert make_results.main([], folder) == 1
    line = capsys.readouterr().err
    assert why in line and line.count("\n") == 1
    assert not (folder / "results.md").exists()
