"""MV-HGNN on SHREC'14's sketch track: 171 classes, 133 of them seen in training; otherwise as configs/mvhgnn_shrec13.py.

    python -m jax3dret.main --config=configs/mvhgnn_shrec14.py

| variant | data | networks |
|---|---|---|
| demo, demo_zeroshot | parametric_shapes/sbr_demo and drawings of such shapes, embedded, built on the first run | as there |
| category, zeroshot | shrec14 (--config.data.manual_dir=RAW) | ResNet-18 features of 12 views, CLIP ViT-B/16 with prompts: the paper's |
"""

from jax3dret.tasks.mvhgnn import presets

VARIANTS = presets.variants()


def get_config(variant):
    return presets.get_config(variant, "shrec14", 2)
