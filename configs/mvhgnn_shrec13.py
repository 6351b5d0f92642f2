"""MV-HGNN on SHREC'13's sketch track: shapes found by a drawing, of seen classes or of unseen ones.

    python -m jax3dret.main --config=configs/mvhgnn_shrec13.py

| variant | data | networks |
|---|---|---|
| demo, demo_zeroshot | parametric_shapes/sbr_demo, embedded, and drawings | small, random |
| category, zeroshot | shrec13/shapes, /sketches | ResNet-18, CLIP ViT-B/16: the paper's |
| psb_quickdraw, psb_quickdraw_zeroshot | QuickDraw's sketches, Princeton's models | MobileNetV2 |
| psb_quickdraw_random, psb_quickdraw_zeroshot_random | the same | the same, untrained |
| psb_quickdraw_frozen, psb_quickdraw_zeroshot_frozen | the same | MobileNetV2, sides centred |

Raw data: --config.data.manual_dir=RAW. category and zeroshot need imported weights:
--config.cnn_weights=DIR (ResNet-18), --config.tower_weights=DIR and --config.prototypes.weights=DIR
(CLIP), and CLIP's file of merges, --config.prototypes.merges=FILE. psb_quickdraw:
--config.cnn_weights=DIR --config.tower_cnn_weights=DIR (MobileNetV2). In its place a network that
installs with its weights: --config.cnn.name=jax3dret.models.efficientnet_lite:lite0
--config.tower_cnn.name=jax3dret.models.efficientnet_lite:lite0.

Every ablation of the paper is one key, such as --config.model.aggregator=mean,
--config.model.selector=none, --config.views.cameras=ring6, --config.loss.quad=false,
--config.tuning=layernorm (of a tower without prompts, as the paper's), --config.strategy=one_stage;
the two stages of zeroshot have the classifier's loss, its one has not. The paper's number of such a
run stands beside it, and none beside a run that the paper does not have. configs/tables_mvhgnn.py
runs them all. The drawings of category and zeroshot are resized as CLIP does it and nothing else,
--config.sketches.prepare=plain; the others crop, centre and thicken their strokes.
"""

from jax3dret.tasks.mvhgnn import experiment


def demo(setting):
    """The embedded shapes and drawings of them; networks without anybody's weights."""
    config = experiment.defaults()
    config.data.name = "parametric_shapes/sbr_demo"
    config.sketches.name = "parametric_shapes/sbr_demo_sketches"
    config.sketches.update({"size": 64, "augment": True})
    config.views.update({"size": 64, "jobs": 2})
    config.cnn.width = 32
    config.tower = {"name": "jax3dret.models.sketch_tower:SmallResNet"}
    train(config, setting, batch_size=32, lr=5e-4)
    config.first.epochs = 20.0
    config.train.epochs = 15.0
    config.log.every = 20
    return config


def paper(setting):
    """The published setting: ResNet-18 features of 12 views, CLIP ViT-B/16 with prompts."""
    config = experiment.defaults()
    config.data.name = "shrec13/shapes"
    config.sketches.name = "shrec13/sketches"
    config.sketches.prepare = "plain"
    config.prototypes = {"name": "jax3dret.tasks.mvhgnn.prototypes:from_clip_text"}
    config.tuning = "vpt"
    train(config, setting, batch_size=32, lr=1e-4)
    config.first.epochs = 100.0
    config.train.epochs = 100.0
    config.log.every = 20
    config.paper = "shrec13"
    return config


def psb_quickdraw(setting):
    """Sketches and models read by one frozen MobileNetV2."""
    config = experiment.defaults()
    config.data.name = "shrec13/psb_quickdraw_shapes"
    config.sketches.name = "shrec13/psb_quickdraw_sketches"
    config.sketches.copies = 7
    config.views.jobs = 2
    config.cnn = {"name": "jax3dret.models.mobilenet:MobileNetV2"}
    config.tower = {"name": "jax3dret.models.sketch_tower:FeatureTower"}
    config.tower_cnn = {"name": "jax3dret.models.mobilenet:MobileNetV2"}
    config.model.width = 512
    train(config, setting, batch_size=32, lr=3e-4)
    config.first.epochs = 20.0
    # One stage on the seen classes alone goes too far sooner: what it then learns is theirs.
    config.train.epochs = 10.0 if setting == "zeroshot" else 20.0
    config.log.every = 50
    return config


def psb_quickdraw_random(setting):
    """The networks as they start: what chance and the widths of the classes give."""
    config = psb_quickdraw(setting)
    config.strategy = "one_stage"
    config.train.steps = 0
    return config


def psb_quickdraw_frozen(setting):
    """MobileNetV2 alone: the mean of its features of the views against those of the sketch, the
    training mean of each side taken off.
    """
    config = psb_quickdraw_random(setting)
    config.centred = True
    config.model = {"name": "jax3dret.models.view_pooling:MeanViews", "dim": 1280}
    config.tower = {"name": "jax3dret.models.sketch_tower:StoredFeatures", "dim": 1280}
    return config


def train(config, setting, batch_size, lr):
    """Adam without decay; a cosine to a hundredth, one value an epoch (paper: 1e-4 to 1e-6).

    Category-level: two stages, every loss. Zero-shot: one, without the classifier's (equation 16).
    """
    config.setting = setting
    if setting == "zeroshot":
        config.strategy = "one_stage"
        config.loss.cls_joint = False
    config.first.batch_size = batch_size
    config.first.lr = lr
    config.train.batch_size = batch_size
    config.optim.update({"name": "adam", "lr": lr, "weight_decay": 0.0})
    config.optim.schedule = {"name": "jax3dret.core.schedules:epoch_cosine", "final": lr / 100}


# What a variant runs, and in which setting.
VARIANTS = {
    "demo": (demo, "category"),
    "demo_zeroshot": (demo, "zeroshot"),
    "category": (paper, "category"),
    "zeroshot": (paper, "zeroshot"),
    "psb_quickdraw": (psb_quickdraw, "category"),
    "psb_quickdraw_zeroshot": (psb_quickdraw, "zeroshot"),
    "psb_quickdraw_random": (psb_quickdraw_random, "category"),
    "psb_quickdraw_zeroshot_random": (psb_quickdraw_random, "zeroshot"),
    "psb_quickdraw_frozen": (psb_quickdraw_frozen, "category"),
    "psb_quickdraw_zeroshot_frozen": (psb_quickdraw_frozen, "zeroshot"),
}


def get_config(variant):
    kind, setting = VARIANTS[variant]
    return kind(setting)
