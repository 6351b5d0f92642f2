"""Category-Chamfer: right class, and the nearest of it."""

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.metrics.category_chamfer import category_chamfer_hits, category_hits

LABELS = np.array([0, 0, 0, 1, 1, 2])
OWN = np.arange(6)
# Row 0: the nearest of all is row 3, of another class; of its own class row 2.
D = np.array(
    [
        [0.0, 3.0, 2.0, 1.0, 9.0, 9.0],
        [3.0, 0.0, 3.0, 9.0, 9.0, 9.0],
        [2.0, 3.0, 0.0, 9.0, 9.0, 9.0],
        [1.0, 9.0, 9.0, 0.0, 4.0, 9.0],
        [9.0, 9.0, 9.0, 4.0, 0.0, 0.5],
        [9.0, 9.0, 9.0, 9.0, 0.5, 0.0],
    ]
)


def test_hits():
    found = np.array([2, 0, 1, 4, 5, 4])
    np.testing.assert_array_equal(category_hits(found, LABELS, LABELS), [1, 1, 1, 1, 0, 0])
    # Row 1 has two equally near, each right; row 2 found its class but not the nearest; row 4 found
    # the nearest of all, of another class; row 5 is alone in its class.
    hits = category_chamfer_hits(found, D, LABELS, LABELS, OWN)
    np.testing.assert_array_equal(hits, [1, 1, 0, 1, 0, 0])
    nothing = np.full(6, -1)
    assert category_hits(nothing, LABELS, LABELS).sum() == 0
    assert category_chamfer_hits(nothing, D, LABELS, LABELS, OWN).sum() == 0


def test_only_distances_within_a_class_are_read():
    d = np.where(LABELS[:, None] == LABELS[None], D, np.nan)
    found = np.array([2, 0, 1, 4, 5, 4])
    np.testing.assert_array_equal(
        category_chamfer_hits(found, d, LABELS, LABELS, OWN), [1, 1, 0, 1, 0, 0]
    )
    # A gallery without the queries: row 0's nearest of its class is now row 0 of the gallery.
    hits = category_chamfer_hits(np.array([0]), D[:1], LABELS[:1], LABELS, np.array([-1]))
    np.testing.assert_array_equal(hits, [1])
    d[0, 1] = np.nan
    with pytest.raises(DataError, match="query 0: the Chamfer distance to row 1, of its class"):
        category_chamfer_hits(found, d, LABELS, LABELS, OWN)


def test_what_cannot_be():
    with pytest.raises(DataError, match="query 3 found itself"):
        category_chamfer_hits(np.array([2, 0, 1, 3, 5, 4]), D, LABELS, LABELS, OWN)
    with pytest.raises(DataError, match="none of the 6 rows"):
        category_hits(np.array([6]), LABELS[:1], LABELS)
    assert category_hits(np.zeros(0, int), np.zeros(0, int), LABELS).shape == (0,)
