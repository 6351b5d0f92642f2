"""Category-Chamfer: whether what was found is of the query's class and, of all shapes of that
class, the nearest in shape.

INRet, section 11.1. Ordinary retrieval counts the class alone, however unlike the shape; here the
Chamfer distance says which one shape of the class is right.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from jax3dret.core.types import DataError
from jax3dret.metrics.metric import Metric

CATEGORY = Metric(
    "category_accuracy", "Category accuracy", "queries whose first result has their class"
)
CATEGORY_CHAMFER = Metric(
    "category_chamfer",
    "Category-Chamfer accuracy",
    "queries whose first result has their class and of all other shapes of that class the least "
    "Chamfer distance to them",
)


def category_hits(
    found: Int[np.ndarray, " Q"],
    query_labels: Int[np.ndarray, " Q"],
    gallery_labels: Int[np.ndarray, " S"],
) -> Float[np.ndarray, " Q"]:
    """1 where the found shape has the query's class, else 0; INRet's Eq. 14 is their mean.

    found: rows of the gallery; -1 where nothing was found, which is no hit.
    """
    found = _checked(found, len(gallery_labels))
    right = np.asarray(gallery_labels)[found] == np.asarray(query_labels)
    return (right & (found >= 0)).astype(np.float64)


def category_chamfer_hits(
    found: Int[np.ndarray, " Q"],
    distances: Float[np.ndarray, "Q S"],
    query_labels: Int[np.ndarray, " Q"],
    gallery_labels: Int[np.ndarray, " S"],
    own: Int[np.ndarray, " Q"],
) -> Float[np.ndarray, " Q"]:
    """1 where the found shape has the query's class and no other shape of that class is nearer,
    else 0; INRet's Eq. 15 is their mean.

    The least distance is that among the shapes of the query's class (the text's reading; the
    equation's letters would allow all shapes). Of equally near shapes each is right. A query whose
    class has no other shape is never a hit.

    found: as for `category_hits`. distances: Chamfer distances; only those within a class are read,
    what else there is may be NaN. own: the gallery's row that is the query itself, left out; -1 for
    none.

    Raises DataError for a distance within a class that is NaN, and for a query that found itself.
    """
    gallery_labels = np.asarray(gallery_labels)
    found = _checked(found, len(gallery_labels))
    rows = np.arange(len(found))
    if (itself := (found >= 0) & (found == np.asarray(own))).any():
        raise DataError(f"query {int(itself.argmax())} found itself; leave it out of the search")
    same = gallery_labels[None] == np.asarray(query_labels)[:, None]
    has_own = np.asarray(own) >= 0
    same[rows[has_own], np.asarray(own)[has_own]] = False
    if (bad := same & np.isnan(distances)).any():
        query, row = np.argwhere(bad)[0]
        raise DataError(f"query {query}: the Chamfer distance to row {row}, of its class, is NaN")
    least = np.where(same, distances, np.inf).min(axis=1, initial=np.inf)
    hit = same[rows, found] & (found >= 0)
    return (hit & (np.asarray(distances)[rows, found] == least)).astype(np.float64)


def _checked(found: np.ndarray, count: int) -> np.ndarray:
    found = np.asarray(found)
    if len(found) and not (found.min() >= -1 and found.max() < count):
        raise DataError(f"a result is none of the {count} rows of the gallery, nor -1")
    return found
