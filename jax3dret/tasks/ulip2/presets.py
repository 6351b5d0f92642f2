"""Settings and results that the ULIP-2 fine-tuning paper and its published code state, data set by data set.

Source: paper (Computers & Graphics 122, 2024, 103993), implementation details and tables 1 and 2; the published configs.
"""

from __future__ import annotations

import dataclasses

import ml_collections


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set of the paper, and how the published code fine-tunes on it.

    pct_start: share of the epochs that the one-cycle schedule rises. An epoch is at most 100 batches.
    rotate: the axes that the paper's text turns its shapes about in training (section 4.2); none where they are aligned.
    """

    name: str
    column: str
    classes: int
    train: str
    gallery: str
    query: str
    lr: float
    weight_decay: float
    pct_start: float
    epochs: int
    batch_size: int = 64
    rotate: str = ""


DATASETS = {
    "modelnet40": Dataset(
        "modelnet/40", "MN40", 40, "train", "train", "test", 5e-5, 1e-6, 0.05, 100
    ),
    "shapenet_normal": Dataset(
        "shapenet/normal", "SN_Norm", 55, "train+val", "train+val", "test", 5e-5, 1e-4, 0.08, 70
    ),
    "shapenet_perturbed": Dataset(
        "shapenet/perturbed",
        "SN_Per",
        55,
        "train+val",
        "train+val",
        "test",
        5e-5,
        1e-4,
        0.2,
        50,
        rotate="xyz",
    ),
    "mcb": Dataset("mcb", "MCB", 68, "train", "train", "test", 8e-5, 3e-3, 0.2, 45, rotate="xyz"),
    "objaverse_easy": Dataset(
        "objaverse_lvis/easy",
        "ObjaEasy",
        76,
        "train+val",
        "train+val",
        "test",
        5e-5,
        1e-4,
        0.2,
        75,
        32,
    ),
    "scanobjectnn": Dataset(
        "scanobjectnn/obj_only",
        "ScanObjectNN",
        15,
        "train",
        "train",
        "test",
        2e-4,
        3e-3,
        0.2,
        50,
        rotate="y",
    ),
}

COLUMNS = ("MN40", "SN_Norm", "SN_Per", "MCB", "Prop", "ObjaEasy", "ScanObjectNN")
# Table 1, nearest-neighbour accuracy in per cent; None: not given (the scans have no meshes to render).
TABLE_1 = {
    "PointNet++/random": (76.0, 74.9, 38.3, 83.1, 55.9, 55.9, 41.7),
    "PointNet++/classification": (90.2, 84.7, 73.1, 95.4, 71.0, 72.4, 79.8),
    "PointNet++/vicreg": (88.7, 83.4, 74.2, 94.7, 71.7, 73.4, 75.2),
    "PointBERT/random": (78.0, 75.9, 40.4, 88.4, 56.8, 57.1, 43.2),
    "PointBERT/classification": (89.6, 85.2, 78.3, 96.4, 71.7, 75.0, 82.3),
    "PointBERT/vicreg": (85.5, 81.2, 68.1, 95.1, 64.3, 68.8, 56.3),
    "PointBERT/mmcl": (86.6, 83.5, 76.4, 95.6, 66.5, 75.6, None),
    "ULIP2/pretrained": (88.7, 86.6, 78.5, 96.3, 77.6, 85.1, 76.3),
    "ULIP2/classification": (93.1, 89.1, 84.8, 97.4, 82.6, 88.1, 93.2),
    "ULIP2/vicreg": (90.7, 86.4, 81.9, 96.1, 79.4, 84.0, 78.2),
    "ULIP2/mmcl": (91.5, 86.5, 80.7, 96.4, 78.1, 87.1, None),
}

# Table 2 sets ULIP2/classification beside networks that see rendered views.
TABLE_2 = {
    "View-GCN/classification": (93.1, 86.9, 83.1, 97.3, 80.3, 88.4, None),
    "MVTN/classification": (92.7, 88.9, 85.2, 97.1, 79.5, 87.8, 91.8),
}

# Where imported ULIP-2 weights lie unless a command says otherwise.
WEIGHTS = "weights/ulip2_pointbert"
# Likewise the towers that ULIP and ULIP-2 (8k points, xyz) were trained against.
SLIP = "weights/slip_vit_b"
MOBILENET = "weights/mobilenetv2"

# Variants of one data set: trained from scratch, random weights as they are, ULIP-2's weights as they are.
SCRATCH, RANDOM, PRETRAINED = "_scratch", "_random", "_pretrained"


def variants(*kinds: str, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of variants of every data set of the paper: "modelnet40_scratch", ... for the kinds asked for."""
    return tuple(name + kind for kind in kinds for name in DATASETS if name not in without)


