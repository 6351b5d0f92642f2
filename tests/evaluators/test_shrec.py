"""The SHREC evaluator on made-up drawings and shapes whose right answers are known."""

import json

import numpy as np
import PIL.Image
import pytest
from evaluators.sketch_toy import CLASSES, VIEWS, Keep, drawing, embed, evaluator, sides, split_of
from fakes import reading

from jax3dret.core.types import ConfigError, DataError, DataSpec
from jax3dret.data.sketches import encode
from jax3dret.evaluators import cross_modal, examples, rank_lists
from jax3dret.metrics import shrec


def relevance(gallery, queries):
    unit = [
        s.vectors / np.linalg.norm(s.vectors.astype(np.float64), axis=1, keepdims=True)
        for s in (queries, gallery)
    ]
    order = np.argsort(-(unit[0] @ unit[1].T), axis=1, kind="stable")
    return gallery.labels[order] == queries.labels[:, None], unit[0] @ unit[1].T


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """One evaluation with every file, and a view store whose pictures tell row and view."""
    gallery, queries = sides()
    folder = tmp_path_factory.mktemp("run") / "retrieval"
    path = folder.parent / "views.npy"
    pictures = np.zeros((len(gallery), VIEWS, 32, 32, 3), np.uint8)
    pictures += np.arange(VIEWS, dtype=np.uint8)[:, None, None, None] * 20
    np.save(path, pictures)
    metrics = evaluator(gallery, queries, views=lambda source: path, rank_lists=True)(embed, folder)
    return gallery, queries, metrics, folder, json.loads((folder / "result.json").read_text())


def test_metrics_are_those_of_the_exact_ranking(evaluated):
    gallery, queries, metrics, _, result = evaluated
    relevant, _ = relevance(gallery, queries)
    expected = {name: value.mean() for name, value in shrec.scores(relevant).items()}
    np.testing.assert_allclose(
        [metrics[n] for n in shrec.NAMES], [expected[n] for n in shrec.NAMES], atol=1e-12
    )
    assert metrics["nn_acc"] == metrics["NN"] and metrics["map_pessimistic"] == pytest.approx(
        metrics["mAP"]
    )
    assert 0.3 < metrics["mAP"] < 1.0  # neither chance nor perfect: the formulas differ
    assert result["metrics"] == metrics and metrics == evaluator(gallery, queries)(embed, None)


def test_embeddings_of_zeros_are_in_every_measure_and_in_the_histogram(tmp_path):
    gallery, queries = sides()
    gallery.vectors[3] = queries.vectors[5] = 0
    metrics = evaluator(gallery, queries)(embed, tmp_path)
    assert all(np.isfinite(value) for value in metrics.values())
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["protocol"]["zero_embeddings"] == {"gallery": 1, "query": 1}
    within, between = (np.array(result["distances"][side]) for side in ("within", "between"))
    assert result["distances"]["edges"][-1] == 3.0 and within[-1] > 0 and between[-1] > 0


def test_a_shape_and_its_own_drawing(tmp_path):
    """Each row is asked for with itself; the third has no direction as a drawing."""
    records = split_of(np.eye(8), np.arange(8) % 4, drawings=False)
    drawn = np.eye(8, dtype=np.float32)
    drawn[2] = 0
    run = cross_modal.make(
        reading(shape=Keep("shaped")),
        lambda split, name: records,
        query="sketch",
        gallery="shape",
    )
    both = run(
        lambda batch: {"shape": batch["shaped"], "sketch": batch["shaped"] @ drawn}, tmp_path
    )
    assert both["recall_1"] == pytest.approx(7 / 8) and both["recall_5"] == pytest.approx(7 / 8)
    protocol = json.loads((tmp_path / "result.json").read_text())["protocol"]
    assert protocol["zero_embeddings"] == {"gallery": 0, "query": 1}
    assert protocol["search"] == "exact"


def test_what_each_number_is_and_by_which_protocol(evaluated):
    *_, result = evaluated
    protocol = result["protocol"]
    # In the order in which a report leads with them, the measures of the tracks before the others.
    assert list(result["about"]) == list(result["metrics"])
    assert tuple(result["about"])[: len(shrec.NAMES)] == shrec.NAMES
    assert result["about"]["ST_prec"]["title"] == "Second tier, precision"
    assert all(entry.keys() == {"title", "meaning"} for entry in result["about"].values())
    assert not set(result["about"]) & set(protocol)
    assert protocol["self_match"] == "disjoint" and protocol["ties"] == "lowest gallery row first"
    assert (
        protocol["classes"]
        == "4 with queries and gallery items, 0 with queries alone, 0 with gallery items alone"
    )
    assert result["queries"] == {"name": "toys/sketches", "version": "1.0.0"}
    assert result["dataset"]["name"] == "toys/shapes" and result["dataset"]["items"] == {
        "gallery": 42,
        "query": 30,
    }
    assert "tiers_longer_than_the_gallery" not in protocol


