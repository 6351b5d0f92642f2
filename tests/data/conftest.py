"""A small prepared data set, written the way the builders write theirs."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

SPLITS = {"train": range(23), "val": range(23, 30)}
CLASSES = ["bolt", "nut", "washer"]


def record(number: int) -> dict:
    """Record `number`: its label is number mod 3, its points all lie near (number, 0, 0), so that a
    row can be recognised.
    """
    rng = np.random.default_rng(number)
    points = rng.uniform(-0.01, 0.01, (12 + number % 4, 3)).astype(np.float32)
    points[:, 0] += number
    return {
        "id": f"part/{number:04d}",
        "label": number % 3,
        "points": points,
        "scale": np.float32(number),
        "faces": np.full((number % 5 + 1, 3), number, np.int32),
    }


class Parts(tfds.core.GeneratorBasedBuilder):
    # A builder inside a package is looked up there as a resource; this one belongs to no package.
    __module__ = "parts"
    VERSION = tfds.core.Version("1.2.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=CLASSES),
            "points": tfds.features.Tensor(shape=(None, 3), dtype=np.float32),
            "scale": np.float32,
            "faces": tfds.features.Tensor(shape=(None, 3), dtype=np.int32),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            split: ((number, record(number)) for number in numbers)
            for split, numbers in SPLITS.items()
        }

    def _generate_examples(self):
        raise AssertionError("the splits carry their generators")


@pytest.fixture(scope="session")
def parts_dir(tmp_path_factory) -> pathlib.Path:
    """The folder of prepared data sets that holds "parts": train 23, val 7."""
    root = tmp_path_factory.mktemp("prepared")
    builder = Parts(data_dir=root, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
    splits = {}
    for split in SPLITS:
        rows = list(builder.as_data_source(split))
        splits[split] = {
            "items": len(rows),
            "ids": [row["id"].decode() for row in rows],
            "labels": [int(row["label"]) for row in rows],
        }
    manifest = {
        "name": "parts",
        "version": "1.2.0",
        "up_axis": "y",
        "class_names": CLASSES,
        "splits": splits,
        "skipped": [],
    }
    (pathlib.Path(builder.data_dir) / "manifest.json").write_text(json.dumps(manifest))
    return root
