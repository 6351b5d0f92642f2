"""Arrays that were computed from the records find their records again, in every order."""

import dataclasses

import numpy as np
import pytest

from jax3dret.core.types import DataError, DataSpec
from jax3dret.data.pipeline import eval_batches, open_source, train_iterator
from jax3dret.data.points import Keep


@pytest.fixture
def source(parts_dir):
    return open_source("parts", "train", parts_dir)


@pytest.fixture
def rows(source, tmp_path):
    """Row i holds the number of record i, so that a wrong row is seen."""
    values = [[source[i]["scale"], -1] for i in range(len(source))]
    np.save(tmp_path / "feature.npy", np.array(values, np.float32))
    return (("feature", str(tmp_path / "feature.npy")),)


def spec(rows) -> DataSpec:
    return DataSpec(
        "parts",
        "train",
        4,
        features=("scale",),
        arrays=rows,
        transforms=(Keep(("scale", "feature")),),
    )


@pytest.mark.parametrize("index", [0, 1])
def test_rows_follow_their_records(source, rows, index):
    batches = train_iterator(source, spec(rows), process_index=index, process_count=2)
    for batch in [next(batches) for _ in range(12)]:
        np.testing.assert_array_equal(batch["feature"][:, 0], batch["scale"])
    for batch in eval_batches(source, spec(rows), process_index=index, process_count=2):
        np.testing.assert_array_equal(batch["feature"][:, 0], batch["scale"])


def test_rows_made_when_they_are_first_read(source, rows):
    made = []

    def maker(opened):
        made.append(opened.split)
        return rows[0][1]

    lazy = spec((("feature", maker),))
    assert not made
    batch = next(iter(eval_batches(source, lazy)))
    np.testing.assert_array_equal(batch["feature"][:, 0], batch["scale"])
    assert made == ["train"]


def test_refuses_rows_of_other_data(source, tmp_path):
    np.save(tmp_path / "short.npy", np.zeros((22, 2), np.float32))
    with pytest.raises(DataError, match="22 rows for 23 records"):
        train_iterator(source, spec((("feature", str(tmp_path / "short.npy")),)))
    np.save(tmp_path / "taken.npy", np.zeros((23, 2), np.float32))
    with pytest.raises(DataError, match="a 'scale' already"):
        train_iterator(source, spec((("scale", str(tmp_path / "taken.npy")),)))
    (tmp_path / "page.npy").write_text("<html>")
    with pytest.raises(DataError, match=r"page\.npy: cannot be read"):
        train_iterator(source, spec((("feature", str(tmp_path / "page.npy")),)))


def test_arrays_in_memory_join_as_those_of_files_do(source, rows, tmp_path):
    made = np.array([[source[i]["scale"], 7] for i in range(len(source))])
    both = spec(rows)
    both = dataclasses.replace(both, transforms=(Keep(("scale", "feature", "made")),))
    batches = train_iterator(source, both, {"made": made})
    for batch in [next(batches) for _ in range(12)]:
        np.testing.assert_array_equal(batch["made"][:, 0], batch["scale"])
        np.testing.assert_array_equal(batch["feature"][:, 0], batch["scale"])
    with pytest.raises(DataError, match="two arrays are called 'feature'"):
        train_iterator(source, both, {"feature": made})
    with pytest.raises(DataError, match="'made' has 22 rows for 23 records"):
        train_iterator(source, both, {"made": made[1:]})