def test_files_hold_what_the_report_shows(evaluated):
    gallery, queries, _, folder, result = evaluated
    np.testing.assert_array_equal(np.load(folder / "embeddings.npy"), queries.vectors)
    np.testing.assert_array_equal(np.load(folder / "gallery_embeddings.npy"), gallery.vectors)
    np.testing.assert_array_equal(np.load(folder / "gallery_labels.npy"), gallery.labels)
    assert np.load(folder / "view_scores.npy").shape == (42, VIEWS)
    assert not list(folder.parent.rglob("*.partial"))

    relevant, cosine = relevance(gallery, queries)
    curve = result["precision_recall"]
    precision = shrec.precision_recall_curve(shrec.precision_at_recall(relevant))[1]
    np.testing.assert_allclose(np.array(curve["precision"], float), precision)
    assert curve["recall"][-1] == 1.0 and curve["queries"][-1] == 30
    counts = np.bincount(gallery.labels)
    padded = shrec.average_precision(relevant, largest=int(counts[queries.labels].max()))
    assert curve["map_of_2013_script"] == pytest.approx(padded.mean())

    found = result["distances"]
    same = gallery.labels == queries.labels[:, None]
    assert found["pairs"] == {"within": int(same.sum()), "between": int((~same).sum())}
    assert found["mean"]["within"] == pytest.approx((1 - cosine)[same].mean(), abs=1e-6)
    assert len(found["edges"]) == len(found["within"]) + 1 == len(found["between"]) + 1 <= 41
    for name, kept in (("within", same), ("between", ~same)):
        counted = np.histogram((1 - cosine)[kept], bins=found["edges"])[0]
        np.testing.assert_allclose(found[name], counted / kept.sum(), atol=1e-12)
    assert 0 < found["overlap"] < 1


def test_views_with_their_scores_and_pictures(evaluated):
    _, _, _, folder, result = evaluated
    views = result["views"]
    assert (
        views["views"] == VIEWS
        and views["best_view_share"][3] == 1.0
        and views["without_preference"] == 0
    )
    assert len(views["shapes"]) == 6 and {shape["label"] for shape in views["shapes"]} == set(
        CLASSES
    )
    for shape in views["shapes"]:
        assert shape["scores"][3] == pytest.approx(0.8)
        for view, name in enumerate(shape["thumbnails"]):
            pixels = np.asarray(PIL.Image.open(folder / "thumbnails" / name))
            assert pixels.ndim == 2 and (pixels == 20 * view).all()


def test_sketches_are_shown_as_drawings(evaluated):
    _, _, _, folder, result = evaluated
    shown = result["examples"][0]
    assert len(shown["results"]) == 8
    pixels = np.asarray(PIL.Image.open(folder / "thumbnails" / shown["query"]["thumbnail"]))
    label = CLASSES.index(shown["query"]["label"])
    record = {"png": np.frombuffer(encode(drawing(label)), np.uint8)}
    np.testing.assert_array_equal(pixels, examples.picture(record, "z"))
    assert pixels.shape == (160, 160, 3) and pixels.min() < 100 and np.median(pixels) == 255


def test_rank_lists_in_the_format_of_the_tracks(evaluated):
    gallery, queries, _, folder, _ = evaluated
    files = sorted(p.name for p in (folder / "rank_lists").iterdir())
    assert files == sorted(name.rsplit("/", 1)[-1] for name in queries.ids)
    _, cosine = relevance(gallery, queries)
    first, *lines = (folder / "rank_lists" / "7").read_text().splitlines()
    assert first == "7" and len(lines) == 42
    names, values = zip(*(line.split(" ") for line in lines), strict=True)
    np.testing.assert_allclose([float(v) for v in values], np.sort(1 - cosine[7]), atol=1e-7)
    order = np.argsort(-cosine[7], kind="stable")
    assert list(names) == [gallery.ids[row].rsplit("/", 1)[-1] for row in order]


