"""Ranked-list metrics against literal, slow definitions; ties, self matches, empty classes,
degenerate embeddings.
"""

import itertools
import math

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.metrics import ranking, retrieval


def slow_list(query, gallery, distance, own=-1):
    """(row, distance), nearest first, ties by row: one pair at a time."""
    pairs = []
    for row, item in enumerate(gallery):
        if row == own:
            continue
        a, b = query.astype(np.float64), item.astype(np.float64)
        if distance == "cosine":
            d = 1 - math.fsum(a * b) / math.sqrt(math.fsum(a * a)) / math.sqrt(math.fsum(b * b))
        else:
            d = math.sqrt(math.fsum((a - b) ** 2))
        pairs.append((d, row))
    return [(row, d) for d, row in sorted(pairs)]


def slow_ap(gains, denominator):
    hits, total = 0, 0.0
    for place, gain in enumerate(gains, start=1):
        if gain:
            hits += 1
            total += hits / place
    return total / denominator


def slow_ndcg(gains, ideal_hits, n):
    gained = sum(g / math.log2(r + 1) for r, g in enumerate(gains[:n], start=1))
    return gained / sum(1 / math.log2(r + 1) for r in range(1, ideal_hits + 1))


def orders(gains, scores):
    """Every order of the list that differs only within equal scores."""
    runs = [list(run) for _, run in itertools.groupby(range(len(gains)), key=lambda i: scores[i])]
    for choice in itertools.product(*(itertools.permutations(run) for run in runs)):
        yield [gains[i] for i in itertools.chain(*choice)]


@pytest.fixture
def random_case():
    rng = np.random.default_rng(0)
    gallery, queries = (
        rng.normal(size=(40, 5)).astype(np.float32),
        rng.normal(size=(9, 5)).astype(np.float32),
    )
    return queries, rng.integers(0, 4, 9), gallery, rng.integers(0, 4, 40)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("max_bytes", [1, 1 << 28])
def test_rank_matches_pairwise_definition(random_case, distance, max_bytes):
    queries, _, gallery, _ = random_case
    own = np.array([3, -1, 0, -1, 39, -1, -1, -1, -1])
    parts = list(
        ranking.rank(queries, gallery, distance=distance, self_rows=own, max_bytes=max_bytes)
    )
    assert len(parts) == (len(queries) if max_bytes == 1 else 1)
    rows = np.concatenate([rows for _, rows, _ in parts])
    values = np.concatenate([values for _, _, values in parts])
    for i, query in enumerate(queries):
        expected = slow_list(query, gallery, distance, own[i])
        assert list(rows[i, : len(expected)]) == [row for row, _ in expected]
        np.testing.assert_allclose(values[i, : len(expected)], [d for _, d in expected], atol=1e-12)
        assert (own[i] >= 0) == (rows[i, -1] == -1)


def test_the_two_distances_differ_and_lists_can_be_cut():
    gallery = np.array([[10.0, 0.0], [0.0, 1.0]])
    query = np.array([[1.0, 0.2]])
    assert next(ranking.rank(query, gallery, distance="cosine", k=1))[1].tolist() == [[0]]
    assert next(ranking.rank(query, gallery, distance="euclidean", k=1))[1].tolist() == [[1]]


def test_duplicates_tie_exactly_and_stand_in_row_order():
    rng = np.random.default_rng(1)
    gallery = (
        rng.normal(size=(8, 33))[rng.integers(0, 8, 300)] + 1e3
    )  # a large common offset costs digits
    for distance in ("cosine", "euclidean"):
        _, rows, values = next(ranking.rank(gallery[:50], gallery, distance=distance))
        for i in range(50):
            same = np.flatnonzero((gallery == gallery[i]).all(axis=1))
            assert rows[i, : len(same)].tolist() == same.tolist()
            assert len(set(values[i])) == len(np.unique(gallery, axis=0))