def published(row: str, column: str) -> dict[str, dict[str, float]]:
    """One number of tables 1 and 2 as `config.published` takes it; nothing where the paper has none."""
    table = 1 if row in TABLE_1 else 2
    number = (TABLE_1 | TABLE_2)[row][COLUMNS.index(column)]
    return (
        {}
        if number is None
        else {f"{row} on {column} (paper, table {table})": {"nn_acc": round(number / 100, 4)}}
    )


def use_dataset(config: ml_collections.ConfigDict, variant: str) -> Dataset:
    """Points a config at the data set a variant names, with its published splits and batch size and the paper's augmentations.

    A variant that names none (`paper`, `paper_finetune`) means ModelNet40.
    """
    for kind in (SCRATCH, RANDOM, PRETRAINED):
        variant = variant.removesuffix(kind)
    dataset = DATASETS[variant if variant in DATASETS else "modelnet40"]
    config.data.name = dataset.name
    config.data.num_classes = dataset.classes
    config.data.augment = {
        "name": "jax3dret.data.points:paper_augmentations",
        "rotate": dataset.rotate,
    }
    config.train.split = dataset.train
    config.train.batch_size = dataset.batch_size
    config.evals.retrieval.gallery_split = dataset.gallery
    config.evals.retrieval.query_split = dataset.query
    if "cloud_to_image" in config.evals:
        config.evals.cloud_to_image.split = dataset.query
    return dataset


def full_pointbert(config: ml_collections.ConfigDict) -> None:
    """The encoder at ULIP-2's size, on 8,192 points."""
    config.model = {"name": "jax3dret.models.pointbert:PointBert"}
    config.data.num_points = 8192


def full_pointnet2(config: ml_collections.ConfigDict) -> None:
    """PointNet++ SSG at its published size, on 2,048 points."""
    config.model = {"name": "jax3dret.models.pointnet2:PointNet2"}
    config.data.num_points = 2048


def vicreg(config: ml_collections.ConfigDict, *, width: int, batch_size: int) -> None:
    """Two views, no labels: the loss's published weights and a projector of three layers."""
    config.objective = "two_view"
    config.loss = {
        "name": "jax3dret.losses.vicreg:vicreg",
        "invariance": 25.0,
        "variance": 25.0,
        "covariance": 1.0,
    }
    config.head = {"name": "jax3dret.models.heads:VicregProjector", "widths": (width, width, width)}
    config.train.batch_size = batch_size


def published_code_schedule(config: ml_collections.ConfigDict, dataset: Dataset) -> None:
    """AdamW with the one-cycle schedule, one value per epoch of at most 100 batches, and beta1 cycled with it."""
    config.train.epochs = float(dataset.epochs)
    config.train.max_steps_per_epoch = 100
    config.optim.lr = dataset.lr
    config.optim.weight_decay = dataset.weight_decay
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:one_cycle",
        "pct_start": dataset.pct_start,
    }
    config.optim.beta1_cycle = True


def paper_schedule(
    config: ml_collections.ConfigDict, dataset: Dataset, *, pretrained: bool
) -> None:
    """The paper's text: cosine from 3e-4 from scratch; linear warm-up to 5e-5 over 20 %, then cosine, from ULIP-2's weights."""
    short = dataset.column in ("SN_Norm", "SN_Per", "MCB")
    if pretrained:
        config.train.epochs = 50.0 if short else 100.0
        config.optim.lr = 5e-5
        config.optim.schedule = {
            "name": "jax3dret.core.schedules:warmup_cosine",
            "warmup_fraction": 0.2,
        }
    else:
        config.train.epochs = 100.0 if short else 200.0
        config.optim.lr = 3e-4
        config.optim.schedule = {"name": "jax3dret.core.schedules:cosine"}


def from_ulip2_weights(config: ml_collections.ConfigDict) -> None:
    """Starts from imported ULIP-2 weights; the head is new."""
    config.checkpoint.init_from = WEIGHTS
    config.checkpoint.fresh = ("head/.*",)


def ulip2_as_it_came(config: ml_collections.ConfigDict) -> None:
    """ULIP-2's weights without training, grouped as they were made: ULIP's farthest-point sampling starts with the first point and
    leaves out those at the origin. The published code for fine-tuning samples otherwise, and so do the variants that train."""
    from_ulip2_weights(config)
    config.train.steps = 0
    config.model.fps_start_eval = "pointnet2_ops"


@dataclasses.dataclass(frozen=True)
class SmallDataset:
    """One that two CPU cores can train on. passes: how often its epochs are repeated, against ModelNet10's, for as many steps."""

    name: str
    num_points: int
    passes: float = 1.0
    gallery: str = "train"


