"""The retrieval evaluator on a made-up data set whose right answers are known."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest
from fakes import FakeSource, reading

from jax3dret.core.types import ConfigError, DataError
from jax3dret.evaluators import examples, rank, retrieval
from jax3dret.index import backends, searcher
from jax3dret.index.index import Index

CLASSES = ("bolt", "nut", "washer")


def source(vectors, labels, *, prefix="part", split="train", classes=CLASSES, **manifest):
    """A split whose records hold their embedding, "vector", which may be changed afterwards."""

    def record(row):
        points = np.random.default_rng(row).normal(size=(50, 3)).astype(np.float32)
        return {"vector": made.vectors[row], "points": points}

    ids = [f"{prefix}/{i}" for i in range(len(labels))]
    made = FakeSource(
        labels, record, name="parts/demo", split=split, class_names=classes, ids=ids, **manifest
    )
    made.vectors = np.asarray(vectors, np.float32)
    return made


@dataclasses.dataclass(frozen=True)
class KeepVector:
    def __call__(self, record, rng):
        return {"vector": record["vector"]}


def embed(batch):
    return {"shape": batch["vector"]}


def two_rings(num, seed):
    """Class c lies around angle 2 c; every sixth item has the label of the next class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 3
    angle = 2 * labels + 0.2 * rng.normal(size=num)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.5, 2, (num, 1))
    return vectors, np.where(np.arange(num) % 6 == 0, (labels + 1) % 3, labels)


@pytest.fixture
def splits():
    return {
        "train": source(*two_rings(60, 0), prefix="train", split="train"),
        "test": source(*two_rings(23, 1), prefix="test", split="test"),
    }


def evaluator(splits, gallery="train", query="test", **settings):
    """Over a dict of splits; `query` may be a modality of its own: (modality, split)."""
    modality, query = query if isinstance(query, tuple) else ("shape", query)
    settings = {"query": modality, "neighbours": 20, **settings}
    data = reading(shape=KeepVector(), sketch=KeepVector())
    return retrieval.make(
        data,
        lambda split, name: splits[split],
        gallery_split=gallery,
        query_split=query,
        **settings,
    )


def slow_metrics(queries, gallery, n, same):
    """nn_acc, ndcg_n, map, recall_5, hit_rate_5 by the definitions, one query at a time; cosine."""
    unit = [
        s.vectors / np.linalg.norm(s.vectors, axis=1, keepdims=True) for s in (queries, gallery)
    ]
    values = []
    for i in range(len(queries)):
        order = [
            j for j in np.argsort(-(unit[1] @ unit[0][i]), kind="stable") if not (same and i == j)
        ]
        gains = gallery.labels[order] == queries.labels[i]
        discount = 1 / np.log2(np.arange(2, n + 2))
        hits = np.flatnonzero(gains) + 1
        values.append(
            [
                gains[0],
                gains[:n] @ discount / discount[: min(n, gains.sum())].sum(),
                np.mean(np.arange(1, len(hits) + 1) / hits),
                gains[:5].sum() / gains.sum(),
                gains[:5].any(),
            ]
        )
    return np.mean(values, axis=0)


@pytest.mark.parametrize("query", ["test", "train"])
@pytest.mark.parametrize("kind", ["exact", "auto"])
def test_metrics_match_the_definitions(splits, query, kind):
    metrics = evaluator(splits, query=query, index={"kind": kind})(embed, None)
    expected = slow_metrics(splits[query], splits["train"], 20, query == "train")
    names = ("nn_acc", "ndcg_20", "map_pessimistic", "recall_5", "hit_rate_5")
    np.testing.assert_allclose([metrics[name] for name in names], expected, atol=1e-9)
    assert {
        "nn_f1",
        "ndcg_20_published_code",
        "recall_1",
        "recall_10",
        "hit_rate_10",
        "precision_10",
    } <= metrics.keys()
    assert all(type(value) is float and 0 <= value <= 1 for value in metrics.values())


def test_leave_one_out_never_finds_itself(splits):
    alone = source(np.eye(6), [0, 0, 1, 1, 2, 2])
    kept = evaluator({"train": alone}, query="train", self_match="include", neighbours=1)(
        embed, None
    )
    assert kept["nn_acc"] == 1.0
    # Orthogonal vectors: the nearest other item is row 0, or 1 for row 0 itself.
    assert evaluator({"train": alone}, query="train", neighbours=1)(embed, None)[
        "nn_acc"
    ] == pytest.approx(2 / 6)