def test_collapsed_embeddings_keep_their_order():
    """Descriptors that differ by 1e-6 of their length: float32 cosines of these are all 1 or its
    neighbour.
    """
    rng = np.random.default_rng(2)
    gallery = (1 + 1e-6 * rng.normal(size=(60, 64))).astype(np.float32)
    _, rows, _ = next(ranking.rank(gallery[:5], gallery, distance="cosine"))
    for i in range(5):
        unit = gallery.astype(np.longdouble) / np.sqrt(
            (gallery.astype(np.longdouble) ** 2).sum(1, keepdims=True)
        )
        d2 = ((unit - unit[i]) ** 2).sum(axis=1)
        assert rows[i].tolist() == np.argsort(d2, kind="stable").tolist()


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (np.ones((1, 2)), np.array([[1.0, np.nan]]), "gallery: row 0 holds NaN"),
        (np.array([[np.inf, 1.0]]), np.ones((1, 2)), "queries: row 0 holds NaN or infinity"),
        (np.ones((1, 3)), np.ones((3, 2)), "width 3"),
        (np.ones((1, 2)), np.ones((0, 2)), "at least one item"),
        (np.ones((1, 2), int), np.ones((2, 2)), "floating point"),
    ],
)
def test_bad_embeddings_are_refused(unchecked, queries, gallery, message):
    with pytest.raises(DataError, match=message) as error:
        list(ranking.rank(queries, gallery))
    assert "\n" not in str(error.value)


def test_rows_of_zeros_rank_last_under_cosine_alone():
    """Behind the opposite of the query too, and without touching what the others have."""
    gallery = np.array([[0, 0], [-1, 0], [1, 0], [0, 0], [1, 1e-3], [1e-40, 0]], np.float32)
    queries = np.array([[2, 0], [0, 0]], np.float32)
    _, rows, values = next(ranking.rank(queries, gallery))
    assert rows.tolist() == [[2, 5, 4, 1, 0, 3], [0, 1, 2, 3, 4, 5]]
    assert values[0, [0, 1, 3, 4, 5]].tolist() == [0, 0, 2, 3, 3] and (values[1] == 3).all()
    without = [row for row in rows[0] if row not in (0, 3)]
    kept = [row for row in range(6) if row not in (0, 3)]
    _, fewer, _ = next(ranking.rank(queries[:1], gallery[kept]))
    assert [kept[row] for row in fewer[0]] == without
    _, rows, values = next(ranking.rank(queries, gallery, distance="euclidean"))
    assert rows[1, :2].tolist() == [0, 3] and values[1, 0] == 0  # a point like any other
    assert ranking.without_direction(gallery, "cosine").tolist() == [1, 0, 0, 1, 0, 0]
    assert not ranking.without_direction(gallery, "euclidean").any()


def test_no_queries_give_no_lists():
    assert list(ranking.rank(np.ones((0, 2)), np.ones((3, 2)))) == []


def test_self_matches_are_found_by_id_and_dropped():
    own = ranking.self_rows(["c", "x", "a"], ["a", "b", "c"])
    assert own.tolist() == [2, -1, 0]
    # The third query's own row is not first: a duplicate came before it.
    rows, scores = ranking.drop_self(
        np.array([[2, 0, 1], [1, 0, 2], [1, 0, 2]]), np.arange(9.0).reshape(3, 3), own
    )
    assert rows.tolist() == [[0, 1], [1, 0], [1, 2]]
    assert scores.tolist() == [[1, 2], [3, 4], [6, 8]]
    with pytest.raises(DataError, match="more than once"):
        ranking.self_rows(["a"], ["b", "b"])


def test_relevant_items_are_counted_without_the_query_itself():
    labels = np.array([0, 0, 2])
    assert ranking.count_relevant(np.array([0, 1, 2, 7]), labels).tolist() == [2, 0, 1, 0]
    assert ranking.count_relevant(labels, labels, np.array([0, 1, 2])).tolist() == [1, 1, 0]
    assert ranking.relevance(np.array([[1, -1]]), np.array([2]), labels).tolist() == [
        [False, False]
    ]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_full_average_precision_matches_the_definition(random_case, distance):
    queries, query_labels, gallery, labels = random_case
    query_labels[0] = 9  # no such class in the gallery
    own = np.array([-1, 5, -1, -1, 7, -1, -1, -1, -1])
    ours = retrieval.full_average_precision(
        queries, query_labels, gallery, labels, distance=distance, self_rows=own, max_bytes=1
    )
    for i, value in enumerate(ours):
        gains = [
            labels[row] == query_labels[i]
            for row, _ in slow_list(queries[i], gallery, distance, own[i])
        ]
        if sum(gains):
            assert value == pytest.approx(slow_ap(gains, sum(gains)), abs=1e-12)
            interpolated = [max(slow_prec(gains)[j:]) for j, g in enumerate(gains) if g]
            assert value != pytest.approx(np.mean(interpolated), abs=1e-6) or value in (1.0, 0.0)
        else:
            assert np.isnan(value)


