"""The index: exactness, ties, every input that makes ScaNN fail, changes, files."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.index import backends
from jax3dret.index.index import Index

scann_only = pytest.mark.skipif(
    not backends.scann_available(), reason="scann has wheels for Linux only"
)
KINDS = ["exact", pytest.param("scann", marks=scann_only)]


def clustered(num, width=16, seed=0):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(20, width))
    return (centers[rng.integers(0, 20, num)] + 0.3 * rng.normal(size=(num, width))).astype(
        np.float32
    )


def names(num, prefix="item"):
    return [f"{prefix}/{i}" for i in range(num)]


def slow_search(queries, vectors, k, distance):
    """All pairs in float64, sorted by (distance, row)."""
    q, g = queries.astype(np.float64), vectors.astype(np.float64)
    if distance == "cosine":
        q, g = (x / np.sqrt((x * x).sum(axis=1, keepdims=True)) for x in (q, g))
    d2 = ((q[:, None] - g[None]) ** 2).sum(axis=-1)
    rows = np.argsort(d2, axis=1, kind="stable")[:, :k]
    d2 = np.take_along_axis(d2, rows, axis=1)
    return rows, 1 - d2 / 2 if distance == "cosine" else -np.sqrt(d2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_search_is_exact(kind, distance):
    vectors, queries = clustered(700), clustered(40, seed=1)
    index = Index.build(vectors, names(700), distance=distance, kind=kind)
    rows, scores = index.search(queries, 12)
    expected_rows, expected_scores = slow_search(queries, vectors, 12, distance)
    assert rows.dtype == np.int32 and scores.dtype == np.float32
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6, atol=1e-6)
    assert (np.diff(scores) <= 0).all()
    assert index.report()["recall_at_10"] == 1.0
    assert index.report()["kind"] == kind and index.report()["scoring"] == "brute_force"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_collapsed_and_distant_embeddings_stay_exact(kind, distance, offset):
    """Vectors that differ by 1e-4 of their length, an outlier among them, and a query far from all
    of them.
    """
    vectors = (clustered(400) * 1e-4 * max(offset, 1) + 1 + offset).astype(np.float32)
    vectors[17] = -1e6
    queries = np.concatenate([vectors[:10], np.full((1, 16), 1e7, np.float32)])
    queries[-1, 0] = -3e7
    index = Index.build(vectors, names(400), distance=distance, kind=kind)
    np.testing.assert_array_equal(
        index.search(queries, 5)[0], slow_search(queries, vectors, 5, distance)[0]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_ties_stand_in_row_order(kind):
    """More duplicates than any list shows, at many positions, in widths that do and do not fill a
    vector register.
    """
    for width in (1, 3, 24, 33):
        distinct = np.random.default_rng(width).normal(size=(3, width)).astype(np.float32)
        vectors = distinct[np.random.default_rng(5).integers(0, 3, 500)]
        index = Index.build(vectors, names(500), distance="euclidean", kind=kind)
        rows, scores = index.search(distinct, 40)
        for i in range(3):
            expected = np.flatnonzero((vectors == distinct[i]).all(axis=1))[:40]
            np.testing.assert_array_equal(rows[i], expected)
            assert (scores[i] == 0).all()
    constant = Index.build(np.ones((300, 4), np.float32), names(300), kind=kind)
    assert constant.search(np.ones((2, 4), np.float32), 7)[0].tolist() == [list(range(7))] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_small_and_empty_requests(kind):
    one = Index.build(np.array([[3.0, 4.0]], np.float32), ["only"], kind=kind)
    rows, scores = one.search(np.array([[6.0, 8.0], [-3.0, -4.0]], np.float32), 10)
    assert rows.tolist() == [[0], [0]]
    np.testing.assert_allclose(scores, [[1.0], [-1.0]], atol=1e-6)
    assert one.report()["recall_at_10"] == 1.0
    rows, scores = one.search(np.empty((0, 2), np.float32), 3)
    assert rows.shape == scores.shape == (0, 1)
    few = Index.build(clustered(5), names(5), kind=kind)
    assert few.search(clustered(2), 5000)[0].shape == (2, 5)


@pytest.mark.parametrize(
    ("kind", "scoring"),
    [
        ("exact", "brute_force"),
        pytest.param("scann", "brute_force", marks=scann_only),
        pytest.param("scann", "tree_ah", marks=scann_only),
    ],
)
def test_vectors_of_zeros_rank_last(tmp_path, kind, scoring):
    """Among rows that point away from the query, which zeros would be nearer to than they are."""
    vectors, queries = np.abs(clustered(300)), np.abs(clustered(5, seed=1))
    vectors[::3] *= -1
    lost = [0, 7, 150, 299]
    vectors[lost] = 0
    queries[2] = 0
    index = Index.build(vectors, names(300), kind=kind, scoring=scoring)
    index.save(tmp_path)
    kept = np.delete(np.arange(300), lost)
    for opened in (index, Index.load(tmp_path, kind=kind)):
        report = opened.report()
        assert (report["without_direction"], report["scoring"]) == (4, scoring)
        rows, scores = opened.search(queries, 300)
        assert np.isfinite(scores).all() and (np.diff(scores) <= 0).all()
        assert rows[2].tolist() == list(range(300)) and (scores[2] == -2).all()
        for i in (0, 1, 3, 4):
            expected = slow_search(queries[i : i + 1], vectors[kept], 296, "cosine")[0][0]
            assert rows[i].tolist() == [*kept[expected], *lost] and (scores[i, 296:] == -2).all()
        assert not set(opened.search(queries[[0, 1, 3, 4]], 10)[0].ravel()) & set(lost)
        assert opened.search(queries[2:3], 3)[0].tolist() == [[0, 1, 2]]
    index.remove([f"item/{row}" for row in lost])
    assert index.report()["without_direction"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_of_nothing_but_zeros(kind):
    index = Index.build(np.zeros((3, 4), np.float32), names(3), kind=kind)
    rows, scores = index.search(np.eye(4, dtype=np.float32)[:2], 5)
    assert rows.tolist() == [[0, 1, 2]] * 2 and (scores == -2).all()
    assert index.report()["recall_at_10"] == 1.0
    near = Index.build(np.zeros((3, 4), np.float32), names(3), kind=kind, distance="euclidean")
    assert near.report()["without_direction"] == 0
    assert near.search(np.eye(4, dtype=np.float32)[:1], 1)[1].tolist() == [[-1.0]]


def build(vectors=None, ids=None, **kwargs):
    vectors = clustered(20) if vectors is None else vectors
    return Index.build(vectors, names(len(vectors)) if ids is None else ids, **kwargs)


def changed(row, value, num=20):
    vectors = clustered(num)
    vectors[row] = value
    return vectors


@pytest.mark.parametrize("scoring", ["brute_force", pytest.param("tree_ah", marks=scann_only)])
@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (changed(7, np.nan, 300), "vectors: row 7 holds NaN or infinity"),
        (changed(8, np.inf, 300), "row 8 holds NaN or infinity"),
        (np.empty((0, 16), np.float32), "at least one item"),
        (np.empty((5, 0), np.float32), "at least one item"),
        (np.ones(5, np.float32), "must be \\[items, width\\]"),
        (clustered(300).astype(np.float64), "vectors: float64; they must be a float32 array"),
        (clustered(300).astype(np.float16), "float16"),
        ([[1.0, 2.0]], "vectors: list"),
    ],
)
def test_bad_vectors_never_reach_the_searcher(unchecked, vectors, message, scoring):
    with pytest.raises(DataError, match=message) as error:
        build(vectors, scoring=scoring)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a"] * 20, "id 'a' occurs more than once"),
        (names(19), "19 ids for 20 vectors"),
        (list(range(20)), "id of row 0 is int; ids are strings"),
        ("abcdefghijklmnopqrst", "one string"),
    ],
)
def test_bad_ids(unchecked, ids, message):
    with pytest.raises(DataError, match=message):
        build(ids=ids)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"distance": "dot"}, "distance='dot': choose one of cosine, euclidean"),
        ({"kind": "faiss"}, "choose one of auto, scann, exact"),
        ({"scoring": "hnsw"}, "choose one of auto, brute_force, tree_ah"),
        ({"scoring": "tree_ah", "kind": "exact"}, "needs ScaNN"),
        ({"target_recall": 0.0}, "lies in"),
        ({"meta": {"when": object()}}, "cannot be written as JSON"),
        pytest.param({"scoring": "tree_ah"}, "at least 256 items, not 20", marks=scann_only),
    ],
)
def test_bad_choices(unchecked, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        build(**kwargs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("queries", "error", "message"),
    [
        (np.full((2, 16), np.nan, np.float32), DataError, "queries: row 0 holds NaN"),
        (
            np.ones((2, 15), np.float32),
            DataError,
            r"queries have shape \(2, 15\); this index takes \[queries, 16\]",
        ),
        (np.ones(16, np.float32), DataError, "this index takes"),
        (np.ones((1, 16)), DataError, "queries: float64"),
    ],
)
def test_bad_queries(unchecked, kind, queries, error, message):
    with pytest.raises(error, match=message):
        build(kind=kind).search(queries, 3)


def test_bad_k():
    with pytest.raises(ConfigError, match="k=0"):
        build().search(clustered(1), 0)


def test_a_missing_scann_is_named(monkeypatch):
    monkeypatch.setattr(backends, "scann_available", lambda: False)
    with pytest.raises(ConfigError, match="scann is not installed"):
        build(kind="scann")
    assert build().kind == "exact"


def test_vectors_are_stored_as_given_and_meta_says_what_is_done():
    vectors = clustered(30)
    index = build(vectors, meta={"encoder": "pointbert"})
    assert index.vectors is vectors
    assert index.meta == {
        "encoder": "pointbert",
        "distance": "cosine",
        "index_normalisation": "rows and queries scaled to unit length",
    }
    assert build(vectors, distance="euclidean").meta["index_normalisation"] == "none"


@scann_only
def test_tree():
    vectors = clustered(3000, 32)
    index = build(vectors, scoring="tree_ah")
    report = index.report()
    assert report["scoring"] == "tree_ah" and report["leaves_searched"] <= report["leaves"]
    assert report["recall_at_10"] >= 0.95
    queries = clustered(200, 32, seed=3)
    rows, scores = index.search(queries, 10)
    expected, expected_scores = slow_search(queries, vectors, 10, "cosine")
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, expected, strict=True)])
    assert found >= 0.95
    # What is found is scored exactly, and no better than the truth.
    assert (scores <= expected_scores + 1e-6).all()
    again = build(vectors, scoring="tree_ah")
    np.testing.assert_array_equal(again.search(queries, 10)[0], rows)
    assert again.report()["recall_at_10"] == report["recall_at_10"]


@scann_only
def test_a_tree_that_runs_dry_answers_in_full():
    """A leaf holds fewer items than asked for: ScaNN fills up with row 0 at distance NaN."""
    vectors = clustered(2000)
    index = build(vectors, scoring="tree_ah")
    index._searcher.backend.leaves_searched = 1
    rows, scores = index.search(vectors[:3], 1500)
    assert all(len(set(row)) == 1500 for row in rows.tolist()) and np.isfinite(scores).all()
    np.testing.assert_array_equal(rows, slow_search(vectors[:3], vectors, 1500, "cosine")[0])


@scann_only
@pytest.mark.parametrize("distinct", [1, 3])
def test_a_tree_over_duplicates(distinct):
    index = build(clustered(distinct)[np.arange(600) % distinct], scoring="tree_ah")
    assert index.report()["recall_at_10"] == 1.0


@scann_only
def test_auto_takes_a_tree_for_many_items(monkeypatch):
    monkeypatch.setattr("jax3dret.index.searcher.TREE_FROM", 1000)
    assert build(clustered(1000)).scoring == "tree_ah"
    assert build(clustered(999)).scoring == "brute_force"
    assert build(clustered(1000), scoring="brute_force").scoring == "brute_force"
    assert build(clustered(1000), kind="exact").scoring == "brute_force"


@pytest.mark.parametrize("kind", KINDS)
def test_adding_and_removing_give_the_index_of_a_fresh_build(kind):
    vectors, queries = clustered(60), clustered(5, seed=4)
    index = build(vectors[:40], names(40), kind=kind)
    index.add(vectors[40:], names(60)[40:])
    index.remove(["item/0", "item/59"])
    fresh = build(vectors[1:59], names(60)[1:59], kind=kind)
    assert index.ids == fresh.ids and len(index) == 58
    for ours, expected in zip(index.search(queries, 20), fresh.search(queries, 20), strict=True):
        np.testing.assert_array_equal(ours, expected)

    index.add(queries[:2], ["item/7", "new"], replace=True)
    assert index.ids[6] == "item/7" and index.ids[-1] == "new" and len(index) == 59
    assert index.search(queries[:2], 1)[0].tolist() == [[6], [58]]
    assert (vectors == clustered(60)).all()


def test_a_refused_change_leaves_the_index_as_it_was():
    index = build()
    before = index.search(clustered(3, seed=5), 20)
    refused = [
        (lambda: index.add(clustered(1), ["item/3"]), "'item/3' is already in the index"),
        (lambda: index.add(np.full((1, 16), np.nan, np.float32), ["new"]), "NaN"),
        (
            lambda: index.add(np.ones((1, 3), np.float32), ["new"]),
            "width 3; this index holds width 16",
        ),
        (lambda: index.add(clustered(2), ["x", "x"]), "more than once"),
        (lambda: index.remove(["item/1", "ghost"]), "'ghost' is not in the index"),
        (lambda: index.remove(names(20)), "empty index"),
    ]
    for change, message in refused:
        with pytest.raises(DataError, match=message):
            change()
    for ours, expected in zip(index.search(clustered(3, seed=5), 20), before, strict=True):
        np.testing.assert_array_equal(ours, expected)
    # The caller's list of ids, even the index's own, is not touched.
    index.remove(index.ids[:15])
    assert len(index) == 5


@scann_only
def test_a_tree_that_shrinks_becomes_brute_force_and_says_so():
    index = build(clustered(300), scoring="tree_ah")
    index.remove(names(100))
    assert index.report()["scoring"] == "brute_force" and index.report()["items"] == 200


@pytest.mark.parametrize("scoring", ["brute_force", pytest.param("tree_ah", marks=scann_only)])
def test_save_move_load(tmp_path, scoring):
    index = build(clustered(400), scoring=scoring, meta={"encoder": "x"}, distance="euclidean")
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "skipped.json").write_text("[]")
    index.save(tmp_path / "first")
    index.save(tmp_path / "first")  # again, in place
    assert not list((tmp_path / "first").rglob("*.pkl"))
    assert (
        len(list((tmp_path / "first").glob("data-*"))) == 1
        and (tmp_path / "first" / "skipped.json").exists()
    )
    shutil.move(tmp_path / "first", tmp_path / "second")
    loaded = Index.load(tmp_path / "second")
    assert (
        loaded.report() == index.report() and loaded.meta == index.meta and loaded.ids == index.ids
    )
    for ours, expected in zip(
        loaded.search(clustered(9), 20), index.search(clustered(9), 20), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    # From a loaded index, whose vectors are a memory map of the very folder.
    loaded.remove(["item/0"])
    loaded.save(tmp_path / "second")
    assert Index.load(tmp_path / "second").ids == names(400)[1:]


@scann_only
def test_a_tree_can_be_read_without_scann(tmp_path, monkeypatch):
    vectors = clustered(400)
    build(vectors, scoring="tree_ah").save(tmp_path)
    monkeypatch.setattr(backends, "scann_available", lambda: False)
    loaded = Index.load(tmp_path)
    assert (loaded.kind, loaded.scoring) == ("exact", "brute_force")
    np.testing.assert_array_equal(
        loaded.search(vectors[:4], 6)[0], slow_search(vectors[:4], vectors, 6, "cosine")[0]
    )


@pytest.mark.parametrize("scoring", ["brute_force", pytest.param("tree_ah", marks=scann_only)])
def test_every_file_cut_short_is_found(tmp_path, scoring):
    build(clustered(300), scoring=scoring).save(tmp_path / "index")
    files = [
        path.relative_to(tmp_path / "index")
        for path in (tmp_path / "index").rglob("*")
        if path.is_file()
    ]
    assert len(files) >= 3
    for name in files:
        for damage in ("cut", "gone"):
            copy = tmp_path / "copy"
            shutil.copytree(tmp_path / "index", copy)
            content = (copy / name).read_bytes()
            if damage == "gone":
                (copy / name).unlink()
            elif content:
                (copy / name).write_bytes(content[: len(content) // 2])
            if damage == "gone" or content:
                with pytest.raises(DataError) as error:
                    Index.load(copy)
                assert name.name in str(error.value) and "\n" not in str(error.value)
            shutil.rmtree(copy)


@scann_only
def test_a_pickle_is_refused(tmp_path):
    build(clustered(300), scoring="tree_ah").save(tmp_path)
    (next(tmp_path.glob("data-*")) / "scann" / "scann_docids.pkl").write_bytes(
        b"cos\nsystem\n(S'exit 1'\ntR."
    )
    with pytest.raises(DataError, match="pickled file is not part of an index"):
        Index.load(tmp_path)


def test_what_is_not_an_index_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not an index"):
        Index.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file; an index is a folder"):
        build().save(tmp_path / "file")
    build().save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    entry = json.loads(path.read_text())
    for change, message in (
        ({"format": 99}, "this version reads 1"),
        ({"data": "../elsewhere"}, "not one that an index writes"),
        ({"items": 21}, "holds"),
    ):
        path.write_text(json.dumps({**entry, **change}))
        with pytest.raises(DataError, match=message):
            Index.load(tmp_path / "index")


def test_an_interrupted_save_leaves_the_old_index(tmp_path, monkeypatch):
    build(clustered(10)).save(tmp_path)

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        build(clustered(12)).save(tmp_path)
    assert len(Index.load(tmp_path)) == 10


def test_memory_map(tmp_path):
    np.save(tmp_path / "vectors.npy", clustered(50))
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    index = build(vectors)
    assert index.vectors is vectors
    expected = build(clustered(50)).search(clustered(50)[:5], 3)[0]
    np.testing.assert_array_equal(index.search(vectors[:5], 3)[0], expected)