def test_self_match_goes_by_id_across_splits(splits):
    """The queries are part of the gallery, under another split expression and in another order."""
    part = source(
        splits["train"].vectors[:5][::-1], splits["train"].labels[:5][::-1], split="train[:5]"
    )
    part.ids = splits["train"].ids[:5][::-1]
    metrics = evaluator({"train": splits["train"], "part": part}, query="part")(embed, None)
    whole = source(splits["train"].vectors[:5], splits["train"].labels[:5])
    assert metrics["map_pessimistic"] == pytest.approx(
        slow_metrics(whole, splits["train"], 20, True)[2]
    )


def test_files(splits, tmp_path):
    folder = tmp_path / "evaluation" / "retrieval"
    run = evaluator(splits)
    metrics = run(embed, folder)
    assert run(embed, folder) == metrics == run(embed, None)  # repeatable, over its own files too
    result = json.loads((folder / "result.json").read_text())
    assert sorted(p.name for p in folder.iterdir()) == [
        "embeddings.npy",
        "labels.npy",
        "result.json",
        "thumbnails",
    ]
    np.testing.assert_array_equal(np.load(folder / "embeddings.npy"), splits["test"].vectors)
    np.testing.assert_array_equal(np.load(folder / "labels.npy"), splits["test"].labels)
    assert np.load(folder / "labels.npy").dtype == np.int32

    assert (
        result["name"] == "retrieval"
        and result["metrics"] == metrics
        and result["class_names"] == list(CLASSES)
    )
    assert result["dataset"] == {
        "name": "parts/demo",
        "version": "1.0.0",
        "splits": {"gallery": "train", "query": "test"},
        "items": {"gallery": 60, "query": 23},
    }
    protocol = result["protocol"]
    assert (
        protocol["distance"] == "cosine"
        and protocol["self_match"] == "excluded by id"
        and protocol["n"] == 20
    )
    assert protocol["ties"] == "lowest gallery row first" and "n_note" not in protocol
    assert {"kind", "scoring", "items", "recall_at_10"} <= result["index"].keys()
    assert all(result["timing"][key] > 0 for key in ("embed_items_per_s", "search_ms_per_query"))
    assert [row["class"] for row in result["per_class"]] == list(CLASSES)
    counts = np.array(result["confusion"]["counts"])
    assert counts.sum() == 23 and np.trace(counts) / 23 == pytest.approx(metrics["nn_acc"])

    right, wrong = round(metrics["nn_acc"] * 23), 23 - round(metrics["nn_acc"] * 23)
    shown = result["examples"]
    assert sum(e["correct"] for e in shown) == min(10, right) and sum(
        not e["correct"] for e in shown
    ) == min(10, wrong)
    for example in shown:
        assert [r["rank"] for r in example["results"]] == list(range(1, 9))
        assert [r["score"] for r in example["results"]] == sorted(
            (r["score"] for r in example["results"]), reverse=True
        )
        assert example["correct"] == (example["results"][0]["label"] == example["query"]["label"])
        for item in (example["query"], *example["results"]):
            image = np.asarray(PIL.Image.open(folder / "thumbnails" / item["thumbnail"]))
            assert image.shape == (160, 160, 3) and image.min() < 250


def test_a_gallery_smaller_than_the_list_cuts_it_and_says_so(splits, tmp_path):
    metrics = evaluator(splits, query="train", neighbours=100)(embed, tmp_path)
    assert (
        "ndcg_59" in metrics and "ndcg_59_published_code" in metrics and "ndcg_100" not in metrics
    )
    protocol = json.loads((tmp_path / "result.json").read_text())["protocol"]
    assert protocol["n"] == 59 and "100 neighbours were asked for" in protocol["n_note"]


def test_short_lists_still_have_recall_at_10(splits):
    metrics = evaluator(splits, neighbours=5)(embed, None)
    assert "ndcg_5" in metrics and "recall_10" in metrics


def test_a_data_set_without_labels(splits, tmp_path):
    bare = source(splits["train"].vectors, np.zeros(60), labelled=False, classes=("unlabelled",))
    assert evaluator({"train": bare}, query="train")(embed, tmp_path) == {"index_recall_at_10": 1.0}
    result = json.loads((tmp_path / "result.json").read_text())
    assert (
        "labels" in result["protocol"] and result["per_class"] == [] and result["confusion"] is None
    )
    assert len(result["examples"]) == 20
    assert all(e["correct"] is None and e["query"]["label"] is None for e in result["examples"])


