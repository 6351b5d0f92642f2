"""Each SHREC measure on lists that tell its formula from the likeliest wrong ones, against a
literal reference.
"""

import math

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.metrics import shrec
from jax3dret.metrics.retrieval import mean_over_queries


def ranked(places, num):
    """One list of `num` items with the relevant ones at these ranks."""
    relevant = np.zeros((1, num), bool)
    relevant[0, np.asarray(places) - 1] = True
    return relevant


def one(name, places, num):
    return shrec.scores(ranked(places, num))[name][0]


def literal(places, num):
    """The definitions, rank by rank."""
    c = len(places)

    def h(k):
        return sum(r <= k for r in places)

    def f(k):
        p, r = h(k) / k, h(k) / c
        return 2 * p * r / (p + r) if p + r else 0.0

    def gain(upto):
        return sum(1.0 if r == 1 else 1 / math.log2(r) for r in places if r <= upto)

    best = 1 + sum(1 / math.log2(i) for i in range(2, c + 1))
    return {
        "NN": float(min(places) == 1),
        "FT": h(c) / c,
        "ST": h(2 * c) / c,
        "ST_prec": h(2 * c) / min(2 * c, num),
        "E32": f(min(32, num)),
        "E32_comp": 1 - f(min(32, num)),
        "F2C": f(min(2 * c, num)),
        "E": 1 - f(min(2 * c, num)),
        "nDCG": gain(num) / best,
        "nDCG_C": gain(c) / best,
        "MRR": 1 / min(places),
        "mAP": sum(n / r for n, r in enumerate(sorted(places), 1)) / c,
    }


@pytest.mark.parametrize("num", [5, 31, 32, 33, 90])
def test_every_measure_follows_its_definition(num):
    rng = np.random.default_rng(num)
    lists = [
        sorted(rng.choice(num, rng.integers(1, num + 1), replace=False) + 1) for _ in range(30)
    ]
    relevant = np.concatenate([ranked(places, num) for places in lists])
    found = shrec.scores(relevant)
    assert tuple(found) == shrec.NAMES and all(
        value.dtype == np.float64 for value in found.values()
    )
    for row, places in enumerate(lists):
        expected = literal(places, num)
        np.testing.assert_allclose(
            [found[n][row] for n in shrec.NAMES], [expected[n] for n in shrec.NAMES], atol=1e-12
        )


def test_tiers_are_c_and_2c_long_not_c_minus_1():
    assert one("FT", [1, 2, 3], 40) == 1.0  # at C - 1 two of three
    assert one("FT", [1, 2, 4], 40) == pytest.approx(2 / 3)
    assert one("ST", [1, 2, 6], 40) == 1.0  # at 2 (C - 1) two of three
    assert one("ST", [1, 2, 7], 40) == pytest.approx(2 / 3)


def test_second_tier_is_a_recall_and_its_precision_has_another_name():
    assert one("ST", [1, 2, 3], 40) == 1.0
    assert one("ST_prec", [1, 2, 3], 40) == 0.5  # never above, however good the list
    assert one("F2C", [2, 5, 9], 40) == pytest.approx(4 / 3 * one("ST_prec", [2, 5, 9], 40))


def test_the_four_measures_called_e():
    places = [1, 3, 33]  # two of three among the first 32, and among the first 2 C = 6
    assert one("E32", places, 40) == pytest.approx(2 * 2 / (32 + 3))
    assert one("E32_comp", places, 40) == pytest.approx(1 - 4 / 35)
    assert one("F2C", places, 40) == pytest.approx(2 * 2 / (6 + 3))
    assert one("E", places, 40) == pytest.approx(1 - 4 / 9)
    nothing = [35, 36, 37]
    assert (
        one("E32", nothing, 40) == one("F2C", nothing, 40) == 0.0 and one("E", nothing, 40) == 1.0
    )


