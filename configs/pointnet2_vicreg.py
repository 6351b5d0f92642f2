"""VICReg with PointNet++ (SSG), the paper's baseline encoder, without labels.

    python -m jax3dret.main --config=configs/pointnet2_vicreg.py

| variant | data | encoder |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | small PointNet++ |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb (--config.data.manual_dir=RAW) | small PointNet++ |
| demo_random, modelnet10_random, ... | the same, no training: the random-weights row | small PointNet++ |
| paper, modelnet40, shapenet_normal, ... | each of the paper's data sets; paper is modelnet40 | PointNet++ SSG, published size |
| modelnet40_random, ... | no training: the random-weights row | PointNet++ SSG, published size |

Expected NN accuracy, two CPU cores: modelnet10 89.4 % in 11 minutes (one seed), modelnet10_random 81.7 % +- 1.0 (three seeds),
demo 89.4 % in 4 minutes (one seed). The full-size variants have not been run; the paper's numbers stand in their reports.
"""

from jax3dret.tasks.ulip2 import finetune, presets

RANDOM = presets.RANDOM
SMALL = (*presets.SMALL, *presets.SMALL_RANDOM)
VARIANTS = (*SMALL, "paper", *presets.DATASETS, *presets.variants(RANDOM))


def get_config(variant):
    config = finetune.defaults()
    if variant in SMALL:
        presets.use_small(config, variant, demo=40.0, other=24.0)
        presets.small_pointnet2(config)
        presets.small_vicreg(config, lr=4e-3)
        return config
    dataset = presets.use_dataset(config, variant)
    presets.paper_schedule(config, dataset, pretrained=False)
    presets.full_pointnet2(config)
    presets.vicreg(config, width=1024, batch_size=128)
    row = "vicreg"
    if variant.endswith(RANDOM):
        config.train.steps = 0
        row = "random"
    config.published = presets.published(f"PointNet++/{row}", dataset.column)
    return config
