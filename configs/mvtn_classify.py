"""Classification with MVTN, the view-based baseline that learns its cameras.

    python -m jax3dret.main --config=configs/mvtn_classify.py

| variant | data | cameras and network |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | 6 about a learned circle |
| demo_circular | the same | the circle as it is: what learning adds |
| ldraw, psb, modelnet10 | mcb (the LDraw parts), psb/base, modelnet/10 | as demo |
| paper_pointnet | modelnet/40, before both stages: the PointNet alone | - |
| paper_single_view | modelnet/40, the first stage: single views | 12 spherical, ResNet-18 |
| paper | modelnet/40, the second stage | 12 learned spherical views, ResNet-18, View-GCN |
| paper_mvcnn | modelnet/40, in one stage | the same cameras, ResNet-18, maximum over the views |
| shapenet_normal, ..., scanobjectnn, each with _single_view | the paper's other data | as paper |

Raw data: --config.data.manual_dir=RAW. Weights, imported with `jax3dret weights import FILE --out
DIR`: ImageNet's ResNet-18 for the first stage and paper_mvcnn, --config.cnn_weights=DIR; MVTN as
published, or the workdir of paper_pointnet, whose PointNet the cameras begin with,
--config.pointnet_weights=DIR (untrained otherwise). The second stage starts from
runs/mvtn_classify_VARIANT_single_view; elsewhere: --config.checkpoint.init_from=WORKDIR.

The small variants and the scans draw points, the others meshes; for clouds of these,
--config.render.kind=points --config.mvtn.distance=1.0. The published code never optimises
learned_circular; it does as it did with
--config.optim.rules="(('mvtn/.*', {'freeze': True}), ('.*', {}))".
"""

from jax3dret.tasks.ulip2 import datasets, mvtn, mvtn_pointnet
from jax3dret.tasks.ulip2.published import published

# ModelNet10's 8 epochs, and as many steps on the two smaller data sets.
SMALL_EPOCHS = {"demo": 10.0, "modelnet10": 8.0, "ldraw": 16.0, "psb": 32.0}


def small(data):
    """6 views of 48 pixels for two CPU cores: a narrow ResNet-18, the maximum over the views."""
    dataset = datasets.SMALL[data]
    config = mvtn.defaults()
    config.data.name = dataset.name
    config.data.num_points = 512
    config.data.augment = {"name": "jax3dret.data.points:no_augmentations"}
    config.evals.retrieval.gallery_split = dataset.gallery
    config.mvtn = {
        "name": "jax3dret.models.mvtn:Mvtn",
        "views": "learned_circular",
        "num_views": 6,
        "distance": 1.0,
        "widths": (32, 64, 256),
        "fc": (128, 64),
        "features": 32,
        "dropout": 0.1,
    }
    config.cnn.width = 16
    config.render.update({"size": 48, "radius": 0.06})
    config.loss.smoothing = 0.1
    config.train.batch_size = 32
    config.train.epochs = SMALL_EPOCHS[data]
    config.optim.lr = 1e-3
    config.optim.rules = (("mvtn/.*", {"lr": 0.1}), (".*", {}))  # a tenth of it for the cameras
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.1,
    }
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def small_circular(data):
    """The small experiment with cameras that stay where they are."""
    config = small(data)
    config.mvtn.views = "circular"
    config.optim.rules = ((".*", {}),)
    return config


def pointnet(data):
    """The PointNet of the cameras learns the classes of its own; MVTN's paper says no more of it.

    Rates and batch are those of PointNet's paper, the augmentation is that of ULIP2/classification.
    """
    dataset = datasets.PAPER[data]
    config = mvtn_pointnet.defaults()
    config.data.name = dataset.name
    config.data.num_classes = dataset.classes
    config.data.num_points = 2048
    config.data.augment = {
        "name": "jax3dret.data.points:published_augmentations",
        "dataset": data,
    }
    config.train.split = dataset.train
    config.evals.retrieval.gallery_split = dataset.train
    config.mvtn = {
        "name": "jax3dret.models.mvtn:Mvtn",
        "features": dataset.classes,
        "published_logits": True,
    }
    config.train.batch_size = 32
    config.train.epochs = 200.0
    config.optim.lr = 1e-3
    config.optim.weight_decay = 0.0
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:step_decay",
        "rate": 0.5,
        "every": 20,
    }
    return config


