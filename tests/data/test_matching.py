"""Records of one data set under the class names of another."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from fakes import FakeSource

from jax3dret.core.types import ConfigError, DataError, DataSpec
from jax3dret.data.features import features_path, frozen_features
from jax3dret.data.matching import folded, matched
from jax3dret.data.pipeline import eval_batches, open_source, train_iterator
from jax3dret.data.points import Keep, Subsample

WANTED = ("gear", "Washer", "bolt", "zip")  # the source has bolt, nut, washer: labels 0, 1, 2


@pytest.fixture(scope="module")
def source(parts_dir):
    return open_source("parts", "train", parts_dir)


def test_labels_count_in_the_wanted_classes(source):
    found = matched(source, WANTED)
    kept = [i for i in range(len(source)) if source.labels[i] != 1]
    assert found.ids == tuple(source.ids[i] for i in kept)
    assert found.labels.tolist() == [2 if source.labels[i] == 0 else 1 for i in kept]
    assert (
        found.labels.dtype == np.int32 and found.class_names == WANTED and len(found) == len(kept)
    )
    assert found.manifest["class_names"] == list(WANTED) and source.manifest["class_names"] == [
        "bolt",
        "nut",
        "washer",
    ]
    for i in (0, 3, -1):
        record, own = found[i], source[kept[i]]
        assert record["label"] == found.labels[i] and record["id"] == found.ids[i]
        np.testing.assert_array_equal(record["points"], own["points"])
    with pytest.raises(IndexError):
        found[len(found)]


def test_what_is_left_out_is_counted(source):
    found = matched(source, WANTED)
    nuts = int((source.labels == 1).sum())
    assert (
        found.dropped_classes == {"nut": nuts}
        and found.dropped_items == nuts
        and found.absent == ("gear", "zip")
    )
    assert found.summary().endswith(
        f"{nuts} of 1 other classes are left out; 2 wanted classes have none (gear, zip)"
    )
    whole = matched(source, source.class_names)
    assert (
        whole.ids == source.ids
        and whole.labels.tolist() == source.labels.tolist()
        and not whole.dropped_items
    )


def test_select_and_pickle(source):
    found = matched(source, WANTED).select("points")
    assert set(found[2]) == {"id", "label", "points"} and found.features == (
        "id",
        "label",
        "points",
    )
    again = pickle.loads(pickle.dumps(found))
    assert again.ids == found.ids and again[1]["label"] == found[1]["label"]


def test_batches_and_features(source, tmp_path):
    found = matched(source, WANTED)
    spec = DataSpec(
        name="parts",
        split="train",
        batch_size=5,
        transforms=(Subsample(4), Keep(("points",))),
        seed=3,
        num_threads=0,
    )
    batches = list(eval_batches(found, spec))
    labels = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(labels, found.labels)
    # Every point of part n lies near (n, 0, 0), so that rows and labels can be told to belong
    # together.
    numbers = [int(i.partition("/")[2]) for i in found.ids]
    xs = np.concatenate([batch["points"][batch["mask"]][:, 0, 0] for batch in batches])
    np.testing.assert_allclose(xs, numbers, atol=0.05)
    batch = next(train_iterator(found, spec))
    expected = [found.labels[numbers.index(round(float(x)))] for x in batch["points"][:, 0, 0]]
    assert batch["label"].tolist() == expected
    rows = [np.full((1, 2), i, np.float32) for i in range(len(found))]
    provenance = {"of": str(tmp_path)}
    path = frozen_features(found, rows, lambda block: block, provenance=provenance)
    assert np.load(path).shape == (len(found), 1, 2) and path != features_path(source, provenance)
    joined = DataSpec(
        name="parts",
        split="train",
        batch_size=5,
        transforms=(Keep(("features",)),),
        seed=3,
        num_threads=0,
        arrays=(("features", path),),
    )
    values = np.concatenate(
        [batch["features"][batch["mask"]] for batch in eval_batches(found, joined)]
    )
    np.testing.assert_array_equal(values[:, 0, 0], range(len(found)))
    path.unlink()


def test_names(source):
    assert folded("Pipe (for smoking)") == folded("pipe_for-smoking") == "pipe_for_smoking"
    assert folded("wine bottle") != folded("winebottle")
    found = matched(source, ("ring", "bolt"), renames={"washer": "ring", "nut": "ring"})
    assert np.bincount(found.labels).tolist() == [
        int((source.labels != 0).sum()),
        int((source.labels == 0).sum()),
    ]
    # The same name goes before one that is merely alike.
    assert set(matched(source, ("Bolt", "bolt")).labels.tolist()) == {1}
    with pytest.raises(
        ConfigError, match="its class 'bolt' could be 'Bolt' or 'BOLT'; give renames"
    ):
        matched(source, ("Bolt", "BOLT"))
    with pytest.raises(
        ConfigError, match="renames has 'screw': 'bolt', but parts has no such class"
    ):
        matched(source, ("bolt",), renames={"screw": "bolt"})
    with pytest.raises(ConfigError, match="renames has 'nut': 'ring', but the wanted classes"):
        matched(source, ("bolt",), renames={"nut": "ring"})
    with pytest.raises(
        DataError, match=r"parts, split 'train': none of its 3 classes is among the 2 wanted ones"
    ):
        matched(source, ("car", "chair"))


def test_two_classes_of_a_source_are_not_made_one_unasked():
    own = FakeSource([0, 1, 2], class_names=("wine bottle", "Wine-Bottle", "bee"), name="drawings")
    with pytest.raises(
        ConfigError,
        match="drawings: its classes 'wine bottle' and 'Wine-Bottle' both fit 'wine_bottle'; give",
    ):
        matched(own, ("wine_bottle", "bee"))
    found = matched(own, ("wine_bottle", "bee"), renames={"Wine-Bottle": "wine_bottle"})
    assert found.labels.tolist() == [0, 0, 1]