def slow_prec(gains):
    return [sum(gains[: j + 1]) / (j + 1) for j in range(len(gains))]


def test_average_precision_denominators():
    relevant = np.array([[True, False, True, False]])
    total = np.array([10])
    for denominator, over in (("relevant", 10), ("min_k", 4), ("retrieved", 2)):
        assert retrieval.average_precision(relevant, total, denominator=denominator)[
            0
        ] == pytest.approx((1 + 2 / 3) / over)


def test_constant_descriptors_do_not_score():
    """Everything at one point, gallery sorted by class: the order of the rows must not turn into a
    perfect score.
    """
    gallery = np.full((40, 6), 0.3, np.float32)
    labels = np.repeat(np.arange(4), 10)
    arguments = (gallery[:1], np.array([0]), gallery, labels)
    index, worst, best, mean = (
        retrieval.full_average_precision(*arguments, ties=ties)[0]
        for ties in ("index", "pessimistic", "optimistic", "average")
    )
    assert index == best == 1.0
    assert worst == pytest.approx(slow_ap([False] * 30 + [True] * 10, 10))
    assert worst < 0.2 < mean < 0.4
    assert retrieval.full_average_precision(*arguments)[0] == worst


def test_one_class_and_no_positives():
    relevant = np.ones((3, 4), bool)
    total = np.full(3, 4)
    assert retrieval.ndcg(relevant, total, n=4).tolist() == [1, 1, 1]
    assert retrieval.average_precision(relevant, total).tolist() == [1, 1, 1]
    assert retrieval.ndcg_published_code(relevant, 1, n=4).tolist() == [1, 1, 1]

    none, total = np.zeros((1, 4), bool), np.zeros(1, int)
    for value in (
        retrieval.ndcg(none, total, n=4),
        retrieval.average_precision(none, total),
        retrieval.recall_at_k(none, total, 2),
    ):
        assert np.isnan(value).all()
    assert retrieval.nn_accuracy(none).tolist() == [0]
    assert retrieval.hit_rate_at_k(none, 4).tolist() == [0]


def test_what_becomes_of_empty_queries(unchecked):
    values = np.array([1.0, np.nan, 0.5])
    assert retrieval.mean_over_queries(values) == 0.75
    assert retrieval.mean_over_queries(values, empty="zero") == 0.5
    with pytest.raises(DataError, match="query 1 has no relevant gallery item"):
        retrieval.mean_over_queries(values, empty="error")
    with pytest.raises(DataError, match="undefined"):
        retrieval.mean_over_queries(np.array([np.nan]))
    assert retrieval.mean_over_queries(np.array([1.0, 0.0]), num_relevant=np.array([3, 0])) == 1.0
    with pytest.raises(ConfigError, match="choose one of skip, zero, error"):
        retrieval.mean_over_queries(values, empty="drop")


def test_recall_and_hit_rate_are_different_things():
    relevant, total = np.array([[False, True, True, False]]), np.array([8])
    assert retrieval.hit_rate_at_k(relevant, 1)[0] == 0
    assert retrieval.hit_rate_at_k(relevant, 2)[0] == 1
    assert retrieval.recall_at_k(relevant, total, 4)[0] == pytest.approx(2 / 8)
    assert retrieval.recall_at_k(relevant, total, 4, denominator="min_k")[0] == pytest.approx(2 / 4)
    assert retrieval.precision_at_k(relevant, 4)[0] == pytest.approx(2 / 4)
    assert retrieval.precision_at_k(relevant, 3)[0] == pytest.approx(2 / 3)


