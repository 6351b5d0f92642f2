"""inr2vec, INRet's baseline: INRs that are plain networks (SIREN), found by the rows of their
weights.

    python -m jax3dret.main --config=configs/inr2vec.py

| variant | data | INRs |
|---|---|---|
| demo | inr_store/demo_siren, embedded shapes | 4 x 128, small encoder |
| ldraw | inr_store/ldraw (the LDraw parts) | 4 x 128, narrow |
| paper | inr_store/paper | 4 x 512, inr2vec's |
| paper_unified | the same, all three functions | the same, with INRet's equation 4 |

INRs are fitted with INRet's losses and the decoder gives the function's own value, so that the two
differ in architecture and encoder alone; inr2vec's code trains on scaled distances by
cross-entropy. The narrow networks are a quarter as wide as inr2vec's. The papers' encoder without
its fifth, plain layer: --config.plain_model.final_linear=false.
"""

from jax3dret.tasks.inret import experiment

ENCODER = "jax3dret.models.field_encoders.inr_encoder:InrEncoder"
# By data set: its name, passes over it and points of a shape in a step.
DATASETS = {
    "demo": ("inr_store/demo_siren", 60.0, 512),
    "ldraw": ("inr_store/ldraw", 60.0, 1024),
    "paper": ("inr_store/paper", 300.0, 10_000),
}


def full(data):
    """Networks of 4 x 512 and inr2vec's encoder."""
    name, epochs, points = DATASETS[data]
    config = experiment.defaults()
    config.data.name = name
    config.data.query_points = points
    config.architectures = ("siren",)
    config.functions = ("sdf",)
    config.loss.target = "own"
    config.loss.alignment = False
    config.lift.preset = "paper"
    config.train.epochs = epochs
    return config


def narrow(data):
    """Networks of 4 x 128; encoder and decoder for two CPU cores."""
    config = full(data)
    config.inrs.siren.hidden = 128
    config.lift.preset = "fast"
    config.plain_model = {
        "name": ENCODER,
        "mlp_hidden": (128, 128, 256, 256),
        "mlp_out": 256,
        "grid_out": 0,
    }
    config.head = {
        "name": "jax3dret.models.field_encoders.shape_decoder:ShapeDecoder",
        "hidden": 128,
    }
    config.optim.lr = 1e-3
    config.optim.schedule = {"name": "jax3dret.core.schedules:cosine"}
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def unified(data):
    """All three functions in one space, as configs/inret.py trains grids."""
    config = full(data)
    config.functions = ("udf", "sdf", "occ")
    config.loss.target = "udf"
    config.loss.alignment = True
    return config


VARIANTS = {
    "demo": (narrow, "demo"),
    "ldraw": (narrow, "ldraw"),
    "paper": (full, "paper"),
    "paper_unified": (unified, "paper"),
}


def get_config(variant):
    kind, data = VARIANTS[variant]
    return kind(data)
