"""A small data set of INRs in memory, as `data_pipelines/inr_store` makes one: hash grids,
triplanes and plain networks, those of a class alike.
"""

import functools

import numpy as np
from fakes import FakeSource, opener

from jax3dret.models.fields import architectures
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.network import Decoder
from jax3dret.models.fields.parameters import layout_of
from jax3dret.models.fields.siren import Siren
from jax3dret.models.fields.triplane import Triplane

DECODER = Decoder(hidden=8)
ARCHITECTURES = {
    "hashgrid": HashGrid(2, 3, 6, table=6, decoder=DECODER),
    "triplane": Triplane(resolution=2, width=2, decoder=DECODER),
    "siren": Siren(hidden=8, depth=3),
}
FUNCTIONS = ("udf", "sdf", "occ")
POOL = 24


def manifest(without=None):
    """What a manifest says of the INRs."""
    return {
        "up_axis": "y",
        "source": {
            "inrs": {
                "functions": list(FUNCTIONS),
                "architectures": {
                    name: {
                        "description": architectures.describe(each),
                        "layout": layouts()[name].described(),
                    }
                    for name, each in ARCHITECTURES.items()
                },
                "without": without or {},
            }
        },
    }


@functools.cache
def layouts():
    """By name, which number of an INR is which parameter."""
    return {name: layout_of(each) for name, each in ARCHITECTURES.items()}


def source(path, split="train", classes=3, each=4, without=None, name="inr_store/fake"):
    """Balls of three sizes, one a class: their INRs are noise about a value of the class."""
    labels = np.repeat(np.arange(classes), each)
    sizes = {key: layout.size for key, layout in layouts().items()}

    def record(row):
        rng = np.random.default_rng((split == "test", row))
        label = labels[row]
        points = rng.uniform(-1, 1, (POOL, 3)).astype(np.float32)
        sdf = np.linalg.norm(points, axis=1).astype(np.float32) - np.float32(0.3 + 0.2 * label)
        made = {"points": points, "sdf": sdf, "udf": np.abs(sdf), "occ": np.sign(sdf)}
        for key, size in sizes.items():
            for i, function in enumerate(FUNCTIONS):
                pattern = np.random.default_rng((label, i)).normal(size=size)
                values = 0.1 * (pattern + 0.3 * rng.normal(size=size))
                made[f"{key}_{function}"] = values.astype(np.float32)
        return made

    ids = [f"{split}/{i}" for i in range(len(labels))]
    said = manifest(without)
    return FakeSource(
        labels,
        record,
        name=name,
        split=split,
        ids=ids,
        path=path,
        class_names="abc"[:classes],
        **said,
    )


def both(path, **more):
    """An OpenSource over a training and a test split."""
    return opener(source(path, "train", **more), source(path, "test", each=3))


def settings(experiment, **changes):
    """The config of a network that learns from such a data set in a second."""
    config = experiment.defaults()
    config.data.name = "inr_store/fake"
    config.data.query_points = 16
    config.data.num_threads = 0
    config.lattice = {"resolution": 2, "precision": "float32"}
    config.inrs.hashgrid = {"levels": 2, "width": 2, "reduce": "concat", "decoder": {"hidden": 8}}
    config.inrs.triplane = {"levels": 1, "width": 2, "planes": "concat", "decoder": {"hidden": 8}}
    config.inrs.siren = {"hidden": 8, "depth": 3}
    encoder = "jax3dret.models.field_encoders.inr_encoder:InrEncoder"
    small = {"name": encoder, "mlp_hidden": (8,), "mlp_out": 8}
    config.model = {**small, "grid_out": 8, "grid_layers": 1, "groups": 2}
    config.plain_model = {**small, "mlp_out": 16, "grid_out": 0}
    config.head = {
        "name": "jax3dret.models.field_encoders.shape_decoder:ShapeDecoder",
        "hidden": 8,
        "bands": 1,
    }
    config.train.batch_size = 8
    config.eval.batch_size = 4
    config.train.steps = 4
    config.evals.retrieval.timed_queries = 0
    config.update(changes)
    return config
