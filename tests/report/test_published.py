"""When a published number stands beside a measured one, and what is said where data or protocol
differ."""

import copy

import pytest

from jax3dret.report.published import compare, settings
from jax3dret.tasks.ulip2.datasets import PAPER

PAPERS = {"ULIP2/classification on MN40 (paper, table 1)": {"nn_acc": 0.931}}
CONFIG = {
    "data": {"num_points": 8192, "published": PAPER["modelnet40"].measured_on()},
    "train": {"split": "train", "steps": -1},
}
MANIFEST = {
    "source": {"kind": "off", "counts": {"train": 9843, "test": 2468}, "complete": True},
    "splits": {
        "train": {"items": 9843, "points": [16000, 16000]},
        "test": {"items": 2468, "points": [16000, 16000]},
    },
}
RESULT = {
    "dataset": {"splits": {"gallery": "train", "query": "test"}},
    "protocol": {"search": "exact"},
}


def judged(published=PAPERS, changed=(), **places):
    """places: by dotted place in manifest, config or result, as `manifest__splits__test__items`."""
    values = copy.deepcopy({"manifest": MANIFEST, "config": CONFIG, "result": RESULT})
    for place, value in places.items():
        *parents, leaf = place.split("__")
        section = values
        for part in parents:
            section = section[part]
        section[leaf] = value
    return compare(published, changed=changed, **values)


def test_the_same_data_and_protocol():
    assert judged() == (PAPERS, [], "")
    # A bare table of metrics is one row; without numbers, or without data, nothing is judged.
    assert judged({"nn_acc": 0.5}).rows == {"published": {"nn_acc": 0.5}}
    assert judged({}) == ({}, [], "")
    assert judged(manifest={}) == (PAPERS, [], "")


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ({"manifest__splits__test__items": 2467}, "2,467 records in test instead of 2,468"),
        ({"manifest__splits__train__items": 9900}, "9,900 records in train instead of 9,843"),
        (
            {"manifest__splits__test__points": [2048, 2048]},
            "clouds of 2,048 to 16,000 points, of which 8,192 are drawn with replacement, instead "
            "of 16,000",
        ),
        (
            {f"manifest__splits__{split}__points": [10000, 10000] for split in ("train", "test")},
            "clouds of 10,000 points, instead of 16,000",
        ),
        (
            {"manifest__splits__test": {"items": 2468}},
            "how many points its clouds have is not recorded; prepared again, it is",
        ),
        (
            {"manifest__source__kind": "pointnet_hdf5"},
            "made from pointnet_hdf5, instead of off or cached_clouds",
        ),
        ({"manifest__source__published_split": False}, "its split is not the published one"),
        (
            {"result__dataset__splits__query": "test[:100]"},
            "queries of 'test[:100]' instead of 'test'",
        ),
        ({"config__train__split": "test"}, "trained on 'test' instead of 'train'"),
        ({"result__protocol__search": "tree_ah"}, "an approximate search (tree_ah)"),
        ({"changed": ["train.epochs=1"]}, "settings other than the config's: train.epochs=1"),
    ],
)
def test_what_differs_is_said_and_the_number_stands(places, says):
    assert judged(**places) == (PAPERS, [says], "")


def test_what_trains_nothing_is_not_judged_by_its_training_split():
    assert judged(config__train={"split": "test", "steps": 0}).differs == []


def test_records_count_and_not_the_files_that_were_listed():
    """Every mesh was there, and a tenth of them could not be used."""
    found = judged(manifest__splits__test__items=2220)
    assert found.rows == {} and found.differs == []
    assert found.left_out == (
        "the prepared data is not the published set (train 9,843, test 2,220 instead of train "
        "9,843, test 2,468)"
    )
    assert judged(manifest__splits={"train": {"items": 9843}}).rows == {}  # no test split at all


@pytest.mark.parametrize(
    ("source", "stands", "says"),
    [
        ({}, True, []),
        ({"complete": True, "official_counts": {"train": 9843, "test": 2468}}, True, []),
        # Whatever the builder thought of the files.
        ({"complete": True, "published_counts": {"train": 9843, "test": 9999}}, False, []),
        ({"published_counts": {"test": 2470}}, True, ["2,468 records in test instead of 2,470"]),
        ({"complete": False, "published_counts": {"A (68 classes)": 58696}}, False, []),
        ({"complete": False}, False, []),
    ],
)
def test_a_system_that_states_no_data_is_judged_by_what_its_builder_knows(source, stands, says):
    found = judged(config__data={}, manifest__source=source)
    assert (bool(found.rows), found.differs) == (stands, says) and bool(
        found.left_out
    ) is not stands


def test_all_splits_together():
    """Of the Mechanical Components Benchmark the sum is known."""
    facts = PAPER["mcb"].measured_on()
    splits = {"train": {"items": 46000}, "test": {"items": 12696}}
    source = {"kind": "mcb", "complete": False, "published_counts": {"A (68 classes)": 58696}}
    config = {"data": {"published": {"items": facts["items"]}}}
    given = {"config": config, "result": {}}
    assert compare(PAPERS, manifest={"splits": splits, "source": source}, **given).differs == []
    splits["test"]["items"] = 12690
    assert compare(PAPERS, manifest={"splits": splits, "source": source}, **given).differs == [
        "58,690 records in all instead of 58,696"
    ]
    splits["test"]["items"] = 1000
    assert compare(PAPERS, manifest={"splits": splits, "source": source}, **given).rows == {}


def test_settings_that_change_what_is_computed():
    overrides = [
        ("data.manual_dir", "RAW"),
        ("train.epochs", "1"),
        ("checkpoint.init_from", "x"),
        ("eval.batch_size", "8"),
        ("eval.seeds", "(0,1)"),
        ("seed", "3"),
        ("views.jobs", "4"),
        ("data.num_points", "512"),
    ]
    assert settings(overrides, "jax3dret.tasks.ulip2.viewgcn") == [
        "train.epochs=1",
        "data.num_points=512",
    ]
