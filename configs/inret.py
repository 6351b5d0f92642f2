"""INRet: INRs of shapes found by INRs, whatever implicit function they are of.

    python -m jax3dret.main --config=configs/inret.py

| variant | data | INRs |
|---|---|---|
| demo | inr_store/demo, embedded shapes fitted on the first run | hash grids; a small encoder |
| ldraw, psb | inr_store/ldraw (the LDraw parts), /psb | hash grids |
| shapenet10, pix3d | inr_store/shapenet10, /pix3d | hash grids, INRet's encoder |
| paper | inr_store/paper: INRs of the paper's own size and steps | the same |
| ldraw_triplane, psb_triplane, ... | as ldraw, psb, ... | triplanes |
| ldraw_sdf, ldraw_triplane_sdf, ... | the same | of signed distances alone, on their own |
| ldraw_apart, ldraw_aligned | as ldraw | nothing across functions; the alignment alone |
| paper_octree, paper_triplane | as paper | the other grids |

A data set of INRs is fitted to a data set of meshes, which takes from minutes (demo) to days
(paper): `jax3dret data build inr_store/ldraw` beforehand, or here on the first run. Raw meshes:
--config.data.manual_dir=RAW.

Every part of equation 4 is one key: --config.loss.alignment=false, --config.loss.decoder=false,
--config.loss.target=sdf (or occ), --config.loss.norm=l2, --config.loss.pairs.udf_sdf=2.
configs/tables_inret.py runs them all.
"""

from jax3dret.tasks.inret import experiment

# By data set: its name, passes over it, points of a shape in a step and the lattice, points an
# axis; whether the encoder is INRet's own size.
DATASETS = {
    # name, epochs, points, lattice, full size
    "demo": ("inr_store/demo", 60.0, 512, 32, False),
    "ldraw": ("inr_store/ldraw", 60.0, 1024, 32, False),
    "psb": ("inr_store/psb", 20.0, 1024, 32, False),
    "shapenet10": ("inr_store/shapenet10", 300.0, 10_000, 64, True),
    "pix3d": ("inr_store/pix3d", 300.0, 10_000, 64, True),
    "paper": ("inr_store/paper", 300.0, 10_000, 64, True),
}


def unified(data, field="hashgrid"):
    """One space for the three implicit functions: alignment and unified decoder (equation 4)."""
    name, epochs, points, lattice, full = DATASETS[data]
    config = experiment.defaults()
    config.data.name = name
    config.data.query_points = points
    config.architectures = (field,)
    config.lattice.resolution = lattice
    config.lift.preset = "paper" if data == "paper" else "fast"
    config.train.epochs = epochs
    if not full:
        small(config)
    return config


def alone(data, field="hashgrid"):
    """Signed distances by themselves: the encoder learns the function of its INRs."""
    config = unified(data, field)
    config.functions = ("sdf",)
    config.loss.target = "own"
    config.loss.alignment = False
    return config


def apart(data, field="hashgrid"):
    """The three functions, each by itself, with a decoder of its own."""
    config = unified(data, field)
    config.loss.target = "own"
    config.loss.alignment = False
    return config


def aligned(data, field="hashgrid"):
    """Embeddings of a shape drawn together, each decoded to its own function by its own decoder."""
    config = unified(data, field)
    config.loss.target = "own"
    return config


def small(config):
    """Encoder and decoder for two CPU cores."""
    config.model = {
        "name": "jax3dret.models.field_encoders.inr_encoder:InrEncoder",
        "mlp_hidden": (128, 128, 256, 256),
        "mlp_out": 256,
        "grid_out": 256,
    }
    config.head = {
        "name": "jax3dret.models.field_encoders.shape_decoder:ShapeDecoder",
        "hidden": 128,
    }
    config.optim.lr = 1e-3
    config.optim.schedule = {"name": "jax3dret.core.schedules:cosine"}
    config.checkpoint.every = 200
    config.log.every = 20


# What a variant trains, and on which data set of DATASETS.
VARIANTS = {
    "demo": (unified, "demo"),
    "ldraw": (unified, "ldraw"),
    "psb": (unified, "psb"),
    "shapenet10": (unified, "shapenet10"),
    "pix3d": (unified, "pix3d"),
    "paper": (unified, "paper"),
    "ldraw_triplane": (unified, "ldraw", "triplane"),
    "psb_triplane": (unified, "psb", "triplane"),
    "shapenet10_triplane": (unified, "shapenet10", "triplane"),
    "pix3d_triplane": (unified, "pix3d", "triplane"),
    "paper_triplane": (unified, "paper", "triplane"),
    "paper_octree": (unified, "paper", "octree"),
    "ldraw_sdf": (alone, "ldraw"),
    "ldraw_triplane_sdf": (alone, "ldraw", "triplane"),
    "shapenet10_sdf": (alone, "shapenet10"),
    "pix3d_sdf": (alone, "pix3d"),
    "paper_sdf": (alone, "paper"),
    "paper_triplane_sdf": (alone, "paper", "triplane"),
    "paper_octree_sdf": (alone, "paper", "octree"),
    "ldraw_apart": (apart, "ldraw"),
    "ldraw_aligned": (aligned, "ldraw"),
    "shapenet10_apart": (apart, "shapenet10"),
    "shapenet10_aligned": (aligned, "shapenet10"),
    "paper_apart": (apart, "paper"),
    "paper_aligned": (aligned, "paper"),
}


def get_config(variant):
    experiment_of, *on = VARIANTS[variant]
    return experiment_of(*on)
