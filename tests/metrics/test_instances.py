"""Ranks of counterparts against a loop, ties in every reading, and what cannot be ranked."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.metrics.instances import counterpart_ranks, rank_metrics


def test_equals_the_literal_loop():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(2, 23, 5))
    expected = []
    for i, q in enumerate(queries):
        cosine = [np.dot(q, g) / np.linalg.norm(q) / np.linalg.norm(g) for g in gallery]
        expected.append(1 + sum(c > cosine[i] for c in cosine))
    ranks = counterpart_ranks(queries, gallery)
    np.testing.assert_array_equal(ranks, expected)
    assert (ranks != counterpart_ranks(gallery, queries)).any()  # the direction matters
    assert (ranks != counterpart_ranks(queries, gallery, distance="euclidean")).any()
    np.testing.assert_array_equal(counterpart_ranks(3 * queries, gallery), ranks)


def test_many_queries_pass_in_blocks():
    queries = np.random.default_rng(0).normal(size=(700, 3))
    order = np.random.default_rng(1).permutation(700)
    np.testing.assert_array_equal(counterpart_ranks(queries, queries), np.ones(700))
    assert (counterpart_ranks(queries, queries[order]) > 1).sum() >= 690


@pytest.mark.parametrize("ties, expected", [("pessimistic", 3), ("optimistic", 1), ("average", 2)])
def test_ties(ties, expected):
    rows = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(counterpart_ranks(rows, rows, ties=ties), [expected] * 3 + [1])


def test_metrics():
    found = rank_metrics(np.array([1.0, 2, 5, 6, 10, 11]))
    assert found["recall_1"] == pytest.approx(1 / 6)
    assert found["recall_5"] == pytest.approx(3 / 6)
    assert found["recall_10"] == pytest.approx(5 / 6)
    assert found["median_rank"] == 5.5
    assert found["mean_reciprocal_rank"] == pytest.approx(
        (1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 10 + 1 / 11) / 6
    )


def test_a_counterpart_of_zeros_is_ranked_last():
    rows = np.eye(4)
    lost = rows * [[1], [0], [1], [1]]
    assert counterpart_ranks(rows, lost).tolist() == [1, 4, 1, 1]
    assert counterpart_ranks(lost, rows).tolist() == [1, 4, 1, 1]


def test_refuses(unchecked):
    rows = np.ones((3, 2))
    with pytest.raises(DataError, match="counterpart"):
        counterpart_ranks(rows, rows[:2])
    with pytest.raises(DataError, match="NaN"):
        counterpart_ranks(rows, np.full((3, 2), np.nan))
    with pytest.raises(ConfigError, match="ties"):
        counterpart_ranks(rows, rows, ties="index")
    with pytest.raises(DataError, match="no ranks"):
        rank_metrics(np.array([]))
