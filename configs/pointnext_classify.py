"""Classification with PointNeXt-S, PointNet++ with a newer recipe (Qian et al., NeurIPS 2022).

    python -m jax3dret.main --config=configs/pointnext_classify.py

| variant | data | encoder |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | narrow, two stages |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb/base | the same |
| paper | modelnet/40 | PointNeXt-S, its published recipe: 600 epochs |

Raw data: --config.data.manual_dir=RAW. Imported weights (`jax3dret weights import`):
--config.checkpoint.init_from=DIR. As a baseline on clouds of INRs: configs/inret_baselines.py.
"""

from jax3dret.tasks.ulip2 import datasets, finetune

# ModelNet10's 30 epochs, and as many steps on the two smaller data sets.
SMALL_EPOCHS = {"demo": 30.0, "modelnet10": 30.0, "ldraw": 60.0, "psb": 120.0}


def recipe(config):
    """What the published recipe says of every run."""
    config.data.augment = {"name": "jax3dret.data.points:pointnext_augmentations"}
    config.model = {"name": "jax3dret.models.pointnext:PointNeXt"}
    config.head = {
        "name": "jax3dret.models.heads:ClassificationHead",
        "hidden": (512, 256),
        "dropout": 0.5,
        "hidden_bias": False,
    }
    config.loss.smoothing = 0.2
    config.train.batch_size = 32
    config.optim.lr = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.grad_clip_norm = 1.0
    config.optim.schedule = {"name": "jax3dret.core.schedules:epoch_cosine"}
    return config


def small(data):
    """A PointNeXt for two CPU cores."""
    dataset = datasets.SMALL[data]
    config = recipe(finetune.defaults())
    config.data.name = dataset.name
    config.data.num_points = dataset.num_points
    config.evals.retrieval.gallery_split = dataset.gallery
    config.model.update({"width": 32, "strides": (4, 4), "radius": 0.25, "nsample": 16})
    config.head.update({"hidden": (256,), "dropout": 0.25})
    config.optim.lr = 2e-3
    config.train.epochs = SMALL_EPOCHS[data]
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def paper():
    """PointNeXt-S on 1,024 points of ModelNet40, as its authors train it."""
    dataset = datasets.PAPER["modelnet40"]
    config = recipe(finetune.defaults())
    config.data.name = dataset.name
    config.data.num_classes = dataset.classes
    config.data.num_points = 1024
    config.train.split = dataset.train
    config.evals.retrieval.gallery_split = dataset.train
    config.train.epochs = 600.0
    return config


VARIANTS = {
    "demo": (small, "demo"),
    "modelnet10": (small, "modelnet10"),
    "ldraw": (small, "ldraw"),
    "psb": (small, "psb"),
    "paper": (paper,),
}


def get_config(variant):
    experiment, *on = VARIANTS[variant]
    return experiment(*on)
