"""How the learning rate decides a fine-tuning: section 4.4 and figure 5 of the ULIP-2 paper.

    python -m jax3dret.main --config=configs/ulip2_schedules.py

The usual schedule, a cosine from 3e-4, against the paper's for pre-trained weights: linear from 0
to 5e-5 over the first 20 % of the steps, then a cosine. Both are evaluated as they go, so the
reports show NN accuracy over steps as figures 5a and 5c do; the loss of the held-out set (figure
5b) is not computed.

| variant | data | what runs |
|---|---|---|
| demo | parametric_shapes/demo, embedded | a small PointBERT, pre-trained, with both schedules |
| demo_pretraining, demo_classification_cosine, ... | the same | the runs of that table |
| paper | modelnet/40, from ULIP-2's weights | the four runs below, in one table |
| classification_cosine, classification_warmup_cosine | the same | figure 5a |
| vicreg_cosine, vicreg_warmup_cosine | the same | figure 5c |

Raw data: --config.data.manual_dir=RAW. ULIP-2's weights are looked for in weights/ulip2_pointbert;
elsewhere: --config.needs.weights=DIR for the table, --config.checkpoint.init_from=DIR for a run.

The demo keeps the ratio of the rates, 6 to 1, below the rate that this small network is trained
with from scratch. It shows what is compared, not the paper's effect, which is one of a large
network and much pre-training.
"""

from jax3dret.experiments import tables
from jax3dret.experiments.rows import need, row, stage
from jax3dret.tasks.ulip2 import datasets, finetune
from jax3dret.tasks.ulip2.published import published

RATES = {"cosine": 3e-4, "warmup_cosine": 5e-5}
SMALL_RATES = {"cosine": 1e-3, "warmup_cosine": 1e-3 * 5e-5 / 3e-4}


def small_table():
    """The small network's runs, which all start from one pre-training."""
    config = tables.defaults()
    config.title = "Fine-tuning with the usual schedule and with a careful one (paper, section 4.4)"
    config.data.name = datasets.SMALL["demo"].name
    config.notes = (
        "A small network, pre-trained for a minute on the shapes that it is fine-tuned on: this "
        "shows what the paper compares, not the paper's effect.",
    )
    start = stage("pre-training (VICReg)", "ulip2_schedules.py:demo_pretraining")
    usual = "A cosine from 0.001 to 0, no warm-up."
    careful = "Linear from 0 to 0.00017 over the first 20 % of the steps, then a cosine to 0."
    config.table = (
        row(
            "classification, cosine",
            "ulip2_schedules.py:demo_classification_cosine",
            starts_from=start,
            note=usual,
        ),
        row(
            "classification, warm-up and cosine",
            "ulip2_schedules.py:demo_classification_warmup_cosine",
            starts_from=start,
            note=careful,
        ),
        row(
            "vicreg, cosine",
            "ulip2_schedules.py:demo_vicreg_cosine",
            starts_from=start,
            note=usual,
            extra=True,
        ),
        row(
            "vicreg, warm-up and cosine",
            "ulip2_schedules.py:demo_vicreg_warmup_cosine",
            starts_from=start,
            note=careful,
            extra=True,
        ),
    )
    return config


def paper_table():
    """The four runs of figures 5a and 5c."""
    config = tables.defaults()
    config.title = "Fine-tuning with the usual schedule and with a careful one (paper, section 4.4)"
    config.data.name = datasets.PAPER["modelnet40"].name
    config.needs = {"weights": "weights/ulip2_pointbert"}
    needs = (need("weights", "checkpoint.init_from", "ULIP-2's PointBERT"),)
    usual = "A cosine from 0.0003 to 0, no warm-up."
    careful = "Linear from 0 to 5e-05 over the first 20 % of the steps, then a cosine to 0."
    config.table = (
        row(
            "classification, cosine",
            "ulip2_schedules.py:classification_cosine",
            needs=needs,
            note=usual,
        ),
        row(
            "classification, warm-up and cosine",
            "ulip2_schedules.py:classification_warmup_cosine",
            needs=needs,
            note=careful,
        ),
        row(
            "vicreg, cosine",
            "ulip2_schedules.py:vicreg_cosine",
            needs=needs,
            note=usual,
        ),
        row(
            "vicreg, warm-up and cosine",
            "ulip2_schedules.py:vicreg_warmup_cosine",
            needs=needs,
            note=careful,
        ),
    )
    return config


def pretraining():
    """What the small runs start from."""
    config = small_network()
    small_vicreg(config)
    config.optim.lr = 1e-3
    config.optim.schedule = {
        "name": "jax3dret.core.schedules:warmup_cosine",
        "warmup_fraction": 0.1,
    }
    config.log.every = 20
    return config


