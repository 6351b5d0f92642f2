"""The data sets of the ULIP-2 fine-tuning paper and those beside them, a line each.

Source: the implementation details of the paper (Computers & Graphics 122, 2024, 103993). What an
experiment sets beside them stands in its config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Dataset(NamedTuple):
    """One data set of the paper. Queries are its test split.

    name: the prepared data set. column: of tables 1 and 2. classes: how many it has. train: the
    split that trains, and that queries are compared with. rotate: the axes that the paper's text
    turns its shapes about in training (section 4.2); none where they are aligned. finetune,
    scratch: the paper's epochs from ULIP-2's weights and from random ones.
    """

    name: str
    column: str
    classes: int
    train: str
    rotate: str
    finetune: int
    scratch: int

    def measured_on(self) -> dict[str, Any]:
        """What the paper's numbers were measured on, as `config.data.published` takes it
        (report/published.py).
        """
        items, points, kinds = MEASURED_ON[self.name]
        splits = {"train": self.train, "gallery": self.train, "query": "test"}
        return {"items": dict(items), "points": points, "kinds": kinds, **splits}


PAPER = {
    # name, column, classes, train, rotate, epochs of finetune and of scratch
    "modelnet40": Dataset("modelnet/40", "MN40", 40, "train", "", 100, 200),
    "shapenet_normal": Dataset("shapenet/normal", "SN_Norm", 55, "train+val", "", 50, 100),
    "shapenet_perturbed": Dataset("shapenet/perturbed", "SN_Per", 55, "train+val", "xyz", 50, 100),
    "mcb": Dataset("mcb", "MCB", 68, "train", "xyz", 50, 100),
    "objaverse_easy": Dataset("objaverse_lvis/easy", "ObjaEasy", 76, "train+val", "", 100, 200),
    "scanobjectnn": Dataset("scanobjectnn/obj_only", "ScanObjectNN", 15, "train", "y", 100, 200),
}

_TRACK = {"train": 35_764, "val": 5_133, "test": 10_265}  # of SHREC'16
# By data set: records of each split ("all": of MCB the paper gives rounded numbers alone), points
# of a stored cloud, and the forms of the raw data that have them. The published cache lacks 47
# objects of Objaverse Easy.
MEASURED_ON: dict[str, tuple[Mapping[str, int], int, tuple[str, ...]]] = {
    "modelnet/40": ({"train": 9843, "test": 2468}, 16_000, ("off", "cached_clouds")),
    "shapenet/normal": (_TRACK, 16_000, ("shrec", "npy")),
    "shapenet/perturbed": (_TRACK, 16_000, ("shrec", "npy")),
    "mcb": ({"all": 58_696}, 16_000, ("mcb", "npy")),
    "objaverse_lvis/easy": ({"train": 6108, "val": 828, "test": 1010}, 16_000, ("glb", "npy")),
    "scanobjectnn/obj_only": ({"train": 2309, "test": 581}, 2048, ("scanobjectnn_h5", "npy")),
}


class SmallDataset(NamedTuple):
    """One that two CPU cores can train on; the paper has no numbers for it.

    name: the prepared data set. num_points: of a cloud as the encoder sees it. gallery: the split
    that queries, its test split, are compared with.
    """

    name: str
    num_points: int
    gallery: str


SMALL = {
    "demo": SmallDataset("parametric_shapes/demo", 512, "train"),
    "modelnet10": SmallDataset("modelnet/10", 1024, "train"),
    # The LDraw parts, laid out as the Mechanical Components Benchmark is.
    "ldraw": SmallDataset("mcb", 1024, "train"),
    # The classes of its halves differ: a query is compared with the rest of the test half.
    "psb": SmallDataset("psb/base", 1024, "test"),
}
