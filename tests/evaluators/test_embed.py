"""A split through an embedding function: padding, order, several processes, bad embeddings."""

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.evaluators.embed import embed_split


def batches(items, size, process_index=0, process_count=1):
    """Rows of global batches whose "x" is the item's number; padding repeats item 0."""
    local = size // process_count
    for start in range(0, items, size):
        rows = np.arange(start, start + size)[process_index * local : (process_index + 1) * local]
        yield {"x": np.where(rows < items, rows, 0).astype(np.float32), "mask": rows < items}


def square(batch):
    return {"shape": np.stack([batch["x"], batch["x"] ** 2], axis=1)}


@pytest.mark.parametrize("items", [1, 7, 8, 9])
def test_rows_are_written_in_order_without_padding(tmp_path, items):
    seen = []
    out = embed_split(
        square, batches(items, 4), items=items, path=tmp_path / "e.npy", progress=seen.append
    )
    np.testing.assert_array_equal(out, [[i, i * i] for i in range(items)])
    assert isinstance(out, np.memmap) and out.dtype == np.float32
    assert seen[-1] == items and len(seen) == -(-items // 4)
    assert [p.name for p in tmp_path.iterdir()] == ["e.npy"]


@pytest.mark.parametrize("process_index", [0, 1])
def test_every_process_gets_every_row(tmp_path, process_index):
    whole = batches(6, 4)
    out = embed_split(
        lambda batch: square(next(whole)),
        batches(6, 4, process_index, 2),
        items=6,
        path=tmp_path / "e.npy",
    )
    np.testing.assert_array_equal(out[:, 0], np.arange(6))


def nan_at_five(batch):
    return {"shape": np.where(batch["x"] == 5, np.nan, batch["x"])[:, None]}


@pytest.mark.parametrize(
    ("function", "items", "error", "message"),
    [
        (nan_at_five, 8, DataError, r"embedding 'shape' of row 5 \(part-5\) holds NaN or infinity"),
        (lambda batch: {"text": batch["x"]}, 8, ConfigError, "the model embeds text, not 'shape'"),
        (
            lambda batch: {"shape": batch["x"]},
            8,
            DataError,
            r"shape \(4,\); it must be \[batch, width\]",
        ),
        (
            lambda batch: {"shape": np.ones((4, 1 + int(batch["x"][0])))},
            8,
            DataError,
            "5 wide after row 4, 1 before",
        ),
        (square, 9, DataError, "the batches held 8 items; the split has 9"),
        (square, 5, DataError, "more than the 5 items"),
        (square, 0, DataError, "no items"),
    ],
)
def test_what_cannot_be_embedded(tmp_path, function, items, error, message):
    ids = [f"part-{i}" for i in range(9)]
    with pytest.raises(error, match=message):
        embed_split(function, batches(8, 4), items=items, path=tmp_path / "e.npy", ids=ids)
    assert not list(tmp_path.iterdir())


def test_padding_may_be_anything(tmp_path):
    """A NaN that stands only in a padding row is nobody's embedding."""

    def function(batch):
        return {"shape": np.where(batch["mask"], batch["x"], np.nan)[:, None]}

    assert len(embed_split(function, batches(5, 4), items=5, path=tmp_path / "e.npy")) == 5


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    (tmp_path / "e.npy.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as error:
        embed_split(square, batches(7, 4), items=7, path=tmp_path / "e.npy")
    assert error.value.filename == str(tmp_path / "e.npy") and not list(tmp_path.iterdir())
