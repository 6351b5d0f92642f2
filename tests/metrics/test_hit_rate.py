"""Hit rate, precision, recall and F1 against literal loops; ties, lone classes, the own shape."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.metrics import hit_rate
from jax3dret.metrics.hit_rate import F1, HIT_RATE, PRECISION, RECALL, Sides, by_query


def test_each_query_is_scored_as_a_literal_loop_scores_it():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(9, 4)), rng.normal(size=(13, 4))
    asked, there = rng.integers(0, 3, 9), np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 1])
    ids, others = [f"{i}" for i in range(9)], [f"{i + 4}" for i in range(13)]
    found = by_query(queries, gallery, Sides(asked, ids, there, others), cuts=(1, 5))
    for q in range(9):
        kept = [g for g in range(13) if others[g] != ids[q]]
        cosine = {
            g: queries[q] @ gallery[g] / np.linalg.norm(queries[q]) / np.linalg.norm(gallery[g])
            for g in kept
        }
        best = sorted(kept, key=lambda g: -cosine[g])[:5]
        right = [there[g] == asked[q] for g in best]
        total = sum(there[g] == asked[q] for g in kept)
        precision, recall = sum(right) / 5, sum(right) / min(total, 5)
        both = precision + recall
        assert found[HIT_RATE.at(k=1)][q] == right[0]
        assert found[HIT_RATE.at(k=5)][q] == any(right)
        assert found[PRECISION.at(k=5)][q] == pytest.approx(precision)
        assert found[RECALL.at(k=5)][q] == pytest.approx(recall)
        assert found[F1.at(k=5)][q] == pytest.approx(2 * precision * recall / both if both else 0)
    # The mean of each query's own is not that of the means.
    p, r = found[PRECISION.at(k=5)].mean(), found[RECALL.at(k=5)].mean()
    assert found[F1.at(k=5)].mean() != pytest.approx(2 * p * r / (p + r), abs=1e-4)


def test_the_own_shape_is_left_out_by_its_id_or_kept():
    # Every shape has a twin of another class: dropping the first by its place drops the twin.
    vectors = np.repeat(np.eye(3), 2, axis=0)[[1, 0, 3, 2, 5, 4]] + 0.0
    labels, ids = np.array([0, 1, 0, 1, 0, 1]), list("abcdef")
    sides = Sides(labels, ids, labels, ids)
    apart = by_query(vectors, vectors, sides, cuts=(1,))[HIT_RATE.at(k=1)]
    np.testing.assert_array_equal(apart, 0)
    # Allowed, it ties with the twin: what is wrong comes first, unless the order decides.
    again = by_query(vectors, vectors, sides, cuts=(1,), same_shape=True)[HIT_RATE.at(k=1)]
    np.testing.assert_array_equal(again, 0)
    first = by_query(vectors, vectors, sides, cuts=(1,), same_shape=True, ties="optimistic")
    np.testing.assert_array_equal(first[HIT_RATE.at(k=1)], 1)
    # In another order of the gallery the id is what counts.
    order = [5, 4, 3, 2, 1, 0]
    turned = Sides(labels, ids, labels[order], [ids[i] for i in order])
    np.testing.assert_array_equal(
        by_query(vectors, vectors[order], turned, cuts=(1,))[HIT_RATE.at(k=1)], 0
    )


def test_an_encoder_that_says_nothing_scores_nothing():
    vectors, labels = np.ones((8, 3)), np.repeat([0, 1], 4)
    ids = [str(i) for i in range(8)]
    found = by_query(vectors, vectors, Sides(labels, ids, labels, ids), cuts=(1, 3))
    assert all(values.mean() == 0 for values in found.values())
    lucky = by_query(
        vectors, vectors, Sides(labels, ids, labels, ids), cuts=(1,), ties="optimistic"
    )
    assert lucky[HIT_RATE.at(k=1)].mean() == 1


def test_a_class_of_one_counts_as_wrong_and_long_cuts_are_left_out():
    rng = np.random.default_rng(1)
    vectors, labels, ids = rng.normal(size=(4, 2)), np.array([0, 0, 0, 1]), list("abcd")
    found = by_query(vectors, vectors, Sides(labels, ids, labels, ids))
    assert [metric.key for metric in found] == ["hit_rate_1", "precision_1", "recall_1", "f1_1"]
    assert all(values[3] == 0 for values in found.values())
    assert all(np.isfinite(values).all() for values in found.values())


def test_what_cannot_be_measured_is_refused():
    vectors, labels, ids = np.ones((2, 2)), np.array([0, 0]), ["a", "b"]
    with pytest.raises(DataError, match="2 embeddings, 2 labels, 1 ids"):
        by_query(vectors, vectors, Sides(labels, ["a"], labels, ids))
    with pytest.raises(DataError, match="the query itself"):
        by_query(vectors[:1], vectors[:1], Sides(labels[:1], ids[:1], labels[:1], ids[:1]))
    with pytest.raises(DataError, match="NaN"):
        by_query(vectors * np.nan, vectors, Sides(labels, ids, labels, ids))
    with pytest.raises(ConfigError, match="cuts"):
        by_query(vectors, vectors, Sides(labels, ids, labels, ids), cuts=(0,))
    np.testing.assert_array_equal(hit_rate.f1(np.zeros(2), np.zeros(2)), 0)
