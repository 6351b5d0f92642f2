"""Quadruplets: right and wrong items are of the right classes, drawn class first, from the
generator alone.
"""

import collections

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.data.quadruplets import LateRows, Quadruplets, Side

# Class 0 has most of the shapes; classes 0 and 2 have most of the sketches.
SHAPES, SKETCHES = np.repeat([0, 1, 2], [20, 2, 1]), np.repeat([0, 1, 2], [5, 1, 6])


def side(name, labels):
    return Side(name, labels, lambda item, rng: np.array([item, labels[item]]))


def draws(label, number=3000):
    joined = Quadruplets(side("sketches", SKETCHES), side("shapes", SHAPES))
    rng = np.random.default_rng(0)
    return [joined({"label": label, "sketch": 7}, rng) for _ in range(number)]


def test_classes_of_the_items():
    for record in draws(1, 200):
        assert record["positive"][1] == 1 and SHAPES[record["positive"][0]] == 1
        assert record["negative"][1] == record["negative_label"] != 1
        assert record["other"][1] == record["other_label"] != 1
        assert SKETCHES[record["other"][0]] == record["other_label"]
        assert record["sketch"] == 7 and record["label"] == 1


def test_negatives_are_uniform_over_classes_then_over_items():
    records = draws(1)
    share = collections.Counter(int(r["negative_label"]) for r in records)
    assert share[0] / len(records) == pytest.approx(0.5, abs=0.03)  # by item it would be 20 of 21
    of_0 = collections.Counter(int(r["negative"][0]) for r in records if r["negative_label"] == 0)
    assert len(of_0) == 20 and max(of_0.values()) < 2 * min(of_0.values())
    # The two negatives are drawn apart: of the same class half of the time, not always, not never.
    same = np.mean([r["negative_label"] == r["other_label"] for r in records])
    assert same == pytest.approx(0.5, abs=0.03)


def test_positives_are_uniform_in_the_class():
    counts = collections.Counter(int(r["positive"][0]) for r in draws(0))
    assert len(counts) == 20 and max(counts.values()) < 2 * min(counts.values())


def test_the_generator_decides_alone():
    joined = Quadruplets(side("sketches", SKETCHES), side("shapes", SHAPES))
    a, b = (joined({"label": 0}, np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a[key], b[key]) for key in a)


def test_anchors_without_an_item_on_the_other_side_are_named():
    with pytest.raises(
        DataError, match="1 classes have sketches but no shapes to train with: cup; leave them out"
    ):
        Quadruplets(
            side("sketches", SKETCHES), side("shapes", SHAPES[SHAPES < 2]), ("mug", "jug", "cup")
        )
    Quadruplets(
        side("sketches", SKETCHES[SKETCHES < 2]), side("shapes", SHAPES)
    )  # shapes alone: negatives like others


def test_one_class_has_no_negatives():
    one = np.zeros(4, int)
    with pytest.raises(DataError, match="a negative must be of another"):
        Quadruplets(side("sketches", one), side("shapes", one))


def test_late_rows_are_made_once_and_when_asked():
    made = []

    def make():
        made.append(1)
        return np.arange(6).reshape(3, 2)

    rows = LateRows(make)
    assert not made
    assert rows[2].tolist() == [4, 5] and rows[0].tolist() == [0, 1] and made == [1]
