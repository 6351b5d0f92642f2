"""VICReg: a point transformer learns from two augmented views of each shape, without labels.

    python -m jax3dret.main --config=configs/ulip2_vicreg.py

| variant | data | encoder |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | small PointBERT |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb/base | small PointBERT |
| demo_random, modelnet10_random, ... | the same, no training | small PointBERT |
| paper | modelnet/40, trained from scratch | PointBERT, ULIP-2 size |
| paper_finetune | modelnet/40, from ULIP-2's weights | the same |
| modelnet40, shapenet_normal, ... | paper_finetune on each data set of the paper | the same |
| modelnet40_scratch, ... | paper on each of them | the same |
| modelnet40_random, ... | no training: random weights | the same |
| modelnet40_pretrained, ... | no training: ULIP-2's weights as they are | the same |

Raw data: --config.data.manual_dir=RAW. ULIP-2's weights are looked for in weights/ulip2_pointbert;
elsewhere: --config.checkpoint.init_from=DIR.
"""

from jax3dret.tasks.ulip2 import datasets, finetune
from jax3dret.tasks.ulip2.published import published

# ModelNet10's 10 epochs, and as many steps on the two smaller data sets.
SMALL_EPOCHS = {"demo": 30.0, "modelnet10": 10.0, "ldraw": 20.0, "psb": 40.0}


def small(data):
    """A PointBERT for two CPU cores."""
    dataset = datasets.SMALL[data]
    config = vicreg(width=512, batch_size=64)
    config.data.name = dataset.name
    config.data.num_points = dataset.num_points
    # These shapes stand upright and face one way; the paper turns those that do not.
    config.data.augment = {"name": "jax3dret.data.points:paper_augmentations", "rotate": ""}
    config.evals.retrieval.gallery_split = dataset.gallery
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
    config.train.epochs = SMALL_EPOCHS[data]
    config.optim.lr = 1e-3
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
        config.train.epochs = 10.0
    return config


def scratch(data):
    """From random weights: a cosine from 3e-4, as the paper's text has it."""
    dataset = datasets.PAPER[data]
    config = full_size(dataset)
    config.train.epochs = float(dataset.scratch)
    config.optim.lr = 3e-4
    config.optim.schedule = {"name": "jax3dret.core.schedules:cosine"}
    config.published = published("PointBERT/vicreg", dataset.column)
    return config


def from_ulip2(data):
    """From ULIP-2's weights: linear to 5e-5 over the first 20 % of the steps, then a cosine."""
    dataset = datasets.PAPER[data]
    config = full_size(dataset)
    config.train.epochs = float(dataset.finetune)
    config.optim.lr = 5e-5
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.2,
    }
    config.checkpoint.init_from = "weights/ulip2_pointbert"
    config.checkpoint.fresh = ("head/.*",)
    config.published = published("ULIP2/vicreg", dataset.column)
    return config


def random(data):
    """Random weights as they are."""
    config = scratch(data)
    config.train.steps = 0
    config.published = published("PointBERT/random", datasets.PAPER[data].column)
    return config


def pretrained(data):
    """ULIP-2's weights as they are, grouped as they were made.

    ULIP's farthest-point sampling starts with the first point and leaves out those at the origin.
    The published code for fine-tuning samples otherwise, and so do the variants that train.
    """
    config = from_ulip2(data)
    config.train.steps = 0
    config.model.fps_start_eval = "pointnet2_ops"
    config.published = published("ULIP2/pretrained", datasets.PAPER[data].column)
    return config


def full_size(dataset):
    """The encoder at ULIP-2's size, on 8,192 points."""
    config = vicreg(width=1024, batch_size=48)
    config.data.name = dataset.name
    config.data.num_classes = dataset.classes
    config.data.published = dataset.measured_on()
    config.data.num_points = 8192
    config.data.augment = {
        "name": "jax3dret.data.points:paper_augmentations",
        "rotate": dataset.rotate,
    }
    config.train.split = dataset.train
    config.evals.retrieval.gallery_split = dataset.train
    config.model = {"name": "jax3dret.models.pointbert:PointBert"}
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
    "paper": (scratch, "modelnet40"),
    "paper_finetune": (from_ulip2, "modelnet40"),
    "modelnet40": (from_ulip2, "modelnet40"),
    "shapenet_normal": (from_ulip2, "shapenet_normal"),
    "shapenet_perturbed": (from_ulip2, "shapenet_perturbed"),
    "mcb": (from_ulip2, "mcb"),
    "objaverse_easy": (from_ulip2, "objaverse_easy"),
    "scanobjectnn": (from_ulip2, "scanobjectnn"),
    "modelnet40_scratch": (scratch, "modelnet40"),
    "shapenet_normal_scratch": (scratch, "shapenet_normal"),
    "shapenet_perturbed_scratch": (scratch, "shapenet_perturbed"),
    "mcb_scratch": (scratch, "mcb"),
    "objaverse_easy_scratch": (scratch, "objaverse_easy"),
    "scanobjectnn_scratch": (scratch, "scanobjectnn"),
    "modelnet40_random": (random, "modelnet40"),
    "shapenet_normal_random": (random, "shapenet_normal"),
    "shapenet_perturbed_random": (random, "shapenet_perturbed"),
    "mcb_random": (random, "mcb"),
    "objaverse_easy_random": (random, "objaverse_easy"),
    "scanobjectnn_random": (random, "scanobjectnn"),
    "modelnet40_pretrained": (pretrained, "modelnet40"),
    "shapenet_normal_pretrained": (pretrained, "shapenet_normal"),
    "shapenet_perturbed_pretrained": (pretrained, "shapenet_perturbed"),
    "mcb_pretrained": (pretrained, "mcb"),
    "objaverse_easy_pretrained": (pretrained, "objaverse_easy"),
    "scanobjectnn_pretrained": (pretrained, "scanobjectnn"),
}


def get_config(variant):
    experiment, data = VARIANTS[variant]
    return experiment(data)
