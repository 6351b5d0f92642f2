"""MV-HGNN: 3D shapes found by a drawing (SHREC'13's sketch track), of seen classes (category-level) or of unseen ones (zero-shot).

    python -m jax3dret.main --config=configs/mvhgnn_shrec13.py

| variant | data | networks |
|---|---|---|
| demo, demo_zeroshot | parametric_shapes/sbr_demo and drawings of such shapes, embedded, built on the first run | random ResNet features of 64-pixel views, a small ResNet for the drawings |
| category, zeroshot | shrec13 (--config.data.manual_dir=RAW) | ResNet-18 features of 12 views, CLIP ViT-B/16 with prompts: the paper's |
| psb_quickdraw, psb_quickdraw_zeroshot | QuickDraw's sketches and the Princeton Shape Benchmark's models (the same) | MobileNetV2's features of views and sketches |
| psb_quickdraw_random, psb_quickdraw_frozen, ... | the same | untrained; no network but MobileNetV2 |

category and zeroshot need imported weights: --config.cnn_weights=DIR (ResNet-18), --config.tower_weights=DIR and
--config.prototypes.weights=DIR (CLIP), --config.prototypes.merges=FILE; psb_quickdraw: --config.cnn_weights=DIR
--config.tower_cnn_weights=DIR (MobileNetV2). Every ablation of the paper is one key, such as --config.model.aggregator=mean,
--config.model.selector=none, --config.views.cameras=ring6, --config.loss.quad=false, --config.tuning=layernorm (of a tower
without prompts, as the paper's), --config.strategy=one_stage; the two stages of zeroshot have the classifier's loss, its one has not.

Expected, one seed: demo NN 69.8 %, mAP 68.9 % in 4 minutes on two CPU cores, demo_zeroshot NN 26.6 %, mAP 32.7 % in 2 more; psb_quickdraw NN 56.8 %,
mAP 62.4 %, psb_quickdraw_zeroshot NN 25.8 %, mAP 31.9 % in minutes once the features are cached (seed 1: 58.5, 61.9, 28.4, 29.9). category and zeroshot have not been run; the
paper's numbers stand in their reports.
"""

from jax3dret.tasks.mvhgnn import experiment, presets

PSB = ("psb_quickdraw", "psb_quickdraw_zeroshot")
# The same without training: the networks as they start; the frozen CNN's features alone.
RANDOM, FROZEN = "_random", "_frozen"
VARIANTS = (
    *presets.variants(),
    *PSB,
    *(name + kind for kind in (RANDOM, FROZEN) for name in PSB),
)


def get_config(variant):
    name = variant.removesuffix(RANDOM).removesuffix(FROZEN)
    if name not in PSB:
        return presets.get_config(variant, "shrec13", 1)
    config = experiment.defaults()
    config.log.every = 50
    presets.psb_quickdraw(config, "zeroshot" if name.endswith("zeroshot") else "category")
    if variant.endswith(RANDOM):
        presets.untrained(config)
    if variant.endswith(FROZEN):
        presets.frozen_features(config, width=1280)
    return config
