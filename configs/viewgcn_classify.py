"""Classification with View-GCN, the view-based baseline: a CNN on views, a graph over the cameras.

    python -m jax3dret.main --config=configs/viewgcn_classify.py

| variant | data | views and CNN |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | 6 of 64 pixels, ResNet-18 |
| ldraw, psb, modelnet10 | mcb (the LDraw parts), psb/base, modelnet/10 | as demo |
| ldraw_lite0, psb_lite0 | the same | 12 of 224 pixels, frozen EfficientNet-Lite0, installed by name |
| ldraw_mobilenet, psb_mobilenet | the same | 12 of 224 pixels, frozen MobileNetV2 |
| paper_single_view | modelnet/40, the first stage: single views | 20 of 224 pixels, ResNet-18 |
| paper | modelnet/40, the second stage | the same |
| shapenet_normal, ... and each with _single_view | the paper's data sets with meshes | the same |

Raw data: --config.data.manual_dir=RAW. ModelNet10's point files are drawn as points. Weights,
imported with `jax3dret weights import FILE --out DIR`: --config.cnn_weights=DIR, MobileNetV2's for
the mobilenet variants, ImageNet's ResNet-18 for the first stage. The second stage starts from
runs/viewgcn_classify_VARIANT_single_view; elsewhere: --config.checkpoint.init_from=WORKDIR.

Pictures of your own, from these cameras in their order: --config.views.folder=DIR with
DIR/ID/VIEW.png, see jax3dret/data/own_views.py; in both stages.

Both stages are as published: the selectors compare the sampled views (softmax) and begin at a
camera that is drawn, in evaluation as well. --config.model.softmax=classes
--config.model.fps_start_eval=zero puts that right. The published code means to lower the learning
rate of the second stage by a cosine, and halves it once: --config.optim.schedule.decay=cosine does
what it means.
"""

from jax3dret.tasks.ulip2 import datasets, viewgcn
from jax3dret.tasks.ulip2.published import published

# ModelNet10's 10 epochs, and as many steps on the two smaller data sets.
SMALL_EPOCHS = {"demo": 10.0, "modelnet10": 10.0, "ldraw": 20.0, "psb": 40.0}

LITE0 = "jax3dret.models.efficientnet_lite:lite0"
MOBILENET = "jax3dret.models.mobilenet:MobileNetV2"


def small(data):
    """6 views for two CPU cores; a narrow ResNet-18 trains with the graph."""
    dataset = datasets.SMALL[data]
    config = viewgcn.defaults()
    config.data.name = dataset.name
    config.data.num_points = dataset.num_points
    config.data.augment = {"name": "jax3dret.data.points:no_augmentations"}
    config.evals.retrieval.gallery_split = dataset.gallery
    # Three neighbours, itself among them: on a ring the two that come next are equally far.
    config.model = {"name": "jax3dret.models.viewgcn:ViewGCN", "width": 128, "k": 3}
    config.views = {"cameras": "ring6", "size": 64, "jobs": 2}
    config.cnn.width = 16
    config.loss.smoothing = 0.1
    config.train.batch_size = 16
    config.train.epochs = SMALL_EPOCHS[data]
    config.eval.batch_size = 16
    config.optim.lr = 2e-3
    config.optim.weight_decay = 0.05
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.1,
    }
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def frozen(data, cnn):
    """12 views that a frozen network sees; only the graph trains."""
    config = small(data)
    config.model.width = 256
    config.views = {"cameras": "ring12", "size": 224, "jobs": 2}
    config.cnn = {"name": cnn}
    config.cnn_frozen = True
    config.train.batch_size = 32
    config.train.epochs = 30.0
    config.optim.lr = 1e-3
    return config


def single_view(data):
    """The published first stage: 30 epochs from 1e-2, halved every 10; views mirrored by halves.

    Its batches are the views of 20 whole shapes, 400 pictures as published, where the published
    code shuffles pictures.
    """
    config = full_size(datasets.PAPER[data])
    config.objective = "single_view"
    config.loss = {"name": "jax3dret.losses.views:single_view"}
    config.flip = 0.5
    config.train.epochs = 30.0
    config.optim.lr = 1e-2
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:step_decay",
        "rate": 0.5,
        "every": 10,
    }
    return config


def graph(data, first_stage):
    """The published second stage: 15 epochs from 1e-3, from the CNN of the first."""
    dataset = datasets.PAPER[data]
    config = full_size(dataset)
    config.train.epochs = 15.0
    config.optim.lr = 1e-3
    config.optim.schedule = {"name": "jax3dret.core.schedules:view_gcn", "decay": "halve"}
    config.checkpoint.init_from = f"runs/viewgcn_classify_{first_stage}"
    config.checkpoint.fresh = ("gcn/.*",)
    config.published = published("View-GCN/classification", dataset.column)
    return config


def full_size(dataset):
    """Published settings of both stages: 20 views of 224 pixels, batches of 20 shapes, SGD."""
    config = viewgcn.defaults()
    config.data.name = dataset.name
    config.data.num_classes = dataset.classes
    config.data.published = dataset.measured_on()
    config.data.augment = {"name": "jax3dret.data.points:no_augmentations"}
    config.train.split = dataset.train
    config.evals.retrieval.gallery_split = dataset.train
    config.model = {
        "name": "jax3dret.models.viewgcn:ViewGCN",
        "softmax": "views",
        "fps_start_eval": "random",
    }
    config.views = {"cameras": "dodecahedron20", "size": 224, "jobs": 1}
    config.train.batch_size = 20
    config.optim.update({"name": "sgd", "momentum": 0.9, "weight_decay": 1e-3})
    return config


# What a variant runs, and on which data set of jax3dret/tasks/ulip2/datasets.py; for the second
# stage, the variant of the first.
VARIANTS = {
    "demo": (small, "demo"),
    "ldraw": (small, "ldraw"),
    "psb": (small, "psb"),
    "modelnet10": (small, "modelnet10"),
    "ldraw_lite0": (frozen, "ldraw", LITE0),
    "psb_lite0": (frozen, "psb", LITE0),
    "ldraw_mobilenet": (frozen, "ldraw", MOBILENET),
    "psb_mobilenet": (frozen, "psb", MOBILENET),
    "paper_single_view": (single_view, "modelnet40"),
    "paper": (graph, "modelnet40", "paper_single_view"),
    "shapenet_normal_single_view": (single_view, "shapenet_normal"),
    "shapenet_normal": (graph, "shapenet_normal", "shapenet_normal_single_view"),
    "shapenet_perturbed_single_view": (single_view, "shapenet_perturbed"),
    "shapenet_perturbed": (graph, "shapenet_perturbed", "shapenet_perturbed_single_view"),
    "mcb_single_view": (single_view, "mcb"),
    "mcb": (graph, "mcb", "mcb_single_view"),
    "objaverse_easy_single_view": (single_view, "objaverse_easy"),
    "objaverse_easy": (graph, "objaverse_easy", "objaverse_easy_single_view"),
}


def get_config(variant):
    experiment, *on = VARIANTS[variant]
    return experiment(*on)
