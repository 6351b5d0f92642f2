"""VICReg with PointNet++ (SSG), the paper's baseline encoder, without labels.

    python -m jax3dret.main --config=configs/pointnet2_vicreg.py

| variant | data | encoder |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | small PointNet++ |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb/base | small PointNet++ |
| demo_random, modelnet10_random, ... | the same, no training | small PointNet++ |
| paper | modelnet/40 | PointNet++ SSG, published size |
| modelnet40, shapenet_normal, ... | paper on each data set of the paper | the same |
| modelnet40_random, ... | no training: random weights | the same |

Raw data: --config.data.manual_dir=RAW.
"""

from jax3dret.tasks.ulip2 import datasets, finetune
from jax3dret.tasks.ulip2.published import published

# ModelNet10's 24 epochs, and as many steps on the two smaller data sets.
SMALL_EPOCHS = {"demo": 40.0, "modelnet10": 24.0, "ldraw": 48.0, "psb": 96.0}


def small(data):
    """A PointNet++ for two CPU cores."""
    dataset = datasets.SMALL[data]
    config = vicreg(width=512, batch_size=64)
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
    config.train.epochs = SMALL_EPOCHS[data]
    config.optim.lr = 4e-3
    config.optim.weight_decay = 1e-4
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.1,
    }
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def small_random(data):
    """The small encoder as it starts."""
    config = small(data)
    config.train.steps = 0
    if data == "demo":
        # Not read, as no step is made; with another value an earlier workdir would not go on.
        config.train.epochs = 24.0
    return config


def full_size(data):
    """PointNet++ SSG on 2,048 points, trained from scratch as the paper's text has it."""
    dataset = datasets.PAPER[data]
    config = vicreg(width=1024, batch_size=128)
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
    config.train.epochs = float(dataset.scratch)
    config.optim.lr = 3e-4
    config.optim.schedule = {"name": "jax3dret.core.schedules:cosine"}
    config.published = published("PointNet++/vicreg", dataset.column)
    return config


def random(data):
    """Random weights as they are."""
    config = full_size(data)
    config.train.steps = 0
    config.published = published("PointNet++/random", datasets.PAPER[data].column)
    return config


def vicreg(width, batch_size):
    """Two views and the loss's published weights, behind a projector of three layers."""
    config = finetune.defaults()
    config.objective = "two_view"
    config.loss = {
        "name": "jax3dret.losses.vicreg:vicreg",
        "invariance": 25.0,
        "variance": 25.0,
        "covariance": 1.0,
    }
    config.head = {"name": "jax3dret.models.heads:VicregProjector", "widths": (width, width, width)}
    config.train.batch_size = batch_size
    return config


# What a variant runs, and on which data set of jax3dret/tasks/ulip2/datasets.py.
VARIANTS = {
    "demo": (small, "demo"),
    "modelnet10": (small, "modelnet10"),
    "ldraw": (small, "ldraw"),
    "psb": (small, "psb"),
    "demo_random": (small_random, "demo"),
    "modelnet10_random": (small_random, "modelnet10"),
    "ldraw_random": (small_random, "ldraw"),
    "psb_random": (small_random, "psb"),
    "paper": (full_size, "modelnet40"),
    "modelnet40": (full_size, "modelnet40"),
    "shapenet_normal": (full_size, "shapenet_normal"),
    "shapenet_perturbed": (full_size, "shapenet_perturbed"),
    "mcb": (full_size, "mcb"),
    "objaverse_easy": (full_size, "objaverse_easy"),
    "scanobjectnn": (full_size, "scanobjectnn"),
    "modelnet40_random": (random, "modelnet40"),
    "shapenet_normal_random": (random, "shapenet_normal"),
    "shapenet_perturbed_random": (random, "shapenet_perturbed"),
    "mcb_random": (random, "mcb"),
    "objaverse_easy_random": (random, "objaverse_easy"),
    "scanobjectnn_random": (random, "scanobjectnn"),
}


def get_config(variant):
    experiment, data = VARIANTS[variant]
    return experiment(data)
