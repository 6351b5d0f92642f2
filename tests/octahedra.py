"""A data set of INRs whose every value is known: hash grids that are octahedra."""

import numpy as np
from fakes import FakeSource

from jax3dret.models.fields.architectures import describe
from jax3dret.models.fields.field_records import FieldRecords
from jax3dret.models.fields.hashgrid import HashGrid
from jax3dret.models.fields.network import Decoder
from jax3dret.models.fields.parameters import layout_of

ARCHITECTURE = HashGrid(
    levels=1, min_resolution=2, max_resolution=2, table=4, decoder=Decoder(hidden=6)
)


def variables(radius):
    """(|x| + |y| + |z| - radius) / sqrt(3): the decoder alone says it, the grid is 0."""
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    first = np.concatenate([axes, np.zeros((6, ARCHITECTURE.feature_width))], 1)
    layers = [(first, np.zeros(6)), (np.full((1, 6), 1 / np.sqrt(3)), [-radius / np.sqrt(3)])]
    return {
        "grid": {"table": np.zeros((8, 2), np.float32)},
        "decoder": {
            "layers": [
                {"weight": np.asarray(w, np.float32), "bias": np.asarray(b, np.float32)}
                for w, b in layers
            ]
        },
    }


def records():
    """What the INRs are, as a manifest has it."""
    return FieldRecords(
        ("sdf",), {"hashgrid": ARCHITECTURE}, {"hashgrid": layout_of(ARCHITECTURE)}, {}
    )


def source(path, labels=(0, 1, 0, 1), radii=(0.3, 0.7, 0.35, 0.65), without=(), **more):
    """Records of octahedra, "hashgrid_sdf" each; without: ids that have none."""
    layout = layout_of(ARCHITECTURE)
    ids = [f"s/{i}" for i in range(len(labels))]

    def record(row):
        flat = layout.flatten(variables(radii[row]))["parameters"]
        lacks = ids[row] in without
        return {"hashgrid_sdf": flat * np.nan if lacks else flat, "faces": np.zeros((1, 3), int)}

    inrs = {
        "functions": ["sdf"],
        "architectures": {
            "hashgrid": {"description": describe(ARCHITECTURE), "layout": layout.described()}
        },
        "without": {"hashgrid_sdf": list(without)},
    }
    return FakeSource(
        labels,
        record,
        name="inr_store/octahedra",
        ids=ids,
        class_names=("small", "large"),
        path=path,
        up_axis="y",
        source={"inrs": inrs},
        **more,
    )


def evaluator(data, open_source, *, distance):
    """Measures nothing."""
    return lambda embed_fn, folder: {}