def test_names_in_rank_lists_are_words_and_unique():
    assert rank_lists.names(["a/1", "b/2"], "query") == ["1", "2"]
    assert rank_lists.names(["a/1", "b/1"], "query") == ["a_1", "b_1"]
    assert rank_lists.names(["a/m 1"], "item") == ["m_1"]
    with pytest.raises(DataError, match="no names that are unique"):
        rank_lists.names(["a/x", "b/x", "a_x"], "query")
    with pytest.raises(DataError, match="no names"):
        rank_lists.names([".."], "query")


def test_a_sketch_and_a_shape_of_one_id_are_two_things():
    gallery, queries = sides(queries=42)
    assert gallery.ids == queries.ids
    queries.vectors = gallery.vectors.copy()
    assert evaluator(gallery, queries)(embed, None)["NN"] == 1.0


def test_classes_on_one_side_alone_are_counted(tmp_path):
    """No nut among the shapes, no gear among the sketches, and fewer shapes than two tiers."""
    gallery, queries = sides(queries=20, items=12)
    gallery.labels = np.where(gallery.labels == 1, 0, gallery.labels)
    queries.labels = np.where(queries.labels == 3, 2, queries.labels)
    metrics = evaluator(gallery, queries)(embed, tmp_path)
    protocol = json.loads((tmp_path / "result.json").read_text())["protocol"]
    assert (
        protocol["classes"]
        == "2 with queries and gallery items, 1 with queries alone, 1 with gallery items alone"
    )
    assert protocol["queries_without_relevant_items"] == 5
    assert protocol["tiers_longer_than_the_gallery"].startswith(
        "15 queries ask for more than the 12 items"
    )
    relevant, _ = relevance(gallery, queries)
    by_query = shrec.scores(relevant)
    assert metrics["NN"] == by_query["NN"].mean() and metrics["FT"] == pytest.approx(
        np.nanmean(by_query["FT"])
    )


def test_nothing_relevant_at_all_leaves_the_undefined_out(tmp_path):
    gallery, queries = sides(queries=4, items=12)
    gallery.labels[:], queries.labels[:] = 0, 1
    metrics = evaluator(gallery, queries)(embed, tmp_path)
    assert metrics["NN"] == metrics["MRR"] == 0.0 and not {"FT", "mAP", "E"} & set(metrics)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (
        result["precision_recall"]["precision"] == [None] * 20
        and result["distances"]["overlap"] is None
    )


def test_without_labels_there_is_nothing_to_score(tmp_path):
    gallery, queries = sides(queries=4, items=12)
    gallery.manifest["labelled"] = False
    assert set(evaluator(gallery, queries)(embed, tmp_path)) == {"index_recall_at_10"}
    result = json.loads((tmp_path / "result.json").read_text())
    assert "precision_recall" not in result and result["views"]["shapes"][0]["label"] is None


def test_each_side_has_its_own_arrays_and_features(tmp_path):
    """Cached features of the shapes, those of the sketches in another file."""
    gallery, queries = sides(queries=9, items=12)
    for name, split in (("g", gallery), ("q", queries)):
        np.save(tmp_path / f"{name}.npy", split.vectors)
    arrays = {
        "shape": ("shaped", tmp_path / "g.npy"),
        "sketch": ("drawn", lambda source: tmp_path / "q.npy"),
    }

    def data(modality, split):
        array = arrays[modality]
        kept = (lambda record, rng: {array[0]: record[array[0]]},)
        return DataSpec(modality, split, 32, arrays=(array,), transforms=kept, num_threads=0)

    run = evaluator(gallery, queries, data=data, neighbours=100)
    assert run(embed, None) == evaluator(gallery, queries, neighbours=100)(embed, None)


def test_bad_choices_and_bad_views(unchecked, tmp_path):
    gallery, queries = sides(queries=4, items=6)
    with pytest.raises(ConfigError, match="ties='average'"):
        evaluator(gallery, queries, ties="average")
    other = split_of(queries.vectors, queries.labels, drawings=True, classes=tuple("abcd"))
    with pytest.raises(ConfigError, match="one list of classes"):
        evaluator(gallery, other)
    np.save(tmp_path / "views.npy", np.zeros((6, VIEWS - 1, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="11 views of a shape; the model scores 12"):
        evaluator(gallery, queries, views=tmp_path / "views.npy")(embed, tmp_path / "out")
    with pytest.raises(DataError, match="view_scores have shape"):
        evaluator(gallery, queries)(lambda b: {**embed(b), "view_scores": np.zeros(6)}, None)