def test_gain_is_discounted_from_the_third_rank_on():
    # The first two ranks count alike, as 1 / log2(i) at i = 2 does; under log2(i + 1) this would be
    # 0.63.
    assert one("nDCG", [2], 40) == one("nDCG_C", [1], 40) == 1.0
    assert one("nDCG", [3], 40) == pytest.approx(1 / math.log2(3))
    # The whole list counts, not the first C; nDCG_C cuts it there.
    assert one("nDCG", [2, 8], 40) == pytest.approx((1 + 1 / 3) / 2)
    assert one("nDCG_C", [2, 8], 40) == pytest.approx(1 / 2)


def test_average_precision_and_what_the_2013_script_prints():
    relevant = np.concatenate([ranked([1, 4], 10), ranked([1, 2, 3, 4], 10)])
    np.testing.assert_allclose(shrec.average_precision(relevant), [0.75, 1.0])
    np.testing.assert_allclose(shrec.average_precision(relevant, largest=4), [0.375, 1.0])
    with pytest.raises(ConfigError, match="4 relevant"):
        shrec.average_precision(relevant, largest=3)


def literal_precision_at_recall(places, j):
    c = len(places)
    if c < 2 or c < 20 / j:
        return math.nan
    low = c * j // 20
    weight = c * j / 20 - low
    precision = [n / r for n, r in enumerate(sorted(places), 1)]
    return precision[max(low, 1) - 1] * (1 - weight) + precision[min(low + 1, c) - 1] * weight


def test_precision_at_recall_interpolates_between_relevant_items():
    lists = [[1, 5, 6, 30], [1], [2, 9], list(range(1, 21)), [40, *range(3, 28, 2)]]
    relevant = np.concatenate([ranked(places, 40) for places in lists])
    found = shrec.precision_at_recall(relevant)
    expected = [[literal_precision_at_recall(places, j) for j in range(1, 21)] for places in lists]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(found[1]).all()  # C < 2
    assert np.isnan(found[0, :4]).all() and found[0, 4] == 1.0  # C = 4: nothing before recall 5/20
    recall, precision, queries = shrec.precision_recall_curve(found)
    np.testing.assert_allclose(recall, np.arange(1, 21) / 20)
    np.testing.assert_allclose(precision, np.nanmean(expected, axis=0))
    assert queries[0] == 1 and queries[-1] == 4
    assert np.isnan(shrec.precision_recall_curve(found[1:2])[1]).all()


def test_ties_by_gallery_row_or_by_policy(unchecked):
    relevant, distances = np.array([[False, True, True, False]]), np.array([[0.1, 0.1, 0.2, 0.2]])
    assert shrec.scores(relevant, distances=distances)["MRR"] == 0.5
    worst = shrec.scores(relevant, distances=distances, ties="pessimistic")
    best = shrec.scores(relevant, distances=distances, ties="optimistic")
    assert worst["mAP"] == pytest.approx((1 / 2 + 2 / 4) / 2) and best["mAP"] == pytest.approx(
        (1 + 2 / 3) / 2
    )
    point = {"distances": distances, "ties": "optimistic"}
    assert shrec.precision_at_recall(relevant, **point)[0, -1] == pytest.approx(2 / 3)
    with pytest.raises(ConfigError, match="ties='average'"):
        shrec.scores(relevant, distances=distances, ties="average")
    with pytest.raises(ConfigError, match="needs the scores"):
        shrec.scores(relevant, ties="pessimistic")


def test_a_query_with_nothing_relevant_is_wrong_or_undefined():
    found = shrec.scores(np.concatenate([ranked([1, 2], 4), np.zeros((1, 4), bool)]))
    assert found["NN"].tolist() == found["MRR"].tolist() == [1.0, 0.0]
    for name in set(shrec.NAMES) - {"NN", "MRR"}:
        assert np.isnan(found[name][1]), name
    assert (
        mean_over_queries(found["FT"]) == 1.0
        and mean_over_queries(found["FT"], empty="zero") == 0.5
    )
    assert np.isnan(shrec.precision_at_recall(np.zeros((2, 4), bool))).all()
    assert shrec.scores(np.zeros((0, 4), bool))["mAP"].shape == (0,)


@pytest.mark.parametrize("shape", [(4,), (2, 0), (2, 3, 4)])
def test_what_is_no_ranked_list(unchecked, shape):
    with pytest.raises(DataError, match="relevance has shape"):
        shrec.scores(np.zeros(shape, bool))
