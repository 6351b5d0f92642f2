"""Classification with PointNet++ (SSG), the paper's baseline encoder.

    python -m jax3dret.main --config=configs/pointnet2_classify.py

| variant | data | encoder |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | small PointNet++ |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb (--config.data.manual_dir=RAW) | small PointNet++ |
| paper, modelnet40, shapenet_normal, ... | each of the paper's data sets; paper is modelnet40 | PointNet++ SSG, published size |

Expected NN accuracy, two CPU cores: modelnet10 92.2 % in 12 minutes on a busy machine (one seed), demo 91.9 % in 2 minutes (one seed). The full-size
variants have not been run; the paper's numbers stand in their reports.
"""

from jax3dret.tasks.ulip2 import finetune, presets

VARIANTS = (*presets.SMALL, "paper", *presets.DATASETS)


def get_config(variant):
    config = finetune.defaults()
    if variant in presets.SMALL:
        presets.use_small(config, variant, demo=40.0, other=30.0)
        presets.small_pointnet2(config)
        presets.small_classification(config, lr=2e-3)
        return config
    dataset = presets.use_dataset(config, variant)
    presets.paper_schedule(config, dataset, pretrained=False)
    presets.full_pointnet2(config)
    config.head = {
        "name": "jax3dret.models.heads:ClassificationHead",
        "hidden": (512, 256),
        "dropout": 0.2,
    }
    config.train.batch_size = 64
    config.published = presets.published("PointNet++/classification", dataset.column)
    return config