def small(objective, schedule):
    """One run of the small table, evaluated every epoch."""
    config = small_network()
    if objective == "classification":
        config.head = {
            "name": "jax3dret.models.heads:ClassificationHead",
            "hidden": (256,),
            "dropout": 0.25,
        }
        config.loss.smoothing = 0.1
        config.train.batch_size = 32
        config.optim.weight_decay = 0.05
        config.eval.every = 24
    else:
        small_vicreg(config)
        config.eval.every = 12
    config.optim.lr = SMALL_RATES[schedule]
    use_schedule(config, schedule)
    config.checkpoint.init_from = "runs/ulip2_schedules_demo_pretraining"
    config.checkpoint.fresh = ("head/.*",)
    config.log.every = 8
    return config


def full_size(objective, schedule):
    """One run of figure 5: PointBERT at ULIP-2's size, 8,192 points, evaluated every two epochs."""
    dataset = datasets.PAPER["modelnet40"]
    config = finetune.defaults()
    config.data.name = dataset.name
    config.data.num_classes = dataset.classes
    config.data.published = dataset.measured_on()
    config.data.num_points = 8192
    config.data.augment = {
        "name": "jax3dret.data.points:paper_augmentations",
        "rotate": dataset.rotate,
    }
    config.train.split = dataset.train
    config.evals.retrieval.gallery_split = dataset.train
    config.model = {"name": "jax3dret.models.pointbert:PointBert"}
    if objective == "classification":
        config.head = {
            "name": "jax3dret.models.heads:ClassificationHead",
            "hidden": (512, 256),
            "dropout": 0.2,
        }
        config.train.batch_size = 64
    else:
        vicreg(config, width=1024, batch_size=48)
    config.train.epochs = float(dataset.finetune)
    config.eval.every = 2 * (9843 // config.train.batch_size + 1)
    config.optim.lr = RATES[schedule]
    use_schedule(config, schedule)
    config.checkpoint.init_from = "weights/ulip2_pointbert"
    config.checkpoint.fresh = ("head/.*",)
    if schedule == "warmup_cosine":
        config.published = published(f"ULIP2/{objective}", dataset.column)
    return config


def small_network():
    """The small PointBERT and its ten epochs."""
    dataset = datasets.SMALL["demo"]
    config = finetune.defaults()
    config.data.name = dataset.name
    config.data.num_points = dataset.num_points
    # These shapes stand upright and face one way; the paper turns those that do not.
    config.data.augment = {"name": "jax3dret.data.points:paper_augmentations", "rotate": ""}
    config.evals.retrieval.gallery_split = dataset.gallery
    config.model = {
        "name": "jax3dret.models.pointbert:PointBert",
        "trans_dim": 128,
        "depth": 2,
        "num_heads": 4,
        "num_group": 64,
        "group_size": 16,
        "encoder_dims": 128,
        "group_widths": (64, 64, 128),
        "drop_path_rate": 0.05,
    }
    config.train.epochs = 10.0
    config.checkpoint.every = 200
    return config


def small_vicreg(config):
    """VICReg of the pre-training and of the small runs."""
    vicreg(config, width=512, batch_size=64)
    config.optim.weight_decay = 1e-4


def vicreg(config, width, batch_size):
    """Two views and the loss's published weights, behind a projector of three layers."""
    config.objective = "two_view"
    config.loss = {
        "name": "jax3dret.losses.vicreg:vicreg",
        "invariance": 25.0,
        "variance": 25.0,
        "covariance": 1.0,
    }
    config.head = {"name": "jax3dret.models.heads:VicregProjector", "widths": (width, width, width)}
    config.train.batch_size = batch_size


def use_schedule(config, name):
    """A cosine, or a warm-up over 20 % of the steps and then a cosine."""
    config.optim.schedule = {"name": f"jax3dret.core.schedules:{name}"}
    if name == "warmup_cosine":
        config.optim.schedule.warmup_fraction = 0.2


# What a variant runs: a table, or one run by its objective and schedule.
VARIANTS = {
    "demo": (small_table,),
    "demo_pretraining": (pretraining,),
    "demo_classification_cosine": (small, "classification", "cosine"),
    "demo_classification_warmup_cosine": (small, "classification", "warmup_cosine"),
    "demo_vicreg_cosine": (small, "vicreg", "cosine"),
    "demo_vicreg_warmup_cosine": (small, "vicreg", "warmup_cosine"),
    "paper": (paper_table,),
    "classification_cosine": (full_size, "classification", "cosine"),
    "classification_warmup_cosine": (full_size, "classification", "warmup_cosine"),
    "vicreg_cosine": (full_size, "vicreg", "cosine"),
    "vicreg_warmup_cosine": (full_size, "vicreg", "warmup_cosine"),
}


def get_config(variant):
    experiment, *of = VARIANTS[variant]
    return experiment(*of)
