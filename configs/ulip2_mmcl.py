"""MMCL: a point transformer learns to put a cloud where frozen towers put its pictures and captions, without labels.

    python -m jax3dret.main --config=configs/ulip2_mmcl.py

| variant | data | encoder and towers |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | small PointBERT, random towers, captions from geometry |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb (--config.data.manual_dir=RAW) | as demo |
| ldraw_mobilenet, psb_mobilenet | the same | imported MobileNetV2 (weights/mobilenetv2 unless --config.towers.image_weights=DIR) in place of the random image tower |
| paper | modelnet/40, trained from scratch as the paper's text has it | PointBERT, ULIP-2 size; SLIP |
| paper_finetune | modelnet/40, from ULIP-2 weights (--config.checkpoint.init_from=DIR) | the same |
| modelnet40, shapenet_normal, ... | paper_finetune on each of the paper's data sets that has meshes | the same |
| modelnet40_scratch, ... | paper on each of them | the same |

The full-size variants need imported SLIP weights (weights/slip_vit_b unless --config.towers.weights=DIR), CLIP's merges file
(--config.towers.merges=FILE) and captions: --config.captions.path=FILE after --config.captions.name=jax3dret.data.captions:from_jsonl, or the vision-language model that they
name, with the extra `caption`. --config.learn_log_scale=False freezes the logit scale at SLIP's, as ULIP's code does.

Expected NN accuracy, two CPU cores: demo 84.7 % in 2.3 minutes (one seed; untrained 79.7 %), ldraw 52.7 % (48.9 %), psb 57.8 % (49.5 %). The full-size variants have not been run; the paper's numbers stand in their reports.
"""

from jax3dret.tasks.ulip2 import mmcl, presets

FULL = tuple(name for name in presets.DATASETS if name != "scanobjectnn")
SCRATCH = presets.SCRATCH
MOBILENET = ("ldraw_mobilenet", "psb_mobilenet")
VARIANTS = (
    *(*presets.SMALL, *MOBILENET, "paper", "paper_finetune", *FULL),
    *presets.variants(SCRATCH, without=("scanobjectnn",)),
)


def get_config(variant):
    config = mmcl.defaults()
    if variant in (*presets.SMALL, *MOBILENET):
        presets.use_small(config, variant.partition("_")[0], demo=30.0, other=20.0)
        presets.small_pointbert(config)
        presets.small_mmcl(config, lr=1e-3)
        if variant in MOBILENET:
            config.views.size = 224
            config.towers.image = {"name": "jax3dret.models.mobilenet:MobileNetV2"}
            config.towers.image_weights = presets.MOBILENET
            config.towers.normalisation = "mobilenet"
        config.optim.rules = mmcl.log_scale_rules(learn=True)
        return config
    pretrained = variant != "paper" and not variant.endswith(SCRATCH)
    dataset = presets.use_dataset(config, variant)
    presets.paper_schedule(config, dataset, pretrained=pretrained)
    presets.full_pointbert(config)
    config.train.batch_size = 32
    config.optim.rules = mmcl.log_scale_rules(learn=True)
    config.captions = {"name": "jax3dret.data.captioning:vision_language_model"}
    config.towers.weights = presets.SLIP
    config.towers.truncate = "drop_end"  # as SLIP's and ULIP's code cut them
    if pretrained:
        presets.from_ulip2_weights(config)
        # The projection goes on from ULIP-2's own.
        config.checkpoint.rename = (("^projection/", "head/"),)
        config.checkpoint.fresh = ("log_scale",)
    config.published = presets.published(
        "ULIP2/mmcl" if pretrained else "PointBERT/mmcl", dataset.column
    )
    return config
