"""Batches: order, randomness, resuming, processes, and what a reader refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError, DataSpec
from jax3dret.data.pipeline import eval_batches, open_source, train_iterator
from jax3dret.data.points import Jitter, Keep, Subsample, TwoViews

BATCH = 6
TRANSFORMS = (TwoViews((Subsample(8), Jitter(0.001, 0.002))), Keep(("view_a", "view_b", "scale")))


@pytest.fixture
def source(parts_dir):
    return open_source("parts", "train", parts_dir)


def spec(**changes) -> DataSpec:
    base = DataSpec(name="parts", split="train", batch_size=BATCH, transforms=TRANSFORMS, seed=3)
    return dataclasses.replace(base, **changes)


def take(iterator, count: int) -> list[dict[str, np.ndarray]]:
    return [next(iterator) for _ in range(count)]


def same(left, right) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key])


def numbers(batches) -> np.ndarray:
    """The records of the rows: `scale` holds a record's number."""
    return np.concatenate([batch["scale"] for batch in batches]).astype(int)


# ------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "split", ["train", "val", "train+val", "val+train", "train[3:9]", "val[:2]+train[-4:]", "all"]
)
def test_ids_and_labels_are_those_of_the_records(parts_dir, split):
    source = open_source("parts", split, parts_dir)
    records = [source[i] for i in range(len(source))]
    assert tuple(record["id"] for record in records) == source.ids
    np.testing.assert_array_equal([record["label"] for record in records], source.labels)
    for record in records:
        number = int(record["id"].removeprefix("part/"))
        assert record["label"] == number % 3 and isinstance(record["label"], int)
        assert (
            record["points"].shape == (12 + number % 4, 3) and record["points"].dtype == np.float32
        )
        np.testing.assert_array_equal(record["faces"], np.full((number % 5 + 1, 3), number))
    assert len(source) == {"train": 23, "val": 7, "train[3:9]": 6, "val[:2]+train[-4:]": 6}.get(
        split, 30
    )


def test_source_describes_the_data_set(source):
    assert source.class_names == ("bolt", "nut", "washer")
    assert (source.name, source.version, source.split, len(source)) == (
        "parts",
        "1.2.0",
        "train",
        23,
    )
    assert source.features == ("faces", "id", "label", "points", "scale")
    assert source.labels.dtype == np.int32
    assert source[-1]["id"] == source[22]["id"] == source.ids[22]
    with pytest.raises(IndexError):
        source[23]


def test_select_decodes_only_what_is_named(source):
    assert set(source.select("points")[4]) == {"id", "label", "points"}
    with pytest.raises(DataError, match="no feature 'normals'; it has faces, id"):
        source.select("normals")


def test_newest_version_unless_one_is_named(parts_dir, tmp_path):
    for version in ("1.2.0", "1.10.0"):
        shutil.copytree(parts_dir / "parts" / "1.2.0", tmp_path / "parts" / version)
    (tmp_path / "parts" / "1.9.0.incomplete").mkdir()
    assert open_source("parts", "val", tmp_path).path.name == "1.10.0"
    assert open_source("parts:1.2.0", "val", tmp_path).path.name == "1.2.0"


def test_data_dir_comes_from_the_environment(parts_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(parts_dir))
    assert len(open_source("parts", "val")) == 7


def test_missing_data_set_says_how_to_build_it(parts_dir, tmp_path):
    with pytest.raises(
        DataError,
        match=r"modelnet/10 is not prepared in .*; run: jax3dret data build modelnet/10 "
        r"--manual-dir RAW",
    ):
        open_source("modelnet/10", "train", parts_dir)
    shutil.copytree(parts_dir / "parts", tmp_path / "shapes" / "demo")
    with pytest.raises(ConfigError, match=r"names no configuration; prepared in .*: shapes/demo"):
        open_source("shapes", "train", tmp_path)
    assert len(open_source("shapes/demo", "val", tmp_path)) == 7


@pytest.mark.parametrize("split", ["test", "train[", "", "train+test"])
def test_unknown_split_names_those_there_are(parts_dir, split):
    with pytest.raises(ConfigError, match="parts has train, val"):
        open_source("parts", split, parts_dir)
    with pytest.raises(ConfigError, match="parts has train, val; did you mean 'train'"):
        open_source("parts", "trian", parts_dir)
    with pytest.raises(DataError, match="holds no records"):
        open_source("parts", "train[5:5]", parts_dir)


@pytest.fixture
def copy(parts_dir, tmp_path):
    shutil.copytree(parts_dir / "parts", tmp_path / "parts")
    return tmp_path / "parts" / "1.2.0"


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_a_truncated_file_is_named(copy, kept):
    file = sorted(copy.glob("*train.array_record*"))[0]
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    with pytest.raises(DataError, match=file.name):
        open_source("parts", "train", copy.parents[1])


