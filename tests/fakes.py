"""A stand-in for a split of a prepared data set, for whatever reads one by the protocol
`core.types.Source`."""

import pathlib

import numpy as np

from jax3dret.core.types import DataSpec


class FakeSource:
    """Records in memory, or a split that is only described.

    labels: a class number for each record; without them there are `items` records that nobody may
    read. record: row -> what it holds beside "id" and "label". features: what records hold that
    nobody may read. Any attribute may be changed afterwards.
    """

    def __init__(
        self,
        labels=(),
        record=None,
        *,
        name="things/demo",
        split="train",
        class_names=("a", "b", "c", "d"),
        ids=None,
        items=None,
        features=(),
        path=None,
        **manifest,
    ):
        self.labels = np.asarray(labels, np.int32)
        self.name, self.version, self.split = name, "1.0.0", split
        self.ids = tuple(ids if ids is not None else (f"{split}/{i}" for i in range(len(labels))))
        self.class_names, self.path = tuple(class_names), path and pathlib.Path(path)
        self.manifest = {"up_axis": "z", **manifest}
        self.record, self._items = record, items
        self._features = ("id", "label", *features)

    def __len__(self):
        return len(self.ids) if self._items is None else self._items

    def __getitem__(self, row):
        label = int(self.labels[row]) if len(self.labels) else 0
        return {"id": self.ids[row], "label": label, **(self.record(row) if self.record else {})}

    @property
    def features(self):
        return tuple(sorted(self[0] if len(self.ids) else self._features))

    def select(self, *features):
        assert set(features) <= set(self.features), f"{self.name} has {', '.join(self.features)}"
        return self


def opener(*sources):
    """An OpenSource over these: by split, and by name where it is given; a name that none has means
    the first of the split."""

    def open_source(split, name=None):
        found = [s for s in sources if s.split == split]
        assert found, f"no split '{split}'"
        return next((s for s in found if s.name == name), found[0])

    return open_source


def reading(batch_size=8, **transforms):
    """An EvaluationData: by modality the last transform of its records, from the data set called as
    the modality is."""

    def data(modality, split):
        return DataSpec(modality, split, batch_size, transforms=(transforms[modality],))

    return data
