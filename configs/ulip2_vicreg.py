"""VICReg: a point transformer learns from two augmented views of each shape, without labels.

    python -m jax3dret.main --config=configs/ulip2_vicreg.py

| variant | data | encoder |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | small PointBERT |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb (--config.data.manual_dir=RAW) | small PointBERT |
| demo_random, modelnet10_random, ... | the same, no training: the random-weights row | small PointBERT |
| paper | modelnet/40, trained from scratch as the paper's text has it | PointBERT, ULIP-2 size |
| paper_finetune | modelnet/40, from ULIP-2 weights (--config.checkpoint.init_from=DIR) | PointBERT, ULIP-2 size |
| modelnet40, shapenet_normal, ... | paper_finetune on each of the paper's data sets | PointBERT, ULIP-2 size |
| modelnet40_scratch, ... | paper on each of them | PointBERT, ULIP-2 size |
| modelnet40_random, ... | no training: the random-weights row | PointBERT, ULIP-2 size |
| modelnet40_pretrained, ... | no training: ULIP-2's weights as they are (--config.checkpoint.init_from=DIR) | PointBERT, ULIP-2 size |

Expected NN accuracy, two CPU cores: modelnet10 88.7 % in 20 minutes on a busy machine (one seed), modelnet10_random 81.5 % +- 0.7 (three seeds),
ldraw 61.5 % (untrained 48.9 %), psb 65.3 % (untrained 49.5 %), demo 91.2 % in 5 minutes with the installation (one seed). The full-size variants have not been run; the paper's numbers stand in their reports.
"""

from jax3dret.tasks.ulip2 import finetune, presets

RANDOM, PRETRAINED = presets.RANDOM, presets.PRETRAINED
SMALL = (*presets.SMALL, *presets.SMALL_RANDOM)
VARIANTS = (
    *(*SMALL, "paper", "paper_finetune", *presets.DATASETS),
    *presets.variants(presets.SCRATCH, RANDOM, PRETRAINED),
)


def get_config(variant):
    config = finetune.defaults()
    if variant in SMALL:
        presets.use_small(config, variant, demo=30.0, other=10.0)
        presets.small_pointbert(config)
        presets.small_vicreg(config, lr=1e-3)
        return config
    pretrained = variant != "paper" and not variant.endswith((presets.SCRATCH, RANDOM))
    dataset = presets.use_dataset(config, variant)
    presets.paper_schedule(config, dataset, pretrained=pretrained)
    presets.full_pointbert(config)
    presets.vicreg(config, width=1024, batch_size=48)
    row = "vicreg"
    if variant.endswith(PRETRAINED):
        presets.ulip2_as_it_came(config)
        row = "pretrained"
    elif variant.endswith(RANDOM):
        config.train.steps = 0
        row = "random"
    elif pretrained:
        presets.from_ulip2_weights(config)
    config.published = presets.published(
        f"{'ULIP2' if pretrained else 'PointBERT'}/{row}", dataset.column
    )
    return config