def test_a_missing_file_is_named(copy):
    file = sorted(copy.glob("*train.array_record*"))[1]
    file.unlink()
    with pytest.raises(DataError, match=file.name):
        open_source("parts", "train", copy.parents[1])


def test_a_damaged_record_stops_the_iteration_and_names_the_file(copy):
    file = sorted(copy.glob("*train.array_record*"))[0]
    data = bytearray(file.read_bytes())
    start = data.index(b"points") if b"points" in data else 1200
    data[start : start + 4] = b"\xff\x00\xff\x00"
    file.write_bytes(bytes(data))
    source = open_source("parts", "train", copy.parents[1])
    for threads in (0, 2):
        with pytest.raises(DataError, match=file.name):
            take(train_iterator(source, spec(num_threads=threads)), 8)
    with pytest.raises(DataError, match=file.name):
        list(eval_batches(source, spec()))


def test_a_manifest_of_another_build_is_refused(copy):
    file = copy / "manifest.json"
    manifest = json.loads(file.read_text())
    ids = manifest["splits"]["train"]["ids"]
    ids[0], ids[1] = ids[1], ids[0]
    file.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="manifest is of another build"):
        open_source("parts", "train", copy.parents[1])[0]
    ids.pop()
    file.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json: lists 22 ids and 23 labels"):
        open_source("parts", "train", copy.parents[1])
    file.write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read"):
        open_source("parts", "val", copy.parents[1])
    file.unlink()
    with pytest.raises(DataError, match=r"manifest\.json is missing"):
        open_source("parts", "val", copy.parents[1])


# ------------------------------------------------------------------------------------------------------------ training


def test_a_batch_holds_arrays_labels_and_a_mask(source):
    batch = next(train_iterator(source, spec()))
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "view_a": ((BATCH, 8, 3), "float32"),
        "view_b": ((BATCH, 8, 3), "float32"),
        "scale": ((BATCH,), "float32"),
        "label": ((BATCH,), "int32"),
        "mask": ((BATCH,), "bool"),
    }
    assert batch["mask"].all()
    np.testing.assert_array_equal(batch["label"], batch["scale"].astype(int) % 3)
    np.testing.assert_allclose(batch["view_a"][:, :, 0].mean(axis=1), batch["scale"], atol=0.02)


def test_every_epoch_holds_every_record_once_in_its_own_order(source):
    epochs = numbers(take(train_iterator(source, spec()), 23)).reshape(
        BATCH, 23
    )  # 23 batches of 6 = 6 epochs of 23
    for epoch in epochs:
        assert sorted(epoch) == list(range(23))
    assert len({tuple(epoch) for epoch in epochs}) == BATCH


def test_class_names_leave_out_the_other_classes_and_number_the_rest(source):
    batches = take(train_iterator(source, spec(class_names=("washer", "bolt"))), 8)
    classes = {("bolt", "nut", "washer")[int(number) % 3] for number in numbers(batches)}
    assert classes == {"bolt", "washer"}
    for batch in batches:
        expected = np.where(batch["scale"].astype(int) % 3 == 2, 0, 1)
        np.testing.assert_array_equal(batch["label"], expected)


def test_order_and_draws_follow_the_seed(source):
    same(
        take(train_iterator(source, spec()), 5),
        take(train_iterator(source, spec(num_threads=0)), 5),
    )
    other = take(train_iterator(source, spec(seed=4)), 8)
    ours = take(train_iterator(source, spec()), 8)
    assert list(numbers(ours)) != list(numbers(other))
    # A neighbouring seed is not the same run one epoch later.
    assert list(numbers(ours))[23:] != list(numbers(other))[:25]


def test_a_record_is_drawn_anew_in_every_epoch(source):
    batches = take(train_iterator(source, spec()), 8)
    rows = np.flatnonzero(numbers(batches) == 5)
    assert len(rows) == 2
    views = np.concatenate([batch["view_a"] for batch in batches])[rows]
    assert not np.array_equal(views[0], views[1])


@pytest.mark.parametrize("threads", [0, 2])
def test_resuming_within_an_epoch_is_exact(source, threads):
    through = take(train_iterator(source, spec()), 9)
    first = train_iterator(source, spec(num_threads=threads))
    take(first, 5)
    state = json.loads(json.dumps(first.get_state()))
    assert state["step"] == 5 and len(json.dumps(state)) < 200
    resumed = train_iterator(source, spec(num_threads=threads))
    next(resumed)
    resumed.set_state(state)
    assert resumed.get_state() == state
    same(take(resumed, 4), through[5:])
    first.close()