def test_classes_that_the_gallery_lacks(splits, tmp_path):
    gallery = source(splits["train"].vectors[:20], np.zeros(20))
    queries = source(splits["test"].vectors, np.arange(23) % 2, prefix="test")
    metrics = evaluator({"train": gallery, "test": queries})(embed, tmp_path)
    assert metrics["nn_acc"] == pytest.approx(12 / 23) and metrics["map_pessimistic"] == 1.0
    assert (
        json.loads((tmp_path / "result.json").read_text())["protocol"][
            "queries_without_relevant_items"
        ]
        == 11
    )
    queries = source(splits["test"].vectors, np.full(23, 2), prefix="test")
    metrics = evaluator({"train": gallery, "test": queries})(embed, None)
    assert metrics["nn_acc"] == 0 and "map_pessimistic" not in metrics and "recall_1" not in metrics


def test_a_collapsed_encoder_does_not_score(splits, tmp_path):
    """All embeddings equal and the gallery sorted by class."""
    gallery = source(np.ones((60, 2)), np.repeat([0, 1, 2], 20))
    queries = source(np.ones((6, 2)), np.zeros(6), prefix="test")
    run = evaluator({"train": gallery, "test": queries}, ties="pessimistic")
    metrics = run(embed, tmp_path)
    assert metrics["nn_acc"] == 0 and metrics["map_pessimistic"] < 0.25
    assert (
        metrics["ndcg_20"]
        == metrics["hit_rate_10"]
        == metrics["recall_5"]
        == metrics["precision_10"]
        == 0
    )
    assert (
        evaluator({"train": gallery, "test": queries})(embed, None)["map_pessimistic"]
        == metrics["map_pessimistic"]
    )
    short = evaluator({"train": gallery, "test": queries}, full_ranking_pairs=10)(embed, None)
    assert short["map_pessimistic_20"] == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["protocol"]["queries_with_a_tied_nearest_neighbour"] == 6


def test_embeddings_of_zeros_rank_last_and_are_counted(splits, tmp_path, caplog):
    """One of the queries' class in the gallery, and a query."""
    labels = splits["train"].labels
    lost = [int(np.flatnonzero(labels == label)[0]) for label in (0, 1)]
    splits["train"].vectors[lost] = 0
    splits["test"].vectors[4] = 0
    metrics = evaluator(splits)(embed, tmp_path)
    assert all(np.isfinite(value) for value in metrics.values())
    protocol = json.loads((tmp_path / "result.json").read_text())["protocol"]
    assert protocol["zero_embeddings"] == {"gallery": 2, "query": 1}
    assert "is ranked last" in protocol["zero_embeddings_note"]
    assert "all zeros: 2 of 60 in the gallery, 1 of 23 queries" in caplog.text
    # The directed ones see what they saw, and behind it the two.
    kept = [row for row in range(60) if row not in lost]
    asked = [row for row in range(23) if row != 4]
    some = {
        "train": source(splits["train"].vectors[kept], labels[kept], prefix="train"),
        "test": source(splits["test"].vectors[asked], splits["test"].labels[asked], prefix="test"),
    }
    right = evaluator(some)(embed, None)["nn_acc"] * 22 + (splits["test"].labels[4] == labels[0])
    assert metrics["nn_acc"] * 23 == pytest.approx(right)
    said = evaluator(splits, distance="euclidean")(embed, tmp_path) and json.loads(
        (tmp_path / "result.json").read_text()
    )
    assert "zero_embeddings" not in said["protocol"]


def test_large_galleries_cut_average_precision(splits):
    metrics = evaluator(splits, full_ranking_pairs=10)(embed, None)
    assert "map_pessimistic_20" in metrics and "map_pessimistic" not in metrics