def single_view(data):
    """The published first stage with View-GCN: that of viewgcn_classify.py, from fixed cameras.

    Its batches are the 12 views of 33 whole shapes, 396 pictures for the published 400.
    """
    config = full_size(datasets.PAPER[data])
    config.network = "single_view"
    config.mvtn.views = "spherical"
    config.head = {"name": "jax3dret.models.heads:ClassificationHead", "hidden": ()}
    config.loss = {"name": "jax3dret.losses.views:single_view"}
    config.train.batch_size = 33
    config.train.epochs = 30.0
    config.optim.update({"name": "sgd", "momentum": 0.9, "lr": 1e-2, "weight_decay": 1e-3})
    config.optim.rules = ((".*", {}),)
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:step_decay",
        "rate": 0.5,
        "every": 10,
    }
    return config


def with_view_gcn(data, first_stage):
    """Published settings of both networks together, from the CNN of the first stage.

    The paper says neither which network nor which cameras it used. The published code trains
    View-GCN with SGD but the cameras with AdamW; here both have SGD. Its selectors compare the
    sampled views (softmax).
    """
    config = with_maximum(data)
    config.network = "view_gcn"
    config.model = {
        "name": "jax3dret.models.viewgcn:ViewGCN",
        "sampled": (6, 4),
        "softmax": "views",
    }
    config.loss = {"name": "jax3dret.losses.views:view_gcn"}
    config.optim.update({"name": "sgd", "momentum": 0.9})
    config.checkpoint.init_from = f"runs/mvtn_classify_{first_stage}"
    config.checkpoint.fresh = ("gcn/.*", "mvtn/.*")
    return config


def with_maximum(data):
    """Published settings of the cameras, with a ResNet-18 and the maximum over the views."""
    dataset = datasets.PAPER[data]
    config = full_size(dataset)
    config.train.batch_size = 20
    config.train.epochs = 100.0
    config.optim.lr = 1e-3
    config.optim.rules = (("mvtn/.*", {"lr": 0.1}), (".*", {}))  # a tenth of it for the cameras
    config.optim.schedule = {"name": "jax3dret.core.schedules:constant"}
    config.published = published("MVTN/classification", dataset.column)
    return config


def full_size(dataset):
    """12 views of 224 pixels; of meshes, but of the scans, which are clouds."""
    config = mvtn.defaults()
    config.data.name = dataset.name
    config.data.num_classes = dataset.classes
    config.data.published = dataset.measured_on()
    config.data.num_points = 2048
    config.data.augment = {"name": "jax3dret.data.points:no_augmentations"}
    config.train.split = dataset.train
    config.evals.retrieval.gallery_split = dataset.train
    config.mvtn = {
        "name": "jax3dret.models.mvtn:Mvtn",
        "views": "learned_spherical",
        "num_views": 12,
        "distance": 1.0 if dataset.column == "ScanObjectNN" else 2.2,  # as advised for either
        "published_logits": True,
    }
    config.render.kind = "points" if dataset.column == "ScanObjectNN" else "meshes"
    return config


# What a variant runs, and on which data set of jax3dret/tasks/ulip2/datasets.py; for the second
# stage, the variant of the first.
VARIANTS = {
    "demo": (small, "demo"),
    "demo_circular": (small_circular, "demo"),
    "ldraw": (small, "ldraw"),
    "psb": (small, "psb"),
    "modelnet10": (small, "modelnet10"),
    "paper_pointnet": (pointnet, "modelnet40"),
    "paper_single_view": (single_view, "modelnet40"),
    "paper": (with_view_gcn, "modelnet40", "paper_single_view"),
    "paper_mvcnn": (with_maximum, "modelnet40"),
    "shapenet_normal_single_view": (single_view, "shapenet_normal"),
    "shapenet_normal": (with_view_gcn, "shapenet_normal", "shapenet_normal_single_view"),
    "shapenet_perturbed_single_view": (single_view, "shapenet_perturbed"),
    "shapenet_perturbed": (with_view_gcn, "shapenet_perturbed", "shapenet_perturbed_single_view"),
    "mcb_single_view": (single_view, "mcb"),
    "mcb": (with_view_gcn, "mcb", "mcb_single_view"),
    "objaverse_easy_single_view": (single_view, "objaverse_easy"),
    "objaverse_easy": (with_view_gcn, "objaverse_easy", "objaverse_easy_single_view"),
    "scanobjectnn_single_view": (single_view, "scanobjectnn"),
    "scanobjectnn": (with_view_gcn, "scanobjectnn", "scanobjectnn_single_view"),
}


def get_config(variant):
    experiment, *on = VARIANTS[variant]
    return experiment(*on)