def test_a_position_of_another_run_is_refused(source):
    state = train_iterator(source, spec()).get_state()
    for key, value in (("batch_size", 3), ("seed", 9)):
        with pytest.raises(ConfigError, match=f"{key} = "):
            train_iterator(source, spec(**{key: value})).set_state(state)
    with pytest.raises(ConfigError, match="data = None"):
        train_iterator(source, spec()).set_state({"step": 2})


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_out_the_batches_of_one(source, count):
    alone = train_iterator(source, spec())
    parts = [
        train_iterator(source, spec(), process_index=p, process_count=count) for p in range(count)
    ]
    for step in range(9):
        whole = next(alone)
        shares = [next(part) for part in parts]
        joined = {key: np.concatenate([share[key] for share in shares]) for key in whole}
        same([joined], [whole])
        assert all(part.get_state() == alone.get_state() for part in parts), step
    # A run saved on one process goes on with several.
    parts[1].set_state({**alone.get_state(), "step": 4})
    rows = slice(BATCH // count, 2 * BATCH // count)
    alone.set_state({**alone.get_state(), "step": 4})
    np.testing.assert_array_equal(next(parts[1])["view_b"], next(alone)["view_b"][rows])


def test_batches_that_cannot_be_made(source):
    with pytest.raises(
        DataError, match=r"23 items but a batch of 24; lower config\.train\.batch_size"
    ):
        train_iterator(source, spec(batch_size=24))
    with pytest.raises(ConfigError, match="split evenly over 4 processes"):
        train_iterator(source, spec(), process_count=4)
    with pytest.raises(ConfigError, match="non-negative"):
        train_iterator(source, spec(seed=-1))
    with pytest.raises(ConfigError, match="at least 1"):
        eval_batches(source, spec(batch_size=0))
    with pytest.raises(DataError, match=r"'points' has the shape \(\d+, 3\) in one record and"):
        next(train_iterator(source, spec(transforms=(Keep(("points",)),))))
    with pytest.raises(ConfigError, match="leave 'name', which is no array"):
        next(train_iterator(source, spec(transforms=(lambda record, rng: {"name": record["id"]},))))


# ------------------------------------------------------------------------------------------------------------- samplers


def one_class_a_batch(groups, seed, epoch):
    """Each batch of six from one class; of classes with fewer records left, nothing. Epochs differ
    in their number of batches."""
    rng = np.random.default_rng([seed, epoch])
    rows = [rng.permutation(np.flatnonzero(groups == group)) for group in np.unique(groups)]
    batches = [row[:BATCH] for row in rows if len(row) >= BATCH]
    return np.stack(batches)[: 1 + epoch % 3]


def sampled(source, sampler=one_class_a_batch, **changes):
    return train_iterator(source, spec(sampler=sampler), **changes)


def test_a_sampler_says_which_records_are_in_a_batch(source):
    batches = take(sampled(source), 12)
    for batch in batches:
        assert len(set(batch["label"].tolist())) == 1
        assert len(set(batch["scale"].tolist())) == BATCH
        np.testing.assert_array_equal(batch["label"], batch["scale"].astype(int) % 3)
    # Epochs of 1, 2 and 3 batches: the first batch of each is of class 0, then 1, then 2.
    assert [int(b["label"][0]) for b in batches] == [0, 0, 1, 0, 1, 2] * 2
    orders = {tuple(numbers([batch])) for batch in batches}
    assert len(orders) == 12  # every epoch is drawn anew
    same(batches, take(sampled(source), 12))
    other = take(train_iterator(source, spec(sampler=one_class_a_batch, seed=4)), 2)
    assert numbers(other).tolist() != numbers(batches[:2]).tolist()


def test_a_sampler_sees_the_labels_under_the_wanted_class_names(source):
    seen = []

    def first_rows(groups, seed, epoch):
        seen.append(groups)
        return np.arange(BATCH)[None]

    batch = next(train_iterator(source, spec(sampler=first_rows, class_names=("washer", "bolt"))))
    assert set(seen[0].tolist()) == {0, 1} and batch["label"].tolist() == seen[0][:BATCH].tolist()


@pytest.mark.parametrize("threads", [0, 2])
def test_resuming_a_sampled_run_is_exact_anywhere(source, threads):
    through = take(sampled(source), 14)
    for step in (1, 2, 9):  # at the end of an epoch, within one, several epochs on
        first = train_iterator(source, spec(sampler=one_class_a_batch, num_threads=threads))
        take(first, step)
        state = json.loads(json.dumps(first.get_state()))
        first.close()
        resumed = train_iterator(source, spec(sampler=one_class_a_batch, num_threads=threads))
        resumed.set_state(state)
        same(take(resumed, 4), through[step : step + 4])
        resumed.set_state({**state, "step": 0})
        same(take(resumed, 2), through[:2])
        resumed.close()


def test_two_processes_share_out_the_batches_of_a_sampler(source):
    alone = sampled(source)
    parts = [sampled(source, process_index=p, process_count=2) for p in range(2)]
    for _ in range(8):
        whole, shares = next(alone), [next(part) for part in parts]
        joined = {key: np.concatenate([share[key] for share in shares]) for key in whole}
        same([joined], [whole])
    assert all(part.get_state() == alone.get_state() for part in parts)


def test_a_position_belongs_to_a_sampler(source):
    plain, ours = train_iterator(source, spec()), sampled(source)
    assert "sampler" not in plain.get_state()
    assert ours.get_state()["sampler"] == "one_class_a_batch"
    with pytest.raises(ConfigError, match="sampler = 'one_class_a_batch', this run has None"):
        plain.set_state(ours.get_state())
    with pytest.raises(ConfigError, match="sampler = None, this run has 'one_class_a_batch'"):
        ours.set_state(plain.get_state())


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.arange(2 * BATCH).reshape(2, BATCH) + 12, "gives rows 12 to 23; there are 23"),
        (np.arange(BATCH)[None] - 1, "gives rows -1 to 4; there are 23"),
        (np.zeros((2, BATCH - 1), int), r"gives int64 of shape \(2, 5\); .* \[batches, 6\]"),
        (np.arange(BATCH), r"gives int64 of shape \(6,\)"),
        (np.zeros((2, BATCH)), "gives float64 of shape"),
        (np.zeros((0, BATCH), int), "gives no batch of 6 rows"),
    ],
)
def test_what_a_sampler_may_not_give_is_refused_before_the_first_batch(source, rows, says):
    with pytest.raises(ConfigError, match=r"<lambda>, epoch 0: " + says) as error:
        sampled(source, lambda groups, seed, epoch: rows)
    assert "\n" not in str(error.value)
    later = sampled(
        source, lambda groups, seed, epoch: rows if epoch else np.zeros((1, BATCH), int)
    )
    next(later)
    with pytest.raises(ConfigError, match="epoch 1: " + says):
        next(later)


