"""The report on sketches against shapes, from an evaluation of made-up ones, and from damaged
files.
"""

import json
import shutil

import numpy as np
import pytest
from evaluators.sketch_toy import VIEWS, embed, evaluator, sides
from report.test_page import EVIL, Page

from jax3dret.core.types import DataError
from jax3dret.report.page import write_report
from jax3dret.tasks.mvhgnn.published import NOTE, published


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sketch") / "run"
    gallery, queries = sides(queries=24, items=20)
    np.save(workdir.parent / "views.npy", np.full((20, VIEWS, 8, 8, 3), 200, np.uint8))
    run = evaluator(gallery, queries, views=workdir.parent / "views.npy", neighbours=100)
    run(embed, workdir / "evaluation" / "retrieval")
    meta = {
        "prototypes": {"name": "jax3dret.tasks.mvhgnn.prototypes:from_clip_text"},
        "published_note": NOTE,
    }
    summary = {"system": "mvhgnn", "meta": meta, "published": published(1, "MV-HGNN", "category")}
    (workdir / "summary.json").write_text(json.dumps(summary))
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def change(workdir, edit):
    path = workdir / "evaluation" / "retrieval" / "result.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def read(workdir):
    text = write_report(workdir).read_text(encoding="utf-8")
    return Page(text), text


def test_page_shows_both_modalities(workdir):
    page, text = read(workdir)
    for part in (
        "toys/sketches against toys/shapes 1.0.0",
        "prototypes from clip text",
        "Queries: split test of toys/sketches (24 items).",
        "Queries and gallery share no item",
        "90.6 % MV-HGNN (paper, table 1, category level)",
        "The columns of the MV-HGNN paper are not of one kind",
        "Second tier, precision (ST_prec)",
        "Precision over recall",
        "Distances (1 - cosine), shares of the pairs",
        "24 queries and 20 gallery items",
        "queries (sketches)",
        "Over the gallery",
    ):
        assert part in page.text, part
    tiles = [a for t, a in page.tags if t == "div" and a.get("class") == "tile"]
    assert len(tiles) == 4 and page.text.index("First tier") < page.text.index("Second tier")
    marks = text[text.index('<g class="marks">') : text.index('<g class="names">')]
    assert marks.count('href="#m-cross"') == 24 and marks.count("<use") == 44
    anchors = [a["href"][1:] for t, a in page.tags if t == "a"]
    assert anchors == [a["id"] for t, a in page.tags if t == "section"] and {
        "ranking",
        "views",
    } <= set(anchors)


def test_preferred_views_are_numbered_under_their_pictures(workdir):
    page, text = read(workdir)
    strip = [a for t, a in page.tags if t == "li" and str(a.get("class")).startswith("view")]
    assert len(strip) == VIEWS * 7  # the gallery, and six shapes
    assert sum(a["class"] == "view top" for a in strip) == 1 + 6 * 3
    assert text.count('<span class="mark" aria-hidden="true">1</span>') == 6
    assert sum(t == "img" and "view 4: 0.800" in str(a.get("alt")) for t, a in page.tags) == 6
    assert all(a.get("alt") for t, a in page.tags if t == "img")


def test_without_a_view_store_bars_stand_alone(workdir):
    change(workdir, lambda r: [s.update(thumbnails=None) for s in r["views"]["shapes"]])
    page, _ = read(workdir)
    assert not any(t == "img" and "view 4" in str(a.get("alt")) for t, a in page.tags)
    assert sum(t == "li" and a.get("class") == "view top" for t, a in page.tags) == 19


def test_a_model_without_preference_says_so(workdir):
    change(workdir, lambda r: r["views"].update(best_view_share=[0.0] * VIEWS))
    assert "it has no selector" in read(workdir)[0].text


def test_what_is_missing_or_damaged_is_said(workdir):
    def spoil(result):
        result["precision_recall"]["precision"] = [None] * 20
        result["distances"]["within"] = [0.5]
        result["views"]["mean_score"] = "many"

    change(workdir, spoil)
    np.save(
        workdir / "evaluation" / "retrieval" / "gallery_embeddings.npy",
        np.full((20, 8), np.nan, np.float32),
    )
    text = read(workdir)[0].text
    for part in (
        "there is no precision-recall curve",
        "histograms of the distances are damaged",
        "scores of the views are damaged",
        "not finite, left out of the map: 20",
    ):
        assert part in text, part
    change(workdir, lambda r: [r.pop(key) for key in ("precision_recall", "distances", "views")])
    page, _ = read(workdir)
    assert not {"ranking", "views"} & {a.get("id") for t, a in page.tags if t == "section"}


def test_embeddings_of_two_widths_are_refused(workdir):
    np.save(
        workdir / "evaluation" / "retrieval" / "gallery_embeddings.npy",
        np.ones((20, 5), np.float32),
    )
    with pytest.raises(DataError, match=r"8 wide, gallery_embeddings.npy 5"):
        write_report(workdir)
    np.save(
        workdir / "evaluation" / "retrieval" / "gallery_embeddings.npy",
        np.ones((19, 8), np.float32),
    )
    with pytest.raises(DataError, match="gallery_labels.npy has 20 rows"):
        write_report(workdir)


def test_names_from_outside_stay_text(workdir):
    def spoil(result):
        result["queries"]["name"] = result["views"]["shapes"][0]["id"] = result["views"]["shapes"][
            0
        ]["label"] = EVIL

    change(workdir, spoil)
    summary = json.loads((workdir / "summary.json").read_text())
    summary["meta"]["prototypes"] = EVIL
    (workdir / "summary.json").write_text(json.dumps(summary))
    page, text = read(workdir)
    assert text.count("<script") == 1 and EVIL in page.text
