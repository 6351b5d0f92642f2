"""The report of a synthetic workdir: complete, self-contained, safe, repeatable, and calm about
what is missing.
"""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import pathlib
import re
from typing import Any

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.report.charts import Series, line_chart, thin, ticks
from jax3dret.report.embedding_map import embedding_map, principal_components, tsne
from jax3dret.report.page import write_report
from jax3dret.tasks.ulip2 import finetune

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
EVIL = "<script>alert('x')</script>"
CONFIG = finetune.defaults().to_dict()
CONFIG["optim"]["lr"] = 0.001
RUN = {
    "command": "python -m jax3dret.main --config=configs/ulip2_vicreg.py:demo",
    "seed": 0,
    "date": "2001-02-03",
    "device": "1 x cpu",
    "version": "0.1.0",
}


class Page(html.parser.HTMLParser):
    """Tags with their attributes, visible text, and whether every tag is closed in order."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def count(self, name: str, **attributes: str) -> int:
        return sum(
            t == name and all(a.get(k) == v for k, v in attributes.items()) for t, a in self.tags
        )


def result(
    classes: tuple[str, ...] = ("bolt", "nut", "gear"), per_class: int = 20
) -> dict[str, Any]:
    counts = np.diag(np.full(len(classes), per_class))
    if len(classes) > 1:
        counts[0, 1], counts[0, 0] = 3, per_class - 3
    items = [
        {"id": f"{name}/{name}_1", "label": i, "thumbnail": f"{i}.png"}
        for i, name in enumerate(classes)
    ]
    found = [{"rank": i + 1, "score": 0.9 - 0.1 * i, **item} for i, item in enumerate(items)]
    return {
        "name": "retrieval",
        "metrics": {
            "nn_acc": 0.95,
            "nn_f1": 0.949,
            "ndcg_100": 0.9,
            "map_pessimistic": 0.85,
            "ndcg_100_published_code": 0.8,
        },
        # Not the order of the metrics: a page shows them in this one.
        "about": {
            "ndcg_100": {"title": "NDCG@100", "meaning": "rank-discounted gain"},
            "nn_acc": {"title": "Nearest-neighbour accuracy", "meaning": "right at rank one"},
        },
        "protocol": {
            "distance": "cosine",
            "self_match": "excluded",
            "ties": "pessimistic",
            "neighbours": 100,
        },
        "dataset": {
            "name": "toy/demo",
            "version": "1.2.3",
            "splits": {"query": "test", "gallery": "train"},
            "items": 60,
        },
        "index": {"kind": "exact", "scoring": "brute_force", "items": 60, "recall_at_10": 1.0},
        "timing": {"embed_items_per_s": 50.0, "search_ms_per_query": 0.25},
        "class_names": list(classes),
        "per_class": [
            {"class": c, "items": per_class, "nn_acc": 0.9, "f1": 0.8, "ap": 0.7} for c in classes
        ],
        "confusion": {"classes": list(classes), "counts": counts.tolist()},
        "examples": [
            {"query": items[0], "correct": True, "results": found},
            {"query": items[-1], "correct": len(classes) == 1, "results": found},
        ],
    }


def test_the_spread_of_several_evaluations_stands_beside_the_mean(tmp_path):
    found = result() | {
        "spread": {"nn_acc": 0.0123},
        "by_seed": [{"seed": 0, "metrics": {"nn_acc": 0.94}}, {"seed": 4, "metrics": {}}],
    }
    found["protocol"] |= {"evaluation_seeds": [0, 4], "evaluations": "means over 2 evaluations"}
    text = Page(write_report(make(tmp_path, found)).read_text()).text
    assert "95.0 % ± 1.2 %" in text and "means over 2 evaluations" in text
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert numbers["spread"] == {"nn_acc": 0.0123} and numbers["by_seed"][1]["seed"] == 4
    assert "evaluation seeds0, 4" in text


def make(
    workdir: pathlib.Path,
    evaluation: dict[str, Any] | None = None,
    *,
    train: bool = True,
    labels: bool = True,
    rows: int = 60,
) -> pathlib.Path:
    evaluation = evaluation or result()
    classes = max(len(evaluation["class_names"]), 1)
    folder = workdir / "evaluation" / "retrieval"
    (folder / "thumbnails").mkdir(parents=True)
    for i in range(classes):
        (folder / "thumbnails" / f"{i}.png").write_bytes(PIXEL)
    rng = np.random.default_rng(0)
    kinds = np.arange(rows) % classes
    np.save(
        folder / "embeddings.npy",
        (rng.normal(size=(classes, 16))[kinds] * 3 + rng.normal(size=(rows, 16))).astype(
            np.float32
        ),
    )
    if labels:
        np.save(folder / "labels.npy", kinds.astype(np.int32))
    (folder / "result.json").write_text(json.dumps(evaluation))
    events = []
    if train:
        for step in range(1, 41):
            events.append(
                {
                    "step": step,
                    "split": "train",
                    "time": step,
                    "loss": 9.0 / step,
                    "invariance": 0.1 / step,
                    "lr": 1e-3,
                    "items_per_s": 40.0,
                }
            )
        events.append(
            {"step": 40, "split": "retrieval", "time": 41, "nn_acc": 0.95, "map_pessimistic": 0.85}
        )
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    files = {
        "config.json": CONFIG,
        "versions.json": {"jax": "0.10.2"},
        "manifest.json": {
            "name": "toy/demo",
            "version": "1.2.3",
            "source": {"kind": "programs"},
            "up_axis": "z",
            "splits": {"test": {"items": rows}},
            "class_names": evaluation["class_names"],
            "skipped": [{"file": "broken.stl", "reason": "no faces"}],
        },
        "summary.json": {
            "system": "ulip2",
            "config": "ulip2_vicreg:demo",
            "steps": 40 if train else 0,
            "train_s": 100.5 if train else None,
            "meta": {"embedding_dim": 16, "parameters": 3_120_448, "model": {"depth": 6}},
            "published": {"ULIP2/vicreg (paper, table 1)": {"nn_acc": 0.907}},
            "run": RUN,
            "protocol_notes": ["The demo data are generated shapes."],
        },
    }
    for name, value in files.items():
        (workdir / name).write_text(json.dumps(value))
    return workdir


def change(workdir: pathlib.Path, edit: Any) -> None:
    path = workdir / "evaluation" / "retrieval" / "result.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def read(workdir: pathlib.Path) -> tuple[Page, dict[str, Any], str]:
    path = write_report(workdir)
    assert path == workdir / "report" / "index.html"
    text = path.read_text(encoding="utf-8")
    return (
        Page(text),
        json.loads((workdir / "report" / "metrics.json").read_text(), parse_constant=pytest.fail),
        text,
    )


def test_what_a_published_number_was_measured_on_stands_beside_it(tmp_path):
    make(tmp_path)
    facts = {"points": 16000, "kinds": ["off"], "items": {"test": 61}}
    config = {**CONFIG, "data": {**CONFIG["data"], "num_points": 8192, "published": facts}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["test"]["points"] = [2048, 2048]
    path.write_text(json.dumps(manifest))
    page, numbers, text = read(tmp_path)
    differs = [
        "60 records in test instead of 61",
        "clouds of 2,048 points, of which 8,192 are drawn with replacement, instead of 16,000",
        "made from programs, instead of off",
    ]
    assert numbers["published_differs"] == differs
    assert numbers["published"] == {"ULIP2/vicreg (paper, table 1)": {"nn_acc": 0.907}}
    assert "90.7 % ULIP2/vicreg (paper, table 1) ⚠ not like for like" in page.text
    assert all(each in page.text for each in differs) and f'title="{"; ".join(differs)}"' in text
    manifest["splits"]["test"]["items"] = 6
    path.write_text(json.dumps(manifest))
    page, numbers, _ = read(tmp_path)
    assert numbers["published"] == {} and "90.7 %" not in page.text
    assert "left out: the prepared data is not the published set (test 6 instead" in page.text
    assert numbers["published_left_out"].startswith("the prepared data is not")
    assert "No published number exists" not in page.text


def test_page_shows_every_part(tmp_path):
    page, _, _ = read(make(tmp_path))
    for part in (
        "ulip2_vicreg:demo",
        "95.0 %",
        "90.7 %",
        "Items are compared by the cosine",
        "Of equal distances, wrong items are ranked first.",
        "The demo data are generated shapes.",
        "bolt is taken for nut in 3 of 20 queries (15 %)",
        "t-SNE",
        "Wrong at rank one",
        "exact search",
        "0.25 ms per query",
        "broken.stl",
        "no faces",
        "0.10.2",
        '"lr": 0.001',
        "3.12 M parameters",
    ):
        assert part in page.text, part
    assert page.count("use") >= 60 and page.count("img") == 2 + 2 * 3
    assert len([a for t, a in page.tags if t == "li" and a.get("class") == "item good"]) == 2
    assert len([a for t, a in page.tags if t == "li" and a.get("class") == "item bad"]) == 4


def test_page_is_one_file_that_asks_nobody(tmp_path):
    page, _, text = read(make(tmp_path))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (
                tag,
                name,
                value,
            )
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    assert "url(" not in style and "@import" not in style and "http" not in style
    script = re.search(r"<script>(.*?)</script>", text, re.S).group(1)
    for word in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon", "innerHTML"):
        assert word not in script
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_pictures_and_tables_speak_to_a_screen_reader(tmp_path):
    page, _, _ = read(make(tmp_path))
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert all(a.get("aria-label") for t, a in page.tags if t == "svg" and a.get("role") == "img")
    assert all(a.get("scope") for t, a in page.tags if t == "th")
    assert any(t == "html" and a.get("lang") == "en" for t, a in page.tags)
    anchors = [a["href"][1:] for t, a in page.tags if t == "a"]
    assert anchors == [a["id"] for t, a in page.tags if t == "section"]


def test_names_from_outside_stay_text(tmp_path):
    workdir = make(tmp_path, result(classes=(EVIL, 'a"b', "nut")))

    def spoil(value):
        value["protocol"][EVIL] = EVIL
        value["metrics"][EVIL] = 0.5
        value["dataset"]["name"] = EVIL
        for example in value["examples"]:
            example["query"]["id"] = EVIL + "\x00' onerror=alert(1)"

    change(workdir, spoil)
    summary = json.loads((workdir / "summary.json").read_text())
    summary |= {
        "config": EVIL,
        "published": {EVIL: {EVIL: 0.5}},
        "protocol_notes": [EVIL],
        "meta": {EVIL: {EVIL: EVIL}},
    }
    (workdir / "summary.json").write_text(json.dumps(summary))
    values = {**CONFIG, "data": {**CONFIG["data"], EVIL: "</pre>" + EVIL}}
    (workdir / "config.json").write_text(json.dumps(values))
    (workdir / "versions.json").write_text(json.dumps({EVIL: EVIL}))
    (workdir / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "split": "train", "time": 0, EVIL: 1.0}) + "\n"
    )
    manifest = {
        "name": EVIL,
        "source": {EVIL: EVIL},
        "skipped": [{"file": EVIL + "\udcff", "reason": EVIL}],
        "splits": {EVIL: {"items": 1}},
    }
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    page, _, text = read(workdir)
    assert text.count("<script") == 1 and text.count("</script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert EVIL in page.text


def test_metrics_json_has_the_promised_shape(tmp_path):
    _, numbers, _ = read(make(tmp_path))
    assert list(numbers) == [
        "system",
        "config",
        "dataset",
        "encoder",
        "protocol",
        "metrics",
        "about",
        "evaluators",
        "published",
        "index",
        "timing",
        "run",
    ]
    assert numbers["run"] == RUN
    assert numbers["system"] == "ulip2" and numbers["config"] == "ulip2_vicreg:demo"
    assert numbers["dataset"] == {
        "name": "toy/demo",
        "version": "1.2.3",
        "splits": {"query": "test", "gallery": "train"},
        "items": 60,
    }
    assert numbers["encoder"]["embedding_dim"] == 16
    assert numbers["metrics"]["nn_acc"] == 0.95
    assert numbers["published"] == {"ULIP2/vicreg (paper, table 1)": {"nn_acc": 0.907}}
    assert numbers["index"] == {
        "kind": "exact",
        "scoring": "brute_force",
        "items": 60,
        "recall_at_10": 1.0,
    }
    assert numbers["timing"] == {
        "train_s": 100.5,
        "embed_items_per_s": 50.0,
        "search_ms_per_query": 0.25,
    }


def test_second_evaluation_is_shown_and_kept_apart(tmp_path):
    workdir = make(tmp_path)
    other = workdir / "evaluation" / "a_euclidean"
    other.mkdir()
    (other / "result.json").write_text(
        json.dumps({"metrics": {"nn_acc": 0.5}, "protocol": {"distance": "euclidean"}})
    )
    lead(workdir, ["retrieval", "a_euclidean"])
    page, numbers, _ = read(workdir)
    assert numbers["metrics"]["nn_acc"] == 0.95
    assert numbers["evaluators"] == {"a_euclidean": {"nn_acc": 0.5}}
    assert "a_euclidean" in page.text and "Euclidean distance of their embeddings" in page.text
    lead(workdir, ["a_euclidean", "retrieval"])
    numbers = read(workdir)[1]
    assert numbers["metrics"] == {"nn_acc": 0.5} and numbers["about"] == {}
    assert numbers["evaluators"]["retrieval"]["nn_acc"] == 0.95
    # An evaluation that the last one did not run again comes after those that it did.
    lead(workdir, ["retrieval"])
    assert read(workdir)[1]["evaluators"] == {"a_euclidean": {"nn_acc": 0.5}}


def lead(workdir, names):
    path = workdir / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "evaluators": names}))


def test_the_pictures_of_a_run_stand_in_its_protocol(tmp_path):
    workdir = make(tmp_path)
    assert "pictures" not in read(workdir)[1]["protocol"]
    path = workdir / "summary.json"
    summary = json.loads(path.read_text())
    summary["meta"]["pictures"] = "meshes, rendered in grey: 4 views"
    path.write_text(json.dumps(summary))
    page, numbers, _ = read(workdir)
    assert numbers["protocol"]["pictures"] == "meshes, rendered in grey: 4 views"
    assert numbers["protocol"]["distance"] == "cosine"
    protocol = page.text[page.text.index("What was compared with what") :]
    assert "pictures" in protocol and "meshes, rendered in grey: 4 views" in protocol


def test_metrics_are_called_and_ordered_as_the_evaluation_says(tmp_path):
    page, numbers, _ = read(make(tmp_path))
    tiles = page.text[page.text.index("NDCG@100") :]
    order = ["NDCG@100", "rank-discounted gain", "Nearest-neighbour accuracy", "right at rank one"]
    # What has no description follows, by its key.
    places = [tiles.index(part) for part in (*order, "nn f1", "map pessimistic")]
    assert places == sorted(places)
    assert numbers["about"]["nn_acc"]["title"] == "Nearest-neighbour accuracy"
    workdir = make(tmp_path / "damaged")
    change(workdir, lambda value: value.update(about={"nn_acc": "accuracy", "map": 3}))
    assert "nn acc" in read(workdir)[0].text


def test_nan_metric_is_null_for_programs_and_undefined_for_people(tmp_path):
    workdir = make(tmp_path)

    def spoil(value):
        value["metrics"]["map_pessimistic"] = float("nan")
        value["per_class"][1]["ap"] = float("nan")
        value["per_class"][2]["ap"] = None
        value["index"]["recall_at_10"] = float("nan")

    change(workdir, spoil)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(
            json.dumps(
                {"step": 41, "split": "train", "time": 1, "loss": "nan", "invariance": "inf"}
            )
            + "\n"
        )
    page, numbers, _ = read(workdir)
    assert (
        numbers["metrics"]["map_pessimistic"] is None and numbers["index"]["recall_at_10"] is None
    )
    assert "undefined" in page.text and "No query allows a value." in page.text
    assert "1 logged value not finite" in page.text
    assert "nan" not in page.text.lower().split()


def test_one_class(tmp_path):
    page, _, _ = read(make(tmp_path, result(classes=("only",))))
    assert "There is one class" in page.text and "there is no confusion to show" in page.text
    assert "None of the kept examples is wrong" in page.text


def test_no_labels(tmp_path):
    bare = result()
    bare |= {"metrics": {}, "per_class": [], "confusion": {}, "class_names": []}
    bare["examples"] = [
        {
            "query": {"id": "a", "label": None},
            "correct": None,
            "results": [{"rank": 1, "score": 0.5, "id": "b"}],
        }
    ]
    page, numbers, _ = read(make(tmp_path, bare, labels=False))
    for sentence in (
        "scores need class labels",
        "no class labels",
        "No confusion counts",
        "points are not coloured",
        "no picture",
        "Without labels",
    ):
        assert sentence in page.text, sentence
    assert numbers["metrics"] == {}


def test_labels_of_minus_one_are_no_labels(tmp_path):
    workdir = make(tmp_path)
    np.save(workdir / "evaluation/retrieval/labels.npy", np.full(60, -1, np.int32))
    page, _, _ = read(workdir)
    assert "points are not coloured" in page.text


def test_evaluation_of_given_weights_has_no_curve(tmp_path):
    page, numbers, _ = read(make(tmp_path, train=False))
    assert "there is no curve to draw" in page.text and "not trained" in page.text
    assert numbers["timing"]["train_s"] is None


def test_least_possible_workdir(tmp_path):
    folder = tmp_path / "evaluation" / "x"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    page, numbers, _ = read(tmp_path)
    for sentence in (
        "did not record its protocol",
        "No query embeddings",
        "config.json is missing",
        "manifest.json is missing",
        "versions.json is missing",
        "No example query",
    ):
        assert sentence in page.text, sentence
    assert numbers["system"] is None and numbers["metrics"] == {}


def test_spoiled_embeddings(tmp_path):
    workdir = make(tmp_path)
    path = workdir / "evaluation/retrieval/embeddings.npy"
    values = np.load(path)
    values[7] = np.nan
    np.save(path, values)
    assert "not finite, left out of the map: 1." in read(workdir)[0].text
    np.save(path, np.full_like(values, np.inf))
    assert "the encoder has diverged" in read(workdir)[0].text
    np.save(path, np.ones_like(values))
    assert "collapsed to one point" in read(workdir)[0].text
    np.save(path, values[:0])
    np.save(path.with_name("labels.npy"), np.zeros(0, np.int32))
    assert "No query embeddings were kept" in read(workdir)[0].text


def test_few_queries_give_principal_components(tmp_path):
    assert "Principal components" in read(make(tmp_path, rows=6))[0].text


def test_missing_or_strange_thumbnail_is_a_box(tmp_path):
    workdir = make(tmp_path)
    (workdir / "evaluation/retrieval/thumbnails/0.png").unlink()
    (workdir / "evaluation/retrieval/thumbnails/1.png").write_text("<html>")
    (workdir / "secret.png").write_bytes(PIXEL)

    def spoil(value):
        value["examples"][1]["query"]["thumbnail"] = "../../../secret.png"

    change(workdir, spoil)
    page, _, _ = read(workdir)
    assert page.count("img") == 2 and page.text.count("no picture") == 6


def test_no_evaluation_is_named_with_the_way_out(tmp_path):
    with pytest.raises(
        DataError, match=r"no evaluation found; run with --mode=eval first"
    ) as error:
        write_report(tmp_path)
    assert str(error.value).startswith(str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evaluation/retrieval/result.json", b'{"metrics": '),
        ("evaluation/retrieval/result.json", b"[]"),
        ("evaluation/retrieval/embeddings.npy", b"not an array"),
        ("config.json", b"\xff\xfe"),
        ("metrics.jsonl", b'broken\n{"step": 1, "split": "train"}\n'),
    ],
)
def test_damaged_file_is_named(tmp_path, name, content):
    workdir = make(tmp_path)
    (workdir / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        write_report(workdir)
    assert pathlib.Path(name).name in str(error.value) and "\n" not in str(error.value)
    assert not (workdir / "report").exists()


def test_labels_that_do_not_fit_are_refused(tmp_path):
    workdir = make(tmp_path)
    path = workdir / "evaluation/retrieval/labels.npy"
    np.save(path, np.zeros(3, np.int32))
    with pytest.raises(DataError, match=r"labels\.npy has 3 rows"):
        write_report(workdir)
    np.save(path, np.full(60, 3, np.int32))
    with pytest.raises(DataError, match="names class 3"):
        write_report(workdir)


def test_writing_again_gives_the_same_bytes_and_leaves_nothing_beside(tmp_path):
    workdir = make(tmp_path)
    first = write_report(workdir).read_bytes(), (workdir / "report/metrics.json").read_bytes()
    before = (workdir / "report/index.html").stat().st_ino
    second = write_report(workdir).read_bytes(), (workdir / "report/metrics.json").read_bytes()
    assert first == second
    assert (workdir / "report/index.html").stat().st_ino != before, (
        "renamed into place, not written over"
    )
    assert sorted(p.name for p in (workdir / "report").iterdir()) == ["index.html", "metrics.json"]


def test_old_report_survives_a_failing_one(tmp_path):
    workdir = make(tmp_path)
    page = write_report(workdir)
    before = page.read_bytes()
    change(workdir, lambda value: value.update(class_names=[]))
    with pytest.raises(DataError):
        write_report(workdir)
    assert page.read_bytes() == before


def test_a_step_logged_twice_counts_once(tmp_path):
    workdir = make(tmp_path)
    once = read(workdir)[2]
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    stale = json.dumps({**json.loads(lines[9]), "loss": 77.0})
    (workdir / "metrics.jsonl").write_text("\n".join([*lines[:9], stale, *lines[9:]]) + "\n")
    assert read(workdir)[2] == once


def test_long_logs_are_thinned():
    x = np.arange(4800.0)
    line, low, high = thin(Series("loss", x, x))
    assert len(line.x) == 240 and line.y.mean() == pytest.approx(x.mean(), rel=1e-3)
    assert low[0] == 0 and high[-1] == 4799
    assert "No finite value" in line_chart("loss", [Series("loss", x[:3], np.full(3, np.nan))])
    assert "log scale" in line_chart("loss", [Series("loss", x[:3], np.array([1.0, 10.0, 1000.0]))])
    assert "<circle" in line_chart("loss", [Series("loss", x[:1], np.array([1.0]))])


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 7), (0.001, 0.0042), (1e5, 9e5), (-1e-9, 1e-9)]
)
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert (
        2 <= len(found) <= 7
        and low - 1e-12 <= found[0]
        and found[-1] <= high + 1e-12 * abs(high) + 1e-15
    )
    np.testing.assert_allclose(np.diff(found), found[1] - found[0])


def test_principal_components_against_singular_values():
    rng = np.random.default_rng(3)
    for shape in ((50, 8), (8, 50)):
        x = rng.normal(size=shape) * np.linspace(3, 1, shape[1])
        centered = x - x.mean(0)
        u, s, _ = np.linalg.svd(centered, full_matrices=False)
        scores, share = principal_components(x, 2)
        np.testing.assert_allclose(np.abs(scores), np.abs(u[:, :2] * s[:2]), atol=1e-8)
        assert share == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())
        np.testing.assert_allclose(principal_components(x + 100, 2)[0], scores, atol=1e-6)
    assert principal_components(np.ones((5, 1)), 2)[1] == 0.0
    assert principal_components(rng.normal(size=(5, 1)), 2)[0].shape == (5, 2)


def test_tsne_keeps_groups_together_and_repeats_itself():
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(5), 30)
    x = rng.normal(size=(5, 20))[labels] * 4 + rng.normal(size=(150, 20))
    points = tsne(x)
    np.testing.assert_array_equal(points, tsne(x))
    distance = ((points[:, None] - points) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(1)] == labels).mean() > 0.98
    assert np.isfinite(tsne(np.concatenate([x, x[:40]]))).all(), "doubled points"


def test_map_takes_an_even_share_of_many_points():
    x = np.random.default_rng(5).normal(size=(500, 4))
    x[3] = np.nan
    layout = embedding_map(x, unit_length=False, max_points=100)
    assert len(layout.rows) == 100 and layout.not_finite == 1 and 3 not in layout.rows
    assert layout.rows[0] == 0 and layout.rows[-1] == 499 and np.diff(layout.rows).max() <= 7
