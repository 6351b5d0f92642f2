"""Classification with PointNet++ (SSG), the paper's baseline encoder.

    python -m jax3dret.main --config=configs/pointnet2_classify.py

| variant | data | encoder |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | small PointNet++ |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb/base | small PointNet++ |
| paper | modelnet/40 | PointNet++ SSG, published size |
| modelnet40, shapenet_normal, ... | paper on each data set of the paper | the same |

Raw data: --config.data.manual_dir=RAW.
"""

from jax3dret.tasks.ulip2 import datasets, finetune
from jax3dret.tasks.ulip2.published import published

# ModelNet10's 30 epochs, and as many steps on the two smaller data sets.
SMALL_EPOCHS = {"demo": 40.0, "modelnet10": 30.0, "ldraw": 60.0, "psb": 120.0}


def small(data):
    """A PointNet++ for two CPU cores."""
    dataset = datasets.SMALL[data]
    config = finetune.defaults()
    config.data.name = dataset.name
    config.data.num_points = dataset.num_points
    # These shapes stand upright and face one way; the paper turns those that do not.
    config.data.augment = {"name": "jax3dret.data.points:paper_augmentations", "rotate": ""}
    config.evals.retrieval.gallery_split = dataset.gallery
    config.model = {
        "name": "jax3dret.models.pointnet2:PointNet2",
        "npoint": (128, 32),
        "radius": (0.25, 0.5),
        "nsample": (16, 16),
        "mlp": ((32, 32, 64), (64, 64, 128), (128, 256, 512)),
        "feature": "global",
    }
    config.head = {
        "name": "jax3dret.models.heads:ClassificationHead",
        "hidden": (256,),
        "dropout": 0.25,
    }
    config.loss.smoothing = 0.1
    config.train.batch_size = 32
    config.train.epochs = SMALL_EPOCHS[data]
    config.optim.lr = 2e-3
    config.optim.weight_decay = 0.05
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.1,
    }
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def full_size(data):
    """PointNet++ SSG on 2,048 points, trained from scratch as the paper's text has it."""
    dataset = datasets.PAPER[data]
    config = finetune.defaults()
    config.data.name = dataset.name
    config.data.num_classes = dataset.classes
    config.data.published = dataset.measured_on()
    config.data.num_points = 2048
    config.data.augment = {
        "name": "jax3dret.data.points:paper_augmentations",
        "rotate": dataset.rotate,
    }
    config.train.split = dataset.train
    config.evals.retrieval.gallery_split = dataset.train
    config.model = {"name": "jax3dret.models.pointnet2:PointNet2"}
    config.head = {
        "name": "jax3dret.models.heads:ClassificationHead",
        "hidden": (512, 256),
        "dropout": 0.2,
    }
    config.train.batch_size = 64
    config.train.epochs = float(dataset.scratch)
    config.optim.lr = 3e-4
    config.optim.schedule = {"name": "jax3dret.core.schedules:cosine"}
    config.published = published("PointNet++/classification", dataset.column)
    return config


# What a variant runs, and on which data set of jax3dret/tasks/ulip2/datasets.py.
VARIANTS = {
    "demo": (small, "demo"),
    "modelnet10": (small, "modelnet10"),
    "ldraw": (small, "ldraw"),
    "psb": (small, "psb"),
    "paper": (full_size, "modelnet40"),
    "modelnet40": (full_size, "modelnet40"),
    "shapenet_normal": (full_size, "shapenet_normal"),
    "shapenet_perturbed": (full_size, "shapenet_perturbed"),
    "mcb": (full_size, "mcb"),
    "objaverse_easy": (full_size, "objaverse_easy"),
    "scanobjectnn": (full_size, "scanobjectnn"),
}


def get_config(variant):
    experiment, data = VARIANTS[variant]
    return experiment(data)
