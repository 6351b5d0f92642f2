"""Frozen features: computed once, of the right rows, never half."""

import numpy as np
import pytest

from jax3dret.core.types import DataError
from jax3dret.data import features
from jax3dret.data.pipeline import open_source


@pytest.fixture
def source(parts_dir, tmp_path):
    """Its features go below tmp_path."""
    source = open_source("parts", "train", parts_dir)
    source.path = tmp_path
    return source


def rows_of(source):
    """Two pictures of 3 values for each record: i and i + 1/2."""
    return [np.array([[i] * 3, [i + 0.5] * 3], np.float32) for i in range(len(source))]


def test_computed_once_in_batches_of_one_shape(source):
    calls = []

    def embed(pictures):
        calls.append(pictures.shape)
        return pictures[:, :1] * [1.0, 10.0]

    path = features.frozen_features(
        source, rows_of(source), embed, provenance={"weights": "a"}, batch_size=4
    )
    found = np.load(path)
    assert found.dtype == np.float32
    index = np.arange(23)
    np.testing.assert_array_equal(found[:, 0], np.stack([index, 10 * index], 1))
    np.testing.assert_array_equal(found[:, 1], np.stack([index + 0.5, 10 * index + 5], 1))
    assert calls == [(8, 3)] * 6
    assert (
        features.frozen_features(
            source, rows_of(source), embed, provenance={"weights": "a"}, batch_size=5
        )
        == path
    )
    assert len(calls) == 6
    np.testing.assert_allclose(features.mean_feature(path), [11.25, 112.5])


def test_leading_axes(source):
    path = features.frozen_features(
        source, rows_of(source), lambda x: x, provenance={}, batch_size=4, lead=(1, 2)
    )
    assert np.load(path).shape == (23, 1, 2, 3)
    np.testing.assert_array_equal(np.load(path)[7, 0, 1], [7.5] * 3)


def test_other_making_is_another_file(source, parts_dir):
    made = features.features_path(source, {"weights": "a", "size": 64})
    assert made == features.features_path(source, {"size": 64, "weights": "a"})
    assert made != features.features_path(source, {"weights": "b", "size": 64})
    other = open_source("parts", "val", parts_dir)
    other.path, other.split = source.path, source.split
    assert made != features.features_path(other, {"weights": "a", "size": 64})


def test_digest_sees_values_names_and_shapes():
    tree = {"a": np.arange(4.0), "b": np.zeros(2)}
    same = features.digest({"b": np.zeros(2), "a": np.arange(4.0)})
    assert features.digest(tree) == same
    for other in (
        {**tree, "a": np.arange(4.0) + 1e-12},
        {"a": tree["a"], "c": tree["b"]},
        {**tree, "b": np.zeros((2, 1))},
    ):
        assert features.digest(other) != same


@pytest.mark.parametrize("fault", ["nan", "error", "shape", "count"])
def test_nothing_half_written(source, fault):
    rows = rows_of(source)

    def embed(pictures):
        if pictures[0, 0] >= 8:
            if fault == "nan":
                return np.full((len(pictures), 2), np.nan)
            if fault == "error":
                raise KeyboardInterrupt
        return pictures

    if fault == "shape":
        rows[9] = rows[9][:1]
    if fault == "count":
        rows = rows[:-1]
    with pytest.raises(KeyboardInterrupt if fault == "error" else DataError):
        features.frozen_features(source, rows, embed, provenance={}, batch_size=4)
    assert not list(source.path.glob("features/*.npy*"))