def test_ndcg_ideals():
    gains = [False, True, False, True, True]
    relevant, total = np.array([gains]), np.array([4])
    for ideal, hits in (("relevant", 4), ("n", 5), ("retrieved", 3)):
        value = retrieval.ndcg(relevant, total, n=5, ideal=ideal)[0]
        assert value == pytest.approx(slow_ndcg(gains, hits, 5))
    assert retrieval.ndcg(relevant, total, n=2)[0] == pytest.approx(slow_ndcg(gains, 2, 2))
    # log2(r) in place of log2(r + 1), or 2^gain without the -1, give other values.
    assert retrieval.ndcg(relevant, total, n=5)[0] != pytest.approx(
        sum(g / max(1, math.log2(r)) for r, g in enumerate(gains, 1))
        / (1 + 1 + 1 / math.log2(3) + 1 / 2)
    )
    with pytest.raises(ConfigError, match="search for more"):
        retrieval.ndcg(relevant, total, n=100)


def test_published_ndcg_scores_each_item_as_a_ranking_over_classes():
    """Literal: one-hot prediction against one-hot truth, ties averaged over all orders of the C
    classes.
    """
    num_classes = 5
    neighbour_labels, label = [0, 2, 2, 4, 1, 2], 2
    total = 0.0
    for predicted in neighbour_labels:
        values = []
        for order in itertools.permutations(range(num_classes)):
            ranked = sorted(order, key=lambda c: -(c == predicted))
            values.append(1 / math.log2(ranked.index(label) + 2))
        total += np.mean(values)
    relevant = np.array([[c == label for c in neighbour_labels]])
    ours = retrieval.ndcg_published_code(relevant, num_classes, n=6)[0]
    assert ours == pytest.approx(total / 6, abs=1e-12)
    assert retrieval.ndcg_published_code(relevant[:, ::-1], num_classes, n=6)[0] == ours
    assert retrieval.ndcg_published_code(np.zeros((1, 6), bool), 40, n=6)[0] == pytest.approx(
        0.2587, abs=5e-5
    )
    with pytest.raises(ConfigError, match="at least 100 gallery items"):
        retrieval.ndcg_published_code(relevant, num_classes)


@pytest.mark.parametrize("seed", range(6))
def test_tie_policies_against_every_order(seed):
    rng = np.random.default_rng(seed)
    gains, scores = list(rng.random(7) < 0.5), sorted(rng.integers(0, 3, 7).tolist())
    gains[int(rng.integers(7))] = True
    relevant, total, keys = np.array([gains]), np.array([sum(gains) + 1]), np.array([scores], float)
    every = list(orders(gains, scores))

    def expect(function, slow):
        values = [slow(order) for order in every]
        for ties, wanted in (
            ("average", np.mean(values)),
            ("pessimistic", min(values)),
            ("optimistic", max(values)),
        ):
            assert function(scores=keys, ties=ties)[0] == pytest.approx(wanted, abs=1e-12), ties
        assert function()[0] == pytest.approx(slow(gains), abs=1e-12)

    expect(
        lambda **kw: retrieval.average_precision(relevant, total, **kw),
        lambda order: slow_ap(order, sum(gains) + 1),
    )
    ideal = min(sum(gains) + 1, 5)
    expect(
        lambda **kw: retrieval.ndcg(relevant, total, n=5, **kw),
        lambda order: slow_ndcg(order, ideal, 5),
    )
    expect(lambda **kw: retrieval.nn_accuracy(relevant, **kw), lambda order: float(order[0]))
    for k in (1, 3, 6):
        expect(
            lambda k=k, **kw: retrieval.hit_rate_at_k(relevant, k, **kw),
            lambda order, k=k: float(any(order[:k])),
        )
        expect(
            lambda k=k, **kw: retrieval.precision_at_k(relevant, k, **kw),
            lambda order, k=k: sum(order[:k]) / k,
        )


def test_tie_policies_need_scores(unchecked):
    relevant = np.ones((1, 3), bool)
    with pytest.raises(ConfigError, match="needs the scores"):
        retrieval.average_precision(relevant, np.array([3]), ties="pessimistic")
    with pytest.raises(DataError, match="NaN"):
        retrieval.nn_accuracy(relevant, scores=np.full((1, 3), np.nan), ties="average")
    with pytest.raises(ConfigError, match="choose one of"):
        retrieval.nn_accuracy(relevant, ties="random")