SMALL = {
    "demo": SmallDataset("parametric_shapes/demo", 512),
    "modelnet10": SmallDataset("modelnet/10", 1024),
    # The LDraw parts, laid out as the Mechanical Components Benchmark is.
    "ldraw": SmallDataset("mcb", 1024, passes=2.0),
    # The classes of its two halves differ, so a query of the test half is compared with the rest of the test half.
    "psb": SmallDataset("psb/base", 1024, passes=4.0, gallery="test"),
}
SMALL_RANDOM = tuple(name + RANDOM for name in SMALL)


def use_small(
    config: ml_collections.ConfigDict, variant: str, *, demo: float, other: float
) -> None:
    """Points a config at the small data set that a variant names, to train for `demo` epochs, or `other` for ModelNet10 and as
    many steps elsewhere; `..._random` does not train: the random-weights row."""
    dataset = SMALL[variant.removesuffix(RANDOM)]
    config.data.name = dataset.name
    config.data.num_points = dataset.num_points
    # These data sets stand upright and face one way, so no rotation: the paper chooses the axes by the alignment of the data.
    config.data.augment = {"name": "jax3dret.data.points:paper_augmentations", "rotate": ""}
    config.evals.retrieval.gallery_split = dataset.gallery
    config.train.epochs = demo if variant == "demo" else other * dataset.passes
    config.train.steps = 0 if variant.endswith(RANDOM) else -1
    config.checkpoint.every = 200
    config.log.every = 20


def small_pointbert(config: ml_collections.ConfigDict) -> None:
    """A PointBERT for two CPU cores."""
    config.model = {
        "name": "jax3dret.models.pointbert:PointBert",
        "trans_dim": 128,
        "depth": 2,
        "num_heads": 4,
        "num_group": 64,
        "group_size": 16,
        "encoder_dims": 128,
        "group_widths": (64, 64, 128),
        "drop_path_rate": 0.05,
    }


def small_pointnet2(config: ml_collections.ConfigDict) -> None:
    """A PointNet++ for two CPU cores."""
    config.model = {
        "name": "jax3dret.models.pointnet2:PointNet2",
        "npoint": (128, 32),
        "radius": (0.25, 0.5),
        "nsample": (16, 16),
        "mlp": ((32, 32, 64), (64, 64, 128), (128, 256, 512)),
        "feature": "global",
    }


def small_classification(config: ml_collections.ConfigDict, *, lr: float) -> None:
    """Labels, on two CPU cores."""
    config.head = {
        "name": "jax3dret.models.heads:ClassificationHead",
        "hidden": (256,),
        "dropout": 0.25,
    }
    config.loss.smoothing = 0.1
    config.train.batch_size = 32
    _small_schedule(config, lr, weight_decay=0.05)


def small_parts(config: ml_collections.ConfigDict) -> None:
    """Some 34 parts in each of 60 classes that differ by a detail: more points and groups show it, and what is learned by heart is
    held back (at 64 groups of 32, 80 epochs, the classifier was right on 95 % of the training parts and 70 % of the others)."""
    config.data.augment = {"name": "jax3dret.data.points:part_augmentations"}
    config.data.num_points = 2048
    config.model.update({"num_group": 128, "group_size": 24, "drop_path_rate": 0.2})
    config.head.dropout = 0.5
    config.train.epochs = 40.0


def small_vicreg(config: ml_collections.ConfigDict, *, lr: float) -> None:
    """No labels, on two CPU cores."""
    vicreg(config, width=512, batch_size=64)
    _small_schedule(config, lr, weight_decay=1e-4)


def small_mmcl(config: ml_collections.ConfigDict, *, lr: float) -> None:
    """Pictures and captions seen by small random towers, on two CPU cores."""
    config.views = {"cameras": "objaverse4", "size": 64, "jobs": 2}
    config.towers.image = {
        "name": "jax3dret.models.clip:VisionTower",
        "image_size": 64,
        "patch_size": 8,
        "width": 128,
        "depth": 2,
        "embedding_dim": 128,
    }
    config.towers.text = {
        "name": "jax3dret.models.clip:TextTower",
        "context_length": 192,
        "width": 128,
        "depth": 2,
        "embedding_dim": 128,
    }
    config.towers.latent = 128
    config.towers.centre = True
    config.head.features = 128
    config.train.batch_size = 64
    _small_schedule(config, lr, weight_decay=0.05)


def _small_schedule(config: ml_collections.ConfigDict, lr: float, *, weight_decay: float) -> None:
    config.optim.lr = lr
    config.optim.weight_decay = weight_decay
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.1,
    }