@pytest.mark.skipif(not backends.scann_available(), reason="scann has wheels for Linux only")
@pytest.mark.parametrize(
    ("index", "scoring"),
    [
        ({}, "brute_force"),
        ({"kind": "auto"}, "brute_force"),
        ({"kind": "scann", "target_recall": 0.9}, "brute_force"),
        ({"scoring": "tree_ah"}, "tree_ah"),
    ],
)
def test_a_tree_searches_only_where_it_is_asked_for_and_is_named(
    tmp_path, monkeypatch, index, scoring
):
    """Of galleries that an index for serving would have a tree for."""
    monkeypatch.setattr(searcher, "TREE_FROM", 300)
    many = source(*two_rings(400, 2))
    evaluator({"train": many}, query="train", index=index)(embed, tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["index"]["scoring"] == scoring
    assert result["protocol"]["search"] == {"brute_force": "exact"}.get(scoring, scoring)
    served = Index.build(many.vectors, [str(i) for i in range(400)])
    assert served.scoring == "tree_ah"


def test_queries_of_another_kind(splits):
    """Sketches against shapes: another source, another embedding, the same space."""

    def both(batch):
        return {"shape": batch["vector"], "sketch": -batch["vector"]}

    mirrored = source(-splits["test"].vectors, splits["test"].labels, prefix="sketch")
    run = evaluator({**splits, "all": mirrored}, query=("sketch", "all"))
    assert run(both, None) == evaluator(splits)(embed, None)


def test_only_the_first_process_writes(splits, tmp_path, monkeypatch):
    monkeypatch.setattr("jax3dret.evaluators.retrieval.jax.process_index", lambda: 1)
    monkeypatch.setattr("jax3dret.evaluators.retrieval.jax.process_count", lambda: 2)

    def whole(batch):
        # The rows of the global batch: this process holds the second half of them.
        vectors = splits[split].vectors
        start = calls[split] * 8
        calls[split] += 1
        return {"shape": np.resize(vectors[start : start + 8], (8, 2))}

    calls, metrics = {"train": 0, "test": 0}, None
    split = "train"
    run = evaluator(splits)

    def switch(batch):
        nonlocal split
        split = "train" if calls["train"] < 8 else "test"
        return whole(batch)

    metrics = run(switch, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert metrics == evaluator(splits)(embed, None)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"distance": "l1"}, "distance='l1'"),
        ({"ties": "random"}, "ties='random'"),
        ({"self_match": "maybe"}, "self_match='maybe'"),
        ({"neighbours": 0}, "neighbours=0"),
        ({"index": {"leaves": 3}}, "index.leaves: not an option"),
        ({"index": {"kind": "tree"}}, "kind='tree': choose one of"),
        (
            {"index": {"scoring": "auto"}},
            "index.scoring='auto': choose one of brute_force, tree_ah",
        ),
        (
            {"index": {"scoring": "tree_ah"}},
            "tree_ah' needs",
        ),  # the gallery is too small, known before any training
    ],
)
def test_bad_settings(unchecked, splits, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        evaluator(splits, **kwargs)


def test_labels_of_two_lists_of_classes_are_not_compared(splits):
    other = source(splits["test"].vectors, splits["test"].labels, classes=("a", "b", "c"))
    with pytest.raises(ConfigError, match="one list of classes"):
        evaluator({**splits, "test": other})


def test_one_item_alone():
    with pytest.raises(DataError, match="nothing to retrieve"):
        evaluator({"train": source(np.ones((1, 2)), [0])}, query="train")(embed, None)


def test_nan_embeddings_name_the_item(splits):
    splits["train"].vectors[13, 0] = np.nan
    with pytest.raises(DataError, match=r"row 13 \(train/13\)"):
        evaluator(splits)(embed, None)


def test_examples_spread_over_the_classes():
    labels = np.repeat([0, 1, 2], 50)
    chosen = examples.choose(np.ones(150, bool), labels)
    assert len(chosen) == 10 and set(labels[chosen]) == {0, 1, 2}
    assert examples.choose(np.zeros(3, bool), np.zeros(3, int)) == [0, 1, 2]


def test_pictures_of_meshes_images_and_nothing():
    mesh = {"vertices": np.eye(3, dtype=np.float32), "faces": np.array([[0, 1, 2]], np.int32)}
    assert examples.picture({**mesh, "points": np.zeros((1, 3))}, "z").shape == (160, 160, 3)
    image = examples.picture({"image": np.zeros((40, 80, 3), np.uint8)}, "z")
    assert image.shape == (160, 160, 3) and (image == 0).any() and (image == 255).any()
    assert examples.picture({"text": "a chair"}, "z") is None


def test_neighbours_report_the_scores_of_the_index():
    vectors = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for distance in ("cosine", "euclidean"):
        index = Index.build(vectors, [str(i) for i in range(20)], distance=distance)
        found = rank.nearest(index, vectors[:4], ["0", "1", "2", "x"], 5)
        rows, scores = index.search(vectors[:4], 6)
        assert (
            found.rows[0].tolist() == rows[0, 1:].tolist()
            and found.rows[3].tolist() == rows[3, :5].tolist()
        )
        np.testing.assert_allclose(found.scores(distance)[0], scores[0, 1:], rtol=1e-6)
