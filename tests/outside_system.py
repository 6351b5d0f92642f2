"""A system of a user's own, outside the package: what it reads of a mesh, its network, its task,
its config.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jax3dret.core import config as configs
from jax3dret.core.types import DataSpec, Model, Task
from jax3dret.inputs.batching import stack
from jax3dret.tasks import recipe

VARIANTS = ("demo", "own_evaluator")


def extents(vertices):
    """The sides of the box around a mesh, longest first, as shares of the longest."""
    sides = np.sort(np.ptp(vertices, axis=0))[::-1]
    return (sides / sides[0]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Extents:
    """ "extents" float32[3]."""

    scale: float = 1.0
    accepts: ClassVar[tuple] = ("mesh",)
    version: ClassVar[int] = 1

    def row(self, loaded, rng):
        return {"extents": np.float32(self.scale) * extents(loaded.value.vertices)}

    def batch(self, rows):
        return stack(rows)


@dataclasses.dataclass(frozen=True)
class OfRecord:
    """The same of a record of prepared data."""

    scale: float

    def __call__(self, record, rng):
        row = np.float32(self.scale) * extents(record["vertices"])
        return {"extents": row, "label": record["label"]}


class Net(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(jnp.tanh(nn.Dense(8)(x)))


def defaults():
    config = configs.spine()
    config.task = "outside_system"
    config.net = {"name": "outside_system:Net"}
    config.reads = {"name": "outside_system:Extents"}
    config.train.max_steps_per_epoch = 0
    config.eval.batch_size = 4
    config.evals.retrieval = {
        "name": "jax3dret.evaluators.retrieval:make",
        "gallery_split": "train",
        "query_split": "test",
    }
    return config


def get_config(variant):
    config = defaults()
    config.data.name = "mesh_folder"
    config.train.update(batch_size=4, steps=6)
    config.log.update(every=3, tensorboard=False)
    if variant == "own_evaluator":
        config.evals = {"mine": {"name": "my_package.my_eval:make"}}
    return config


def model(config, class_names):
    net, reads = config.net.build(), config.reads.build()

    def init(key):
        params = net.init(key, jnp.zeros((1, 3)))["params"]
        return {"params": {"net": params}, "model_state": {}}

    def embed(variables, batch):
        return {"shape": net.apply({"params": variables["params"]["net"]}, batch["extents"])}

    return Model(init, embed, {"shape": reads}, net.width, config.distance, batch_size=4)


def make(config, open_source):
    made = model(config, ())

    def init(key, batch):
        variables = made.init(key)
        head = {"kernel": jnp.zeros((made.width, 3))}
        return {**variables["params"], "head": head}, variables["model_state"]

    def embed(params, model_state, batch):
        return made.embed({"params": params, "model_state": model_state}, batch)

    def loss(params, model_state, batch, key, step):
        rebuilt = embed(params, model_state, batch)["shape"] @ params["head"]["kernel"]
        return jnp.mean((rebuilt - batch["extents"]) ** 2), (model_state, {})

    transforms = (OfRecord(config.reads.build().scale),)

    def data(modality, split):
        source = open_source(split)
        return DataSpec(
            source.name, split, config.eval.batch_size, ("vertices",), transforms=transforms
        )

    return recipe.build(
        config,
        open_source,
        Task(init, loss, embed),
        rows={"extents": jax.ShapeDtypeStruct((3,), jnp.float32)},
        features=("vertices",),
        training=transforms,
        meta={"system": "extents", "model": config.net.to_dict(), "embedding_dim": made.width},
        data=data,
        model=made,
    )
