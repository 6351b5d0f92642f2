"""Settings of MV-HGNN's experiments: the paper's, those for frozen ImageNet features of a small CNN, and the embedded demo's."""

from __future__ import annotations

import ml_collections

from jax3dret.tasks.mvhgnn import experiment, published

SETTINGS = ("category", "zeroshot")


def paper(config: ml_collections.ConfigDict, data: str, setting: str, table: int) -> None:
    """The published setting: ResNet-18 features of 12 views, CLIP ViT-B/16 with prompts, Adam, 100 epochs a stage.

    The published weights are not part of this project: config.cnn_weights, config.tower_weights and config.prototypes.weights
    name imports of them, config.prototypes.merges CLIP's file of merges.
    """
    config.data.name, config.sketches.name = f"{data}/shapes", f"{data}/sketches"
    config.prototypes = {"name": "jax3dret.tasks.mvhgnn.prototypes:from_clip_text"}
    config.tuning = "vpt"
    config.train.batch_size = config.first.batch_size = 32
    config.train.epochs = config.first.epochs = 100.0
    _adam(config, lr=1e-4)
    use_setting(config, setting)
    config.published = published.published(table, "MV-HGNN", setting)


def psb_quickdraw(config: ml_collections.ConfigDict, setting: str) -> None:
    """QuickDraw's sketches and the Princeton Shape Benchmark's models; both sides read by one frozen MobileNetV2."""
    config.data.name, config.sketches.name = (
        "shrec13/psb_quickdraw_shapes",
        "shrec13/psb_quickdraw_sketches",
    )
    config.cnn = {"name": "jax3dret.models.mobilenet:MobileNetV2"}
    config.cnn_normalisation = "mobilenet"
    config.tower = {"name": "jax3dret.models.sketch_tower:FeatureTower"}
    config.tower_cnn = {"name": "jax3dret.models.mobilenet:MobileNetV2"}
    config.tower_cnn_normalisation = "mobilenet"
    config.model.width = 512
    config.sketches.copies = 7
    config.views.jobs = 2
    config.train.batch_size = config.first.batch_size = 32
    # One stage on the seen classes alone goes too far sooner: what it then learns is theirs.
    config.train.epochs, config.first.epochs = 10.0 if setting == "zeroshot" else 20.0, 20.0
    _adam(config, lr=3e-4)
    use_setting(config, setting)


def untrained(config: ml_collections.ConfigDict) -> None:
    """The networks as they start: what chance and the widths of the classes give."""
    config.strategy = "one_stage"
    config.train.steps = 0


def frozen_features(config: ml_collections.ConfigDict, width: int) -> None:
    """No network but the frozen CNN: mean of its features of the views against its features of the sketch."""
    untrained(config)
    config.model = {"name": "jax3dret.models.view_pooling:MeanViews", "dim": width}
    config.tower = {"name": "jax3dret.models.sketch_tower:StoredFeatures", "dim": width}


def demo(config: ml_collections.ConfigDict, setting: str) -> None:
    """The embedded shapes and drawings of them; networks without anybody's weights."""
    config.data.name, config.sketches.name = (
        "parametric_shapes/sbr_demo",
        "parametric_shapes/sbr_demo_sketches",
    )
    config.views.update({"size": 64, "jobs": 2})
    config.cnn.width = 32
    config.tower = {"name": "jax3dret.models.sketch_tower:SmallResNet"}
    config.sketches.update({"size": 64, "augment": True})
    config.train.batch_size = config.first.batch_size = 32
    config.train.epochs, config.first.epochs = 15.0, 20.0
    _adam(config, lr=5e-4)
    use_setting(config, setting)


def use_setting(config: ml_collections.ConfigDict, setting: str) -> None:
    """Category-level: two stages and every loss. Zero-shot: one stage, which has no classifier's loss (paper, equation 16)."""
    config.setting = setting
    if setting == "zeroshot":
        config.strategy = "one_stage"
        config.loss.cls_joint = False


def variants() -> tuple[str, ...]:
    """Of both config files."""
    return ("demo", "demo_zeroshot", *SETTINGS)


def get_config(variant: str, data: str, table: int) -> ml_collections.ConfigDict:
    """The config of a variant that both files have."""
    config = experiment.defaults()
    config.log.every = 20
    if variant.startswith("demo"):
        demo(config, "zeroshot" if variant.endswith("zeroshot") else "category")
    else:
        paper(config, data, variant, table)
    return config


def _adam(config: ml_collections.ConfigDict, *, lr: float) -> None:
    """Adam without decay; a cosine down to a hundredth, one value an epoch (paper: 1e-4 to 1e-6)."""
    config.optim.update({"name": "adam", "lr": lr, "weight_decay": 0.0})
    config.optim.schedule = {"name": "jax3dret.core.schedules:epoch_cosine", "final": lr / 100}
    config.first.lr = lr
