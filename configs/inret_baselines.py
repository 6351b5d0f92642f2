"""What INRet is compared with beside inr2vec: PointNeXt on clouds, View-GCN on pictures of INRs.

    python -m jax3dret.main --config=configs/inret_baselines.py

| variant | data | network |
|---|---|---|
| demo | inr_store/demo, embedded shapes fitted on the first run | PointNeXt, narrow |
| demo_views | the same | View-GCN on frozen EfficientNet-Lite0, 12 views |
| ldraw, psb | inr_store/ldraw (the LDraw parts), /psb | PointNeXt, narrow |
| ldraw_views, psb_views | the same | View-GCN on frozen EfficientNet-Lite0, 12 views |
| shapenet10, pix3d, paper | inr_store/shapenet10, /pix3d, /paper | PointNeXt-S, its recipe |
| shapenet10_single_view, ... | the same, first stage: single views | ResNet-18, 12 views |
| shapenet10_views, ... | the same, second stage | View-GCN on it |

Each reads hash grids of all three functions; each with _sdf behind it, of signed distances alone:
ldraw_sdf, ldraw_views_sdf, shapenet10_single_view_sdf. INRs are converted once and kept beside the
data set. Raw meshes: --config.data.manual_dir=RAW. The first stage takes ImageNet's ResNet-18:
--config.cnn_weights=DIR; the second starts from runs/inret_baselines_VARIANT, elsewhere:
--config.checkpoint.init_from=WORKDIR. The published variants trace the rays of distances and draw
the mesh of occupancies, as the paper; the small ones draw meshes, which is quicker:
--config.views.by=auto, or marching; other INRs: --config.fields.kinds="('triplane_sdf',)".
"""

from jax3dret.tasks.inret import pointnext, views

KINDS = {"": ("hashgrid_udf", "hashgrid_sdf", "hashgrid_occ"), "_sdf": ("hashgrid_sdf",)}
# By data set: passes of the narrow PointNeXt and of the graph over it.
SMALL = {"demo": (60.0, 30.0), "ldraw": (100.0, 40.0), "psb": (40.0, 20.0)}
FULL = ("shapenet10", "pix3d", "paper")


def clouds(data, functions):
    """PointNeXt's published recipe."""
    config = pointnext.defaults()
    config.data.name = f"inr_store/{data}"
    config.fields.kinds = KINDS[functions]
    config.loss.smoothing = 0.2
    config.train.batch_size = 32
    config.train.epochs = 600.0
    config.optim.lr = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.grad_clip_norm = 1.0
    config.optim.schedule = {"name": "jax3dret.core.schedules:epoch_cosine"}
    return config


def narrow_clouds(data, functions):
    """A PointNeXt for two CPU cores."""
    config = clouds(data, functions)
    config.data.num_points = 1024
    config.model.update({"width": 32, "strides": (4, 4), "radius": 0.25, "nsample": 16})
    config.head.update({"hidden": (256,), "dropout": 0.25})
    config.optim.lr = 2e-3
    config.train.batch_size = 16
    config.train.epochs = SMALL[data][0]
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def pictures(data, functions):
    """12 pictures of 224 pixels of every INR."""
    config = views.defaults()
    config.data.name = f"inr_store/{data}"
    config.fields.kinds = KINDS[functions]
    return config


def frozen_pictures(data, functions):
    """A frozen network sees the pictures; only the graph trains."""
    config = pictures(data, functions)
    config.views.by = "marching"
    config.model = {"name": "jax3dret.models.viewgcn:ViewGCN", "width": 256, "k": 3}
    config.cnn = {"name": "jax3dret.models.efficientnet_lite:lite0"}
    config.cnn_frozen = True
    config.loss.smoothing = 0.1
    config.train.batch_size = 16
    config.train.epochs = SMALL[data][1]
    config.optim.lr = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.1,
    }
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def published_stage(data, functions):
    """What View-GCN's stages share: batches of 20 shapes, SGD."""
    config = pictures(data, functions)
    config.train.batch_size = 20
    config.optim.update({"name": "sgd", "momentum": 0.9, "weight_decay": 1e-3})
    return config


def single_view(data, functions):
    """The first stage: 30 epochs from 1e-2, halved every 10; pictures mirrored by halves."""
    config = published_stage(data, functions)
    config.objective = "single_view"
    config.train.batch_size = 33  # of 12 pictures each: the 400 of the published code
    config.loss = {"name": "jax3dret.losses.views:single_view"}
    config.flip = 0.5
    config.train.epochs = 30.0
    config.optim.lr = 1e-2
    config.optim.schedule = {"name": "jax3dret.core.schedules:step_decay", "rate": 0.5, "every": 10}
    return config


def graph(data, functions):
    """The second stage: 15 epochs from 1e-3 with a linear start, then a cosine, which is what the
    published code means; from the CNN of the first."""
    config = published_stage(data, functions)
    config.train.epochs = 15.0
    config.optim.lr = 1e-3
    config.optim.schedule = {"name": "jax3dret.core.schedules:view_gcn", "decay": "cosine"}
    config.checkpoint.init_from = f"runs/inret_baselines_{data}_single_view{functions}"
    config.checkpoint.fresh = ("gcn/.*",)
    return config


# What a variant runs, on which INRs.
VARIANTS = {
    **{f"{data}{f}": (narrow_clouds, data, f) for data in SMALL for f in KINDS},
    **{f"{data}_views{f}": (frozen_pictures, data, f) for data in SMALL for f in KINDS},
    **{f"{data}{f}": (clouds, data, f) for data in FULL for f in KINDS},
    **{f"{data}_single_view{f}": (single_view, data, f) for data in FULL for f in KINDS},
    **{f"{data}_views{f}": (graph, data, f) for data in FULL for f in KINDS},
}


def get_config(variant):
    experiment, *on = VARIANTS[variant]
    return experiment(*on)
