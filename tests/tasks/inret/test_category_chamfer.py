"""Category-Chamfer: both searches on clouds whose distances are known, and what makes a bad choice."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError
from jax3dret.tasks.inret import category_chamfer as cc
from jax3dret.tasks.inret.clouds import Clouds, distances_within
from jax3dret.tasks.inret.hierarchical import Hierarchy

LABELS = np.array([0, 0, 0, 1, 1, 1])
RADII = np.array([0.3, 0.34, 0.6, 0.32, 0.8, 0.86])


def clouds():
    def sample(row, points):
        x = np.random.default_rng([row, points]).normal(size=(points, 3))
        return (RADII[row] * x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    return Clouds(sample)


def one_hot(classes):
    return lambda x: np.eye(2)[np.asarray(classes)[: len(x)]] if len(x) > 1 else np.zeros((1, 2))


def test_both_searches():
    # Embeddings by which 0 and 3 are nearest to each other, 1 to 2, 4 to 5.
    angles = np.deg2rad([0, 50, 60, 3, 120, 130])
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    given = [0, 0, 0, 1, 1, 0]  # the classifier is wrong about the last
    found = cc.search(x, LABELS, one_hot(given), clouds(), Hierarchy(64, 512), "cosine", 2)
    np.testing.assert_array_equal(found.nearest, [3, 2, 1, 0, 5, 4])
    # By shape: of class 0, rows 0 and 1 are nearest to each other, 2 to 1; of class 1, 3 to 4.
    np.testing.assert_array_equal(found.hierarchical, [1, 0, 1, 4, 5, 2])
    true = distances_within(LABELS, clouds(), 1024)
    metrics = cc.score(found, true, LABELS)
    assert metrics["category_accuracy"] == 4 / 6
    # Row 1's nearest by embedding is row 2, by shape row 0; rows 2, 4 and 5 are right.
    assert metrics["category_chamfer"] == pytest.approx(3 / 6)
    assert metrics["hierarchical"] == pytest.approx(5 / 6)
    assert metrics["classified"] == pytest.approx(5 / 6)
    assert 0 < metrics["kept"] <= 1
    parts = sum(metrics[key] for key in ("classify_s", "coarse_s", "fine_s"))
    assert metrics["hierarchical_s"] == pytest.approx(parts) and metrics["naive_s"] > 0


def test_without_candidates():
    # The classifier names a class of which the query is the only shape.
    labels = np.array([0, 1, 1])
    found = cc.search(
        np.eye(3), labels, one_hot([0, 1, 1]), clouds(), Hierarchy(8, 16), "cosine", 0
    )
    assert found.hierarchical[0] == -1 and "naive_s" not in found.numbers
    metrics = cc.score(found, distances_within(labels, clouds(), 64), labels)
    assert metrics["hierarchical"] == pytest.approx(2 / 3)


def test_bad_choices():
    with pytest.raises(ConfigError, match="truth=100"):
        cc.make(None, None, truth=100)
    with pytest.raises(ConfigError, match=r"classifier\.epoch: there is no such setting"):
        cc.make(None, None, classifier={"epoch": 3})
    with pytest.raises(ConfigError, match="coarse=0"):
        cc.make(None, None, coarse=0)