# ---------------------------------------------------------------------------------------------------------- evaluation


def test_evaluation_is_in_order_padded_and_repeatable(source):
    batches = list(eval_batches(source, spec()))
    assert [len(batch["label"]) for batch in batches] == [BATCH] * 4
    mask = np.concatenate([batch["mask"] for batch in batches])
    np.testing.assert_array_equal(mask, np.arange(24) < 23)
    ids = [f"part/{number:04d}" for number in numbers(batches)]
    assert tuple(ids[:23]) == source.ids
    np.testing.assert_array_equal(
        np.concatenate([batch["label"] for batch in batches])[:23], source.labels
    )
    for key in ("view_a", "label"):
        np.testing.assert_array_equal(batches[-1][key][-1], batches[0][key][0])
    same(batches, list(eval_batches(source, spec(num_threads=0))))
    assert not np.array_equal(
        batches[0]["view_a"], next(eval_batches(source, spec(seed=4)))["view_a"]
    )


def test_evaluation_draws_do_not_depend_on_the_batch_size(source):
    whole = np.concatenate([batch["view_a"] for batch in eval_batches(source, spec())])[:23]
    other = np.concatenate([batch["view_a"] for batch in eval_batches(source, spec(batch_size=4))])[
        :23
    ]
    np.testing.assert_array_equal(whole, other)


def test_processes_see_equally_many_evaluation_batches(parts_dir):
    source = open_source(
        "parts", "val", parts_dir
    )  # 7 records: the last batch of 6 holds one, so process 1 has padding alone
    whole = list(eval_batches(source, spec()))
    shares = [
        list(eval_batches(source, spec(), process_index=p, process_count=2)) for p in range(2)
    ]
    assert len(shares[0]) == len(shares[1]) == len(whole) == 2
    joined = [
        {key: np.concatenate([a[key], b[key]]) for key in a}
        for a, b in zip(shares[0], shares[1], strict=True)
    ]
    same(joined, whole)
    assert not shares[1][1]["mask"].any()


def test_a_batch_may_be_larger_than_the_data_set(source):
    (batch,) = eval_batches(source, spec(batch_size=40))
    assert batch["mask"].sum() == 23


def test_reading_needs_no_tensorflow_and_no_parsed_flags(parts_dir):
    code = (
        "import sys\n"
        "from jax3dret.core.types import DataSpec\n"
        "from jax3dret.data.pipeline import open_source, train_iterator\n"
        "from jax3dret.data.points import Keep, Subsample\n"
        "source = open_source('parts', 'train', sys.argv[1])\n"
        "spec = DataSpec('parts', 'train', 4, transforms=(Subsample(8), Keep(('points',))))\n"
        "assert next(train_iterator(source, spec))['points'].shape == (4, 8, 3)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(parts_dir)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
