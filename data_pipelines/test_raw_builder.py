"""What builders of raw files share, with a builder that is only a name, numbers and a function."""

from __future__ import annotations

import pathlib
import types

import pytest

from data_pipelines.raw_builder import planned_splits, raw_folder
from jax3dret.core.types import ConfigError

ROOT = pathlib.Path("raw")


def made_up(config):
    return types.SimpleNamespace(
        name="made_up",
        builder_config=config,
        planned={"test": 2, "train": 3},
        MANUAL_DOWNLOAD_INSTRUCTIONS="manual_dir holds things.",
        _generate_examples=lambda split: [split],
    )


def test_a_folder_is_absolute_and_none_says_what_is_wanted():
    builder = made_up(None)
    assert (
        raw_folder(builder, "~/a") == pathlib.Path.home() / "a"
        and raw_folder(builder, "a") == pathlib.Path.cwd() / "a"
    )
    with pytest.raises(
        ConfigError,
        match=r"^made_up needs manual_dir, with --config.* --manual-dir DIR\. manual_dir holds "
        r"things\.$",
    ):
        raw_folder(builder, None)


def test_every_planned_split_and_what_is_missing(caplog):
    builder = made_up(types.SimpleNamespace(name="small"))
    published = {"train": 3, "test": 4}
    found = planned_splits(builder, ROOT, published=published, missing=["x.off"], listed=6)
    assert found == {"test": ["test"], "train": ["train"]} and list(found) == ["test", "train"]
    assert caplog.messages == [
        "made_up/small: raw has 2 shapes in the split 'test', the published data set 4",
        "made_up/small: 1 of 6 files of the split are missing (first: x.off)",
    ]
    caplog.clear()
    assert (
        planned_splits(made_up(None), ROOT).keys() == builder.planned.keys() and not caplog.messages
    )
