"""Confusion, macro F1 and the table by class against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from jax3dret.core.types import DataError
from jax3dret.metrics import classification


def test_macro_f1_takes_the_union_of_the_classes():
    """Class 3 is predicted but never true, class 2 true but never predicted, class 4 is neither."""
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 3, 1, 0, 1])
    ours = classification.macro_f1(truth, predicted)
    assert ours == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))
    assert ours == pytest.approx((2 * 2 / (3 + 3) + 2 * 1 / (2 + 2) + 0 + 0) / 4)
    assert classification.macro_f1(truth, predicted, classes="truth") == pytest.approx(ours * 4 / 3)
    assert ours != pytest.approx(f1_score(truth, predicted, average="micro"))
    assert ours != pytest.approx(f1_score(truth, predicted, average="weighted", zero_division=0))


def test_confusion_matches_scikit_learn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    np.testing.assert_array_equal(
        classification.confusion(truth, predicted, 6),
        confusion_matrix(truth, predicted, labels=range(6)),
    )


def test_labels_outside_the_classes_are_refused(unchecked):
    for bad in (-1, 3):
        with pytest.raises(DataError, match="do not fit 3 classes"):
            classification.confusion(np.array([0, bad]), np.array([0, 0]), 3)
    with pytest.raises(DataError, match="one length"):
        classification.confusion(np.array([0, 1]), np.array([0]), 3)
    with pytest.raises(DataError, match="no query"):
        classification.macro_f1(np.array([], int), np.array([], int))


def test_table_by_class():
    ap = np.array([1.0, 0.5, np.nan, 0.25])
    table = classification.per_class_table(
        np.array([0, 0, 1, 2]),
        np.array([0, 2, 0, 2]),
        ("chair", "table", "lamp", "bed"),
        average_precision=ap,
    )
    assert [row["class"] for row in table] == ["chair", "table", "lamp", "bed"]
    assert [row["items"] for row in table] == [2, 1, 1, 0]
    assert [row["nn_acc"] for row in table] == [0.5, 0.0, 1.0, None]
    assert [row["f1"] for row in table] == [0.5, 0.0, pytest.approx(2 / 3), None]
    assert [row["ap"] for row in table] == [0.75, None, 0.25, None]


def test_one_class():
    assert classification.macro_f1(np.zeros(3, int), np.zeros(3, int)) == 1.0
